# SPDX-License-Identifier: Apache-2.0
"""Jobs that reach for what is not theirs, in the real sandbox; see `hostile`."""

from __future__ import annotations

import os
import socket

import pytest

from tests.agent.hostile import Machine
from tests.support import runs

pytestmark = pytest.mark.sandbox


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
