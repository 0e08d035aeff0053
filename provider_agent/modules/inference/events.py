# SPDX-License-Identifier: Apache-2.0
"""The events of a model server's stream, and what they say of tokens.

A stream is counted as it goes by: by the server's own usage where it gives one, else one token for
each piece of text, or for each entry of its logprobs. The usage at the end is what counts then.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from provider_agent.modules.inference.upstream import UpstreamLost
from teraproof import nesting
from teraproof.protocol.inference import COMMENT

MOST_EVENT = 1 << 20  # bytes of one event
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"\r\n|\r|\n")
_FINAL = ("response.completed", "response.incomplete", "response.failed")


async def split(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of a stream, each with the empty line that ends it. UpstreamLost."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        start = 0
        for found in _END.finditer(held):
            event = bytes(held[start : found.end()])
            start = found.end()
            if event.strip():
                yield event
        del held[:start]
        if len(held) > MOST_EVENT:
            raise UpstreamLost("an event of the stream is too long")
    if held.strip():
        yield bytes(held).rstrip() + b"\n\n"


def _lines_of(event: bytes) -> list[bytes]:
    """The lines of an event, whatever ends them, without those that look like ours: nobody signs in
    our place.
    """
    lines = event.split(b"\n") if b"\r" not in event else _LINE.split(event)
    return [line for line in lines if not line.startswith(COMMENT)]


class Usage:
    """Prompt and completion tokens as a server says them; None before it does."""

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.completion: int | None = None

    def see(self, said: object) -> None:
        """From `usage` of any of OpenAI's answers."""
        if not isinstance(said, dict):
            return
        prompt = said.get("prompt_tokens", said.get("input_tokens"))
        completion = said.get("completion_tokens", said.get("output_tokens", 0))
        if _is_count(prompt):
            self.prompt = prompt
        if _is_count(completion):
            self.completion = completion


class Meter:
    """Reads a stream's events, and says what of them is passed on."""

    def __init__(self, kind: str, model: str, upstream_model: str, *, shows_usage: bool) -> None:
        """`model` is what the payer calls it. Usage is hidden unless the payer asked for it."""
        self._kind, self._model, self._shows = kind, model, shows_usage
        self._renames = model != upstream_model
        self.usage = Usage()
        #: Completion tokens that went by.
        self.counted = 0
        #: Whether the server has said that its answer is whole.
        self.ended = False

    @property
    def completion(self) -> int:
        """Completion tokens so far, by the server's word where there is one."""
        return self.counted if self.usage.completion is None else self.usage.completion

    def read(self, event: bytes) -> bytes | None:
        """What is passed on of an event; None for what is not. UpstreamLost for an error in it."""
        lines = _lines_of(event)
        places = [n for n, line in enumerate(lines) if line.startswith(b"data:")]
        if not places:
            return b"\n".join(lines) if any(lines) else None
        at, data = places[0], b"\n".join(lines[n][5:].strip() for n in places)
        if data == b"[DONE]":
            self.ended = True
            return None
        try:
            found = nesting.loads(data)
        except (ValueError, RecursionError):
            raise UpstreamLost("an event of the stream is not JSON") from None
        if not isinstance(found, dict):
            return b"\n".join(lines)
        if "error" in found and "choices" not in found and self._kind != "responses":
            raise UpstreamLost("the stream carries an error")
        changed = (
            self._read_response(found) if self._kind == "responses" else self._read_chunk(found)
        )
        if changed is None:
            return None
        if not changed:
            return b"\n".join(lines)
        lines = [line for n, line in enumerate(lines) if n not in places[1:]]
        lines[at] = b"data: " + json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        return b"\n".join(lines)

    def _read_chunk(self, found: dict[str, Any]) -> bool | None:
        """Whether it was changed; None for what is hidden."""
        self.usage.see(found.get("usage"))
        choices = found.get("choices")
        listed = choices if isinstance(choices, list) else []
        for choice in listed:
            self.counted += _tokens_of(choice)
        if not listed and "usage" in found and not self._shows:
            return None
        changed = False
        if not self._shows and "usage" in found:
            del found["usage"]
            changed = True
        return self._rename(found) or changed

    def _read_response(self, found: dict[str, Any]) -> bool:
        """Events of `/v1/responses`: usage stands in the last one, and is always shown."""
        kind, inner = found.get("type"), found.get("response")
        if isinstance(kind, str) and kind.endswith(".delta"):
            self.counted += 1
        if kind in _FINAL:
            self.ended = True
            if isinstance(inner, dict):
                self.usage.see(inner.get("usage"))
        return isinstance(inner, dict) and self._rename(inner)

    def _rename(self, found: dict[str, Any]) -> bool:
        if self._renames and "model" in found:
            found["model"] = self._model
            return True
        return False


def _tokens_of(choice: object) -> int:
    """The tokens of a piece of a stream, as far as it shows them."""
    if not isinstance(choice, dict):
        return 0
    probabilities = choice.get("logprobs")
    if isinstance(probabilities, dict):
        listed = probabilities.get("content") or probabilities.get("tokens")
        if isinstance(listed, list) and listed:
            return len(listed)
    delta = choice.get("delta")
    said = delta if isinstance(delta, dict) else choice
    names = ("content", "text", "reasoning", "reasoning_content", "refusal", "tool_calls")
    return 1 if any(said.get(name) for name in names) else 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def text_bytes(document: Mapping[str, Any]) -> int:
    """Bytes of all texts in an answer that is not streamed: the most tokens that it can have."""
    size, waiting = 0, [document.get("choices"), document.get("output")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.get(name) for name in _TEXTS)
    return size


_TEXTS = (
    "message", "content", "text", "reasoning", "reasoning_content", "refusal", "tool_calls",
    "function", "arguments", "name", "summary",
)  # fmt: skip
