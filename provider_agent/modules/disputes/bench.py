# SPDX-License-Identifier: Apache-2.0
"""Judges one result: fetches what the job needs, runs it again, and compares what came out.

All that is found lies in `<root>/<job>/`, so a juror that was killed goes on where it was:

    inputs/       the job's inputs by their sha256
    own/          files and manifest of our own run
    first/        those of a run that failed, where the attested one did not
    theirs/       the attested result, where it was served
    finding       what is to be voted

The run is a run like any other: in the same sandbox, under the limits of the specification, and
reserved in the ledger. Paid work comes first as long as the vote can still be in time.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from provider_agent.comparator.compare import Comparator, Files, Verdict
from provider_agent.core.background import Background
from provider_agent.core.capacity import Capacity, Hold, Kind
from provider_agent.core.demands import Demands
from provider_agent.core.fleet import Fleet
from provider_agent.devices import Device
from provider_agent.durable import sync, sync_tree
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB, Phase, Reason, Runner, RunRequest
from provider_agent.runners.layout import lay_out
from provider_agent.store.errors import StoreError
from teraproof.client.jobs import AgentClient
from teraproof.courts.votes import Vote
from teraproof.errors import LocalError
from teraproof.protocol import digests
from teraproof.protocol.capability import Capability, gpu_class, hardware_of
from teraproof.protocol.comparison import NUMERIC
from teraproof.protocol.digests import Entry
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.outcome import FAILURE, same_failure
from teraproof.rpc.errors import ChainError

log = logging.getLogger(__name__)

MODULE = "disputes"
_PAUSE = 3.0  # seconds before something that failed is tried again
_FINDING, _OWN, _FIRST, _THEIRS, _INPUTS = "finding", "own", "first", "theirs", "inputs"
_SIGNALS = 128  # exit codes from here on: a signal has ended it
_BY_ITSELF = (Reason.EXITED.value, Reason.OUTPUTS.value)
_FILES, _MANIFEST = "files", "manifest"


@dataclass(frozen=True)
class Task:
    """What is to be judged: a case, its specification's digest, and the last second (unix, of the
    chain) in which a finding is of use.
    """

    case: Case
    spec: bytes
    until: int


@dataclass(frozen=True)
class Finding:
    """A vote, and the manifest whose seal it shows; empty for WITHHELD."""

    vote: Vote
    manifest: bytes = b""


@dataclass(frozen=True)
class _Compared:
    """A vote and whose seal it shows, or that the job has to be run again."""

    vote: Vote = Vote.WITHHELD
    shows: str = ""
    again: bool = False


@dataclass(frozen=True)
class Tools:
    """What the bench works with on this machine."""

    runner: Runner
    demands: Demands
    capacity: Capacity
    fleet: Fleet
    runtimes: Mapping[str, Path]
    slots: int
    client: Callable[[str], AgentClient]
    """The agent of a provider, by its owner address, asked as the operator of this one. Raises
    LocalError, ChainError."""
    input_bytes: int


class Bench:
    """See the module. Used by one thread."""

    def __init__(
        self, root: Path, tools: Tools, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._tools, self._clock = root, tools, clock
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._background = Background()
        self._ended = threading.Event()
        self._specs: dict[bytes, JobSpec] = {}
        self._rests: dict[bytes, float] = {}
        self._said: dict[bytes, str] = {}

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._ended.set()
        self._background.close()

    def why(self, job: bytes) -> str:
        """Why there is no finding yet, for people."""
        return self._said.get(job, "")

    def judge(self, task: Task, now: int) -> Finding | None:
        """Go on with a task; its finding, once there is one. `now` is the chain's time."""
        job = task.case.job
        found = self._found(job)
        if found is not None or self._rests.get(job, 0.0) > self._clock():
            return found
        try:
            return self._go_on(task, now)
        except (LocalError, ChainError, OSError) as error:
            self._say(job, str(error))
        except StoreError:
            raise
        except Exception:
            # A stranger's job must not silence a juror: it votes all the same when time is up.
            log.exception("dispute %s: not judged yet", job.hex()[:12])
        self._rests[job] = self._clock() + _PAUSE
        return None

    def own(self, job: bytes) -> bytes | None:
        """The manifest of our own run, if there was one."""
        return _read(self._root / job.hex() / _OWN / _MANIFEST)

    def theirs(self, job: bytes) -> bytes | None:
        """The manifest of the attested result, if it was served."""
        place = self._root / job.hex() / _THEIRS
        return digests.manifest(place) if place.is_dir() else None

    def clear(self, job: bytes) -> None:
        """Forget a job: its dispute is over, or needs us no more."""
        self._tools.capacity.release((MODULE, job))
        for memory in (self._specs, self._rests, self._said):
            memory.pop(job, None)
        place = self._root / job.hex()
        if place.exists():
            self._tools.runner.remove(_run_id(job))
            shutil.rmtree(place, ignore_errors=True)

    def release(self, job: bytes) -> None:
        """Give back what a job has reserved: no run of it is needed any more."""
        self._tools.runner.stop(_run_id(job))
        self._tools.capacity.release((MODULE, job))

    def jobs(self) -> list[bytes]:
        """The jobs of which something lies here."""
        return [bytes.fromhex(one.name) for one in self._root.iterdir() if len(one.name) == 64]

    # ------------------------------------------------------------------ steps

    def _go_on(self, task: Task, now: int) -> Finding | None:
        job = task.case.job
        spec = self._specs.get(job)
        if spec is None:
            spec = self._background.result(("fetch", job), lambda: self._fetch(task))
            if spec is None:
                return None
            self._specs[job] = spec
        unfit = self._unfit(task.case, spec)
        if unfit:
            self._say(job, unfit)
            return self._keep(job, Vote.WITHHELD, "")
        if self.own(job) is None and not self._run(task, spec, now):
            return None
        work = ("compare", job)
        found = self._background.result(work, lambda: self._compare(task.case, spec))
        if found is None:
            return None
        if found.again:
            # Nobody's lie yet: this machine may have failed it.
            self._say(job, "our own run failed and the attested one did not: running it again")
            place = self._root / job.hex()
            (place / _OWN).rename(place / _FIRST)
            return None
        return self._keep(job, found.vote, found.shows)

    def _fetch(self, task: Task) -> JobSpec:
        place = self._root / task.case.job.hex() / _INPUTS
        with self._tools.client(task.case.provider) as client:
            return client.fetch_inputs(task.case.job, task.spec, place, self._tools.input_bytes)

    def _unfit(self, case: Case, spec: JobSpec) -> str:
        """Why this machine cannot judge a job; "" when it can."""
        wanted = int.from_bytes(case.capability, "big")
        names = {gpu_class(device.name) for device in self._tools.fleet.usable} - {None}
        gpus = spec.resources.gpus
        hardware = {hardware_of(str(name), gpus) for name in (names if gpus else {"cpu"})}
        made = (Capability(spec.kind, spec.runtime, one).number() for one in hardware)
        if wanted not in made:
            return "the job does not need what its order says, or a GPU that is not here"
        refusal = self._tools.demands.refuse(spec, spec.timeout_seconds)
        return "" if refusal is None else str(refusal)

    def _run(self, task: Task, spec: JobSpec, now: int) -> bool:
        """Whether our own run is over and its result kept."""
        job, runner = task.case.job, self._tools.runner
        run_id = _run_id(job)
        if run_id not in runner.list():
            devices = self._room(task, spec, now)
            if devices is None:
                return False
            self._say(job, "running the job again")
            request = self._request(job, spec, devices)
            if self._background.result(("start", job), lambda: _start(runner, request)) is None:
                return False
        state = runner.poll(run_id)
        if state.phase is Phase.PENDING:
            runner.start(runner.request(run_id))
            return False
        if state.phase is Phase.RUNNING:
            return False
        if state.provider_fault:
            runner.remove(run_id)
            raise RunnerError(f"our own run failed: {state.detail or state.reason}")
        if self._background.result(("keep", job), lambda: self._keep_own(job)) is None:
            return False
        runner.remove(run_id)
        self._tools.capacity.release((MODULE, job))
        return True

    def _room(self, task: Task, spec: JobSpec, now: int) -> tuple[Device, ...] | None:
        """The GPUs of a run that may begin now; None while it has to wait."""
        tools, job = self._tools, task.case.job
        busy = tools.demands.busy_seconds(spec)
        # Late jurors lose stake: then the vote comes before order.
        urgent = now + 2 * busy > task.until
        live, held = 0, list[Device]()
        for run_id in tools.runner.list():
            if tools.runner.poll(run_id).phase in (Phase.PENDING, Phase.RUNNING):
                live += 1
            held += tools.runner.request(run_id).devices
        devices = tools.fleet.free(held)
        if len(devices) < spec.resources.gpus:
            self._say(job, "waiting for a GPU")
            return None
        key = (MODULE, job)
        if key not in tools.capacity.holds():
            hold = Hold(Kind.OWED, replace(tools.demands.needs(spec), gas=0), busy, by=MODULE)
            if not urgent and (live >= tools.slots or not tools.capacity.reserve(key, hold)):
                self._say(job, "waiting until paid work leaves room")
                return None
            tools.capacity.put(key, hold)
        if spec.resources.gpus:
            tools.capacity.call_in()
        return devices[: spec.resources.gpus]

    def _request(self, job: bytes, spec: JobSpec, devices: tuple[Device, ...]) -> RunRequest:
        inputs = self._root / job.hex() / _INPUTS
        return RunRequest(
            run_id=_run_id(job),
            command=spec.command,
            limits=self._tools.demands.limits(spec, spec.timeout_seconds),
            runtime=self._tools.runtimes.get(spec.runtime),
            env=dict(spec.env),
            inputs={entry.path: inputs / entry.sha256 for entry in spec.inputs},
            outputs=spec.outputs,
            devices=devices,
        )

    def _keep_own(self, job: bytes) -> bool:
        """Lay out the result of our own run, in one step."""
        place = self._root / job.hex() / _OWN
        new = place.with_name(f"{_OWN}.new")
        runner, run_id = self._tools.runner, _run_id(job)
        state = runner.poll(run_id)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        outputs = runner.outputs(run_id) if state.collected else None
        (new / _MANIFEST).write_bytes(lay_out(new / _FILES, state, outputs))
        sync_tree(new)
        new.rename(place)
        sync(place.parent)
        return True

    # ------------------------------------------------------------------ comparing

    def _compare(self, case: Case, spec: JobSpec) -> _Compared:
        """What follows from our own run. LocalError where the result must be served and is not:
        it is asked for again, until there is no more time.
        """
        own = self.own(case.job)
        assert own is not None  # run before
        if digests.result_digest(own, case.origin) == case.result:
            # Right; but a result that nobody can have is worth nothing to its tenant.
            self._serve(case, digests.seal(own, case.origin))
            return _Compared(Vote.RIGHT, _OWN)
        failed = any(entry.path == FAILURE for entry in digests.parse_manifest(own))
        numeric = spec.compare is not None and spec.compare.rule == NUMERIC
        if not failed and not numeric:
            return _Compared(Vote.WRONG, _OWN)
        try:
            listed = self._serve(case, None)
        except LocalError as error:
            if error.code is Code.NOT_REQUESTER:
                # The provider itself says that it has not failed, and ours has.
                return self._failed(case.job, own)
            raise
        mine = digests.parse_manifest(own)
        if failed and self._same_failure(case.job, mine, listed):
            mine = [entry for entry in mine if entry.path != FAILURE]
            listed = [entry for entry in listed if entry.path != FAILURE]
        elif failed:
            return self._failed(case.job, own)
        if not numeric:
            return _Compared(Vote.RIGHT, _THEIRS) if mine == listed else self._failed(case.job, own)
        return _Compared(self._by_numbers(case.job, spec, mine, listed), _THEIRS)

    def _failed(self, job: bytes, own: bytes) -> _Compared:
        """Our own run failed in another way than what is attested. A run that fails twice alike by
        itself says WRONG; what a limit or a signal has ended says nothing of the result.
        """
        place = self._root / job.hex()
        first = _read(place / _FIRST / _MANIFEST)
        if first is None:
            return _Compared(again=True)
        said = json.loads((place / _OWN / _FILES / FAILURE).read_bytes())
        code, reason = said["exit_code"], said["reason"]
        by_itself = reason in _BY_ITSELF and (code is None or code < _SIGNALS)
        if first == own and by_itself:
            return _Compared(Vote.WRONG, _OWN)
        return _Compared(Vote.WITHHELD)

    def _serve(self, case: Case, seal: bytes | None) -> list[Entry]:
        """Fetch the attested result, all of it."""
        place = self._root / case.job.hex() / _THEIRS
        with self._tools.client(case.provider) as client:
            return client.fetch_result(case.origin, place, case.result, as_juror=True, seal=seal)

    def _same_failure(self, job: bytes, mine: list[Entry], listed: list[Entry]) -> bool:
        place = self._root / job.hex()
        if not any(entry.path == FAILURE for entry in listed):
            return False
        ours = (place / _OWN / _FILES / FAILURE).read_bytes()
        theirs = place / _THEIRS / FAILURE
        most = 4 * len(ours) + 4_096
        return theirs.stat().st_size <= most and same_failure(ours, theirs.read_bytes())

    def _by_numbers(
        self, job: bytes, spec: JobSpec, mine: list[Entry], listed: list[Entry]
    ) -> Vote:
        place, tools = self._root / job.hex(), self._tools
        assert spec.compare is not None  # numeric
        comparator = Comparator(
            tools.runner, tools.runtimes.get(spec.runtime), place / "plans", self._nap
        )
        found = comparator.compare(
            _run_id(job),
            spec.compare,
            Files(place / _OWN / _FILES, mine),
            Files(place / _THEIRS, listed),
        )
        log.info("dispute %s: %s %s", job.hex()[:12], found.verdict, found.reason)
        # What the rule cannot compare is nobody's lie: who wrote the order chose the rule.
        return Vote.WRONG if found.verdict is Verdict.DIFFERENT else Vote.RIGHT

    def _nap(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise RunnerError("the agent stops; the comparison goes on later")

    # ------------------------------------------------------------------ findings

    def _keep(self, job: bytes, vote: Vote, shows: str) -> Finding:
        place = self._root / job.hex()
        place.mkdir(mode=0o700, exist_ok=True)
        part = place / f"{_FINDING}.new"
        part.write_text(json.dumps({"vote": int(vote), "shows": shows}))
        sync(part)
        part.rename(place / _FINDING)
        sync(place)
        found = self._found(job)
        assert found is not None  # just kept
        return found

    def _found(self, job: bytes) -> Finding | None:
        data = _read(self._root / job.hex() / _FINDING)
        if data is None:
            return None
        value = json.loads(data)
        vote, shows = Vote(value["vote"]), value["shows"]
        manifest = {_OWN: self.own, _THEIRS: self.theirs}.get(shows, lambda _: b"")(job)
        return None if manifest is None else Finding(vote, manifest)

    def _say(self, job: bytes, line: str) -> None:
        if self._said.get(job) != line:
            self._said[job] = line
            log.info("dispute %s: %s", job.hex()[:12], line)


def _run_id(job: bytes) -> str:
    return f"juror-{job.hex()}"


def _start(runner: Runner, request: RunRequest) -> bool:
    runner.start(request)
    return True


def _read(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None


def input_bytes(megabytes: int) -> int:
    """The setting of the runner in bytes."""
    return megabytes * MIB
