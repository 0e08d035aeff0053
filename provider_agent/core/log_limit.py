# SPDX-License-Identifier: Apache-2.0
"""A log that strangers cannot fill: a number of lines of one kind per minute, then a count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from teraproof.protocol.errors import one_line

MOST = 120
SECONDS = 60.0
_SHOWN = 120  # characters of a line that was left out

_Kind = tuple[str, str, int]


@dataclass
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0
    last: str = ""


class LogLimit(logging.Filter):
    """Lets `most` lines of one kind through in `seconds`; a later line tells how many it left out.

    A kind is a place in the code, so there are few. DEBUG is for people who look for something: all
    of it passes.
    """

    def __init__(
        self,
        handler: logging.Handler,
        most: int = MOST,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._handler, self._most, self._seconds, self._clock = handler, most, seconds, clock
        self._windows: dict[_Kind, _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno <= logging.DEBUG or getattr(record, "counts_others", False):
            return True
        now = self._clock()
        with self._lock:
            counts = self._ended(now)
            kind = (record.name, record.pathname, record.lineno)
            window = self._windows.setdefault(kind, _Window(now))
            window.lines += 1
            passes = window.lines <= self._most
            if not passes:
                window.left_out += 1
                window.last = record.getMessage()
        for name, line in counts:
            said = logging.LogRecord(name, logging.WARNING, __file__, 0, line, None, None)
            said.counts_others = True
            self._handler.handle(said)
        return passes

    def _ended(self, now: float) -> list[tuple[str, str]]:
        """Logger and line for each kind that left some out in a window that is over."""
        over = [k for k, w in self._windows.items() if now - w.began >= self._seconds]
        windows = [(kind[0], self._windows.pop(kind)) for kind in over]
        return [
            (name, f"{window.left_out} more lines like: {one_line(window.last, _SHOWN)}")
            for name, window in windows
            if window.left_out
        ]


def limit(handler: logging.Handler) -> logging.Handler:
    """The handler, its lines limited."""
    handler.addFilter(LogLimit(handler))
    return handler
