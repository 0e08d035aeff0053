# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: takes open jobs, runs them, attests results, and collects the pay.

What is owed follows from the state word of a job at the pinned block and from what is on the disk:

    OPEN, inputs complete, worth it, room    -> intent `accept`
    ASSIGNED to us, no result                -> a run; a lost one is tried again while time remains
    ASSIGNED to us, result on the disk       -> intent `attest`
    ATTESTED by us, window over              -> intent `finalize`
    anything else                            -> no run may be left

A run that ended by the job's own fault is a result (how it ended). What is the provider's fault is
tried again and never attested. An intent that reverted gets a new attempt with a growing pause.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from provider_agent.api.storage import InputStorage
from provider_agent.chain.contracts import (
    Accepted,
    Attested,
    Event,
    JobEvent,
    JobsContract,
    Posted,
    StakingContract,
)
from provider_agent.chain.keys import OperatorKey
from provider_agent.chain.rpc import BlockRef
from provider_agent.chain.sender import Sender
from provider_agent.devices import Device
from provider_agent.duties.background import Background
from provider_agent.duties.policy import Load, Policy, Standing
from provider_agent.duties.results import Result, Results
from provider_agent.errors import AgentError, ChainError, RunnerError, SpecError
from provider_agent.protocol import messages
from provider_agent.protocol.jobspec import JobSpec, parse_named
from provider_agent.protocol.terms import Record, Status, Terms, assignment_of, status_of
from provider_agent.runners.base import MIB, Limits, Phase, Reason, Runner, RunRequest
from provider_agent.runners.receipt import Receipt
from provider_agent.settings import Settings
from provider_agent.store import (
    Intent,
    IntentKey,
    IntentState,
    JobRow,
    RunRow,
    RunStage,
    Store,
)

log = logging.getLogger(__name__)

_CONTRACT = "jobs"
_ZERO_ADDRESS = "0x" + "00" * 20
_FINAL = (Status.SETTLED, Status.CANCELLED, Status.EXPIRED)
_ACTIVE_RUNS = (RunStage.PLANNED, RunStage.RUNNING)
_UNDECIDED = (IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT, IntentState.MINED)
_MAX_ATTEMPTS = 20
_PAUSE = 15  # seconds before the second attempt of an intent; doubles with each
_MAX_PAUSE = 600
_QUICK_ATTEMPTS = 3  # runs of a job that follow each other without a pause
_LOOK_EVERYWHERE = 60.0  # seconds between two looks at all jobs
_STANDING_AGE = 10.0  # seconds for which the provider's entry is good when nothing is to decide
# How a run ends by the provider's own fault, or nobody's: never attested.
_OUR_FAULT = (Reason.SANDBOX_FAILED, Reason.KILLED)


@lru_cache(maxsize=4096)
def decode_terms(data: bytes) -> Terms:
    """Terms from their ABI encoding, as the store keeps them."""
    return Terms.from_abi(decode([Terms.ABI], data)[0])


def attestation_of(job: JobRow, run: RunRow) -> messages.Attestation:
    """What the operator says about a collected run."""
    assert run.result is not None and run.receipt is not None  # set with COLLECTED
    return messages.Attestation(
        job=job.job_id,
        spec=job.spec,
        result=run.result,
        receipt=run.receipt,
        started=run.started or 0,
        finished=run.finished or 0,
    )


@dataclass(frozen=True)
class Machine:
    """What the duty works with on this machine."""

    runner: Runner
    inputs: InputStorage
    results: Results
    devices: tuple[Device, ...]
    """The GPUs; slot n has the n-th part of them."""


class JobsDuty:
    """See the module. `reconcile` is called from one thread."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        jobs: JobsContract,
        staking: StakingContract,
        sender: Sender,
        key: OperatorKey,
        machine: Machine,
        policy: Policy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store = settings, store
        self._jobs, self._staking, self._sender = jobs, staking, sender
        self._key, self._machine, self._policy = key, machine, policy
        self._clock = clock
        self._domain = messages.Domain(settings.chain.chain_id, jobs.address)
        self._background = Background()
        self._dirty: set[bytes] = set()
        self._looked_everywhere: float | None = None  # monotonic time
        self._standing_at: tuple[bytes, float] = (b"", 0.0)  # block hash, monotonic time
        self._fixed: tuple[int, bool] | None = None  # what a contract never changes
        self._words: dict[bytes, int] = {}  # state words of jobs at `_words_at`
        self._words_at = b""
        #: The provider at the last pinned block; None before the first cycle or registration.
        self.standing: Standing | None = None

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._background.close()

    # ------------------------------------------------------------------ events

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what events tell, in the feed's transaction; state is read in `reconcile`."""
        self._dirty.update(again)
        for event in events:
            if not isinstance(event, JobEvent):
                continue
            self._dirty.add(event.job)
            if isinstance(event, Posted):
                self._keep_posted(event)
            elif isinstance(event, Accepted):
                self._store.update_job(event.job, provider=event.provider, price=event.price)
            elif isinstance(event, Attested):
                self._store.update_job(
                    event.job,
                    provider=event.provider,
                    assigned_at=event.assigned_at,
                    attested_at=event.attested_at,
                    result=event.result,
                    receipt=event.receipt,
                    started=event.started,
                    finished=event.finished,
                )

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

    # ------------------------------------------------------------------ the cycle

    def reconcile(self, block: BlockRef) -> None:
        """Do what is owed at this block. Raises ChainError; what was written stays right."""
        self._update_standing(block)
        self._look_everywhere()
        for job_id in self._owed(block):
            self._reconcile_job(job_id, block)
            self._dirty.discard(job_id)
        if self.standing is not None and self.standing.operator_is_ours:
            self._take_jobs(block)

    def _look_everywhere(self) -> None:
        """Now and then all jobs that have not ended: events are hints, and may get lost."""
        now = time.monotonic()
        if self._looked_everywhere is None or now - self._looked_everywhere > _LOOK_EVERYWHERE:
            self._dirty.update(
                job.job_id for job in self._store.jobs(*(s for s in Status if s not in _FINAL))
            )
            self._looked_everywhere = now

    def _owed(self, block: BlockRef) -> list[bytes]:
        """Jobs to look at in this cycle: those with news, and ours that are due."""
        found = dict.fromkeys(self._dirty)
        for run in self._store.runs_in(*_ACTIVE_RUNS, RunStage.EXITED):
            found[run.job_id] = None
        for job in self._store.jobs(Status.ASSIGNED, Status.ATTESTED):
            if self._is_ours(job) and not self._rests(job, block):
                found[job.job_id] = None
        for intent in self._store.intents_in(*_UNDECIDED):
            if intent.key.contract == _CONTRACT:
                found[bytes.fromhex(intent.key.object_id)] = None
        return list(found)

    def _rests(self, job: JobRow, block: BlockRef) -> bool:
        """Whether a job waits for nothing but the end of its challenge window."""
        if Status(job.status) is not Status.ATTESTED or job.attested_at is None:
            return False
        return block.timestamp <= decode_terms(job.terms).finalizable_after(job.attested_at)

    def _word(self, job_id: bytes, block: BlockRef) -> int:
        """The state word of a job at a block, read once."""
        if self._words_at != block.hash:
            self._words.clear()
            self._words_at = block.hash
        if job_id not in self._words:
            self._words[job_id] = self._jobs.state(job_id, block)
        return self._words[job_id]

    def _reconcile_job(self, job_id: bytes, block: BlockRef) -> None:
        job = self._refresh(job_id, block)
        if job is None:
            return
        try:
            status = Status(job.status)
            if status is Status.ASSIGNED and self._is_ours(job):
                self._work(job, block)
                return
            if status is Status.OPEN and self._accept_waits(job_id):
                return  # a run started for an acceptance that a reorg has undone may go on
            if status is Status.ATTESTED and self._is_ours(job):
                self._finalize(job, block)
            self._drop_runs(job_id)
        except RunnerError as error:
            self._note(job, str(error))
        except (ChainError, sqlite3.Error):
            raise
        except Exception:
            log.exception("job %s: not reconciled; this is a bug", job_id.hex())

    def _refresh(self, job_id: bytes, block: BlockRef) -> JobRow | None:
        """Bring a job's row in line with its state word."""
        job = self._store.job(job_id)
        if job is None:
            return None
        word = self._word(job_id, block)
        status = status_of(word)
        if status is Status.NONE:
            # Its posting was thrown out by a reorg and may come back; nothing is owed meanwhile.
            self._drop_runs(job_id)
            if not self._store.intents_of(job_id.hex()):
                self._store.drop_job(job_id)
            elif Status(job.status) is not Status.NONE:
                self._store.update_job(job_id, status=status, state_block=block.number)
            return None
        assignment = assignment_of(word)
        if assignment is not None:
            known = (Status(job.status), job.provider, job.assigned_at)
            if known == (status, assignment.provider, assignment.assigned_at):
                return job
            self._store.update_job(
                job_id,
                status=status,
                provider=assignment.provider,
                assigned_at=assignment.assigned_at,
                state_block=block.number,
            )
        elif status is not Status(job.status):
            ended = int(self._clock()) if status in _FINAL else None
            self._store.update_job(
                job_id, status=status, state_block=block.number, settled_at=ended
            )
        return self._store.job(job_id)

    # ------------------------------------------------------------------ the provider on chain

    def _update_standing(self, block: BlockRef) -> None:
        """Read the provider's entry when it may have changed and matters."""
        now = time.monotonic()
        at, looked = self._standing_at
        if at == block.hash:
            return
        # Without a job to decide about, a few seconds make no difference.
        idle = self.standing is not None and not self._dirty and not self._store.has_open_jobs()
        if idle and now - looked < _STANDING_AGE:
            return
        self.standing = self._read_standing(block)
        self._standing_at = (block.hash, now)

    def _read_standing(self, block: BlockRef) -> Standing | None:
        owner = self._staking.provider_of(self._key.address, block)
        if owner == _ZERO_ADDRESS:
            return None
        pool = self._staking.pool(owner, block)
        limits = self._staking.lock_limits(owner, block)
        own = self._staking.owner_assets(owner, block)
        if self._fixed is None:
            has_scores = self._jobs.scores(block) != _ZERO_ADDRESS
            self._fixed = (self._jobs.open_margin(block), has_scores)
        open_margin, has_scores = self._fixed
        on_the_way = sum(
            decode_terms(job.terms).order.collateral
            for job in self._waiting_acceptances()
            if Status(job.status) is Status.OPEN
        )
        return Standing(
            owner=owner,
            payout=self._staking.payout_of(owner, block),
            operator_is_ours=self._staking.operator_of(owner, block) == self._key.address,
            active_stake=pool.active,
            available=max(0, min(own, limits.total) - pool.locked - on_the_way),
            per_order=limits.per_order,
            open_margin=open_margin,
            has_scores=has_scores,
            orders_paused=self._jobs.paused_until(block) > block.timestamp,
            only_member_root=keccak(keccak(encode(["address"], [owner]))),
        )

    def _is_ours(self, job: JobRow) -> bool:
        return self.standing is not None and job.provider == self.standing.owner

    # ------------------------------------------------------------------ taking jobs

    def _take_jobs(self, block: BlockRef) -> None:
        standing = self.standing
        assert standing is not None  # checked by the caller
        most = self._settings.agent.slots * (1 + self._settings.agent.accept_ahead)
        available = standing.available
        if not self._store.has_open_jobs():
            return
        load = self.load()
        for job in self._store.jobs(Status.OPEN):
            if load.committed >= most:
                return
            if self._accept_waits(job.job_id) or not self._may_retry(job.job_id, "accept"):
                continue
            terms = decode_terms(job.terms)
            refusal = self._refuse(job, terms, block, load, available)
            if refusal is not None:
                self._note(job, refusal)
                continue
            if self._refresh(job.job_id, block) is None:
                continue
            fresh = self._store.job(job.job_id)
            if fresh is None or Status(fresh.status) is not Status.OPEN:
                continue
            self._note(job, "accepting")
            self._submit(
                job.job_id,
                "accept",
                self._jobs.accept(terms),
                deadline=terms.open_until(standing.open_margin),
            )
            available -= terms.order.collateral
            longest = max(load.longest_timeout, self._timeout(job))
            load = Load(load.slots, load.committed + 1, longest)

    def _refuse(
        self, job: JobRow, terms: Terms, block: BlockRef, load: Load, available: int
    ) -> str | None:
        """Why an open job is not taken now."""
        standing = self.standing
        assert standing is not None  # checked by the caller
        if block.timestamp > terms.open_until(standing.open_margin):
            return "no longer open"
        spec = self.spec(job)
        if spec is None:
            return "waiting for the specification"
        refusal = self._policy.refuse_spec(spec) or self._policy.refuse_job(
            terms, spec, block.timestamp, standing, load
        )
        if refusal is not None:
            return refusal
        if terms.order.collateral > available:
            return "the stake is locked by other jobs"
        missing = self.missing_inputs(job.requester, spec)
        return f"waiting for {missing} inputs" if missing else None

    def spec(self, job: JobRow) -> JobSpec | None:
        """The specification of a job, if it is here and valid."""
        body = self._store.spec(job.spec)
        if body is None:
            return None
        try:
            return _parse_spec(body, job.spec)
        except SpecError as error:
            log.warning("job %s: %s", job.job_id.hex(), error)
            return None

    def missing_inputs(self, requester: str, spec: JobSpec) -> int:
        """How many inputs of a specification its requester has not sent yet."""
        return sum(
            self._machine.inputs.path(requester, entry.sha256) is None for entry in spec.inputs
        )

    def load(self) -> Load:
        """What is promised: active runs, and jobs of ours (or nearly) that have none yet."""
        timeouts = {}
        for run in self._store.runs_in(*_ACTIVE_RUNS):
            timeouts[run.job_id] = self._timeout(self._store.job(run.job_id))
        waiting = [*self._waiting_acceptances()]
        waiting += [job for job in self._store.jobs(Status.ASSIGNED) if self._is_ours(job)]
        for job in waiting:
            if job.job_id not in timeouts and self._machine.results.get(job.job_id) is None:
                timeouts[job.job_id] = self._timeout(job)
        return Load(self._settings.agent.slots, len(timeouts), max(timeouts.values(), default=0))

    def _timeout(self, job: JobRow | None) -> int:
        spec = None if job is None else self.spec(job)
        return 0 if spec is None else spec.timeout_seconds

    def _waiting_acceptances(self) -> Iterable[JobRow]:
        """Jobs with an acceptance on its way."""
        for intent in self._store.intents_in(*_UNDECIDED):
            if intent.key.contract == _CONTRACT and intent.key.action.startswith("accept"):
                job = self._store.job(bytes.fromhex(intent.key.object_id))
                if job is not None and Status(job.status) is Status.OPEN:
                    yield job

    def _accept_waits(self, job_id: bytes) -> bool:
        # A final acceptance counts until the pinned block shows it.
        return any(
            intent.key.action.startswith("accept")
            and intent.state not in (IntentState.REVERTED, IntentState.ABANDONED)
            for intent in self._store.intents_of(job_id.hex())
        )

    def was_hired(self, quote: bytes) -> bool:
        """Whether a job exists that was hired by the quote with this struct hash."""
        nonce = int.from_bytes(quote, "big")
        return any(decode_terms(job.terms).order.nonce == nonce for job in self._store.jobs())

    # ------------------------------------------------------------------ working

    def _work(self, job: JobRow, block: BlockRef) -> None:
        """A job assigned to us: run it, or attest what came of it."""
        assert job.assigned_at is not None  # read from the state word
        terms = decode_terms(job.terms)
        deadline = terms.deadline(job.assigned_at)
        if block.timestamp > deadline:
            self._note(job, "the deadline has passed; the collateral can be seized")
            self._drop_runs(job.job_id)
            return
        run = self._latest_run(job.job_id)
        if run is None or run.state in (RunStage.FAILED, RunStage.REMOVED):
            run = self._plan_run(job, terms, deadline, run)
        if run is None:
            return
        if run.state in _ACTIVE_RUNS:
            run = self._follow(job, run)
        if run.state is RunStage.EXITED:
            run = self._collect(job, run)
        if run.state is RunStage.COLLECTED:
            self._attest(job, terms, run, deadline)

    def _plan_run(
        self, job: JobRow, terms: Terms, deadline: int, last: RunRow | None
    ) -> RunRow | None:
        """Give a job a slot, if one is free and there is time."""
        spec = self.spec(job)
        if spec is None:
            self._note(job, "its specification is not here")
            return None
        if self._clock() + spec.timeout_seconds > deadline:
            self._note(job, "too little time is left to run it")
            return None
        if self.missing_inputs(job.requester, spec):
            self._note(job, "its inputs are not here")
            return None
        attempt = 1 if last is None else int(last.run_id.rsplit("-", 2)[1]) + 1
        if attempt > _MAX_ATTEMPTS:
            self._note(job, f"given up after {_MAX_ATTEMPTS} attempts")
            return None
        if last is not None and last.updated_at + self._run_pause(attempt) > self._clock():
            return None
        taken = {_slot(run.run_id) for run in self._store.runs_in(*_ACTIVE_RUNS)}
        free = [slot for slot in range(self._settings.agent.slots) if slot not in taken]
        if not free:
            self._note(job, "waiting for a free slot")
            return None
        # What may lie there is the result of a run that a reorg took away before it counted.
        self._machine.results.remove(job.job_id)
        return self._store.add_run(f"{job.job_id.hex()}-{attempt}-{free[0]}", job.job_id)

    @staticmethod
    def _run_pause(attempt: int) -> int:
        """Seconds before an attempt: a lost run is repeated at once, a stubborn fault is not."""
        slow = attempt - _QUICK_ATTEMPTS
        return 0 if slow <= 0 else min(_MAX_PAUSE, _PAUSE << (slow - 1))

    def _follow(self, job: JobRow, run: RunRow) -> RunRow:
        """Start a run, or see what became of it."""
        runner = self._machine.runner
        if run.state is RunStage.PLANNED:
            request = self._request(job, run.run_id)
            try:
                if self._background.result(("start", run.run_id), lambda: self._start(request)):
                    self._note(job, "running")
                    return self._store.set_run_state(run.run_id, RunStage.RUNNING)
            except AgentError as error:
                return self._failed(job, run, str(error))
            return run
        try:
            state = runner.poll(run.run_id)
        except RunnerError as error:
            return self._failed(job, run, str(error))
        if state.phase is Phase.PENDING:
            # The machine died between the two: start it again, under the same name.
            runner.start(self._request(job, run.run_id))
            return run
        if state.phase is Phase.RUNNING:
            return run
        if state.phase is Phase.LOST or state.reason in _OUR_FAULT:
            return self._failed(job, run, state.detail or "the run was lost")
        return self._store.set_run_state(
            run.run_id,
            RunStage.EXITED,
            exit_code=state.exit_code,
            reason="" if state.reason is None else state.reason.value,
            started=state.started,
            finished=state.finished,
        )

    def _start(self, request: RunRequest) -> bool:
        self._machine.runner.start(request)
        return True

    def _failed(self, job: JobRow, run: RunRow, why: str) -> RunRow:
        log.warning("job %s: run %s failed: %s", job.job_id.hex(), run.run_id, why)
        self._note(job, why)
        self._machine.runner.remove(run.run_id)
        return self._store.set_run_state(run.run_id, RunStage.FAILED, reason=why)

    def _collect(self, job: JobRow, run: RunRow) -> RunRow:
        """Turn an ended run into a result."""
        try:
            result = self._background.result(("keep", run.run_id), lambda: self._keep(job, run))
        except AgentError as error:
            return self._failed(job, run, str(error))
        if result is None:
            return run
        self._machine.runner.remove(run.run_id)
        ended = "" if run.reason == Reason.EXITED.value and run.exit_code == 0 else run.reason
        self._note(job, f"attesting a failure ({ended})" if ended else "attesting")
        return self._store.set_run_state(
            run.run_id,
            RunStage.COLLECTED,
            result=result.result_digest,
            receipt=result.receipt_digest,
        )

    def _keep(self, job: JobRow, run: RunRow) -> Result:
        known = self._machine.results.get(job.job_id)
        if known is not None:
            return known
        runner = self._machine.runner
        state = runner.poll(run.run_id)
        receipt = Receipt.of_run(job.job_id, self._request(job, run.run_id), state)
        outputs = runner.outputs(run.run_id) if state.succeeded else None
        return self._machine.results.keep(
            job.job_id, state, outputs, runner.log(run.run_id), receipt.canonical()
        )

    def _request(self, job: JobRow, run_id: str) -> RunRequest:
        """What the runner is asked for; the same for the same run at any time."""
        spec = self.spec(job)
        if spec is None:
            raise RunnerError("its specification is not here")
        inputs = {}
        for entry in spec.inputs:
            path = self._machine.inputs.path(job.requester, entry.sha256)
            if path is None:
                raise RunnerError("its inputs are not here")
            inputs[entry.path] = path
        runner, wanted = self._settings.runner, spec.resources
        first = _slot(run_id) * runner.gpus
        return RunRequest(
            run_id=run_id,
            command=spec.command,
            limits=Limits(
                timeout_seconds=spec.timeout_seconds,
                cpus=wanted.cpus,
                memory_bytes=wanted.memory_mb * MIB,
                disk_bytes=wanted.disk_mb * MIB,
                output_bytes=runner.output_mb * MIB,
                pids=runner.pids,
            ),
            runtime=runner.runtimes.get(spec.runtime),
            env=dict(spec.env),
            inputs=inputs,
            outputs=spec.outputs,
            devices=self._machine.devices[first : first + wanted.gpus],
        )

    def _latest_run(self, job_id: bytes) -> RunRow | None:
        runs = self._store.runs_of(job_id)
        return max(runs, key=lambda run: int(run.run_id.rsplit("-", 2)[1]), default=None)

    def _drop_runs(self, job_id: bytes) -> None:
        """No process may be left for a job that is not ours to work on."""
        for run in self._store.runs_of(job_id):
            if run.state in (*_ACTIVE_RUNS, RunStage.EXITED):
                self._machine.runner.remove(run.run_id)
                self._store.set_run_state(run.run_id, RunStage.REMOVED)

    # ------------------------------------------------------------------ transactions

    def _attest(self, job: JobRow, terms: Terms, run: RunRow, deadline: int) -> None:
        if not self._wants_attempt(job.job_id, "attest"):
            return
        attestation = attestation_of(job, run)
        # Our own transaction is our word: the contract asks relayers alone for a signature.
        data = self._jobs.attest(
            terms,
            attestation.result,
            attestation.receipt,
            attestation.started,
            attestation.finished,
            b"",
        )
        self._submit(job.job_id, "attest", data, deadline=deadline)

    def _finalize(self, job: JobRow, block: BlockRef) -> None:
        """Collect the pay when the window is over and the tenant has said nothing."""
        if job.attested_at is None or job.result is None or job.receipt is None:
            return  # the event is still to be read
        terms = decode_terms(job.terms)
        if block.timestamp <= terms.finalizable_after(job.attested_at):
            self._note(job, "in the challenge window")
            return
        if not self._wants_attempt(job.job_id, "finalize"):
            return
        attestation = messages.Attestation(
            job=job.job_id,
            spec=job.spec,
            result=job.result,
            receipt=job.receipt,
            started=job.started or 0,
            finished=job.finished or 0,
        )
        record = Record(
            provider=job.provider or _ZERO_ADDRESS,
            assigned_at=job.assigned_at or 0,
            attested_at=job.attested_at,
            attestation=attestation.struct_hash(),
        )
        if self._word(job.job_id, block) != record.state_word():
            log.warning("job %s: the record on chain is another; events are missing", job.job_id)
            return
        self._submit(job.job_id, "finalize", self._jobs.finalize(terms, record))

    def _submit(self, job_id: bytes, action: str, data: bytes, deadline: int | None = None) -> None:
        """Write an intent, or a new attempt when earlier ones came to nothing."""
        if self._wants_attempt(job_id, action):
            number = len(self._attempts(job_id, action)) + 1
            name = action if number == 1 else f"{action}#{number}"
            key = IntentKey(_CONTRACT, job_id.hex(), name)
            self._sender.submit(key, self._jobs.address, data, deadline=deadline)

    def _wants_attempt(self, job_id: bytes, action: str) -> bool:
        """Whether no attempt is under way or has succeeded, and the next one's time has come."""
        attempts = self._attempts(job_id, action)
        failed = (IntentState.REVERTED, IntentState.ABANDONED)
        if attempts and attempts[-1].state not in failed:
            return False
        return self._may_retry(job_id, action)

    def _attempts(self, job_id: bytes, action: str) -> list[Intent]:
        return [
            intent
            for intent in self._store.intents_of(job_id.hex())
            if intent.key.action.partition("#")[0] == action
        ]

    def _may_retry(self, job_id: bytes, action: str) -> bool:
        attempts = self._attempts(job_id, action)
        if not attempts:
            return True
        if len(attempts) >= _MAX_ATTEMPTS:
            return False
        pause: int = min(_MAX_PAUSE, _PAUSE << (len(attempts) - 1))
        return attempts[-1].updated_at + pause <= self._clock()

    def _note(self, job: JobRow, note: str) -> None:
        known = self._store.job(job.job_id)
        if known is not None and known.note != note:
            log.info("job %s: %s", job.job_id.hex()[:12], note)
            self._store.update_job(job.job_id, note=note)

    # ------------------------------------------------------------------ keeping house

    def prune(self) -> None:
        """Delete what nobody needs any more: results after their time, inputs without a job."""
        now = int(self._clock())
        keep_for = int(self._settings.agent.keep_results_hours * 3600)
        needed: set[tuple[str, str]] = set()
        for job in self._store.jobs():
            status = Status(job.status)
            terms = decode_terms(job.terms)
            margin = 0 if self.standing is None else self.standing.open_margin
            open_until = terms.open_until(margin)
            stale = status in (Status.OPEN, Status.NONE) and now > open_until + keep_for
            ended = job.settled_at is not None and now > job.settled_at + keep_for
            if stale or ended:
                self._machine.results.remove(job.job_id)
                if not self._store.intents_of(job.job_id.hex()):
                    self._store.drop_job(job.job_id)
                continue
            spec = self.spec(job)
            for entry in () if spec is None else spec.inputs:
                needed.add((job.requester.lower(), entry.sha256))
        self._machine.inputs.prune(keep_for, lambda account, name: (account, name) in needed)


@lru_cache(maxsize=512)
def _parse_spec(body: bytes, digest: bytes) -> JobSpec:
    return parse_named(body, digest)


def _slot(run_id: str) -> int:
    return int(run_id.rsplit("-", 1)[1])
