# SPDX-License-Identifier: Apache-2.0
"""How many tokens a text can have cost at most: by the model's tokenizer, by logprobs, by bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from teraproof.errors import LocalError
from teraproof.gateway.identity.answers import Answer

#: A model may write a text by more tokens than its tokenizer makes of it: measured for sampled
#: answers in docs/model-identity.md.
LOOSE = 0.05
#: Tokens of an answer that have no text: its end, and marks of the template.
SLACK = 4


class Counter(Protocol):
    """Counts tokens as one model does."""

    def count(self, text: str) -> int:
        """The number of tokens of a text, without those that begin or end a prompt."""
        ...


class TokenizerCounter:
    """Counts by a `tokenizer.json`, with the package `tokenizers` (extra `tokenizers`).

    Raises:
        LocalError: the package or the file is missing, or the file is not a tokenizer.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise LocalError(
                "a tokenizer needs the package tokenizers: pip install 'teraproof[tokenizers]'"
            ) from None
        try:
            self._tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # noqa: BLE001 - the package raises bare exceptions
            raise LocalError(f"{path} is not a tokenizer: {error}") from None

    def count(self, text: str) -> int:
        """The number of tokens of a text, without those that begin or end a prompt."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def most_tokens(answer: Answer, counter: Counter | None) -> int | None:
    """The most tokens that an answer can have cost; None where that cannot be said.

    The least of three bounds: what the tokenizer makes of the text, the host's own logprobs, one
    per token, and the bytes of the text. The last bounds little but is always there.
    """
    if not answer.whole:
        return None
    bounds = [len(answer.text.encode("utf-8", "surrogatepass"))]
    if counter is not None:
        bounds.append(int(counter.count(answer.text) * (1 + LOOSE)))
    if answer.fingerprint is not None:
        bounds.append(answer.fingerprint.tokens)
    return min(bounds) + SLACK
