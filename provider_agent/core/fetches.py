# SPDX-License-Identifier: Apache-2.0
"""Downloads from strangers, outside the reconcile loop.

The loop asks for a fetch again in every cycle until it has come. A stranger may drip for as long
as its bytes earn it time. So it never has more than one thread, and no thread for long while others
wait: then it is cut off after its turn, and stands at the end of the line. What it has sent stays
on the disk, so an honest one that is slow loses nothing but a connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from teraproof.errors import LocalError

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_THREADS = 8
_PATIENCE = 0.05  # seconds a cycle waits for what is quick
_TURN, _LONGER = 60.0, 4  # seconds; how many times as long a later turn may be
_FORGOTTEN = 30.0  # seconds after which who does not ask again has left the line


class Ending:
    """Lets a fetch be ended from another thread: it says by what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cut_off: Callable[[], None] | None = None
        self._is_over = False

    def by(self, cut_off: Callable[[], None]) -> None:
        """Say what ends the fetch; it is called at once where it has to end already."""
        with self._lock:
            self._cut_off = cut_off
            is_over = self._is_over
        if is_over:
            cut_off()

    def now(self) -> None:
        """End the fetch."""
        with self._lock:
            self._is_over, cut_off = True, self._cut_off
        if cut_off is not None:
            cut_off()


@dataclass(eq=False)
class _Fetch:
    name: Hashable
    source: Hashable
    future: Future[Any]
    ending: Ending
    since: float
    gave_way: bool = False


@dataclass
class _Place:
    source: Hashable
    asked: float


class Fetches:
    """See the module. Used from one thread. `turn` is the seconds after which a fetch gives way to
    one that waits; `clock` gives seconds.
    """

    def __init__(
        self,
        threads: int = _THREADS,
        turn: float = _TURN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads, self._turn, self._clock = threads, turn, clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._under_way: dict[Hashable, _Fetch] = {}
        self._left: list[_Fetch] = []  # ended before they were done
        self._line: dict[Hashable, _Place] = {}
        self._turns: dict[Hashable, int] = {}

    def result(
        self, name: Hashable, source: Hashable, work: Callable[[Ending], _Result]
    ) -> _Result | None:
        """What `work` returned, once; None while it waits or is under way. Raises what it raised.

        `work` must bear to be begun again, and tells its argument how it is ended.
        """
        fetch = self._under_way.get(name)
        if fetch is None:
            if not self._may_begin(name, source):
                return None
            ending = Ending()
            future = self._pool.submit(work, ending)
            fetch = _Fetch(name, source, future, ending, self._clock())
            self._under_way[name] = fetch
        try:
            found: _Result = fetch.future.result(timeout=_PATIENCE)
        except TimeoutError:
            if not fetch.future.done():
                return None
            del self._under_way[name]
            raise
        except LocalError:
            del self._under_way[name]
            if fetch.gave_way:
                return None
            raise
        except BaseException:
            del self._under_way[name]
            raise
        del self._under_way[name]
        self._turns.pop(name, None)
        return found

    def end(self, names: Iterable[Hashable]) -> None:
        """Nobody needs these fetches any more."""
        for name in names:
            self._line.pop(name, None)
            self._turns.pop(name, None)
            fetch = self._under_way.pop(name, None)
            if fetch is not None:
                fetch.ending.now()
                self._left.append(fetch)

    def close(self) -> None:
        """End all; start nothing more."""
        self.end(list(self._under_way))
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------ the line

    def _may_begin(self, name: Hashable, source: Hashable) -> bool:
        now = self._clock()
        self._line = {k: one for k, one in self._line.items() if now - one.asked < _FORGOTTEN}
        self._line.setdefault(name, _Place(source, now)).asked = now
        busy = self._busy()
        taken = {one.source for one in busy}
        before: set[Hashable] = set()  # sources that come first
        for other, place in self._line.items():
            if other == name:
                break
            if place.source not in taken:
                before.add(place.source)
        if source not in taken | before and len(busy) + len(before) < self._threads:
            del self._line[name]
            return True
        same = [one for one in busy if one.source == source]
        self._give_way(same or (busy if len(busy) >= self._threads else []), now)
        return False

    def _busy(self) -> list[_Fetch]:
        self._left = [one for one in self._left if not one.future.done()]
        return [
            *self._left,
            *(one for one in self._under_way.values() if not one.future.done()),
        ]

    def _give_way(self, busy: list[_Fetch], now: float) -> None:
        """Cut off the one whose turn has been over for longest, if there is one."""
        over = [
            (now - one.since - self._turn * min(2 ** self._turns.get(one.name, 0), _LONGER), one)
            for one in busy
            if not one.gave_way
        ]
        most, longest = max(over, key=lambda pair: pair[0], default=(0.0, None))
        if longest is None or most <= 0:
            return
        log.info("a fetch from %s gives way to another: it goes on later", longest.source)
        longest.gave_way = True
        self._turns[longest.name] = self._turns.get(longest.name, 0) + 1
        longest.ending.now()
