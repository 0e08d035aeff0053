# SPDX-License-Identifier: Apache-2.0
"""One dispute from its panels to the last payment, for many panels at once.

A coalition is one party and some jurors. Its jurors are as well informed as can be: they know how
many honest jurors of a panel vote. They vote falsely only where that wins the round, are silent
only where that breaks its quorum, and else vote with the honest ones and take the fee. So a fine
for a vote against the ruling meets them only after an appeal. The other party is honest and
appeals what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.courts.rules import Floats, Ints, Party, Rules, Ruling, ruling

_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Strategy:
    """What a coalition does besides voting."""

    silences: bool = False
    """Its jurors are silent in the first two rounds wherever that breaks the quorum."""
    appeals: bool = False
    """It appeals a ruling against it."""


FALSE, JUST, QUIET = range(3)
"""What a coalition's jurors of a panel do together."""


class Plan(NamedTuple):
    """Any behaviour: what its jurors do, by (own votes, honest votes) of their panel."""

    first: Ints
    second: Ints
    ahead: Ints
    """In the appeal of the honest party."""
    behind: Ints
    """In its own appeal."""


STRATEGIES = tuple(Strategy(*flags) for flags in product((False, True), repeat=2))


class Panel(NamedTuple):
    """Votes in hand, for each dispute: of the coalition, and of honest jurors that are there."""

    colluding: Ints
    honest: Ints


class Round(NamedTuple):
    """What was revealed. `own` are votes of the coalition, `just` those of honest jurors."""

    held: _Bools
    ruling: Ints
    own_false: Ints
    own_just: Ints
    own_silent: Ints
    just: Ints
    withheld: _Bools
    """The false votes are WITHHELD ones."""


class Ledger(NamedTuple):
    """How disputes ended, and who has got what; the price itself and collateral are left out."""

    wrong: _Bools
    """It ended against the honest party."""
    undecided: _Bools
    coalition: Floats
    """Its jurors' fees less its fines, and what it has paid of its bonds."""
    honest_party: Floats
    honest_jurors: Floats
    burned: Floats


def hold(
    liar: Party,
    size: int,
    panel: Panel,
    held: _Bools,
    silences: bool,
    standing: Ints | None,
    plan: Plan | None = None,
    stays: bool = False,
) -> Round:
    """One round. `standing` is the ruling under appeal, in the last round."""
    k, m = panel
    quorum = 2 * (k + m) > size
    # A tie is UNDECIDED, which pays the provider.
    wins = quorum & ((k >= m) if liar is Party.PROVIDER else (k > m))
    quiet = (2 * m <= size) & np.full(k.shape, silences)
    if liar is Party.TENANT:
        quiet &= ~wins  # a tenant only gains another panel
    if standing is not None:
        # Whoever has won before gains by no quorum. A tie may leave the ruling, or not.
        ahead = favours(liar, standing)
        if stays:
            wins = quorum & np.where(ahead, k >= m, k > m)
        quiet = ahead & (2 * m <= size) & ~wins & quorum
    wins &= ~quiet
    if plan is not None:
        does = _planned(plan, size, panel, standing, liar)
        wins, quiet = does == FALSE, does == QUIET
    false = np.where(wins, k, 0)
    silent = np.where(quiet, k, 0)
    own_just = k - false - silent
    just = m
    withheld = np.full(k.shape, liar is Party.TENANT) & (false >= 2 * just)
    zero = np.zeros_like(k)
    if liar is Party.PROVIDER:
        votes = ruling(false, own_just + just, zero, size)
    else:
        by_seal, by_want = np.where(withheld, 0, false), np.where(withheld, false, 0)
        votes = ruling(own_just + just, by_seal, by_want, size)
    return Round(held, votes, false, own_just, silent, just, withheld)


def _planned(plan: Plan, size: int, panel: Panel, standing: Ints | None, liar: Party) -> Ints:
    k, m = panel
    if standing is not None:
        return np.where(favours(liar, standing), plan.ahead[k, m], plan.behind[k, m])
    return plan.first[k, m] if size + 1 == plan.first.shape[0] else plan.second[k, m]


def left_as_it_was(rules: Rules) -> tuple[Ruling, ...]:
    """What an appeal may come to that leaves the earlier ruling."""
    kinds = (Ruling.NO_QUORUM, Ruling.UNDECIDED)
    return kinds if rules.undecided_stays else kinds[:1]


def favours(liar: Party, given: Ints) -> _Bools:
    """The ruling is what the liar wants."""
    if liar is Party.PROVIDER:
        return np.isin(given, (Ruling.PROVIDER, Ruling.UNDECIDED, Ruling.NO_QUORUM))
    return np.isin(given, (Ruling.TENANT, Ruling.WITHHELD))


def conduct(
    rules: Rules,
    liar: Party,
    strategy: Strategy,
    panels: Sequence[Panel],
    alert: bool = True,
    plan: Plan | None = None,
) -> Ledger:
    """Whole disputes: first panel, redraw without a quorum, appeal, payments.

    Args:
        rules: sizes, fees, fines.
        liar: the party that is wrong, and has the coalition's jurors.
        strategy: what the coalition does.
        panels: of the first round, the redraw and the appeal, whether they will be needed or not.
        alert: the honest party appeals what is wrong.
        plan: what the coalition's jurors do, instead of what suits the strategy.
    """
    everywhere = np.ones(panels[0].honest.shape, dtype=bool)
    first = hold(liar, rules.panel, panels[0], everywhere, strategy.silences, None, plan)
    again = first.ruling == Ruling.NO_QUORUM
    # A second round without quorum gives a tenant nothing, so its jurors break only the first one.
    quiet = strategy.silences and liar is Party.PROVIDER
    second = hold(liar, rules.redraw_panel, panels[1], again, quiet, None, plan)
    standing = np.where(again, second.ruling, first.ruling)
    nobody = standing == Ruling.NO_QUORUM
    ahead = favours(liar, standing)
    by_honest = ahead & (~nobody | rules.appealable_silence) & alert
    by_liar = ~ahead & ~nobody & strategy.appeals
    appealed = by_honest | by_liar
    third = hold(
        liar, rules.appeal_panel, panels[2], appealed, False, standing, plan, rules.undecided_stays
    )
    stays = appealed & np.isin(third.ruling, left_as_it_was(rules))
    final = np.where(appealed & ~stays, third.ruling, standing)
    hollow = appealed & (third.ruling == Ruling.NO_QUORUM)
    late = appealed & (standing == Ruling.WITHHELD) & (final != Ruling.WITHHELD)
    late &= final != Ruling.TENANT
    return _settle(rules, liar, (first, second, third), final, hollow, late, by_honest, by_liar)


def _settle(
    rules: Rules,
    liar: Party,
    rounds: Sequence[Round],
    final: Ints,
    hollow: _Bools,
    late: _Bools,
    by_honest: _Bools,
    by_liar: _Bools,
) -> Ledger:
    """Fees, fines and bonds. `hollow`: the appeal had no quorum; `late`: it turned WITHHELD."""
    fee = rules.fee
    wrong = favours(liar, final)
    undecided, nobody = final == Ruling.UNDECIDED, final == Ruling.NO_QUORUM
    own_pay = np.zeros(final.shape)
    just_pay, fines, just_fines, after = (np.zeros(final.shape) for _ in range(4))
    want = final == Ruling.WITHHELD  # every vote earns attendance
    for number, entry in enumerate(rounds):
        empty = entry.ruling == Ruling.NO_QUORUM
        every = nobody | (hollow if number == 2 else False)
        cases, attends = [every, want, undecided, wrong], rules.attendance / fee
        part_false = np.select(cases, [1, attends, rules.undecided_part, 1], 0)
        part_just = np.select(cases, [1, attends, rules.undecided_part, 0], 1)
        # WITHHELD votes next to a WRONG ruling are not of its kind.
        part_false = np.where(entry.withheld & ~want & ~every, 0, part_false)
        own = fee * (entry.own_false * part_false + entry.own_just * part_just) * entry.held
        just = fee * entry.just * part_just * entry.held
        own_pay, just_pay = own_pay + own, just_pay + just
        if number == 2:
            after = np.where(hollow, own + just, 0)  # paid by whoever appealed
        fined = entry.held & ~empty & ~want & ~undecided & ~nobody
        against_false = fined & ~wrong & ~entry.withheld
        fines += entry.held * entry.own_silent * rules.big + rules.small * (
            against_false * entry.own_false + (fined & wrong) * entry.own_just
        )
        just_fines += rules.small * (fined & wrong) * entry.just
    due = own_pay + just_pay - after
    appeal_bond = rules.appeal_bond
    tenant_lies = liar is Party.TENANT
    liar_bond = (rules.dispute_bond if tenant_lies else 0) + appeal_bond * by_liar
    honest_bond = (0 if tenant_lies else rules.dispute_bond) + appeal_bond * by_honest
    # Without any ruling the fee part of the dispute's bond pays, whoever was right.
    tenant_pays = due * nobody
    loser_bond = np.where(wrong, honest_bond, liar_bond)
    share = np.where(late, rules.late_part, 1.0)
    by_loser = np.minimum(share * due * ~nobody, loser_bond)
    by_winner = due * ~nobody - by_loser
    liar_pays = np.where(wrong, by_winner, by_loser) + after * by_liar
    honest_pays = np.where(wrong, by_loser, by_winner) + after * by_honest
    if tenant_lies:
        liar_pays = liar_pays + tenant_pays
    else:
        honest_pays = honest_pays + tenant_pays
    return Ledger(
        wrong & ~(nobody & tenant_lies),
        undecided,
        own_pay - fines - liar_pays,
        -honest_pays,
        just_pay - just_fines,
        fines + just_fines,
    )
