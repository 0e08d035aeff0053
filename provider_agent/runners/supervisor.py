# SPDX-License-Identifier: Apache-2.0
"""The process that owns one run: `python -m provider_agent.runners.supervisor <run directory>`.

It detaches from the agent (own session, so a `kill -9` of the agent does not touch it), holds the
run's lock, starts the sandbox, watches its limits, and writes what became of it. When it dies
itself, the kernel kills the sandbox with it, and the run's file system goes with the sandbox.

Who guarantees what:

time        the supervisor's clock; RLIMIT_CPU ends a process that it should ever miss
memory      the control group: all that the kernel charges to it, files in memory, socket buffers
            and files on their way between processes included. /dev/shm has a fixed size
disk        the run's own file system (see `disk`): bytes and inodes, with a name or without.
            RLIMIT_FSIZE bounds each file
processes   the control group, and RLIMIT_NPROC, which the kernel counts per user *and user
            namespace*. The watch kills a run that reaches either
processors  an affinity that the system call filter keeps the job from changing; the group's share
output      the supervisor reads it all, keeps a limit, and ends a run that goes on far past it

Where the machine offers no control group or no such file system, strangers' work is not run,
unless the owner has accepted that. Then RLIMIT_DATA bounds each process, and the watch bounds the
sums over processes, files, and files that only a descriptor keeps, with an overshoot of what can be
taken in one look. What only a mapping or a message keeps is not seen. Should the agent's own disk
run full, the run ends as the machine's fault: its owner has promised the job that room.

Without a sandbox (the owner's choice) nothing hides the host from the job, and a job of a root
agent could leave its control group.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, disk, linux, probe
from provider_agent.runners.base import Phase, Reason, RunState, Stopped
from provider_agent.runners.conclude import conclude, energy, read_status, usage
from provider_agent.runners.containment import Containment
from provider_agent.runners.launch import launch
from provider_agent.runners.live import MESSAGE, STOPPED, Live, Verdict
from provider_agent.runners.state import GROUPS, LOCK, SUPERVISOR_LOG, Saved
from provider_agent.runners.watch import Watch, end_all

STARTED = 0
OWNED_BY_ANOTHER = 3

_log = logging.getLogger("supervisor")


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
        supervise(Live(directory, lock))
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


def supervise(live: Live) -> None:
    """Runs the job and writes its end. Never raises for what a job can do."""
    live.save(RunState(Phase.RUNNING, started=live.started))
    linux.adopt_orphans()
    watch = Watch(live)
    before = energy(live)
    try:
        verdict = launch(live) or watch.until_end()
    except Stopped:
        verdict = STOPPED
    except (OSError, RunnerError, ValueError) as error:
        verdict = Verdict(Reason.SANDBOX_FAILED, str(error))
    finally:
        end_all(live)
    held = time.monotonic() - live.began
    live.printed.drain()
    read_status(live)
    try:
        state = conclude(live, watch, verdict)
        if not state.succeeded and not state.provider_fault:
            state = _blame(live, state)
    except Stopped:
        now, why = int(time.time()), STOPPED
        state = RunState(Phase.EXITED, why.reason, None, live.started, now, detail=why.detail)
    state = replace(state, usage=usage(live, held, before), sandbox=_sandbox(live))
    live.printed.close()
    _release(live)
    live.save(state)


def _sandbox(live: Live) -> tuple[tuple[str, str], ...]:
    """What has kept this run apart, whatever the machine offers to others."""
    groups = 0 if live.group is None else cgroup.version()
    kept = Containment(live.plan.sandbox, groups, live.plan.disk)
    return tuple(sorted(kept.to_json().items()))


def _blame(live: Live, state: RunState) -> RunState:
    """The state of a failed run, the provider's fault where one of its GPUs cannot be used."""
    broken = probe.broken(live)
    if not broken:
        return state
    uuid, reason = next(iter(broken.items()))
    detail = f"{uuid} cannot be used: {reason}"[:MESSAGE]
    return replace(
        state, reason=Reason.DEVICE, exit_code=None, detail=detail, unfit=(), broken=tuple(broken)
    )


def _release(live: Live) -> None:
    """Gives back what the run held of the machine; its outputs are collected by now."""
    if live.group is not None:
        live.group.end()
        with suppress(FileNotFoundError):
            (live.directory / GROUPS).unlink()
    if live.space is not None:
        live.space.close()
    if live.staging is not None:
        with suppress(OSError):
            linux.unmount(live.staging)
    disk.release(live.directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
