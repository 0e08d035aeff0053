# SPDX-License-Identifier: Apache-2.0
"""Takes open jobs: those that suit, whose inputs are here, and for which there is room."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provider_agent.core.attempts import Attempts
from provider_agent.core.capacity import Kind
from provider_agent.core.fleet import Fleet
from provider_agent.modules.jobs.book import JobBook, decode_terms
from provider_agent.modules.jobs.candidates import Candidates
from provider_agent.modules.jobs.halt import Halt
from provider_agent.modules.jobs.policy import Policy, Standing, taken
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.repository import JobRow
from provider_agent.modules.jobs.verdicts import Verdicts
from provider_agent.tx.reserve import GasReserve
from teraproof.contracts.jobs import JobsContract
from teraproof.errors import Refused, counted
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status
from teraproof.rpc.types import BlockRef

_NO_SPEC = Refused(Code.SPEC_MISSING, "waiting for the specification")
_MOST_WAITING = 4_096  # jobs that wait for uploads and are remembered
_ARRIVED = 2  # of those for which something came, at most, that a cycle looks at first
_WAITS = Refused(Code.SLOTS_TAKEN, "waiting for the room that a quote holds")


@dataclass(frozen=True)
class _Waiting:
    """A job that waits for what its account sends; `version` is of what that had sent."""

    account: str
    version: int
    why: Refused


class Taker:
    """See the module."""

    def __init__(
        self,
        book: JobBook,
        policy: Policy,
        promises: Promises,
        attempts: Attempts,
        jobs: JobsContract,
        halt: Halt,
        reserve: GasReserve,
        fleet: Fleet,
    ) -> None:
        self._halt, self._reserve, self._fleet = halt, reserve, fleet
        self._book, self._policy, self._promises = book, policy, promises
        self._verdicts = Verdicts(book, policy)
        self._choice = Candidates(book.store)
        self._attempts, self._jobs = attempts, jobs
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()

    def take(
        self,
        block: BlockRef,
        standing: Standing,
        refresh: Callable[[bytes, BlockRef], JobRow | None],
    ) -> None:
        """Accept what can be accepted; `refresh` reads a job's state before a second attempt."""
        if not self._book.store.has_open_jobs():
            return
        with self._promises.lock:
            for job in self._candidates():
                if self._book.acceptance(job.job_id) is not None:
                    continue
                if not self._attempts.may_begin(job.job_id.hex(), "accept"):
                    continue
                version = self._book.inputs_version(job.requester)
                refusal = self._refuse(job, block, standing)
                if refusal is not None:
                    self._put_off(job, refusal)
                    if refusal.code in (Code.INPUTS_MISSING, Code.SPEC_MISSING):
                        self._remember(job, _Waiting(job.requester, version, refusal))
                    continue
                # An estimate shows whether it is open still; after a failure its state is read.
                if self._attempts.made(job.job_id.hex(), "accept"):
                    fresh = refresh(job.job_id, block)
                    if fresh is None or Status(fresh.status) is not Status.OPEN:
                        continue
                self._reserve.look(block, promises=True)
                if self._halt.refuse() is not None:
                    return  # the machine was stopped since this cycle began: look again first
                self._accept(job, standing)

    def _accept(self, job: JobRow, standing: Standing) -> None:
        terms, spec = decode_terms(job.terms), self._book.spec(job)
        assert spec is not None  # refused before
        if spec.resources.gpus:
            self._fleet.look(promises=True)
        found = self._promises.promise(job, spec)
        if not found:
            self._promises.await_room(found.recall)
            self._put_off(job, taken(found.short[0]) if found.short else _WAITS)
            return
        self._book.note(job, "accepting")
        self._attempts.begin(
            job.job_id.hex(),
            "accept",
            self._jobs.accept(terms, self._policy.path(terms.order, spec, standing) or None),
            deadline=terms.open_until(
                standing.open_margin, terms.paused_since(standing.paused_seconds)
            ),
        )

    def _candidates(self) -> Iterator[JobRow]:
        """The open jobs that this cycle looks at."""
        store = self._book.store
        arrived = self._arrived()
        others = (job_id for job_id in self._choice.choose() if job_id not in arrived)
        for job_id in itertools.chain(arrived, others):
            job = store.job(job_id)
            if job is not None and Status(job.status) is Status.OPEN:
                yield job

    def _arrived(self) -> list[bytes]:
        """Jobs that waited for uploads, of accounts that have sent something since."""
        found: dict[str, bytes] = {}
        for job_id, waiting in self._waiting.items():
            account = waiting.account
            if account not in found and self._book.inputs_version(account) != waiting.version:
                found[account] = job_id
                if len(found) == _ARRIVED:
                    break
        for job_id in found.values():
            del self._waiting[job_id]
        return list(found.values())

    def _known(self, job: JobRow) -> Refused | None:
        """Why a job waits, if nothing was sent since: a look at all of its inputs is dear."""
        found = self._waiting.get(job.job_id)
        if found is None or found.why.code is not Code.INPUTS_MISSING:
            return None
        same = found.version == self._book.inputs_version(found.account)
        return found.why if same else None

    def _remember(self, job: JobRow, waiting: _Waiting) -> None:
        self._waiting[job.job_id] = waiting
        self._waiting.move_to_end(job.job_id)
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)

    def _put_off(self, job: JobRow, reason: Refused) -> None:
        """Say why a job is not taken now. Strangers have many such jobs: only news is written."""
        if str(reason) != job.note or reason.code is not self._book.blocked_by(job.job_id):
            self._book.note(job, str(reason), reason.code)

    def _refuse(self, job: JobRow, block: BlockRef, standing: Standing) -> Refused | None:
        """Why an open job is not taken now. What costs least to find out comes first."""
        refusal = self._refuse_order(job, block, standing) or self._halt.refuse()
        if refusal is not None:
            return refusal
        known = self._known(job)
        if known is not None:
            return known
        terms, spec = decode_terms(job.terms), self._book.spec(job)
        if spec is None:
            return _NO_SPEC
        found = self._promises.capacity.fit(
            self._policy.needs(spec, terms.order.collateral), Kind.OWED
        )
        if found.short:
            return taken(found.short[0])
        refusal = self._policy.refuse_time(terms, spec, self._promises.load(Kind.OWED))
        if refusal is not None:
            return refusal
        missing = self._book.missing_inputs(job.requester, spec)
        if missing:
            return Refused(
                Code.INPUTS_MISSING,
                f"waiting for {counted(missing, 'input')}",
                missing=missing,
                inputs=len(spec.inputs),
            )
        if self._policy.refuse_time(terms, spec, self._promises.load()) is not None:
            # It would have the time, were there no quotes.
            self._promises.await_room(self._promises.capacity.holds(Kind.OFFERED))
            return _WAITS
        return None

    def _refuse_order(self, job: JobRow, block: BlockRef, standing: Standing) -> Refused | None:
        """Why what a job asks for does not suit, whatever else this machine is doing."""
        terms = decode_terms(job.terms)
        refusal = self._policy.refuse_terms(terms, block.timestamp, standing)
        if refusal is not None:
            return refusal
        verdict = self._verdicts.of(job.spec)
        if verdict is None:
            return _NO_SPEC
        if verdict.refusal is not None:
            return verdict.refusal
        if self._policy.needs_list(terms.order, standing) or terms.order.capability is not None:
            spec = self._book.spec(job)
            if spec is None:
                return _NO_SPEC
            refusal = self._policy.refuse_judged(
                terms.order.judged, spec
            ) or self._policy.refuse_list(terms.order, spec, standing)
            if refusal is not None:
                return refusal
        # The price last: it may still rise.
        return self._policy.refuse_price(terms, verdict.least, block.timestamp, standing)
