# SPDX-License-Identifier: Apache-2.0
"""What an error of one part of the cycle means for it, for the others, and for the agent."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from provider_agent.core.metrics import Metrics
from provider_agent.core.policy import Policy, contained
from provider_agent.errors import KeyInUse, RunnerError
from provider_agent.store import StoreError
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_000.0
        self.metrics = Metrics()
        self.policy = Policy(
            folder / "agent.sqlite", self.metrics, pause=2, max_age=80, clock=lambda: self.now
        )

    def ready(self) -> dict[str, bool]:
        return {check.name: check.ok for check in self.policy.checks()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("words that nobody decides by")
    error.sqlite_errorcode = code
    return error


TROUBLES = [
    ChainError("no node answers"),
    RunnerError("the sandbox is gone"),
    sqlite_error(sqlite3.SQLITE_FULL),
    sqlite_error(sqlite3.SQLITE_BUSY),
    OSError(5, "Input/output error"),
    ZeroDivisionError("a bug"),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda error: type(error).__name__)
def test_run__trouble_of_one_part__contained_counted_and_named(
    rig: Rig, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    assert not rig.policy.run("proofs", raising(trouble))
    assert rig.policy.run("jobs", lambda: done.append("jobs"))
    assert done == ["jobs"]
    assert caplog.records[0].message.startswith("proofs: ")
    text = rig.metrics.exposition().decode()
    assert 'teraproof_agent_part_failures_total{part="proofs"} 1.0' in text
    assert 'teraproof_agent_last_success_timestamp{part="jobs"}' in text
    assert 'teraproof_agent_last_success_timestamp{part="proofs"}' not in text


@pytest.mark.parametrize(
    "fatal",
    [
        KeyInUse("somebody else sends with this key"),
        StoreError(Code.DATABASE_GONE, "the file was moved"),
        sqlite_error(sqlite3.SQLITE_CORRUPT),
    ],
    ids=lambda error: type(error).__name__,
)
def test_run__what_ends_an_agent__goes_up(rig: Rig, fatal: Exception) -> None:
    with pytest.raises((KeyInUse, StoreError)):
        rig.policy.run("jobs", raising(fatal))


def test_run__bug__its_traceback_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.policy.run("jobs", raising(ZeroDivisionError("a bug")))
    assert caplog.records[0].exc_info is not None and caplog.records[0].levelno == logging.ERROR


def test_run__fails_again_and_again__its_pause_grows_and_ends_with_success(rig: Rig) -> None:
    tries: list[float] = []

    def work() -> None:
        tries.append(rig.now)
        if len(tries) < 8:
            raise ChainError("no node answers")

    for _ in range(400):
        rig.policy.run("jobs", work)
        rig.now += 1
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps[:8] == [4, 8, 16, 32, 60, 60, 60, 1]
    assert rig.policy.wait("jobs") == 0


def test_checks__failing_part__named_once_it_lasts(rig: Rig) -> None:
    rig.policy.run("jobs", lambda: None)
    rig.policy.run("proofs", raising(ChainError("no node answers")))
    assert rig.ready() == {"jobs": True, "proofs": True}, "one failure may pass"
    rig.now += 81
    rig.policy.run("jobs", lambda: None)
    rig.policy.run("proofs", raising(ChainError("no node answers")))
    assert rig.ready() == {"jobs": True, "proofs": False}
    rig.now += 60
    rig.policy.run("proofs", lambda: None)
    assert rig.ready() == {"jobs": True, "proofs": True}


def test_contained__one_thing_of_many__only_its_own_bug_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raising_a_bug = raising(ZeroDivisionError())
    with contained("job 0xab: skipped"):
        raising_a_bug()
    assert caplog.records[0].message == "job 0xab: skipped"
    for error in (ChainError("down"), sqlite_error(sqlite3.SQLITE_FULL)):
        with pytest.raises(type(error)), contained("job 0xab: skipped"):
            raise error
