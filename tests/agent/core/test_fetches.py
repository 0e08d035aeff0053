# SPDX-License-Identifier: Apache-2.0
"""Downloads from strangers: no number of those that drip keeps another from its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provider_agent.core import fetches
from provider_agent.core.fetches import Ending, Fetches
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

THREADS, TURN = 2, 60.0
WENT = LocalError("the connection broke", Code.AGENT_UNREACHABLE)


class Dripping:
    """A stranger that never comes to an end, and lets go only when it is cut off."""

    def __init__(self) -> None:
        self.begun = 0
        self.under_way = 0
        self.most = 0
        self.events: list[threading.Event] = []
        self._lock = threading.Lock()

    def __call__(self, ending: Ending) -> bytes:
        cut = threading.Event()
        self.events.append(cut)
        with self._lock:
            self.begun += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        ending.by(cut.set)
        assert cut.wait(30), "nothing ends it"
        with self._lock:
            self.under_way -= 1
        raise WENT


class World:
    """Fetches on a clock that is moved by hand; a cycle asks for all of them once."""

    def __init__(self, turn: float = TURN) -> None:
        fetches._PATIENCE = 0.002
        self.now = 0.0
        self.fetches = Fetches(THREADS, turn, lambda: self.now)
        self.wanted: dict[str, tuple[str, Any]] = {}
        self.found: dict[str, bytes] = {}

    def cycle(self) -> None:
        self.now += 2.0
        time.sleep(0.001)  # threads that were cut off need a moment of the real clock
        for name, (source, work) in list(self.wanted.items()):
            try:
                found = self.fetches.result(name, source, work)
            except LocalError:
                continue
            if found is not None:
                self.found[name] = found
                del self.wanted[name]

    def until(self, name: str, cycles: int = 1_000) -> None:
        for _ in range(cycles):
            if name in self.found:
                return
            self.cycle()
        assert name in self.found


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.fetches.close()


@pytest.mark.parametrize("dripping", [1, THREADS, 4 * THREADS])
def test_strangers_drip__an_honest_one_gets_its_turn(world: World, dripping: int) -> None:
    bad = Dripping()
    for n in range(dripping):
        world.wanted[f"bad {n}"] = (f"liar {n}", bad)
    world.cycle()
    world.wanted["good"] = ("honest", lambda ending: b"bytes")
    world.until("good")


def test_many_honest_ones_behind_those_that_drip__all_come(world: World) -> None:
    bad = Dripping()
    for n in range(3 * THREADS):
        world.wanted[f"bad {n}"] = (f"liar {n}", bad)
    for n in range(5):
        world.wanted[f"good {n}"] = (f"honest {n}", lambda ending: b"bytes")
    for n in range(5):
        world.until(f"good {n}")


def test_many_disputes_with_one_provider__one_fetch_at_a_time(world: World) -> None:
    bad = Dripping()
    for n in range(5):
        world.wanted[f"job {n}"] = ("liar", bad)
    world.wanted["good"] = ("honest", lambda ending: b"bytes")
    world.until("good", 1)
    for _ in range(100):
        world.cycle()
    assert bad.most == 1 and bad.begun > 1, "its other jobs have their turns, too"


def test_nobody_waits__a_slow_one_is_left_alone(world: World) -> None:
    slow, go = Dripping(), threading.Event()

    def fetch(ending: Ending) -> bytes:
        ending.by(lambda: pytest.fail("it was cut off"))
        assert go.wait(30)
        return b"all of it"

    world.wanted["slow"] = ("honest", fetch)
    for _ in range(200):
        world.cycle()
    go.set()
    world.until("slow")
    assert slow.begun == 0


def test_task_ends__the_fetch_ends_with_it_and_its_thread_is_free() -> None:
    world, bad = World(turn=math.inf), Dripping()
    for n in range(THREADS):
        world.wanted[f"bad {n}"] = (f"liar {n}", bad)
    world.cycle()
    names = list(world.wanted)
    world.wanted.clear()
    world.fetches.end(names)
    world.wanted["good"] = ("honest", lambda ending: b"bytes")
    world.until("good")
    world.fetches.close()


def test_ended_before_it_has_said_how__ended_all_the_same() -> None:
    ending, cut = Ending(), threading.Event()
    ending.now()
    ending.by(cut.set)
    assert cut.is_set()


def test_agent_stops__nothing_is_waited_for() -> None:
    world, bad = World(), Dripping()
    for n in range(4 * THREADS):
        world.wanted[f"bad {n}"] = (f"liar {n}", bad)
    world.cycle()
    world.fetches.close()
    assert bad.under_way == 0


def test_what_goes_wrong__told_once_and_begun_again(world: World) -> None:
    tries: list[int] = []

    def fetch(ending: Ending) -> bytes:
        tries.append(1)
        if len(tries) == 1:
            raise WENT
        return b"bytes"

    told: LocalError | None = None
    while told is None:
        try:
            assert world.fetches.result("job", "source", fetch) is None
        except LocalError as error:
            told = error
    assert told is WENT
    world.wanted["job"] = ("source", fetch)
    world.until("job")
    assert world.found["job"] == b"bytes"
