# SPDX-License-Identifier: Apache-2.0
"""What a place of a jury brings: to a juror that runs the job, and to jurors that do not.

A part of all jurors does the same as the one that is looked at; the others run the job. A ruling
against the truth is appealed with a given chance, and the appeal is drawn from the same jurors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial, prod

import numpy as np

from benchmarks.courts.conduct import left_as_it_was
from benchmarks.courts.rules import Floats, Ints, Rules, Ruling, World, ruling

RIGHT, WRONG, WITHHELD, STRAY, SILENT = range(5)
_VOTES = 5


@dataclass(frozen=True)
class Voter:
    """How a juror votes."""

    name: str
    if_right: tuple[float, ...]
    """The chances of RIGHT, WRONG with the panel's seal, WITHHELD, WRONG with another, silence."""
    if_wrong: tuple[float, ...]
    runs: bool = False
    fetches: bool = False

    def cost(self, world: World) -> float:
        """Of one place, in units of the price."""
        return world.gas + world.run * self.runs + world.fetch * self.fetches


def _always(vote: int) -> tuple[float, ...]:
    return tuple(float(place == vote) for place in range(_VOTES))


_THIRDS = (1 / 3, 0.0, 1 / 3, 1 / 3, 0.0)
_COIN = (0.5, 0.5, 0.0, 0.0, 0.0)
HONEST = Voter("runs the job", _always(RIGHT), _always(WRONG), runs=True)
EXACT = (
    Voter("fetches and agrees", _always(RIGHT), _always(RIGHT), fetches=True),
    Voter("agrees with a leaked seal", _always(RIGHT), _always(RIGHT)),
    Voter("says WRONG with a seal of its own", _always(STRAY), _always(STRAY)),
    Voter("always says WITHHELD", _always(WITHHELD), _always(WITHHELD)),
    Voter("random: RIGHT, WRONG or WITHHELD", _THIRDS, _THIRDS, fetches=True),
    Voter("copies a digest that it cannot open", _always(SILENT), _always(SILENT)),
    Voter("is silent", _always(SILENT), _always(SILENT)),
)
COMPARED = (
    Voter("fetches and says WRONG (comparator)", _always(WRONG), _always(WRONG), fetches=True),
    Voter("fetches and throws a coin (comparator)", _COIN, _COIN, fetches=True),
)
"""A comparator's WRONG is sealed with the provider's own result: no run is needed to say it."""


@dataclass(frozen=True)
class Setting:
    """Where a juror votes."""

    right: float
    """The part of disputed results that are right."""
    alike: float = 0.0
    """The part of all other jurors that votes like the one looked at."""
    appealed: float = 1.0
    """How often a ruling against the truth is appealed."""


def _judge(votes: Ints, size: int) -> Ints:
    return ruling(votes[:, RIGHT], votes[:, WRONG], votes[:, WITHHELD], size, votes[:, STRAY])


def _unjust(given: Ints, right: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    kinds = (Ruling.TENANT, Ruling.WITHHELD) if right else (Ruling.PROVIDER, Ruling.UNDECIDED)
    return np.isin(given, kinds)


def pay(rules: Rules, vote: int | Ints, final: Ints) -> Floats:
    """What a vote earns, or loses, under a final ruling."""
    vote = np.broadcast_to(np.asarray(vote), final.shape)
    ran = np.isin(vote, (RIGHT, WRONG, STRAY))
    coherent = ((vote == RIGHT) & (final == Ruling.PROVIDER)) | (
        (vote == WRONG) & (final == Ruling.TENANT)
    )
    fined = ran & ~coherent & np.isin(final, (Ruling.PROVIDER, Ruling.TENANT))
    attends = final == Ruling.WITHHELD
    earned = (
        np.select(
            [
                coherent,
                attends,
                ran & (final == Ruling.UNDECIDED),
                ran & (final == Ruling.NO_QUORUM),
            ],
            [rules.fee, rules.attendance, rules.undecided_part * rules.fee, rules.fee],
            0.0,
        )
        - rules.small * fined
    )
    return np.where(vote == SILENT, -rules.big, earned)


# ------------------------------------------------------------------------------ formula


@lru_cache(maxsize=64)
def _panels(size: int, chances: tuple[float, ...]) -> tuple[Ints, Floats]:
    """All counts of votes of a panel, with their chances (a multinomial law)."""
    used = [place for place, chance in enumerate(chances) if chance > 0]
    rows: list[tuple[int, ...]] = []
    weights: list[float] = []

    def fill(at: int, left: int, counts: tuple[int, ...]) -> None:
        if at == len(used) - 1:
            full = (*counts, left)
            row = [0] * _VOTES
            for place, count in zip(used, full, strict=True):
                row[place] = count
            rows.append(tuple(row))
            ways = factorial(size) // prod(factorial(count) for count in full)
            weights.append(ways * prod(chances[p] ** c for p, c in zip(used, full, strict=True)))
            return
        for count in range(left + 1):
            fill(at + 1, left - count, (*counts, count))

    fill(0, size, ())
    return np.array(rows, dtype=np.int64), np.array(weights)


def profit(rules: Rules, world: World, voter: Voter, setting: Setting) -> float:
    """The mean of one place, in units of the price, as a sum over all panels."""
    total = 0.0
    for right, part in ((True, setting.right), (False, 1 - setting.right)):
        own = voter.if_right if right else voter.if_wrong
        honest = HONEST.if_right if right else HONEST.if_wrong
        mixed = tuple(
            setting.alike * mine + (1 - setting.alike) * just
            for mine, just in zip(own, honest, strict=True)
        )
        later = {size: _rulings(size, mixed) for size in (rules.redraw_panel, rules.appeal_panel)}
        others, weight = _panels(rules.panel - 1, mixed)
        for vote, chance in enumerate(own):
            if chance == 0:
                continue
            panel = others.copy()
            panel[:, vote] += 1
            first = _judge(panel, rules.panel)
            for given in np.unique(first):
                share = float(weight[first == given].sum())
                for after, more in _ends(rules, setting, later, int(given), right):
                    total += (
                        part * chance * share * more * float(pay(rules, vote, np.array([after]))[0])
                    )
    return total - voter.cost(world)


def _rulings(size: int, chances: tuple[float, ...]) -> dict[int, float]:
    votes, weight = _panels(size, chances)
    given = _judge(votes, size)
    return {int(kind): float(weight[given == kind].sum()) for kind in np.unique(given)}


def _ends(
    rules: Rules, setting: Setting, later: dict[int, dict[int, float]], first: int, right: bool
) -> list[tuple[int, float]]:
    """Final rulings after the first round's, with their chances."""
    if first == Ruling.NO_QUORUM:
        standing = list(later[rules.redraw_panel].items())
    else:
        standing = [(first, 1.0)]
    ends = []
    for given, chance in standing:
        if given != Ruling.NO_QUORUM and not bool(_unjust(np.array(given), right)):
            ends.append((given, chance))
            continue
        ends.append((given, chance * (1 - setting.appealed)))
        for kind, more in later[rules.appeal_panel].items():
            stays = kind in left_as_it_was(rules)
            ends.append((given if stays else kind, chance * setting.appealed * more))
    return ends


# ---------------------------------------------------------------------------- simulation


def simulated(
    rules: Rules, world: World, voter: Voter, setting: Setting, runs: int, seed: int
) -> float:
    """The same mean from drawn panels; the first place is the juror looked at."""
    chance = np.random.default_rng(seed)
    right = chance.random(runs) < setting.right

    def panel(size: int, first: bool) -> tuple[Ints, Ints]:
        alike = chance.random((runs, size)) < setting.alike
        if first:
            alike[:, 0] = True
        votes = np.broadcast_to(np.where(right, RIGHT, WRONG)[:, None], (runs, size)).astype(
            np.int64
        )
        for law, rows in ((voter.if_right, right), (voter.if_wrong, ~right)):
            drawn = np.searchsorted(np.cumsum(law), chance.random((runs, size)), "right")
            votes = np.where(alike & rows[:, None], np.minimum(drawn, SILENT), votes).astype(
                np.int64
            )
        counts = np.stack([(votes == kind).sum(axis=1) for kind in range(_VOTES)], axis=1)
        return votes[:, 0], _judge(counts, size)

    mine, final = panel(rules.panel, True)
    redrawn = panel(rules.redraw_panel, False)[1]
    final = np.where(final == Ruling.NO_QUORUM, redrawn, final)
    unjust = np.where(right, _unjust(final, True), _unjust(final, False)) | (
        final == Ruling.NO_QUORUM
    )
    appealed = unjust & (chance.random(runs) < setting.appealed)
    last = panel(rules.appeal_panel, False)[1]
    stays = np.isin(last, left_as_it_was(rules))
    final = np.where(appealed & ~stays, last, final)
    return float(pay(rules, mine, final).mean()) - voter.cost(world)
