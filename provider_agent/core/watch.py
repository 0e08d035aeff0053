# SPDX-License-Identifier: Apache-2.0
"""Watches that the loop moves. One that hangs is reported with the place where it hangs, and what
it may be waiting for is broken off.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

log = logging.getLogger(__name__)

_HANG = 120.0  # seconds; a request to a node takes 10
_LOOK = 5.0


class Watch:
    """Told by the loop that it moves; looks in a thread of its own. `break_off` is called each time
    that `limit` seconds pass without a move.
    """

    def __init__(
        self,
        break_off: Callable[[], None],
        *,
        limit: float = _HANG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._break_off, self._limit, self._clock = break_off, limit, clock
        self._loop: int | None = None  # its thread
        self._moved = clock()
        self._acted = self._moved
        self._step = "start"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look. Called by the thread that is watched."""
        self._loop = threading.get_ident()
        self.move("start")
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def move(self, step: str = "") -> None:
        """The loop has come to a step, or goes on in the same one. Others may call it, too."""
        if threading.get_ident() == self._loop:
            self._moved = self._acted = self._clock()
            self._step = step or self._step

    @property
    def still(self) -> float:
        """Seconds since the last move."""
        return max(0.0, self._clock() - self._moved)

    @property
    def moves(self) -> bool:
        """Whether the loop does not hang."""
        return self.still <= self._limit

    def look(self) -> bool:
        """Act if the loop hangs; whether something was done."""
        if self._clock() - self._acted <= self._limit:
            return False
        self._acted = self._clock()
        frame = None if self._loop is None else sys._current_frames().get(self._loop)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "unknown\n"
        log.error(
            "the loop has hung for %.0f s in %s; its connections to nodes are closed. It hangs "
            "here:\n%s",
            self.still,
            self._step,
            stack.rstrip(),
        )
        self._break_off()
        return True

    def _live(self) -> None:
        while not self._ended.wait(min(_LOOK, self._limit / 4)):
            self.look()
