# SPDX-License-Identifier: Apache-2.0
"""Challenges in processes of their own: what the agent answers, and what ends them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.prover.acceptance.desk import Desk, DeskLimits, Place
from provider_agent.prover.acceptance.worker import lease_to_json, respond
from teraproof.acceptance import messages
from teraproof.acceptance.format import Work
from teraproof.acceptance.messages import Step
from teraproof.errors import Refused
from teraproof.pog.format import Shape
from teraproof.protocol.errors import Code
from tests.agent.acceptance.rig import SHAPE, lease
from tests.support.anvil import ROOT
from tests.support.processes import with_argument

WAIT = 120.0
SMALL = Work(SHAPE, rounds=2, devices=1, blocks=8, sweeps=2, seconds=120)
TENANT = "0x" + "0c" * 20
NONCE, OTHER = b"\x01" * 32, b"\x02" * 32


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def place(number: int = 7, *engines: str) -> Place:
    return Place(lease(number), TENANT, engines or ("cpu",), 1 << 40)


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def desk(clock: Time) -> Iterator[Desk]:
    made = Desk(DeskLimits(pause=30, challenges=2), clock)
    yield made
    made.close()


def refused(call: Any, *arguments: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value


def workers() -> list[int]:
    """Worker processes of this test."""
    return workers_of(os.getpid())


def workers_of(parent: int) -> list[int]:
    """Worker processes of an agent."""
    return list(with_argument(f"provider_agent.prover.acceptance.worker {parent}"))


def failure(of: Future[dict[str, Any]]) -> Refused:
    error = of.exception(WAIT)
    assert isinstance(error, Refused)
    return error


def until(condition: Any) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def begin_when_free(desk: Desk, place: Place, work: Work) -> Future[dict[str, Any]]:
    """Begins a challenge once the devices are free of the last one: moments later."""
    end = time.monotonic() + WAIT
    while True:
        try:
            return desk.begin(place, work, OTHER)
        except Refused as busy:
            assert busy.details == {"retry_after": 1} and time.monotonic() < end
            time.sleep(0.02)


def test_steps__in_order_and_once(desk: Desk) -> None:
    one = place()
    filling = desk.begin(one, SMALL, NONCE)
    assert desk.begin(one, SMALL, NONCE) is filling  # an answer that was lost is asked for again
    assert refused(desk.begin, one, SMALL, OTHER).code is Code.CHALLENGE_BUSY
    for step in (Step.WORK, Step.SWEEP, Step.OPEN):
        if not filling.done():
            assert refused(desk.go_on, one.lease.id, step, OTHER).code is Code.CHALLENGE_UNKNOWN
    assert filling.result(WAIT) == {"filled": [8]}
    assert desk.progress(one.lease.id) == (Step.FILL, True, 1.0)
    for step in (Step.SWEEP, Step.OPEN):
        assert refused(desk.go_on, one.lease.id, step, OTHER).code is Code.CHALLENGE_UNKNOWN
    working = desk.go_on(one.lease.id, Step.WORK, OTHER)
    (commitment,) = messages.commitments(working.result(WAIT), SMALL)
    assert desk.go_on(one.lease.id, Step.WORK, OTHER) is working
    # No second try with another nonce: the first one that came counts.
    assert refused(desk.go_on, one.lease.id, Step.WORK, NONCE).code is Code.CHALLENGE_UNKNOWN
    assert len(commitment) == 32 and len(workers()) == 1
    desk.leave(one.lease.id)
    until(lambda: workers() == [])
    assert refused(desk.go_on, one.lease.id, Step.SWEEP, NONCE).code is Code.CHALLENGE_UNKNOWN


def test_process_killed__fails_and_the_lease_can_be_challenged_later(
    desk: Desk, clock: Time
) -> None:
    one = place(7, "cpu", "cpu")
    filling = desk.begin(one, replace(SMALL, devices=2), NONCE)
    until(lambda: len(workers()) == 2)
    os.kill(workers()[0], signal.SIGKILL)
    assert failure(filling).code is Code.CHALLENGE_FAILED
    desk.tick()
    until(lambda: workers() == [])  # the other device works for nobody
    said = refused(desk.begin, one, replace(SMALL, devices=2), OTHER)
    assert said.code is Code.CHALLENGE_BUSY and said.details["retry_after"] == 30
    clock.now += 30
    begin_when_free(desk, one, replace(SMALL, devices=2))


def test_device_that_is_not_there__fails_without_its_words(desk: Desk) -> None:
    failed = failure(desk.begin(place(7, "cuda:63"), SMALL, NONCE))
    assert failed.code is Code.CHALLENGE_FAILED
    assert "cuda" not in str(failed).lower()


def test_late__ended(desk: Desk, clock: Time) -> None:
    slow = desk.begin(place(), replace(SMALL, shape=Shape(4096, 277), rounds=9), NONCE)
    until(lambda: len(workers()) == 1)
    clock.now += SMALL.seconds
    desk.tick()
    assert not slow.done() and len(workers()) == 1
    clock.now += 1
    desk.tick()
    assert failure(slow).code is Code.CHALLENGE_FAILED
    until(lambda: workers() == [])


def test_tenant_does_not_go_on__ended(desk: Desk, clock: Time) -> None:
    desk.begin(place(), SMALL, NONCE).result(WAIT)
    clock.now += 61
    desk.tick()
    until(lambda: workers() == [])
    refusal = refused(desk.go_on, place().lease.id, Step.WORK, OTHER)
    assert refusal.code is Code.CHALLENGE_UNKNOWN

    def forgotten() -> bool:
        desk.tick()
        return desk.progress(place().lease.id) == (None, False, 0.0)

    until(forgotten)


def test_last_answer_is_lost__asked_for_again(desk: Desk, clock: Time) -> None:
    one = place()
    desk.begin(one, SMALL, NONCE).result(WAIT)
    for step in (Step.WORK, Step.SWEEP, Step.OPEN):
        answered = desk.go_on(one.lease.id, step, OTHER)
        answered.result(WAIT)
    until(lambda: workers() == [])
    for _ in range(2):
        desk.tick()
        assert desk.go_on(one.lease.id, Step.OPEN, OTHER) is answered
    clock.now += 30
    assert begin_when_free(desk, one, SMALL).result(WAIT) == {"filled": [8]}


def test_limits__said_with_their_number(desk: Desk) -> None:
    for work, field in (
        (replace(SMALL, devices=2), "devices"),
        (replace(SMALL, shape=Shape(65_536, 277), rounds=65_536), "rounds"),
        (replace(SMALL, sweeps=1024, blocks=2**24), "sweeps"),
    ):
        said = refused(desk.begin, place(), work, NONCE)
        assert said.code is Code.LIMIT_EXCEEDED and said.details["field"] == field
        assert str(said.details["limit"]) in str(said)
    assert workers() == []


def test_more_memory_than_the_lease_has__refused(desk: Desk) -> None:
    small = replace(place(), memory=SMALL.blocks * 5376 - 1)
    said = refused(desk.begin, small, SMALL, NONCE)
    assert said.code is Code.LIMIT_EXCEEDED and said.details == {"field": "blocks", "limit": 7}


def test_more_leases_at_once_than_bearable__busy(desk: Desk) -> None:
    for number in range(2):
        desk.begin(place(number), SMALL, NONCE)
    assert refused(desk.begin, place(2), SMALL, NONCE).code is Code.CHALLENGE_BUSY


def test_agent_dies__its_workers_die() -> None:
    program = (
        "import time; from provider_agent.prover.acceptance.desk import Desk, Place;"
        "from tests.agent.acceptance.test_desk import SMALL, NONCE, place;"
        "Desk().begin(place(), SMALL, NONCE); print('begun', flush=True); time.sleep(600)"
    )
    agent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert agent.stdout is not None and agent.stdout.readline() == b"begun\n"

    until(lambda: len(workers_of(agent.pid)) == 1)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    agent.stdout.close()
    until(lambda: workers_of(agent.pid) == [])


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A group whose processes do nothing while it says so; they do not even die."""
    groups = Path("/sys/fs/cgroup/freezer")
    if not os.access(groups, os.W_OK) or not (groups / "tasks").exists():
        pytest.skip("no freezer of control groups, version 1, that this user may use")
    made = groups / f"teraproof-{os.getpid()}"
    made.mkdir()
    yield made
    (made / "freezer.state").write_text("THAWED")
    until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def test_process_that_does_not_die__holds_up_its_own_lease_alone(
    desk: Desk, clock: Time, freezer: Path
) -> None:
    """As one does that waits for a driver."""
    stuck, other = place(7), place(8)
    filling = desk.begin(stuck, SMALL, NONCE)
    until(lambda: len(workers()) == 1)
    (freezer / "cgroup.procs").write_text(str(workers()[0]))
    (freezer / "freezer.state").write_text("FROZEN")
    until(lambda: "FROZEN" in (freezer / "freezer.state").read_text())
    clock.now += SMALL.seconds + 1
    desk.tick()
    assert failure(filling).code is Code.CHALLENGE_FAILED
    assert desk.progress(stuck.lease.id)[1]
    assert desk.begin(other, SMALL, NONCE).result(WAIT) == {"filled": [8]}
    assert refused(desk.begin, stuck, SMALL, OTHER).code is Code.CHALLENGE_BUSY
    desk.tick()
    desk.leave(stuck.lease.id)
    # It counts as long as it is there: here two challenges are bearable.
    assert refused(desk.begin, place(9), SMALL, NONCE).code is Code.CHALLENGE_BUSY
    (freezer / "freezer.state").write_text("THAWED")
    until(lambda: len(workers()) == 1)
    desk.tick()
    begin_when_free(desk, place(9), SMALL)


def test_desk__closed_while_a_process_does_not_die__closes(
    clock: Time, freezer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_agent.prover.acceptance.desk._LEAVE", 0.5)
    desk = Desk(DeskLimits(), clock)
    filling = desk.begin(place(), SMALL, NONCE)
    until(lambda: len(workers()) == 1)
    (freezer / "cgroup.procs").write_text(str(workers()[0]))
    (freezer / "freezer.state").write_text("FROZEN")
    desk.close()
    assert filling.done()


def test_ended_before_it_has_started__no_process_stays(desk: Desk) -> None:
    for number in range(2):
        desk.begin(place(number), SMALL, NONCE)
        desk.leave(place(number).lease.id)
    desk.close()
    assert workers() == []


def test_worker__says_how_far_it_is() -> None:
    said: list[dict[str, Any]] = []
    ticks = iter(range(10_000))
    orders = [
        json.dumps(
            {
                "engine": "cpu",
                "device": 0,
                "lease": lease_to_json(lease()),
                "work": messages.work_to_json(SMALL),
            }
        ),
        json.dumps({"step": "fill", "nonce": NONCE.hex()}),
        json.dumps({"step": "work", "nonce": OTHER.hex()}),
    ]
    respond(orders, said.append, clock=lambda: float(next(ticks)))
    assert [one["step"] for one in said if "step" in one] == ["fill", "work"]
    parts = [one["progress"] for one in said if "progress" in one]
    assert parts and all(0 <= part <= 1 for part in parts)
