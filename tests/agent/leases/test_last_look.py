# SPDX-License-Identifier: Apache-2.0
"""What is said of a lease right before `ready`, by runners that take their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provider_agent.errors import RunnerError
from provider_agent.modules.leases.last_look import _OLD, LastLook
from provider_agent.runners.lease import ContainerState, LeaseState, Status


class Slow:
    """A runner that answers when a test lets it. `status` is how its containers are."""

    def __init__(self) -> None:
        self.answers, self.status = threading.Event(), Status.RUNNING
        self.asked: list[str] = []
        self.away = False

    def state(self, name: str) -> LeaseState:
        self.asked.append(name)
        self.answers.wait()
        if self.away:
            raise RunnerError("it does not answer")
        return LeaseState(name, True, (ContainerState("web", 0, self.status),))


class Hours:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def look() -> Iterator[tuple[LastLook, Slow, Hours]]:
    runner, hours = Slow(), Hours()
    made = LastLook(runner, hours)  # type: ignore[arg-type]
    try:
        yield made, runner, hours
    finally:
        runner.answers.set()
        made.close()


def test_answer__thought_about_for_longer_than_it_is_good__counts_from_when_it_came() -> None:
    with look() as (made, runner, hours):
        assert made.runs("one") is None
        hours.now += 10 * _OLD  # of a cycle, or of the runner
        runner.answers.set()
        made._asked["one"].result()
        hours.now += _OLD / 2
        assert made.runs("one") is True
        assert runner.asked == ["one"]


def test_answer__older_than_a_moment__asked_for_again() -> None:
    with look() as (made, runner, hours):
        assert made.runs("one") is None
        runner.answers.set()
        made._asked["one"].result()
        hours.now += _OLD + 1
        runner.status = Status.EXITED
        assert made.runs("one") is False
        assert runner.asked == ["one", "one"]


@pytest.mark.parametrize("period", [0.5, 5.0, 12.0, 600.0])
def test_runner_that_answers_at_once__believed_in_each_cycle_however_long(period: float) -> None:
    with look() as (made, runner, hours):
        runner.answers.set()
        for _ in range(4):
            assert made.runs("one") is True
            hours.now += period


def test_runner_that_hangs__waited_for_once_by_all_leases() -> None:
    with look() as (made, _, hours):
        assert made.runs("one") is None
        before = made._waited_at
        hours.now += 1
        assert [made.runs(f"other{n}") for n in range(50)] == [None] * 50
        assert made._waited_at == before


def test_runner_that_is_away__says_neither_that_it_runs_nor_that_it_does_not() -> None:
    with look() as (made, runner, _):
        runner.away = True
        runner.answers.set()
        assert made.runs("one") is None
