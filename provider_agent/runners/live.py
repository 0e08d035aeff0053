# SPDX-License-Identifier: Apache-2.0
"""What a supervisor holds while its run lives, shared by launch, watch and conclusion."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provider_agent.runners import usage
from provider_agent.runners.base import Reason, RunState, Stopped
from provider_agent.runners.cgroup import Group
from provider_agent.runners.disk import Space
from provider_agent.runners.state import LOG, STOP, Plan, Saved

OVERRUN = 4  # times the log limit that a job may print before it is ended
SPARE_TASKS = 16  # room under the hard limit in which the watch can see the soft one crossed
MESSAGE = 400  # characters of what is said about an end


@dataclass(frozen=True)
class Verdict:
    """Why a run is being ended."""

    reason: Reason
    detail: str
    exit_code: int | None = None


STOPPED = Verdict(Reason.KILLED, "stopped by the agent")


class Printed:
    """What a job prints: read to its end, kept up to `limit` bytes in the run's log."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run
        self._limit = limit
        self._pipe = -1
        self.count = 0
        """Bytes that were printed."""

    @property
    def pipe(self) -> int:
        """The descriptor to wait on."""
        return self._pipe

    def open(self) -> int:
        """The end of a pipe for the job to print to; the caller closes it."""
        self._pipe, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        return write

    @property
    def too_much(self) -> bool:
        """Whether the job prints without end."""
        return self.count > OVERRUN * self._limit

    def read(self) -> bool:
        """Takes what the job printed; False at the end of its output."""
        try:
            chunk = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        if self.count < self._limit:
            self.write(chunk[: self._limit - self.count])
        if self.count <= self._limit < self.count + len(chunk):
            self.write(f"\n[output cut after {self._limit} bytes]\n".encode())
        self.count += len(chunk)
        return True

    def drain(self) -> None:
        """The last words of a job that has ended."""
        while self._pipe >= 0 and not self.too_much:
            before = self.count
            if not self.read() or self.count == before:
                break

    def write(self, data: bytes) -> None:
        """Adds to the log; a full disk must not end the watch."""
        try:
            self._file.write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


class Live:
    """One run under its supervisor."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.lock = lock
        self.plan = Plan.read(directory)
        self.request = self.plan.request
        self.limits = self.request.limits
        own = usage.read_process(os.getpid())
        self._identity = (os.getpid(), 0 if own is None else own.start_ticks)
        self.printed = Printed(directory / LOG, self.limits.output_bytes)
        self.work = directory / "work"
        """The job's directory, as this process reaches it; likewise `tmp`."""
        self.tmp = directory / "tmp"
        self.space: Space | None = None
        self.staging: Path | None = None
        """Where the job's directories were shown to a user of its own."""
        self.binds: list[tuple[Path, Path]] = []
        """What of the machine the job sees, and where: its runtime."""
        self.group: Group | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.inner = -1
        """Descriptor of the sandbox's first process."""
        self.status_read = -1
        self.status = b""
        self.inputs_size = 0
        """What the inputs take of the disk here, in bytes."""
        self.inputs_bytes = 0
        """How long they are, in bytes: the same on every machine."""
        self.peak_memory = 0
        self.disk_was_short = False
        self.started = int(time.time())
        self.began = time.monotonic()

    @property
    def sandboxed(self) -> bool:
        """Whether there are walls."""
        return self.plan.sandbox != "none"

    def go_on(self) -> None:
        """Raises Stopped once the agent wants the run to end: asked while anything takes long."""
        if (self.directory / STOP).exists():
            raise Stopped

    def save(self, state: RunState) -> None:
        """Writes the state of the run, and who says so."""
        Saved(state, *self._identity).write(self.directory)

    def begin(self) -> None:
        """The job runs from now on: its time counts."""
        self.started = int(time.time())
        self.began = time.monotonic()

    def reap(self) -> bool:
        """Takes leave of the children that are dead; False when there is no child at all.

        The job's own process is left to `process`, which wants its exit code.
        """
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if dead is None:
                return True
            if self.process is not None and dead.si_pid == self.process.pid:
                if self.process.poll() is None:
                    return True
            else:
                with suppress(ChildProcessError):
                    os.waitpid(dead.si_pid, os.WNOHANG)
