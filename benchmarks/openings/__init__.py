# SPDX-License-Identifier: Apache-2.0
"""Openings at the size of a public network, made once and kept as files.

`make gas` sends them. They are as valid and as long as honest ones, but the proofs are not honest:
the work was not done, or a quarter of it, and the draws were searched for. `python -m
benchmarks.openings` makes them, in minutes (see `__main__.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from web3.types import Nonce
from web3.utils import get_create_address

from benchmarks.chain import CHAIN_ID, BenchmarkError, account_of
from teraproof.pog import format as pog
from teraproof.pog.format import Shape, keccak

DIRECTORY = Path(__file__).resolve().parent

# The public plans have the depth of the second and N = 32,768: two nodes more to an opening, and
# four times the work to make it.
N = 16_384
SHAPES = {"k16320": Shape(N, 34), "k32640": Shape(N, 68)}
SAMPLES = 8
# Rounds of the proof that is only claimed: about what an H100 does in 300 s at the first shape if
# it reaches the int8 rate of its data sheet, or in 1,800 s at N = 32,768 and the second depth. So
# the paths are as long as there.
MANY_ROUNDS = 65_536
FIRST_EPOCH = 1


@dataclass(frozen=True)
class Proof:
    """A proof and some of its openings, the first samples first.

    `opened_by` and `drawn_by` are the values of the blocks that opened the window and decided the
    draw. Openings are rows of 32-byte words, as `Benchmark.open_sample` takes them.
    """

    epoch: int
    opened_by: bytes
    rounds: int
    commitment: bytes
    drawn_by: bytes
    openings: list[list[bytes]]

    @property
    def beacon(self) -> bytes:
        """What the challenge binds."""
        return beacon_of(self.opened_by)

    @property
    def draw(self) -> bytes:
        """What the samples follow from."""
        return draw_of(self.drawn_by)


def beacon_of(value: bytes) -> bytes:
    """The beacon that a block's value makes."""
    return keccak(b"beacon" + value)


def draw_of(value: bytes) -> bytes:
    """The draw that a block's value makes."""
    return keccak(b"draw" + value)


def slot_in(mapping: int, key: int) -> int:
    """Where a contract keeps the value of a number in a mapping at a storage slot."""
    return int.from_bytes(keccak(pog.word(mapping) + pog.word(key)), "big")


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
            "opened_by": proof.opened_by.hex(),
            "rounds": proof.rounds,
            "commitment": proof.commitment.hex(),
            "drawn_by": proof.drawn_by.hex(),
            "openings": [b"".join(opening).hex() for opening in proof.openings],
        }
        for proof in proofs
    ]
    path = DIRECTORY / f"{name}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return path


def read(name: str) -> list[Proof]:
    """The proofs of a shape: of one round a quarter was done, of many rounds nothing."""
    path = DIRECTORY / f"{name}.json"
    if not path.is_file():
        raise BenchmarkError(f"{path.name} is missing; run python -m benchmarks.openings {name}")
    return [
        Proof(
            epoch=row["epoch"],
            opened_by=bytes.fromhex(row["opened_by"]),
            rounds=row["rounds"],
            commitment=bytes.fromhex(row["commitment"]),
            drawn_by=bytes.fromhex(row["drawn_by"]),
            openings=[_words(opening) for opening in row["openings"]],
        )
        for row in json.loads(path.read_text())
    ]


def _words(opening: str) -> list[bytes]:
    data = bytes.fromhex(opening)
    return [data[at : at + 32] for at in range(0, len(data), 32)]
