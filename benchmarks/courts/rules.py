# SPDX-License-Identifier: Apache-2.0
"""The rules of a dispute as numbers, and what the figures assume about the world.

Amounts are in units of p, the price of the disputed job, unless a name says otherwise. TPF counts
at its value in payment token. The rule of a ruling stands here once, in the contract's own words;
the formulas use thresholds that were derived from it by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Ruling(IntEnum):
    """How a round ended."""

    NO_QUORUM = 0
    PROVIDER = 1
    TENANT = 2
    WITHHELD = 3  # for the tenant as well
    UNDECIDED = 4  # the provider is paid


class Party(IntEnum):
    """The party that is in the wrong; the other one is honest."""

    PROVIDER = 0
    TENANT = 1


@dataclass(frozen=True)
class Rules:
    """What a deployment fixes. Defaults are the sizes that the page chooses."""

    panel: int = 3
    redraw_panel: int = 5
    appeal_panel: int = 11
    fee: float = 0.30
    """What a vote is paid."""
    small_fees: float = 4
    """The fine for a vote against the final ruling, in fees."""
    big_fees: float = 8
    """The fine for silence, in fees."""
    attendance: float = 0.002
    """What a vote earns on a WITHHELD ruling: about its gas."""
    undecided_part: float = 0.5
    """The part of a fee that a vote earns where jurors that ran the job disagree."""
    appealable_silence: bool = True
    """Two rounds without a quorum can be appealed."""
    undecided_stays: bool = True
    """An appeal whose jurors disagree leaves the ruling; else it pays the provider."""
    late_part: float = 0.5
    """Of the fees, the tenant's part at most where an appeal has turned WITHHELD."""
    protocol_fee: float = 0.01
    victim_part: float = 0.8
    """The part of the collateral that a seizure gives to the tenant."""

    @property
    def small(self) -> float:
        return self.small_fees * self.fee

    @property
    def big(self) -> float:
        return self.big_fees * self.fee

    @property
    def fee_votes(self) -> int:
        """Fees in the bond of a dispute: a full redraw, and the votes of a round without quorum."""
        return self.panel // 2 + self.redraw_panel

    @property
    def dispute_bond(self) -> float:
        return 1 + self.fee_votes * self.fee

    @property
    def appeal_bond(self) -> float:
        return self.appeal_panel * self.fee


@dataclass(frozen=True)
class Money:
    """What a deployment fixes in payment token (USD), seconds and TPF."""

    min_fee: float = 0.50
    fee_per_hour: float = 0.25
    """A vote is never paid less than this for an hour of the job's duration."""
    price_per_seat: float = 2.0
    """A judged order of that price asks for one seat more."""
    panel_min: int = 30
    draw_hours: float = 1.0
    commit_hours: float = 4.0
    reveal_hours: float = 4.0
    redraw_hours: float = 48.0
    """In its first half only the requester calls for the second panel."""
    appeal_hours: float = 24.0

    def fee(self, price: float, hours: float, rules: Rules) -> float:
        """What a vote on a job is paid, in USD."""
        return max(self.min_fee, rules.fee * price, self.fee_per_hour * hours)


@dataclass(frozen=True)
class World:
    """What the figures assume, where nothing else is said."""

    colluding: float = 0.2
    """s, the part of the seats that one party controls."""
    absent: float = 0.05
    """a, the part of the places whose juror is honest and does not vote."""
    run: float = 0.20
    """What a run costs a juror that has the machine anyway: energy and wear."""
    fetch: float = 0.005
    """What it costs to fetch the attested bytes."""
    gas: float = 0.002
    """What a commit and a reveal cost."""
    collateral: float = 3.0
    """C, the collateral of the job."""
    saved: float = 0.7
    """c, what a provider saves that does not do the work."""


SHIPPED = Rules()
MONEY = Money()
WORLD = World()


def ruling(right: Ints, wrong: Ints, withheld: Ints, size: int, strays: int | Ints = 0) -> Ints:
    """The ruling of a round from its revealed votes, as the contract says it.

    Args:
        right: RIGHT votes; each has shown the seal of the attested result.
        wrong: the largest group of WRONG votes with one seal.
        withheld: WITHHELD votes.
        size: places of the panel.
        strays: WRONG votes outside the largest group.
    """
    revealed = right + wrong + withheld + strays
    ran = revealed - withheld
    return np.select(
        [
            2 * revealed <= size,
            3 * withheld >= 2 * revealed,
            2 * right > revealed,
            2 * wrong > ran,
            2 * (withheld + wrong) > revealed,
        ],
        [Ruling.NO_QUORUM, Ruling.WITHHELD, Ruling.PROVIDER, Ruling.TENANT, Ruling.WITHHELD],
        Ruling.UNDECIDED,
    ).astype(np.int64)
