# SPDX-License-Identifier: Apache-2.0
"""The leases duty: gets leases ready, keeps them paid and honest, and ends them by the clock.

What is owed follows from the state word of a lease at the pinned block, and from the runner:

    OPEN, worth it, room                     -> intent `accept`          (taking.py)
    ASSIGNED to us                           -> prepare, start; when it runs, intent `ready`
    ASSIGNED, nearly too late by its tenant  -> `ready` anyway: a password, a registry or a program
                                                that fails must not earn the collateral
    ACTIVE, down for longer than the grace   -> intent `suspend`: no rent for what does not run
    ACTIVE, suspended, and up again          -> intent `resume`
    ACTIVE, suspended for too long           -> `give_notice`, before silence costs the collateral
    ACTIVE, over or dry                      -> intent `close`
    ended, as two endpoints have it          -> nothing of it is left on the machine

One heartbeat for all of them, while one of them runs: see `heartbeat`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from provider_agent.core.attempts import Attempts
from provider_agent.core.clock import ChainClock
from provider_agent.core.module import Cycle
from provider_agent.core.policy import contained
from provider_agent.modules.leases.chain_view import LeaseView, Standing
from provider_agent.modules.leases.heartbeat import Heart
from provider_agent.modules.leases.machine import Machine
from provider_agent.modules.leases.promises import Promises
from provider_agent.modules.leases.repository import LIVE, LeaseRow, LeasesRepository
from provider_agent.modules.leases.tenure import Tenure
from provider_agent.modules.leases.wishes import forget
from teraproof.contracts.base import Event
from teraproof.contracts.leases import Accepted, Cancelled, Closed, Opened
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.lease_terms import LeaseStatus, lease_state_of
from teraproof.protocol.lease_wire import LeaseOutcome
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

EVENTS: tuple[type[Event], ...] = (Opened, Accepted, Closed, Cancelled)
_STRAYS = 16  # of which a cycle asks the chain
_QUICK = 0.5  # seconds between two looks at a lease that is being prepared
_FRESH = 60  # seconds after its assignment in which it is looked at so often
_ENDINGS = {
    LeaseOutcome.NOT_READY: "was not ready in time; the collateral is seized",
    LeaseOutcome.REJECTED: "the tenant has rejected it within the grace",
    LeaseOutcome.BY_TENANT: "the tenant has closed it",
    LeaseOutcome.BY_PROVIDER: "this provider has left at once; the collateral is seized",
    LeaseOutcome.ABANDONED: "was silent or suspended for too long; the collateral is seized",
    LeaseOutcome.OVER: "its time was over",
    LeaseOutcome.DRY: "the deposit was used up",
    LeaseOutcome.CANCELLED: "nobody has taken it",
    LeaseOutcome.ENDED: "it has ended",
}


class LookBack(Protocol):
    """Has old events read again: see `backfill`."""

    def __call__(self, block: BlockRef, since: Sequence[int], *, lost: bool) -> None:
        """Call in each cycle."""
        ...


class LeasesDuty:
    """See the module. `consume` and `reconcile` are called from one thread.

    `begun` is called when a lease has become ours, `left` with one that has ended.
    `fetching` are the runner's names of what is fetched for leases to come. `is_whole` says whether
    all events have been read since the start.
    """

    def __init__(
        self,
        *,
        store: LeasesRepository,
        view: LeaseView,
        machine: Machine,
        promises: Promises,
        tenure: Tenure,
        heart: Heart,
        attempts: Attempts,
        clock: ChainClock,
        operator: str,
        data_dir: Path,
        take: Callable[[BlockRef, Standing, Callable[[LeaseRow], bool]], None],
        look_back: LookBack,
        begun: Callable[[], None] = lambda: None,
        left: Callable[[bytes], None] = lambda lease: None,
        fetching: Callable[[], set[str]] = set,
        is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store, self._view, self._machine = store, view, machine
        self._promises, self._tenure, self._heart = promises, tenure, heart
        self._attempts, self._clock, self._operator = attempts, clock, operator
        self._data_dir, self._take = data_dir, take
        self._look_back, self._begun, self._left = look_back, begun, left
        self._fetching, self._is_whole = fetching, is_whole
        self._dirty: set[bytes] = set()
        self._over: set[str] = set()  # leases that have ended for certain
        self._lost: set[bytes] = set()  # leases of ours whose terms are not known
        #: The provider at the last pinned block.
        self.standing: Standing | None = None
        #: Seconds until the next cycle is wanted; None when nothing is in a hurry.
        self.look_again: float | None = None
        #: Whether every lease of ours has been found since the start: it has a row, or is `lost`.
        self.is_settled = False

    @property
    def lost(self) -> tuple[bytes, ...]:
        """Leases of ours whose terms are not known. Any thread."""
        return tuple(self._lost)

    @property
    def now(self) -> int:
        """The chain's time of this moment, unix seconds; 0 before the first cycle."""
        return self._clock.now()

    # ------------------------------------------------------------------ events

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what events tell, in the feed's transaction; state is read in `reconcile`."""
        self._dirty.update(one for one in again if self._store.lease(one) is not None)
        for event in events:
            # Anybody can make events: one that shows a bug must not stop all others.
            with contained("leases: an event was skipped"):
                self._keep(event)

    def _keep(self, event: Event) -> None:
        if isinstance(event, Opened):
            if event.terms.lease_id() == event.lease:
                self._store.add(event.terms)
                self._lost.discard(event.lease)
        elif isinstance(event, Accepted):
            owner = None if self.standing is None else self.standing.owner
            if owner in (None, event.provider) or event.operator == self._operator:
                self._dirty.add(event.lease)
                row = self._store.lease(event.lease)
                if row is not None:
                    self._promises.news_of(row.requester)
            elif self._attempts.made(event.lease.hex()):
                self._dirty.add(event.lease)  # somebody was quicker
            else:
                self._store.drop(event.lease)
        elif isinstance(event, Closed):
            row = self._store.lease(event.lease)
            if row is not None:
                self._store.update(
                    event.lease,
                    outcome=LeaseOutcome.of(event.reason).value,
                    seconds=event.seconds,
                )
                self._dirty.add(event.lease)
        elif isinstance(event, Cancelled):
            self._store.drop(event.lease)

    # ------------------------------------------------------------------ the cycle

    @property
    def is_idle(self) -> bool:
        """Whether no lease of ours has moved, so that what is locked is as before."""
        return not self._dirty

    def reconcile(self, cycle: Cycle) -> None:
        """Do what is owed at this block. Raises ChainError; what was written stays right."""
        block, whole = cycle.block, self._is_whole()
        self._clock.see(block.timestamp)
        self._view.begin(block)
        news = bool(self._dirty or self._lost or self._promises.unseen or self._machine.strays)
        self.standing = standing = self._view.standing(cycle.provider, news=news)
        self._refresh()
        self._promises.update(block)
        rows = self._store.ours()
        self._machine.look(self._kept(rows), self._over)
        self._over &= self._machine.there
        self._judge_strays()
        if standing is None:
            return
        unjudged = self._machine.strays - self._over - {lease.hex() for lease in self._lost}
        self.is_settled |= whole and self._machine.has_spoken and not unjudged
        for row in rows:
            # One lease that shows a bug must not stop all others.
            with contained(f"lease {row.name[:12]}: not reconciled"):
                self._tenure.reconcile(row, block, standing)
        self._heart.beat(rows, block, standing)
        self.look_again = self._look_again(rows, block.timestamp)
        since = [one.created_at for one in self._promises.unseen]
        self._look_back(block, since, lost=bool(self._lost))
        if standing.operator_is_ours and cycle.time_left() > 0:
            self._take(block, standing, self._is_open)

    def _look_again(self, rows: Sequence[LeaseRow], now: int) -> float | None:
        """A tenant waits, and pays nothing yet. What takes long needs no hurry, until it is nearly
        too late: cycles may be far apart, and `ready` must not come after its time.
        """
        waits = [
            _QUICK if now < row.state.since + _FRESH else max(_QUICK, self._tenure.until_late(row))
            for row in rows
            if row.status is LeaseStatus.ASSIGNED and now <= row.ready_until
        ]
        return min(waits, default=None)

    def keep_up(self) -> None:
        """While no node answers: what ran runs on, and is started again where it dies."""
        self._machine.look(self._kept(self._store.ours()), ())

    def _kept(self, rows: Sequence[LeaseRow]) -> set[str]:
        """What the runner must not remove, by its names."""
        lost = {lease.hex() for lease in self._lost}
        return {row.name for row in rows} | lost | self._fetching()

    def _is_open(self, row: LeaseRow) -> bool:
        return lease_state_of(self._view.word(row.lease_id)).status is LeaseStatus.OPEN

    def _refresh(self) -> None:
        """Bring the rows of our leases, and of those with news, in line with the chain."""
        ours = [row.lease_id for row in self._store.ours()]
        leases = list(dict.fromkeys([*ours, *self._dirty, *self._promises.accepting()]))
        self._view.read(leases)
        for lease in leases:
            row = self._store.lease(lease)
            if row is not None:
                self._refresh_row(row)
            elif self._number_of(lease) == self._mine():
                self._lose(lease)  # until its terms are read
            self._dirty.discard(lease)

    def _mine(self) -> int:
        """Our number in the contract; -1 while there is none."""
        standing = self.standing
        return -1 if standing is None or not standing.number else standing.number

    def _number_of(self, lease: bytes) -> int:
        state = lease_state_of(self._view.word(lease))
        return state.number if state.status in LIVE else 0

    def _lose(self, lease: bytes) -> None:
        if lease not in self._lost:
            log.warning(
                "lease %s is ours, and its terms are not known: events are read again",
                lease.hex()[:12],
            )
        self._lost.add(lease)

    def _refresh_row(self, row: LeaseRow) -> None:
        word = self._view.word(row.lease_id)
        state = lease_state_of(word)
        if state.status is LeaseStatus.NONE:
            if (
                row.ended_at is None
                and lease_state_of(self._view.sure(row.lease_id)).status is LeaseStatus.NONE
            ):
                self._end(row)
            return
        if state.status is LeaseStatus.OPEN:
            if row.is_ours or row.status is not LeaseStatus.OPEN:  # a reorg has undone it
                self._store.update(row.lease_id, status=state.status, is_ours=0, word=word)
            return
        if state.number != self._mine():
            if self.standing is not None and not row.is_ours:
                self._store.drop(row.lease_id)
            return
        marks = self._view.marks(row.lease_id) if state.marked else 0
        if (row.is_ours, row.word, row.marks_word) == (True, word, marks):
            return
        if not row.is_ours:
            self._begin(row)
        self._over.discard(row.name)
        self._store.update(
            row.lease_id,
            status=state.status,
            is_ours=1,
            word=word,
            marks=marks,
            state_block=self._view.block.number,
            ended_at=None,
        )

    def _begin(self, row: LeaseRow) -> None:
        """A lease has become ours: what its quote has bound is its own now."""
        quote = self._store.quote(row.terms.order.nonce.to_bytes(32, "big"), self._operator)
        if quote is not None and quote.quote.spec == row.spec:
            self._store.update(row.lease_id, images=quote.images, devices=quote.devices)
        self._begun()
        log.info("lease %s of %s is ours", row.name[:12], row.requester)

    def _end(self, row: LeaseRow) -> None:
        """Nothing is owed any more. The next look at the machine removes what is there."""
        outcome = row.outcome or LeaseOutcome.ENDED
        if not row.is_ours:
            outcome = LeaseOutcome.CANCELLED
        self._store.end(row, outcome, _ENDINGS[outcome])
        self._over.add(row.name)
        forget(self._data_dir, row.lease_id)
        self._left(row.lease_id)
        if row.is_ours:
            log.info("lease %s: %s", row.name[:12], _ENDINGS[outcome])

    def _judge_strays(self) -> None:
        """What the runner has and no row wants: the chain says whose it is, not the database."""
        for name in sorted(self._machine.strays - self._over)[:_STRAYS]:
            if not is_hex_digest(name):
                self._over.add(name)  # what was fetched for a lease that did not come
                continue
            lease = bytes.fromhex(name)
            row = self._store.lease(lease)
            if row is not None and row.ended_at is not None:
                self._over.add(name)
                continue
            state = lease_state_of(self._view.sure(lease))
            if state.status not in LIVE or (self._mine() > 0 and state.number != self._mine()):
                self._over.add(name)
            elif row is None:
                self._lose(lease)
            else:
                self._dirty.add(lease)
