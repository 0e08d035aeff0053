# SPDX-License-Identifier: Apache-2.0
"""Runs the hosts that are compared, and keeps what each answered: tokens with their logprobs.

The honest ones have one file of weights and differ in what honest hosts differ in: the build of the
kernels, threads, how many answers share a batch. The others have other weights.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.models import chat, places, variants, vocabulary
from benchmarks.models.engine import Engine, Request, Run, Settings
from benchmarks.models.prompts import PROMPTS
from teraproof.gateway.identity.fingerprint import POSITIONS

TOP = 5  # alternatives per position
LONGEST = 64  # tokens of an answer
#: Sampled answers of each honest host, next to the greedy ones.
TEMPERATURE = 0.8


Record = dict[str, Any]


@dataclass(frozen=True)
class Host:
    """One host: its weights, and how it runs them. `build` None is the fastest of the machine."""

    name: str
    weights: str = "q4_1"
    build: str | None = None
    sequences: int = 4
    threads: int = 1
    sampled: bool = False
    scored: bool = False  # its logprobs come from the first host's answers, by one evaluation

    @property
    def whole(self) -> bool:
        """Whether its answers are recorded to their ends; of other weights the beginning is."""
        return self.weights == "q4_1"

    @property
    def honest(self) -> bool:
        """Whether it serves the model that it says; a finer quantisation of it counts as that."""
        return self.weights in ("q4_1", "q8_0")

    def settings(self) -> Settings:
        """Its engine."""
        modules = places.without_other_builds(self.build) if self.build else places.NODE_MODULES
        return Settings(
            variants.weights(self.weights), self.sequences, 1024, self.threads, 512, modules
        )


HOSTS = (
    Host("fastest build", sampled=True),
    Host("AVX2 build", build="haswell", scored=True),
    Host("AVX-512 build", build="skylakex", scored=True),
    Host("q8_0", weights="q8_0", scored=True),
    Host("q4_0", weights="q4_0", scored=True),
    Host("fewer blocks", weights="fewer", scored=True),
)


def request(prompt: str, temperature: float = 0.0, seed: int = 0) -> Request:
    """The request of a prompt."""
    parts = chat.template([("user", prompt)])
    return Request(parts, LONGEST, temperature, 1.0, seed, TOP)


def path_of(host: Host, folder: Path) -> Path:
    """The record of a host: by all that it depends on."""
    whole = json.dumps([repr(host), PROMPTS, TOP, LONGEST, TEMPERATURE, chat.SYSTEM])
    return folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:16]}.json"


async def record(
    host: Host, folder: Path, step: Callable[[], None], first: Record | None = None
) -> Record:
    """Runs a host on every prompt, greedily and perhaps once by sampling; `step` after each answer.

    A host that is scored gives the same greedy answers as far as they are compared: up to the first
    token, or the first end, that it would not have chosen after those of the record `first`.
    """
    path = path_of(host, folder)
    if path.is_file():
        return dict(json.loads(path.read_text("utf-8")))
    settings = host.settings()
    words = vocabulary.of_weights(places.chat_weights())
    began = time.monotonic()

    async with Engine(settings) as engine:

        async def one(asked: Request) -> dict[str, Any]:
            found = await engine.whole(asked)
            step()
            return kept(found, words)

        asked = [request(each) for each in PROMPTS]
        if host.scored:
            assert first is not None
            mark = [vocabulary.end_of_answer(places.chat_weights())]
            answers = [
                each["tokens"] + (mark if each["end"] == "stop" else []) for each in first["greedy"]
            ]
            most = LONGEST + 1 if host.whole else POSITIONS
            asked = [
                replace(one, forced=answer[:most])
                for one, answer in zip(asked, answers, strict=True)
            ]
        greedy = await asyncio.gather(*map(one, asked))
        drawn = [
            replace(request(each), temperature=TEMPERATURE, seed=seed * 7919 + len(host.name))
            for seed, each in enumerate(PROMPTS)
        ]
        sampled = await asyncio.gather(*map(one, drawn if host.sampled else []))
    found = {
        "host": host.name,
        "seconds": time.monotonic() - began,
        "greedy": greedy,
        "sampled": sampled,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found), "utf-8")
    fresh.rename(path)
    return found


def kept(run: Run, words: vocabulary.Vocabulary) -> dict[str, Any]:
    """An answer as it is kept: the API's entries of its logprobs, its end, its prompt's tokens."""
    return {
        "prompt": run.prompt,
        "end": run.end,
        "tokens": [each.id for each in run.tokens],
        "entries": [
            vocabulary.entry(words, each.id, each.logprob, each.top) for each in run.tokens
        ],
    }
