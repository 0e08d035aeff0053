# SPDX-License-Identifier: Apache-2.0
"""A lease on another machine is saved, and its machine hangs, dies or breaks off: what is not whole
is not saved, what was saved stands, and nothing is sent or copied twice that need not be.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Shell
from provider_agent.runners.ray import shelf_client, shelf_server
from provider_agent.runners.ray.shelf_client import FarShelf
from provider_agent.runners.ray.shelf_server import BLOCK, ShelfServer
from teraproof.errors import LocalError
from teraproof.protocol.digests import Entry
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.file_store import FileStore
from teraproof.storage.objects import Named
from teraproof.storage.snapshot import Snapshots
from tests.agent.leases.far_saving import Far, FarMachine
from tests.agent.leases.saving import FIRST, SECOND, Machine, soon, stored
from tests.support.codes import fails_as

BIG = 5 * BLOCK + 17
HUSH = "a-secret-of-the-tenant"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarMachine]:
    made = FarMachine(tmp_path / "one")
    yield made
    made.close()


@pytest.fixture
def large(asked: LeaseSpec) -> LeaseSpec:
    """With room for large files."""
    (service,) = asked.services
    (volume,) = service.resources.volumes
    given = replace(service.resources, volumes=(replace(volume, bytes=64 * BLOCK),))
    return replace(asked, services=(replace(service, resources=given),))


def fill(place: Path, seed: int, size: int = BIG) -> bytes:
    """A file of bytes that nothing else has."""
    data = hashlib.shake_256(bytes([seed])).digest(size)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    os.utime(place, (1, 1))
    return data


def shelf_of(far: FarMachine, inside: str = "run") -> FarShelf:
    shelf = Far(far).shelf(FIRST, "web", "data", inside, 64 * BLOCK)
    assert isinstance(shelf, FarShelf)
    return shelf


def test_files_of_many_pieces__saved_there_and_begun_with_here_bit_for_bit(
    far: FarMachine, large: LeaseSpec, tmp_path: Path
) -> None:
    sent = {name: fill(far.volume(FIRST) / "run" / name, n) for n, name in enumerate(("a", "d/b"))}
    sent |= {"empty": fill(far.volume(FIRST) / "run" / "empty", 0, 0)}
    far.runs(FIRST, large)
    soon(lambda: far.work.kept(FIRST).checkpoint, "a checkpoint")
    far.work.close()
    here, there = Machine(tmp_path / "two"), FarMachine(tmp_path / "three")
    for one in (here, there):
        one.work.give(SECOND, {})
        one.work.begin(SECOND, large)
        place = one.volume(SECOND) / "run"
        assert {name: (place / name).read_bytes() for name in sent} == sent
        one.close()


def test_what_opens_a_store__is_never_on_the_machine(far: FarMachine, large: LeaseSpec) -> None:
    fill(far.volume(FIRST) / "run" / "a", 1)
    far.work.give(FIRST, {"key_id": "ME", "secret": HUSH})
    far.work.begin(FIRST, large)
    far.work.keep({FIRST: large}, {FIRST})
    soon(lambda: far.work.kept(FIRST).checkpoint, "a checkpoint")
    there = [*far.own.rglob("*"), *far.volume(FIRST).parent.rglob("*")]
    assert there
    assert not any(HUSH.encode() in path.read_bytes() for path in there if path.is_file())
    assert list(far.own.rglob("objects/*")) == [], "copies go once they are sent"


class Silent(ShelfServer):
    """Hangs once it is asked to."""

    hangs = threading.Event()

    def read(self) -> tuple[int, bytes]:
        while self.hangs.is_set() and not self._closed.wait(0.05):
            pass
        return super().read()


def test_machine_hangs_while_it_is_saved__said__the_last_one_stands_and_it_goes_on(
    far: FarMachine, large: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    Silent.hangs.clear()
    monkeypatch.setattr(shelf_client, "SILENCE", 1.0)
    monkeypatch.setattr("tests.agent.leases.far_saving.ShelfServer", Silent)
    fill(far.volume(FIRST) / "run" / "a", 1)
    far.runs(FIRST, large)
    soon(lambda: far.work.kept(FIRST).checkpoint == "1.1", "the first one")
    Silent.hangs.set()
    data = fill(far.volume(FIRST) / "run" / "a", 2)
    soon(lambda: "takes too long" in far.work.kept(FIRST).trouble, "it says so")
    assert stored(large) == ["1.1"] and far.work.kept(FIRST).checkpoint == "1.1"
    Silent.hangs.clear()
    soon(lambda: far.work.kept(FIRST).checkpoint == "1.2", "the next one")
    assert far.work.kept(FIRST).trouble == ""
    assert (far.volume(FIRST) / "run" / "a").read_bytes() == data


def test_connection_breaks_between_pieces__the_rest_is_read_on_another(far: FarMachine) -> None:
    data = fill(far.volume(FIRST) / "run" / "a", 3)
    shelf = shelf_of(far)
    taken = shelf.take(frozenset())
    with shelf.source(Named(taken.files[0].sha256, BIG)).open() as file:
        found = file.read(BLOCK)
        assert shelf._channel is not None
        shelf._channel._output.socket.close()
        found += file.read()
        file.seek(-BLOCK, os.SEEK_END)
        assert file.read() == data[-BLOCK:]
    assert found == data and far.dialled == 2
    shelf.rest()


def test_part_of_the_machine_is_gone_while_it_is_sent__no_checkpoint_then_the_copy_is_used(
    far: FarMachine, large: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, copy = FileStore.write, Snapshots._copy
    copied, died = list[str](), list[str]()

    def dying(self: FileStore, key: str, *rest: Any, **more: Any) -> bool:
        if key.startswith("objects/") and not died:
            died.append(key)
            far.die()
        return send(self, key, *rest, **more)

    def counted(self: Snapshots, top: int, path: str) -> Any:
        copied.append(path)
        return copy(self, top, path)

    monkeypatch.setattr(FileStore, "write", dying)
    monkeypatch.setattr(Snapshots, "_copy", counted)
    data = fill(far.volume(FIRST) / "run" / "a", 4)
    far.runs(FIRST, large)
    soon(lambda: "does not answer" in far.work.kept(FIRST).trouble, "it says so")
    assert stored(large) == []
    link = far.link
    far.begin()
    link.contact = far.link.contact
    soon(lambda: far.work.kept(FIRST).checkpoint == "1.1", "a checkpoint")
    assert copied == ["a"] and (far.volume(FIRST) / "run" / "a").read_bytes() == data


def test_fetch_breaks_off_in_a_file__goes_on_where_it_was(
    far: FarMachine, large: LeaseSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = Machine(tmp_path / "two")
    data = fill(here.volume(FIRST) / "run" / "a", 5)
    here.runs(FIRST, large)
    soon(lambda: here.work.kept(FIRST).checkpoint, "a checkpoint")
    here.close()
    read, began = FileStore.read, list[int]()

    def breaking(self: FileStore, key: str, start: int) -> Any:
        if key.startswith("objects/"):
            began.append(start)
            if len(began) == 1:
                return broken(read(self, key, start))
        return read(self, key, start)

    monkeypatch.setattr(FileStore, "read", breaking)
    far.work.give(SECOND, {})
    with fails_as(Code.STORE_REFUSED):
        far.work.begin(SECOND, large)
    assert not any(far.volume(SECOND).iterdir())
    far.work.begin(SECOND, large)
    assert (far.volume(SECOND) / "run" / "a").read_bytes() == data
    assert began[0] == 0 and 2 * BLOCK <= began[1] < BIG


class broken:
    """An object whose bytes end after three blocks."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def __enter__(self) -> Any:
        body = self._opened.__enter__()
        return replace(body, pieces=self._some(body.pieces))

    def _some(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        came = 0
        for piece in pieces:
            came += len(piece)
            yield piece
            if came >= 3 * BLOCK:
                raise LocalError("it has had enough", Code.STORE_REFUSED)

    def __exit__(self, *rest: Any) -> None:
        self._opened.__exit__(*rest)


def test_wrong_bytes__never_get_into_the_volume(far: FarMachine) -> None:
    shelf, named = shelf_of(far), hashlib.sha256(b"right").hexdigest()
    assert list(shelf.missing([Entry("a", 5, named)])) == [Entry("a", 5, named)]
    with pytest.raises(LocalError), shelf.part(Entry("a", 5, named)) as part:
        part.add(b"wrong")
        assert not part.is_right()
        part.finish()
    with shelf.part(Entry("a", 5, named)) as part:
        part.restart()
        part.add(b"right")
        assert part.is_right()
        part.finish()
    shelf.appear()
    shelf.begin()
    assert (far.volume(FIRST) / "run" / "a").read_bytes() == b"right"
    assert shelf.look().has_begun
    shelf.rest()


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", ""])
def test_path_out_of_the_volume__refused_by_the_machine_too(far: FarMachine, path: str) -> None:
    shelf, named = shelf_of(far), hashlib.sha256(b"").hexdigest()
    list(shelf.missing([]))
    with pytest.raises(LocalError), shelf.part(Entry(path, 0, named)):
        pass
    assert [one.name for one in far.home.rglob("out")] == []
    shelf.rest()


def test_two_agents_at_once__the_second_is_not_served(
    far: FarMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_server, "_LOCK_SECONDS", 0.0)
    first, second = shelf_of(far), shelf_of(far)
    first.look()
    with fails_as(Code.NOT_READY):
        second.look()
    first.rest()

    def served() -> bool:
        try:
            return not second.look().has_begun
        except RunnerError:
            return False

    soon(served, "the other one")
    second.rest()


def test_lease_ends_while_its_files_are_copied__the_copy_breaks_off(
    far: FarMachine, large: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, servers = threading.Event(), list[ShelfServer]()

    class Slow(ShelfServer):
        """Takes as long as somebody listens."""

        def __init__(self, make: Callable[[Callable[[], None]], Any], own: Path) -> None:
            servers.append(self)
            super().__init__(make, own)

        def _go_on(self) -> None:
            copying.set()
            assert self._closed.wait(60)
            super()._go_on()

    fill(far.volume(FIRST) / "run" / "a", 6)
    far.work.give(FIRST, {})
    far.work.begin(FIRST, large)
    monkeypatch.setattr("tests.agent.leases.far_saving.ShelfServer", Slow)
    far.work.keep({FIRST: large}, {FIRST})
    assert copying.wait(60)
    saver = far.work._savers[FIRST]
    far.work.forget(FIRST)
    saver.join(60)
    assert not saver.is_alive()
    soon(lambda: all(one._closed.is_set() for one in servers), "nobody waits for it there")
    assert stored(large) == []


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b'{"do": "look", "bytes": -1}\n',
        b'{"do": "look", "bytes": 99999999999}\n',
        b"x" * 100_000,
        b'{"do": "__init__", "bytes": 0}\n',
    ],
)
def test_talk_that_is_none__ends_and_nothing_stays(far: FarMachine, line: bytes) -> None:
    asked = {"of": "web", "volume": "data", "inside": "", "most": 1, "lease": FIRST}
    channel = far.link.channel("shelf", service="", number=0, **asked)
    channel.patience = 20.0
    with pytest.raises(RunnerError):
        channel.write(line)
        while channel.read() == (2, b" "):
            pass
        raise RunnerError("it answers, or it ends")
    channel.close()
    shelf = shelf_of(far)
    assert not shelf.look().has_begun
    shelf.rest()


def test_shell__is_what_a_machine_serves(tmp_path: Path) -> None:
    made: Shell = ShelfServer(lambda go_on: Any, tmp_path)  # type: ignore[arg-type, return-value]
    made.resize(1, 1)
    assert made.exit_code() is None
    made.finish()
    assert made.read()[1] == b""
