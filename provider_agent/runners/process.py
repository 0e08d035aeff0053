# SPDX-License-Identifier: Apache-2.0
"""Runs jobs as processes of this machine, each in a bubblewrap sandbox under its own supervisor.

All that is known of a run is in its directory, so an agent that comes back after a crash finds its
runs by looking. Whether a run is alive is told by a lock that its supervisor and its sandbox hold,
never by a process id, which may be somebody else's by now.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import provider_agent
from provider_agent.errors import RunnerError
from provider_agent.runners import linux, sandbox, state, supervisor, usage
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
_LINK_FROM = 64 * 1024  # bytes; a smaller input that stands at several paths is simply copied again
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NEW = ".new-"
_DEAD = ".removed-"


class ProcessRunner:
    """Runs under `<data_dir>/runs`. `private` are paths that no job may see, such as the keys.

    `sandbox_kind` is "bubblewrap", or "none" for an owner who trusts every job.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        sandbox_kind: str = "bubblewrap",
        private: Sequence[Path] = (),
    ) -> None:
        if sandbox_kind not in ("bubblewrap", "none"):
            raise RunnerError(f'runner.sandbox is {sandbox_kind!r}; use "bubblewrap" or "none"')
        self._runs = data_dir.resolve() / "runs"
        self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sandbox = sandbox_kind
        self._private = tuple(str(path.resolve()) for path in (data_dir, *private))
        self._sweep()
        if sandbox_kind == "none":
            _log.warning("jobs run WITHOUT a sandbox (runner.sandbox = none): trust every tenant")

    def check(self) -> str:
        """Runs a command in a sandbox from end to end. Raises RunnerError where that fails."""
        if self._sandbox == "none":
            return "no sandbox: jobs run as the agent's own user"
        bwrap = sandbox.find()
        trial = RunRequest(
            run_id=f"check-{uuid.uuid4().hex}",
            command=("/usr/bin/true",),
            limits=Limits(10, 1, 256 * MIB, 16 * MIB, MIB, 16),
        )
        self.start(trial)
        try:
            end = time.monotonic() + 15
            while (found := self.poll(trial.run_id)).phase is not Phase.EXITED:
                if found.phase is Phase.LOST or time.monotonic() > end:
                    raise RunnerError("the sandbox does not start; see the supervisor's log")
                time.sleep(0.02)
            if not found.succeeded:
                raise RunnerError(
                    f"bubblewrap does not work here: {found.detail}; allow user namespaces "
                    '(sysctl user.max_user_namespaces) or set runner.sandbox = "none"'
                )
        finally:
            self.remove(trial.run_id)
        version = subprocess.run(
            [str(bwrap), "--version"], capture_output=True, text=True, check=False
        )
        user = "a user of their own" if os.geteuid() == 0 else "the agent's user"
        return f"{version.stdout.strip() or 'bubblewrap'}: jobs run as {user}, walled in"

    def start(self, run: RunRequest) -> None:
        """Starts a run once, however often and from however many processes it is asked for.

        Raises RunnerError when it cannot be started, or the id names another request.
        """
        directory = self._directory(run.run_id)
        if self._sandbox != "none":
            sandbox.find()
        if not directory.exists():
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
        found = Saved.read(directory).state
        if found.phase is Phase.RUNNING and not alive:
            if self._plan(directory).sandbox == "none":
                _end_strays(directory)
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
            if time.monotonic() > end:
                self._kill_supervisor(directory)
            time.sleep(0.02)

    def _end_for_good(self, directory: Path) -> None:
        """A run that never began must not begin later."""
        lock = os.open(directory / state.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            phase = Saved.read(directory).state.phase
            if phase is Phase.RUNNING and self._plan(directory).sandbox == "none":
                _end_strays(directory)
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
        dead = self._runs / f"{_DEAD}{run_id}-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            os.rename(directory, dead)  # at once, so that nobody meets half of a run
            remove_tree(dead)

    def list(self) -> tuple[str, ...]:
        """The ids of all runs, ended ones too, sorted."""
        return tuple(sorted(name for name in os.listdir(self._runs) if not name.startswith(".")))

    def outputs(self, run_id: str) -> Path:
        """The directory with the collected outputs. Raises RunnerError unless the run succeeded."""
        if not self.poll(run_id).succeeded:
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
        _check_room(run, self._runs)
        new = self._runs / f"{_NEW}{run.run_id}-{uuid.uuid4().hex}"
        handle = -1
        try:
            with self._guard():
                new.mkdir(mode=0o700)
                # Held while we live, so that only what a dead agent left is swept away.
                handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(handle, fcntl.LOCK_EX)
            uid = None if self._sandbox == "none" else sandbox.run_uid(run.run_id)
            for name in (state.WORK, state.TMP):
                (new / name).mkdir(mode=0o700)
            _copy_inputs(run, new / state.WORK)
            if uid is not None:
                _give(new / state.WORK, uid)
                _give(new / state.TMP, uid)
            plan = Plan(run, self._sandbox, self._choose_cpus(run), uid, self._private)
            plan.write(new)
            # Not an error when somebody else was faster: theirs is as good.
            with suppress(OSError):
                os.rename(new, directory)
            if not directory.is_dir():
                raise RunnerError(f"cannot make the directory of run {run.run_id} in {self._runs}")
            state.sync_directory(self._runs)
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
        """Deletes what an agent that was killed had half built or half removed."""
        with self._guard():
            for name in os.listdir(self._runs):
                path = self._runs / name
                if name.startswith(_DEAD):
                    with suppress(FileNotFoundError):  # its remover is alive, after all
                        remove_tree(path)
                elif name.startswith(_NEW):
                    with suppress(OSError):
                        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                        try:
                            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                            remove_tree(path)
                        finally:
                            os.close(handle)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One process at a time makes or sweeps unfinished directories."""
        handle = os.open(self._runs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _unprepared(run_id: str, what: str, error: OSError) -> RunnerError:
    """One line for an error of the machine: these are never the job's fault."""
    if error.errno in _NO_ROOM:
        return RunnerError(f"run {run_id} cannot be {what}: this machine's disk is full; make room")
    return RunnerError(f"run {run_id} cannot be {what}: {error}")


def _check_room(run: RunRequest, place: Path) -> None:
    """Refuses to copy inputs that do not fit: filling the disk would hurt the other runs."""
    wanted = 0
    for path, source in _unlinked(run).items():
        try:
            wanted += source.stat().st_size
        except OSError as error:
            raise RunnerError(f"input {path} cannot be copied: {error}") from error
    if wanted and supervisor.disk_is_short(place, wanted):
        raise RunnerError(
            f"run {run.run_id} cannot be prepared: its inputs need {wanted} bytes, and this "
            "machine's disk is nearly full; make room"
        )


def _unlinked(run: RunRequest) -> dict[str, Path]:
    """The inputs that need room of their own: each large file once, small ones at every path."""
    seen: set[Path] = set()
    found = {}
    for path, source in run.inputs.items():
        if source not in seen:
            found[path] = source
        if source.is_file() and source.stat().st_size >= _LINK_FROM:
            seen.add(source)
    return found


def _copy_inputs(run: RunRequest, work: Path) -> None:
    """Puts the inputs into a job's directory. The stored files themselves never get there.

    A large file that stands at several paths is stored once: its paths share blocks where the file
    system can do that, and are else names of one copy, which is read-only, because what a job
    wrote to one path would show at the others.
    """
    times = Counter(run.inputs.values())
    copies: dict[Path, Path] = {}
    for path, source in run.inputs.items():
        target = work / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            if source in copies:
                with suppress(OSError):  # a file system without links: one more copy
                    os.link(copies[source], target)
                    continue
            with open(source, "rb") as stored, open(target, "xb") as copy:
                if not linux.clone_file(stored.fileno(), copy.fileno()):
                    shutil.copyfileobj(stored, copy, MIB)
                    if times[source] > 1 and copy.tell() >= _LINK_FROM:
                        copies[source] = target
                        mode &= 0o555
                os.fchmod(copy.fileno(), mode)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            raise RunnerError(f"input {path} cannot be copied: {error}") from error


def _end_strays(directory: Path) -> None:
    """Kills what an unsandboxed run left when its supervisor was killed.

    A sandbox dies with its supervisor; without one, grandchildren live on. They are known by the
    variable that names their temporary directory.
    """
    mark = f"TMPDIR={directory / state.TMP}".encode()
    found = True
    while found:
        found = False
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            with suppress(OSError):
                handle = os.pidfd_open(int(name))
                try:
                    if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                        found = True
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)


def _give(directory: Path, uid: int) -> None:
    """Makes a tree that we just built the property of a run's user."""
    os.chown(directory, uid, uid)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(parent, name), uid, uid, follow_symlinks=False)
