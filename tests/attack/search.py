# SPDX-License-Identifier: Apache-2.0
"""Random strategies at each moment, on every core.

Each try has a seed of its own (the run's seed, the moment, its number), so that it is the same on
any number of cores.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.attack import court_moves, lease_moves, moves
from tests.attack.courthouse import courthouse
from tests.attack.judged import Judged
from tests.attack.lease_scenes import LEASES, Tenement
from tests.attack.leasehold import leasehold
from tests.attack.market import MOMENTS, moment
from tests.attack.scenes import COURTS, Court
from tests.contracts.stateful.world import world

NAMES = (*MOMENTS, *COURTS, *LEASES)


@dataclass
class Share:
    """What became of some of the tries at a moment."""

    tries: int = 0
    calls: int = 0
    best: int = 0
    """The largest gain, TPF wei; 0 if every strategy loses."""
    found: str = ""
    """A strategy that breaks a promise, in words; the search ends there."""
    opened: int = 0
    """Of a court: tries that gain by what the docs leave open."""
    lucky: int = 0
    """Of a court: tries whose last jury was not an honest one."""
    prices: float = 0.0
    """Of a court: what all tries gained together, in prices of the job."""

    def add(self, judged: Judged) -> None:
        self.tries += 1
        self.calls += judged.calls
        if not (judged.is_luck or judged.is_open):
            self.best = max(self.best, judged.gain)
        self.opened += judged.is_open
        self.lucky += judged.is_luck
        self.prices += judged.prices


@dataclass(frozen=True)
class Result:
    """All tries at a moment."""

    name: str
    whole: Share
    seconds: float
    found: tuple[str, ...]

    @property
    def tries(self) -> int:
        return self.whole.tries

    @property
    def faults(self) -> tuple[str, ...]:
        """What was found; and a court that pays on average, luck with it."""
        if self.whole.prices > 0:
            return (*self.found, f"'{self.name}' pays {self.mean:+.2f} prices on average")
        return self.found

    @property
    def mean(self) -> float:
        return self.whole.prices / max(self.tries, 1)

    def __str__(self) -> str:
        speed = self.tries / self.seconds if self.seconds else 0
        each = self.whole.calls / max(self.tries, 1)
        told = (
            f"{self.name}: {self.tries:,} strategies of {each:.1f} calls,"
            f" {speed:,.0f} a second; best gain {self.whole.best} wei"
        )
        if self.name in COURTS:
            told += (
                f"; {self.mean:+.2f} prices on average, with {self.whole.lucky:,} before a jury"
                " whose honest part was not the larger one"
            )
        if self.whole.opened:
            told += f", and {self.whole.opened:,} that gain by an appeal that WITHHELD has caused"
        return told


@dataclass(frozen=True)
class Scene:
    """A moment, what can be tried at it, and what comes of that."""

    strategy: Callable[[random.Random], list[Any]]
    judge: Callable[[list[Any]], Judged]


def smaller(at: Scene, plan: list[Any]) -> list[Any]:
    """Without the moves that the fault does not need."""
    number = 0
    while number < len(plan):
        fewer = plan[:number] + plan[number + 1 :]
        if at.judge(fewer).fault:
            plan = fewer
        else:
            number += 1
    return plan


@contextmanager
def scene(name: str) -> Iterator[Scene]:
    """A moment of the market, of a court or of a lease; afterwards nothing of it is left."""
    if name in COURTS:
        court = Court(name)
        yield Scene(lambda source: court_moves.strategy(source, court.parties), court.judge)
    elif name in LEASES:
        lease = Tenement(name)
        yield Scene(lambda source: lease_moves.strategy(source, lease.sides), lease.judge)
    else:
        with moment(name) as at:
            yield Scene(moves.strategy, at.judge)


def work(name: str, numbers: range, seed: int) -> Share:
    """The tries with these numbers, up to the first that breaks a promise."""
    share = Share()
    with scene(name) as at:
        for number in numbers:
            plan = at.strategy(random.Random(f"{seed} {name} {number}"))
            judged = at.judge(plan)
            share.add(judged)
            if judged.fault:
                short = smaller(at, plan)
                told = "; ".join(map(str, short))
                share.found = f"try {number} at '{name}': {at.judge(short).fault}: {told}"
                break
    return share


def whole(shares: Sequence[Share]) -> Share:
    """All shares of a moment together."""
    return Share(
        tries=sum(share.tries for share in shares),
        calls=sum(share.calls for share in shares),
        best=max(share.best for share in shares),
        opened=sum(share.opened for share in shares),
        lucky=sum(share.lucky for share in shares),
        prices=sum(share.prices for share in shares),
    )


def tries_of(names: Sequence[str], tries: int) -> dict[str, int]:
    """How often each moment is tried: a whole job or lease costs some times what a few calls do."""
    weights = {name: 3 if name in MOMENTS else 1 for name in names}
    return {name: -(-tries * weights[name] // sum(weights.values())) for name in names}


def search(names: Sequence[str], tries: int, seed: int, workers: int) -> Iterator[Result]:
    """`tries` over all of the moments."""
    # Forked: contracts are compiled and deployed once.
    world()
    courthouse()
    leasehold()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for name, count in tries_of(names, tries).items():
            began = time.monotonic()
            parts = [range(first, count, workers) for first in range(workers)]
            shares = [*pool.map(work, [name] * workers, parts, [seed] * workers)]
            found = tuple(share.found for share in shares if share.found)
            yield Result(name, whole(shares), time.monotonic() - began, found)
