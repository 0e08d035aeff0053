# SPDX-License-Identifier: Apache-2.0
"""The published vectors of format v2, read once.

tests/vectors/proof_of_gpu_v2.json comes from an implementation that shares no code with this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from teraproof.pog.format import Sample, Shape
from teraproof.pog.opening import Opening

FILE = Path(__file__).resolve().parents[2] / "vectors" / "proof_of_gpu_v2.json"


@dataclass(frozen=True)
class Opened:
    """One sample of a vector and its opening; the value is the whole entry."""

    sample: Sample
    value: int
    leaf_index: int
    opening: Opening


@dataclass(frozen=True)
class Vector:
    """One proof: what it is asked for, and every intermediate value."""

    chain_id: int
    contract: str
    epoch: int
    beacon: bytes
    provider: str
    shape: Shape
    rounds: int
    draw: bytes
    challenge: bytes
    seed_a: bytes
    seeds_b: list[bytes]
    first_words: list[int]
    roots: list[bytes]
    commitment: bytes
    window: int
    score: int
    openings: list[Opened]

    @property
    def name(self) -> str:
        return f"{self.shape.n}x{self.shape.depth}, {self.rounds} rounds"


def _many(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def _read() -> list[Vector]:
    return [
        Vector(
            chain_id=case["chain_id"],
            contract=case["contract"],
            epoch=case["epoch"],
            beacon=bytes.fromhex(case["beacon"]),
            provider=case["provider"],
            shape=Shape(case["n"], case["blocks"]),
            rounds=case["rounds"],
            draw=bytes.fromhex(case["draw"]),
            challenge=bytes.fromhex(case["challenge"]),
            seed_a=bytes.fromhex(case["seed_a"]),
            seeds_b=_many(case["seeds_b"]),
            first_words=[int(word, 16) for word in case["first_words_of_a_row_0"]],
            roots=_many(case["roots"]),
            commitment=bytes.fromhex(case["commitment"]),
            window=case["window"],
            score=case["score"],
            openings=[
                Opened(
                    sample=Sample(one["t"], one["i"], one["j"]),
                    value=one["value"],
                    leaf_index=one["leaf_index"],
                    opening=Opening(
                        root_before=bytes.fromhex(one["root_two_before"]),
                        root=bytes.fromhex(one["root"]),
                        leaf=bytes.fromhex(one["leaf"]),
                        leaf_path=tuple(_many(one["path"])),
                        root_path=tuple(_many(one["root_path"])),
                        path_before=tuple(_many(one["root_two_before_path"])),
                    ),
                )
                for one in case["openings"]
            ],
        )
        for case in json.loads(FILE.read_text())
    ]


VECTORS = _read()
NAMES = [vector.name for vector in VECTORS]
