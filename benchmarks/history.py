# SPDX-License-Identifier: Apache-2.0
"""What ended jobs cost an agent: its start, its cycles and a public request, with and without them.

    python -m benchmarks.history [--jobs 100000] [--rounds 5] [--seconds 10]

Two agents of two providers stand on one market with an open job that neither wants. One has a new
database, the other one with that many ended jobs. They run by turns, so that what else the machine
does meets both. Each figure is the least of its rounds: other work only adds. Times are CPU times
of the agent's process, and the wall clock next to them. Also written to `.build/history.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from provider_agent.modules.all import open_store
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.store import IntentState
from tests.agent_e2e.chain import mining
from tests.agent_e2e.world import World, market
from tests.support.anvil import ROOT, Anvil

RESULT = ROOT / ".build" / "history.json"
ACTIONS = ("accept", "attest", "finalize")
REQUESTS = 50


@dataclass(frozen=True)
class Figures:
    """One agent's life. Seconds, and bytes."""

    start_wall: float
    start_cpu: float
    cycle_wall: float
    cycle_cpu: float
    """CPU time of the whole process for each cycle."""
    request_wall: float
    request_cpu: float
    peak_memory: int


def fill(path: Path, owner: str, jobs: int) -> None:
    """Put ended jobs into an agent's database and let it move them, as in an hour of its life."""
    ended = int(time.time()) - 7200
    store = open_store(path, clock=lambda: float(ended))
    for first in range(0, jobs, 5000):
        numbers = range(first, min(jobs, first + 5000))
        ids = [n.to_bytes(32, "big") for n in numbers]
        with store.transaction() as db:
            db.executemany(
                "INSERT INTO jobs (job_id, terms, requester, spec, status, provider, price, note, "
                "assigned_at, attested_at, result, receipt, settled_at, updated_at) "
                "VALUES (?, ?, 'tenant', ?, 4, ?, '1000000', 'paid', ?, ?, ?, ?, ?, ?)",
                [
                    (i, os.urandom(512), i, owner, str(ended), str(ended), i, i, ended, ended)
                    for i in ids
                ],
            )
            db.executemany(
                "INSERT INTO intents (contract, object_id, action, target, data, value, state, "
                "tx_hash, block_number, block_hash, status, gas_used, gas_price, created_at, "
                "updated_at) VALUES ('jobs', ?, ?, 'jobs', ?, '0', ?, ?, 1, ?, 1, 1, 1, ?, ?)",
                [
                    (i.hex(), action, os.urandom(600), IntentState.FINAL, i, i, ended, ended)
                    for i in ids
                    for action in ACTIONS
                ],
            )
            db.executemany(
                "INSERT INTO runs (run_id, job_id, state, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?)",
                [(f"{i.hex()}-1-0", i, RunStage.COLLECTED, ended, ended) for i in ids],
            )
    while Jobs(store).end_jobs(deep=10**9, before=ended + 1, limit=2000):
        pass
    store.give_back_room()
    store.close()


def live(world: World, seconds: float) -> Figures:
    """Start an agent, look at it for some seconds, stop it."""
    begin = time.monotonic()
    world.start_agent()
    start_wall = time.monotonic() - begin
    start_cpu = _cpu(world)
    time.sleep(2)  # the first cycles read what later ones know
    before, cpu = _cycles(world), _cpu(world)
    time.sleep(seconds)
    after, spent = _cycles(world), _cpu(world) - cpu
    cycles = max(1.0, after[0] - before[0])
    url = f"http://127.0.0.1:{world.api_port}/v1/provider"
    cpu, begin = _cpu(world), time.monotonic()
    with httpx.Client(trust_env=False) as client:
        for _ in range(REQUESTS):
            client.get(url).raise_for_status()
    request_wall = (time.monotonic() - begin) / REQUESTS
    request_cpu = (_cpu(world) - cpu) / REQUESTS
    assert world.process is not None
    status = (Path("/proc") / str(world.process.pid) / "status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) << 10
    world.stop_agent()
    return Figures(
        start_wall,
        start_cpu,
        (after[1] - before[1]) / cycles,
        spent / cycles,
        request_wall,
        request_cpu,
        peak,
    )


def _cycles(world: World) -> tuple[float, float]:
    """Number of cycles so far, and seconds in them."""
    url = f"http://127.0.0.1:{world.status_port}/metrics"
    values = dict(
        line.rsplit(" ", 1)
        for line in httpx.get(url, trust_env=False).text.splitlines()
        if not line.startswith("#")
    )
    name = "teraproof_agent_reconcile_seconds"
    return float(values[f"{name}_count"]), float(values[f"{name}_sum"])


def _cpu(world: World) -> float:
    assert world.process is not None
    stat = (Path("/proc") / str(world.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, jobs: int, rounds: int, seconds: float) -> dict[str, Figures]:
    """The figures of both agents."""
    with market(folder / "empty", Anvil(arguments=["--order", "fifo"])) as empty:
        full = World(folder / "full", empty.deployment).set_up()
        try:
            with mining(empty.anvil, every=1.0):
                for world in (empty, full):
                    world.quick_job(start_price=0, max_price=1)
                    world.start_agent()
                    time.sleep(2)
                    world.stop_agent()
                database = full.directory / "agent" / "data" / "agent.sqlite"
                fill(database, full.owner.address, jobs)
                found: dict[str, list[Figures]] = {"empty": [], "full": []}
                for number in range(rounds):
                    # The first one changes: the machine may get busier on the way.
                    pair = [("empty", empty), ("full", full)]
                    for name, world in pair if number % 2 == 0 else reversed(pair):
                        found[name].append(live(world, seconds))
        finally:
            full.close()
    return {name: _least(lives) for name, lives in found.items()}


def _least(lives: list[Figures]) -> Figures:
    rows = [asdict(life) for life in lives]
    return Figures(**{name: min(row[name] for row in rows) for name in rows[0]})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.jobs, options.rounds, options.seconds)
    empty, full = asdict(figures["empty"]), asdict(figures["full"])
    table = Table(title=f"{options.jobs} ended jobs")
    for name in ("", "none", "that many", "ratio"):
        table.add_column(name)
    ratios = {name: full[name] / empty[name] if empty[name] else 1.0 for name in empty}
    for name, ratio in ratios.items():
        scale, unit = (1 << 20, "MiB") if name == "peak_memory" else (0.001, "ms")
        table.add_row(
            name.replace("_", " "),
            f"{empty[name] / scale:.1f} {unit}",
            f"{full[name] / scale:.1f} {unit}",
            f"{ratio:.2f}",
        )
    Console().print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"empty": empty, "full": full, "ratios": ratios}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
