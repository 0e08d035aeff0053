# SPDX-License-Identifier: Apache-2.0
"""A last look at a lease before `ready`: from then on its tenant pays.

What a cycle knows of a lease is some moments old. So the runner is asked once more, at once, and
nobody else waits for its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from provider_agent.runners.lease import LeaseRunner
from teraproof.errors import TeraproofError

_MOMENT = 1.0  # seconds that a cycle waits for an answer, unless one did not come lately
_OLD = 10.0  # seconds after which an answer says nothing of this moment
_THREADS = 4


@dataclass(frozen=True)
class _Answer:
    runs: bool | None
    at: float


class LastLook:
    """See the module. Used by the loop's thread."""

    def __init__(self, runner: LeaseRunner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner, self._clock = runner, clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="last look")
        self._asked: dict[str, Future[_Answer]] = {}
        self._waited_at: float | None = None  # in vain

    def runs(self, name: str) -> bool | None:
        """Whether every container of a lease runs at this moment, as the runner says. None while
        that is not known: ask again in the next cycle.

        An answer is as old as it is here: a runner may think for longer than a cycle waits.
        """
        self._asked = {key: one for key, one in self._asked.items() if not self._is_old(one)}
        asked = self._asked.get(name)
        if asked is None:
            asked = self._asked[name] = self._pool.submit(self._ask, name)
        # A runner that hangs is waited for once, not for each lease.
        now, waited = self._clock(), self._waited_at
        patience = _MOMENT if waited is None or now - waited > _OLD else 0.0
        if not wait([asked], timeout=patience).done:
            self._waited_at = now if patience else waited
            return None
        del self._asked[name]
        return asked.result().runs

    def _is_old(self, asked: Future[_Answer]) -> bool:
        if not asked.done():
            return False
        return asked.exception() is not None or self._clock() - asked.result().at > _OLD

    def _ask(self, name: str) -> _Answer:
        runs: bool | None = None
        with suppress(TeraproofError, OSError, LookupError):
            state = self._runner.state(name)
            runs = state.wanted and state.running
        return _Answer(runs, self._clock())

    def close(self) -> None:
        """Ask nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
