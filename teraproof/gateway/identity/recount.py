# SPDX-License-Identifier: Apache-2.0
"""How many tokens a text can have cost at most: by the model's tokenizer, by logprobs, by bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from teraproof.errors import LocalError, WrongInput, of_file
from teraproof.gateway.identity.answers import Answer
from teraproof.protocol.errors import Code, one_line

#: A model may write a text by more tokens than its tokenizer makes of it: measured for sampled
#: answers in docs/model-identity.md.
LOOSE = 0.05
#: Tokens of an answer that have no text: its end, and marks of the template.
SLACK = 4
#: Characters of an answer that are counted by the tokenizer.
COUNTED = 1 << 16


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
                "a tokenizer needs the package tokenizers: pip install 'teraproof[tokenizers]'",
                Code.EXTRA_MISSING,
            ) from None
        try:
            data = path.read_text("utf-8")
        except OSError as error:
            raise of_file(error, path, "cannot read") from None
        except UnicodeDecodeError:
            raise WrongInput(f"{path} is not a tokenizer: not UTF-8", path=str(path)) from None
        try:
            self._tokenizer = Tokenizer.from_str(data)
        except Exception as error:  # noqa: BLE001 - the package raises bare exceptions
            line = f"{path} is not a tokenizer: {one_line(error, 120)}"
            raise WrongInput(line, path=str(path)) from None

    def count(self, text: str) -> int:
        """The number of tokens of a text, without those that begin or end a prompt."""
        clean = text.encode("utf-8", "replace").decode()  # no encoding has half of a surrogate pair
        return len(self._tokenizer.encode(clean, add_special_tokens=False).ids)


def most_tokens(answer: Answer, counter: Counter | None) -> int | None:
    """The most tokens that an answer can have cost; None where that cannot be said.

    The least of three bounds: what the tokenizer makes of the text, the host's own logprobs, one
    per token, and the bytes of the text. The last bounds little but is always there.
    """
    if not answer.whole:
        return None
    hidden = len(answer.hidden.encode("utf-8", "surrogatepass"))
    bounds = [len(answer.text.encode("utf-8", "surrogatepass")) + hidden]
    counted = answer.counted
    if counted is None and counter is not None:
        counted = count(answer.text, answer.hidden, counter)
    if counted is not None:
        bounds.append(int(counted * (1 + LOOSE)))
    if answer.fingerprint is not None:
        bounds.append(answer.fingerprint.tokens + hidden)
    return min(bounds) + SLACK


def count(text: str, hidden: str, counter: Counter) -> int:
    """The most tokens of an answer, with what it may have ended with and did not show. Behind
    `COUNTED` characters each byte counts as one: strangers do not make us count without end.
    """
    rest = len(text[COUNTED:].encode("utf-8", "surrogatepass"))
    return counter.count(text[:COUNTED]) + rest + (counter.count(hidden) if hidden else 0)


def counters(files: Mapping[str, Path]) -> dict[str, Counter]:
    """The tokenizers of models, by the models' names. LocalError names the setting."""
    found: dict[str, Counter] = {}
    for name, path in files.items():
        try:
            found[name] = TokenizerCounter(path)
        except LocalError as error:
            line = f"tokenizers.{one_line(name, 80)}: {error}"
            raise LocalError(line, error.code, **error.details) from None
    return found
