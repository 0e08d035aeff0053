# SPDX-License-Identifier: Apache-2.0
"""Runs the jobs that are assigned to us, and turns ended runs into results.

Jobs get slots in the order in which they were taken: each was promised with those before it in
mind, so none may be overtaken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from provider_agent.core.attempts import MAX_ATTEMPTS, MAX_PAUSE, PAUSE
from provider_agent.core.background import Background
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.adoption import adopt_result
from provider_agent.modules.jobs.book import (
    ACTIVE_RUNS,
    CONTRACT,
    JobBook,
    RunName,
    attestation_of,
    decode_terms,
    origin_of,
)
from provider_agent.modules.jobs.policy import Policy
from provider_agent.modules.jobs.repository import JobRow, QuoteRow, RunRow, RunStage
from provider_agent.modules.jobs.results import Result, Results
from provider_agent.runners import receipt as receipts
from provider_agent.runners.base import Phase, Reason, Runner, RunRequest, RunState
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import Status

log = logging.getLogger(__name__)

_QUICK_ATTEMPTS = 3


@dataclass(frozen=True)
class Machine:
    """What the duty works with on this machine."""

    runner: Runner
    inputs: InputStorage
    results: Results
    fleet: Fleet
    """The GPUs: a run is given those that are free when it begins."""


class Worker:
    """See the module."""

    def __init__(
        self,
        book: JobBook,
        machine: Machine,
        policy: Policy,
        runner: RunnerSettings,
        slots: int,
        clock: Callable[[], float] = time.time,
        quotes: Callable[[], Sequence[QuoteRow]] = tuple,
        hired: Callable[[], Sequence[QuoteRow]] = tuple,
        before_run: Callable[[], None] = lambda: None,
        salt: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._before_run, self._salt = before_run, salt
        self._book, self._store, self._machine = book, book.store, machine
        self._policy, self._settings, self._slots, self._clock = policy, runner, slots, clock
        self._quotes, self._hired = quotes, hired
        self._background = Background()
        # A driver that hangs keeps no job from being started or kept.
        self._probes = Background(1)
        self._doomed: dict[bytes, int] = {}  # job -> first block at which no run was due
        self._chosen: dict[str, tuple[Device, ...]] = {}  # run -> its GPUs, until it has begun

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._background.close()
        self._probes.close()

    def work(self, job: JobRow, deadline: int, now: int) -> RunRow | None:
        """Bring a job of ours as far as it goes; its run once there is one.

        `deadline` and `now` are unix seconds of the chain: the machine's clock may be wrong.
        """
        self._doomed.pop(job.job_id, None)
        run = self._adopted(job, self._book.latest_run(job.job_id))
        if run is None or run.state in (RunStage.FAILED, RunStage.REMOVED):
            run = self._plan(job, deadline, now, run)
        if run is None:
            return None
        if run.state in ACTIVE_RUNS:
            run = self._follow(job, run)
        if run.state is RunStage.EXITED:
            run = self._collect(job, run)
        return run

    def statement(self, job: JobRow, run: RunRow) -> Attestation:
        """What is to be said of a collected run: kept on the disk before anybody reads it. Raises
        RunnerError where another result was signed for.
        """
        kept = self._machine.results.get(job.job_id)
        receipt = b"" if kept is None else kept.receipt
        return self._machine.results.said.keep(attestation_of(job, run), receipt)

    def _adopted(self, job: JobRow, last: RunRow | None) -> RunRow | None:
        """The last run, or the one whose result is on the disk and not in the database: that was
        lost, or is a backup of before. What was signed for is never run again while it is here.
        """
        if last is not None and last.state not in (RunStage.FAILED, RunStage.REMOVED):
            return last
        results = self._machine.results
        known = results.get(job.job_id)
        if known is None or (last is not None and results.said.of(job.job_id) is None):
            return last
        attempt = 1 if last is None else RunName.parse(last.run_id).attempt + 1
        return adopt_result(self._store, job.job_id, known, attempt) or last

    def drop(self, job_id: bytes, block: int) -> bool:
        """No process may be left for a job that is not ours to work on.

        That is believed when two blocks say it: one lying or stale answer kills no work. True while
        the second one has to say it.
        """
        live = [
            run
            for run in self._store.runs_of(job_id)
            if run.state in (*ACTIVE_RUNS, RunStage.EXITED)
        ]
        if not live:
            self._doomed.pop(job_id, None)
            return False
        if self._doomed.setdefault(job_id, block) == block:
            return True
        for run in live:
            self._machine.runner.remove(run.run_id)
            self._store.set_run_state(run.run_id, RunStage.REMOVED)
        self._doomed.pop(job_id, None)
        return False

    def probe_suspects(self) -> None:
        """Try the GPUs again that are off the offer, every few minutes."""
        for device in self._machine.fleet.to_probe():
            try:
                said = self._probes.result(("probe", device.uuid), partial(self._probe, device))
            except LocalError as error:
                said = (str(error),)
            if said is not None:
                self._machine.fleet.probed(device, said[0])

    def _probe(self, device: Device) -> tuple[str]:
        return (self._machine.runner.probe(device),)

    # ------------------------------------------------------------------ planning

    def _plan(self, job: JobRow, deadline: int, now: int, last: RunRow | None) -> RunRow | None:
        """Give a job a slot, if one is free and it is its turn."""
        spec = self._book.spec(job)
        if spec is None:
            self._book.note(job, "its specification is not here", Code.SPEC_MISSING)
            return None
        if self._book.missing_inputs(job.requester, spec):
            self._book.note(job, "its inputs are not here", Code.INPUTS_MISSING)
            return None
        attempt = 1 if last is None else RunName.parse(last.run_id).attempt + 1
        if attempt > MAX_ATTEMPTS:
            self._book.note(job, f"given up after {MAX_ATTEMPTS} attempts", Code.ATTEMPTS_EXHAUSTED)
            return None
        if self._rests(last):
            return None
        slot = self._slot_for(job, spec, deadline, now)
        if slot is None:
            self._book.note(job, "waiting for a free slot", Code.SLOTS_TAKEN)
            return None
        if self._free_devices(spec.resources.gpus) is None:
            self._book.note(job, "waiting for a GPU that works and is free", Code.DEVICES_TAKEN)
            return None
        left = deadline - now
        if left < 1:
            self._book.note(job, "no time is left to run it", Code.TIME_EXHAUSTED)
            return None
        # Most jobs end long before their timeout: one that comes late is tried all the same.
        seconds = left if left < spec.timeout_seconds else None
        # What may lie there is the result of a run that a reorg took away before it counted.
        self._machine.results.remove(job.job_id)
        name = RunName(job.job_id, attempt, slot, seconds)
        return self._store.add_run(str(name), job.job_id)

    def _slot_for(self, job: JobRow, spec: JobSpec, deadline: int, now: int) -> int | None:
        """A free slot, if no job that was taken earlier and can begin waits for one."""
        active = self._store.runs_in(*ACTIVE_RUNS)
        taken = {RunName.parse(run.run_id).slot for run in active}
        free = [slot for slot in range(self._slots) if slot not in taken]
        busy = {run.job_id for run in active}
        mine = self._turn(job)
        earlier = [
            other
            for other in self._store.jobs_by(job.provider or "", Status.ASSIGNED)
            if other.job_id not in busy
            and self._turn(other) < mine
            and self._needs_run(other)
            and self._can_begin(other, now)
        ]
        kept = 0
        if self._book.acceptance(job.job_id) is not None:
            kept = self._kept(job, active)
            # What the chain has told of later may have been taken earlier.
            if deadline - now > self._policy.seconds_alone(spec):
                kept += self._unseen(job)
        return free[0] if len(free) > len(earlier) + kept else None

    def _unseen(self, job: JobRow) -> int:
        """How many jobs are ours before this one was, and are not seen to be."""
        hired, mine = len(self._hired()), self._book.acceptance(job.job_id)
        if mine is None or mine.nonce is None:
            return hired
        others = [self._book.acceptance(other.job_id) for other in self._book.accepting()]
        # An account's transactions land in the order of their nonces.
        return hired + sum(
            one is not None and one.nonce is not None and one.nonce < mine.nonce for one in others
        )

    def _kept(self, job: JobRow, active: list[RunRow]) -> int:
        """How many slots a job that has paid leaves to those that may still hire by a quote.

        Those have a slot in time where one is free, or a brief job is in it: their durations allow
        for one such job before them. (A quote of before an upgrade may not.)
        """
        quotes = self._quotes()
        if not quotes:
            return 0
        specs = [self._book.spec_named(quote.spec) for quote in quotes]
        firm = sum(
            spec is None or not self._policy.can_wait(spec, quote.duration)
            for spec, quote in zip(specs, quotes, strict=True)
        )
        running = [self._store.job(run.job_id) for run in active]
        brief = sum(self._is_brief(one) for one in (job, *running) if one is not None)
        return firm + max(0, len(quotes) - firm - brief)

    def _is_brief(self, job: JobRow) -> bool:
        spec = self._book.spec(job)
        return spec is not None and self._policy.is_brief(spec)

    def _free_devices(self, wanted: int) -> tuple[Device, ...] | None:
        """That number of GPUs that work and that no run holds; None where there are fewer."""
        if wanted == 0:
            return ()
        active = {run.run_id for run in self._store.runs_in(*ACTIVE_RUNS)}
        self._chosen = {name: chosen for name, chosen in self._chosen.items() if name in active}
        free = self._machine.fleet.free(self._held_devices(), CONTRACT)
        return free[:wanted] if len(free) >= wanted else None

    def held(self) -> set[str]:
        """The UUIDs of the GPUs that runs hold now. Asked from any thread."""
        return {device.uuid for device in self._held_devices()}

    def _held_devices(self) -> list[Device]:
        runner, held, chosen = self._machine.runner, list[Device](), self._chosen
        active = {run.run_id for run in self._store.runs_in(*ACTIVE_RUNS)}
        begun = set(runner.list())
        for run_id in active:
            held += runner.request(run_id).devices if run_id in begun else ()
            held += chosen.get(run_id, ())
        # Runs of other modules hold theirs until they are removed.
        for run_id in begun:
            held += runner.request(run_id).devices if RunName.read(run_id) is None else ()
        return held

    def _needs_run(self, job: JobRow) -> bool:
        run = self._book.latest_run(job.job_id)
        return run is None or run.state in (RunStage.FAILED, RunStage.REMOVED)

    def _can_begin(self, job: JobRow, now: int) -> bool:
        if not self._book.can_be_delivered(job, now):
            return False
        spec = self._book.spec(job)
        if spec is None or self._rests(self._book.latest_run(job.job_id)):
            return False
        return (
            not self._book.missing_inputs(job.requester, spec)
            and self._free_devices(spec.resources.gpus) is not None
        )

    def _rests(self, last: RunRow | None) -> bool:
        """Whether a job pauses after an attempt that failed: it keeps nobody waiting meanwhile."""
        if last is None:
            return False
        attempt = RunName.parse(last.run_id).attempt + 1
        return last.updated_at + _pause(attempt) > self._clock()

    def _turn(self, job: JobRow) -> tuple[bool, int, int, bytes]:
        """The order in which jobs were taken: hired ones have a slot of their own. What has failed
        comes after what has not been tried.
        """
        intent, last = self._book.acceptance(job.job_id), self._book.latest_run(job.job_id)
        failed = last is not None and last.state is RunStage.FAILED
        return (failed, 0 if intent is None else intent.id, job.assigned_at or 0, job.job_id)

    # ------------------------------------------------------------------ running

    def _follow(self, job: JobRow, run: RunRow) -> RunRow:
        """Start a run, or see what became of it."""
        runner = self._machine.runner
        try:
            if run.state is RunStage.PLANNED:
                request = self._request(job, run.run_id)
                work = ("start", run.run_id)
                self._before_run()
                if self._background.result(work, lambda: self._start(request)):
                    self._book.note(job, "running")
                    return self._store.set_run_state(run.run_id, RunStage.RUNNING)
                return run
            state = runner.poll(run.run_id)
            if state.phase is Phase.PENDING:
                # The machine died between the two: start it again, under the same name.
                runner.start(self._request(job, run.run_id))
        except LocalError as error:
            return self._failed(job, run, str(error))
        if state.phase in (Phase.PENDING, Phase.RUNNING):
            return run
        if state.reason is Reason.DEVICE:
            self._machine.fleet.suspect(state.broken, state.detail)
        if self._is_our_fault(run, state):
            return self._failed(job, run, state.detail or "the run was lost")
        return self._store.set_run_state(
            run.run_id,
            RunStage.EXITED,
            exit_code=state.exit_code,
            reason="" if state.reason is None else state.reason.value,
            started=state.started,
            finished=state.finished,
        )

    def _is_our_fault(self, run: RunRow, state: RunState) -> bool:
        shortened = RunName.parse(run.run_id).seconds is not None
        return state.provider_fault or (shortened and state.reason is Reason.TIMEOUT)

    def _start(self, request: RunRequest) -> bool:
        self._machine.runner.start(request)
        return True

    def _failed(self, job: JobRow, run: RunRow, why: str) -> RunRow:
        log.warning("job %s: run %s failed: %s", job.job_id.hex(), run.run_id, why)
        self._book.note(job, why, Code.RUN_FAILED)
        self._machine.runner.remove(run.run_id)
        return self._store.set_run_state(run.run_id, RunStage.FAILED, reason=why)

    def _request(self, job: JobRow, run_id: str) -> RunRequest:
        """What the runner is asked for; the same for the same run at any time."""
        if run_id in self._machine.runner.list():
            return self._machine.runner.request(run_id)
        spec = self._book.spec(job)
        if spec is None:
            raise RunnerError("its specification is not here")
        inputs = {}
        for entry in spec.inputs:
            path = self._machine.inputs.path(job.requester, entry.sha256)
            if path is None:
                raise RunnerError("its inputs are not here")
            inputs[entry.path] = path
        devices = self._chosen.get(run_id) or self._free_devices(spec.resources.gpus)
        if devices is None:
            raise RunnerError("a GPU that it was given no longer works")
        self._chosen[run_id] = devices
        name = RunName.parse(run_id)
        return RunRequest(
            run_id=run_id,
            command=spec.command,
            limits=self._policy.limits(spec, name.seconds or spec.timeout_seconds),
            runtime=self._settings.runtimes.get(spec.runtime),
            env=dict(spec.env),
            inputs=inputs,
            outputs=spec.outputs,
            devices=devices,
        )

    # ------------------------------------------------------------------ collecting

    def _collect(self, job: JobRow, run: RunRow) -> RunRow:
        """Turn an ended run into a result."""
        try:
            result = self._background.result(("keep", run.run_id), lambda: self._keep(job, run))
        except LocalError as error:
            gone = run.run_id not in self._machine.runner.list()
            if gone or error.code is Code.SIGNED_OTHERWISE:
                return self._failed(job, run, str(error))
            # A full disk, say: the work is done, so keeping it is tried again.
            self._book.note(job, str(error), Code.RESULT_UNSAVED)
            return run
        if result is None:
            return run
        ended_run = replace(run, result=result.result_digest, receipt=result.receipt_digest)
        said = self.statement(job, ended_run)
        runner = self._machine.runner
        ended = "" if run.reason == Reason.EXITED.value and run.exit_code == 0 else run.reason
        if ended:
            # Which path is at fault, or how much it was, is for the tenant, too.
            with suppress(LocalError):
                ended = ": ".join(filter(None, (ended, runner.poll(run.run_id).detail)))
        self._machine.runner.remove(run.run_id)
        self._book.note(job, f"attesting a failure ({ended})" if ended else "attesting")
        return self._store.set_run_state(
            run.run_id,
            RunStage.COLLECTED,
            result=said.result,
            receipt=said.receipt,
            started=said.started,
            finished=said.finished,
        )

    def _keep(self, job: JobRow, run: RunRow) -> Result:
        known = self._machine.results.get(job.job_id)
        if known is not None:
            return known
        runner = self._machine.runner
        state = runner.poll(run.run_id)
        receipt = receipts.of_run(origin_of(job), runner.request(run.run_id), state)
        outputs = runner.outputs(run.run_id) if state.collected else None
        judged = decode_terms(job.terms).order.capability is not None
        return self._machine.results.keep(
            job.job_id,
            state,
            outputs,
            runner.log(run.run_id),
            receipt.canonical(),
            self._salt(job.job_id) if judged else None,
        )


def _pause(attempt: int) -> int:
    """Seconds before an attempt: a lost run is repeated at once, a stubborn fault is not."""
    slow = attempt - _QUICK_ATTEMPTS
    return 0 if slow <= 0 else min(MAX_PAUSE, PAUSE << (slow - 1))
