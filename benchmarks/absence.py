# SPDX-License-Identifier: Apache-2.0
"""How much of the epochs somebody gets who is present a part of the time, whatever its plan is.

Boundaries win by chance and without memory, so a plan for being present can only look at the clock
and at the past. Many plans are tried on one half of a long history; the best of them are measured
on the other half. The chances come from SHAKE-256, so the figures are the same everywhere.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY = 86_400
_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """Seconds, and the chance of a boundary in millionths."""

    slot: int
    chance_ppm: int
    spacing: int
    window: int

    @property
    def mean(self) -> float:
        """Seconds from one window to the next, on average."""
        first = -(-self.spacing // self.slot)
        return self.slot * (first + 1e6 / self.chance_ppm - 1)

    @property
    def dead(self) -> float:
        """The part of the time in which no window can open."""
        return self.spacing / self.mean


class History:
    """Boundaries, an index each, and what a plan can look at when each of them comes."""

    def __init__(self, rules: Rules, days: int, seed: bytes) -> None:
        """What chance makes of that number of days."""
        size = days * DAY // rules.slot
        words = np.frombuffer(hashlib.shake_256(seed).digest(4 * size), dtype="<u4")
        spacing = -(-rules.spacing // rules.slot)
        opened, earliest = [], 0
        for winner in np.flatnonzero(words < rules.chance_ppm * 2**32 // 10**6):
            if winner >= earliest:
                opened.append(int(winner))
                earliest = int(winner) + spacing
        self.rules = rules
        self.size = size
        self.opened = np.array(opened)
        """Those that opened a window."""
        self.index = np.arange(size)
        # The last opening before each boundary, and the one before that; the first is at 0.
        numbers = np.concatenate(([0, 0], self.opened))
        place = np.searchsorted(self.opened, self.index, side="left") + 1
        since = self.index - numbers[place]
        self.eligible = since >= spacing
        """Those that could open one."""
        hours = rules.slot / 3_600
        self.since = (since * hours).astype(np.float32)
        """Hours since the last opening; at an opening, since the one before."""
        self.gap = ((numbers[place] - numbers[place - 1]) * hours).astype(np.float32)
        """Hours between the last two openings."""
        self.hour = (self.index * rules.slot % DAY / 3_600).astype(np.float32)
        """Of the day."""


# ------------------------------------------------------------------------------- plans

Plan = Callable[[History], _Bools]


def at_hours(first: float, last: float) -> Plan:
    """Present between two hours of the day."""
    return lambda seen: (seen.hour >= first) & (seen.hour < last)


def since_last(first: float, last: float = 1e9) -> Plan:
    """Present from `first` to `last` hours after the last window opened."""
    return lambda seen: (seen.since >= first) & (seen.since < last)


def after_lost(count: int) -> Plan:
    """Present once `count` boundaries have been lost since one could win."""

    def plan(seen: History) -> _Bools:
        rules = seen.rules
        first = (-(-rules.spacing // rules.slot) + count) * rules.slot / 3_600
        return np.asarray(seen.since >= first - 1e-4)

    return plan


def each(count: int) -> Plan:
    """Present at one boundary of `count`."""
    return lambda seen: seen.index % count == 0


def by_coin(part: float, seed: bytes) -> Plan:
    """Present by an own coin, thrown every hour."""

    def plan(seen: History) -> _Bools:
        an_hour = max(1, 3_600 // seen.rules.slot)
        words = hashlib.shake_256(seed).digest(4 * (seen.size // an_hour + 1))
        coins = np.frombuffer(words, dtype="<u4") < int(part * 2**32)
        return np.asarray(np.repeat(coins, an_hour)[: seen.size])

    return plan


def after_gaps(first: float, last: float) -> Plan:
    """Present when the last gap between windows was from `first` to `last` hours."""
    return lambda seen: (seen.gap >= first) & (seen.gap < last)


def _until(hours: float) -> str:
    return f" to {hours:.1f}" if hours < 1e9 else " or more"


def _drawn(draw: random.Random) -> tuple[str, Plan]:
    """One plan of the search: up to three conditions, joined by and or by or."""
    conditions = []
    for _ in range(draw.randint(1, 3)):
        low, high = sorted((draw.uniform(0, 24), draw.uniform(0, 24)))
        late = draw.choice((high, 1e9))
        kind = draw.randrange(4)
        if kind == 0:
            conditions.append((f"hours {low:.1f} to {high:.1f}", at_hours(low, high)))
        elif kind == 1:
            conditions.append((f"{low:.1f}{_until(late)} h after", since_last(low, late)))
        elif kind == 2:
            conditions.append((f"gap of {low:.1f}{_until(late)} h", after_gaps(low, late)))
        else:
            count = draw.randint(2, 6)
            conditions.append((f"one of {count}", each(count)))
    both = draw.random() < 0.5

    def plan(seen: History) -> _Bools:
        reduce = np.logical_and if both else np.logical_or
        masks = [condition(seen) for _, condition in conditions]
        return np.asarray(reduce.reduce(masks))

    return (" and " if both else " or ").join(name for name, _ in conditions), plan


# ----------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Outcome:
    """Parts of the whole."""

    present: float
    """Of the time: boundaries that could win, and the windows that were used."""
    scored: float
    """Of the epochs."""
    dead: float
    """Of the time, in which no window can open and nobody needs to be there."""
    rewards: tuple[float, ...]
    """Of the rewards, for each longest accrual that was asked for."""
    epochs: int

    @property
    def excess(self) -> float:
        """Epochs beyond the presence and the dead time; below zero for an honest rule."""
        return self.scored - self.present - self.dead


def measure(
    seen: History, plan: Plan, accruals: tuple[int, ...] = (), halves: slice = slice(None)
) -> Outcome:
    """What a plan gets of a history, or of a part of it.

    Args:
        seen: The history.
        plan: When somebody is present.
        accruals: Seconds of the schedule that an epoch pays at most; a result for each.
        halves: Boundaries that count.
    """
    rules = seen.rules
    start, stop, _ = halves.indices(seen.size)
    mask = plan(seen)
    opened = seen.opened[(seen.opened >= start) & (seen.opened < stop)]
    hit = mask[opened]
    waiting = int((mask & seen.eligible)[halves].sum()) - int(hit.sum())
    time = (stop - start) * rules.slot
    paid = [np.minimum(seen.since[opened].astype(np.float64) * 3_600, most) for most in accruals]
    return Outcome(
        present=(waiting * rules.slot + int(hit.sum()) * rules.window) / time,
        scored=float(hit.mean()),
        dead=len(opened) * rules.spacing / time,
        rewards=tuple(float(gaps[hit].sum() / gaps.sum()) for gaps in paid),
        epochs=len(opened),
    )


def search(
    seen: History, tries: int, seed: int, most: float
) -> Iterator[tuple[str, Outcome, Outcome]]:
    """The three plans with the largest excess on the first half, and what the second half says.

    `most` is the largest presence that counts: to be there always is not a discovery.
    """
    draw = random.Random(seed)
    first, second = slice(0, seen.size // 2), slice(seen.size // 2, None)
    found = []
    for number in range(tries):
        name, plan = _drawn(draw)
        trained = measure(seen, plan, halves=first)
        if trained.scored > 0 and trained.present <= most:
            found.append((trained.excess, number, name, plan, trained))
    for _, _, name, plan, trained in sorted(found, key=lambda item: item[:2], reverse=True)[:3]:
        yield name, trained, measure(seen, plan, halves=second)
