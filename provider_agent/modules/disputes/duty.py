# SPDX-License-Identifier: Apache-2.0
"""The disputes duty: judges where this provider was drawn, and defends its own results.

What is owed follows from the dispute at the pinned block and from what is on the disk:

    DRAWING     who has seats there draws, each a little later than the one before
    COMMITTING  drawn, no vote on the disk     -> the bench; WITHHELD when there is no more time
                drawn, a vote on the disk      -> intent `commit`
    REVEALING   committed                      -> intent `reveal`
    FAILED      a second jury may pay us       -> intent `redraw`, by turns
    RULED       against a result of ours that our own run confirms -> intent `appeal`
    FINAL       pays us                        -> intent `conclude`

A vote is on the disk before it is cast, and its salt follows from the key: whatever is killed, lost
or thrown out by a reorg, the same vote is cast again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

from provider_agent.core.attempts import Attempts
from provider_agent.core.module import Cycle
from provider_agent.core.panels import Panels
from provider_agent.core.policy import contained
from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.appeals import Appeals
from provider_agent.modules.disputes.bench import Bench, Task
from provider_agent.modules.disputes.hearing import Awaited, Hearing
from provider_agent.modules.disputes.juries import CONCLUDE, Juries, turn
from provider_agent.modules.disputes.repository import DisputesRepository, Order, OrderParts
from provider_agent.modules.disputes.seats import Seats
from provider_agent.modules.disputes.votes import VoteBook
from provider_agent.modules.disputes.watch import Watch
from provider_agent.tx.keys import OperatorKey
from teraproof.contracts.base import Event
from teraproof.contracts.disputes import (
    Appealed,
    Closed,
    Committed,
    DisputesContract,
    Drawn,
    Enlisted,
    Fined,
    Left,
    Named,
    Opened,
    Revealed,
    SeatsLost,
)
from teraproof.contracts.jobs import (
    Attested,
    Cancelled,
    Disputed,
    Expired,
    JobsContract,
    Posted,
    Refunded,
    Refused,
    Settled,
)
from teraproof.contracts.staking import EndpointChanged, Registered, StakingContract
from teraproof.courts import docket, votes
from teraproof.courts.docket import Dispute, Phase, Place
from teraproof.courts.votes import Opinion, Vote
from teraproof.deals import record_of
from teraproof.protocol.dispute import Case
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import ZERO_WORD, Status, Terms, status_of
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

CONTRACT = "disputes"
COURT = "court"  # calls of Jobs that concern a dispute
_LOOK_EVERY = 600  # seconds after which a dispute without news is read again
_KEEP = 3_600.0  # seconds for which what was found stays after the end: a reorg may undo it
_ASK_EVERY = 600.0  # seconds between two searches for an event that was lost
_ROWS_REST = 7 * 86_400  # seconds for which the row of an order stays after its end
_NEWS = (Opened, Named, Drawn, Committed, Revealed, Appealed)
_REACTION_BLOCKS = 4  # a vote is sent, mined and seen at the pinned block


@dataclass
class _Known:
    """A dispute as it was read last, and when it is to be read again (unix seconds)."""

    dispute: Dispute
    again: int


@dataclass(frozen=True)
class Contracts:
    """The contracts that a dispute is about."""

    disputes: DisputesContract
    jobs: JobsContract
    staking: StakingContract


@dataclass(frozen=True)
class Times:
    """What the court fixes, in seconds."""

    commit: int
    reveal: int
    close: int


class DisputesDuty:
    """See the module. `consume` and `reconcile` are called from one thread."""

    def __init__(
        self,
        *,
        store: DisputesRepository,
        contracts: Contracts,
        key: OperatorKey,
        domain: Domain,
        seats: Seats,
        bench: Bench,
        book: VoteBook,
        appeals: Appeals,
        panels: Panels,
        hearing: Hearing,
        attempts: Attempts,
        court: Attempts,
        start_block: int,
        block_seconds: Callable[[], float],
        concludes: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._store, self._key, self._domain = store, key, domain
        self._contracts, self._disputes, self._jobs = contracts, contracts.disputes, contracts.jobs
        self._seats, self._bench, self._book, self._appeals = seats, bench, book, appeals
        self._panels, self._attempts, self._court = panels, attempts, court
        self._hearing = hearing
        self._juries = Juries(contracts.disputes, seats, attempts, key.address)
        self._start_block, self._block_seconds = start_block, block_seconds
        self._concludes = concludes
        self._watch = Watch(store, seats, key.address)
        self._known: dict[bytes, _Known] = {}
        self._times: Times | None = None
        self._ended: dict[bytes, float] = {}
        self._final: dict[bytes, int] = {}  # since when it is, unix seconds
        self._swept_at: float | None = None
        # When a lost event of a job may be searched for again.
        self._asked: dict[tuple[bytes, str], float] = {}
        #: Disputes in which something is owed by us.
        self.busy = 0
        #: Unix seconds at which half of the time for a vote of ours is over, and for showing one,
        #: the earliest of all disputes; 0 where none is missing.
        self.commit_due, self.reveal_due = 0, 0

    # ------------------------------------------------------------------ events

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what events tell, in the feed's transaction."""
        for job in again:
            if self._store.order(job) is not None:
                self._store.end(job, is_over=False)
                self._watch.changed(job, is_new=True)
                self._watch.news(job)
        for event in events:
            with contained("an event of a dispute was skipped"):
                self._keep(event)

    def _keep(self, event: Event) -> None:
        if isinstance(event, Posted):
            terms = event.terms
            if terms.order.capability is not None and terms.job_id() == event.job:
                self._put(event.job, terms=terms)
            return
        if isinstance(event, Attested):
            known = self._store.order(event.job)
            if known is not None and known.terms is not None:
                self._put(event.job, record=record_of(known.terms, event))
            return
        if isinstance(event, Disputed):
            self._put(event.job, evidence=event.evidence)
            return
        if isinstance(event, Registered | EndpointChanged):
            self._store.put_endpoint(event.provider, event.endpoint)
            return
        if isinstance(event, Enlisted | SeatsLost | Left | Fined):
            self._seats.news(event)
            return
        if isinstance(event, Refunded | Settled):
            known = self._store.order(event.job)
            if known is not None and known.case is not None:
                # `Closed` ends a dispute: that of a convicted provider goes on, for its bonds, and
                # jurors owe their votes still.
                return
        if isinstance(event, Closed | Settled | Refunded | Cancelled | Expired | Refused):
            self._end(event.job)
            return
        if isinstance(event, Opened):
            self._store.put(event.job, case=event.case)
            self._watch.changed(event.job, is_new=True)
        if isinstance(event, _NEWS):
            self._watch.news(event.job, event)

    def _put(self, job: bytes, **parts: Unpack[OrderParts]) -> None:
        self._store.put(job, **parts)
        self._watch.changed(job)

    def _end(self, job: bytes) -> None:
        self._store.end(job)
        self._watch.changed(job)

    # ------------------------------------------------------------------ the cycle

    @property
    def is_idle(self) -> bool:
        """Whether nothing is owed."""
        return not self.busy and not self._watch.dirty

    def reconcile(self, cycle: Cycle) -> None:
        """Do what is owed at the pinned block. Raises ChainError; what was written stays right."""
        provider, block = cycle.provider, cycle.block
        if provider is None or not provider.operator_is_ours:
            return
        if self._times is None:
            court = self._disputes
            self._times = Times(
                court.commit_time(block), court.reveal_time(block), court.close_time(block)
            )
        self._seats.reconcile(block, provider)
        orders = self._watch.orders(block, provider)
        here = {order.job for order in orders}
        for job in self._known.keys() - here:
            self._over(job)
        self.busy = self.commit_due = self.reveal_due = 0
        for order in orders:
            if cycle.time_left() <= 0:
                break
            # One dispute that shows a bug must not stop the others.
            with contained(f"dispute {order.job.hex()}: not reconciled"):
                self._reconcile(order, cycle, provider)
        self._sweep(here)

    def _sweep(self, here: set[bytes]) -> None:
        """Delete what is left of disputes that are over, also by an earlier agent."""
        now = self._clock()
        if self._swept_at is None or now - self._swept_at > _KEEP:
            self._swept_at = now
            self._store.forget_ended(_ROWS_REST)
            for job in self._bench.jobs():
                if job not in here and self._store.order(job) is not None:
                    self._ended.setdefault(job, now)
        for job in [job for job, at in self._ended.items() if now - at > _KEEP]:
            del self._ended[job]
            if job not in here:
                self._bench.clear(job)
                self._book.forget(job)

    def _over(self, job: bytes) -> None:
        self._known.pop(job, None)
        self._final.pop(job, None)
        self._panels.tell(job, {})
        self._hearing.expect(job, None)
        self._bench.release(job)
        self._ended[job] = self._clock()

    def _reconcile(self, order: Order, cycle: Cycle, provider: Provider) -> None:
        assert order.case is not None and self._times is not None  # disputed; read before
        job, block = order.job, cycle.block
        known, case = self._known.get(job), order.case
        if known is None or job in self._watch.dirty or block.timestamp > known.again:
            if not self._watch.may_read(job):
                return
            found = docket.read(self._disputes, case, block)
            self._watch.was_read(job, found, provider.owner)
            if found is None:
                if job in self._known:
                    self._over(job)
                if status_of(self._jobs.state(job, block)) in (Status.SETTLED, Status.REFUNDED):
                    self._end(job)
                return
            again = min(found.until or 2**63, block.timestamp + _LOOK_EVERY)
            known = self._known[job] = _Known(found, again)
            self._serve(found, block, provider)
            self._hear(order, found, provider)
        dispute = known.dispute
        mine = dispute.current.of(provider.owner)
        if dispute.phase is Phase.DRAWING:
            self.busy += self._juries.draw(dispute, cycle, provider)
        elif dispute.phase is Phase.COMMITTING and mine is not None and not mine.has_committed:
            self.commit_due = _earlier(self.commit_due, (dispute.current.since, dispute.until))
            self._vote(order, dispute, mine, cycle)
        elif dispute.phase is Phase.REVEALING and mine is not None and mine.has_committed:
            if mine.vote is None:
                began = dispute.until - self._times.reveal
                self.reveal_due = _earlier(self.reveal_due, (began, dispute.until))
                self._reveal(order, dispute, mine, cycle)
        elif dispute.phase is Phase.FAILED:
            self.busy += self._juries.redraw(dispute, cycle, provider)
        elif dispute.phase is Phase.RULED and self._is_lost(dispute, provider):
            self._appeal(order, dispute, cycle)
        elif dispute.phase is Phase.FINAL:
            self._conclude(order, dispute, cycle, provider)

    def _serve(self, dispute: Dispute, block: BlockRef, provider: Provider) -> None:
        """Let the jurors of our own job read its evidence, for as long as they may commit; and
        ourselves, who run it again before we appeal.
        """
        if dispute.case.provider != provider.owner:
            return
        drawn = {}
        if dispute.phase is Phase.COMMITTING:
            for place in dispute.current.places:
                if not place.juror:
                    continue  # a place that nobody has
                operator = self._contracts.staking.operator_of(place.juror, block)
                drawn[operator] = dispute.until
        if dispute.phase is Phase.RULED:
            drawn[self._key.address] = dispute.until
        self._panels.tell(dispute.case.job, drawn)

    @staticmethod
    def _is_lost(dispute: Dispute, provider: Provider) -> bool:
        return dispute.ruling.is_for_requester and dispute.case.provider == provider.owner

    def _hear(self, order: Order, dispute: Dispute, provider: Provider) -> None:
        """Take what the requester says, while we may vote on it."""
        sits = dispute.phase is Phase.COMMITTING and dispute.current.of(provider.owner) is not None
        awaited = None
        if sits:
            digest = order.evidence or self._evidence(order.job) or ZERO_WORD
            if digest != ZERO_WORD:
                awaited = Awaited(dispute.case.requester, digest, dispute.until)
        self._hearing.expect(order.job, awaited)

    # ------------------------------------------------------------------ votes

    def _vote(self, order: Order, dispute: Dispute, mine: Place, cycle: Cycle) -> None:
        self.busy += 1
        case, number = dispute.case, dispute.current.number
        opinion = self._book.of(case, number)
        if opinion is None:
            opinion = self._judge(order, dispute, cycle)
            if opinion is None:
                self._note(order, _with_reason("judging", self._bench.why(case.job)))
                return
            opinion = self._book.keep(case, number, opinion)
        self._note(order, f"votes {opinion.vote.name}")
        digest = votes.commitment(case.job, number, mine.juror, opinion, self._salt(case, number))
        data = self._disputes.commit(case, mine.number, digest)
        action = f"commit-{number}"
        self._attempts.begin(case.job.hex(), action, data, deadline=dispute.until)

    def _judge(self, order: Order, dispute: Dispute, cycle: Cycle) -> Opinion | None:
        """What is to be voted; None while it is being found out."""
        assert self._times is not None  # read before
        number, now = dispute.current.number, cycle.head.timestamp
        last = int(_REACTION_BLOCKS * self._block_seconds())
        until = dispute.until - max(self._times.commit // 4, last)
        terms = order.terms or self._terms(order.job)
        found = None
        if terms is not None:
            found = self._bench.judge(Task(dispute.case, terms.order.spec, until), now)
        if found is None:
            return None if now < until else Opinion(Vote.WITHHELD)
        if found.vote is Vote.WITHHELD:
            return Opinion(Vote.WITHHELD)
        return Opinion.of(found.vote, found.manifest, dispute.case.origin, number)

    def _reveal(self, order: Order, dispute: Dispute, mine: Place, cycle: Cycle) -> None:
        self.busy += 1
        case, number = dispute.case, dispute.current.number
        secret = self._salt(case, number)
        kept, job = self._book.of(case, number), case.job
        candidates = [Opinion(Vote.WITHHELD)] if kept is None else [kept]
        for manifest in (self._bench.own(job), self._bench.theirs(job)):
            if manifest is not None:
                candidates += [
                    Opinion.of(vote, manifest, case.origin, number)
                    for vote in (Vote.RIGHT, Vote.WRONG)
                ]
        opinion = votes.committed(job, number, mine.juror, secret, mine.kept, candidates)
        if opinion is None:
            # The notes are lost: what was voted is found again by judging again.
            self._note(order, "finding out again what was voted")
            self._judge(order, dispute, cycle)
            return
        self._note(order, f"revealing {opinion.vote.name}")
        data = self._disputes.reveal(case, mine.number, int(opinion.vote), opinion.seal, secret)
        self._attempts.begin(job.hex(), f"reveal-{number}", data, deadline=dispute.until)

    def _salt(self, case: Case, number: int) -> bytes:
        return votes.salt(self._key.account, self._domain, case.job, number)

    # ------------------------------------------------------------------ after the ruling

    def _appeal(self, order: Order, dispute: Dispute, cycle: Cycle) -> None:
        """Appeal if our own run says that the result is right; also when it is not over in time."""
        self.busy += 1
        if not self._appeals.can(dispute, cycle.block):
            self._note(order, self._appeals.why, logging.WARNING)
            return
        now, case = cycle.head.timestamp, dispute.case
        until = dispute.until - max(1, (dispute.until - dispute.current.since) // 3)
        terms = order.terms or self._terms(order.job)
        if now < until and terms is not None:
            found = self._bench.judge(Task(case, terms.order.spec, until), now)
            if found is None:
                self._note(order, _with_reason("before an appeal", self._bench.why(case.job)))
                return
            if found.vote is Vote.WRONG:
                self._note(
                    order, "no appeal: our own second run gave another result", logging.WARNING
                )
                return
        self._note(order, "appealing")
        self._appeals.begin(dispute, cycle.block)

    def _conclude(self, order: Order, dispute: Dispute, cycle: Cycle, provider: Provider) -> None:
        """Carry out a final ruling that pays us: as the winner at once, as a juror by turns."""
        assert self._times is not None  # read before
        case = dispute.case
        wins = case.provider == provider.owner and not dispute.ruling.is_for_requester
        sat = any(round_.of(provider.owner) is not None for round_ in dispute.rounds)
        if not self._concludes or not (wins or sat):
            return
        self.busy += 1
        since = self._final.setdefault(case.job, cycle.block.timestamp)
        patience = turn(case, provider, CONCLUDE, self._times.close // 4)
        if not wins and cycle.head.timestamp < since + patience:
            return
        if not self._court.may_begin(case.job.hex(), "conclude"):
            return
        terms, record = order.terms or self._terms(order.job), order.record
        if terms is not None and record is None:
            told = self._jobs.find(Attested, self._start_block, job=case.job)
            record = record_of(terms, told[-1]) if told else None
        if terms is not None and record is not None:
            data = self._jobs.conclude(terms, record, case)
            self._court.begin(case.job.hex(), "conclude", data)

    def _terms(self, job: bytes) -> Terms | None:
        """The terms of a job whose event was lost, by asking for it."""
        if not self._may_ask(job, Posted):
            return None
        told = self._jobs.find(Posted, self._start_block, job=job)
        if not told or told[-1].terms.job_id() != job:
            return None
        self._put(job, terms=told[-1].terms)
        return told[-1].terms

    def _evidence(self, job: bytes) -> bytes | None:
        """The sha256 of the evidence in a dispute whose event was lost, by asking for it."""
        if not self._may_ask(job, Disputed):
            return None
        told = self._jobs.find(Disputed, self._start_block, job=job)
        if not told:
            return None
        self._put(job, evidence=told[-1].evidence)
        return told[-1].evidence

    def _may_ask(self, job: bytes, event: type[Event]) -> bool:
        """Whether a lost event may be searched for again: all of history is read."""
        key, now = (job, event.__name__), self._clock()
        if self._asked.get(key, 0.0) > now:
            return False
        self._asked[key] = now + _ASK_EVERY
        return True

    def _note(self, order: Order, note: str, level: int = logging.INFO) -> None:
        if note != order.note:
            self._store.note(order.job, note)
            self._watch.changed(order.job)
            log.log(level, "dispute %s: %s", order.job.hex()[:12], note)


def _earlier(known: int, window: tuple[int, int]) -> int:
    """The middle of a window of time, or what is known already where that is earlier and not 0."""
    middle = sum(window) // 2
    return min(known or middle, middle)


def _with_reason(what: str, why: str) -> str:
    """A note; at first the bench has nothing to say."""
    return f"{what}: {why or 'getting what the run needs'}"
