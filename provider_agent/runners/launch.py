# SPDX-License-Identifier: Apache-2.0
"""How a run begins: its file system, its control group, its walls, its limits."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, disk, inputs, linux, sandbox, usage
from provider_agent.runners.base import MIB, Reason
from provider_agent.runners.live import SPARE_TASKS, Live, Verdict
from provider_agent.runners.state import GROUPS, write_json

_SETUP_SECONDS = 20  # a sandbox that is not up by then never will be
_OPEN_FILES = 4096
_STACK = 8 * MIB  # the kernel gives a quarter of it to arguments and variables: 2 MiB
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # a shell's exit codes for a command that cannot be run
UNLIMITED = (
    "this machine does not hold a job to its memory and disk (see docs/operations.md, Sandbox); "
    "the run is not started"
)


def launch(live: Live) -> Verdict | None:
    """Starts the job; a verdict where it cannot be. Raises OSError, RunnerError, ValueError and
    Stopped.
    """
    live.go_on()
    if os.geteuid() == 0 and (live.sandboxed or live.plan.disk != disk.DIRECTORY):
        linux.private_mounts()
    live.group = _make_group(live)
    if live.group is None and not live.plan.unlimited:
        return Verdict(Reason.SANDBOX_FAILED, UNLIMITED)
    held = live.plan.disk == disk.MEMORY and os.geteuid() != 0
    if not held:
        verdict = _prepare_disk(live)
        if verdict is not None:
            return verdict
    output = live.printed.open()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not live.sandboxed:
            return _launch_bare(live, null, output)
        return _launch_sandbox(live, null, output, held)
    finally:
        os.close(null)
        os.close(output)


def group_name(directory: Path) -> str:
    """The name of a run's control group. Agents of one machine may have runs of one name, and a
    group that two share holds neither of them, and dies with the first.
    """
    found = os.stat(directory)
    return f"teraproof-{directory.name}-{found.st_dev:x}-{found.st_ino:x}"


def _make_group(live: Live) -> cgroup.Group | None:
    limits = live.limits
    memory = limits.memory_bytes
    if live.plan.disk == disk.MEMORY:
        memory += live.plan.room.size  # its files are memory, too
    group = cgroup.create(
        group_name(live.directory), memory, limits.pids + SPARE_TASKS, limits.cpus
    )
    if group is not None:
        # For whoever comes after this process, should it be killed.
        write_json(live.directory / GROUPS, {"paths": [str(path) for path in group.paths]})
    return group


def _prepare_disk(live: Live) -> Verdict | None:
    """Gives the run its file system, with the inputs in it."""
    plan = live.plan
    try:
        if plan.disk != disk.DIRECTORY:
            live.space = disk.mount(live.directory, plan.disk, plan.room, plan.uid)
            live.work, live.tmp = live.space.work, live.space.tmp
        return _bring_inputs(live)
    except (OSError, RunnerError) as error:
        return Verdict(Reason.MACHINE, f"the run cannot be prepared: {error}")


def _bring_inputs(live: Live) -> Verdict | None:
    try:
        inputs.copy(live.request, live.work, live.go_on)
        if live.plan.uid is not None:
            inputs.give(live.work, live.plan.uid)
    except OSError as error:
        if not disk.is_full(error):
            raise
        detail = "the run cannot be prepared: this machine's disk is full; make room"
        return Verdict(Reason.MACHINE, detail)
    if live.space is not None:
        live.space.settle()
    live.inputs_size = live.inputs_bytes = sum(inputs.sizes(live.request))
    if live.space is None:
        live.inputs_size = usage.tree_size(live.work).size
    return None


# ------------------------------------------------------------------------ without walls


def _launch_bare(live: Live, null: int, output: int) -> Verdict | None:
    environment = sandbox.environment(live.request, str(live.work))
    environment["TMPDIR"] = str(live.tmp)
    program = live.request.command[0]
    # Looked up in the job's own path, not in the supervisor's.
    found = sandbox.which(program, environment["PATH"])
    if found is None:
        return _refused(live, errno.ENOENT)
    live.begin()
    try:
        live.process = subprocess.Popen(
            [found, *live.request.command[1:]],
            cwd=live.work,
            env=environment,
            stdin=null,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_before_exec(live, None),
        )
    except OSError as error:
        if error.errno is None or error.filename != found:
            raise  # no process could be made: our fault
        return _refused(live, error.errno)
    return None


def _refused(live: Live, number: int) -> Verdict:
    """The kernel does not execute the job's command: what it says goes into the job's log."""
    said = f"{live.request.command[0]}: {os.strerror(number)}"
    live.printed.write(f"cannot execute {said}\n".encode()[: live.limits.output_bytes])
    return cannot_execute(said, missing=number == errno.ENOENT)


def cannot_execute(said: str, missing: bool) -> Verdict:
    """The verdict on a command that is not there, or is not a program."""
    code = _NOT_FOUND if missing else _NOT_EXECUTABLE
    return Verdict(Reason.EXITED, f"the command cannot be executed: {ascii(said)[1:-1]}", code)


# ------------------------------------------------------------------------ with walls


def _launch_sandbox(live: Live, null: int, output: int, held: bool) -> Verdict | None:
    bwrap = sandbox.find()
    plan, request = live.plan, live.request
    binds = [] if request.runtime is None else sandbox.runtime_binds(request.runtime)
    sandbox.check_private([real for real, _ in binds], [Path(path) for path in plan.private])
    work: Path | None = None if held else live.work
    tmp: Path | None = None if held else live.tmp
    if plan.uid is not None:
        assert work is not None and tmp is not None  # root mounts them itself
        real = [real for real, _ in binds]
        places = sandbox.stage([*real, work, tmp], live.directory)
        binds = list(zip(places[:-2], [place for _, place in binds], strict=True))
        work, tmp = places[-2:]
        live.staging = work.parent
    live.binds = binds
    live.status_read, status_write = os.pipe2(os.O_CLOEXEC)
    block_read, block_write = os.pipe2(os.O_CLOEXEC)
    wait_read, wait_write = os.pipe2(os.O_CLOEXEC)
    launch = sandbox.build(
        bwrap,
        request,
        work=work,
        tmp=tmp,
        in_memory=(plan.room.size, wait_read) if held else None,
        binds=binds,
        status_fd=status_write,
        block_fd=block_read,
        sync_fd=live.lock,
        disable_userns=sandbox.can_disable_userns(bwrap),
    )
    user = plan.uid
    try:
        live.process = subprocess.Popen(
            launch.argv,
            cwd="/",
            env={},
            stdin=null,
            stdout=output,
            stderr=output,
            # Bubblewrap closes the last one when it has read it, and only then.
            pass_fds=[
                *launch.fds,
                *(status_write, block_read, live.lock),
                *([wait_read] if held else []),
            ],
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            preexec_fn=_before_exec(live, user),
        )
    except OSError as error:
        os.close(block_write)
        os.close(wait_write)
        if error.errno != errno.E2BIG:
            raise
        return _refused(live, error.errno)  # the command is all that is long in it
    finally:
        for fd in (*launch.fds, status_write, block_read, wait_read):
            os.close(fd)
    try:
        return _let_begin(live, block_write, wait_write, held)
    finally:
        os.close(block_write)
        os.close(wait_write)


def _let_begin(live: Live, block: int, wait: int, held: bool) -> Verdict | None:
    """Puts the sandbox under its limits and lets the job in it begin."""
    inner = _inner_pid(live)
    if inner is None:
        return None  # it died; the conclusion says so
    live.inner = os.pidfd_open(inner)
    if live.group is not None:
        # The job is still held back, so nothing of it escapes the group.
        live.group.add(inner)
    if live.plan.uid is None:
        # Not before the user namespace exists: the limit would then count all processes of the
        # agent's user.
        tasks = live.limits.pids + SPARE_TASKS
        with suppress(ProcessLookupError):
            resource.prlimit(inner, resource.RLIMIT_NPROC, (tasks, tasks))
    live.begin()
    os.write(block, b"\0")
    if not held:
        return None
    live.space = disk.hold(inner, live.plan.room, _SETUP_SECONDS)
    live.work, live.tmp = live.space.work, live.space.tmp
    verdict = _bring_inputs(live)
    if verdict is None:
        live.begin()
        os.write(wait, b"job\n")
    return verdict


def _inner_pid(live: Live) -> int | None:
    """The sandbox's first process, once its namespaces stand; None when it failed."""
    end = time.monotonic() + _SETUP_SECONDS
    while b"\n" not in live.status:
        ready, _, _ = select.select([live.status_read], [], [], max(0, end - time.monotonic()))
        chunk = os.read(live.status_read, 4096) if ready else b""
        if not chunk:
            return None
        live.status += chunk
    return int(json.loads(live.status.split(b"\n", 1)[0])["child-pid"])


def _before_exec(live: Live, user: int | None) -> Callable[[], None]:
    """What the child does between fork and exec."""
    parent = os.getpid()
    limits, room = live.limits, live.plan.room
    sandboxed, group = live.sandboxed, live.group
    cpus = set(live.plan.cpu_list)
    has_gpu = any(device.kind == "cuda" for device in live.request.devices)

    def prepare() -> None:
        linux.die_with(parent)
        if group is not None and not sandboxed:
            group.add(os.getpid())
        with suppress(OSError):  # a processor was taken offline since
            os.sched_setaffinity(0, cpus)
        bounds = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_CPU: int(limits.timeout_seconds * limits.cpus) + 10,
            resource.RLIMIT_FSIZE: room.data,
            resource.RLIMIT_NOFILE: _OPEN_FILES,
            resource.RLIMIT_STACK: _STACK,
        }
        if group is None and not has_gpu:
            # Above the limit of the watch, so that the watch can name the reason.
            bounds[resource.RLIMIT_DATA] = limits.memory_bytes * 5 // 4 + 64 * MIB
        if user is not None and sandboxed:
            bounds[resource.RLIMIT_NPROC] = limits.pids + SPARE_TASKS
        for which, bound in bounds.items():
            _, hard = resource.getrlimit(which)
            if hard != resource.RLIM_INFINITY:
                bound = min(bound, hard)
            resource.setrlimit(which, (bound, bound))

    return prepare
