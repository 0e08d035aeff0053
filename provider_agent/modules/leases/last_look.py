# SPDX-License-Identifier: Apache-2.0
"""A last look at a lease before `ready`: from then on its tenant pays.

What a cycle knows of a lease is some moments old. So the runner is asked once more, at once, and
nobody else waits for its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

from provider_agent.runners.lease import LeaseRunner
from teraproof.errors import TeraproofError

_MOMENT = 0.1  # seconds that a cycle waits for an answer
_OLD = 10.0  # seconds after which an answer says nothing of this moment
_THREADS = 4


@dataclass(frozen=True)
class _Asked:
    answer: Future[bool]
    at: float


class LastLook:
    """See the module. Used by the loop's thread."""

    def __init__(self, runner: LeaseRunner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner, self._clock = runner, clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="last look")
        self._asked: dict[str, _Asked] = {}

    def runs(self, name: str) -> bool:
        """Whether every container of a lease runs at this moment, as the runner says. False while
        it has not answered: ask again in the next cycle.
        """
        now = self._clock()
        self._asked = {
            key: one
            for key, one in self._asked.items()
            if not (one.answer.done() and now - one.at > _OLD)
        }
        asked = self._asked.get(name)
        if asked is None:
            asked = self._asked[name] = _Asked(self._pool.submit(self._ask, name), now)
        try:
            answer = asked.answer.result(timeout=_MOMENT)
        except NotYet:
            if not asked.answer.done():
                return False
            answer = False
        except (TeraproofError, OSError, LookupError):
            answer = False
        del self._asked[name]
        return answer and self._clock() - asked.at <= _OLD

    def _ask(self, name: str) -> bool:
        state = self._runner.state(name)
        return state.wanted and state.running

    def close(self) -> None:
        """Ask nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
