# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import boa
import pytest
from hypothesis import settings

from tests.contracts.stateful.chain import EXECUTED
from tests.contracts.stateful.machine import MarketMachine
from tests.contracts.stateful.market import build_market
from tests.contracts.stateful.profiles import COUNTS, DEEP_TRANSACTIONS, register_profiles

register_profiles()
_spent = 0.0


@pytest.fixture(scope="session", autouse=True)
def market() -> Iterator[None]:
    """Deployed once; every example starts from here and leaves it as it was."""
    MarketMachine.market = build_market()
    # A third faster; only the accounting of warm and cold slots is left out.
    boa.env.enable_fast_mode()
    yield
    boa.env.enable_fast_mode(False)


@pytest.fixture(autouse=True)
def stopwatch() -> Iterator[None]:
    global _spent
    started = time.monotonic()
    yield
    _spent += time.monotonic() - started


def _too_few() -> bool:
    # A part of `make fuzz` leaves its numbers to be added up.
    deep = settings.get_current_profile_name() == "deep" and COUNTS not in os.environ
    return deep and 0 < EXECUTED["transactions"] < DEEP_TRANSACTIONS


def pytest_sessionfinish(session: pytest.Session) -> None:
    if COUNTS in os.environ:
        Path(os.environ[COUNTS]).write_text(json.dumps(dict(EXECUTED)))
    if _too_few() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sent = EXECUTED["transactions"]
    if not sent:
        return
    terminalreporter.section("stateful tests")
    terminalreporter.line(
        f"{sent:,} transactions ({EXECUTED['reverted']:,} refused, as the model said) in"
        f" {EXECUTED['examples']:,} examples, {sent / _spent:.0f} a second;"
        f" most dust left in a pool: {EXECUTED['dust']:,} wei"
    )
    if EXECUTED["halvings"]:
        terminalreporter.line(
            f"rewards: {EXECUTED['openings']:,} samples shown, {EXECUTED['failures']:,} proofs"
            f" failed; at most {EXECUTED['halvings']} halvings in an example"
        )
    if _too_few():
        terminalreporter.line(f"error: a deep run takes {DEEP_TRANSACTIONS:,} transactions")
