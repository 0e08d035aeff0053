# SPDX-License-Identifier: Apache-2.0
"""Answers of played hosts, for the tests of model identity."""

from __future__ import annotations

import random
from typing import Any

from teraproof.gateway.identity import Answer, read_logprobs

WORDS = [f"w{number:02d} " for number in range(40)]


def entries(rng: random.Random, noise: random.Random, size: float, tokens: int = 16) -> list[Any]:
    """Logprobs of an answer: `rng` is the model and the prompt, `noise` the host, in nats."""
    found = []
    for _ in range(tokens):
        words = rng.sample(WORDS, 5)
        levels = [-0.3, -1.9, -2.5, -3.6, -4.0]
        top = [
            {
                "token": word,
                "bytes": list(word.encode()),
                "logprob": level - abs(noise.gauss(0, size)),
            }
            for word, level in zip(words, levels, strict=True)
        ]
        found.append({**top[0], "top_logprobs": top})
    return found


def answer(logprobs: list[Any] | None = None, **changes: Any) -> Answer:
    """An honest answer; its text is that of its logprobs."""
    text = "".join(each["token"] for each in logprobs) if logprobs else "w01 w02 w03 w04 "
    tokens = len(logprobs) if logprobs else 4
    fields: dict[str, Any] = {
        "text": text,
        "finish": "stop",
        "prompt_tokens": 20,
        "completion_tokens": tokens,
        "asked": 256,
        "greedy": True,
        "fingerprint": read_logprobs(logprobs) if logprobs else None,
    }
    return Answer(**{**fields, **changes})
