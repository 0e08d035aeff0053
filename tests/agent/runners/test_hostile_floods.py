# SPDX-License-Identifier: Apache-2.0
"""Jobs that take more than their share of the machine, in the real sandbox; see `hostile`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from provider_agent.runners import disk
from provider_agent.runners.base import MIB, Phase, Reason
from tests.agent.hostile import Machine
from tests.support import runs

pytestmark = pytest.mark.sandbox


def test_fork_bomb__ended_for_its_processes(machine: Machine) -> None:
    state = machine.execute("""
import os
while True:
    try: os.fork()
    except OSError: pass
""")
    assert state.reason is Reason.PIDS
    assert state.exit_code is None


def test_thread_bomb__ended_for_its_processes(machine: Machine) -> None:
    state = machine.execute("""
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(60,)).start()
    except RuntimeError: time.sleep(0.01)
""")
    assert state.reason is Reason.PIDS


def test_memory_bomb__ended_for_its_memory(machine: Machine) -> None:
    state = machine.execute("""
kept = []
while True: kept.append(b"x" * (4 << 20))
""")
    if state.reason is Reason.EXITED:  # it met the hard limit between two looks
        assert state.exit_code != 0
        assert "MemoryError" in machine.runner.log("hostile").read_text()
    else:
        assert state.reason is Reason.MEMORY
    assert state.usage.peak_memory_bytes < 2 * runs.LIMITS.memory_bytes


# What a program takes of the memory, with no process that seems to have it.
UNSEEN_MEMORY = {
    "processes": """
for _ in range(7):
    if os.fork() == 0: break
kept = b"x" * (64 << 20)
""",
    "mapped": """
kept = mmap.mmap(-1, 1 << 30)
for place in range(0, 1 << 30, 4096):
    kept[place] = 1
    if place % (1 << 26) == 0: time.sleep(0.02)
""",
    "memfd": """
kept = []
for _ in range(64):
    kept.append(os.memfd_create("x"))
    os.write(kept[-1], bytes(8 << 20)); time.sleep(0.01)
""",
    "memfd, mapped and closed": """
kept = []
for _ in range(64):
    fd = os.memfd_create("x")
    os.write(fd, bytes(8 << 20)); kept.append(mmap.mmap(fd, 8 << 20)); os.close(fd)
""",
    "memfd, on its way": """
kept = []
for _ in range(64):
    fd = os.memfd_create("x")
    os.write(fd, bytes(8 << 20))
    kept.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    socket.send_fds(kept[-1][0], [b"x"], [fd]); os.close(fd)
""",
    "socket buffers": """
kept = []
while True:
    pair = socket.socketpair()
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
    pair[0].setblocking(False)
    kept.append(pair)
    try:
        while True: pair[0].send(bytes(65536))
    except BlockingIOError: pass
""",
    "pipes": """
kept = []
for _ in range(1500):
    kept.append(os.pipe())
    os.set_blocking(kept[-1][1], False)
    try: fcntl.fcntl(kept[-1][1], 1031, 1 << 20)
    except OSError: pass
    try:
        while True: os.write(kept[-1][1], bytes(65536))
    except BlockingIOError: pass
""",
    "shared memory and files": """
for n in range(64):
    open(f"/dev/shm/{n}", "wb").write(bytes(1 << 20))
kept = [bytearray(os.urandom(1 << 20)) for _ in range(400)]
""",
}


@pytest.mark.parametrize("way", UNSEEN_MEMORY)
def test_memory_bomb__around_the_limit_of_one_process(machine: Machine, way: str) -> None:
    if way not in ("processes", "mapped", "memfd"):
        machine.need_limits()
    # Some ways are bounded by another limit before (descriptors, pipes of a user).
    limits = replace(runs.LIMITS, memory_bytes=(48 if way == "pipes" else 256) * MIB)
    state = machine.execute(
        "import fcntl, mmap, os, socket, time\n" + UNSEEN_MEMORY[way] + "\ntime.sleep(60)", limits
    )
    assert state.reason is Reason.MEMORY, machine.runner.log("hostile").read_text()
    if machine.holds:
        assert state.usage.peak_memory_bytes <= limits.memory_bytes


def test_queues_and_segments__of_the_kernel__not_to_be_had(machine: Machine) -> None:
    said = machine.attempts("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "made"
@attempt
def queue(): return call("msgget", 0, 0o1600)
@attempt
def sent(): return call("msgsnd", 0, b"x" * 16, 8, 0)
@attempt
def semaphores(): return call("semget", 0, 100, 0o1600)
@attempt
def segment(): return call("shmget", 0, 1 << 20, 0o1600)
@attempt
def posix_queue(): return call("syscall", 240 if os.uname().machine == "x86_64" else 180,
                               b"x", 0o102, 0o600, None)
@attempt
def secret(): return call("syscall", 447, 0)
""")
    assert len(said) == 6
    assert {name: answer for name, answer in said.items() if "PermissionError" not in answer} == {}


# What a program takes of the disk; the last two are seen by nobody who looks at names.
DISK_FILLS = {
    "files": 'for n in range(64): open(f"f{n}", "wb").write(bytes(1 << 20)); time.sleep(0.005)',
    "one file": """
with open("f", "wb") as f:
    for _ in range(64):
        try: f.write(bytes(1 << 20)); f.flush()
        except OSError: open("g", "wb").write(bytes(8 << 20))
""",
    "deleted": """
kept = []
for n in range(64):
    kept.append(open("f", "wb")); os.unlink("f"); kept[-1].write(bytes(1 << 20)); kept[-1].flush()
""",
    "tmp": 'for n in range(64): open(f"/tmp/f{n}", "wb").write(bytes(1 << 20))',
    "empty": """
for n in range(20_000): os.close(os.open(f"f{n}", os.O_CREAT))
""",
    "links": """
open("f", "w")
for n in range(20_000): os.symlink("x" * 60, f"f{n}")
""",
    "hidden": """
os.mkdir("d")
kept = [open(f"d/f{n}", "wb") for n in range(64)]
os.chmod("d", 0)
for f in kept: f.write(bytes(1 << 20)); f.flush()
""",
    "mapped": """
kept = []
for _ in range(64):
    with open("f", "wb+") as f:
        f.write(bytes(1 << 20)); f.flush(); kept.append(mmap.mmap(f.fileno(), 1 << 20))
    os.unlink("f")
""",
    "on its way": """
kept = []
for _ in range(64):
    kept.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    with open("f", "wb") as f:
        f.write(bytes(1 << 20)); f.flush(); socket.send_fds(kept[-1][0], [b"x"], [f.fileno()])
    os.unlink("f")
""",
}


@pytest.mark.parametrize("way", DISK_FILLS)
def test_disk_fill__more_than_its_own__not_to_be_had(machine: Machine, way: str) -> None:
    if way in ("mapped", "on its way"):
        machine.need_limits()
    source = f"""
import mmap, os, socket, time
try:
    {DISK_FILLS[way].replace(chr(10), chr(10) + "    ")}
    print("all of it")
except OSError as error:
    print(error)
time.sleep(60)
"""
    state = machine.execute(source)
    assert state.reason is Reason.DISK
    assert "all of it" not in machine.runner.log("hostile").read_text()


def test_disk_fill__job_that_fails_for_want_of_room__its_own_failure(machine: Machine) -> None:
    state = machine.execute('for n in range(64): open(str(n), "wb").write(bytes(1 << 20))')
    assert state.reason in (Reason.DISK, Reason.EXITED)
    assert not state.succeeded and not state.provider_fault


def test_disk__of_the_machine__given_at_once_and_given_back(machine: Machine) -> None:
    machine.need_limits()
    if machine.runner.containment.disk != disk.IMAGE:
        pytest.skip("files of jobs are in memory here")
    limits = replace(runs.LIMITS, disk_bytes=64 * MIB, memory_bytes=512 * MIB)
    source = """
import mmap, os
kept = []
for _ in range(80):
    with open("f", "wb+") as f:
        try: f.write(os.urandom(8 << 20)); f.flush(); kept.append(mmap.mmap(f.fileno(), 8 << 20))
        except OSError: kept.clear()
    os.unlink("f")
"""
    run = runs.python_run(machine.directory, "hostile", source, limits=limits)
    machine.runner.start(run)
    directory = machine.data / "runs" / "hostile"
    taken = set()
    while machine.runner.poll("hostile").phase is not Phase.EXITED:
        with suppress(FileNotFoundError):
            taken.add((directory / disk.IMAGE_FILE).stat().st_blocks * 512)
        time.sleep(0.01)
    assert 64 * MIB < min(taken) <= max(taken) < 80 * MIB
    assert max(taken) - min(taken) < MIB  # the host's own tables of it
    assert not (directory / disk.IMAGE_FILE).exists()
    runs.wait_for_no_loops(machine.data)


def test_nesting__without_end__costs_the_job_alone(machine: Machine) -> None:
    state = machine.execute(
        "import os\ntry:\n    while True: os.mkdir('d'); os.chdir('d')\n"
        "except OSError as error: print(error)"
    )
    assert state.reason in (Reason.DISK, Reason.EXITED) and not state.provider_fault


def test_disk_fill__short_job__not_missed(machine: Machine) -> None:
    state = machine.execute(
        'open("a", "wb").write(bytes(20 << 20))\nopen("b", "wb").write(bytes(20 << 20))'
    )
    assert state.reason is Reason.DISK


def test_endless_output__cut_and_ended(machine: Machine) -> None:
    state = machine.execute('while True: print("x" * 1000)')
    assert state.reason is Reason.OUTPUT
    log = machine.runner.log("hostile").read_bytes()
    assert log.endswith(b"[output cut after 65536 bytes]\n")
    assert len(log) < 65536 + 100


def test_much_output__cut_but_done(machine: Machine) -> None:
    state = machine.execute('print("x" * 100_000)')
    assert state.succeeded
    assert machine.runner.log("hostile").read_bytes().endswith(b"[output cut after 65536 bytes]\n")


def test_sleep_for_ever__ignoring_signals__ended_in_time(machine: Machine) -> None:
    limits = replace(runs.LIMITS, timeout_seconds=1)
    state = machine.execute(
        """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True: time.sleep(60)
""",
        limits,
    )
    assert state.reason is Reason.TIMEOUT
    assert state.started is not None and state.finished is not None
    assert state.finished - state.started <= 3


def test_daemon__does_not_outlive_the_job(machine: Machine) -> None:
    state = machine.execute("""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
time.sleep(0.2)
""")
    assert state.succeeded


def test_crash_by_signal__its_exit_code(machine: Machine) -> None:
    state = machine.execute("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert state.reason is Reason.EXITED
    assert state.exit_code == 128 + 11
