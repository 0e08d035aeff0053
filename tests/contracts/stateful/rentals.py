# SPDX-License-Identifier: Apache-2.0
"""Leases under random use: heartbeats, gaps, stalls, top-ups, notices, slashes, deaths."""

from __future__ import annotations

from collections import Counter
from typing import Any

from teraproof.protocol.lease_terms import Ending, LeaseStatus
from tests.contracts.deploy import DAY, TPF
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.lease_model import BPS, Tenancy
from tests.contracts.stateful.lease_world import PEOPLE
from tests.contracts.stateful.machine import Why
from tests.contracts.stateful.rental_orders import GONE, RentalOrders, some
from tests.contracts.stateful.world import STRANGER, TENANTS, WARDEN, short


class Rentals(RentalOrders):
    """What becomes of leases: every exit, and all the trouble."""

    # --------------------------------------------------------------------------- providers

    @action(8, some(LeaseStatus.ASSIGNED))
    def ready(self) -> None:
        lease = self.pick(self.of(LeaseStatus.ASSIGNED))
        if self.chance(0.15):
            self.go_to(lease.ready_until + self.pick((0, 1)))
        self.get_ready(lease)

    @action(14, lambda machine: machine.numbers)
    def heartbeat(self) -> None:
        busy = [lease.provider for lease in self.of(LeaseStatus.ACTIVE)]
        owner = self.pick(busy or [*self.numbers])
        if owner in self.dead:
            return
        if self.chance(0.7):
            step = self.pick((1, 30, self.p.max_gap - 1, self.p.max_gap, self.p.max_gap + 1))
            self.go_to(self.lives[owner].last + step)
        sender, why = self.world.operators[owner], Why()
        if self.chance(0.03):
            sender = STRANGER
            why.need(False, "not the operator")
        if self.call("heartbeat", (self.numbers[owner],), sender, why):
            self.lives[owner].beat(self.now)

    def running(self, lease: Tenancy, why: Why) -> None:
        why.need(lease.end(self.now, self.p) is None, "has ended")

    @action(2, some(LeaseStatus.ACTIVE))
    def suspend(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        self.running(lease, why)
        why.need(not lease.suspended_at, "suspended already")
        if self.operator_call("suspend", lease, why):
            lease.suspended_at = self.now

    @action(2, lambda machine: any(lease.suspended_at for lease in machine.leases))
    def resume(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE) or self.leases), Why()
        why.need(lease.status is LeaseStatus.ACTIVE, GONE)
        if lease.status is not LeaseStatus.ACTIVE:
            return
        self.running(lease, why)
        why.need(lease.suspended_at, "not suspended")
        if self.operator_call("resume", lease, why):
            lease.suspensions.append((lease.suspended_at, self.now))
            lease.suspended_at = 0

    @action(1, some(LeaseStatus.ACTIVE))
    def give_notice(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        self.running(lease, why)
        why.need(not lease.leaves_at, "notice is given")
        if self.operator_call("give_notice", lease, why):
            lease.leaves_at = self.now + lease.terms.order.notice

    @action(1, some(LeaseStatus.ACTIVE))
    def leave_early(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        ending = lease.end(self.now, self.p) or Ending.BY_PROVIDER
        operator = self.world.operators[lease.provider]
        if lease.provider not in self.dead:
            self.finish("leave", lease, operator, ending, why)

    # ----------------------------------------------------------------------------- tenants

    @action(4, some(LeaseStatus.ACTIVE))
    def confirm(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        sender = lease.terms.requester if self.chance(0.9) else STRANGER
        why.need(sender == lease.terms.requester, "not the requester")
        why.need(lease.in_grace(self.now), "grace is over")
        if self.call("confirm", (lease.terms.abi_tuple(),), sender, why):
            lease.confirmed = True

    @action(1, some(LeaseStatus.ACTIVE))
    def reject(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        if self.chance(0.2):
            self.go_to(lease.ready_at + lease.terms.grace + self.pick((0, 1)))
        sender = lease.terms.requester if self.chance(0.9) else STRANGER
        why.need(sender == lease.terms.requester, "not the requester")
        why.need(lease.in_grace(self.now), "grace is over")
        self.finish("reject", lease, sender, Ending.REJECTED, why)

    @action(2, some(LeaseStatus.ACTIVE))
    def top_up(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        sender, most = self.pick((*TENANTS, STRANGER)), lease.rate * lease.terms.order.term
        amount = self.choices.log(0, most) - self.pick((0, 0, 1))
        amount, before = max(amount, 0), lease.ends_at
        self.running(lease, why)
        why.need(amount, "zero amount")
        why.need(lease.deposited + amount <= most, "more than the term costs")
        credit = self.owed[sender] >= amount > 0
        moved = Counter({sender: -amount}) if credit else None
        if self.call("top_up", (lease.terms.abi_tuple(), amount, credit), sender, why, moved):
            lease.deposited += amount
            assert lease.ends_at == before == self.account(lease)[3], "a top-up moves the end"

    # ------------------------------------------------------------------------------ anyone

    def account(self, lease: Tenancy) -> tuple[int, ...]:
        return tuple(self.view("leases", "account", lease.terms.abi_tuple()))

    @action(4, some(LeaseStatus.ACTIVE))
    def settle(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        due = lease.due(self.now)
        why.need(due > lease.paid, "nothing is due")
        payout = self.world.payouts[lease.provider]
        moved = Counter({payout: lease.net(due) - lease.net(lease.paid)})
        if self.call("settle", (lease.terms.abi_tuple(),), STRANGER, why, moved):
            lease.paid = due

    @action(3, some(LeaseStatus.ACTIVE))
    def accuse(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        if self.chance(0.25):
            self.go_to(lease.life.last + self.p.abandon + self.pick((0, 1, 1)))
        elif lease.suspended_at and self.chance(0.5):
            self.go_to(lease.suspended_at + self.p.max_suspension + self.pick((0, 1, 1)))
        self.accuse_lease(lease, why)

    def accuse_lease(self, lease: Tenancy, why: Why) -> bool:
        self.running(lease, why)
        why.need(lease.to_blame(self.now, self.p), "no reason to accuse")
        standing = lease.accused_at and lease.to_blame(lease.accused_at, self.p)
        why.need(not standing, "accused already")
        done = self.call("accuse", (lease.terms.abi_tuple(),), STRANGER, why)
        if done:
            lease.accused_at = self.now
        return done

    @action(4, some(LeaseStatus.ACTIVE))
    def close(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ACTIVE)), Why()
        if lease.accused_at and self.chance(0.6):
            self.go_to(lease.accused_at + self.p.max_gap + self.pick((0, 1, 1)))
        elif self.chance(0.15):
            self.go_to(lease.ends_at + self.pick((0, 1, 1)))
        people = (lease.terms.requester, STRANGER, self.world.operators[lease.provider])
        sender = self.pick(people)
        ending = lease.end(self.now, self.p)
        why.need(ending or sender == lease.terms.requester, "still running")
        self.finish("close", lease, sender, ending or Ending.BY_TENANT, why)

    @action(0.7, some(LeaseStatus.ASSIGNED))
    def expire(self) -> None:
        lease, why = self.pick(self.of(LeaseStatus.ASSIGNED)), Why()
        if self.chance(0.5):
            self.go_to(lease.ready_until + self.pick((0, 1, 1)))
        why.need(self.now > lease.ready_until, "can still be ready")
        self.finish("expire", lease, STRANGER, Ending.NOT_READY, why)

    def finish(self, name: str, lease: Tenancy, sender: str, ending: Ending, why: Why) -> bool:
        """Any end of a lease that was taken: who gets what of the deposit and the collateral."""
        tenant, owner = lease.terms.requester, lease.provider
        due = lease.due(self.now) if lease.ready_at else 0
        if ending is Ending.REJECTED:
            assert not due or why.reasons, "I-15: rent is due of what can be rejected"
        rent = due * lease.rate
        fee = rent - lease.net(due)
        moved = Counter({tenant: lease.deposited - rent, "fees": fee})
        moved[self.world.payouts[owner]] += lease.net(due) - lease.net(lease.paid)
        lock = self.view("staking", "lock_of", self.chain.addresses["leases"], owner, lease.id)
        before = [self.view("staking", "credit_of", one) for one in (tenant, sender)]
        own = self.view("staking", "owner_assets", owner)
        own = own[0] if isinstance(own, tuple) else own
        if not self.call(name, (lease.terms.abi_tuple(),), sender, why, moved):
            return False
        (closed,) = [event for kind, event in self.events if kind == "Closed"]
        assert closed["reason"] == ending, f"I-15: {ending!r} |and not {closed['reason']}"
        assert (closed["seconds"], closed["refund"]) == (due, lease.deposited - rent)
        served = lease.served(self.now) if lease.ready_at else 0
        assert due <= served, f"I-6: rent of {due} seconds |of {served}"
        assert rent <= lease.deposited, "I-6: rent above the deposit"
        self.compensated(closed["seized"], ending, lock, own, (tenant, sender), before)
        lease.status, lease.ending = LeaseStatus.NONE, ending
        self.tally.notes[f"ended: {ending.name.lower()}"] += 1
        gone = self.view("staking", "lock_of", self.chain.addresses["leases"], owner, lease.id)
        assert tuple(gone) == (0, 0), "a lock stays"
        return True

    def compensated(
        self, seized: int, ending: Ending, lock: Any, own: int, people: Any, before: list[int]
    ) -> None:
        """Collateral is taken from whoever left without notice, and from nobody else."""
        guilty = ending in (Ending.NOT_READY, Ending.BY_PROVIDER, Ending.ABANDONED)
        wanted = min(lock[0], own) if guilty and self.now <= lock[1] else 0
        assert abs(seized - wanted) <= 1, f"I-3: {seized} of {wanted} wei |are seized"
        tenant, sender = people
        first = seized * self.p.victim_bps // BPS
        insider = sender in (*self.world.operators.values(), *self.world.operators)
        bounty = 0 if insider else (seized - first) * self.p.bounty_bps // BPS
        gains = Counter({tenant: first})
        gains[sender] += bounty
        for one, had in zip(people, before, strict=True):
            gained = self.view("staking", "credit_of", one) - had
            assert gained == gains[one], f"I-12: {short(one)} gets {gained} |of a seizure"

    # -------------------------------------------------------------------- time, and trouble

    @action(0.6)
    def wait(self) -> None:
        self.go_to(self.now + self.choices.log(1, DAY))

    @action(0.4)
    def stall(self) -> None:
        """The chain stands still: nobody can be heard of, and accusers may come first."""
        self.go_to(self.now + self.choices.log(self.p.abandon, DAY))
        for lease in self.of(LeaseStatus.ACTIVE)[:3]:
            self.accuse_lease(lease, Why())
        for owner in self.numbers:
            if owner not in self.dead:
                sender = self.world.operators[owner]
                assert self.call("heartbeat", (self.numbers[owner],), sender, Why())
                self.lives[owner].beat(self.now)

    @action(0.04, lambda machine: len(machine.dead) < len(machine.lives))
    def die(self) -> None:
        """A provider is never heard of again."""
        self.dead.add(self.pick(self.alive))

    @action(0.5)
    def slash(self) -> None:
        owner = self.pick([*self.lives])
        amount = self.pick((1, TPF, 1_000 * TPF, 10_000 * TPF))
        done = self.chain.send("staking", "slash", (owner, bytes(32), amount), WARDEN)
        assert done.reason is None
        self.slashed.add(owner)

    @action(1)
    def prove(self) -> None:
        owner, score = self.pick([*self.lives]), self.pick((0, 50, 100, 200))
        assert self.chain.send("scores", "set_score", (owner, score), STRANGER).reason is None
        self.scores[owner] = score

    @action(0.3)
    def pause(self) -> None:
        why = Why()
        guardian, seconds = self.world.suite.guardian, self.choices.log(1, DAY)
        why.need(self.now >= self.view("leases", "next_pause"), "too recently")
        if self.call("pause", (seconds,), guardian, why):
            self.paused_until = self.now + seconds

    @action(0.3)
    def govern(self) -> None:
        """I-11: what is open keeps its fee and grace."""
        owner = self.world.suite.owner
        self.fee, self.grace = self.pick((0, 1, 250, 1_000)), self.pick((10, 600, 3_600))
        assert self.call("set_fee", (self.fee,), owner, Why())
        assert self.call("set_challenge_window", (self.grace,), owner, Why())

    @action(1)
    def withdraw(self) -> None:
        one = self.pick(PEOPLE)
        self.take_out(one, Why())

    def take_out(self, one: str, why: Why) -> bool:
        amount = self.owed[one]
        why.need(amount, "nothing to withdraw")
        return self.call("withdraw", (), one, why, Counter({one: -amount}))

    # ------------------------------------------------------------------------------ checks

    def check(self) -> None:
        """After every step: I-1, I-10, and every lease by its views."""
        held = sum(lease.held for lease in self.leases) + self.owed.total() + self.fees
        balance = self.view("payment", "balanceOf", self.chain.addresses["leases"])
        assert balance == held, f"I-1: payment token |{balance} against {held}"
        for lease in self.leases[-6:]:
            assert self.view("leases", "status", lease.id) == lease.status, "I-10: another state"
            if lease.status is LeaseStatus.ACTIVE:
                known = (lease.due(self.now), lease.paid, lease.affordable, lease.ends_at)
                assert self.account(lease) == known, f"I-6: |{self.account(lease)} not {known}"
        for owner in self.lives:
            free = max(0, self.scores[owner] - self.reserved(owner))
            assert self.view("leases", "score", owner) == free, "a score is sold twice"

    def audit(self) -> None:
        """Everything that ended stays ended."""
        for lease in self.leases:
            assert self.view("leases", "status", lease.id) == lease.status

    def leave(self) -> None:
        """I-2: from any state, by calls that a stranger makes, to the last unit."""
        self.dead |= set(self.lives)
        self.note("-- everybody is gone")
        for lease in self.of(LeaseStatus.OPEN):
            self.go_to(max(self.paused_until, self.now))
            paused = self.view("leases", "paused_seconds") - lease.terms.paused
            self.go_to(lease.terms.open_until(self.p.open_margin, paused) + 1)
            assert self.cancel_lease(lease, STRANGER), "I-2: an open lease stays"
        for lease in self.of(LeaseStatus.ASSIGNED):
            self.go_to(lease.ready_until + 1)
            done = self.finish("expire", lease, STRANGER, Ending.NOT_READY, Why())
            assert done, "I-2: an assigned lease stays"
        for lease in self.of(LeaseStatus.ACTIVE):
            if lease.end(self.now, self.p) is None:
                self.go_to(lease.ends_at + 1)
            ending = lease.end(self.now, self.p)
            assert ending and self.finish("close", lease, STRANGER, ending, Why()), (
                "I-2: an active lease stays"
            )
        for one in PEOPLE:
            if self.owed[one]:
                assert self.take_out(one, Why())
        balance = self.view("payment", "balanceOf", self.chain.addresses["leases"])
        assert balance == self.fees, "I-2: money stays"
        self.tally.notes["examples of leases"] += 1
        self.audit()


def make() -> Rentals:
    """A fresh machine."""
    return Rentals()
