# SPDX-License-Identifier: Apache-2.0
"""Random strategies at each moment, on every core.

Each try has a seed of its own (the run's seed, the moment, its number), so that it is the same on
any number of cores.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.attack.market import Moment, moment
from tests.attack.moves import Move, strategy
from tests.contracts.stateful.world import world

# Wei that rounding may move in a call.
ROUNDING = 3


@dataclass
class Share:
    """What became of some of the tries at a moment."""

    tries: int = 0
    calls: int = 0
    best: int = 0
    """The largest gain, TPF wei; 0 if every strategy loses."""
    found: str = ""
    """A gainful strategy, in words; the search ends there."""


@dataclass(frozen=True)
class Result:
    """All tries at a moment."""

    name: str
    tries: int
    calls: int
    best: int
    seconds: float
    found: tuple[str, ...]

    def __str__(self) -> str:
        speed = self.tries / self.seconds if self.seconds else 0
        each = self.calls / max(self.tries, 1)
        return (
            f"{self.name}: {self.tries:,} strategies of {each:.1f} calls,"
            f" {speed:,.0f} a second; best gain {self.best} wei"
        )


def smaller(at: Moment, moves: list[Move]) -> list[Move]:
    """Without the moves that the gain does not need."""
    number = 0
    while number < len(moves):
        fewer = moves[:number] + moves[number + 1 :]
        gain, made = at.gain(fewer)
        if gain > ROUNDING * made:
            moves = fewer
        else:
            number += 1
    return moves


def work(name: str, numbers: range, seed: int) -> Share:
    """The tries with these numbers, up to the first that gains."""
    share = Share()
    with moment(name) as at:
        for number in numbers:
            moves = strategy(random.Random(f"{seed} {name} {number}"))
            gain, made = at.gain(moves)
            share.tries += 1
            share.calls += made
            share.best = max(share.best, gain)
            if gain > ROUNDING * made:
                short = smaller(at, moves)
                told = "; ".join(map(str, short))
                share.found = f"try {number} at '{name}' gains {at.gain(short)[0]} wei: {told}"
                break
    return share


def search(names: Sequence[str], tries: int, seed: int, workers: int) -> Iterator[Result]:
    """`tries` at every one of the moments."""
    # Forked: contracts are compiled and deployed once.
    world()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for name in names:
            began = time.monotonic()
            parts = [range(first, tries, workers) for first in range(workers)]
            shares = [*pool.map(work, [name] * workers, parts, [seed] * workers)]
            yield Result(
                name,
                sum(share.tries for share in shares),
                sum(share.calls for share in shares),
                max(share.best for share in shares),
                time.monotonic() - began,
                tuple(share.found for share in shares if share.found),
            )
