# SPDX-License-Identifier: Apache-2.0
"""Runs jobs as processes of this machine, each in a bubblewrap sandbox under its own supervisor.

All that is known of a run is in its directory, so an agent that comes back after a crash finds its
runs by looking. Whether a run is alive is shown by a lock that its supervisor and its sandbox hold,
never by a process id, which may be somebody else's by now.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import provider_agent
from provider_agent.devices import Device
from provider_agent.durable import sync_directory
from provider_agent.errors import RunnerError
from provider_agent.runners import (
    cgroup,
    containment,
    disk,
    inputs,
    linux,
    orphans,
    probe,
    sandbox,
    state,
    supervisor,
    usage,
    watch,
)
from provider_agent.runners.base import (
    MIB,
    Limits,
    Phase,
    Reason,
    RunRequest,
    RunState,
    check_run_id,
)
from provider_agent.runners.outputs import remove_tree
from provider_agent.runners.state import Plan, Saved

_log = logging.getLogger(__name__)

_LAUNCH_SECONDS = 60  # to start Python on a busy machine
_STOP_SECONDS = 10  # for the supervisor to end a run by itself
_CHECK, _PROBE = "check-", "probe-"  # runs of the agent's own, which it waits for
_TRIAL = ".trial-"  # a file, locked as long as somebody waits for such a run
_NEW = ".new-"
_DEAD = ".removed-"
_AT_ONCE = 512  # files and directories of an ended run that are deleted without a thread


class ProcessRunner:
    """Runs under `<data_dir>/runs`. `private` are paths that no job may see, such as the keys.

    `sandbox_kind` is "bubblewrap", or "none" for an owner who trusts every job. `unlimited` says
    that the owner accepts jobs whose memory and disk are only watched. `probe_runtime` has the
    Python that tries GPUs in the sandbox; without it, it is the system's.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        sandbox_kind: str = "bubblewrap",
        private: Sequence[Path] = (),
        unlimited: bool = False,
        probe_runtime: Path | None = None,
    ) -> None:
        if sandbox_kind not in ("bubblewrap", "none"):
            raise RunnerError(f'runner.sandbox is {sandbox_kind!r}; use "bubblewrap" or "none"')
        self._runs = data_dir.resolve() / "runs"
        self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sandbox, self._unlimited = sandbox_kind, unlimited
        self._probe_runtime = probe_runtime
        self._private = tuple(str(path.resolve()) for path in (data_dir, *private))
        self._sweep()
        if sandbox_kind == "none":
            _log.warning("jobs run WITHOUT a sandbox (runner.sandbox = none): trust every tenant")

    @property
    def containment(self) -> containment.Containment:
        """What keeps jobs apart from this machine."""
        return containment.of_this_machine(self._sandbox)

    def check(self) -> str:
        """Runs a command under all that is to contain it. Raises RunnerError where that fails."""
        found = self.containment
        if not self._unlimited:
            found.refuse()
        version = "" if self._sandbox == "none" else self._bubblewrap()
        trial = RunRequest(
            run_id=f"{_CHECK}{uuid.uuid4().hex}",
            command=("/usr/bin/true",),
            limits=Limits(10, 1, 256 * MIB, 16 * MIB, MIB, 16),
        )
        with self._trial(trial):
            end = time.monotonic() + 15
            while (ended := self.poll(trial.run_id)).phase is not Phase.EXITED:
                if ended.phase is Phase.LOST or time.monotonic() > end:
                    raise RunnerError("the sandbox does not start; see the supervisor's log")
                time.sleep(0.02)
            if not ended.succeeded:
                help_ = "" if self._sandbox == "none" else f"; {containment.advice()}"
                raise RunnerError(f"jobs cannot be run here: {ended.detail}{help_}")
        own = self._sandbox != "none" and os.geteuid() == 0
        user = "a user of their own" if own else "the agent's own user"
        return f"{version}jobs run as {user}, {found}"

    def _bubblewrap(self) -> str:
        said = subprocess.run(
            [str(sandbox.find()), "--version"], capture_output=True, text=True, check=False
        )
        return f"{said.stdout.strip() or 'bubblewrap'}: "

    def start(self, run: RunRequest) -> None:
        """Starts a run once, however often and from however many processes it is asked for.

        Raises RunnerError when it cannot be started, or the id names another request.
        """
        directory = self._directory(run.run_id)
        if not directory.exists():
            if self._sandbox != "none":
                sandbox.find()
            self._create(run, directory)
        plan = self._plan(directory)
        if plan.request.to_json() != run.to_json():
            raise RunnerError(f"run {run.run_id} exists already with another request; remove it")
        if Saved.read(directory).state.phase is not Phase.PENDING:
            return
        self._launch(directory)

    def poll(self, run_id: str) -> RunState:
        """The state of a run. Raises RunnerError when there is no such run."""
        directory = self._existing(run_id)
        # The lock first: a run that ends between the two looks is then seen as ended.
        alive = linux.is_locked(directory / state.LOCK)
        saved = Saved.read(directory)
        found = saved.state
        if found.phase is Phase.RUNNING and alive and not orphans.is_supervised(saved):
            # Looked at again: it may have ended between the two looks, as it should.
            found = Saved.read(directory).state
            if found.phase is Phase.RUNNING:
                orphans.end_orphans(directory)
                alive = linux.is_locked(directory / state.LOCK)
        if found.phase is Phase.RUNNING and not alive:
            if self._plan(directory).sandbox == "none":
                orphans.end_strays(directory)
            _release(directory)
            return RunState(Phase.LOST, started=found.started, detail="its supervisor died")
        return found

    def stop(self, run_id: str) -> None:
        """Ends a run with all its processes and returns when they are gone."""
        directory = self._directory(run_id)
        if not directory.exists():
            return
        self._end_processes(directory)
        try:
            self._end_for_good(directory)
        except OSError as error:
            raise _unprepared(run_id, "stopped for good", error) from error

    def _end_processes(self, directory: Path) -> None:
        try:
            (directory / state.STOP).touch()
        except OSError:  # a full disk; the supervisor cannot be asked, but it can be ended
            self._kill_supervisor(directory)
        end = time.monotonic() + _STOP_SECONDS
        while linux.is_locked(directory / state.LOCK):
            saved = Saved.read(directory)
            if saved.state.phase is not Phase.PENDING and not orphans.is_supervised(saved):
                orphans.end_orphans(directory)
            elif time.monotonic() > end:
                self._kill_supervisor(directory)
            time.sleep(0.02)

    def _end_for_good(self, directory: Path) -> None:
        """A run that never began must not begin later."""
        lock = os.open(directory / state.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            phase = Saved.read(directory).state.phase
            if phase is Phase.RUNNING and self._plan(directory).sandbox == "none":
                orphans.end_strays(directory)
            if linux.take_lock(lock) and phase is Phase.PENDING:
                now = int(time.time())
                ended = RunState(Phase.EXITED, Reason.KILLED, None, now, now)
                Saved(ended).write(directory)
        finally:
            os.close(lock)

    def remove(self, run_id: str) -> None:
        """Stops a run and deletes all that it left, on a full disk, too."""
        directory = self._directory(run_id)
        if directory.exists():
            self._end_processes(directory)
            with suppress(OSError):  # without room to write that down; it cannot begin when gone
                self._end_for_good(directory)
            _release(directory)
        dead = self._runs / f"{_DEAD}{run_id}-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            os.rename(directory, dead)  # at once, so that nobody meets half of a run
            _delete(dead)

    def request(self, run_id: str) -> RunRequest:
        """What a run was asked for. Raises RunnerError when there is no such run."""
        return self._plan(self._existing(run_id)).request

    def probe(self, device: Device) -> str:
        """Why a GPU cannot be used in the sandbox, in the driver's words; "" when it can."""
        run = RunRequest(
            run_id=f"{_PROBE}{uuid.uuid4().hex}",
            command=("true",),
            limits=Limits(probe.SECONDS, 1, 4096 * MIB, 16 * MIB, MIB, 64),
            runtime=self._probe_runtime,
            devices=(device,),
        )
        run = replace(run, command=probe.command(run))
        with self._trial(run):
            end = time.monotonic() + 3 * probe.SECONDS
            while (ended := self.poll(run.run_id)).phase is not Phase.EXITED:
                if ended.phase is Phase.LOST or time.monotonic() > end:
                    raise RunnerError("the probe of a GPU came to no end")
                time.sleep(0.05)
            if ended.succeeded:
                return ""
            said = self.log(run.run_id).read_text(errors="replace").strip().splitlines()
            last = ascii(said[-1])[1:-1] if said else ended.detail
            return ended.detail if ended.reason is Reason.DEVICE else last

    def list(self) -> tuple[str, ...]:
        """The ids of all runs, ended ones too, sorted."""
        return tuple(sorted(name for name in os.listdir(self._runs) if not name.startswith(".")))

    def allocated(self, run_id: str) -> int:
        """Bytes of the disk that a run has taken at once, for all that it may write; 0 when it
        takes them as it goes.
        """
        return disk.allocated(self._directory(run_id))

    def outputs(self, run_id: str) -> Path:
        """The directory with the outputs that were collected. RunnerError where none were."""
        if not self.poll(run_id).collected:
            raise RunnerError(f"run {run_id} has no outputs: it has not succeeded")
        return self._directory(run_id) / state.OUTPUTS

    def log(self, run_id: str) -> Path:
        """The file with what the job has printed so far; it may not be there yet."""
        return self._existing(run_id) / state.LOG

    # ------------------------------------------------------------------------

    def _directory(self, run_id: str) -> Path:
        return self._runs / check_run_id(run_id)

    def _existing(self, run_id: str) -> Path:
        directory = self._directory(run_id)
        if not directory.is_dir():
            raise RunnerError(f"there is no run {run_id}")
        return directory

    def _plan(self, directory: Path) -> Plan:
        try:
            return Plan.read(directory)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunnerError(f"{directory / state.RUN} is damaged; delete the run") from error

    def _create(self, run: RunRequest, directory: Path) -> None:
        """Builds the directory aside and puts it in place in one step."""
        if run.runtime is not None and self._sandbox != "none":
            sandbox.check_private(
                [real for real, _ in sandbox.runtime_binds(run.runtime)],
                [Path(path) for path in self._private],
            )
        found = self.containment
        if not self._unlimited:
            found.refuse()
        room = disk.room_for(run.limits, inputs.sizes(run))
        _check_room(run, room, found.disk, self._runs)
        new = self._runs / f"{_NEW}{run.run_id}-{uuid.uuid4().hex}"
        handle = -1
        try:
            with self._guard():
                new.mkdir(mode=0o700)
                # Held while we live, so that only what a dead agent left is swept away.
                handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(handle, fcntl.LOCK_EX)
            uid = None if self._sandbox == "none" else sandbox.run_uid(run.run_id)
            if found.disk == disk.IMAGE:
                disk.make_image(new, room)
            elif found.disk == disk.DIRECTORY:
                for name in (state.WORK, state.TMP):
                    (new / name).mkdir(mode=0o700)
                    if uid is not None:
                        os.chown(new / name, uid, uid)
            plan = Plan(
                request=run,
                sandbox=self._sandbox,
                cpu_list=self._choose_cpus(run),
                uid=uid,
                private=self._private,
                disk=found.disk,
                room=room,
                unlimited=self._unlimited,
            )
            plan.write(new)
            # Not an error when somebody else was faster: theirs is as good.
            with suppress(OSError):
                os.rename(new, directory)
            if not directory.is_dir():
                raise RunnerError(f"cannot make the directory of run {run.run_id} in {self._runs}")
            sync_directory(self._runs)
        except OSError as error:
            raise _unprepared(run.run_id, "prepared", error) from error
        finally:
            remove_tree(new)  # what an error, or a faster starter, left of it
            if handle >= 0:
                os.close(handle)

    def _choose_cpus(self, run: RunRequest) -> tuple[int, ...]:
        """The processors that the fewest live runs use. A race costs balance, nothing else."""
        allowed = sorted(os.sched_getaffinity(0))
        taken: Counter[int] = Counter()
        for run_id in self.list():
            directory = self._runs / run_id
            if linux.is_locked(directory / state.LOCK):
                with suppress(RunnerError):
                    taken.update(self._plan(directory).cpu_list)
        chosen = sorted(allowed, key=lambda cpu: (taken[cpu], cpu))[: run.limits.cpus]
        return tuple(sorted(chosen))

    def _launch(self, directory: Path) -> None:
        package = Path(provider_agent.__file__).resolve().parent
        try:
            launched = subprocess.run(
                [sys.executable, "-m", supervisor.__name__, str(directory)],
                cwd="/",
                # Nothing of the agent's environment: it may hold secrets.
                env={"PATH": sandbox.SEARCH_PATH, "PYTHONPATH": str(package.parent)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                timeout=_LAUNCH_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunnerError(f"cannot start the supervisor: {error}") from error
        if launched.returncode not in (supervisor.STARTED, supervisor.OWNED_BY_ANOTHER):
            said = launched.stderr.decode(errors="replace").strip().splitlines()
            raise RunnerError(f"the supervisor failed: {said[-1] if said else 'no reason given'}")

    def _kill_supervisor(self, directory: Path) -> None:
        """The last resort for a supervisor that does not answer; the sandbox dies with it."""
        saved = Saved.read(directory)
        with suppress(ProcessLookupError, OSError):
            handle = os.pidfd_open(saved.supervisor_pid)
            try:
                process = usage.read_process(saved.supervisor_pid)
                if process is not None and process.start_ticks == saved.supervisor_start:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def _sweep(self) -> None:
        """Deletes what an agent that was killed had half built or half removed, and what a run
        that is not alive still holds of the machine.
        """
        alive = [name for name in self.list() if linux.is_locked(self._runs / name / state.LOCK)]
        disk.sweep(self._runs, alive)
        with self._guard():
            self._sweep_trials()
            for name in os.listdir(self._runs):
                path = self._runs / name
                if name.startswith(_DEAD):
                    with suppress(FileNotFoundError):  # its remover is alive, after all
                        _delete(path)
                elif name.startswith(_NEW):
                    with suppress(OSError):
                        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                        try:
                            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                            remove_tree(path)
                        finally:
                            os.close(handle)

    @contextmanager
    def _trial(self, run: RunRequest) -> Iterator[None]:
        """A run of the agent's own: started, and removed by whoever waits for it, or by the next
        start of an agent.
        """
        mark = self._runs / f"{_TRIAL}{run.run_id}"
        with self._guard():
            lock = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            linux.take_lock(lock)
        try:
            self.start(run)
            yield
        finally:
            self.remove(run.run_id)
            mark.unlink(missing_ok=True)
            os.close(lock)

    def _sweep_trials(self) -> None:
        """Ends and deletes runs of the agent's own that nobody waits for any more."""
        marks = {n.removeprefix(_TRIAL) for n in os.listdir(self._runs) if n.startswith(_TRIAL)}
        runs = {run_id for run_id in self.list() if run_id.startswith((_CHECK, _PROBE))}
        for run_id in marks | runs:
            mark = self._runs / f"{_TRIAL}{run_id}"
            if not linux.is_locked(mark):
                with suppress(RunnerError):  # a name that we never gave
                    self.remove(run_id)
                mark.unlink(missing_ok=True)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One process at a time makes or sweeps unfinished directories."""
        handle = os.open(self._runs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _delete(dead: Path) -> None:
    """Deletes what a run has left; much of it in a thread of its own, for which nobody waits. What
    the end of the process cuts short, the next start goes on with.
    """

    def rest() -> None:
        try:
            remove_tree(dead)
        except FileNotFoundError:  # another process was at it, too
            pass
        except OSError as error:
            _log.warning("%s cannot be deleted: %s", dead, error.strerror)

    if not remove_tree(dead, _AT_ONCE):
        threading.Thread(target=rest, name="remove", daemon=True).start()


def _unprepared(run_id: str, what: str, error: OSError) -> RunnerError:
    """One line for an error of the machine: these are never the job's fault."""
    if disk.is_full(error):
        return RunnerError(f"run {run_id} cannot be {what}: this machine's disk is full; make room")
    return RunnerError(f"run {run_id} cannot be {what}: {error}")


def _check_room(run: RunRequest, room: disk.Room, kind: str, place: Path) -> None:
    """Refuses a run that does not fit: filling the disk would hurt the other runs."""
    wanted = {
        disk.IMAGE: room.image_bytes,
        disk.MEMORY: 0,
        disk.DIRECTORY: room.data - run.limits.disk_bytes,
    }[kind]
    if wanted and watch.disk_is_short(place, wanted):
        raise RunnerError(
            f"run {run.run_id} cannot be prepared: it needs {wanted} bytes, and this machine's "
            "disk is nearly full; make room"
        )


def _release(directory: Path) -> None:
    """Takes away what a supervisor that was killed could not: the control group and the image."""
    with suppress(OSError, ValueError, KeyError):
        groups = json.loads((directory / state.GROUPS).read_bytes())["paths"]
        cgroup.remove([Path(path) for path in groups])
    disk.release(directory)
