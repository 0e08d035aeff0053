# SPDX-License-Identifier: Apache-2.0
"""For how long a lease passes for running while nobody says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.errors import RunnerError
from provider_agent.modules.leases.machine import Machine, patience
from provider_agent.runners.lease import ContainerState, ImageRoom, LeaseState, Status
from teraproof.protocol.errors import Code

RUNS = LeaseState("one", True, (ContainerState("web", 0, Status.RUNNING),))
SECONDS = 12.0


class Engine:
    """A runner with one lease. It answers, refuses, or hangs until the test lets it go."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.away = False

    def list(self) -> tuple[str, ...]:
        self.answers.wait()
        if self.away:
            raise RunnerError("it does not answer", Code.CONTAINERS_AWAY)
        return ("one",)

    def keep(self, wanted: object) -> dict[str, LeaseState]:
        return {"one": RUNS}

    def image_room(self) -> ImageRoom:
        return ImageRoom()

    def prepared(self, lease_id: str) -> None:
        return None


class Hours:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def machine() -> Iterator[tuple[Machine, Engine, Hours]]:
    engine, hours = Engine(), Hours()
    made = Machine(engine, SECONDS, hours)  # type: ignore[arg-type]
    made.look(["one"], ())
    until(made, lambda: made.is_up("one"))
    try:
        yield made, engine, hours
    finally:
        engine.answers.set()
        made.close()


def until(made: Machine, holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        made.look(["one"], ())
        time.sleep(0.01)  # the other thread's turn
    raise AssertionError("it never happens")


def test_engine_that_hangs__its_leases_are_down_from_its_last_word_on() -> None:
    with machine() as (made, engine, hours):
        until(made, lambda: made._keeping is None)
        engine.answers.clear()
        made.look(["one"], ())
        hours.now += SECONDS - 1
        made.look(["one"], ())
        assert made.is_up("one")
        hours.now += 2
        made.look(["one"], ())
        assert not made.is_up("one")
        assert made.down_for("one") == SECONDS + 1
        engine.answers.set()
        until(made, lambda: made.is_up("one"))
        assert made.down_for("one") == 0


def test_engine_that_refuses_after_a_while__the_while_counts() -> None:
    with machine() as (made, engine, hours):
        until(made, lambda: made._keeping is None)
        engine.answers.clear()
        made.look(["one"], ())
        hours.now += 5
        engine.away = True
        engine.answers.set()
        until(made, lambda: made.trouble is not None)
        assert not made.is_up("one")
        assert made.down_for("one") == 5


@given(st.floats(0.01, 600), st.floats(0, 10_000))
def test_last_word__is_good_until_the_next_cycle_and_no_longer_than_a_dead_container(
    poll: float, down: float
) -> None:
    good_for = patience(poll, down)
    assert good_for > poll
    # The pauses of the defaults leave less than a third of what was paid before.
    if poll <= 10:
        assert good_for <= 30


@pytest.mark.parametrize(("poll", "down", "expected"), [(2, 30, 30), (2, 0, 14), (60, 30, 130)])
def test_last_word__by_the_settings(poll: float, down: float, expected: float) -> None:
    assert patience(poll, down) == expected
