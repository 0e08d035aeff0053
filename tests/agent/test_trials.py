# SPDX-License-Identifier: Apache-2.0
"""Runs of the agent's own, to try the sandbox and GPUs: none outlives who waits for it for long."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.runners import probe
from provider_agent.runners.process import ProcessRunner
from tests.agent.api_rig import wait_until
from tests.support import runs

pytestmark = pytest.mark.sandbox

GPU = Device("cuda", 0, "GPU", "GPU-0", 1 << 30, node="/dev/null")
HANGS = "import time\ntime.sleep(600)"


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that does not answer."""
    monkeypatch.setattr(probe, "PROGRAM", HANGS)


def begun(data: Path) -> bool:
    """Whether a trial runs there."""
    folder = data / "runs"
    names = [] if not folder.exists() else os.listdir(folder)
    return any((folder / name / "state.json").exists() for name in names)


def killed_while(data: Path, trial: str) -> None:
    """An agent begins a trial and is killed."""
    child = os.fork()
    if child == 0:
        try:
            runner = runs.make_runner(data, "none")
            runner.probe(GPU) if trial == "probe" else _check(runner)
        finally:
            os._exit(1)
    wait_until(lambda: begun(data), 30)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _check(runner: ProcessRunner) -> None:
    """A check whose agent never comes to look at it."""
    runner.poll = lambda run_id: time.sleep(600)  # type: ignore[method-assign,assignment,return-value] # the test's crash point
    runner.check()


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("trial", ["probe", "check"])
def test_killed_on_the_way__the_next_agent_ends_and_deletes_it(tmp_path: Path, trial: str) -> None:
    data = tmp_path / "data"
    killed_while(data, trial)
    runner = runs.make_runner(data, "none")
    assert runner.list() == ()
    assert os.listdir(data / "runs") == []


@pytest.mark.usefixtures("hanging")
def test_another_looks_at_the_same_place__a_trial_under_way_stays(tmp_path: Path) -> None:
    """`provider-agent check` next to an agent that tries a GPU."""
    data, said = tmp_path / "data", list[str]()
    runner = runs.make_runner(data, "none")
    thread = threading.Thread(target=lambda: said.append(runner.probe(GPU)))
    thread.start()
    wait_until(lambda: begun(data), 30)
    other = runs.make_runner(data, "none")
    (trial,) = other.list()
    assert other.poll(trial).phase.value == "running"
    (data / "runs" / trial / "stop").touch()
    thread.join(60)
    assert said != [""] and not thread.is_alive()
    assert os.listdir(data / "runs") == []


def test_runs_of_jobs__whatever_they_are_called__stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    runner = runs.make_runner(data, "none")
    names = ("a" * 64 + "-1-0", "prober", "checked")
    for name in names:
        runner.start(runs.python_run(tmp_path, name, "print(1)"))
        runs.wait(runner, name)
    assert runs.make_runner(data, "none").list() == tuple(sorted(names))


def test_trial_that_ends__nothing_is_left(tmp_path: Path) -> None:
    runner = runs.make_runner(tmp_path / "data", "none")
    runner.check()
    assert os.listdir(tmp_path / "data" / "runs") == []
