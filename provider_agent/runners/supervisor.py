# SPDX-License-Identifier: Apache-2.0
"""The process that owns one run: `python -m provider_agent.runners.supervisor <run directory>`.

It detaches from the agent (own session, so a `kill -9` of the agent does not touch it), holds the
run's lock, starts the sandbox, watches its limits, and writes what became of it. When it dies
itself, the kernel kills the sandbox with it.

Who guarantees what:

time        the supervisor's clock; RLIMIT_CPU ends a process that it should ever miss
memory      a cgroup where there is one (exact). Otherwise RLIMIT_DATA bounds each process as it
            allocates, and the watch bounds the sum of all processes and of files in memory, with
            an overshoot of what can be allocated in one look (TICK). With a GPU there is no
            RLIMIT_DATA, because drivers reserve address space freely. /dev/shm has a fixed size.
processes   RLIMIT_NPROC, which the kernel counts per user *and user namespace*: exact in the
            sandbox, given Linux 5.14 or a root agent (each run has its own user id). The watch
            kills a run that reaches it.
disk        RLIMIT_FSIZE bounds each file as it grows; the watch bounds the sum over /job, /tmp
            and deleted files still open. Where the file system itself runs full, the run ends as
            the machine's fault: its owner has promised the job that room.
processors  an affinity that the system call filter keeps the job from changing; cpu.max beside it
output      the supervisor reads it all, keeps a limit, and ends a run that goes on far past it

Without a sandbox (the owner's choice) the same watch runs; RLIMIT_NPROC and the affinity do not
bind then, and nothing hides the host from the job.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from provider_agent import devices
from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, linux, outputs, sandbox, usage
from provider_agent.runners.base import MIB, Phase, Reason, RunState, Usage
from provider_agent.runners.state import (
    LOCK,
    LOG,
    OUTPUTS,
    STOP,
    SUPERVISOR_LOG,
    TMP,
    WORK,
    Plan,
    Saved,
)

STARTED = 0
OWNED_BY_ANOTHER = 3

TICK = 0.1  # seconds between two looks at processes
_DISK_TICK = 0.25  # seconds between two looks at files, at least
_SETUP_SECONDS = 20  # a sandbox that is not up by then never will be
_SPARE_TASKS = 16  # room under the hard limit in which the watch can see the soft one crossed
_OVERRUN = 4  # times the log limit that a job may print before it is ended
_DISK_RESERVE = 256 * MIB  # left free on the file system, or a twentieth of it where that is less
_OPEN_FILES = 4096
_STACK = 8 * MIB  # the kernel gives a quarter of it to arguments and variables: 2 MiB
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # a shell's exit codes for a command that cannot be run
_MESSAGE = 400

_log = logging.getLogger("supervisor")


@dataclass(frozen=True)
class Verdict:
    """Why a run is being ended."""

    reason: Reason
    detail: str
    exit_code: int | None = None


_NEARLY_FULL = Verdict(Reason.MACHINE, "the disk of this machine is nearly full; make room")


def main(arguments: list[str]) -> int:
    """Takes the run over and detaches; the exit code tells the runner who owns it."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m provider_agent.runners.supervisor RUN_DIRECTORY\n")
        return 2
    directory = Path(arguments[0])
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not linux.take_lock(lock):
        return OWNED_BY_ANOTHER
    # The lock is ours: nobody else can be between this look and the run.
    if Saved.read(directory).state.phase is not Phase.PENDING:
        return OWNED_BY_ANOTHER
    if os.fork():
        os._exit(STARTED)  # the child holds the same lock
    with suppress(PermissionError):  # already the leader of a session
        os.setsid()
    _quiet(directory)
    try:
        Supervisor(directory, lock).run()
    except Exception:  # noqa: BLE001 - whatever it is belongs into the log; the run is LOST
        _log.exception("the supervisor failed")
        return 1
    return 0


def _quiet(directory: Path) -> None:
    """Standard streams away from the agent's; what is said goes into the run's directory."""
    null = os.open(os.devnull, os.O_RDWR)
    said = os.open(
        directory / SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    os.dup2(null, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.close(null)
    os.close(said)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


class Supervisor:
    """One run, from its directory to its final state."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.lock = lock
        self.plan = Plan.read(directory)
        self.run_request = self.plan.request
        self.limits = self.run_request.limits
        self.work = directory / WORK
        self.tmp = directory / TMP
        own = usage.read_process(os.getpid())
        self.identity = (os.getpid(), 0 if own is None else own.start_ticks)
        self.group: cgroup.Group | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.inner = -1  # descriptor of the sandbox's first process
        self.status_read = -1
        self.status = b""
        self.output_read = -1
        self.printed = 0
        self.peak_memory = 0
        self.inputs_size = 0
        self.next_disk_look = 0.0
        self.disk_was_short = False

    def run(self) -> None:
        """Runs the job and writes its end. Never raises for what a job can do."""
        self.started = int(time.time())
        self._save(RunState(Phase.RUNNING, started=self.started))
        linux.adopt_orphans()
        self.log = open(self.directory / LOG, "ab", buffering=0)  # noqa: SIM115 - lives as long
        self.inputs_size = usage.tree_size(self.work).size
        energy_before = self._energy()
        self.began = time.monotonic()
        try:
            verdict = self._launch() or self._watch()
        except (OSError, RunnerError, ValueError) as error:
            verdict = Verdict(Reason.SANDBOX_FAILED, str(error))
        finally:
            self._kill_all()
        held = time.monotonic() - self.began
        self._drain()
        state = self._conclude(verdict)
        state = replace(state, usage=self._usage(held, energy_before))
        if self.group is not None:
            self.group.remove()
        self.log.close()
        self._save(state)

    # ------------------------------------------------------------------ start

    def _launch(self) -> Verdict | None:
        if (self.directory / STOP).exists():
            return Verdict(Reason.KILLED, "stopped before it began")
        self.output_read, output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output_read, False)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.plan.sandbox == "none":
                return self._launch_bare(null, output_write)
            return self._launch_sandbox(null, output_write)
        finally:
            os.close(null)
            os.close(output_write)

    def _launch_bare(self, null: int, output: int) -> Verdict | None:
        environment = sandbox.environment(self.run_request, str(self.work))
        environment["TMPDIR"] = str(self.tmp)
        program = self.run_request.command[0]
        # Looked up in the job's own path, not in the supervisor's.
        found = sandbox.which(program, environment["PATH"])
        if found is None:
            return self._refused(errno.ENOENT)
        try:
            self.process = subprocess.Popen(
                [found, *self.run_request.command[1:]],
                cwd=self.work,
                env=environment,
                stdin=null,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self._prepare(None),
            )
        except OSError as error:
            if error.errno is None or error.filename != found:
                raise  # no process could be made: our fault
            return self._refused(error.errno)
        return None

    def _refused(self, number: int) -> Verdict:
        """The kernel does not execute the job's command: what it says goes into the job's log."""
        said = f"{self.run_request.command[0]}: {os.strerror(number)}"
        self._write_log(f"cannot execute {said}\n".encode()[: self.limits.output_bytes])
        return _cannot_execute(said, _NOT_FOUND if number == errno.ENOENT else _NOT_EXECUTABLE)

    def _launch_sandbox(self, null: int, output: int) -> Verdict | None:
        bwrap = sandbox.find()
        binds = (
            []
            if self.run_request.runtime is None
            else sandbox.runtime_binds(self.run_request.runtime)
        )
        sandbox.check_private(
            [real for real, _ in binds], [Path(path) for path in self.plan.private]
        )
        work, tmp = self.work, self.tmp
        if self.plan.uid is not None:
            real = [real for real, _ in binds]
            places = sandbox.stage([*real, work, tmp], self.directory)
            binds = list(zip(places[:-2], [place for _, place in binds], strict=True))
            work, tmp = places[-2:]
        self.group = cgroup.create(
            f"teraproof-{self.run_request.run_id}",
            self.limits.memory_bytes,
            self.limits.pids + _SPARE_TASKS,
            self.limits.cpus,
        )
        self.status_read, status_write = os.pipe2(os.O_CLOEXEC)
        block_read, block_write = os.pipe2(os.O_CLOEXEC)
        launch = sandbox.build(
            bwrap,
            self.run_request,
            work=work,
            tmp=tmp,
            binds=binds,
            status_fd=status_write,
            block_fd=block_read,
            sync_fd=self.lock,
            disable_userns=sandbox.can_disable_userns(bwrap),
        )
        passed = [*launch.fds, status_write, block_read, self.lock]
        user = self.plan.uid
        try:
            self.process = subprocess.Popen(
                launch.argv,
                cwd="/",
                env={},
                stdin=null,
                stdout=output,
                stderr=output,
                pass_fds=passed,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                preexec_fn=self._prepare(user),
            )
        except OSError as error:
            os.close(block_write)
            if error.errno != errno.E2BIG:
                raise
            return self._refused(error.errno)  # the command is all that is long in it
        finally:
            for fd in (*launch.fds, status_write, block_read):
                os.close(fd)
        try:
            inner = self._inner_pid()
            if inner is None:
                return None  # it died; _watch and _conclude say so
            self.inner = os.pidfd_open(inner)
            if self.group is not None:
                # The job is still held back, so nothing of it escapes the group.
                self.group.add(inner)
            if user is None:
                # Not before the user namespace exists: the limit would then count all processes
                # of the agent's user.
                tasks = self.limits.pids + _SPARE_TASKS
                with suppress(ProcessLookupError):
                    resource.prlimit(inner, resource.RLIMIT_NPROC, (tasks, tasks))
            os.write(block_write, b"\0")
        finally:
            os.close(block_write)
        return None

    def _prepare(self, user: int | None) -> Callable[[], None]:
        """What the child does between fork and exec."""
        parent = os.getpid()
        limits = self.limits
        inputs = self.inputs_size
        sandboxed = self.plan.sandbox != "none"
        cpus = set(self.plan.cpu_list)
        has_gpu = any(device.kind == "cuda" for device in self.run_request.devices)

        def prepare() -> None:
            linux.die_with(parent)
            with suppress(OSError):  # a processor was taken offline since
                os.sched_setaffinity(0, cpus)
            seconds = int(limits.timeout_seconds * limits.cpus) + 10
            bounds = {
                resource.RLIMIT_CORE: 0,
                resource.RLIMIT_CPU: seconds,
                resource.RLIMIT_FSIZE: limits.disk_bytes + inputs,
                resource.RLIMIT_NOFILE: _OPEN_FILES,
                resource.RLIMIT_STACK: _STACK,
            }
            if not has_gpu:
                # Above the limit of the watch, so that the watch can name the reason.
                bounds[resource.RLIMIT_DATA] = limits.memory_bytes * 5 // 4 + 64 * MIB
            if user is not None and sandboxed:
                bounds[resource.RLIMIT_NPROC] = limits.pids + _SPARE_TASKS
            for which, bound in bounds.items():
                _, hard = resource.getrlimit(which)
                if hard != resource.RLIM_INFINITY:
                    bound = min(bound, hard)
                resource.setrlimit(which, (bound, bound))

        return prepare

    def _inner_pid(self) -> int | None:
        """The sandbox's first process, once its namespaces stand; None when it failed."""
        end = time.monotonic() + _SETUP_SECONDS
        while b"\n" not in self.status:
            ready, _, _ = select.select([self.status_read], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.status_read, 4096) if ready else b""
            if not chunk:
                return None
            self.status += chunk
        return int(json.loads(self.status.split(b"\n", 1)[0])["child-pid"])

    # ------------------------------------------------------------------ watch

    def _watch(self) -> Verdict | None:
        """Returns when the job has ended (None) or must be ended (why)."""
        assert self.process is not None
        deadline = self.began + self.limits.timeout_seconds
        process = os.pidfd_open(self.process.pid)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(self.output_read, select.POLLIN)
        next_look = self.began
        try:
            while True:
                now = time.monotonic()
                wait = max(0.0, min(next_look, deadline) - now)
                for fd, _ in poll.poll(int(wait * 1000) + 1):
                    if fd == process:
                        return None
                    if not self._read_output():
                        poll.unregister(self.output_read)
                now = time.monotonic()
                if self.printed > _OVERRUN * self.limits.output_bytes:
                    return Verdict(Reason.OUTPUT, f"printed over {self.printed} bytes")
                if now >= deadline:
                    seconds = f"{self.limits.timeout_seconds:g}"
                    return Verdict(Reason.TIMEOUT, f"not done after {seconds} seconds")
                if now >= next_look:
                    verdict = self._look(now)
                    if verdict is not None:
                        return verdict
                    next_look = time.monotonic() + TICK
        finally:
            os.close(process)

    def _look(self, now: float) -> Verdict | None:
        if (self.directory / STOP).exists():
            return Verdict(Reason.KILLED, "stopped by the agent")
        found = usage.descendants(os.getpid())
        assert self.process is not None
        for process in found:
            if process.zombie and process.parent == os.getpid() != self.process.pid:
                self._reap(process.pid)
        alive = [process for process in found if not process.zombie]
        return self._look_at_processes(alive) or self._look_at_disk(now, alive)

    def _look_at_processes(self, alive: list[usage.Process]) -> Verdict | None:
        tasks = sum(process.threads for process in alive) - (2 if self.inner >= 0 else 0)
        if tasks > self.limits.pids or (self.group and self.group.hit_pids_limit()):
            return Verdict(Reason.PIDS, f"more than {self.limits.pids} processes and threads")
        device = os.stat(self.work).st_dev
        in_files = usage.nameless_files(alive, device).memory
        memory = sum(process.rss for process in alive) + in_files
        if memory > self.limits.memory_bytes and self.group is None:
            memory = usage.shared_fairly(alive) + in_files
        self.peak_memory = max(self.peak_memory, memory)
        if memory > self.limits.memory_bytes:
            return Verdict(Reason.MEMORY, f"used more than {self.limits.memory_bytes} bytes")
        return None

    def _look_at_disk(self, now: float, alive: list[usage.Process]) -> Verdict | None:
        if now < self.next_disk_look:
            return None
        trees = [usage.tree_size(self.work), usage.tree_size(self.tmp)]
        # A tree that takes long to walk is walked less often.
        took = time.monotonic() - now
        self.next_disk_look = now + max(_DISK_TICK, 5 * took)
        used = sum(tree.size for tree in trees) - self.inputs_size
        used += usage.nameless_files(alive, os.stat(self.work).st_dev).disk
        if used > self.limits.disk_bytes:
            return Verdict(Reason.DISK, f"wrote more than {self.limits.disk_bytes} bytes")
        if any(tree.unbounded for tree in trees):
            return Verdict(Reason.DISK, "made too many files or nested directories")
        if disk_is_short(self.work):
            self.disk_was_short = True
            if used > _DISK_RESERVE // 4:
                return _NEARLY_FULL
        return None

    def _read_output(self) -> bool:
        """Takes what the job printed; False at the end of its output."""
        try:
            chunk = os.read(self.output_read, 1 << 16)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        limit = self.limits.output_bytes
        if self.printed < limit:
            self._write_log(chunk[: limit - self.printed])
        if self.printed <= limit < self.printed + len(chunk):
            self._write_log(f"\n[output cut after {limit} bytes]\n".encode())
        self.printed += len(chunk)
        return True

    def _write_log(self, data: bytes) -> None:
        try:
            self.log.write(data)
        except OSError as error:  # a full disk must not end the watch
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise

    # -------------------------------------------------------------------- end

    def _kill_all(self) -> None:
        """Ends every process of the run and waits until none is left."""
        if self.inner >= 0:
            # The first process of the pid namespace takes all others with it.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.inner, signal.SIGKILL)
            select.select([self.inner], [], [], 10)
        while True:
            left = usage.descendants(os.getpid())
            if not left:
                break
            for process in left:
                if not process.zombie:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(process.pid, signal.SIGKILL)
            if self.process is not None:
                self.process.poll()
            for process in left:
                if process.parent == os.getpid():
                    self._reap(process.pid)
            time.sleep(0.005)

    def _reap(self, pid: int) -> None:
        if self.process is not None and pid == self.process.pid:
            self.process.poll()
            return
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    def _drain(self) -> None:
        """The last words, and the exit code that bubblewrap reports."""
        if self.output_read >= 0:
            while self.printed <= _OVERRUN * self.limits.output_bytes:
                before = self.printed
                if not self._read_output() or self.printed == before:
                    break
        if self.status_read >= 0:
            os.set_blocking(self.status_read, False)
            with suppress(BlockingIOError):
                while chunk := os.read(self.status_read, 4096):
                    self.status += chunk

    def _conclude(self, verdict: Verdict | None) -> RunState:
        ended = RunState(Phase.EXITED, started=self.started, finished=int(time.time()))
        if self.group is not None and self.group.ran_out_of_memory():
            limit = self.limits.memory_bytes
            verdict = Verdict(Reason.MEMORY, f"used more than {limit} bytes")
        code = self._exit_code()
        if verdict is None and code is None:
            verdict = self._refused_inside()
        if verdict is not None:
            return replace(
                ended,
                reason=verdict.reason,
                exit_code=verdict.exit_code,
                detail=verdict.detail[:_MESSAGE],
            )
        if code is None:
            return replace(ended, reason=Reason.SANDBOX_FAILED, detail=self._last_line())
        # The last look was up to a tick ago, and a short job was never looked at.
        late = self._look_at_disk(self.next_disk_look, [])
        if late is not None and late.reason is Reason.DISK and (code == 0 or self.disk_was_short):
            return replace(ended, reason=late.reason, detail=late.detail)
        if code != 0 and self.disk_was_short:
            # A write of the job may have failed, and the room was promised to it.
            return replace(ended, reason=_NEARLY_FULL.reason, detail=_NEARLY_FULL.detail)
        if code != 0:
            return replace(
                ended, reason=Reason.EXITED, exit_code=code, detail=f"ended with exit code {code}"
            )
        try:
            outputs.collect(
                self.work,
                self.run_request.outputs,
                self.directory / OUTPUTS,
                self.limits.disk_bytes + self.inputs_size,
            )
        except outputs.UnfitOutput as error:
            return replace(
                ended, reason=Reason.OUTPUTS, exit_code=code, detail=str(error)[:_MESSAGE]
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else "input/output error"
            return replace(
                ended,
                reason=Reason.MACHINE,
                detail=f"the outputs cannot be collected: {why.lower()}; look after the disk",
            )
        return replace(ended, reason=Reason.EXITED, exit_code=code)

    def _exit_code(self) -> int | None:
        """The job's own exit code; None when it never ran."""
        if self.process is None:
            return None
        if self.plan.sandbox == "none":
            code = self.process.returncode
            return 128 - code if code < 0 else code
        for line in self.status.split(b"\n"):
            with suppress(ValueError):
                report = json.loads(line)
                if "exit-code" in report:
                    return int(report["exit-code"])
        return None

    def _refused_inside(self) -> Verdict | None:
        """The verdict where the walls stood and only the last step, the command, failed.

        Nothing of the job has run then, so the log has bubblewrap's words and nobody else's.
        """
        said = b"\n" + (self.directory / LOG).read_bytes()
        if b"\nbwrap: execvp " not in said:
            return None
        missing = said.rstrip().endswith(os.strerror(errno.ENOENT).encode())
        return _cannot_execute(self._last_line(), _NOT_FOUND if missing else _NOT_EXECUTABLE)

    def _last_line(self) -> str:
        said = (self.directory / LOG).read_bytes()[-2 * _MESSAGE :].decode(errors="replace")
        lines = [line for line in said.splitlines() if line.strip()]
        return ascii(lines[-1])[1:-1][:_MESSAGE] if lines else "the sandbox could not be set up"

    # ------------------------------------------------------------------ usage

    def _energy(self) -> dict[str, int | None]:
        gpus = [device for device in self.run_request.devices if device.kind == "cuda"]
        return {device.uuid: devices.sample(device).energy_mj for device in gpus}

    def _usage(self, held: float, before: dict[str, int | None]) -> Usage:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        after = self._energy()
        spent: int | None = 0 if after else None
        for uuid, end in after.items():
            start = before.get(uuid)
            if spent is None or end is None or start is None or end < start:
                spent = None  # a counter that went back (a driver was loaded anew) says nothing
            else:
                spent += end - start
        peak = max(self.peak_memory, children.ru_maxrss * 1024)
        if self.group is not None:
            peak = self.group.peak_memory() or peak
        return Usage(
            cpu_ms=int((children.ru_utime + children.ru_stime) * 1000),
            gpu_ms=int(held * 1000) * len(after),
            peak_memory_bytes=peak,
            energy_mj=spent,
        )

    def _save(self, state: RunState) -> None:
        Saved(state, *self.identity).write(self.directory)


def _cannot_execute(said: str, code: int) -> Verdict:
    return Verdict(Reason.EXITED, f"the command cannot be executed: {ascii(said)[1:-1]}", code)


def disk_is_short(path: Path, wanted: int = 0) -> bool:
    """Whether the file system would keep less than its reserve free with `wanted` bytes more."""
    system = os.statvfs(path)
    reserve = min(_DISK_RESERVE, system.f_blocks * system.f_frsize // 20)
    return system.f_bavail * system.f_frsize - wanted < reserve


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
