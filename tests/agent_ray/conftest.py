# SPDX-License-Identifier: Apache-2.0
"""One cluster for the whole run, and agents that leave nothing behind."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from tests.agent_ray.fleet import Fleet, eventually, joined
from tests.agent_ray.processes import running

if importlib.util.find_spec("ray") is None:
    pytest.skip(
        "Ray is not in this environment; make fleet makes .venv-ray", allow_module_level=True
    )

from provider_agent.runners.ray.runner import RayRunner

Agents = Callable[..., RayRunner]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Machines a and b."""
    with tempfile.TemporaryDirectory(prefix="tp-fleet-") as place:
        try:
            made = Fleet(Path(place))
        except Exception as error:  # Ray has nothing more exact
            pytest.skip(f"Ray does not start here: {error}")
        yield made
        made.end()


@pytest.fixture(scope="session")
def agents(fleet: Fleet) -> Iterator[Agents]:
    """Makes agents by name; the same name is the same agent, started again."""
    made: list[RayRunner] = []

    def agent(name: str = "one", **more: str) -> RayRunner:
        runner = RayRunner(fleet.place / name, fleet.terms(f"agent {name}", fleet.place, **more))
        made.append(runner)
        joined(runner)
        return runner

    yield agent
    for runner in made:
        runner.close()


@pytest.fixture(scope="session")
def first(agents: Agents) -> RayRunner:
    """An agent that most tests use."""
    return agents("one")


@pytest.fixture
def runner(first: RayRunner) -> Iterator[RayRunner]:
    """It has no leases, before and after."""
    joined(first)  # again, where a busy machine has thrown it out
    yield first

    def clear() -> bool:
        with contextlib.suppress(RunnerError):
            first.keep([])
        return first.list() == () and not first._fleet.look().holds

    eventually(clear)
    joined(first)
    assert not first._fleet.survey.holds
    assert not running("agent one", "")
