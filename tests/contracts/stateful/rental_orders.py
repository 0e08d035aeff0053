# SPDX-License-Identifier: Apache-2.0
"""The machine of leases: what it keeps, what it compares, and how leases are made.

The machine knows promises (`lease_model`). After every call it holds what everybody owns against
them: what no rule names must not have moved (I-12), and what the contract holds is what the leases,
the credits and the fees come to (I-1).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.messages import LeaseQuote
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD
from tests.contracts.deploy import DAY, TPF
from tests.contracts.stateful.driver import Choices, Tally, action
from tests.contracts.stateful.lease_model import Life, Tenancy
from tests.contracts.stateful.lease_world import FAR, PEOPLE, lease_world
from tests.contracts.stateful.machine import Why
from tests.contracts.stateful.world import STRANGER, TENANTS, short, signature

SPEC = bytes(keccak(text="lease specification"))
Moved = Counter[str]
GONE = "leases: not active"


def some(status: LeaseStatus) -> Any:
    """Whether there is a lease in this state."""
    return lambda machine: machine.of(status)


class RentalOrders:
    """Two tenants, two providers, a stranger: the books, and how leases are made."""

    def __init__(self) -> None:
        self.world = lease_world()
        self.chain, self.p = self.world.chain, self.world.suite.parameters
        self._kept = self.chain.snapshot()
        self.choices, self.tally = Choices(0), Tally()
        self.notes: list[str] | None = None
        self.leases: list[Tenancy] = []
        self.lives = {owner: Life(self.p.max_gap) for owner in self.world.operators}
        self.scores: Counter[str] = Counter()
        self.numbers: dict[str, int] = {}
        self.dead: set[str] = set()
        self.slashed: set[str] = set()
        self.quotes: Counter[str] = Counter()
        self.fresh, self.grace, self.fee = 0, self.p.grace, self.p.fee_bps
        self.paused_until = 0
        self.owed, self.fees = self.read()

    # ------------------------------------------------------------------------------- tools

    @property
    def now(self) -> int:
        return self.chain.now

    def note(self, text: str) -> None:
        if self.notes is not None:
            self.notes.append(text)

    def end(self) -> None:
        self.chain.revert(self._kept)

    def pick(self, options: Any) -> Any:
        return self.choices.pick(options)

    def chance(self, probability: float) -> bool:
        return self.choices.chance(probability)

    def go_to(self, time: int) -> None:
        if time > self.now:
            self.note(f"{self.now}: go to {time} (+{time - self.now})")
            self.chain.now = time

    def of(self, status: LeaseStatus) -> list[Tenancy]:
        return [lease for lease in self.leases if lease.status is status]

    @property
    def alive(self) -> list[str]:
        return [owner for owner in self.lives if owner not in self.dead]

    def view(self, contract: str, name: str, *args: Any) -> Any:
        return self.chain.view(contract, name, *args)

    def read(self) -> tuple[Moved, int]:
        credit = {one: self.view("leases", "credit_of", one) for one in PEOPLE}
        return Counter(credit), self.view("leases", "accrued_fees")

    def call(
        self, name: str, args: tuple[Any, ...], sender: str, why: Why, moved: Moved | None = None
    ) -> bool:
        """One call to Leases; it goes through exactly if `why` names nothing.

        `moved` is what it credits; whatever it does not name stays as it was.
        """
        self.note(f"{self.now}: {short(sender)} leases.{name}{short(args)}")
        outcome = self.chain.send("leases", name, args, sender)
        # Before any view is read.
        self.events = self.chain.happened()
        if outcome.reason is not None:
            self.note(f"    refused: {outcome.reason}")
            self.tally.refused[f"leases.{name}"] += 1
            assert why.reasons, f"leases.{name} is refused: {outcome.reason}"
            known = any(part in outcome.reason for part in why.reasons)
            assert known, f"leases.{name} is refused for {outcome.reason!r}, not {why.reasons}"
            return False
        self.tally.ok[f"leases.{name}"] += 1
        assert not why.reasons, f"leases.{name} goes through, against {why.reasons}"
        self.value = outcome.value
        wanted = moved or Counter()
        owed, fees = self.read()
        for one in PEOPLE:
            rise, rule = owed[one] - self.owed[one], wanted[one]
            assert rise == rule, f"I-12: {name} moves {short(one)} |by {rise}, the rule by {rule}"
        assert fees - self.fees == wanted["fees"], f"I-12: {name} moves the fees"
        self.owed, self.fees = owed, fees
        return True

    # ------------------------------------------------------------------------------ orders

    def an_order(self, rate: int, deposit: int | None = None) -> LeaseOrder:
        self.fresh += 1
        term = self.grace + self.pick((1, 300, 3_600, 7_200, DAY, 3 * DAY))
        top = rate * self.pick((1, 1, 2, 3))
        paid = deposit or top * self.choices.between(min(self.grace + 1, term), term)
        return LeaseOrder(
            SPEC,
            rate,
            top,
            min(paid + self.pick((0, 0, top - 1)), top * term),
            self.pick((0, 10, 100, 1_000)) * TPF,
            self.pick((1, 600, 3_600, 7_200)),
            term,
            self.pick((0, 60, self.choices.log(1, term))) % (term + 1),
            self.pick((0, 1_000)),
            0,
            self.pick((0, 0, 0, 30, 60)),
            ZERO_WORD,
            self.fresh,
        )

    def terms_for(self, tenant: str, order: LeaseOrder) -> LeaseTerms:
        paused = self.view("leases", "paused_seconds")
        return LeaseTerms(tenant, self.now, self.grace, self.fee, paused, order)

    @action(4)
    def open(self) -> None:
        tenant = self.pick(TENANTS)
        order = self.an_order(self.pick((1, 7, 300, 10**6)))
        why, credit = Why(), self.owed[tenant] >= order.deposit
        why.need(self.now >= self.paused_until, "orders are paused")
        moved = Counter({tenant: -order.deposit}) if credit else None
        lease = Tenancy(self.terms_for(tenant, order))
        if self.call("open", (order.abi_tuple(), credit), tenant, why, moved):
            assert self.value == lease.id
            self.leases.append(lease)

    def locking(self, why: Why, owner: str, amount: int) -> None:
        """What a lock asks for, by the views of Staking, which has a machine of its own."""
        per_order, in_all = self.view("staking", "lock_limits", owner)
        locked = self.view("staking", "pool", owner)[1]
        if amount:
            why.need(amount <= per_order, "limit per order")
            why.need(locked + amount <= in_all, "limit in all")
            own = self.view("staking", "owner_assets", owner)
            own = own[0] if isinstance(own, tuple) else own
            why.need(locked + amount <= own, "own stake too low")

    @action(8, some(LeaseStatus.OPEN))
    def accept(self) -> None:
        lease, owner = self.pick(self.of(LeaseStatus.OPEN)), self.pick([*self.lives])
        if owner in self.dead:
            return
        order, why = lease.terms.order, Why()
        paused = self.view("leases", "paused_seconds") - lease.terms.paused
        elapsed = self.now - lease.terms.posted_at - paused
        why.need(self.now >= self.paused_until, "orders are paused")
        why.need(elapsed <= order.auction + self.p.open_margin, "no longer open")
        self.locking(why, owner, order.collateral)
        if order.min_score:
            free = self.scores[owner] - self.reserved(owner)
            why.need(order.min_score <= free, "score too low")
        operator = self.world.operators[owner]
        if self.call("accept", (lease.terms.abi_tuple(), []), operator, why):
            assert self.value == lease.terms.rate_after(elapsed)
            self.take(lease, owner, self.value)
            self.perhaps_ready(lease)

    def take(self, lease: Tenancy, owner: str, rate: int) -> None:
        lease.status, lease.provider, lease.rate = LeaseStatus.ASSIGNED, owner, rate
        lease.assigned_at, lease.life = self.now, self.lives[owner]
        self.numbers.setdefault(owner, len(self.numbers) + 1)

    def reserved(self, owner: str) -> int:
        return sum(
            lease.terms.order.min_score
            for lease in self.leases
            if lease.provider == owner and lease.status is not LeaseStatus.NONE
        )

    @action(3, lambda machine: machine.alive)
    def hire(self) -> None:
        owner, tenant = self.pick(self.alive), self.pick(TENANTS)
        operator = self.world.operators[owner]
        like = self.an_order(self.pick((1, 300)))
        self.quotes[owner] += self.pick((0, 1, 1, 1, 1))
        quote = LeaseQuote(
            operator,
            self.pick((ZERO_ADDRESS, tenant, TENANTS[0])),
            SPEC,
            like.max_rate,
            like.collateral,
            like.ready_within,
            like.term,
            like.notice,
            self.pick((FAR, self.now, self.now - 1)),
            self.quotes[owner],
        )
        why = Why()
        why.need(self.now >= self.paused_until, "orders are paused")
        why.need(quote.expires >= self.now, "expired")
        why.need(quote.requester in (ZERO_ADDRESS, tenant), "another requester")
        why.need(not self.view("leases", "quote_used", operator, quote.nonce), "used")
        self.locking(why, owner, quote.collateral)
        lease = Tenancy(self.terms_for(tenant, quote.order(like.deposit)))
        signed = signature(self.world.leases, quote, operator)
        if self.call("hire", (quote.abi_tuple(), signed, like.deposit, False), tenant, why):
            assert self.value == lease.id
            self.leases.append(lease)
            self.take(lease, owner, quote.rate)
            self.perhaps_ready(lease)

    @action(0.5, some(LeaseStatus.OPEN))
    def cancel(self) -> None:
        lease = self.pick(self.of(LeaseStatus.OPEN))
        if self.chance(0.3):
            self.go_to(lease.terms.open_until(self.p.open_margin) + self.pick((0, 1)))
        self.cancel_lease(lease, self.pick((lease.terms.requester, STRANGER)))

    def cancel_lease(self, lease: Tenancy, sender: str) -> bool:
        why, paused = Why(), self.view("leases", "paused_seconds") - lease.terms.paused
        late = self.now > lease.terms.open_until(self.p.open_margin, paused)
        why.need(sender == lease.terms.requester or late, "still open")
        moved = Counter({lease.terms.requester: lease.deposited})
        done = self.call("cancel", (lease.terms.abi_tuple(),), sender, why, moved)
        if done:
            lease.status = LeaseStatus.NONE
        return done

    def operator_call(self, name: str, lease: Tenancy, why: Why, moved: Any = None) -> bool:
        """By the operator mostly, else by somebody who may not."""
        sender = self.world.operators[lease.provider]
        if self.chance(0.05):
            sender = self.pick((lease.provider, lease.terms.requester, STRANGER))
            why.need(False, "not the operator")
        elif lease.provider in self.dead:
            return False
        return self.call(name, (lease.terms.abi_tuple(),), sender, why, moved)

    def perhaps_ready(self, lease: Tenancy) -> None:
        """Most providers are quick, and most tenants content."""
        if self.chance(0.8):
            self.get_ready(lease)
        if lease.ready_at and self.chance(0.6):
            assert self.call("confirm", (lease.terms.abi_tuple(),), lease.terms.requester, Why())
            lease.confirmed = True

    def get_ready(self, lease: Tenancy) -> None:
        why = Why()
        why.need(self.now <= lease.ready_until, "too late to be ready")
        if self.operator_call("ready", lease, why):
            lease.status, lease.ready_at = LeaseStatus.ACTIVE, self.now
            lease.life.beat(self.now)
