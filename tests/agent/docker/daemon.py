# SPDX-License-Identifier: Apache-2.0
"""Docker Engine for tests: the real one, in a network namespace of its own.

The namespace has no way out, so that no test reaches the internet or a port of the machine. A
second one next to it plays the internet. Tests enter the first: what they, the runner and the
engine do to networks stays there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners import disk, linux
from provider_agent.runners.docker.engine import Engine

ROOT = Path(__file__).parents[3]
UNPACKED = ROOT / ".build" / "engine"
TOOLS = f"{UNPACKED / 'usr/sbin'}:{UNPACKED / 'usr/bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
_NEWNET = 0x40000000
_SECONDS = 60
_TRIES = 5
_libc = ctypes.CDLL(None, use_errno=True)


def busybox() -> Path:
    """A static program that is a shell and all its tools."""
    for path in (UNPACKED / "bin/busybox", Path("/bin/busybox")):
        if path.exists() and b"ld-linux" not in path.read_bytes()[:4096]:
            return path
    pytest.skip("no static busybox; make engine fetches it")


class Namespace:
    """A network namespace of its own, with nothing but loopback."""

    def __init__(self) -> None:
        home = self._open()
        try:
            _call(_libc.unshare(_NEWNET))
            self.handle = self._open()
            ip("link set lo up")
        finally:
            _call(_libc.setns(home, _NEWNET))
            os.close(home)

    @staticmethod
    def _open() -> int:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is inside."""
        home = self._open()
        _call(_libc.setns(self.handle, _NEWNET))
        try:
            yield
        finally:
            _call(_libc.setns(home, _NEWNET))
            os.close(home)


OUTSIDE = "198.51.100.7"
"""An address on the internet."""
ELSEWHERE = ("10.77.0.1", "172.30.0.1", "192.168.77.1", "100.64.7.7", "169.254.169.254")
"""Addresses behind this machine that no lease may reach: the owner's networks, a cloud's."""


def join(here: Namespace, there: Namespace) -> None:
    """Connects two namespaces; `there` has the addresses of the internet and of the neighbours."""
    with here.entered():
        place = f"/proc/{os.getpid()}/fd/{there.handle}"
        ip(f"link add name out type veth peer name far netns {place}")
        ip("addr add 203.0.113.1/24 dev out")
        ip("link set out up")
        ip("route add default via 203.0.113.2")
    with there.entered():
        for address in ("203.0.113.2/24", *(f"{one}/32" for one in (OUTSIDE, *ELSEWHERE))):
            ip(f"addr add {address} dev far")
        ip("link set far up")


def ip(line: str) -> None:
    """Runs the tool of that name."""
    subprocess.run(
        ["ip", *line.split()], env={"PATH": TOOLS}, check=True, stderr=subprocess.DEVNULL
    )


class Daemon:
    """One engine with a data root of its own. `place` is an empty directory with a short path;
    `path` is where the engine finds its tools.
    """

    def __init__(self, place: Path, namespace: Namespace, *options: str, path: str = TOOLS) -> None:
        self.place, self.namespace, self._options = place, namespace, options
        self._path = path
        self.socket = place / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self.cgroup = f"/teraproof-{place.name}"

    def start(self) -> None:
        """Starts it, as often as a service manager would, and waits until it answers."""
        for _ in range(_TRIES):
            self._launch()
            assert self.process is not None
            end = time.monotonic() + _SECONDS
            while time.monotonic() < end and self.process.poll() is None:
                with contextlib.suppress(RunnerError):
                    Engine(self.socket, seconds=5).version()
                    return
                time.sleep(0.1)
        raise RuntimeError(self.last_words())

    def _launch(self) -> None:
        settings = {
            "data-root": str(self.place / "data"),
            "exec-root": str(self.place / "exec"),
            "pidfile": str(self.place / "pid"),
            "hosts": [f"unix://{self.socket}"],
            "cgroup-parent": self.cgroup,
            "deprecated-key-path": str(self.place / "key.json"),
        }
        (self.place / "settings.json").write_text(json.dumps(settings))
        (self.place / "pid").unlink(missing_ok=True)
        command = ["dockerd", "--config-file", str(self.place / "settings.json"), *self._options]
        with self.namespace.entered(), open(self.place / "log", "ab") as log:
            self.process = subprocess.Popen(
                [shutil.which(command[0], path=TOOLS) or command[0], *command[1:]],
                env={"PATH": self._path, "HOME": str(self.place)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def last_words(self) -> str:
        """The last error in its log."""
        lines = (self.place / "log").read_text(errors="replace").splitlines()
        return next(
            (line for line in reversed(lines) if "level=error" in line or "failed" in line),
            lines[-1] if lines else "it says nothing",
        )[:300]

    def kill(self) -> None:
        """As a crash or the kernel would: it has no time for anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        """It takes connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of `hang`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it with all its containers, and leaves nothing."""
        if self.process is not None and self.process.poll() is None:
            self.go_on()
            with contextlib.suppress(RunnerError):
                engine = Engine(self.socket)
                for one in engine.get("/containers/json", all=True):
                    engine.delete(f"/containers/{one['Id']}", force=True)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.process.kill()
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._unmount()
        groups = Path("/sys/fs/cgroup")
        for top in (groups, *groups.glob("*/")):
            with contextlib.suppress(OSError):
                (top / self.cgroup.strip("/")).rmdir()
        shutil.rmtree(self.place, ignore_errors=True)

    def left(self) -> list[int]:
        """Processes of this engine: those that name its directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.place}/exec".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def _unmount(self) -> None:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            target = Path(line.split()[4])
            if target.is_relative_to(self.place):
                with contextlib.suppress(OSError):
                    linux.unmount(target)


def cannot_run() -> str:
    """Why no engine can run here, or ""."""
    if os.geteuid() != 0:
        return "only root can run Docker Engine"
    missing = [
        name
        for name in ("dockerd", "containerd", "runc", "iptables", "ip", "mkfs.ext4")
        if shutil.which(name, path=TOOLS) is None
    ]
    if missing:
        return f"{missing[0]} is missing; make engine fetches it"
    if disk.choose(True, True) != disk.IMAGE:
        return "no loop devices here"
    try:
        namespace, other = Namespace(), Namespace()
        join(namespace, other)
        os.close(other.handle)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace can be made: {error}"
    with namespace.entered():
        rule = (
            "-I PREROUTING -m conntrack --ctstate ESTABLISHED -m addrtype --dst-type LOCAL -j DROP"
        )
        done = subprocess.run(
            ["iptables", "-w", "10", "-t", "mangle", *rule.split()],
            env={"PATH": TOOLS},
            capture_output=True,
            text=True,
            check=False,
        )
    os.close(namespace.handle)
    return f"the kernel takes no such rules: {done.stderr.strip()}" if done.returncode else ""


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
