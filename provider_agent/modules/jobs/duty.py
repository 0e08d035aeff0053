# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: takes open jobs, runs them, attests results, and collects the pay.

What is owed follows from the state word of a job at the pinned block and from what is on the disk:

    OPEN, inputs complete, worth it, room    -> intent `accept`         (taking.py)
    ASSIGNED to us, no result                -> a run                   (working.py)
    ASSIGNED to us, result on the disk       -> intent `attest`
    ATTESTED by us, window over              -> intent `finalize`
    anything else                            -> no run may be left

A run that ended by the job's own fault is a result (how it ended). What is the provider's fault is
tried again and never attested.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Unpack

from eth_abi.abi import encode

from provider_agent.core.attempts import UNDECIDED, Attempts
from provider_agent.core.clock import ChainClock
from provider_agent.core.policy import contained
from provider_agent.core.standing import Provider
from provider_agent.errors import RunnerError
from provider_agent.modules.jobs.book import (
    ACTIVE_RUNS,
    CONTRACT,
    DELIVERED,
    FINAL,
    JobBook,
    attestation_of,
    decode_terms,
    record_of,
)
from provider_agent.modules.jobs.chain_view import AT_ONCE, ChainView
from provider_agent.modules.jobs.executor import Worker
from provider_agent.modules.jobs.halt import Halt
from provider_agent.modules.jobs.policy import Standing
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.repository import JobRow, JobsRepository, JobUpdate, RunStage
from provider_agent.modules.jobs.taking import Taker
from provider_agent.modules.jobs.windows import Windows
from provider_agent.store.errors import damaged
from teraproof.contracts.base import Event
from teraproof.contracts.jobs import (
    Accepted,
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
from teraproof.deals import JobEvent
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status, Terms, assignment_of, status_of
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

_ENDINGS = {
    Status.SETTLED: "paid",
    Status.CANCELLED: "cancelled",
    Status.EXPIRED: "expired",
    Status.REFUSED: "refused by the requester; price and collateral are burned",
    Status.REFUNDED: (
        "refunded: jurors found the result wrong, or it was convicted; the collateral is seized"
    ),
}
_LOOK_EVERYWHERE = 180  # seconds after which all of our jobs at work are looked at again
_LATE_OF_NOW = 86_400  # seconds after a deadline in which a miss counts


class JobsDuty:
    """See the module. `consume` and `reconcile` are called from one thread."""

    def __init__(
        self,
        store: JobsRepository,
        book: JobBook,
        view: ChainView,
        promises: Promises,
        taker: Taker,
        worker: Worker,
        attempts: Attempts,
        jobs: JobsContract,
        halt: Halt,
        clock: ChainClock,
        expires_missed: bool = False,
    ) -> None:
        self._halt = halt
        self._clock, self._expires_missed = clock, expires_missed
        self._now = 0  # of the cycle, unix seconds of the chain
        self._store, self._book, self._view = store, book, view
        self._promises, self._taker, self._worker = promises, taker, worker
        self._attempts, self._jobs = attempts, jobs
        self._dirty: set[bytes] = set()
        self._moved: set[str] = set()  # requesters of orders that are no longer what they were
        self._put_off: list[bytes] = []  # by a cycle that had no time left
        self._looked_everywhere: int | None = None  # the chain's time
        self._undecided: set[bytes] = set()  # jobs with intents on their way in the last cycle
        self._windows = Windows()
        self._to_defend: set[bytes] = set()  # delivered jobs that a court may have to judge
        self._windows_of: str | None = None  # the provider whose jobs they are
        #: The provider at the last pinned block; None before the first cycle or registration.
        self.standing: Standing | None = None

    @property
    def now(self) -> int:
        """The chain's time of this moment, unix seconds; 0 before the first cycle."""
        return self._clock.now()

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._halt.close()
        self._worker.close()

    # ------------------------------------------------------------------ events

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what events tell, in the feed's transaction; state is read in `reconcile`."""
        self._dirty.update(again)
        for event in events:
            if not isinstance(event, JobEvent):
                continue
            # Anybody can make events: one that shows a bug must not stop all others.
            with contained(f"job {event.job.hex()}: an event was skipped"):
                self._keep(event)

    def _keep(self, event: JobEvent) -> None:
        if isinstance(event, Posted):
            self._keep_posted(event)
        elif isinstance(event, Accepted):
            self._hint(event.job, Status.ASSIGNED, provider=event.provider, price=event.price)
        elif isinstance(event, Attested):
            self._hint(
                event.job,
                Status.ATTESTED,
                provider=event.provider,
                assigned_at=event.assigned_at,
                attested_at=event.attested_at,
                paused=event.paused,
                result=event.result,
                receipt=event.receipt,
                started=event.started,
                finished=event.finished,
            )
        elif isinstance(event, Settled):
            self._hint(event.job, Status.SETTLED)
        elif isinstance(event, Expired):
            self._hint(event.job, Status.EXPIRED)
        elif isinstance(event, Refused):
            self._hint(event.job, Status.REFUSED)
        elif isinstance(event, Disputed):
            self._hint(event.job, Status.DISPUTED)
        elif isinstance(event, Refunded):
            self._hint(event.job, Status.REFUNDED)
        elif isinstance(event, Cancelled):
            self._hint(event.job, Status.CANCELLED)

    def _keep_posted(self, event: Posted) -> None:
        terms = event.terms
        if terms.job_id() != event.job:
            log.warning("job %s: its terms do not hash to its id; skipped", event.job.hex())
            return
        self._store.add_job(
            event.job,
            encode([Terms.ABI], [terms.abi_tuple()]),
            terms.requester,
            terms.order.spec,
            Status.OPEN,
        )

    def _hint(self, job_id: bytes, said: Status, **columns: Unpack[JobUpdate]) -> None:
        """Keep what an event says. The status of a job that concerns us comes from the chain."""
        update = columns.copy()
        job = self._store.job(job_id)
        if job is not None and self._concerns_us(job, update.get("provider")):
            self._dirty.add(job_id)
            if said is Status.ASSIGNED:
                self._promises.news_of(job.requester)
        elif job is not None and Status(job.status) not in FINAL:
            update["status"] = said
            self._moved.add(job.requester)
            if said in FINAL:
                update["settled_at"] = int(time.time())
                update["note"] = self._ending(job, said)
        self._store.update_job(job_id, **update)

    def _concerns_us(self, job: JobRow, provider: str | None = None) -> bool:
        """Whether we have, or had, anything to do with a job."""
        ours = self.standing is not None and self.standing.owner in (provider, job.provider)
        return ours or self._store.concerns(job.job_id)

    def moved(self) -> set[str]:
        """Whose orders have become something else since this was asked last."""
        found, self._moved = self._moved, set()
        return found

    # ------------------------------------------------------------------ the cycle

    @property
    def is_idle(self) -> bool:
        """Whether no job of ours has moved, so that what is locked is as before."""
        return not self._dirty

    def reconcile(
        self,
        block: BlockRef,
        provider: Provider | None,
        time_left: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        """Do what is owed at this block. Raises ChainError; what was written stays right.

        When no time is left the rest is put off, and comes first in the next cycle.
        """
        self._now = self._clock.see(block.timestamp)
        self._view.begin(block)
        self.standing = self._view.standing(block, provider)
        owed = self._owed(block)
        done = 0
        while done < len(owed):
            if done % AT_ONCE == 0:
                self._read_words(owed[done : done + AT_ONCE], block)
            self._reconcile_job(owed[done], block)
            self._dirty.discard(owed[done])
            done += 1
            if time_left() <= 0:
                break
        owed = owed[done:]
        self._put_off = owed
        self._promises.update(block, self.standing, self._to_defend)
        self._halt.look()
        if self.standing is not None and self.standing.operator_is_ours and not owed:
            self._taker.take(block, self.standing, self._refresh)
        self._promises.show()

    def _read_words(self, job_ids: list[bytes], block: BlockRef) -> None:
        """Read what `_reconcile_job` will want to know of these jobs, in one request."""
        for job_id in self._dirty.intersection(job_ids):
            self._view.forget(job_id)
        wanted = [j for j in job_ids if j in self._dirty or not self._is_accepting(j)]
        jobs = [job for job in map(self._store.job, wanted) if job is not None]
        self._view.read([job.job_id for job in jobs], block)
        news = [j for j in jobs if self._is_news(j, self._view.word(j.job_id, block))]
        self._view.read_surely([job.job_id for job in news], block)

    def _look_everywhere(self) -> None:
        """Now and then all jobs of ours at work: events are hints, and may get lost. One that waits
        for the end of its window is looked at then.
        """
        last = self._looked_everywhere
        if last is None or self._now - last > _LOOK_EVERYWHERE:
            owner = None if self.standing is None else self.standing.owner
            unended = self._store.unended(owner)
            self._dirty.update(j for j in unended if not self._windows.rests(j, self._now))
            self._looked_everywhere = self._now

    def _owed(self, block: BlockRef) -> list[bytes]:
        """Jobs to look at in this cycle: those with news, and ours that are due."""
        undecided = {
            bytes.fromhex(intent.key.object_id)
            for intent in self._store.core.intents_in(*UNDECIDED)
            if intent.key.contract == CONTRACT
        }
        # What has become of an intent is news, also when its event is lost.
        self._dirty.update(self._undecided - undecided)
        self._undecided = undecided
        owner = None if self.standing is None else self.standing.owner
        if owner is not None and owner != self._windows_of:
            self._windows.load(self._store.jobs_by(owner, Status.ATTESTED))
            self._to_defend = set()
            for job in self._store.jobs_by(owner, *DELIVERED):
                self._defend(job)
            self._windows_of = owner
        self._look_everywhere()
        self._dirty |= self._view.doubted
        self._view.doubted.clear()
        found = dict.fromkeys([*self._put_off, *self._dirty])
        for run in self._store.runs_in(*ACTIVE_RUNS, RunStage.EXITED):
            found[run.job_id] = None
        if owner is not None:
            for job in self._store.jobs_by(owner, Status.ASSIGNED):
                found[job.job_id] = None
        found |= dict.fromkeys([*self._windows.over(block.timestamp), *undecided])
        return list(found)

    def _reconcile_job(self, job_id: bytes, block: BlockRef) -> None:
        # One job that shows a bug must not stop all others.
        with contained(f"job {job_id.hex()}: not reconciled"):
            if job_id not in self._dirty and self._is_accepting(job_id):
                return  # until there is news of it
            job = self._refresh(job_id, block)
            if job is None:
                return
            try:
                self._reconcile_row(job, block)
            except RunnerError as error:
                self._book.note(job, str(error), error.code)

    def _is_accepting(self, job_id: bytes) -> bool:
        """Whether a job is open, and our acceptance on its way."""
        job = self._store.job(job_id)
        if job is None or Status(job.status) is not Status.OPEN:
            return False
        return self._book.acceptance(job_id) is not None

    def _reconcile_row(self, job: JobRow, block: BlockRef) -> None:
        status = Status(job.status)
        self._defend(job)
        if status is Status.ATTESTED and self._is_ours(job):
            self._windows.keep(job)
        else:
            self._windows.drop(job.job_id)
        if status is Status.ASSIGNED and self._is_ours(job):
            self._work(job, block)
            return
        if status is Status.OPEN and self._book.acceptance(job.job_id) is not None:
            return  # a run started for an acceptance that a reorg has undone may go on
        if status is Status.EXPIRED and self._is_ours(job) and _is_late_of_now(job, block):
            self._halt.missed(job.job_id)
        if status is Status.ATTESTED and self._is_ours(job):
            self._halt.delivered()
            self._finalize(job, block)
        if self._worker.drop(job.job_id, block.number) or status in FINAL:
            self._view.forget(job.job_id)

    def _defend(self, job: JobRow) -> None:
        """Whether what this job needs must stay for jurors: as long as it has not ended."""
        judged = decode_terms(job.terms).order.capability is not None
        if judged and self._is_ours(job) and Status(job.status) in DELIVERED:
            self._to_defend.add(job.job_id)
        else:
            self._to_defend.discard(job.job_id)

    def _refresh(self, job_id: bytes, block: BlockRef) -> JobRow | None:
        """Bring a job's row in line with its state word."""
        job = self._store.job(job_id)
        if job is None:
            return None
        word = self._view.word(job_id, block)
        if self._is_news(job, word):
            # One endpoint alone ends no work of ours.
            sure = self._view.sure(job_id, block)
            if sure is None:
                return job
            word = sure
        status = status_of(word)
        if status is Status.NONE:
            # Its posting was thrown out by a reorg and may come back; nothing is owed meanwhile.
            self._worker.drop(job_id, block.number)
            self._view.forget(job_id)
            self._windows.drop(job_id)
            if not self._store.core.intents_of(job_id.hex()) and not self._store.runs_of(job_id):
                self._store.drop_job(job_id)
            elif Status(job.status) is not Status.NONE:
                self._store.update_job(job_id, status=status, state_block=block.number)
            return None
        assignment = assignment_of(word)
        if assignment is not None:
            known = (Status(job.status), job.provider, job.assigned_at, job.paused)
            read = (status, assignment.provider, assignment.assigned_at, assignment.paused)
            if known == read:
                return job
            self._moved.add(job.requester)
            self._store.update_job(
                job_id,
                status=status,
                provider=assignment.provider,
                assigned_at=assignment.assigned_at,
                paused=assignment.paused,
                state_block=block.number,
            )
        elif status is not Status(job.status):
            self._moved.add(job.requester)
            change = JobUpdate(status=status, state_block=block.number, settled_at=None)
            if status in FINAL:
                # What held it up is over; the note goes with the status, so none is left behind.
                change["settled_at"] = int(time.time())
                change["note"] = self._ending(job, status)
                log.info("job %s: %s", job_id.hex()[:12], change["note"])
            elif status is Status.DISPUTED and self._is_ours(job):
                change["note"] = "disputed: jurors judge the result"
                log.warning("job %s: %s", job_id.hex()[:12], change["note"])
            self._store.update_job(job_id, **change)
        return self._store.job(job_id)

    def _ending(self, job: JobRow, status: Status) -> str:
        """The note of a job that has ended."""
        others = status is Status.SETTLED and self.standing is not None and not self._is_ours(job)
        return "paid to another provider" if others else _ENDINGS[status]

    def _is_ours(self, job: JobRow) -> bool:
        return self.standing is not None and job.provider == self.standing.owner

    def _is_news(self, job: JobRow, word: int) -> bool:
        """Whether a state word says something else of a job of ours than its row."""
        taken = assignment_of(word)
        moved = taken is not None and taken.provider != job.provider
        return self._is_ours(job) and (moved or status_of(word) is not Status(job.status))

    # ------------------------------------------------------------------ jobs of ours

    def _work(self, job: JobRow, block: BlockRef) -> None:
        """A job assigned to us: run it, or attest what came of it."""
        assert job.assigned_at is not None  # read from the state word
        terms = decode_terms(job.terms)
        if terms.job_id() != job.job_id:
            raise damaged(self._store.path, "the terms of a job do not have its id")
        deadline = terms.deadline(job.assigned_at)
        if block.timestamp > deadline:  # what a block says; the clock alone ends no work
            self._book.note(
                job, "the deadline has passed; the collateral can be seized", Code.DEADLINE_MISSED
            )
            self._worker.drop(job.job_id, block.number)
            self._halt.missed(job.job_id)
            if self._expires_missed:
                self._attempts.begin(job.job_id.hex(), "expire", self._jobs.expire(terms))
            return
        run = self._worker.work(job, deadline, self._now)
        if run is None or run.state is not RunStage.COLLECTED:
            return
        attestation = self._worker.statement(job, run)
        # Our own transaction is our word: the contract asks relayers alone for a signature.
        data = self._jobs.attest(
            terms,
            attestation.result,
            attestation.receipt,
            attestation.started,
            attestation.finished,
            b"",
        )
        self._attempts.begin(job.job_id.hex(), "attest", data, deadline=deadline)

    def _recall(self, job: JobRow, block: BlockRef) -> None:
        """Keep what the event of our attestation would say, from our own run and transaction: the
        event may be lost. The chain's record decides whether it is true.
        """
        runs = [run for run in self._store.runs_of(job.job_id) if run.result is not None]
        mined = [made.mined for made in self._attempts.made(job.job_id.hex(), "attest")]
        numbers = [one.block_number for one in mined if one is not None and one.status == 1]
        if not runs or not numbers or numbers[-1] > block.number:
            return
        attestation = attestation_of(job, runs[-1])
        attested_at = self._view.time_of(numbers[-1])
        record = record_of(job, attestation, attested_at)
        if self._view.word(job.job_id, block) != record.state_word():
            return
        self._store.update_job(
            job.job_id,
            attested_at=attested_at,
            result=attestation.result,
            receipt=attestation.receipt,
            started=attestation.started,
            finished=attestation.finished,
        )

    def _finalize(self, job: JobRow, block: BlockRef) -> None:
        """Collect the pay when the window is over and the tenant has said nothing."""
        if job.attested_at is None:
            self._recall(job, block)
            job = self._store.job(job.job_id) or job
        if job.attested_at is None or job.result is None or job.receipt is None:
            return  # the event is still to be read
        terms = decode_terms(job.terms)
        if block.timestamp <= terms.finalizable_after(job.attested_at):
            self._book.note(job, "in the challenge window")
            return
        if not self._attempts.may_begin(job.job_id.hex(), "finalize"):
            return
        record = record_of(job, attestation_of(job, job), job.attested_at)
        if self._view.word(job.job_id, block) != record.state_word():
            log.warning("job %s: the record on chain is another", job.job_id.hex())
            return
        self._attempts.begin(job.job_id.hex(), "finalize", self._jobs.finalize(terms, record))


def _is_late_of_now(job: JobRow, block: BlockRef) -> bool:
    """Whether an expired job says something of this machine as it is. A lost database shows all
    that has ever expired once more.
    """
    if job.assigned_at is None:
        return True
    return decode_terms(job.terms).deadline(job.assigned_at) > block.timestamp - _LATE_OF_NOW
