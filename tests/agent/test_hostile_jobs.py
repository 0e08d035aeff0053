# SPDX-License-Identifier: Apache-2.0
"""Jobs that mean harm, in the real sandbox.

After each: the attempt failed, the run ended with the right reason, no process is left, and the
process that plays the agent (this one) is as it was.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.runners import disk
from provider_agent.runners.base import MIB, Limits, Phase, Reason, RunState
from tests.support import runs

pytestmark = pytest.mark.sandbox

# Each attempt of a job is a function; what it returns, or the error's name, is printed as JSON.
ATTEMPTS = """
import json, sys
said = {}
def attempt(function):
    try:
        said[function.__name__] = function()
    except BaseException as error:
        said[function.__name__] = type(error).__name__ + ": " + str(error)
    return function
"""
TELL = "\nprint(json.dumps(said, default=repr))\n"


class Machine:
    """A runner with one hostile run at a time, and the checks that hold after each."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.runner = runs.make_runner(self.data)
        self.holds = self.runner.containment.holds
        self.directory = directory
        self.marker = f"HOSTILE_{os.getpid()}_{time.monotonic_ns()}"

    def need_limits(self) -> None:
        """Skips on a person's machine that can only watch; there strangers' work is refused."""
        if not self.holds:
            pytest.skip("this machine has no limits that hold")

    def execute(
        self, source: str, limits: Limits = runs.LIMITS, outputs: tuple[str, ...] = ()
    ) -> RunState:
        """Runs a program to its end."""
        run = runs.python_run(
            self.directory,
            "hostile",
            source,
            limits=limits,
            outputs=outputs,
            env={"MARKER": self.marker},
        )
        self.runner.start(run)
        return runs.wait(self.runner, "hostile")

    def attempts(self, source: str) -> dict[str, Any]:
        """What a program that ends well says of its attempts."""
        state = self.execute(ATTEMPTS + source + TELL)
        said = self.runner.log("hostile").read_text()
        assert state.succeeded, said
        answers: dict[str, Any] = json.loads(said)
        return answers


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    runs.need_bubblewrap()
    made = Machine(tmp_path)
    threads = threading.active_count()
    yield made
    assert runs.marked(made.marker) == []
    assert (made.data / "runs" / "hostile" / "supervisor.log").read_text() == ""
    made.runner.remove("hostile")
    assert made.runner.list() == ()
    assert os.listdir(made.data / "runs") == []
    runs.wait_for_no_loops(made.data)
    assert threading.active_count() == threads


def test_network__every_family__reaches_nothing(machine: Machine) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        path = str(machine.directory / "agent.sock")
        named.bind(path)
        named.listen()
        hidden = "\0" + machine.marker
        abstract.bind(hidden)
        abstract.listen()
        said = machine.attempts(f"""
import socket
def reach(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(2)
        s.connect(address)
        return "connected"
@attempt
def loopback(): return reach(socket.AF_INET, ("127.0.0.1", {tcp.getsockname()[1]}))
@attempt
def outside(): return reach(socket.AF_INET, ("192.0.2.1", 80))
@attempt
def name_service(): return reach(socket.AF_INET, ("192.0.2.1", 53), socket.SOCK_DGRAM)
@attempt
def outside6(): return reach(socket.AF_INET6, ("2001:db8::1", 80))
@attempt
def unix(): return reach(socket.AF_UNIX, {path!r})
@attempt
def abstract(): return reach(socket.AF_UNIX, {hidden!r})
@attempt
def vsock(): return reach(40, (2, 1))
@attempt
def packet(): return socket.socket(socket.AF_PACKET, socket.SOCK_RAW) and "opened"
@attempt
def interfaces(): return [name for _, name in socket.if_nameindex()]
""")
    assert said.pop("interfaces") == ["lo"]
    assert len(said) == 8
    for attempt, answer in said.items():
        assert "Error" in answer and "timed out" not in answer, attempt


def test_host_files__keys_data_and_other_runs__not_there(machine: Machine) -> None:
    secret = machine.data / "operator.key"
    secret.write_text("a secret key")
    other = machine.data / "runs" / "other"
    said = machine.attempts(f"""
import os
@attempt
def shadow(): return open("/etc/shadow").read()
@attempt
def key(): return open({str(secret)!r}).read()
@attempt
def other_runs(): return os.listdir({str(other.parent)!r})
@attempt
def by_own_cwd(): return sorted(os.listdir("/job/..")) == sorted(os.listdir("/"))
@attempt
def root(): return sorted(os.listdir("/"))
@attempt
def people(): return [line.split(":")[0] for line in open("/etc/passwd")]
@attempt
def variables(): return sorted(os.environ)
@attempt
def descriptors(): return len(os.listdir("/proc/self/fd"))
@attempt
def block_devices():
    return [n for n in os.listdir("/dev") if n.startswith(("sd", "vd", "nvm", "mem"))]
@attempt
def kernel_memory(): return open("/dev/core", "rb").read(1) and "read"
@attempt
def user(): return os.getuid()
""")
    assert "FileNotFoundError" in said["shadow"]
    assert "Error" in said["key"]
    assert "Error" in said["other_runs"]
    assert said["by_own_cwd"] is True
    assert not {"home", "var", "boot", "sys", "run", "srv", "mnt"} & set(said["root"])
    assert said["people"] == ["root", "job"]
    assert "MARKER" in said["variables"] and "USER" not in said["variables"]
    assert said["descriptors"] == 4  # the three standard ones and the listing itself
    assert said["block_devices"] == []
    assert "Error" in said["kernel_memory"]
    assert said["user"] == 65534


def test_write_outside__read_only_everywhere(machine: Machine) -> None:
    said = machine.attempts(f"""
import os
def write(path):
    with open(path, "w") as f: f.write("x")
    return "written"
@attempt
def root(): return write("/x")
@attempt
def system(): return write("/usr/x")
@attempt
def runtime(): return write({str(runs.RUNTIME / "x")!r})
@attempt
def interpreter(): return write(os.path.realpath(sys.executable))
@attempt
def device_directory(): return write("/dev/x")
@attempt
def etc(): return write("/etc/passwd")
@attempt
def kernel(): return write("/proc/sys/kernel/core_pattern")
@attempt
def sysrq(): return write("/proc/sysrq-trigger")
@attempt
def shared_memory():
    with open("/dev/shm/x", "wb") as f:
        for _ in range(512): f.write(bytes(1 << 20))
    return "written"
""")
    assert len(said) == 9
    assert {name for name, answer in said.items() if "Error" not in answer} == set()


def test_privileges__none_to_gain(machine: Machine) -> None:
    said = machine.attempts("""
import ctypes, fcntl, os, signal, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "done"
@attempt
def become_root(): os.setuid(0); return "done"
@attempt
def become_root_group(): os.setgroups([0]); return "done"
@attempt
def mount(): return call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
@attempt
def remount(): return call("mount", b"none", b"/", None, 0x20, None)
@attempt
def new_namespace(): return call("unshare", 0x10000000)
@attempt
def clone_namespace(): return call("syscall", 56 if os.uname().machine == "x86_64" else 220,
                                   0x10000000 | 17, 0, 0, 0, 0)
@attempt
def trace(): return call("ptrace", 16, os.getppid(), None, None)
@attempt
def device_node(): os.mknod("/job/disk", 0o60600, os.makedev(8, 0)); return "done"
@attempt
def host_name(): return call("sethostname", b"x", 1)
@attempt
def affinity(): os.sched_setaffinity(0, range(os.cpu_count())); return "done"
@attempt
def more_processes():
    import resource
    resource.setrlimit(resource.RLIMIT_NPROC, (4096, 4096)); return "done"
@attempt
def type_into_terminal(): fcntl.ioctl(0, 0x5412, b"x"); return "done"
@attempt
def open_terminal(): open("/dev/tty"); return "done"
@attempt
def segment(): return call("shmget", 0, 1 << 20, 0o1600)
@attempt
def perf():
    number = 298 if os.uname().machine == "x86_64" else 241
    return call("syscall", number, None, 0, -1, -1, 0)
@attempt
def setuid_program():
    subprocess.run(["su", "-c", "true"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return "done"
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":\\t") for line in lines if ":\\t" in line)
said["capabilities"] = sum(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd"))
said["no_new_privileges"] = int(status["NoNewPrivs"])
said["filter"] = int(status["Seccomp"])
""")
    assert said.pop("capabilities") == 0
    assert said.pop("no_new_privileges") == 1
    assert said.pop("filter") == 2
    assert len(said) == 16
    assert {name for name, answer in said.items() if "Error" not in answer} == set()


def test_other_processes__not_seen_not_signalled(machine: Machine) -> None:
    said = machine.attempts(f"""
import os, signal
@attempt
def all_processes(): return sorted(int(n) for n in os.listdir("/proc") if n.isdecimal())
@attempt
def parent(): return os.getppid()
@attempt
def agent(): os.kill({os.getpid()}, signal.SIGKILL); return "done"
@attempt
def everybody():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try: os.kill(-1, signal.SIGTERM)
    except ProcessLookupError: pass
    return "done"
@attempt
def first(): os.kill(1, signal.SIGKILL); return "sent"
@attempt
def first_memory(): return open("/proc/1/mem", "rb").read(1)
@attempt
def first_root(): return os.listdir("/proc/1/root/etc") == os.listdir("/etc")
@attempt
def host(): return os.uname().nodename
""")
    assert said["all_processes"] == [1, 2]
    assert said["parent"] in (0, 1)
    assert "ProcessLookupError" in said["agent"]
    # The kernel drops signals to a namespace's first process from within.
    assert said["first"] == "sent"
    assert said["first_root"] is True or "Error" in str(said["first_root"])
    assert said["host"] == "job"


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


# What a program leaves in its outputs, and the path that must be named for it.
PLANTS = {
    "link to a file": ('os.symlink("/etc/passwd", "out/x")', "out/x"),
    "link to the host": ('os.symlink("../../../../operator.key", "out/x")', "out/x"),
    "link as the directory": ('os.rename("out", "o"); os.symlink("/etc", "out")', "out"),
    "link to another place": ('open("s", "w"); os.symlink("../s", "out/x")', "out/x"),
    "dangling link": ('os.symlink("nowhere", "out/x")', "out/x"),
    "links in a circle": ('os.symlink("y", "out/x"); os.symlink("x", "out/y")', "out/x"),
    "link to itself": ('os.symlink(".", "out/x")', "out/x"),
    "link through a file": ('os.symlink("good/x", "out/x")', "out/x"),
    "link by the kernel's own": ('os.symlink("/proc/self/root/etc", "out/x")', "out/x"),
    "pipe": ('os.mkfifo("out/x")', "out/x"),
    "link to a pipe": ('os.mkfifo("out/p"); os.symlink("p", "out/x")', "out/x"),
    "socket": ('import socket; socket.socket(socket.AF_UNIX).bind("out/x")', "out/x"),
    "line in a name": ('open("out/a\\nb", "w")', "out/a\\nb"),
    "terminal codes in a name": ('open("out/\\x1b[2J", "w")', "out/\\x1b[2J"),
    "name that is not text": ('open(b"out/\\xff\\xfe", "w")', "out/\\udcff\\udcfe"),
    "claims more than it may have": (
        'open("out/x", "wb").truncate(20 << 20); open("out/y", "wb").truncate(20 << 20)',
        "out/y",
    ),
    "too deep": ('os.makedirs("out/" + "d/" * 40)', "out/" + "/".join("d" * 32)),
    "nothing": ('os.unlink("out/good"); os.rmdir("out")', "out"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_outputs__unfit__named_and_the_rest_kept(machine: Machine, plant: str) -> None:
    program, path = PLANTS[plant]
    source = f'import os\nos.mkdir("out")\nopen("out/good", "w").write("good")\n{program}\n'
    state = machine.execute(source, outputs=("out",))
    assert (state.reason, state.exit_code) == (Reason.OUTPUTS, 0), state
    assert state.collected and not state.succeeded
    named = dict(state.unfit)
    assert path in named, named
    for text in (state.detail, *named, *named.values()):
        assert text.isascii() and text.isprintable() and text
    log = machine.runner.log("hostile").read_text()
    assert "is not kept: it" in log
    out = machine.runner.outputs("hostile") / "out"
    if "/" in path:
        assert (out / "good").read_text() == "good"
    kept = [item for item in out.rglob("*") if not item.is_dir()]
    assert all(item.is_file() and not item.is_symlink() for item in kept)
    assert "root:" not in "".join(item.read_text("latin-1") for item in kept)


# Results as training programs leave them, and what must be there in the end.
LINKED = {
    "last checkpoint": (
        """
os.makedirs("out/checkpoints")
open("out/checkpoints/epoch=3-step=400.ckpt", "w").write("weights")
os.symlink("epoch=3-step=400.ckpt", "out/checkpoints/last.ckpt")
""",
        {
            "out/checkpoints/epoch=3-step=400.ckpt": "weights",
            "out/checkpoints/last.ckpt": "weights",
        },
    ),
    "model cache": (
        """
os.makedirs("out/m/blobs"); os.makedirs("out/m/snapshots/abc")
open("out/m/blobs/dead", "w").write("blob")
os.symlink("../../blobs/dead", "out/m/snapshots/abc/model")
""",
        {"out/m/blobs/dead": "blob", "out/m/snapshots/abc/model": "blob"},
    ),
    "absolute, and through a directory": (
        """
os.makedirs("out/a/b"); open("out/a/b/f", "w").write("f")
os.symlink("/job/out/a", "out/l"); os.symlink("l/b/f", "out/k")
""",
        {"out/a/b/f": "f", "out/l/b/f": "f", "out/k": "f"},
    ),
    "a directory with links of its own": (
        """
os.makedirs("out/run1"); open("out/run1/f", "w").write("f"); os.symlink("f", "out/run1/g")
os.symlink("run1", "out/latest")
""",
        {"out/run1/f": "f", "out/run1/g": "f", "out/latest/f": "f", "out/latest/g": "f"},
    ),
    "link to a link": (
        'os.mkdir("out"); open("out/f", "w").write("f")\n'
        'os.symlink("f", "out/b"); os.symlink("b", "out/a")\n',
        {"out/f": "f", "out/a": "f", "out/b": "f"},
    ),
    "closed files": (
        'os.mkdir("out"); open("out/f", "w").write("f"); os.chmod("out/f", 0)\n'
        'os.mkdir("out/d"); open("out/d/g", "w").write("g"); os.chmod("out/d", 0)\n',
        {"out/f": "f", "out/d/g": "g"},
    ),
}


@pytest.mark.parametrize("kind", LINKED)
def test_outputs__links_that_stay_inside__kept(machine: Machine, kind: str) -> None:
    source, wanted = LINKED[kind]
    state = machine.execute("import os\n" + source, outputs=("out",))
    assert state.succeeded, state
    out = machine.runner.outputs("hostile")
    found = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}
    assert found == wanted
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_outputs__directories_linked_into_each_other__bounded(machine: Machine) -> None:
    # Each level has two links to the next one: 2^30 paths, where links are followed.
    state = machine.execute(
        """
import os
os.mkdir("out")
for n in range(30):
    os.mkdir(f"out/{n}")
    for name in "ab": os.symlink(f"../{n + 1}", f"out/{n}/{name}")
os.mkdir("out/30"); open("out/30/f", "w").write("f")
""",
        outputs=("out",),
    )
    assert state.reason is Reason.OUTPUTS
    assert sum(1 for _ in machine.runner.outputs("hostile").rglob("*")) <= 10_000


def test_outputs__hard_links_and_odd_modes__plain_copies(machine: Machine) -> None:
    state = machine.execute(
        """
import os
os.mkdir("out")
open("out/a", "w").write("same")
os.link("out/a", "out/b")
os.chmod("out/a", 0o4777)
open("outside", "w").write("not declared")
""",
        outputs=("out", "out/a"),
    )
    assert state.succeeded
    out = machine.runner.outputs("hostile")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "out",
        "out/a",
        "out/b",
    ]
    for name in ("a", "b"):
        status = (out / "out" / name).stat()
        assert (status.st_mode & 0o7777, status.st_nlink) == (0o644, 1)
        assert status.st_uid == os.geteuid()
        assert (out / "out" / name).read_text() == "same"


def test_left_over__closed_and_deep_directories__removed(machine: Machine) -> None:
    state = machine.execute("""
import os
os.makedirs("closed/inner"); open("closed/inner/x", "w"); os.symlink("/etc", "closed/link")
os.chmod("closed/inner", 0); os.chmod("closed", 0)
for _ in range(3000): os.mkdir("d"); os.chdir("d")
""")
    assert state.phase.value == "exited"  # and the fixture removes it
