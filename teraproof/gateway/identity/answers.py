# SPDX-License-Identifier: Apache-2.0
"""What the gateway saw of one answer, and the first chunk of a stream that carries content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.gateway.identity.fingerprint import Fingerprint

#: Characters of an answer that are kept for comparisons.
KEPT_TEXT = 4096


@dataclass(frozen=True)
class Answer:
    """One answer of one host.

    Args:
        text: the content, at most its first `KEPT_TEXT` characters where it is only compared.
            A recount needs all of it.
        finish: the answer's `finish_reason`, or None where none came.
        prompt_tokens: what the host charged for the prompt.
        completion_tokens: what the host charged for the answer.
        asked: the most tokens that the request allowed.
        greedy: whether the request asked for temperature 0, or for one of the likeliest tokens.
        whole: whether all that was charged for is in `text`: no tool call, no reasoning apart.
        fingerprint: from its logprobs, where there were any.
        hidden: the longest text that may have ended the answer and is not in it, such as a stop
            sequence. Its tokens are charged, too.
        counted: the tokens that the model's tokenizer makes of `text` and `hidden`, where somebody
            has counted them before.
        valid: whether its schema or its tool calls hold; None where the request asked for neither.
    """

    text: str
    finish: str | None
    prompt_tokens: int
    completion_tokens: int
    asked: int
    greedy: bool = False
    whole: bool = True
    fingerprint: Fingerprint | None = None
    valid: bool | None = None
    hidden: str = ""
    counted: int | None = None


def has_content(chunk: Any) -> bool:
    """Whether a chunk of a stream carries something that the model has written.

    The time to the first token ends here. An early chunk that names a role alone, or has an empty
    text, does not count: it costs a host nothing.
    """
    choices = chunk.get("choices") if isinstance(chunk, Mapping) else None
    if not isinstance(choices, Sequence) or isinstance(choices, str | bytes):
        return False
    return any(_written(choice) for choice in choices)


def _written(choice: Any) -> bool:
    if not isinstance(choice, Mapping):
        return False
    delta = choice.get("delta")
    parts = [choice.get("text")]
    if isinstance(delta, Mapping):
        names = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls")
        parts += [delta.get(name) for name in names]
    return any(isinstance(part, str | list) and len(part) > 0 for part in parts)
