# SPDX-License-Identifier: Apache-2.0
"""Requests of OpenAI's API as requests of the engine, and the template of the language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.models.engine import Request

#: What the model's own template puts first when nobody gives it a system message.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
ROLES = ("system", "user", "assistant", "tool", "developer")
#: Tokens of an answer whose request names no limit, and the most alternatives.
USUAL, ALTERNATIVES = 256, 20

Parts = list[tuple[str, bool]]


class BadRequest(Exception):
    """A request that is not served; the line names what is wrong."""


@dataclass(frozen=True)
class Call:
    """A request as it was asked: for the engine, and for the form of the answer."""

    request: Request
    stream: bool
    usage: bool
    logprobs: bool
    stop: tuple[str, ...]
    tool: str | None = None


def template(messages: Sequence[tuple[str, str]]) -> Parts:
    """The prompt of a chat (ChatML). What people write never becomes a mark of the template."""
    chat = list(messages)
    if not chat or chat[0][0] != "system":
        chat.insert(0, ("system", SYSTEM))
    parts: Parts = []
    for role, content in chat:
        parts += [("<|im_start|>", True), (f"{role}\n{content}", False)]
        parts += [("<|im_end|>", True), ("\n", False)]
    return [*parts, ("<|im_start|>", True), ("assistant\n", False)]


def read(body: Any, chat: bool) -> Call:
    """A chat request, or one of `/v1/completions`.

    Raises:
        BadRequest: a field is not of its form, or asks for what this server does not do.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("the body is not a JSON object")
    if body.get("n", 1) != 1:
        raise BadRequest("n: this server gives one answer")
    parts = (
        _messages(body.get("messages")) if chat else [(_text(body.get("prompt"), "prompt"), False)]
    )
    schema, tool = _schema(body) if chat else (None, None)
    if chat:
        logprobs = body.get("logprobs") is True
        top = _whole(body, "top_logprobs", 0, 0, ALTERNATIVES) if logprobs else 0
    else:
        top = _whole(body, "logprobs", 0, 0, ALTERNATIVES)
        logprobs = body.get("logprobs") is not None
    options = body.get("stream_options")
    usage = isinstance(options, Mapping) and options.get("include_usage") is True
    most = (
        "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    )
    request = Request(
        parts=parts,
        max=_whole(body, most, USUAL, 1, 10**6),
        temperature=_number(body, "temperature", 1.0, 2.0),
        topP=_number(body, "top_p", 1.0, 1.0),
        seed=_whole(body, "seed", 0, -(2**63), 2**63),
        top=top,
        schema=schema,
    )
    return Call(request, body.get("stream") is True, usage, logprobs, _stops(body), tool)


def _messages(messages: Any) -> Parts:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: a list with at least one message")
    found = []
    for message in messages:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            raise BadRequest(f"messages: a role is one of {', '.join(ROLES)}")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(_part(each) for each in content)
        if content is None and message.get("tool_calls"):
            content = json.dumps(message["tool_calls"])
        name = "system" if role == "developer" else str(role)
        found.append((name, _text(content, "messages")))
    return template(found)


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        raise BadRequest("messages: this model reads text alone")
    return text


def _schema(body: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The schema that the answer has to have, and the tool that it is for."""
    wanted = body.get("tool_choice")
    if isinstance(wanted, Mapping):
        function = wanted.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        for tool in body.get("tools") or []:
            function = tool.get("function") if isinstance(tool, Mapping) else None
            if isinstance(function, Mapping) and function.get("name") == name and name is not None:
                return dict(function.get("parameters") or {"type": "object"}), str(name)
        raise BadRequest("tool_choice: names no function of tools")
    if wanted == "required":
        raise BadRequest("tool_choice: name the function; this model does not choose tools")
    form = body.get("response_format")
    if not isinstance(form, Mapping) or form.get("type") == "text":
        return None, None
    if form.get("type") == "json_object":
        return {"type": "object"}, None
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if form.get("type") != "json_schema" or not isinstance(schema, Mapping):
        raise BadRequest("response_format: text, json_object, or json_schema with its schema")
    return dict(schema), None


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    found = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(found, list) or len(found) > 4:
        raise BadRequest("stop: a text, or at most four")
    return tuple(_text(each, "stop") for each in found if each != "")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{name}: a text is wanted")
    return value


def _whole(body: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    value = body.get(name)
    if value is None:
        return usual
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(f"{name}: a whole number from {least} to {most}")
    return value


def _number(body: Mapping[str, Any], name: str, usual: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return usual
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise BadRequest(f"{name}: a number from 0 to {most:g}")
    return float(value)
