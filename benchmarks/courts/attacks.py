# SPDX-License-Identifier: Apache-2.0
"""Attacks on a jury besides its votes: bribes, full seats, the order of draws, work for nothing.

Each has a formula and a simulation of the same name with `_drawn`. Amounts are in units of the
price where no currency is named.
"""

from __future__ import annotations

from enum import IntEnum
from math import comb

import numpy as np

from benchmarks.courts.disputes import tail
from benchmarks.courts.rules import Money, Rules, Ruling, World, ruling


def law(size: int, chance: float) -> list[tuple[int, float]]:
    """Hits of independent throws, with their chances."""
    return [
        (hits, comb(size, hits) * chance**hits * (1 - chance) ** (size - hits))
        for hits in range(size + 1)
    ]


# -------------------------------------------------------------------------------- absence


def juror(rules: Rules, world: World, absent: float) -> float:
    """What a place brings a juror that runs the job, but misses a part of its calls."""
    return (1 - absent) * (rules.fee - world.run - world.gas) - absent * rules.big


def juror_drawn(rules: Rules, world: World, absent: float, runs: int, seed: int) -> float:
    away = np.random.default_rng(seed).random(runs) < absent
    return float(np.where(away, -rules.big, rules.fee - world.run - world.gas).mean())


def bearable_absence(rules: Rules, world: World) -> float:
    """The absence at which a juror that runs the job earns nothing."""
    margin = rules.fee - world.run - world.gas
    return margin / (margin + rules.big)


# --------------------------------------------------------------------------------- bribes


class Bribe(IntEnum):
    """What is bought of a juror."""

    SILENCE = 0  # by a lying provider
    FALSE = 1  # RIGHT, by a lying provider; it is made good what it loses if that fails
    WITHHELD = 2  # by a lying tenant


def bribe_price(rules: Rules, world: World, kind: Bribe, won: bool) -> float:
    """What a juror that takes bribes must at least be given for one place."""
    margin = rules.fee - world.run
    if kind is Bribe.SILENCE:
        return rules.big + margin
    if kind is Bribe.WITHHELD:
        return margin
    # Its run is saved. If the ruling goes the other way it is made good its fine and its fee.
    return 0.0 if won else rules.small + margin


def silence_for_all(rules: Rules, world: World) -> float:
    """The price of no quorum in every round, if every juror takes bribes."""
    total = 0.0
    sizes = [rules.panel, rules.redraw_panel]
    for size in sizes + ([rules.appeal_panel] if rules.appealable_silence else []):
        needed = sum(max(0, there - size // 2) * p for there, p in law(size, 1 - world.absent))
        total += needed * bribe_price(rules, world, Bribe.SILENCE, True)
    return total


def silence_for_all_drawn(rules: Rules, world: World, runs: int, seed: int) -> float:
    chance = np.random.default_rng(seed)
    total = np.zeros(runs)
    sizes = [rules.panel, rules.redraw_panel]
    for size in sizes + ([rules.appeal_panel] if rules.appealable_silence else []):
        there = (chance.random((runs, size)) >= world.absent).sum(axis=1)
        total += np.maximum(0, there - size // 2) * bribe_price(rules, world, Bribe.SILENCE, True)
    return float(total.mean())


def bribery(rules: Rules, world: World, kind: Bribe, takers: float, prize: float) -> float:
    """Profit of offering bribes to every drawn juror, of whom a part takes them.

    The first panel and, if it was turned, the appeal of the honest party. Nobody is away.
    """
    total = 0.0
    for bought, chance in law(rules.panel, takers):
        first = _turned(kind, bought, rules.panel, standing=False)
        if not first:
            total += chance * _bribe_loss(rules, world, kind, bought, rules.panel)
            continue
        for more, then in law(rules.appeal_panel, takers):
            total += chance * then * _bribe_end(rules, world, kind, bought, more, prize)
    return total


def _turned(kind: Bribe, bought: int, size: int, standing: bool) -> bool:
    if kind is Bribe.WITHHELD and not standing:
        return 3 * bought >= 2 * size
    if kind is Bribe.WITHHELD:
        # In the appeal the other votes need more than half, or the ruling stays.
        return 2 * bought > size
    return 2 * bought > size


def _bribe_loss(rules: Rules, world: World, kind: Bribe, bought: int, votes: int) -> float:
    """The first panel was not turned."""
    paid = bought * bribe_price(rules, world, kind, won=False)
    fees = (votes - bought) * rules.fee if kind is Bribe.WITHHELD else 0.0
    return -paid - fees


def _bribe_end(
    rules: Rules, world: World, kind: Bribe, first: int, second: int, prize: float
) -> float:
    won = _turned(kind, second, rules.appeal_panel, standing=True)
    paid = (first + second) * bribe_price(rules, world, kind, won)
    if won:
        return prize - paid
    votes = rules.panel - first + rules.appeal_panel - second
    # The appeal has turned WITHHELD.
    by_tenant = min(rules.late_part * votes * rules.fee, rules.dispute_bond)
    return -paid - (by_tenant if kind is Bribe.WITHHELD else 0.0)


def bribery_drawn(
    rules: Rules, world: World, kind: Bribe, takers: float, prize: float, runs: int, seed: int
) -> float:
    chance = np.random.default_rng(seed)
    first = (chance.random((runs, rules.panel)) < takers).sum(axis=1)
    second = (chance.random((runs, rules.appeal_panel)) < takers).sum(axis=1)
    total = 0.0
    for bought, more in zip(first.tolist(), second.tolist(), strict=True):
        if _turned(kind, bought, rules.panel, standing=False):
            total += _bribe_end(rules, world, kind, bought, more, prize)
        else:
            total += _bribe_loss(rules, world, kind, bought, rules.panel)
    return total / runs


def takers_needed(rules: Rules, world: World, kind: Bribe, prize: float) -> float:
    """The part of all jurors that must take bribes before offering them pays."""
    low, high = 0.0, 1.0
    if bribery(rules, world, kind, high, prize) <= 0:
        return float("inf")
    while high - low > 1e-3:
        middle = (low + high) / 2
        if bribery(rules, world, kind, middle, prize) > 0:
            high = middle
        else:
            low = middle
    return high


# ------------------------------------------------------------------------------ full seats


def busy_part(seats: int, disputes: int, panel: int) -> float:
    """The part of the seats that disputes keep, each place drawn with replacement."""
    return float(1 - (1 - 1 / seats) ** (panel * disputes))


def without_quorum(rules: Rules, busy: float) -> float:
    """All rounds of another dispute find too few free jurors."""
    total = 1.0
    sizes = [rules.panel, rules.redraw_panel]
    for size in sizes + ([rules.appeal_panel] if rules.appealable_silence else []):
        total *= 1 - tail(size, size // 2 + 1, 1 - busy)
    return total


def without_quorum_drawn(
    rules: Rules, seats: int, disputes: int, runs: int, seed: int
) -> tuple[float, float]:
    """The busy part, and how often all rounds find too few, from drawn seats."""
    chance = np.random.default_rng(seed)
    busy_sum, failed = 0.0, 0
    for _ in range(runs):
        rounds = []
        sizes = [rules.panel, rules.redraw_panel]
        for size in sizes + ([rules.appeal_panel] if rules.appealable_silence else []):
            busy = np.zeros(seats, dtype=bool)
            busy[chance.integers(0, seats, rules.panel * disputes)] = True
            busy_sum += busy.mean()
            there = (~busy[chance.integers(0, seats, size)]).sum()
            rounds.append(2 * there <= size)
        failed += all(rounds)
    return busy_sum / runs / len(rounds), failed / runs


def fill(rules: Rules, money: Money, seats: int, wanted: float) -> tuple[float, float]:
    """How full the seats must be for that chance of no quorum, and what it costs in USD.

    They are full from the first panel until the requester's half of the redraw's time and the time
    of an appeal are over.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if without_quorum(rules, middle) < wanted:
            low = middle
        else:
            high = middle
    hours = money.redraw_hours / 2 + (money.appeal_hours if rules.appealable_silence else 0)
    return high, high * seats * money.fee_per_hour * hours


def busy_turns(rules: Rules, busy: float) -> float:
    """Jurors that cannot run in time say WITHHELD: how often that decides the appeal."""
    return tail(rules.appeal_panel, rules.appeal_panel // 2 + 1, busy)


def busy_turns_drawn(rules: Rules, seats: int, disputes: int, runs: int, seed: int) -> float:
    chance = np.random.default_rng(seed)
    turned = 0
    for _ in range(runs):
        busy = np.zeros(seats, dtype=bool)
        busy[chance.integers(0, seats, rules.panel * disputes)] = True
        withheld = np.array([busy[chance.integers(0, seats, rules.appeal_panel)].sum()])
        zero = np.zeros_like(withheld)
        given = ruling(rules.appeal_panel - withheld, zero, withheld, rules.appeal_panel)
        turned += int(given[0] == Ruling.WITHHELD)
    return turned / runs


def keep_busy(rules: Rules, seats: int, busy: float, collateral: float) -> float:
    """What a tenant gains that keeps a part of all jurors busy, and disputes a right result.

    Jurors run first what pays best, so each seat costs it a fee of the real dispute: at the first
    panel and at the appeal. If it loses, it pays that dispute's jurors as well.
    """
    turned = busy_turns(rules, busy)
    prize = 1 + rules.victim_part * collateral
    return turned * prize - 2 * busy * seats * rules.fee - (1 - turned) * rules.panel * rules.fee


# ------------------------------------------------------------------------- order of draws


def reordered(panel: int, s: float, seats: int, pending: int) -> float:
    """The old rule: whoever is busy when `draw` is called is left out.

    A coalition has disputes of its own that wait for their draw, knows all values, and draws first
    what makes honest jurors of the victim's panel busy.
    """
    struck = busy_part(seats, pending, panel)
    effective = s / (s + (1 - s) * (1 - struck))
    return tail(panel, panel // 2 + 1, effective)


def reordered_drawn(panel: int, s: float, seats: int, pending: int, runs: int, seed: int) -> float:
    chance = np.random.default_rng(seed)
    friends = round(s * seats)
    won = 0
    for _ in range(runs):
        struck = set(chance.integers(0, seats, panel * pending).tolist())
        places: list[int] = []
        for juror_ in chance.integers(0, seats, 40 * panel).tolist():
            if juror_ >= friends and juror_ in struck:
                continue
            places.append(juror_)
            if len(places) == panel:
                break
        won += 2 * sum(place < friends for place in places) > panel
    return won / runs


# ------------------------------------------------------------- work for nothing, self-dealing


def long_and_cheap(
    money: Money, rules: Rules, price: float, hours: float, energy: float
) -> tuple[float, float]:
    """What a place costs a juror, in USD: under a fee by price alone, and under the shipped one.

    `energy` is the cost of an hour of its machine. Below 0: the juror earns.
    """
    run = energy * hours
    return run - max(money.min_fee, rules.fee * price), run - money.fee(price, hours, rules)


def self_dealt(rules: Rules, s: float) -> float:
    """What a dispute with itself brings: tenant, provider and the part s of all jurors are one."""
    return -rules.protocol_fee - rules.panel * (1 - s) * rules.fee


def self_dealt_drawn(rules: Rules, s: float, runs: int, seed: int) -> float:
    own = (np.random.default_rng(seed).random((runs, rules.panel)) < s).sum(axis=1)
    return float((-rules.protocol_fee - (rules.panel - own) * rules.fee).mean())


# ----------------------------------------------------------------- jurors alone, in league


def dragged_on(rules: Rules, s: float) -> tuple[float, float]:
    """Jurors with the part s of the seats say WITHHELD of a right result, where that decides.

    The provider appeals, and they vote justly then. What each dispute of a right result brings them
    beyond just votes, and what it costs the provider.
    """
    gain = loss = 0.0
    for own, chance in law(rules.panel, s):
        more = (rules.appeal_panel * s - own) * rules.fee
        if 3 * own >= 2 * rules.panel and more > 0:
            gain += chance * more
            loss += chance * _left_to_the_winner(rules, own)
    return gain, loss


def _left_to_the_winner(rules: Rules, own: int) -> float:
    """The provider's part of the fees of both juries, as the appeal has turned WITHHELD."""
    fees = (rules.panel - own + rules.appeal_panel) * rules.fee
    return fees - min(rules.late_part * fees, rules.dispute_bond)


def dragged_on_drawn(rules: Rules, s: float, runs: int, seed: int) -> tuple[float, float]:
    chance = np.random.default_rng(seed)
    own = (chance.random((runs, rules.panel)) < s).sum(axis=1)
    later = (chance.random((runs, rules.appeal_panel)) < s).sum(axis=1)
    gain = loss = 0.0
    for first, then in zip(own.tolist(), later.tolist(), strict=True):
        if 3 * first >= 2 * rules.panel and rules.appeal_panel * s > first:
            gain += (then - first) * rules.fee
            loss += _left_to_the_winner(rules, first)
    return gain / runs, loss / runs


# ------------------------------------------------------------- rules that were not good enough


def served_to_friends(size: int, s: float, of_all: bool) -> float:
    """A provider serves the bytes to its friends only, where jurors cannot judge without them.

    Honest jurors say WITHHELD. `of_all`: RIGHT needs more than half of all votes that were
    revealed, not of those that are not WITHHELD.
    """
    chance = 0.0
    for friends, p in law(size, s):
        withheld = size - friends
        if of_all:
            chance += p * (2 * friends >= size)
        else:
            chance += p * (3 * withheld < 2 * size and friends > 0)
    return chance


def served_to_friends_drawn(size: int, s: float, of_all: bool, runs: int, seed: int) -> float:
    friends = (np.random.default_rng(seed).random((runs, size)) < s).sum(axis=1)
    zero = np.zeros_like(friends)
    if of_all:
        given = ruling(friends, zero, size - friends, size)
        return float(np.isin(given, (Ruling.PROVIDER, Ruling.UNDECIDED)).mean())
    return float(((3 * (size - friends) < 2 * size) & (2 * friends > friends)).mean())


def appeal_gain(rules: Rules, collateral: float, tenants_part: float) -> float:
    """What an honest provider gains by an appeal that it wins, if the first panel robbed it.

    All jurors of the appeal are honest, and one of the first panel was. `tenants_part` of the fees
    is what the tenant's bond pays at most: 1 by the common rule, `late_part` after a WITHHELD, 0 if
    whoever appeals pays.
    """
    fees = (1 + rules.appeal_panel) * rules.fee
    by_tenant = min(max(tenants_part * fees, rules.fee), rules.dispute_bond)
    return 1 - rules.protocol_fee + collateral - (fees - by_tenant)


def served_late(rules: Rules, honest: float = 1.0) -> tuple[float, float]:
    """What provider and tenant get of price, fees and bonds, if the provider serves its right
    result to nobody at first, and to all jurors in its appeal.

    Nobody is away. `honest` is the part of the votes of the appeal that are paid by that ruling.
    """
    fees = honest * rules.appeal_panel * rules.fee
    by_tenant = min(rules.late_part * fees, rules.dispute_bond)
    return 1 - rules.protocol_fee - (fees - by_tenant), -1 - by_tenant


def served_late_drawn(rules: Rules, absent: float, runs: int, seed: int) -> tuple[float, float]:
    """The same from votes: of each panel a part of the jurors is away."""
    chance = np.random.default_rng(seed)
    zero = np.zeros(runs, dtype=np.int64)
    first = (chance.random((runs, rules.panel)) >= absent).sum(axis=1)
    again = (chance.random((runs, rules.redraw_panel)) >= absent).sum(axis=1)
    there = (chance.random((runs, rules.appeal_panel)) >= absent).sum(axis=1)
    one = ruling(zero, zero, first, rules.panel)
    two = ruling(zero, zero, again, rules.redraw_panel)
    robbed = np.where(one == Ruling.NO_QUORUM, two, one) == Ruling.WITHHELD
    turned = ruling(there, zero, zero, rules.appeal_panel) == Ruling.PROVIDER
    counts = robbed & turned
    fees = there[counts] * rules.fee
    by_tenant = np.minimum(rules.late_part * fees, rules.dispute_bond)
    provider = 1 - rules.protocol_fee - (fees - by_tenant)
    return float(provider.mean()), float((-1 - by_tenant).mean())


def undecided(rules: Rules) -> float:
    """What it costs a tenant to dispute a job that gives another result at each run."""
    return -rules.panel * rules.fee * rules.undecided_part
