# SPDX-License-Identifier: Apache-2.0
"""Docker Engine out of .build/engine, for tests and demos: see `make engine`.

python -m tools.engine COMMAND...     run a command with an engine that ends with it

The command runs in a network namespace of its own, which has no way out, and what it mounts ends
with it. It finds the engine's socket in TERAPROOF_LEASES__DOCKER_SOCKET, and what the demo of
leases needs: the image of a small web server in DEMO_IMAGE, a certificate and its key in
DEMO_CERTIFICATE and DEMO_KEY.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from provider_agent.dataplane import certificate
from provider_agent.errors import RunnerError
from provider_agent.runners import linux
from provider_agent.runners.docker.engine import Engine
from tools.images import Registry, layer, shell_layer

ROOT = Path(__file__).resolve().parent.parent
UNPACKED = ROOT / ".build" / "engine"
TOOLS = f"{UNPACKED / 'usr/sbin'}:{UNPACKED / 'usr/bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 300
_TRIES = 5
_INSIDE = "TERAPROOF_ENGINE_INSIDE"
_PAGE = b"<h1>It works</h1><p>Served from a lease, over TLS.</p>\n"


def find_busybox() -> Path | None:
    """A static program that is a shell and all its tools; None when there is none."""
    for path in (UNPACKED / "bin/busybox", Path("/bin/busybox")):
        if path.exists() and b"ld-linux" not in path.read_bytes()[:4096]:
            return path
    return None


class Place(Protocol):
    """Where the engine's networks are."""

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """This thread, and what it starts, is there."""


class Here:
    """Where this process is."""

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to do."""
        return contextlib.nullcontext()


class Daemon:
    """One engine with a data root of its own. `place` is an empty directory with a short path;
    `path` is where the engine finds its tools.
    """

    def __init__(self, place: Path, namespace: Place, *options: str, path: str = TOOLS) -> None:
        self.place, self.namespace, self._options = place, namespace, options
        self._path = path
        self.socket = place / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self.cgroup = f"/teraproof-{place.name}"

    def start(self) -> None:
        """Starts it, again where it ends as a service manager would, and waits until it answers.
        On a busy machine that takes minutes after it was killed.
        """
        end = time.monotonic() + _SECONDS
        for _ in range(_TRIES):
            self._launch()
            assert self.process is not None
            while time.monotonic() < end and self.process.poll() is None:
                with contextlib.suppress(RunnerError):
                    Engine(self.socket, seconds=5).version()
                    return
                time.sleep(0.1)
            if self.process.poll() is None:
                self.kill()  # two of them would spoil each other's data
                break
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
        """It takes connections and answers nothing, from the moment when this returns."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # One of its threads has to take the signal, and on a busy machine the others go on.
        while not all(
            _stands(thread) for thread in Path(f"/proc/{self.process.pid}/task").iterdir()
        ):
            time.sleep(0.01)

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


def missing() -> str:
    """What an engine needs and this machine lacks, in one line; "" where it can be tried."""
    if os.geteuid() != 0:
        return "only root can run Docker Engine"
    lacks = [
        name
        for name in ("dockerd", "containerd", "runc", "iptables", "ip", "mkfs.ext4")
        if shutil.which(name, path=TOOLS) is None
    ]
    if lacks or find_busybox() is None:
        return f"{lacks[0] if lacks else 'busybox'} is missing; make engine fetches it"
    return ""


def enter(*again: str) -> int | None:
    """Begin a program again where nothing else is: with networks and mounts of its own, which end
    with it. Its exit code; 1 where no engine can run; None in that place itself.
    """
    if trouble := missing():
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    if _INSIDE not in os.environ:
        words = ["unshare", "--net", "--mount", *again]
        return subprocess.run(words, env={**os.environ, _INSIDE: "1"}, check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], env={"PATH": TOOLS}, check=True)
    return None


@contextlib.contextmanager
def running() -> Iterator[tuple[Daemon, str]]:
    """An engine, which ends with all that it runs, and the image of a small web server.

    RuntimeError where it does not start.
    """
    box = find_busybox()
    assert box is not None  # `missing` looked
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="tp-")), Here())
    registry = Registry()
    try:
        daemon.start()
        page = layer({"www/index.html": _PAGE}, ("www",))
        yield daemon, registry.add("demo/web:1", shell_layer(box), page, Cmd=["/bin/sh"])
    finally:
        registry.close()
        daemon.stop()


def main(command: Sequence[str]) -> int:
    """Run it; its exit code, or 1 when there is no engine."""
    if not command:
        print("error: give a command", file=sys.stderr)
        return 2
    ended = enter(sys.executable, "-m", "tools.engine", *command)
    if ended is not None:
        return ended
    try:
        with running() as (daemon, image):
            settings = {"TERAPROOF_LEASES__DOCKER_SOCKET": str(daemon.socket), "DEMO_IMAGE": image}
            now = int(time.time())
            pair = certificate.make(now - 3_600, now + 86_400)
            for name, text in (("CERTIFICATE", pair.certificate), ("KEY", pair.key)):
                file = daemon.place / f"{name.lower()}.pem"
                file.touch(mode=0o600)
                file.write_text(text)
                settings[f"DEMO_{name}"] = str(file)
            return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode
    except RuntimeError as error:
        print(f"error: Docker Engine does not start here: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _stands(thread: Path) -> bool:
    """Whether a thread is stopped, or has ended."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in ("T", "Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
