# SPDX-License-Identifier: Apache-2.0
"""A provider whose leases run on a fleet: a cluster of Ray with two machines, a and b."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rentals.market import RentalWorld
from tests.support.anvil import ROOT
from tools.engine import TOOLS

PYTHON = ROOT / ".venv-ray" / "bin" / "python"
JOINED = 120.0  # seconds in which both machines are there
#: What leases may have of a machine is said to Ray there.
_OF_ONE_MACHINE = tuple(f"TERAPROOF_LEASES__{name}" for name in ("CPUS", "MEMORY_MB", "DISK_MB"))


class Cluster:
    """Ray, in a process that has it; see `tests/agent_ray/fleet_process.py`. `place` is an empty
    directory with a short path. RuntimeError when Ray does not start.
    """

    def __init__(self, place: Path) -> None:
        if not PYTHON.exists():
            raise RuntimeError("there is no .venv-ray; make fleet makes it")
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "tests.agent_ray.fleet_process", str(place)],
            cwd=ROOT,
            env={"PATH": f"{TOOLS}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = self._hear()
        self.address, self.token = found["address"], Path(found["token"])

    def do(self, what: str, machine: str = "") -> None:
        """`kill` has Ray's daemon on a machine die, `start` has it join again; others are said
        there.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, "machine": machine}) + "\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.end()
            raise RuntimeError("Ray does not do it here, as on an overloaded machine; try again")
        return dict(json.loads(line))

    def end(self) -> None:
        """All of it."""
        self._process.communicate()


@contextlib.contextmanager
def fleet(world: RentalWorld, place: Path) -> Iterator[Cluster]:
    """Have the leases of a world, whose agent has not begun, run on a cluster."""
    place.mkdir()
    cluster = Cluster(place)
    try:
        world.python = PYTHON
        world.settings = {
            **{name: said for name, said in world.settings.items() if name not in _OF_ONE_MACHINE},
            "PYTHONPATH": str(ROOT),
            "TERAPROOF_LEASES__RUNNER": "ray",
            "TERAPROOF_LEASES__RAY_ADDRESS": cluster.address,
            "TERAPROOF_LEASES__RAY_TOKEN_FILE": str(cluster.token),
            "TERAPROOF_LEASES__RAY_DATA_DIR": str(world.directory / "nodes"),
        }
        yield cluster
    finally:
        world.kill_agent()
        cluster.end()
