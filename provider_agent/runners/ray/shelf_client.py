# SPDX-License-Identifier: Apache-2.0
"""A directory that a lease has saved, on its machine; see `shelves.Shelf`.

The machine copies the directory at one moment, on its own disk. From there the agent reads, piece
by piece, what it sends to the store. What opens the store never leaves the agent. `shelf_server`
says how they talk.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.ray import wire
from provider_agent.runners.ray.link import Channel
from provider_agent.runners.ray.shelf_server import BEAT, BLOCK, SILENCE
from provider_agent.runners.shelves import Standing
from teraproof.errors import LocalError
from teraproof.protocol.digests import Entry
from teraproof.protocol.errors import Code
from teraproof.storage.layout import MANIFEST_BYTES, encode, rows
from teraproof.storage.objects import Named, Source
from teraproof.storage.parts import Part
from teraproof.storage.snapshot import Snapshot


class FarShelf:
    """See the module. `dial` opens a channel to the machine of the lease."""

    def __init__(self, machine: str, dial: Callable[[], Channel]) -> None:
        self._machine, self._dial = machine, dial
        self._channel: Channel | None = None
        self._cut = threading.Event()

    def __str__(self) -> str:
        return f"machine {self._machine}"

    # ------------------------------------------------------------------ before the first start

    def look(self) -> Standing:
        """See `Shelf`."""
        said, _ = self.ask("look")
        return Standing(bool(said["begun"]), bool(said["whole"]), bool(said["bounded"]))

    def missing(self, listed: Sequence[Entry]) -> Iterator[Entry]:
        """See `Target`."""
        _, found = self.ask("missing", encode(tuple(listed)))
        if len(found) != len(listed):
            raise self._nonsense()
        for entry, mark in zip(listed, found, strict=True):
            if mark:
                yield entry

    @contextmanager
    def part(self, entry: Entry) -> Iterator[Part]:
        """See `Target`."""
        said, _ = self.ask("part", path=entry.path, sha256=entry.sha256, size=entry.size)
        try:
            yield _FarPart(self, int(said["at"]))
        except BaseException:
            self.rest()  # the machine lets go of it, too
            raise

    def appear(self) -> None:
        """See `Target`."""
        self.ask("appear")

    def begin(self) -> None:
        """See `Shelf`."""
        self.ask("begin")

    # ------------------------------------------------------------------ while it runs

    def take(self, held: Set[str]) -> Snapshot:
        """See `Copier`."""
        _, listed = self.ask("take", _digests(held))
        try:
            files = tuple(rows(listed))
        except (ValueError, LocalError):
            raise self._nonsense() from None
        return Snapshot(files, frozenset({entry.sha256 for entry in files} - held))

    def drop(self, keep: Set[str] = frozenset()) -> None:
        """See `Copier`."""
        self.ask("drop", _digests(keep))

    def source(self, named: Named) -> Source:
        """See `Copier`."""
        return Source(named, opened=partial(_opened, self, named))

    def read(self, sha256: str, start: int, size: int) -> bytes:
        """Bytes of a copy. Asked once more where the connection has broken off."""
        asked: dict[str, Any] = {"sha256": sha256, "start": start, "size": size}
        try:
            return self.ask("read", **asked)[1]
        except RunnerError as error:
            if error.code is not Code.CONTAINERS_AWAY:
                raise
        return self.ask("read", **asked)[1]

    # ------------------------------------------------------------------ the machine

    def ask(self, what: str, body: bytes = b"", **given: Any) -> tuple[Mapping[str, Any], bytes]:
        """The answer to one request, and the bytes that go with it. Raises RunnerError, Refused:
        the machine's own, or the one with the code `containers_away`.
        """
        channel = self._channel or self._open()
        try:
            told = {"do": what, "bytes": len(body), **given}
            channel.write(json.dumps(told).encode() + b"\n")
            channel.write(body)
            said, data = self._hear(channel)
        except BaseException:
            self.rest()
            raise
        wire.value_of(self._machine, said)
        return said, data

    def rest(self) -> None:
        """See `Shelf`."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def cut_off(self) -> None:
        """See `Shelf`."""
        self._cut.set()
        self.rest()

    def _open(self) -> Channel:
        if self._cut.is_set():
            raise RunnerError("its lease has ended", Code.NOT_READY)
        channel = self._dial()
        channel.patience = SILENCE
        self._channel = channel
        if self._cut.is_set():
            self.rest()
        return channel

    def _hear(self, channel: Channel) -> tuple[Mapping[str, Any], bytes]:
        try:
            said = json.loads(self._next(channel, wire.STDERR))
            left = int(said["bytes"])
        except (ValueError, TypeError, KeyError):
            raise self._nonsense() from None
        if not 0 <= left <= MANIFEST_BYTES:
            raise self._nonsense()
        data = bytearray()
        while len(data) < left:
            data += self._next(channel, wire.STDOUT)
        return said, bytes(data)

    def _next(self, channel: Channel, wanted: int) -> bytes:
        kind, data = wire.STDERR, BEAT
        while (kind, data) == (wire.STDERR, BEAT):
            kind, data = channel.read()
        if not data:
            raise wire.away(self._machine, "it has ended the talk")
        if kind != wanted:
            raise self._nonsense()
        return data

    def _nonsense(self) -> RunnerError:
        return wire.away(self._machine, "it does not say what was asked; run one version on all")


class _FarPart:
    """See `Part`. Small pieces go together."""

    def __init__(self, shelf: FarShelf, at: int) -> None:
        self._shelf, self._there = shelf, at
        self._waiting = bytearray()

    @property
    def at(self) -> int:
        return self._there + len(self._waiting)

    def add(self, piece: bytes) -> None:
        self._waiting += piece
        if len(self._waiting) >= BLOCK:
            self._flush()

    def restart(self) -> None:
        self._waiting.clear()
        self._there = 0
        self._shelf.ask("restart")

    def is_right(self) -> bool:
        self._flush()
        return bool(self._shelf.ask("right")[0]["right"])

    def finish(self) -> None:
        self._shelf.ask("finish")

    def _flush(self) -> None:
        if self._waiting:
            self._shelf.ask("add", bytes(self._waiting))
            self._there += len(self._waiting)
            self._waiting.clear()


class _FarFile(io.RawIOBase):
    """A copy on the machine, to read and to seek."""

    def __init__(self, shelf: FarShelf, named: Named) -> None:
        self._shelf, self._named, self._at = shelf, named, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._named.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, into: Any) -> int:
        size = min(len(into), BLOCK, self._named.size - self._at)
        if size <= 0:
            return 0
        data = self._shelf.read(self._named.sha256, self._at, size)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def _opened(shelf: FarShelf, named: Named) -> io.BufferedReader:
    return io.BufferedReader(_FarFile(shelf, named), BLOCK)


def _digests(names: Set[str]) -> bytes:
    return b"".join(map(bytes.fromhex, sorted(names)))
