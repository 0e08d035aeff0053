# SPDX-License-Identifier: Apache-2.0
"""Slow work of a duty (copying inputs, hashing results) outside the reconcile loop.

The loop asks for a piece of work again in every cycle until it is done. A crash forgets what was
under way, and the next cycle starts it again: the work must bear that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_PATIENCE = 0.05  # seconds a cycle waits for work that is quick


class Background:
    """Named pieces of work in a few threads. Used from one thread."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="work")
        self._futures: dict[Hashable, Future[Any]] = {}

    def result(self, name: Hashable, work: Callable[[], _Result]) -> _Result | None:
        """What `work` returned, once; None while it is under way. Raises what it raised."""
        future = self._futures.get(name)
        if future is None:
            future = self._futures[name] = self._pool.submit(work)
        try:
            found: _Result = future.result(timeout=_PATIENCE)
        except TimeoutError:
            if not future.done():
                return None
            del self._futures[name]
            raise
        except BaseException:
            del self._futures[name]
            raise
        del self._futures[name]
        return found

    def close(self) -> None:
        """Wait for what is under way; start nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
