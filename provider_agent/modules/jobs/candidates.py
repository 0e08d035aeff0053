# SPDX-License-Identifier: Apache-2.0
"""Which open jobs a cycle looks at, however many strangers have posted.

A look costs up to a tenth of a second, for the specification of a stranger. So a cycle looks at a
few: the jobs that lock most money, those that nobody has looked at, and the others by turns. Money
is what a flood of junk lacks: `max_price` lies in escrow. Nothing else is read of the others, and
nothing is remembered of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

_BEST, _TURNS = 10, 6
_SECONDS = 0.5  # after which a cycle looks at no more


class OpenJobs(Protocol):
    """The jobs on the market, by their ids; each call reads no more than it returns."""

    def best_paid(self, limit: int) -> list[bytes]:
        """Those that pay most, the best first."""
        ...

    def unseen(self, limit: int) -> list[bytes]:
        """Those that were never looked at, the best paid first."""
        ...

    def after(self, job_id: bytes, limit: int) -> list[bytes]:
        """The next ones in an order that never changes; from the first again after the last."""
        ...


class Candidates:
    """See the module. Used by one thread."""

    def __init__(self, jobs: OpenJobs, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs, self._clock = jobs, clock
        self._looked: dict[bytes, int] = {}  # the best paid: number of the last cycle that looked
        self._last = os.urandom(32)  # whose turn it was
        self._cycle = 0

    def choose(self) -> Iterator[bytes]:
        """Some of the open jobs, best paid first.

        Ends early when the time of a cycle is used up, but never before one job was looked at.
        """
        self._cycle += 1
        until = self._clock() + _SECONDS
        best, turns = self._chosen()
        self._looked = {job: looked for job, looked in self._looked.items() if job in best}
        # One of the others is looked at even if the best ones take all the time.
        for number, job in enumerate([*turns[:1], *best, *turns[1:]]):
            if number and self._clock() > until:
                return
            if job in best:
                self._looked[job] = self._cycle
            else:
                self._last = job
            yield job

    def _chosen(self) -> tuple[list[bytes], list[bytes]]:
        """The best paid, those first that were not looked at for longest; and some others."""
        most = _BEST + _TURNS
        paid = self._jobs.best_paid(most + 1)
        best = paid if len(paid) <= most else paid[:_BEST]
        best = sorted(best, key=lambda job: self._looked.get(job, 0))
        if len(paid) <= most:
            return best, []
        new = [job for job in self._jobs.unseen(most) if job not in best]
        rest = [job for job in self._jobs.after(self._last, most) if job not in {*best, *new}]
        return best, [*new[: _TURNS - 1], *rest][:_TURNS]
