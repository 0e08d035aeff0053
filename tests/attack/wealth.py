# SPDX-License-Identifier: Apache-2.0
"""What the people of a market own, and what its contracts hold for them, by their views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tests.contracts.deploy import TPF, USD
from tests.contracts.stateful.lens import Lens, first_words, words

# TPF wei that a unit of the payment token counts for.
WORTH = TPF // USD


@dataclass(frozen=True)
class Wealth:
    """What everybody owns, and what the contracts hold for them."""

    usd: dict[str, int]
    tpf: dict[str, int]
    fees: int
    held: int
    """Payment token of the contract that pays."""
    owed: int
    """Its credits."""
    staking: int
    """TPF of Staking."""
    pools: int
    """What Staking owes."""
    supply: int

    def of(self, *people: str) -> int:
        """TPF wei, the payment token at its worth."""
        return sum(self.usd[who] * WORTH + self.tpf[who] for who in people)

    def since(self, before: Wealth) -> tuple[dict[str, int], dict[str, int]]:
        """What everybody has more than before: units, TPF wei."""
        usd = {who: amount - before.usd[who] for who, amount in self.usd.items()}
        return usd, {who: amount - before.tpf[who] for who, amount in self.tpf.items()}


M = TypeVar("M", contravariant=True)
P = TypeVar("P", covariant=True)


class Stage(Protocol[M, P]):
    """A moment of a court or of leases."""

    before: Wealth

    def play(self, moves: Sequence[M], /) -> tuple[P, Wealth]:
        """All to its end, undone."""


def played(at: Stage[M, P], *moves: M) -> tuple[P, dict[str, int], dict[str, int]]:
    """A play to its end, and what everybody has more then: units, TPF wei."""
    play, after = at.play(moves)
    return (play, *after.since(at.before))


class Purse:
    """Reads the wealth of `people`, of which `stakers` have pools; `payer` is who pays: jobs or
    leases.
    """

    def __init__(
        self,
        lens: Lens,
        addresses: Mapping[str, str],
        payer: str,
        people: Sequence[str],
        stakers: Sequence[str],
    ) -> None:
        self._lens, self._people, self._stakers = lens, tuple(people), tuple(stakers)
        found = []
        for who in people:
            found += [
                lens.record("payment", "balanceOf", who),
                lens.record(payer, "credit_of", who),
                lens.record("token", "balanceOf", who),
                lens.record("staking", "credit_of", who),
            ]
        found += [lens.record("staking", "pool", who) for who in stakers]
        found += [
            lens.record(payer, "accrued_fees"),
            lens.record("payment", "balanceOf", addresses[payer]),
            lens.record("token", "balanceOf", addresses["staking"]),
            lens.record("token", "totalSupply"),
        ]
        self._records = b"".join(found)

    def look(self) -> Wealth:
        """Now."""
        answer = self._lens.look(self._records)
        first = first_words(answer)
        usd, tpf, owed, pools = {}, {}, 0, 0
        for n, who in enumerate(self._people):
            usd[who] = first[4 * n] + first[4 * n + 1]
            tpf[who] = first[4 * n + 2] + first[4 * n + 3]
            owed += first[4 * n + 1]
            pools += first[4 * n + 3]
        at = 4 * len(self._people)
        for n, who in enumerate(self._stakers, at):
            active, _, _, _, unbonding = words(answer, n, 5)
            tpf[who] += active + unbonding
            pools += active + unbonding
        fees, held, staking, supply = first[at + len(self._stakers) :]
        return Wealth(usd, tpf, fees, held, owed, staking, pools, supply)
