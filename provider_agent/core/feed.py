# SPDX-License-Identifier: Apache-2.0
"""Reads contract events with a cursor that survives restarts and reorgs.

Events are hints that save reads: duties derive what is owed from state. So the feed is built to
lose nothing for long rather than to be exact once: each poll reads the last `reorg_window` blocks
again, hands out what it has not handed out before (a log is known by block hash and index), and
names the objects whose logs have vanished, so that the duty looks at them again.

Cursor, known logs and the consumer's own rows are written in one database transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from provider_agent.core.policy import contained
from provider_agent.store import SeenLog, Store
from teraproof.contracts.base import Contract, Event
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BlockUnknown
from teraproof.rpc.types import BlockRef, Log

log = logging.getLogger(__name__)

#: Called in the feed's transaction with new events and with ids of objects to look at again.
Consumer = Callable[[Sequence[Event], Sequence[bytes]], None]


class Source(Protocol):
    """A contract whose events are followed."""

    @property
    def address(self) -> str:
        """Of the contract."""
        ...

    def topics(self) -> list[bytes]:
        """First topics of the events to ask for."""
        ...

    def decode(self, entry: Log) -> Event | None:
        """A typed event, or None for a log of no interest."""
        ...


@dataclass(frozen=True)
class Followed:
    """Some kinds of a contract's events as a source."""

    contract: Contract
    kinds: tuple[type[Event], ...]

    @property
    def address(self) -> str:
        """Of the contract."""
        return self.contract.address

    def topics(self) -> list[bytes]:
        """First topics of these kinds."""
        return [kind.TYPE.topic for kind in self.kinds]

    def decode(self, entry: Log) -> Event | None:
        """A typed event, or None for a log of another contract or kind."""
        event = self.contract.decode(entry)
        return event if isinstance(event, self.kinds) else None


class EventFeed:
    """The events of some contracts from `start_block` on, read in chunks of `chunk` blocks."""

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        sources: Sequence[Source] = (),
        *,
        start_block: int = 0,
        reorg_window: int = 64,
        chunk: int = 2000,
        name: str = "events",
    ) -> None:
        self._pool = pool
        self._store = store
        self._sources = list(sources)
        self._start = start_block
        self._window = reorg_window
        self._chunk = max(1, chunk)
        self._back: int | None = None  # block from which the next poll reads, once
        self._avoid: str | None = None  # the endpoint that was asked first at the last look back
        self._name = name
        #: Whether all events up to some head have been read since the start.
        self.is_whole = False

    def follow(self, sources: Iterable[Source]) -> None:
        """Read the events of these contracts as well. Call before the first poll."""
        self._sources += sources

    def poll(
        self,
        head: BlockRef,
        consume: Consumer | None = None,
        go_on: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Read up to `head`, in chain order; whether it got there.

        `consume` is called for each chunk that has news, and its writes to the store are kept or
        lost together with the cursor. `go_on` is asked after each chunk: the rest is read at the
        next poll. Raises ChainError when nodes fail or the chain moves under the read; what was
        committed stays, too.
        """
        first, back = self._first(head), self._back
        known = self._store.cursor(self._name)
        if back is not None:
            first = max(self._start, min(first, back))
            self._avoid = self._pool.next_for_logs(self._avoid)
        cursor = self._store.cursor(self._name)
        # New blocks that the next poll reads again: a branch without logs is seen then at last.
        once_more = back is None and cursor is not None and cursor >= head.number - self._window
        while first <= head.number and self._sources:
            last = min(first + self._chunk - 1, head.number)
            end = head if last == head.number else self._pool.block(last)
            logs = self._pool.logs(
                list(dict.fromkeys(source.address for source in self._sources)),
                first,
                last,
                [self._topics()],
                avoid=None if back is None else self._avoid,
            )
            if not (once_more and self._are_of_branch(logs)) and (
                self._pool.block(head.number, fresh=True).hash != head.hash
            ):
                raise BlockUnknown(f"block {head.number} left the chain while events were read")
            self._commit(first, end, head, logs, consume)
            first = last + 1
            # Never before something new was read, or it would be the same blocks each time.
            is_news = known is None or last > known or back is not None
            if first <= head.number and is_news and not go_on():
                self._back = first if back is not None else None
                return False
        if self._back == back:
            self._back = None
        self.is_whole = True
        return True

    def _are_of_branch(self, logs: Sequence[Log]) -> bool:
        """Whether the blocks that logs name are those of the chain, as far as headers show it."""
        blocks = {entry.block_number: entry.block_hash for entry in logs}
        known = [self._pool.known_block(number) for number in blocks]
        return all(one is not None and blocks[one.number] == one.hash for one in known)

    @property
    def looks_back(self) -> bool:
        """Whether the next poll reads more than what is new."""
        return self._back is not None

    def look_back(self, first: int) -> None:
        """Have the next poll read from block `first` on, and by another endpoint than the last such
        poll, if there are several: one may have lost logs.
        """
        self._back = first if self._back is None else min(first, self._back)

    def _topics(self) -> list[str]:
        return ["0x" + topic.hex() for source in self._sources for topic in source.topics()]

    def _first(self, head: BlockRef) -> int:
        """Where to read from: the window, or the fork when a reorg went deeper."""
        cursor = self._store.cursor(self._name)
        if cursor is None:
            return self._start
        first = min(cursor, head.number) + 1 - self._window
        for mark in self._store.marks(self._name):
            if mark.number > head.number:
                continue
            try:
                canonical = self._pool.block(mark.number).hash == mark.hash
            except BlockUnknown:
                canonical = False
            if canonical:
                return max(self._start, min(first, mark.number + 1))
            log.warning("block %s was replaced; reading events again", mark.number)
        # No block on record is left (or none is recorded): only the beginning is sure.
        return self._start

    def _commit(
        self,
        first: int,
        end: BlockRef,
        head: BlockRef,
        logs: Sequence[Log],
        consume: Consumer | None,
    ) -> None:
        """Keep a chunk: new logs, vanished logs, the cursor, and what the consumer makes of it."""
        last = end.number
        with self._store.transaction():
            # Above the head nothing can be left; logs there were on another branch.
            known = {
                (seen.block_hash, seen.log_index): seen
                for seen in self._store.seen_logs(self._name, first)
                if seen.block_number <= last or last == head.number
            }
            events: list[Event] = []
            for entry in logs:
                if known.pop((entry.block_hash, entry.log_index), None) is not None:
                    continue
                event = self._decode(entry)
                if event is None:
                    continue
                events.append(event)
                self._store.add_seen_log(
                    self._name,
                    SeenLog(entry.block_hash, entry.log_index, entry.block_number, _subject(event)),
                )
            for vanished in known.values():
                self._store.drop_seen_log(self._name, vanished)
            again = list(dict.fromkeys(seen.object_id for seen in known.values() if seen.object_id))
            if consume is not None and (events or again):
                consume(events, again)
            cursor = self._store.cursor(self._name)
            if cursor is None or last > cursor or last == head.number:
                self._store.set_cursor(self._name, last, end.hash, keep=4 * self._window)

    def _decode(self, entry: Log) -> Event | None:
        for source in self._sources:
            # One that shows a bug must not keep the events of the others.
            with contained(f"a log of {entry.address} was skipped"):
                event = source.decode(entry)
                if event is not None:
                    return event
        return None


def _subject(event: Event) -> bytes:
    """What to look at again when the event turns out not to have happened."""
    subjects = (getattr(event, name, None) for name in ("job", "lease", "channel_id"))
    return next((one for one in subjects if isinstance(one, bytes) and one), b"")
