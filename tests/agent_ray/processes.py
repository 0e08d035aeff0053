# SPDX-License-Identifier: Apache-2.0
"""A lease runner that contains nothing: plain processes, for tests of where leases are put.

Its programs belong to nobody, as containers do: they outlive whoever started them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import (
    Arrival,
    ContainerState,
    Credentials,
    ImageRoom,
    Lease,
    LeaseState,
    Port,
    Service,
    Status,
)
from provider_agent.runners.lease_json import from_json, to_json

IMAGE = "none@sha256:" + "0" * 64
MARK = "FLEET_TEST"
"""The variable of the surroundings that names the lease of a process."""
RUN = "FLEET_TEST_RUN"
"""The variable that tells this run of the tests from others on the same machine."""


def make(place: Path, agent: str) -> Processes:
    """As `cluster.Terms` names it."""
    return Processes(place, agent)


def needs(lease: Lease) -> Taken:
    """What it names."""
    parts = [service for service, _ in lease.parts]
    disk = lease.copies + sum(one.storage for one in parts)
    return Taken(sum(one.memory for one in parts), disk, 1)


def gpus() -> Sequence[Device]:
    """What every machine of the tests shows."""
    return (Device("cuda", 0, "Test GPU", "GPU-test", 8 << 30, node="/dev/null"),)


def no_gpus() -> Sequence[Device]:
    """What they show to an owner who sells none."""
    return ()


def running(agent: str, lease_id: str) -> list[int]:
    """The processes of a lease, or of all where it has no name, wherever they were started."""
    mark, name = (
        f"{MARK}={os.environ[RUN]} {agent}".encode(),
        f" {lease_id}".encode() if lease_id else b"",
    )
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parts = (path / "environ").read_bytes().split(b"\0")
            here = any(p.startswith(mark) and p.endswith(name) for p in parts)
            if here and alive(int(path.name)):
                found.append(int(path.name))
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether a process is there, and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Processes:
    """See the module and `lease.LeaseRunner`."""

    def __init__(self, place: Path, agent: str) -> None:
        self._place, self._agent = place, agent

    def check(self) -> str:
        """Nothing holds them."""
        return "processes that nothing contains"

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        """Every tag means the same."""
        return f"{image.partition(':')[0]}@sha256:{'0' * 64}"

    def needs(self, lease: Lease) -> Taken:
        """See the function."""
        return needs(lease)

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        """A mark instead of images."""
        self._of(lease.lease_id).mkdir(parents=True, exist_ok=True)
        (self._of(lease.lease_id) / "most").write_text(f"{most}")

    def arrival(self, lease_id: str) -> Arrival | None:
        """All at once."""
        return Arrival(1, 1) if self._of(lease_id).exists() else None

    def give_up(self, lease_id: str) -> None:
        """What was not prepared is not there."""
        if not (self._of(lease_id) / "lease.json").exists():
            self.remove(lease_id)

    def close(self) -> None:
        """Nothing is on its way."""

    def image_room(self) -> ImageRoom:
        """There are none."""
        return ImageRoom(held=1)

    def free_images(self, size: int) -> int:
        """There are none."""
        return 0

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        """Its directory."""
        self._of(lease.lease_id).mkdir(parents=True, exist_ok=True)
        made = self._of(lease.lease_id) / ".lease"
        made.write_text(json.dumps(to_json(lease)))
        made.replace(made.with_name("lease.json"))

    def prepared(self, lease_id: str) -> Lease | None:
        """What its directory says."""
        try:
            return self._read(lease_id)
        except RunnerError:
            return None

    def start(self, lease_id: str) -> None:
        """Each part once."""
        lease = self._read(lease_id)
        (self._of(lease_id) / "started").touch()
        for service, number in lease.parts:
            if self._pid(lease_id, service.name, number) is None:
                self._begin(lease_id, service, number)

    def _begin(self, lease_id: str, service: Service, number: int) -> None:
        pid = self._file(lease_id, service.name, number, "pid")
        pid.unlink(missing_ok=True)
        with open(self._file(lease_id, service.name, number, "log"), "ab") as log:
            subprocess.run(
                [
                    *("setsid", "-f", "sh", "-c", 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec "$@"'),
                    *(str(pid), *service.command, *service.args),
                ],
                env={
                    "PATH": os.environ["PATH"],
                    MARK: f"{os.environ[RUN]} {self._agent} {lease_id}",
                    "VOLUMES": str(self._of(lease_id) / "volumes" / service.name),
                    "GPUS": ",".join(one.uuid for one in service.devices_of(number)),
                    **service.env,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        while not pid.exists():
            time.sleep(0.01)

    def state(self, lease_id: str) -> LeaseState:
        """Whether each part is there."""
        lease = self._read(lease_id)
        return LeaseState(
            lease_id,
            (self._of(lease_id) / "started").exists(),
            tuple(
                ContainerState(service.name, number, self._status(lease_id, service.name, number))
                for service, number in lease.parts
            ),
        )

    def stop(self, lease_id: str) -> None:
        """Kills each part."""
        (self._of(lease_id) / "started").unlink(missing_ok=True)
        for path in self._of(lease_id).glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
            while alive(int(path.read_text())):
                time.sleep(0.01)

    def remove(self, lease_id: str) -> None:
        """Its directory, too."""
        self.stop(lease_id)
        shutil.rmtree(self._of(lease_id), ignore_errors=True)

    def list(self) -> tuple[str, ...]:
        """What has a directory."""
        return tuple(sorted(path.name for path in self._place.glob("*/")))

    def shut_off(self, hosts: Collection[str]) -> None:
        """Nothing contains them: it is only written down."""
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place.parent / "shut-off").write_text(" ".join(sorted(hosts)))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        """Removes, and starts again."""
        for lease_id in set(self.list()) - set(wanted):
            self.remove(lease_id)
        for lease_id in self.list():
            if (self._of(lease_id) / "started").exists():
                self.start(lease_id)
        made = [one for one in self.list() if (self._of(one) / "lease.json").exists()]
        return {lease_id: self.state(lease_id) for lease_id in made}

    def changes(self) -> Iterator[str]:
        """Looks often."""
        before: set[str] = set()
        while True:
            now = set()
            for one in self.list():
                with contextlib.suppress(RunnerError):
                    if self.state(one).running:
                        now.add(one)
            yield from before - now
            before = now
            time.sleep(0.1)

    def logs(
        self,
        lease_id: str,
        service: str,
        number: int = 0,
        *,
        follow: bool = False,
        tail: int = 1000,
    ) -> Printed:
        """The file, and what comes."""
        file = self._file(lease_id, service, number, "log")
        return Printed(file, lambda: follow and self._pid(lease_id, service, number) is not None)

    def exec(
        self, lease_id: str, service: str, command: tuple[str, ...], number: int = 0, *, tty: bool
    ) -> Program:
        """A program of its own."""
        if self._pid(lease_id, service, number) is None:
            raise RunnerError(f"{service} does not run now")
        return Program(command)

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        """Its own number, on loopback."""
        if self._pid(lease_id, service, number) is None:
            raise RunnerError(f"{service} does not run now")
        return "127.0.0.1", port.number

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        """Plain directories. Its programs have them in `VOLUMES`."""
        made = self._of(lease_id) / "volumes" / service / volume / "data"
        made.mkdir(parents=True, exist_ok=True)
        return made

    def _of(self, lease_id: str) -> Path:
        return self._place / lease_id

    def _file(self, lease_id: str, service: str, number: int, kind: str) -> Path:
        return self._of(lease_id) / f"{service}-{number}.{kind}"

    def _read(self, lease_id: str) -> Lease:
        try:
            return from_json(json.loads((self._of(lease_id) / "lease.json").read_text()))
        except FileNotFoundError:
            raise RunnerError(f"there is no lease {lease_id}; prepare it first") from None

    def _pid(self, lease_id: str, service: str, number: int) -> int | None:
        try:
            pid = int(self._file(lease_id, service, number, "pid").read_text())
        except FileNotFoundError:
            return None
        return pid if alive(pid) else None

    def _status(self, lease_id: str, service: str, number: int) -> Status:
        if self._pid(lease_id, service, number) is not None:
            return Status.RUNNING
        made = self._file(lease_id, service, number, "pid").exists()
        return Status.EXITED if made else Status.CREATED


class Printed:
    """See `lease.Output`."""

    def __init__(self, file: Path, goes_on: Callable[[], bool]) -> None:
        self._file, self._goes_on = file.open("rb"), goes_on
        self._closed = False

    def __iter__(self) -> Printed:
        return self

    def __next__(self) -> tuple[int, bytes]:
        while not self._closed:
            goes_on = self._goes_on()
            if data := self._file.read(65_536):
                return 1, data
            if not goes_on:
                break
            time.sleep(0.05)
        self._file.close()
        raise StopIteration

    def close(self) -> None:
        """See `lease.Output`."""
        self._closed = True


class Program:
    """See `lease.Shell`."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def read(self) -> tuple[int, bytes]:
        """What it prints."""
        assert self._process.stdout is not None
        return 1, self._process.stdout.read(65_536)

    def write(self, data: bytes) -> None:
        """What it reads."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except OSError:
            raise RunnerError("it does not read any more") from None

    def finish(self) -> None:
        """No more to read."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """It has no terminal."""

    def exit_code(self) -> int | None:
        """None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.5)
        return None

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
