# SPDX-License-Identifier: Apache-2.0
"""The moments of leases: who is hostile, what the hostile gain, what the honest were promised.

What a tenant has used counts at the rate of its lease; what a provider has served, too. So a gain
is rent without service, service without rent, collateral of others, or anybody's deposit.
"""

from __future__ import annotations

from collections.abc import Sequence

from teraproof.protocol.lease_terms import Ending, LeaseStatus, LeaseTerms, lease_state_of
from tests.attack.judged import ROUNDING, Judged
from tests.attack.lease_moves import LeaseMove
from tests.attack.lease_play import TICK, LeasePlay
from tests.attack.leasehold import (
    BYSTANDER,
    PROVIDER,
    PUPPET,
    RATE,
    RIVAL,
    TENANT,
    Leasehold,
    leasehold,
)
from tests.attack.play import BrokenPromise
from tests.attack.wealth import WORTH, Wealth
from tests.contracts.stateful.world import PAYOUTS

# Sides that are hostile, with a puppet of theirs.
LEASES: dict[str, tuple[str, ...]] = {
    "lessee": ("tenant",),
    "lessor": ("provider",),
    "front": ("tenant", "provider"),
    "outsider": (),
}
FACES = {"tenant": (TENANT,), "provider": (PROVIDER, PAYOUTS[0])}
GUILTY = (Ending.NOT_READY, Ending.BY_PROVIDER, Ending.ABANDONED)
BPS = 10_000


class Tenement:
    """A moment at which a lease is about to be opened."""

    def __init__(self, name: str, room: Leasehold | None = None) -> None:
        self.name, self.sides = name, LEASES[name]
        self.room = room or leasehold()
        self.before, self.kept = self.room.wealth(), self.beside()

    def play(self, moves: Sequence[LeaseMove]) -> tuple[LeasePlay, Wealth]:
        """A lease to its end, undone."""
        chain = self.room.chain
        kept = chain.snapshot()
        play = LeasePlay(self.room, frozenset(self.sides))
        try:
            for move in moves:
                move(play)
            play.run()
            after = self.room.wealth()
            self.check(play, after)
            play.beside_rent = self.beside_rent(after)
        finally:
            chain.revert(kept)
        return play, after

    def judge(self, moves: Sequence[LeaseMove]) -> Judged:
        """Whether a strategy gains, or breaks a promise."""
        sent = self.room.chain.sent
        try:
            play, after = self.play(moves)
        except BrokenPromise as broken:
            return Judged(0, self.room.chain.sent - sent, str(broken))
        gain, calls = self.gain(play, after), self.room.chain.sent - sent
        fault = f"gains {gain} wei" if gain > ROUNDING * calls else ""
        return Judged(gain, calls, fault)

    # ------------------------------------------------------------------------------- counting

    def beside(self) -> int:
        """Payment token that Leases holds for the bystander's leases."""
        return sum(self.held(terms) for terms in self.room.beside.values())

    def held(self, terms: LeaseTerms) -> int:
        state = lease_state_of(self.room.view("leases.state", terms.lease_id()))
        if state.status is LeaseStatus.NONE:
            return 0
        return state.deposited - net(state.paid * RATE, terms)

    def more(self, after: Wealth, *people: str) -> tuple[int, int]:
        """What some people have more: units, TPF wei."""
        usd = sum(after.usd[who] - self.before.usd[who] for who in people)
        return usd, sum(after.tpf[who] - self.before.tpf[who] for who in people)

    def worth(self, play: LeasePlay) -> int:
        """Units that the service was worth, as far as the deposit pays; in the grace it is free."""
        if play.ending is None or play.is_free:
            return 0
        return min(play.served, play.deposited // play.price) * play.price

    def gain(self, play: LeasePlay, after: Wealth) -> int:
        """TPF wei that the hostile have more than what was due to them."""
        usd, tpf = self.more(after, PUPPET, *(who for side in self.sides for who in FACES[side]))
        if self.sides == ("tenant",):
            usd += self.worth(play)
        elif self.sides == ("provider",):
            usd -= play.price * (play.served + TICK * play.gaps)
        if "provider" in self.sides:
            usd -= play.beside_rent
        return usd * WORTH + tpf

    # ------------------------------------------------------------------------------- promises

    def check(self, play: LeasePlay, after: Wealth) -> None:
        """BrokenPromise unless money is conserved and the honest have what they were promised."""
        self.conserved(after)
        self.bystander_is_whole(after)
        if play.price != play.due:
            raise BrokenPromise(f"taken at {play.price} per second, and not at {play.due}")
        if "provider" not in self.sides:
            self.provider_is_whole(play, after)
        if "tenant" not in self.sides:
            self.tenant_is_whole(play, after)

    def conserved(self, after: Wealth) -> None:
        before, kept = self.before, self.beside()
        if after.held != after.owed + after.fees + kept:
            raise BrokenPromise(f"Leases holds {after.held}, owes {after.owed + after.fees + kept}")
        if after.staking != after.pools:
            raise BrokenPromise(f"Staking holds {after.staking} and owes {after.pools}")
        was = sum(before.usd.values()) + before.fees + self.kept
        if was != sum(after.usd.values()) + after.fees + kept:
            raise BrokenPromise("payment tokens came or went")
        if before.supply - sum(before.tpf.values()) != after.supply - sum(after.tpf.values()):
            raise BrokenPromise("TPF came or went, beyond what was burned")

    def beside_rent(self, after: Wealth) -> int:
        """Units that the bystander has paid for its leases."""
        return self.kept - self.beside() - self.more(after, BYSTANDER)[0]

    def bystander_is_whole(self, after: Wealth) -> None:
        """It pays for its leases at most by the second, and the rival loses nothing."""
        began = min(terms.posted_at for terms in self.room.beside.values())
        if not 0 <= self.beside_rent(after) <= RATE * (self.room.chain.now - began):
            raise BrokenPromise(f"a bystander pays {self.beside_rent(after)} units")
        if self.more(after, BYSTANDER, RIVAL)[1] < 0:
            raise BrokenPromise("somebody who has nothing to do with it loses stake")

    def provider_is_whole(self, play: LeasePlay, after: Wealth) -> None:
        """Paid for all that it has served, its collateral untouched; the bystander's lease runs."""
        usd, tpf = self.more(after, *FACES["provider"])
        if tpf < 0:
            raise BrokenPromise(f"an honest provider loses {-tpf} wei")
        if usd < net(self.worth(play), play.terms):
            raise BrokenPromise(f"{usd} units are paid for service of {self.worth(play)}")
        if not self.worth(play) and play.served > play.terms.grace + TICK:
            raise BrokenPromise(f"{play.served} seconds for nothing")
        if not self.held(self.room.beside[PROVIDER]):
            raise BrokenPromise("somebody else's lease has ended")

    def tenant_is_whole(self, play: LeasePlay, after: Wealth) -> None:
        """It pays for what it had, and until it sees that it has it no more; and is compensated."""
        usd, tpf = self.more(after, TENANT)
        rent = play.price * (play.served + TICK * play.gaps)
        if -usd > rent:
            raise BrokenPromise(f"a tenant pays {-usd} units for service of {rent}")
        reason = play.ending["reason"] if play.ending else Ending.BY_TENANT
        due = play.terms.order.collateral * play.p.victim_bps // BPS if reason in GUILTY else 0
        if tpf < due:
            raise BrokenPromise(f"a tenant gets {tpf} wei of a collateral, not {due}")
        if play.ending is None and usd < 0:
            raise BrokenPromise("a lease that nobody took costs something")


def net(rent: int, terms: LeaseTerms) -> int:
    """A rent less its fee."""
    return rent - rent * terms.fee_bps // BPS
