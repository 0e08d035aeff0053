# SPDX-License-Identifier: Apache-2.0
"""Real proofs at the size of a public network, made once and kept as files.

`make gas` sends their openings. One round at N = 16,384 takes minutes on a CPU, so it is not made
anew every time: `python -m benchmarks.openings` does that (see `__main__.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from web3.types import Nonce
from web3.utils import get_create_address

from benchmarks.chain import CHAIN_ID, BenchmarkError, account_of
from provider_agent.benchmark import format as pog
from provider_agent.benchmark.format import Shape

DIRECTORY = Path(__file__).resolve().parent

N = 16_384
SHAPES = {"k16320": Shape(N, 34)}
SAMPLES = 8
# Rounds of the proof that is only claimed: about what an H100 does in a window of 300 s at
# K = 16,320 if it reaches the int8 rate of its data sheet, so that the paths are long enough.
MANY_ROUNDS = 65_536


@dataclass(frozen=True)
class Proof:
    """A proof and some of its openings, the first samples first.

    Openings are rows of 32-byte words, as `Benchmark.open_sample` takes them.
    """

    epoch: int
    beacon: bytes
    rounds: int
    commitment: bytes
    draw: bytes
    openings: list[list[bytes]]


def deployer_of(name: str) -> str:
    """The role whose first transaction deploys the Benchmark of a shape."""
    return f"deployer {name}"


def contract_of(name: str) -> str:
    """Where the Benchmark of a shape stands."""
    return get_create_address(account_of(deployer_of(name)).address, Nonce(0))


def prover_of(name: str) -> str:
    """The name of the provider that proves at a shape."""
    return f"prover {name}"


def challenge_of(name: str, epoch: int, beacon: bytes) -> bytes:
    """The challenge of a shape's prover."""
    provider = account_of(f"{prover_of(name)} owner").address
    return pog.challenge(CHAIN_ID, contract_of(name), epoch, beacon, provider, SHAPES[name])


def write(name: str, proofs: list[Proof]) -> Path:
    """Replace the file of a shape."""
    rows = [
        {
            "epoch": proof.epoch,
            "beacon": proof.beacon.hex(),
            "rounds": proof.rounds,
            "commitment": proof.commitment.hex(),
            "draw": proof.draw.hex(),
            "openings": [b"".join(opening).hex() for opening in proof.openings],
        }
        for proof in proofs
    ]
    path = DIRECTORY / f"{name}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return path


def read(name: str) -> list[Proof]:
    """The proofs of a shape: one round done, many rounds claimed."""
    path = DIRECTORY / f"{name}.json"
    if not path.is_file():
        raise BenchmarkError(f"{path.name} is missing; run python -m benchmarks.openings {name}")
    return [
        Proof(
            epoch=row["epoch"],
            beacon=bytes.fromhex(row["beacon"]),
            rounds=row["rounds"],
            commitment=bytes.fromhex(row["commitment"]),
            draw=bytes.fromhex(row["draw"]),
            openings=[_words(opening) for opening in row["openings"]],
        )
        for row in json.loads(path.read_text())
    ]


def _words(opening: str) -> list[bytes]:
    data = bytes.fromhex(opening)
    return [data[at : at + 32] for at in range(0, len(data), 32)]
