# SPDX-License-Identifier: Apache-2.0
"""What the rules of the court say of a dispute, reckoned from its votes alone.

The demo holds the balances on chain against this: it is written from docs/specification.md, not
from the contracts. Amounts are payment token units, and TPF wei where that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from teraproof.courts.docket import Round
from teraproof.courts.votes import Ruling, Vote


@dataclass(frozen=True)
class Sizes:
    """What a market's court asks, and what a job in it costs."""

    panels: tuple[int, int, int]
    """Votes of each round's jury."""
    fee: int
    attendance: int
    small_fine: int
    """TPF wei a vote against the ruling."""
    big_fine: int
    """TPF wei a vote that is missing."""
    price: int
    market_fee: int
    """Of the price, where the provider is paid."""

    @property
    def bond(self) -> int:
        """Of the dispute."""
        return self.price + (self.panels[1] + self.panels[0] // 2) * self.fee

    @property
    def appeal_bond(self) -> int:
        """Of the appeal."""
        return self.panels[2] * self.fee


@dataclass(frozen=True)
class Found:
    """A ruling; `claim` says which other result a jury found, where it found one."""

    ruling: Ruling
    claim: bytes = b""


@dataclass
class Ledger:
    """What the end of a dispute does: payment token units by account, TPF wei of fines by juror."""

    found: Found
    paid: Counter[str] = field(default_factory=Counter)
    fined: Counter[str] = field(default_factory=Counter)


def jury_finds(jury: Round, votes: int) -> Found:
    """What one jury has found; `votes` are those that it was to have."""
    cast = [(place.vote, place.kept, place.votes) for place in jury.places if place.vote]
    revealed = sum(count for _, _, count in cast)
    if revealed * 2 <= votes:
        return Found(Ruling.NONE)
    withheld = sum(count for vote, _, count in cast if vote is Vote.WITHHELD)
    right = sum(count for vote, _, count in cast if vote is Vote.RIGHT)
    if withheld * 3 >= revealed * 2:
        return Found(Ruling.WITHHELD)
    if right * 2 > revealed:
        return Found(Ruling.RIGHT)
    wrong = Counter[bytes]()
    for vote, kept, count in cast:
        if vote is Vote.WRONG:
            wrong[kept] += count
    claim, most = wrong.most_common(1)[0] if wrong else (b"", 0)
    if most * 2 > revealed - withheld:
        return Found(Ruling.WRONG, claim)
    if (withheld + most) * 2 > revealed:
        return Found(Ruling.WITHHELD)
    return Found(Ruling.UNDECIDED)


def finds(rounds: Sequence[Round], sizes: Sizes) -> Found:
    """What stands at the end: an appeal that decides nothing leaves what was appealed."""
    found = [(jury.number, jury_finds(jury, sizes.panels[jury.number])) for jury in rounds]
    number, last = found[-1]
    if number == 2 and last.ruling in (Ruling.NONE, Ruling.UNDECIDED):
        return found[-2][1]
    return last


def settle(rounds: Sequence[Round], sizes: Sizes, requester: str, provider: str) -> Ledger:
    """Who gets what of price and bonds, and who is fined. The bonds of the loser pay first, but
    half where an appeal has turned WITHHELD.
    """
    final = finds(rounds, sizes)
    ledger = Ledger(final)
    for jury in rounds:
        decided = jury_finds(jury, sizes.panels[jury.number]).ruling is not Ruling.NONE
        for place in jury.places:
            with_it = int(place.vote or 0) == int(final.ruling) and (
                place.vote is not Vote.WRONG or place.kept == final.claim
            )
            if place.vote is None:
                ledger.fined[place.juror] += place.votes * sizes.big_fine
            elif final.ruling is Ruling.UNDECIDED:
                half = 0 if place.vote is Vote.WITHHELD else sizes.fee // 2
                ledger.paid[place.juror] += place.votes * half
            elif final.ruling in (Ruling.NONE, Ruling.WITHHELD):
                ledger.paid[place.juror] += place.votes * sizes.attendance
            elif with_it:
                ledger.paid[place.juror] += place.votes * sizes.fee
            elif decided and place.vote is not Vote.WITHHELD:
                ledger.fined[place.juror] += place.votes * sizes.small_fine
    fees = ledger.paid.total()
    bonds, first = {requester: sizes.bond, provider: 0}, fees
    if rounds[-1].number == 2:
        before = jury_finds(rounds[-2], sizes.panels[rounds[-2].number]).ruling
        bonds[provider if before.is_for_requester else requester] += sizes.appeal_bond
        if before is Ruling.WITHHELD and not final.ruling.is_for_requester:
            first = fees // 2
    winner, loser = (
        (requester, provider) if final.ruling.is_for_requester else (provider, requester)
    )
    first = min(first, bonds[loser])
    bonds[loser] -= first
    bonds[winner] -= fees - first
    ledger.paid.update(bonds)
    price = sizes.price if winner == requester else sizes.price - sizes.market_fee
    ledger.paid[winner] += price
    return ledger
