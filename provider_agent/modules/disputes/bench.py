# SPDX-License-Identifier: Apache-2.0
"""Judges one result: fetches what the job needs, runs it again, and compares what came out.

All that is found lies in `<root>/<job>/`, so a juror that was killed goes on where it was:

    spec          the job's specification
    inputs/       its inputs by their sha256
    own/          files and manifest of our own run
    first/        those of a run that failed, where the attested one did not
    theirs/       the attested result, where it was served
    finding       what is to be voted

The run is a run like any other: in the same sandbox, under the limits of the specification, and
reserved in the ledger, as all is that is fetched. Paid work has the slots first, as long as the
vote can still be in time. The provider is a stranger: see `core.fetches`.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from provider_agent.comparator.compare import MEMORY_BYTES, Comparator
from provider_agent.core.background import Background
from provider_agent.core.capacity import Capacity, Kind
from provider_agent.core.demands import Demands
from provider_agent.core.fetches import Ending, Fetches
from provider_agent.core.fleet import Fleet
from provider_agent.devices import Device
from provider_agent.durable import sync, sync_tree
from provider_agent.errors import RunnerError
from provider_agent.modules.disputes.comparing import (
    FILES,
    FIRST,
    MANIFEST,
    OWN,
    THEIRS,
    Compared,
    Comparing,
    Look,
)
from provider_agent.modules.disputes.room import Room
from provider_agent.runners.base import MIB, Phase, Runner, RunRequest
from provider_agent.runners.layout import lay_out
from provider_agent.store.errors import StoreError
from teraproof.client.jobs import AgentClient
from teraproof.courts.votes import Vote
from teraproof.errors import LocalError
from teraproof.protocol import digests
from teraproof.protocol.capability import Capability, gpu_class, hardware_of
from teraproof.protocol.digests import Entry
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec, parse_named
from teraproof.rpc.errors import ChainError

log = logging.getLogger(__name__)
_Given = TypeVar("_Given")

_PAUSE = 3.0  # seconds before something that failed is tried again
_FINDING, _INPUTS = "finding", "inputs"
_SPEC, _FETCH, _SERVE = "spec", "inputs", "result"  # fetches


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
class _Shown:
    """The files of the attested result; None where its provider shows none to us."""

    listed: list[Entry] | None


@dataclass
class _Work:
    """What is known of a job that is judged."""

    spec: JobSpec
    has_inputs: bool = False
    look: Look | None = None
    shown: _Shown | None = None


@dataclass(frozen=True)
class Tools:
    """What the bench works with on this machine."""

    runner: Runner
    demands: Demands
    capacity: Capacity
    fleet: Fleet
    runtimes: Mapping[str, Path]
    slots: int
    client: Callable[[str, float], AgentClient]
    """The agent of a provider, by its owner address, asked as the operator of this one until some
    moment (monotonic). Raises LocalError, ChainError."""
    input_bytes: int


class Bench:
    """See the module. Used by one thread."""

    def __init__(
        self, root: Path, tools: Tools, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._tools, self._clock = root, tools, clock
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._background, self._fetches = Background(), Fetches()
        self._ledger = Room(tools.capacity, tools.demands)
        self._ended = threading.Event()
        self._works: dict[bytes, _Work] = {}
        self._rests: dict[bytes, float] = {}
        self._said: dict[bytes, str] = {}

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._ended.set()
        self._fetches.close()
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
        return _read(self._root / job.hex() / OWN / MANIFEST)

    def theirs(self, job: bytes) -> bytes | None:
        """The manifest of the attested result, if it was served."""
        place = self._root / job.hex() / THEIRS
        return digests.manifest(place) if place.is_dir() else None

    def clear(self, job: bytes) -> None:
        """Forget a job: its dispute is over, or needs us no more."""
        self._give_back(job)
        for memory in (self._rests, self._said):
            memory.pop(job, None)
        place = self._root / job.hex()
        if place.exists():
            self._tools.runner.remove(_run_id(job))
            shutil.rmtree(place, ignore_errors=True)

    def release(self, job: bytes) -> None:
        """Give back what a job has reserved: no run of it is needed any more."""
        self._tools.runner.stop(_run_id(job))
        self._give_back(job)

    def _give_back(self, job: bytes) -> None:
        self._fetches.end((what, job) for what in (_SPEC, _FETCH, _SERVE))
        self._works.pop(job, None)
        self._ledger.give_back(job)

    def jobs(self) -> list[bytes]:
        """The jobs of which something lies here."""
        return [bytes.fromhex(one.name) for one in self._root.iterdir() if len(one.name) == 64]

    # ------------------------------------------------------------------ steps

    def _go_on(self, task: Task, now: int) -> Finding | None:
        job = task.case.job
        work = self._works.get(job)
        if work is None:
            data = _read(self._root / job.hex() / _SPEC)
            if data is None:
                data = self._fetched(_SPEC, task, now, lambda it: self._keep_spec(it, task))
            if data is None:
                return None
            work = self._works[job] = _Work(parse_named(data, task.spec))
        unfit = self._unfit(task.case, work.spec)
        if unfit:
            self._say(job, unfit)
            return self._keep(job, Vote.WITHHELD, "")
        if _run_id(job) in self._tools.runner.list():
            self._ledger.runs(job, work.spec)
        elif not self._ledger.files(job, work.spec):
            self._say(job, "waiting for room on the disk")
            return None
        if self.own(job) is None and not self._has_own(task, work, now):
            return None
        found = self._compared(task, work, now)
        if found is None:
            return None
        if found.again:
            # Nobody's lie yet: this machine may have failed it.
            self._say(job, "our own run failed and the attested one did not: running it again")
            place = self._root / job.hex()
            (place / OWN).rename(place / FIRST)
            work.look = work.shown = None
            return None
        return self._keep(job, found.vote, found.shows)

    def _fetched(
        self, what: str, task: Task, now: int, use: Callable[[AgentClient], _Given]
    ) -> _Given | None:
        """What the provider gives; None while it is under way. Ends when it is of no use."""
        until = time.monotonic() + max(0, task.until - now)

        def work(ending: Ending) -> _Given:
            with self._tools.client(task.case.provider, until) as client:
                ending.by(client.cut_off)
                return use(client)

        return self._fetches.result((what, task.case.job), task.case.provider, work)

    def _keep_spec(self, client: AgentClient, task: Task) -> bytes:
        spec = client.fetch_spec(task.case.job, task.spec).canonical()
        place = self._root / task.case.job.hex()
        place.mkdir(mode=0o700, exist_ok=True)
        _write(place / _SPEC, spec)
        return spec

    def _has_own(self, task: Task, work: _Work, now: int) -> bool:
        """Whether the job was run here, and the result of that kept."""
        job, spec = task.case.job, work.spec
        place, most = self._root / job.hex() / _INPUTS, self._tools.input_bytes

        def fetch(client: AgentClient) -> bool:
            client.fetch_inputs(job, spec, place, most)
            return True

        if not work.has_inputs and _run_id(job) not in self._tools.runner.list():
            if self._fetched(_FETCH, task, now, fetch) is None:
                return False
            work.has_inputs = True
            self._ledger.arrived(job, spec, spec.input_bytes())
        return self._run(task, spec, now)

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
        self._ledger.run_is_over(job)
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
        owed = tools.capacity.load(Kind.OWED).committed
        if not urgent and max(live, owed) >= tools.slots:
            self._say(job, "waiting until paid work leaves room")
            return None
        if not self._ledger.run(job, spec):
            self._say(job, "waiting for memory or a GPU that is not promised")
            return None
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
        place = self._root / job.hex() / OWN
        new = place.with_name(f"{OWN}.new")
        runner, run_id = self._tools.runner, _run_id(job)
        state = runner.poll(run_id)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        outputs = runner.outputs(run_id) if state.collected else None
        (new / MANIFEST).write_bytes(lay_out(new / FILES, state, outputs))
        sync_tree(new)
        new.rename(place)
        sync(place.parent)
        return True

    # ------------------------------------------------------------------ comparing

    def _compared(self, task: Task, work: _Work, now: int) -> Compared | None:
        """What follows from our own run; None while it is being found out. LocalError where the
        result must be served and is not: it is asked for again, until there is no more time.
        """
        case, spec, job = task.case, work.spec, task.case.job
        both = Comparing(self._root / job.hex(), case, spec)
        if work.look is None:
            look = self._background.result(("look", job), both.look)
            if look is None:
                return None
            work.look = look
        if work.look.found is not None:
            return work.look.found
        if work.shown is None:
            seal = work.look.seal
            shown = self._fetched(_SERVE, task, now, lambda it: self._serve(it, case, spec, seal))
            if shown is None:
                return None
            work.shown = shown
        if work.look.seal is not None:
            return Compared(Vote.RIGHT, OWN)
        if both.is_numeric and not self._ledger.comparison(job, MEMORY_BYTES):
            self._say(job, "waiting for memory that is not promised")
            return None
        listed, comparator = work.shown.listed, self._comparator(job, spec)
        found = self._background.result(
            ("compare", job), lambda: both.compare(listed, comparator, _run_id(job))
        )
        if found is not None:
            self._ledger.run_is_over(job)
        return found

    def _serve(self, client: AgentClient, case: Case, spec: JobSpec, seal: bytes | None) -> _Shown:
        """Fetch the attested result, all of it: no more than the job can have made."""
        demands, place = self._tools.demands, self._root / case.job.hex() / THEIRS
        try:
            return _Shown(
                client.fetch_result(
                    *(case.origin, place, case.result, demands.result_bytes(spec)),
                    max_files=demands.result_files(spec),
                    as_juror=True,
                    seal=seal,
                )
            )
        except LocalError as error:
            if seal is None and error.code is Code.NOT_REQUESTER:
                # The provider itself says that it has not failed, and ours has.
                return _Shown(None)
            raise

    def _comparator(self, job: bytes, spec: JobSpec) -> Comparator:
        tools, plans = self._tools, self._root / job.hex() / "plans"
        return Comparator(tools.runner, tools.runtimes.get(spec.runtime), plans, self._nap)

    def _nap(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise RunnerError("the agent stops; the comparison goes on later")

    # ------------------------------------------------------------------ findings

    def _keep(self, job: bytes, vote: Vote, shows: str) -> Finding:
        place = self._root / job.hex()
        place.mkdir(mode=0o700, exist_ok=True)
        _write(place / _FINDING, json.dumps({"vote": int(vote), "shows": shows}).encode())
        self._give_back(job)
        found = self._found(job)
        assert found is not None  # just kept
        return found

    def _found(self, job: bytes) -> Finding | None:
        data = _read(self._root / job.hex() / _FINDING)
        if data is None:
            return None
        value = json.loads(data)
        vote, shows = Vote(value["vote"]), value["shows"]
        manifest = {OWN: self.own, THEIRS: self.theirs}.get(shows, lambda _: b"")(job)
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


def _write(place: Path, data: bytes) -> None:
    """Keep a file for good, in one step."""
    part = place.with_name(f"{place.name}.new")
    part.write_bytes(data)
    sync(part)
    part.rename(place)
    sync(place.parent)


def input_bytes(megabytes: int) -> int:
    """The setting of the runner in bytes."""
    return megabytes * MIB
