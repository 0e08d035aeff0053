# SPDX-License-Identifier: Apache-2.0
"""Writes of the channel book for many requests at once.

A commit takes as long as the disk needs. So what waits meanwhile is written together, in one
transaction, each part all or nothing. Nobody is answered before the commit.

What need not last by itself is committed without waiting for the disk. It lasts from the next
commit on that does.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from provider_agent.modules.inference.repository import ChannelBook

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_TOGETHER = 256  # parts of one transaction
# Between two transactions that follow on each other: the agent's loop writes into the same file.
_PAUSE = 0.0005  # seconds


@dataclass(slots=True)
class _Part:
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    lasting: bool
    is_end: bool = False
    found: Any = None
    error: BaseException | None = None

    def tell(self) -> None:
        """On the event loop: who waits goes on."""
        if self.future.done():
            return  # it was cancelled; what was written stays
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.found)


class Journal:
    """See the module. `run` is for an event loop; a thread of its own writes."""

    def __init__(self, book: ChannelBook) -> None:
        self._book = book
        self._parts: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._late: list[_Part] = []  # of the thread

    def start(self) -> None:
        """Take work."""
        self._thread = threading.Thread(target=self._write, name="channel book", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is there, and end."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._thread = None

    async def run(self, work: Callable[..., _Found], *args: Any, lasting: bool = True) -> _Found:
        """What `work` gives, after the commit; its error, and then nothing of it was written.

        It is written also when the caller is cancelled meanwhile. With `lasting` it is on the disk,
        together with all that was written before.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Found] = loop.create_future()
        self._parts.put(_Part(lambda: work(*args), future, loop, lasting))
        return await future

    async def finish(self, work: Callable[..., object], *args: Any) -> None:
        """The same for what has ended already: no error. What the disk does not take now is written
        in front of what it takes next.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._parts.put(_Part(lambda: work(*args), future, loop, True, is_end=True))
        try:
            await future
        except sqlite3.Error as error:
            log.error("the end of a request is written when the disk takes it: %s", error)

    def _write(self) -> None:
        while True:
            part = self._parts.get()
            if part is None:
                return
            parts, ends = [part], False
            while len(parts) < _TOGETHER and not ends:
                try:
                    more = self._parts.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ends = True
                else:
                    parts.append(more)
            self._commit(parts)
            if ends:
                return
            if not self._parts.empty():
                time.sleep(_PAUSE)

    def _commit(self, parts: list[_Part]) -> None:
        parts = [*self._late, *parts]
        try:
            lasting = any(part.lasting for part in parts)
            with self._book.transaction(lasting=lasting) as db:
                for part in parts:
                    _run(db, part)
        except Exception as error:  # noqa: BLE001 - a full disk, a lost file: each of them is reported
            log.warning("the channel book was not written: %s", error)
            for part in parts:
                part.found, part.error = None, error
        self._late = [one for one in parts if one.is_end and isinstance(one.error, sqlite3.Error)]
        for part in parts:
            try:
                part.loop.call_soon_threadsafe(part.tell)
            except RuntimeError:
                log.debug("nobody waits any more for a write of the channel book")


def _run(db: sqlite3.Connection, part: _Part) -> None:
    part.error = None  # of an earlier try
    db.execute("SAVEPOINT part")
    try:
        part.found = part.work()
    except Exception as error:
        if not db.in_transaction:
            raise  # the whole of it has ended
        part.error = error
        db.execute("ROLLBACK TO part")
    db.execute("RELEASE part")
