# SPDX-License-Identifier: Apache-2.0
"""The installed agent, which also writes down where the time of each of its cycles went.

A line a cycle, the fields of `Cycle` in seconds. The thread of the cycles either computes, waits
until a core is free, waits for a node, or waits for the disk. What is left is waiting for the other
threads of the agent: for a lock, or for the interpreter.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

_SCHEDULED = Path("/proc/thread-self/schedstat")
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass
class Cycle:
    """One cycle. `at` is when it ended, monotonic."""

    at: float
    wall: float
    cpu: float
    queue: float
    """For a core."""
    node: float
    """For nodes, or until one may be asked again, as far as it neither computed nor waited for a
    core.
    """
    disk: float
    """For the database, likewise."""

    @property
    def others(self) -> float:
        """For other threads of the agent."""
        return max(0.0, self.wall - self.cpu - self.queue - self.node - self.disk)

    @property
    def own(self) -> float:
        """What the agent is answerable for: all but the waits for a core and for nodes."""
        return max(0.0, self.wall - self.queue - self.node)

    @classmethod
    def parse(cls, line: str) -> Cycle | None:
        """A line of the file; None for one that was cut short by a kill."""
        parts = line.split()
        return cls(*map(float, parts)) if len(parts) == len(fields(cls)) else None


class Stopwatch:
    """How long one thread has waited, by what for."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.waited = {"node": 0.0, "disk": 0.0}

    def timed(self, what: str, work: Callable[_P, _R]) -> Callable[_P, _R]:
        """The same work; its waits are counted."""

        @wraps(work)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if threading.get_ident() != self.thread:
                return work(*args, **kwargs)
            before = sample()
            try:
                return work(*args, **kwargs)
            finally:
                wall, cpu, queue = (b - a for a, b in zip(before, sample(), strict=True))
                self.waited[what] += max(0.0, wall - cpu - queue)

        return run


def sample() -> tuple[float, float, float]:
    """Of this thread: the time, its time on a core, its time in wait of one. Seconds."""
    running, waiting, _ = _SCHEDULED.read_text().split()
    return time.monotonic(), int(running) / 1e9, int(waiting) / 1e9


def time_cycles(path: str) -> None:
    """Have every cycle write its line. Call it before the agent is imported."""
    watch = Stopwatch()
    # The loop's thread sleeps only until an endpoint may be asked again.
    time.sleep = watch.timed("node", time.sleep)
    from provider_agent.core.loop import Loop
    from teraproof.rpc.http import Http

    cycle = Loop.cycle
    lines = Path(path).open("a", buffering=1)  # noqa: SIM115 - lives as long as the process

    class Timed(sqlite3.Connection):
        execute = watch.timed("disk", sqlite3.Connection.execute)

    def timed_cycle(self: Loop) -> bool:
        watch.thread, watch.waited = threading.get_ident(), dict.fromkeys(watch.waited, 0.0)
        before = sample()
        went_well = cycle(self)
        after = sample()
        parts = [b - a for a, b in zip(before, after, strict=True)]
        one = Cycle(after[0], *parts, **watch.waited)
        lines.write(" ".join(f"{part:.5f}" for part in astuple(one)) + "\n")
        return went_well

    sqlite3.connect = partial(sqlite3.connect, factory=Timed)  # type: ignore[assignment]
    Http.post = watch.timed("node", Http.post)  # type: ignore[method-assign]
    Loop.cycle = timed_cycle  # type: ignore[method-assign]


if __name__ == "__main__":
    time_cycles(os.environ.pop("SIEGE_CYCLES"))
    from provider_agent.cli.main import main

    sys.argv[0] = "provider-agent"
    main()
