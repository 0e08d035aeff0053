# SPDX-License-Identifier: Apache-2.0
"""Economic soundness: each role, what it might do instead of its part, and what it loses by that.

A loss is against doing the honest thing, in units of the price of the job. The worst of the stated
world is taken. A negative loss is a gain: the test of this table fails then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.courts import attacks, voters
from benchmarks.courts.attacks import Bribe
from benchmarks.courts.conduct import STRATEGIES, Strategy
from benchmarks.courts.disputes import expected, prize, restrained
from benchmarks.courts.rules import Money, Party, Rules, World

THIRD = 1 / 3
MOST_RIGHT, LEAST_RIGHT = 0.85, 0.15
"""The parts of disputed results that are right, between which every juror's row holds."""


@dataclass(frozen=True)
class Position:
    """One row."""

    role: str
    deviation: str
    loss: float


def _provider(rules: Rules, money: Money, world: World) -> Iterator[tuple[str, float]]:
    honest = 1 - rules.protocol_fee - world.saved
    alone = replace(world, colluding=0.0)
    third = replace(world, colluding=THIRD)
    gain = prize(rules, Party.PROVIDER, world.collateral)

    def lies(where: World, *strategies: Strategy) -> float:
        # It is disputed. What its friends earn by just votes counts as its own.
        ends = [expected(rules, where, Party.PROVIDER, strategy) for strategy in strategies]
        ends.append(restrained(rules, where, Party.PROVIDER))
        return honest - (max(end.profit(gain) for end in ends) - world.collateral)

    yield "lies, and is disputed", lies(alone, Strategy())
    appealed = expected(rules, alone, Party.PROVIDER, Strategy(appeals=True)).profit(gain)
    yield "lies, and appeals the ruling", honest - (appealed - world.collateral)
    yield "lies, with friends on a third of the seats", lies(third, *STRATEGIES)
    silent = [
        expected(rules, third, Party.PROVIDER, strategy).profit(gain)
        for strategy in STRATEGIES
        if strategy.silences
    ]
    silenced = honest - (max(silent) - world.collateral)
    yield "lies, its friends break the quorum", silenced
    bought = attacks.bribery(rules, world, Bribe.FALSE, THIRD, gain) - world.collateral
    yield "lies, and bribes the third of the jurors that takes bribes", honest - bought
    silence = gain - world.collateral - attacks.silence_for_all(rules, world)
    yield "lies, and buys silence in every round", honest - silence
    seats = money.panel_min
    price = seats * money.price_per_seat
    filled = [
        wanted * gain - attacks.fill(rules, money, seats, wanted)[1] / price
        for wanted in (0.1, 0.5, 0.9)
    ]
    yield "has lied, and fills all seats for silence (against giving up)", -max(filled)
    late = attacks.served_late(rules, 1 - world.absent)[0]
    yield "serves nobody at first, and all jurors in its appeal", 1 - rules.protocol_fee - late


def _tenant(rules: Rules, money: Money, world: World) -> Iterator[tuple[str, float]]:
    alone = replace(world, colluding=0.0)
    third = replace(world, colluding=THIRD)
    gain = prize(rules, Party.TENANT, world.collateral)

    def claims(where: World, strategy: Strategy) -> float:
        return -expected(rules, where, Party.TENANT, strategy).profit(gain)

    yield "disputes a right result", claims(alone, Strategy())
    yield "disputes a right result, and appeals", claims(alone, Strategy(appeals=True))
    calm = -restrained(rules, third, Party.TENANT).profit(gain)
    yield (
        "the same with friends on a third of the seats",
        min(calm, *(claims(third, strategy) for strategy in STRATEGIES)),
    )
    again = [strategy for strategy in STRATEGIES if strategy.silences]
    yield "its friends break the quorum for another panel", min(claims(third, s) for s in again)
    bought = attacks.bribery(rules, world, Bribe.WITHHELD, THIRD, gain)
    yield "bribes the third that takes bribes to say WITHHELD", -bought
    busy = [
        attacks.keep_busy(rules, money.panel_min, part / 10, world.collateral)
        for part in range(4, 10)
    ]
    yield "keeps jurors busy, so that they say WITHHELD", -max(busy)
    yield "disputes a job that gives another result each time", -attacks.undecided(rules)
    yield "disputes where no jury can be found", 0.0  # price back, as much of the bond gone
    yield "disputes with itself, with a third of the seats", -attacks.self_dealt(rules, THIRD)


def _juror(rules: Rules, world: World) -> Iterator[tuple[str, float]]:
    def less(voter: voters.Voter) -> float:
        settings = [voters.Setting(right) for right in (LEAST_RIGHT, 0.5, MOST_RIGHT)]
        return min(
            voters.profit(rules, world, voters.HONEST, setting)
            - voters.profit(rules, world, voter, setting)
            for setting in settings
        )

    for voter in (*voters.EXACT, *voters.COMPARED):
        yield voter.name, less(voter)
    margin = attacks.juror(rules, world, 0.0)
    yield "does not enlist, as it misses 3 % of its calls", attacks.juror(rules, world, 0.03)
    yield "is one of many that all say WITHHELD", margin - (rules.attendance - world.gas)


def table(rules: Rules, money: Money, world: World) -> list[Position]:
    """Every row."""
    roles = (
        ("provider", _provider(rules, money, world)),
        ("tenant", _tenant(rules, money, world)),
        ("juror", _juror(rules, world)),
    )
    return [Position(role, deviation, loss) for role, rows in roles for deviation, loss in rows]
