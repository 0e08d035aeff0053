# SPDX-License-Identifier: Apache-2.0
"""How far a client stays behind the least rate that is asked of it."""

from __future__ import annotations


class Pace:
    """Counts the time (s) for which a client was waited for, less what the bytes that it moved take
    at the least rate (bytes per second). A whole body at that rate is never late, whatever it
    weighs; a byte now and then helps nobody.
    """

    def __init__(self, rate: int, now: float) -> None:
        self._rate, self._moved, self._at, self._owed = rate, 0, now, False
        #: Seconds that the client is late.
        self.late = 0.0

    def look(self, now: float, moved: int, *, owed: bool = True) -> None:
        """`moved` bytes have come since the start; `owed` says that the client is waited for.

        The time since the last look counts if the client was waited for at both looks.
        """
        progress, passed = moved - self._moved, now - self._at
        waited = passed if owed and self._owed else 0.0
        self.late = max(0.0, self.late + waited - progress / self._rate)
        self._moved, self._at, self._owed = moved, now, owed

    def rest(self, now: float, moved: int) -> None:
        """Nothing is owed: what comes next starts from here."""
        self._moved, self._at, self._owed, self.late = moved, now, False, 0.0
