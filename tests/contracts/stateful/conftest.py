# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.contracts.stateful.driver import Tally

TALLY = Tally()


@pytest.fixture(scope="session")
def tally() -> Tally:
    """What this session did; the terminal summary prints it."""
    return TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TALLY.sent:
        return
    terminalreporter.section("stateful tests")
    terminalreporter.line(TALLY.summary())
    for line in TALLY.lines():
        terminalreporter.line(line)
