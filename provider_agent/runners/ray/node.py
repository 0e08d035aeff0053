# SPDX-License-Identifier: Apache-2.0
"""What runs on each machine of a fleet: an actor of Ray that owns a lease runner and its data.

Ray keeps it alive and says where it is. Everything else goes over its own connection (`server`):
Ray's traffic is open to whoever listens, and its queues know no deadline.

<data_dir>/<agent>/<machine>/
    lock           held by the one actor that may touch the rest
    machine.pem    its certificate
    bound/         which GPUs a lease has (`bind`)
    shelves/       copies of what leases have saved, on their way to their stores
    runner/        the runner's own
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from provider_agent import devices
from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB, check_run_id
from provider_agent.runners.lease import (
    Lease,
    LeaseRunner,
    Port,
    Service,
    Shell,
    Walled,
)
from provider_agent.runners.lease_json import from_json
from provider_agent.runners.ray import keys, wire
from provider_agent.runners.ray.addresses import own_addresses
from provider_agent.runners.ray.bind import Bindings
from provider_agent.runners.ray.program import Program
from provider_agent.runners.ray.server import Server
from provider_agent.runners.ray.shelf_server import ShelfServer
from provider_agent.runners.shelf import NearShelf
from provider_agent.runners.shelves import Shelves

DOCKER = "provider_agent.runners.ray.node:docker"
NEEDS = "provider_agent.runners.docker.storage:needs"
_LOCK_SECONDS = 5.0
_CONNECT_SECONDS = 10.0
_PAUSE = 5.0
_LOOK_SECONDS = 0.5
_SECTOR = 512  # bytes
COUNTLESS = 1 << 62
"""Files of a file system that makes them as it needs them."""


def docker(place: Path, agent: str, **given: Any) -> LeaseRunner:
    """The runner that contains strangers' leases; `given` is as JSON has it."""
    from provider_agent.runners.docker.runner import DockerRunner

    if "socket" in given:
        given["socket"] = Path(given["socket"])
    return DockerRunner(place, agent, **given)


def named(path: str) -> Callable[..., Any]:
    """A function of a module, as `module:name`."""
    module, _, name = path.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))


def terms_digest(settings: Mapping[str, Any]) -> str:
    """Names the terms that our part was begun on. How Ray is joined does not matter there."""
    kept = {k: v for k, v in settings.items() if k not in ("address", "token_file")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class Node:
    """See the module. `settings` are those of `cluster.Terms`, as JSON values; `machine` is what
    the owner calls this machine, `host` the address that the agent reaches it at.
    """

    def __init__(self, settings: Mapping[str, Any], machine: str, host: str) -> None:
        agent = str(settings["agent"])
        tag = hashlib.sha256(agent.encode()).hexdigest()[:16]
        self._place = Path(settings["node_data_dir"]) / tag / machine
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        _end_with(os.getppid())
        _as_quick_as_others()
        self._lock = _only_one(self._place)
        self._terms = terms_digest(settings)
        self._reserve = int(settings["engine"].get("reserve", 0))
        self._host = host
        self._identity = keys.identity(self._place, "machine")
        self._runner: LeaseRunner = named(settings["make"])(
            self._place / "runner", f"{agent}/{machine}", **settings["engine"]
        )
        look = cast("Callable[[], Sequence[Device]]", named(settings["look"]))
        self._bindings = Bindings(self._place / "bound", look)
        self._news = _News(self._runner)
        self._trusted = ""
        self._server = Server(host, int(settings["node_port"]), self._do, self._channel)

    def contact(self, certificate: str) -> dict[str, Any]:
        """Where and by which certificate this machine is reached, by the holder of `certificate`;
        whether Ray asks for its token here, and on what terms this part was begun.
        """
        if certificate != self._trusted:
            self._server.trust(self._identity.serves(certificate))
            self._trusted = certificate
        return {
            "host": self._host,
            "port": self._server.port,
            "certificate": self._identity.pem,
            "token": os.environ.get("RAY_AUTH_MODE") == "token",
            "terms": self._terms,
            "addresses": own_addresses(),
        }

    # ------------------------------------------------------------------ requests

    def _do(self, asked: Mapping[str, Any]) -> Any:
        known: dict[str, Callable[[], Any]] = {
            "here": lambda: None,
            "check": lambda: self._runner.check(),
            "resolve": lambda: self._resolve(asked),
            "fits": lambda: self._fits(from_json(asked["lease"])),
            "devices": self._devices,
            "fetch": lambda: self._fetch(asked),
            "arrival": lambda: self._arrival(asked["lease"]),
            "give_up": lambda: self._give_up(asked["lease"]),
            "image_room": lambda: vars(self._runner.image_room()),
            "free_images": lambda: self._runner.free_images(asked["size"]),
            "prepare": lambda: self._prepare(asked),
            "start": lambda: self._runner.start(asked["lease"]),
            "state": lambda: wire.state_to_json(self._runner.state(asked["lease"])),
            "stop": lambda: self._runner.stop(asked["lease"]),
            "remove": lambda: self._remove(asked["lease"]),
            "list": self._list,
            "keep": lambda: self._keep(asked["wanted"], asked["fleet"]),
            "address": lambda: self._address(asked),
            "resize": lambda: self._shell(asked).resize(asked["rows"], asked["columns"]),
            "exit_code": lambda: self._shell(asked).exit_code(),
        }
        what = known.get(str(asked.get("do")))
        if what is None:
            raise RunnerError("it does not know this request; run one version on all machines")
        return what()

    def _resolve(self, asked: Mapping[str, Any]) -> str:
        found = wire.credentials_from_json(asked["credentials"])
        return self._runner.resolve(asked["image"], found.get(""))

    def _fits(self, lease: Lease) -> dict[str, Any]:
        """Whether the lease is here already, and why it has no GPUs here."""
        here = lease.lease_id in self._bindings.ids()  # images alone may be anywhere
        why = ""
        if not here:
            try:
                self._bindings.choose(lease)
            except RunnerError as error:
                why = str(error)
        return {"here": here, "why": why}

    def _devices(self) -> dict[str, Any]:
        here, free = self._bindings.devices()
        return {
            "here": [dict(vars(one)) for one in here],
            "free": [one.uuid for one in free],
            "images": dict(vars(self._runner.image_room())),
            "disk": self._disk(),
        }

    def _disk(self) -> dict[str, int]:
        found = os.statvfs(self._place)
        return {
            "free": max(0, found.f_bavail * found.f_frsize - self._reserve),
            "taken": allocated(self._place / "runner"),
            "inodes": found.f_favail if found.f_files else COUNTLESS,
        }

    def _fetch(self, asked: Mapping[str, Any]) -> None:
        self._runner.fetch(
            from_json(asked["lease"]),
            wire.credentials_from_json(asked["credentials"]),
            most=asked["most"],
            seconds=asked["seconds"],
        )

    def _arrival(self, lease_id: str) -> dict[str, Any] | None:
        found = self._runner.arrival(lease_id)
        return None if found is None else dict(vars(found))

    def _give_up(self, lease_id: str) -> bool:
        """Whether anything of the lease is left."""
        self._runner.give_up(lease_id)
        left = lease_id in self._runner.list()
        if not left:
            self._bindings.forget(lease_id)
        return left

    def _prepare(self, asked: Mapping[str, Any]) -> None:
        lease = self._bindings.bound(from_json(asked["lease"]))
        self._runner.prepare(lease, wire.credentials_from_json(asked["credentials"]))

    def _remove(self, lease_id: str) -> None:
        self._runner.remove(lease_id)
        if lease_id not in self._runner.list():
            self._bindings.forget(lease_id)
            self._clear({*self._runner.list(), *self._bindings.ids()})

    def _clear(self, left: Collection[str]) -> None:
        """Of leases that are gone no copy stays."""
        for place in (self._place / "shelves").glob("*/"):
            if place.name not in left:
                shutil.rmtree(place, ignore_errors=True)

    def _list(self) -> list[str]:
        return sorted({*self._runner.list(), *self._bindings.ids()})

    def _keep(self, wanted: Sequence[str], fleet: Sequence[str]) -> dict[str, Any]:
        if isinstance(self._runner, Walled):
            self._runner.shut_off(fleet)
        states = self._runner.keep(wanted)
        there = set(self._runner.list())
        for lease_id in self._bindings.ids() - set(wanted) - there:
            self._bindings.forget(lease_id)
        left = {*there, *self._bindings.ids()}
        self._clear(left)
        return {
            "states": [wire.state_to_json(one) for one in states.values()],
            "left": sorted(left),
            **self._devices(),
        }

    def _address(self, asked: Mapping[str, Any]) -> tuple[str, int]:
        return self._runner.address(
            asked["lease"], asked["service"], Port(**asked["port"]), asked["number"]
        )

    def _shell(self, asked: Mapping[str, Any]) -> Shell:
        return self._server.shell(asked["channel"])

    # ------------------------------------------------------------------ channels

    def _channel(self, asked: Mapping[str, Any]) -> Shell:
        what = asked["what"]
        if what == "exec":
            return self._runner.exec(
                asked["lease"],
                asked["service"],
                tuple(asked["command"]),
                asked["number"],
                tty=asked["tty"],
            )
        if what == "logs":
            return Pieces(
                self._runner.logs(
                    asked["lease"],
                    asked["service"],
                    asked["number"],
                    follow=asked["follow"],
                    tail=asked["tail"],
                )
            )
        if what == "challenge":
            return Program()
        if what == "connect":
            return Connection(self._address(asked))
        if what == "shelf":
            return self._shelf(asked)
        if what == "changes":
            return Pieces(self._news.heard())
        raise RunnerError("it does not know this channel; run one version on all machines")

    def _shelf(self, asked: Mapping[str, Any]) -> Shell:
        if not isinstance(self._runner, Shelves):
            raise RunnerError("nothing is saved of what runs there")
        lease_id = check_run_id(asked["lease"])
        place = self._runner.directory(lease_id, asked["of"], asked["volume"])
        own = self._place / "shelves" / lease_id
        make = partial(NearShelf, place, asked["inside"], own, asked["most"])
        return ShelfServer(make, own)


class _Output:
    """A channel that nobody writes to."""

    def write(self, data: bytes) -> None:
        """Nothing listens."""

    def finish(self) -> None:
        """Nothing listens."""

    def resize(self, rows: int, columns: int) -> None:
        """It has no terminal."""

    def exit_code(self) -> int | None:
        """It is not a program."""
        return None


class Pieces(_Output):
    """What an iterator gives, as a channel."""

    def __init__(self, pieces: Iterator[tuple[int, bytes]]) -> None:
        self._pieces, self._closed = pieces, False

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        for kind, data in self._pieces:
            if self._closed:
                break
            if data:
                return kind, data
        return 1, b""

    def close(self) -> None:
        """See `lease.Shell`. A reader that waits for news is woken by the next."""
        self._closed = True
        with suppress(ValueError, AttributeError):  # one that runs in another thread
            self._pieces.close()  # type: ignore[attr-defined]  # generators have it


class Connection(_Output):
    """A connection to a port of a container, as a channel."""

    def __init__(self, place: tuple[str, int]) -> None:
        try:
            self._socket = socket.create_connection(place, timeout=_CONNECT_SECONDS)
        except OSError as error:
            raise RunnerError(f"nothing listens at the port: {error.strerror}") from None
        self._socket.settimeout(None)
        wire.tune(self._socket)

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        try:
            return 1, self._socket.recv(wire.PIECE)
        except OSError:
            return 1, b""

    def write(self, data: bytes) -> None:
        """See `lease.Shell`."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise RunnerError(f"the container broke off: {error.strerror}") from None

    def finish(self) -> None:
        """See `lease.Shell`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `lease.Shell`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _News:
    """One ear for what dies on this machine, for any number of listeners."""

    def __init__(self, runner: LeaseRunner) -> None:
        self._runner = runner
        self._listeners: set[queue.SimpleQueue[str]] = set()
        self._lock = threading.Lock()
        self._listens = False

    def heard(self) -> Iterator[tuple[int, bytes]]:
        """The ids of leases as they come, one a piece; a space now and then, so that a listener
        who is gone is noticed.
        """
        mine: queue.SimpleQueue[str] = queue.SimpleQueue()
        with self._lock:
            self._listeners.add(mine)
            if not self._listens:
                self._listens = True
                threading.Thread(target=self._listen, daemon=True, name="news").start()
        try:
            while True:
                try:
                    yield 1, mine.get(timeout=_PAUSE).encode()
                except queue.Empty:
                    yield 1, b" "
        finally:
            with self._lock:
                self._listeners.discard(mine)

    def _listen(self) -> None:
        while True:
            with suppress(RunnerError, OSError):
                for lease_id in self._runner.changes():
                    with self._lock:
                        for one in self._listeners:
                            one.put(lease_id)
            time.sleep(_PAUSE)


def _end_with(parent: int) -> None:
    """Ends this process once its parent, Ray's daemon, is gone. Ray itself may not notice: it looks
    whether the parent is number 1 now. What is left would keep its successor out.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _as_quick_as_others() -> None:
    """Ray lets what it starts give way to all else of the machine. Then a lease that computes would
    keep its owner from being heard, and its own challenge from being answered.
    """
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # not root, or it has ended
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)


def _only_one(place: Path) -> int:
    """Takes the lock of a machine's data, for as long as this process lives. Raises RunnerError.

    An actor whose Ray node was lost may live on for a moment. Until it is gone there is no other.
    """
    handle = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(handle)
                raise RunnerError(f"another process still has {place}") from None
            time.sleep(0.1)
        else:
            return handle


def allocated(place: Path) -> int:
    """Bytes that files below a directory have of its own disk, without what is mounted there."""

    def device(path: str) -> int:
        with suppress(OSError):  # it went away meanwhile
            return os.lstat(path).st_dev
        return -1

    total, here = 0, device(str(place))
    for folder, below, files in os.walk(place):
        below[:] = [name for name in below if device(os.path.join(folder, name)) == here]
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * _SECTOR
    return total


def taken(lease: Lease, memory: int, disk: int) -> dict[str, float]:
    """What a lease holds of Ray's resources: processors, bytes of memory, GPUs, MiB of disk."""
    held = {
        "CPU": sum(_cpu(service) for service in lease.services) / 1000,
        "memory": float(memory),
        "GPU": float(sum(len(service.devices) for service in lease.services)),
        DISK: float(-(-disk // MIB)),
    }
    return {name: amount for name, amount in held.items() if amount}


def _cpu(service: Service) -> int:
    return service.cpu * service.count


DISK = "teraproof_disk"
"""Ray's resource for disk, in MiB; the owner says how much a machine has."""


def gpus() -> Sequence[Device]:
    """The GPUs of this machine that a lease can be given now."""
    return [one for one in devices.survey().devices if not devices.missing_nodes(one)]
