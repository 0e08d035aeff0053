# SPDX-License-Identifier: Apache-2.0
"""What a coalition can expect of a dispute: exact sums over all panels, and drawn panels.

The sums take every place as one independent throw. The simulation draws jurors from a list of
seats, with replacement, gives nobody the votes of jurors of earlier rounds, and lets a juror
that is away miss all its places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.courts.conduct import (
    FALSE,
    JUST,
    QUIET,
    STRATEGIES,
    Ledger,
    Panel,
    Plan,
    Strategy,
    conduct,
)
from benchmarks.courts.rules import Floats, Ints, Party, Rules, World

_CHUNK = 10_000


class Expected(NamedTuple):
    """Means of a dispute. Money is in units of the price."""

    wrong: float
    """The chance that it ends against the honest party."""
    money: float
    """What the coalition gets of fees, fines and bonds."""
    honest_party: float
    """What the honest party gets of them (a loss: below 0)."""

    def profit(self, prize: float) -> float:
        """Of one try, `prize` being what a wrong ruling is worth to the coalition."""
        return self.wrong * prize + self.money

    def price(self) -> float:
        """What a wrong ruling costs on average, failed tries included."""
        return -self.money / self.wrong


def prize(rules: Rules, liar: Party, collateral: float) -> float:
    """What a wrong ruling is worth: the price, and the collateral that is kept or won."""
    if liar is Party.PROVIDER:
        return 1 - rules.protocol_fee + collateral
    return 1 + rules.victim_part * collateral


# ------------------------------------------------------------------------------ formulas


@lru_cache(maxsize=256)
def _law(size: int, colluding: float, absent: float) -> tuple[Ints, Ints, Floats]:
    """All (colluding, honest) votes of a panel of that size, with their chances."""
    away = absent * (1 - colluding)
    rows = [
        (
            k,
            m,
            comb(size, k)
            * comb(size - k, m)
            * colluding**k
            * (1 - colluding - away) ** m
            * away ** (size - k - m),
        )
        for k in range(size + 1)
        for m in range(size - k + 1)
    ]
    table = np.array(rows)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2]


def expected(
    rules: Rules, world: World, liar: Party, strategy: Strategy, alert: bool = True
) -> Expected:
    """The sum over all panels of all three rounds."""
    return _sum(rules, world.colluding, world.absent, liar, strategy, alert)


@lru_cache(maxsize=4096)
def _sum(
    rules: Rules, colluding: float, absent: float, liar: Party, strategy: Strategy, alert: bool
) -> Expected:
    panels, weight = _every(rules, colluding, absent)
    return _mean(conduct(rules, liar, strategy, panels, alert), weight)


@lru_cache(maxsize=16)
def _every(rules: Rules, colluding: float, absent: float) -> tuple[list[Panel], Floats]:
    """All panels of all rounds, with their chances."""
    laws = [
        _law(size, colluding, absent)
        for size in (rules.panel, rules.redraw_panel, rules.appeal_panel)
    ]
    grid = np.meshgrid(*(np.arange(law[0].size) for law in laws), indexing="ij")
    at = [axis.ravel() for axis in grid]
    weight = laws[0][2][at[0]] * laws[1][2][at[1]] * laws[2][2][at[2]]
    panels = [Panel(law[0][place], law[1][place]) for law, place in zip(laws, at, strict=True)]
    return panels, weight


def _mean(ledger: Ledger, weight: Floats) -> Expected:
    return Expected(
        float(ledger.wrong @ weight),
        float(ledger.coalition @ weight),
        float(ledger.honest_party @ weight),
    )


def best(rules: Rules, world: World, liar: Party) -> tuple[Strategy, Expected]:
    """The strategy with the most profit for a coalition, at the world's collateral."""
    gain = prize(rules, liar, world.collateral)
    found = [(strategy, expected(rules, world, liar, strategy)) for strategy in STRATEGIES]
    return max(found, key=lambda entry: entry[1].profit(gain))


def _just(rules: Rules) -> Plan:
    sizes = (rules.panel, rules.redraw_panel, rules.appeal_panel, rules.appeal_panel)
    return Plan(*(np.full((size + 1, size + 1), JUST) for size in sizes))


@lru_cache(maxsize=64)
def restrained(rules: Rules, world: World, liar: Party) -> Expected:
    """The coalition's jurors vote as honest ones do, and earn what those earn."""
    panels, weight = _every(rules, world.colluding, world.absent)
    return _mean(conduct(rules, liar, Strategy(), panels, True, _just(rules)), weight)


@lru_cache(maxsize=16)
def search(rules: Rules, world: World, liar: Party) -> Expected:
    """The best of any behaviour of a coalition's jurors, by turns for each panel they can meet.

    Backwards from the appeal: what they do in one case is changed if that adds profit. That may
    end at a hill which is not the highest, so the named strategies count as well.
    """
    gain = prize(rules, liar, world.collateral)
    panels, weight = _every(rules, world.colluding, world.absent)
    found = best(rules, world, liar)[1]
    for appeals in (False, True):
        strategy = Strategy(appeals=appeals)
        plan = _just(rules)
        now = _mean(conduct(rules, liar, strategy, panels, True, plan), weight)
        for table in reversed(plan):
            size = table.shape[0] - 1
            cases = [(k, m) for k in range(1, size + 1) for m in range(size - k + 1)]
            for case, does in product(cases, (FALSE, QUIET)):
                before, table[case] = int(table[case]), does
                after = _mean(conduct(rules, liar, strategy, panels, True, plan), weight)
                if after.profit(gain) > now.profit(gain) + 1e-12:
                    now = after
                else:
                    table[case] = before
        if now.profit(gain) > found.profit(gain):
            found = now
    return found


def tail(size: int, least: int, chance: float) -> float:
    """At least that number of hits in independent throws."""
    return sum(
        comb(size, hits) * chance**hits * (1 - chance) ** (size - hits)
        for hits in range(least, size + 1)
    )


def wrong_in_one_round(size: int, s: float) -> float:
    """Everybody votes: the coalition has more than half of the places."""
    return tail(size, size // 2 + 1, s)


def wrong_by_tails(rules: Rules, s: float) -> float:
    """The chance of a wrong end if every honest juror votes and the coalition appeals what it lost.

    Whoever won the first round or not: the appeal decides, and needs more than half of its places.
    """
    return wrong_in_one_round(rules.appeal_panel, s)


# ---------------------------------------------------------------------------- simulation


class Court(NamedTuple):
    """The jurors of one capability."""

    seats: Ints
    friends: int
    """The first ones belong to the coalition."""


def court(colluding: float, jurors: int) -> Court:
    """Jurors with 1, 2 or 3 seats; those of the coalition have that part of the seats."""
    seats = np.tile(np.array([1, 2, 3]), -(-jurors // 3))[:jurors]
    friends = int(np.searchsorted(np.cumsum(seats), round(colluding * seats.sum()), "left")) + 1
    return Court(seats, friends if colluding > 0 else 0)


def draws(rules: Rules, jury: Court, absent: float, runs: int, seed: int) -> Iterator[list[Panel]]:
    """Panels of all three rounds, drawn as the contract draws them."""
    chance = np.random.default_rng(seed)
    ends = np.cumsum(jury.seats)
    for start in range(0, runs, _CHUNK):
        size = min(_CHUNK, runs - start)
        day = chance.integers(0, 2**63, (size, 1), dtype=np.uint64)
        sat = np.empty((size, 0), dtype=np.int64)
        panels = []
        for places in (rules.panel, rules.redraw_panel, rules.appeal_panel):
            points = chance.integers(0, ends[-1], (size, places))
            tries = np.searchsorted(ends, points, "right")
            taken = ~(tries[:, :, None] == sat[:, None, :]).any(axis=2)
            friend = taken & (tries < jury.friends)
            there = taken & ~friend & (_mixed(tries, day) >= absent)
            panels.append(Panel(friend.sum(axis=1), there.sum(axis=1)))
            sat = np.concatenate([sat, np.where(taken, tries, -1)], axis=1)
        yield panels


def _mixed(jurors: Ints, day: NDArray[np.uint64]) -> Floats:
    """A number in 0..1 for each juror in each dispute: whether it is away from all its places."""
    word = (jurors.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + day
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    word ^= word >> np.uint64(31)
    return (word >> np.uint64(11)).astype(np.float64) / 2**53


@lru_cache(maxsize=8)
def drawn(
    rules: Rules, world: World, runs: int, seed: int, jurors: int = 9_000
) -> list[list[Panel]]:
    """Panels of that number of disputes, kept: every strategy is tried on the same ones."""
    return list(draws(rules, court(world.colluding, jurors), world.absent, runs, seed))


def simulated(
    rules: Rules,
    world: World,
    liar: Party,
    strategy: Strategy,
    runs: int,
    seed: int,
    alert: bool = True,
) -> Expected:
    """The same means from drawn panels."""
    sums = np.zeros(3)
    for panels in drawn(rules, world, runs, seed):
        ledger = conduct(rules, liar, strategy, panels, alert)
        sums += _mean(ledger, np.ones(ledger.wrong.size))
    return Expected(*(float(entry) for entry in sums / runs))
