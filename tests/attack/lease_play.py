# SPDX-License-Identifier: Apache-2.0
"""One lease from its opening to its end: the honest do their part, the hostile a plan.

Time runs in ticks, which are as long as a heartbeat is good for; the hostile act at any second. The
honest look at the chain and at the tenant's work once per tick, after the hostile have acted. What
work was really done is counted here, second by second, whatever the chain says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from teraproof.protocol.lease_terms import (
    LeaseMarks,
    LeaseState,
    LeaseStatus,
    LeaseTerms,
    lease_marks_of,
    lease_state_of,
)
from tests.attack.leasehold import PROVIDER, PUPPET, TENANT, Leasehold, order_of
from tests.attack.play import BrokenPromise
from tests.contracts.deploy import TPF

TICK = 300
"""MAX_GAP of the suite."""
HORIZON = 30
"""Ticks after which a stranger ends what is left."""
NONCE = 99
NEVER = 10**9


@dataclass(frozen=True)
class Act:
    """A call of the hostile, which may be refused."""

    at: int
    """Seconds from the opening."""
    target: str
    sender: str
    amount: int = 0
    beside: bool = False
    """About the bystander's lease with the same provider."""


@dataclass
class LeasePlay:
    """A lease and what the hostile mean to do. Moves write the plan; `run` carries it out.

    Times of the plan are ticks from the opening.
    """

    room: Leasehold
    hostile: frozenset[str]
    """Of provider, tenant, puppet."""
    # ------------------------------------------------------------------------ what is ordered
    rate: int = 1_000
    rises: int = 0
    """Ticks of the auction, which begins at half of the rate."""
    affordable: int = 8
    """Ticks that the deposit pays for at the highest rate."""
    term: int = 16
    notice: int = 2
    ready_within: int = 2
    collateral: int = 500
    """TPF."""
    # ---------------------------------------------------------------- what the sides mean to do
    accepts: int = 1
    readies: int = 2
    confirms: int = 3
    closes: int = NEVER
    """The tenant, if it has not ended before."""
    gives_notice: int = NEVER
    leaves: int = NEVER
    down: tuple[tuple[int, int], ...] = ()
    """When the tenant's work is down."""
    is_quiet: bool = False
    """The provider does not suspend what is down."""
    silent: tuple[tuple[int, int], ...] = ()
    """When the provider's agent is dead, and the work with it."""
    keeps: bool = False
    """A hostile tenant closes nothing, rejects nothing, accuses nobody."""
    acts: list[Act] = field(default_factory=list)
    # ------------------------------------------------------------------------- what came of it
    served: int = 0
    """Seconds in which the tenant had what it rents, while the lease ran."""
    gaps: int = 0
    """How often a stretch began in which it had not, and no suspension was on the chain."""
    ending: dict[str, Any] | None = None
    """The event `Closed`."""
    ready_at: int = 0
    price: int = 0
    """The rate at which it was taken."""
    due: int = 0
    """The rate that the terms give for that moment."""
    deposited: int = 0
    is_confirmed: bool = False
    is_free: bool = False
    """It was closed in the grace, by whatever call."""
    beside_rent: int = 0
    """Units that the bystander has paid meanwhile."""
    _is_gap: bool = False

    def __post_init__(self) -> None:
        self.chain, self.p = self.room.chain, self.room.p
        self.operator = self.room.world.operators[PROVIDER]

    # ---------------------------------------------------------------------------------- tools

    @property
    def began(self) -> int:
        return self.terms.posted_at

    def tick(self) -> int:
        return (self.chain.now - self.began) // TICK

    def args(self) -> tuple[Any, ...]:
        return (self.terms.abi_tuple(),)

    def must(self, target: str, args: tuple[Any, ...], sender: str) -> None:
        """What cannot be refused."""
        if reason := self.send(target, args, sender):
            raise BrokenPromise(f"{target} is refused: {reason}")

    def try_by(self, role: str, target: str, args: tuple[Any, ...] = ()) -> None:
        """What a side does by its plan: the honest are never refused."""
        sender = self.operator if role == "provider" else TENANT
        if role in self.hostile:
            self.send(target, args or self.args(), sender)
        else:
            self.must(target, args or self.args(), sender)

    def send(self, target: str, args: tuple[Any, ...], sender: str) -> str | None:
        reason = self.room.send(target, args, sender)
        if reason is None:
            for name, event in self.chain.happened():
                if name == "Closed" and event["lease"] == self.id:
                    self.ending = event
                    until = self.ready_at + self.terms.grace
                    self.is_free = not self.is_confirmed and self.chain.now <= until
                elif name == "Accepted" and event["lease"] == self.id:
                    self.price = event["rate"]
                    self.due = self.terms.rate_after(self.chain.now - self.began)
                elif name == "Ready" and event["lease"] == self.id:
                    self.ready_at = self.chain.now
        return reason

    def look(self) -> LeaseState:
        state = lease_state_of(self.room.view("leases.state", self.id))
        self.deposited = max(self.deposited, state.deposited)
        self.is_confirmed |= state.confirmed
        return state

    def marks(self) -> LeaseMarks:
        if not self.look().marked:
            return LeaseMarks(0, 0, 0)
        return lease_marks_of(self.room.view("leases.marks", self.id))

    def ends_at(self, marks: LeaseMarks) -> int:
        ends_at = self.ready_at + self.terms.order.term
        return min(ends_at, marks.leaves_at) if marks.leaves_at else ends_at

    def is_in(self, stretches: tuple[tuple[int, int], ...]) -> bool:
        return any(begin <= self.tick() < end for begin, end in stretches)

    def is_up(self) -> bool:
        """Whether the tenant has what it rents."""
        return not (self.is_in(self.down) or self.is_in(self.silent))

    # ---------------------------------------------------------------------------------- a life

    def run(self) -> None:
        """To the end of the lease. BrokenPromise if there is none."""
        self.open()
        waiting = sorted(self.acts, key=lambda act: act.at)
        for tick in range(HORIZON):
            until = self.began + tick * TICK
            while waiting and self.began + waiting[0].at <= until:
                act = waiting.pop(0)
                self.go_to(self.began + act.at)
                self.do(act)
            self.go_to(until)
            self.provide()
            self.rent()
            if self.look().status is LeaseStatus.NONE:
                break
        self.finish()

    def open(self) -> None:
        order = order_of(
            (max(1, self.rate // 2) if self.rises else self.rate, self.rate),
            self.affordable * TICK,
            nonce=NONCE,
            collateral=self.collateral * TPF,
            ready_within=self.ready_within * TICK,
            term=self.term * TICK,
            notice=self.notice * TICK,
            auction=self.rises * TICK,
        )
        self.terms = LeaseTerms(
            TENANT, self.chain.now, self.p.challenge_window, self.p.fee_bps, 0, order
        )
        self.id = self.terms.lease_id()
        self.must("leases.open", (order.abi_tuple(), False), TENANT)

    def go_to(self, time: int) -> None:
        """Seconds pass; what was served in them is counted."""
        if time <= self.chain.now:
            return
        if self.look().status is LeaseStatus.ACTIVE:
            marks = self.marks()
            is_gap = not self.is_up() and not marks.suspended_at
            if self.is_up():
                self.served += max(0, min(time, self.ends_at(marks)) - self.chain.now)
            self.gaps += is_gap and not self._is_gap
            self._is_gap = is_gap
        self.chain.now = time

    def do(self, act: Act) -> None:
        """A call of the hostile."""
        name = act.target.partition(".")[2]
        about = (self.room.beside[PROVIDER].abi_tuple(),) if act.beside else self.args()
        arguments: dict[str, tuple[Any, ...]] = {
            "heartbeat": (self.look().number,),
            "top_up": (*about, act.amount, False),
            "accept": (*about, []),
            "deposit": (act.amount,),
            "withdraw": (),
            "undelegate": (PROVIDER, act.amount),
            "set_payout": (PUPPET,),
            "set_lock_limits": (act.amount, act.amount),
        }
        runs = not self.hostile and self.is_running()
        self.send(act.target, arguments.get(name, about), act.sender)
        if runs and self.ending:
            raise BrokenPromise("an outsider ends a lease that runs")

    # --------------------------------------------------------------------------- the provider

    def provide(self) -> None:
        """What the provider does at a tick."""
        if self.is_in(self.silent):
            return
        state, tick = self.look(), self.tick()
        if state.status is LeaseStatus.OPEN and tick >= self.accepts:
            self.try_by("provider", "leases.accept", (*self.args(), []))
        elif state.status is LeaseStatus.ASSIGNED and tick >= self.readies:
            if self.chain.now <= state.since + self.terms.order.ready_within:
                self.try_by("provider", "leases.ready")
        elif state.status is LeaseStatus.ACTIVE:
            self.keep_alive(tick)
        number = self.room.view("leases.number_of", PROVIDER)
        self.try_by("provider", "leases.heartbeat", (number,))

    def keep_alive(self, tick: int) -> None:
        marks = self.marks()
        if self.has_ended():
            self.try_by("provider", "leases.close")
            return
        is_down = self.is_in(self.down) and not self.is_quiet
        if is_down and not marks.suspended_at:
            self.try_by("provider", "leases.suspend")
        elif marks.suspended_at and not is_down:
            self.try_by("provider", "leases.resume")
        if tick >= self.leaves:
            self.try_by("provider", "leases.leave")
        elif tick >= self.gives_notice and not marks.leaves_at:
            self.try_by("provider", "leases.give_notice")

    def is_running(self) -> bool:
        return self.look().status is LeaseStatus.ACTIVE and not self.has_ended()

    def has_ended(self) -> bool:
        """Over or dry, once rent is due."""
        seconds, _, affordable, ends_at = self.room.view("leases.account", *self.args())
        return bool(self.chain.now > ends_at or seconds >= affordable)

    # ----------------------------------------------------------------------------- the tenant

    def rent(self) -> None:
        """What the tenant does at a tick."""
        if self.keeps and "tenant" in self.hostile:
            return
        state, tick = self.look(), self.tick()
        if state.status is LeaseStatus.OPEN:
            if self.chain.now > self.terms.open_until(self.p.open_margin) or tick >= self.closes:
                self.try_by("tenant", "leases.cancel")
        elif state.status is LeaseStatus.ASSIGNED:
            if self.chain.now > state.since + self.terms.order.ready_within:
                self.try_by("tenant", "leases.expire")
        elif state.status is LeaseStatus.ACTIVE:
            self.use(state, tick)

    def use(self, state: LeaseState, tick: int) -> None:
        marks, now = self.marks(), self.chain.now
        is_open = not state.confirmed and now <= self.ready_at + self.terms.grace
        last = self.room.view("leases.last_heartbeat", PROVIDER)
        if marks.suspended_at:
            self.blame(marks, now > marks.suspended_at + self.p.max_suspension)
        elif not self.is_up() and is_open:
            self.try_by("tenant", "leases.reject")
        elif not self.is_up() and now >= last + self.p.max_gap:
            self.blame(marks, now > last + self.p.abandon)
        elif not self.is_up() or tick >= self.closes or self.has_ended():
            self.try_by("tenant", "leases.close")
        elif is_open and tick >= self.confirms:
            self.try_by("tenant", "leases.confirm")

    def blame(self, marks: LeaseMarks, has_reason: bool) -> None:
        """Accuse once there is a reason, and close when nothing has followed."""
        stands = marks.accused_at and has_reason
        if self.has_ended() or (stands and self.chain.now > marks.accused_at + self.p.max_gap):
            self.try_by("tenant", "leases.close")
        elif has_reason and not marks.accused_at:
            self.try_by("tenant", "leases.accuse")

    # -------------------------------------------------------------------------------- the end

    def finish(self) -> None:
        """I-2: a stranger ends whatever is left, and no collateral stays locked."""
        state = self.look()
        if state.status is LeaseStatus.ACTIVE:
            self.go_to(max(self.chain.now, self.ends_at(self.marks())) + 1)
            self.must("leases.close", self.args(), PUPPET)
        elif state.status is LeaseStatus.ASSIGNED:
            self.go_to(state.since + self.terms.order.ready_within + 1)
            self.must("leases.expire", self.args(), PUPPET)
        elif state.status is LeaseStatus.OPEN:
            self.go_to(self.terms.open_until(self.p.open_margin) + 1)
            self.must("leases.cancel", self.args(), PUPPET)
        if self.look().status is not LeaseStatus.NONE:
            raise BrokenPromise("the lease stays")
        lock = self.room.view("staking.lock_of", self.chain.addresses["leases"], PROVIDER, self.id)
        if lock[0]:
            raise BrokenPromise("the collateral stays locked")
