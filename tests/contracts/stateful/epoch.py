# SPDX-License-Identifier: Apache-2.0
"""Epochs and proofs as the machine knows them, and the randomness that it makes for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from eth_utils.crypto import keccak

from teraproof.pog.format import Shape
from tests.contracts import proofs
from tests.contracts.proofs import Work
from tests.contracts.stateful.world import PARAMETERS

SHAPE = Shape(PARAMETERS.n, PARAMETERS.blocks)
BOND_ID = bytes(32)
PERIODS = PARAMETERS.window + PARAMETERS.draw_period + PARAMETERS.reach
LENGTH = PERIODS + PARAMETERS.opening_period
# Proofs kept for the next example: a challenge depends on epoch, beacon and provider alone.
KEPT = 1_500
MAX_ROUNDS = 2**24
# One letter a round: proven or made up.
PLANS = ("p", "pp", "ppp", "pppp")
SPOILT = ("m", "pm", "mp", "pmp")


@lru_cache(maxsize=KEPT)
def rounds_of(challenge: bytes, plan: str) -> Work:
    """One round a letter: `p` is proven, `m` is made up."""
    return proofs.work(
        challenge, SHAPE, len(plan), lambda t, values: values + 1 if plan[t] == "m" else values
    )


def tagged(tag: bytes, word: bytes) -> bytes:
    return bytes(keccak(tag + word))


@cache
def winner(epoch: int) -> bytes:
    """Randomness that opens a window; the same in every example, so that proofs can be kept."""
    return next(word for word in words(f"epoch {epoch % 40}") if wins(word))


@cache
def loser(number: int) -> bytes:
    return next(word for word in words(f"loser {number}") if not wins(word))


def words(label: str) -> list[bytes]:
    return [bytes(keccak(text=f"{label} {n}")) for n in range(200)]


def wins(word: bytes) -> bool:
    return int.from_bytes(tagged(b"lottery", word), "big") % 10**6 < PARAMETERS.chance_ppm


@dataclass
class Epoch:
    number: int
    beacon: bytes
    opened_at: int
    target: int = 0
    draw: bytes = b""
    total: int = 0

    @property
    def window_end(self) -> int:
        return self.opened_at + PARAMETERS.window

    @property
    def close_until(self) -> int:
        return self.window_end + PARAMETERS.draw_period

    @property
    def draw_until(self) -> int:
        return self.close_until + PARAMETERS.reach

    @property
    def ends_at(self) -> int:
        return self.opened_at + LENGTH

    @property
    def fault_end(self) -> int:
        return self.ends_at + PARAMETERS.fault_period

    def can_be_drawn(self, now: int) -> bool:
        return bool(self.draw) or now <= (self.draw_until if self.target else self.close_until)


@dataclass
class Proof:
    epoch: Epoch
    rounds: int
    commitment: bytes
    work: Work | None
    source: bytes
    """The challenge that its rounds were done for."""
    plan: str
    stake: int
    """Active at the last commit, TPF wei."""
    seized: int
    """Ever, before the last commit."""
    verified: int = 0
    settled: bool = False
    effective: int = 0
