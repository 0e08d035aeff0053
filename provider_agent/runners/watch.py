# SPDX-License-Identifier: Apache-2.0
"""Watches a live run and says when it must end, and ends it.

With a control group and a file system of its own, a look costs a few small files, however many
processes this machine has and however many files the job. Without them it costs what the job's own
processes and files cost to look at.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from provider_agent.runners import cgroup, usage
from provider_agent.runners.base import MIB, Reason
from provider_agent.runners.live import Live, Verdict

TICK = 0.1  # seconds between two looks
_DISK_TICK = 0.25  # seconds between two looks at files, at least
_DISK_RESERVE = 256 * MIB  # left free on the file system, or a twentieth of it where that is less

NEARLY_FULL = Verdict(Reason.MACHINE, "the disk of this machine is nearly full; make room")
OUT_OF_MEMORY = Verdict(
    Reason.MACHINE, "this machine ran out of memory; lower runner.memory_mb or agent.slots"
)


class Watch:
    """The watch over one run."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._next_disk_look = 0.0

    def until_end(self) -> Verdict | None:
        """Returns when the job has ended (None) or must be ended (why)."""
        live = self._live
        assert live.process is not None
        deadline = live.began + live.limits.timeout_seconds
        process = os.pidfd_open(live.process.pid)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(live.printed.pipe, select.POLLIN)
        next_look = live.began
        try:
            while True:
                now = time.monotonic()
                wait = max(0.0, min(next_look, deadline) - now)
                for fd, _ in poll.poll(int(wait * 1000) + 1):
                    if fd == process:
                        return None
                    if not live.printed.read():
                        poll.unregister(live.printed.pipe)
                now = time.monotonic()
                if live.printed.too_much:
                    return Verdict(Reason.OUTPUT, f"printed over {live.printed.count} bytes")
                if now >= deadline:
                    seconds = f"{live.limits.timeout_seconds:g}"
                    return Verdict(Reason.TIMEOUT, f"not done after {seconds} seconds")
                if now >= next_look:
                    verdict = self._look(now)
                    if verdict is not None:
                        return verdict
                    next_look = time.monotonic() + TICK
        finally:
            os.close(process)

    def last_look(self) -> Verdict | None:
        """At the files that the job has left: the last look was a while ago, or never."""
        if self._live.space is not None:
            return self._look_at_space()
        return self._look_at_files(time.monotonic(), [])

    def _look(self, now: float) -> Verdict | None:
        live = self._live
        live.go_on()
        live.reap()
        alive = []
        if live.group is None or live.space is None:
            alive = [process for process in usage.descendants(os.getpid()) if not process.zombie]
        if live.group is not None:
            verdict = self._look_at_group(live.group)
        else:
            verdict = self._look_at_processes(alive)
        if verdict is not None:
            return verdict
        if live.space is not None:
            return self._look_at_space()
        if now < self._next_disk_look:
            return None
        return self._look_at_files(now, alive)

    # ---------------------------------------------------------------- memory and processes

    def _look_at_group(self, group: cgroup.Group) -> Verdict | None:
        live = self._live
        limits = live.limits
        # The sandbox's own first process is in the group, and no part of the job.
        if group.tasks() - (live.inner >= 0) > limits.pids or group.hit_pids_limit():
            return too_many_processes(live)
        live.peak_memory = max(live.peak_memory, group.memory())
        return too_much_memory(live) if group.ran_out_of_memory() else None

    def _look_at_processes(self, alive: list[usage.Process]) -> Verdict | None:
        live = self._live
        tasks = sum(process.threads for process in alive) - (2 if live.inner >= 0 else 0)
        if tasks > live.limits.pids:
            return too_many_processes(live)
        in_files = usage.nameless_files(alive, os.stat(live.work).st_dev).memory
        memory = sum(process.rss for process in alive) + in_files
        if memory > live.limits.memory_bytes:
            memory = usage.shared_fairly(alive) + in_files
        live.peak_memory = max(live.peak_memory, memory)
        return too_much_memory(live) if memory > live.limits.memory_bytes else None

    # ---------------------------------------------------------------- disk

    def _look_at_space(self) -> Verdict | None:
        assert self._live.space is not None
        fault = self._live.space.fault(self._live.limits.disk_bytes)
        return Verdict(Reason.DISK, fault) if fault else None

    def _look_at_files(self, now: float, alive: list[usage.Process]) -> Verdict | None:
        live = self._live
        trees = [usage.tree_size(live.work), usage.tree_size(live.tmp)]
        # A tree that takes long to walk is walked less often.
        took = time.monotonic() - now
        self._next_disk_look = now + max(_DISK_TICK, 5 * took)
        used = sum(tree.size for tree in trees) - live.inputs_size
        used += usage.nameless_files(alive, os.stat(live.work).st_dev).disk
        if used > live.limits.disk_bytes:
            return Verdict(Reason.DISK, f"wrote more than {live.limits.disk_bytes} bytes")
        if any(tree.unbounded for tree in trees):
            return Verdict(Reason.DISK, "made too many files or nested directories")
        if disk_is_short(live.work):
            live.disk_was_short = True
            if used > _DISK_RESERVE // 4:
                return NEARLY_FULL
        return None


def too_many_processes(live: Live) -> Verdict:
    """The verdict on a run that makes more processes than it may."""
    return Verdict(Reason.PIDS, f"more than {live.limits.pids} processes and threads")


def too_much_memory(live: Live) -> Verdict:
    """The verdict on a run that takes more memory than it may."""
    return Verdict(Reason.MEMORY, f"used more than {live.limits.memory_bytes} bytes")


def disk_is_short(path: Path, wanted: int = 0) -> bool:
    """Whether the file system would keep less than its reserve free with `wanted` bytes more."""
    system = os.statvfs(path)
    reserve = min(_DISK_RESERVE, system.f_blocks * system.f_frsize // 20)
    return system.f_bavail * system.f_frsize - wanted < reserve


def end_all(live: Live) -> None:
    """Ends every process of the run and waits until none is left."""
    if live.inner >= 0:
        # The first process of the pid namespace takes all others with it.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(live.inner, signal.SIGKILL)
        select.select([live.inner], [], [], 10)
    while live.reap():
        for process in usage.descendants(os.getpid()):
            if not process.zombie:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.005)
