# SPDX-License-Identifier: Apache-2.0
"""Which fields of a request for a model are sold, and whether its prompt is text.

Servers take more than OpenAI's API has. Some of it lifts limits (`n_predict`), some makes answers
that nobody counts (beam search), some has the server fetch what others name. Some servers look at
names without their case. So a field goes to a server when it is known here, or when the owner
states it among the model's `parameters`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from teraproof.errors import Refused
from teraproof.protocol.errors import Code, one_line

_COMMON = (
    "model", "user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier",
)  # fmt: skip
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "seed", "stop", "logit_bias", "logprobs", "top_logprobs",
)  # fmt: skip
_STREAM = ("stream", "stream_options", "n")
_KNOWN: Mapping[str, frozenset[str]] = {
    "chat": frozenset((
        *_COMMON, *_SAMPLING, *_STREAM, "messages", "max_tokens", "max_completion_tokens", "tools",
        "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format",
        "structured_outputs", "reasoning", "reasoning_effort", "verbosity",
    )),
    "completions": frozenset((
        *_COMMON, *_SAMPLING, *_STREAM, "prompt", "suffix", "echo", "best_of", "max_tokens",
    )),
    "embeddings": frozenset((*_COMMON, "stream", "input", "encoding_format", "dimensions")),
    "responses": frozenset((
        *_COMMON, *_SAMPLING, "stream", "stream_options", "input", "instructions",
        "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
        "include", "truncation", "background", "previous_response_id", "conversation",
    )),
}  # fmt: skip
#: Tools that the client runs. Those of a server make it ask others, and answer more than once.
_TOOLS = ("function", "custom")

_TEXTS = ("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text")
_PART = frozenset(("type", "text", "refusal", "annotations", "logprobs", "cache_control"))
_ENTRIES = ("message", "function_call", "function_call_output", "reasoning")
_ENTRY = frozenset((
    "type", "role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal",
    "reasoning", "reasoning_content", "annotations", "id", "status", "call_id", "arguments",
    "output", "summary", "encrypted_content", "phase",
))  # fmt: skip
_LISTS = ("content", "output", "summary")  # of an entry, that may have parts


def unfit(field: str, line: str) -> Refused:
    """A field asks for what is not sold."""
    return Refused(Code.REQUEST_UNFIT, f"{field}: {line}", field=field)


def sold(kind: str, document: Mapping[str, Any], parameters: Collection[str]) -> dict[str, Any]:
    """The fields of a request that a server may see; `parameters` are those that the owner states.
    A field of null says nothing. Refused names one that is not sold.
    """
    known, found = _KNOWN[kind], {}
    for name, value in document.items():
        if name in known or name in parameters:
            found[name] = value
        elif value is not None:
            raise unfit(one_line(name, 60), "this field is not sold here; leave it out")
    _check_tools(document.get("tools"))
    return found


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise unfit("tools", "is a list")
    for tool in tools:
        if not isinstance(tool, dict) or tool.get("type") not in _TOOLS:
            raise unfit("tools", f"only tools that you run: type {' or '.join(_TOOLS)}")


def is_text(kind: str, document: Mapping[str, Any]) -> bool:
    """Whether a prompt is nothing but text or numbers of tokens. Then its bytes bound its tokens;
    an image has more. Refused for what the server would have to fetch.
    """
    if kind in ("completions", "embeddings"):
        name = "prompt" if kind == "completions" else "input"
        _check_plain(name, document.get(name))
        return True
    name = "messages" if kind == "chat" else "input"
    entries = document.get(name)
    if not isinstance(entries, list):
        return True
    shown = [_is_text_entry(name, entry) for entry in entries]  # each of them may be refused
    return all(shown)


def _check_plain(name: str, value: object) -> None:
    """A text, tokens, or a list of such."""
    whole = isinstance(value, list) and any(isinstance(one, int) for one in value)
    entries = value if isinstance(value, list) and not whole else [value]
    for entry in entries:
        tokens = isinstance(entry, list) and all(isinstance(one, int) for one in entry)
        if entry is not None and not isinstance(entry, str) and not tokens:
            raise unfit(name, "is a text, a list of tokens, or a list of such")


def _is_text_entry(name: str, entry: object) -> bool:
    """A message, or another entry of `input` of `/v1/responses`."""
    if not isinstance(entry, dict):
        return isinstance(entry, str)
    for key, value in entry.items():
        if key not in _ENTRY and value is not None and key.lower() in _ENTRY:
            raise unfit(name, f"{one_line(key, 60)} is written in lower case")
    parts: list[object] = []
    for value in (entry.get(one) for one in _LISTS):
        parts += value if isinstance(value, list) else [value] if isinstance(value, dict) else []
    shown = [_is_text_part(name, part) for part in parts]
    known = all(key in _ENTRY or value is None for key, value in entry.items())
    return all(shown) and known and entry.get("type", "message") in _ENTRIES


def _is_text_part(name: str, part: object) -> bool:
    if not isinstance(part, dict):
        return isinstance(part, str)
    if part.get("type") in _TEXTS and part.keys() <= _PART:
        return True
    if any("://" in text for text in _texts_in(part)):
        raise unfit(name, "nothing is fetched from elsewhere; send it as data:")
    return False


def _texts_in(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
