# SPDX-License-Identifier: Apache-2.0
"""Which open jobs per cycle looks at, however many strangers have posted.

A look costs up to a tenth of a second, for the specification of a stranger. So a cycle looks at a
few: the jobs that lock most money, and the others by turns, those first that nobody has looked at.
Money is what a flood of junk lacks: `max_price` lies in escrow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_BEST, _TURNS = 10, 6
_LEARNED = 500  # jobs per cycle whose worth is read
_SECONDS = 0.5  # after which a cycle looks at no more


@dataclass(slots=True)
class _Job:
    worth: int
    looked: int = 0  # number of the last cycle that looked at it


class Candidates:
    """See the module. `worth` says what a job pays at most. Used by one thread."""

    def __init__(
        self, worth: Callable[[bytes], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._worth, self._clock = worth, clock
        self._jobs: dict[bytes, _Job] = {}
        self._cycle = 0

    def choose(self, open_jobs: Sequence[bytes]) -> Iterator[bytes]:
        """Some of the open jobs, best paid first; those that pay alike in the order given.

        Ends early when the time of a cycle is used up, but never before one job was looked at.
        """
        self._cycle += 1
        self._learn(open_jobs)
        until = self._clock() + _SECONDS
        for number, job in enumerate(self._chosen()):
            if number and self._clock() > until:
                return
            self._jobs[job].looked = self._cycle
            yield job

    def _learn(self, open_jobs: Sequence[bytes]) -> None:
        known, left = self._jobs, _LEARNED
        self._jobs = {}
        for job in open_jobs:
            if job in known:
                self._jobs[job] = known[job]
            elif left:
                self._jobs[job] = _Job(self._worth(job))
                left -= 1

    def _chosen(self) -> list[bytes]:
        paid = sorted(self._jobs, key=lambda job: -self._jobs[job].worth)
        best = self._by_turns(paid[:_BEST])
        # One of the others is looked at even if the best ones take all the time.
        turns = self._by_turns(paid[_BEST:])[:_TURNS]
        if len(paid) <= _BEST + _TURNS:
            return self._by_turns(paid)
        return [*turns[:1], *best, *turns[1:]]

    def _by_turns(self, jobs: list[bytes]) -> list[bytes]:
        """Those first that were not looked at for longest; the order stays among the others."""
        return sorted(jobs, key=lambda job: self._jobs[job].looked)
