# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several files of this directory use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.duty_rig import Rig
from tests.agent.hostile import Machine
from tests.support import runs
from tests.support.anvil import Anvil


@pytest.fixture(scope="session")
def anvil_process() -> Iterator[Anvil]:
    """One anvil for the whole run."""
    with Anvil() as chain:
        yield chain


@pytest.fixture
def anvil(anvil_process: Anvil) -> Anvil:
    """A fresh chain for each test: reorgs and base fees leave nothing behind."""
    anvil_process.reset()
    return anvil_process


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """The jobs duty and everything around it."""
    made = Rig(tmp_path)
    yield made
    made.duty.close()
    made.store.close()


def lasting_threads() -> int:
    """How many threads there are once those that remove a run have ended."""
    for thread in threading.enumerate():
        if thread.name == "remove":
            thread.join(60)
    return threading.active_count()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A sandbox for one hostile job, and what must hold after it."""
    runs.need_bubblewrap()
    made = Machine(tmp_path)
    threads = lasting_threads()
    yield made
    assert runs.marked(made.marker) == []
    assert (made.data / "runs" / "hostile" / "supervisor.log").read_text() == ""
    made.runner.remove("hostile")
    assert made.runner.list() == ()
    runs.wait_for_nothing_in(made.data / "runs")
    runs.wait_for_no_loops(made.data)
    assert lasting_threads() == threads
