# SPDX-License-Identifier: Apache-2.0
"""A machine's half of a checkpoint: it copies what a lease has saved, and lays out what it begins
with, as the agent asks on one channel.

A request is a line of JSON with `do`, and `bytes`, the number of bytes that follow it. An answer is
one piece of STDERR, JSON with `bytes` too, and then that number of bytes on STDOUT. While a request
takes long, a space comes on STDERR now and then: an agent that hears nothing takes the machine for
one that is away.

    look                        whether it has begun, and what is there
    missing    a manifest       one byte a file: 1 where it is not there yet
    part       path sha256 size begins with a file; how much of it is there
    add        bytes            the next ones of that file
    restart, right, finish      see `storage.parts.Part`
    appear, begin               see `storage.target.Target` and `shelves.Shelf`
    take       digests held     copies the directory; a manifest of what is in it
    read       sha256 start size  bytes of a copy
    drop       digests kept     removes the other copies
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from provider_agent.errors import RunnerError
from provider_agent.runners.ray import wire
from provider_agent.runners.shelf import NearShelf
from teraproof.errors import LocalError
from teraproof.locks import MachineLock
from teraproof.protocol.digests import MAX_FILES, Entry, is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.paths import check_path
from teraproof.storage.disk import faults
from teraproof.storage.layout import MANIFEST_BYTES, check_rows, encode, rows
from teraproof.storage.objects import Named
from teraproof.storage.parts import Part

log = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes of one piece of a file."""
BEAT = b" "
SILENCE = 60.0
"""Seconds after which an agent takes a machine for one that is away."""
_BEAT_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_LOCK_SECONDS = 10.0  # for what an agent that was killed has left
_WAITING = 16  # pieces that nobody has read
_LINE = 16_384
_DIGEST = 32

Answer = tuple[Mapping[str, Any], bytes]
_Item = TypeVar("_Item")


class _Closed(Exception):
    """Nobody listens any more."""


class ShelfServer:
    """See the module, and `lease.Shell`. `make` gives the shelf, with what breaks off a copy. `own`
    is its directory for copies: one agent at a time is served there.
    """

    def __init__(self, make: Callable[[Callable[[], None]], NearShelf], own: Path) -> None:
        self._shelf, self._own = make(self._go_on), own
        self._in: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._out: queue.Queue[tuple[int, bytes]] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._rest = b""  # came, and was not used yet
        self._opened = ExitStack()  # the file that comes now
        self._part: Part | None = None
        self._known: dict[str, Callable[[Mapping[str, Any], bytes], Answer]] = {
            "look": self._look,
            "missing": self._missing,
            "part": self._begin_part,
            "add": self._add,
            "restart": self._restart,
            "right": self._is_right,
            "finish": self._finish_part,
            "appear": self._appear,
            "begin": self._begin,
            "take": self._take,
            "read": self._read,
            "drop": self._drop,
        }
        threading.Thread(target=self._serve, daemon=True, name="shelf").start()

    # ------------------------------------------------------------------ the channel

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        try:
            return self._out.get(timeout=_BEAT_SECONDS)
        except queue.Empty:
            return (1, b"") if self._closed.is_set() else (wire.STDERR, BEAT)

    def write(self, data: bytes) -> None:
        """See `lease.Shell`."""
        with suppress(_Closed):
            self._put(self._in, data)

    def finish(self) -> None:
        """See `lease.Shell`."""
        self.close()

    def resize(self, rows: int, columns: int) -> None:
        """It has no terminal."""

    def exit_code(self) -> int | None:
        """It is not a program."""
        return None

    def close(self) -> None:
        """See `lease.Shell`. What is under way ends at its next piece."""
        self._closed.set()
        with suppress(queue.Full):
            self._out.put_nowait((1, b""))

    def _put(self, into: queue.Queue[_Item], item: _Item) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                into.put(item, timeout=_LOOK_SECONDS)
                return
        raise _Closed

    def _go_on(self) -> None:
        if self._closed.is_set():
            raise LocalError("nobody waits for it any more", Code.NOT_READY)

    # ------------------------------------------------------------------ requests

    def _serve(self) -> None:
        try:
            with self._opened, self._alone():
                while True:
                    self._answer()
        except _Closed:
            pass
        except Exception:  # what nobody thought of; the agent hears that it has ended
            log.exception("a checkpoint")
        finally:
            self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock, until = MachineLock("shelf", self._own), time.monotonic() + _LOCK_SECONDS
        while not lock.take():
            if self._closed.is_set() or time.monotonic() > until:
                error = RunnerError("its files are still read for an earlier call", Code.NOT_READY)
                self._say(wire.fault(error), b"")
                raise _Closed
            time.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _answer(self) -> None:
        asked = json.loads(self._line())
        size = int(asked["bytes"])
        if not 0 <= size <= MANIFEST_BYTES:
            raise ValueError(f"a request with {size} bytes")
        body = self._exactly(size)
        try:
            do = self._known.get(str(asked["do"]))
            if do is None:
                raise RunnerError("it does not know this request; run one version on all machines")
            with faults(self._own, Code.RUNNER_FAILED):
                said, data = do(asked, body)
        except LocalError as error:
            said, data = wire.fault(error), b""
        self._say(said, data)

    def _say(self, said: Mapping[str, Any], data: bytes) -> None:
        told = json.dumps({**said, "bytes": len(data)}).encode()
        self._put(self._out, (wire.STDERR, told))
        for start in range(0, len(data), wire.PIECE):
            self._put(self._out, (wire.STDOUT, data[start : start + wire.PIECE]))

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            if len(self._rest) > _LINE:
                raise ValueError("a request without an end")
            self._rest += self._next()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _exactly(self, size: int) -> bytes:
        data = bytearray(self._rest)
        while len(data) < size:
            data += self._next()
        self._rest = bytes(data[size:])
        return bytes(data[:size])

    def _next(self) -> bytes:
        while not self._closed.is_set():
            with suppress(queue.Empty):
                return self._in.get(timeout=_LOOK_SECONDS)
        raise _Closed

    # ------------------------------------------------------------------ what a lease begins with

    def _look(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        found = self._shelf.look()
        said = {"begun": found.has_begun, "whole": found.is_whole, "bounded": found.is_bounded}
        return said, b""

    def _missing(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        listed = list(rows(body))
        lacking = {entry.path for entry in self._shelf.missing(listed)}
        return {}, bytes(entry.path in lacking for entry in listed)

    def _begin_part(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._opened.close()
        named = Named(str(asked["sha256"]), int(asked["size"]))
        entry = Entry(check_path(str(asked["path"])), named.size, named.sha256)
        self._part = self._opened.enter_context(self._shelf.part(entry))
        return {"at": self._part.at}, b""

    def _add(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._coming().add(body)
        return {}, b""

    def _restart(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._coming().restart()
        return {}, b""

    def _is_right(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        return {"right": self._coming().is_right()}, b""

    def _finish_part(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        part = self._coming()
        if not part.is_right():
            raise LocalError("the bytes do not have the sha256 that was named", Code.INPUT_INVALID)
        part.finish()
        self._part = None
        self._opened.close()
        return {}, b""

    def _coming(self) -> Part:
        if self._part is None:
            raise RunnerError("no file was begun")
        return self._part

    def _appear(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._shelf.appear()
        return {}, b""

    def _begin(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._shelf.begin()
        return {}, b""

    # ------------------------------------------------------------------ copies

    def _take(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        taken = self._shelf.take(_names(body))
        check_rows(taken.files)
        return {}, encode(taken.files)

    def _read(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        start, size = int(asked["start"]), min(BLOCK, int(asked["size"]))
        with self._shelf.source(Named(str(asked["sha256"]), 0)).open() as file:
            data = os.pread(file.fileno(), size, start)
        return {}, data

    def _drop(self, asked: Mapping[str, Any], body: bytes) -> Answer:
        self._shelf.drop(_names(body))
        return {}, b""


def _names(body: bytes) -> frozenset[str]:
    if len(body) % _DIGEST or len(body) > _DIGEST * MAX_FILES:
        raise RunnerError("these are not digests")
    names = (body[at : at + _DIGEST].hex() for at in range(0, len(body), _DIGEST))
    return frozenset(name for name in names if is_hex_digest(name))
