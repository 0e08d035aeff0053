# SPDX-License-Identifier: Apache-2.0
"""The tokens of the language model: their bytes, and its tokenizer as a `tokenizer.json`.

Both come from the GGUF file. It has a byte-level BPE: each byte of a token is one printable
character (Radford et al. 2019, the code of GPT-2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.models import places

NORMAL = 1  # the type of a token that is text, in GGUF


class Vocabulary:
    """Token numbers to bytes. A mark of the template has none."""

    def __init__(self, names: list[str], kinds: list[int]) -> None:
        letters = {letter: byte for byte, letter in _letters().items()}
        self._bytes = [
            bytes(letters[each] for each in name) if kind == NORMAL else b""
            for name, kind in zip(names, kinds, strict=True)
        ]

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to the text."""
        return self._bytes[token]


def entry(
    words: Vocabulary, token: int, logprob: float, top: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    """A token as OpenAI's API has it in `logprobs.content`."""
    likely = [_named(words, each, value) for each, value in top]
    return {**_named(words, token, logprob), "top_logprobs": likely}


def _named(words: Vocabulary, token: int, logprob: float) -> dict[str, Any]:
    found = words.bytes_of(token)
    return {
        "token": found.decode("utf-8", "replace"),
        "bytes": list(found),
        "logprob": round(logprob, 5),
    }


@cache
def of_weights(weights: Path) -> Vocabulary:
    """The vocabulary of a GGUF file."""
    found = _tables(weights)
    return Vocabulary(found["tokens"], found["kinds"])


def end_of_answer(weights: Path) -> int:
    """The token that ends an answer."""
    return int(_tables(weights)["tokens"].index("<|im_end|>"))


def tokenizer_file(weights: Path) -> Path:
    """The model's tokenizer in the format of the package `tokenizers`."""
    path = places.BUILD / "tokenizer.json"
    if not path.is_file():
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        found = _tables(weights)
        tokens = {name: number for number, name in enumerate(found["tokens"])}
        merges = [tuple(each.split(" ")) for each in found["merges"]]
        tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=merges))
        # Digits one by one, then words: the pre-tokenizer that the file names ("smollm").
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        _keep(path, tokenizer.to_str())
    return path


def _tables(weights: Path) -> dict[str, Any]:
    """The tables of the vocabulary; reading them from GGUF takes seconds, so they are kept."""
    path = places.BUILD / "vocabulary.json"
    if not path.is_file():
        from gguf import GGUFReader

        fields = GGUFReader(weights).fields
        found = {
            "tokens": fields["tokenizer.ggml.tokens"].contents(),
            "kinds": [int(each) for each in fields["tokenizer.ggml.token_type"].contents()],
            "merges": fields["tokenizer.ggml.merges"].contents(),
        }
        _keep(path, json.dumps(found))
    return dict(json.loads(path.read_text("utf-8")))


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.rename(path)


def _letters() -> dict[int, str]:
    """The printable character of each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
