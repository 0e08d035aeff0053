# SPDX-License-Identifier: Apache-2.0
"""Posts many jobs at once to one agent and measures until the last one is paid.

    python -m benchmarks.throughput [--jobs 200] [--slots 4]

The chain is anvil with a block a second; the agent is the installed wheel as its own process with
the real sandbox. Jobs are as small as they get, so what is measured is the agent and the market
around a job. Figures are also written to `.build/throughput.json`.
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

from rich.console import Console
from rich.table import Table

from teraproof.contracts.jobs import Accepted, Attested, JobsContract, Settled
from teraproof.protocol.terms import Order
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import DAY, TPF, USD
from tests.agent_e2e.world import QUICK, World, market
from tests.support.anvil import ROOT, Anvil

RESULT = ROOT / ".build" / "throughput.json"
WINDOW = 10  # seconds: the least that the contract allows
SECONDS_A_JOB = 10  # more than that means that something hangs
BARS = 16
WIDTH = 40


class BenchmarkError(Exception):
    """One line for a person: what went wrong and what to do."""


@dataclass(frozen=True)
class Figures:
    """What was measured. Times are seconds, from the first `post`."""

    jobs: int
    slots: int
    settled: int
    wall_seconds: float
    jobs_per_minute: float
    """Attested jobs per minute, from the first acceptance to the last attestation."""
    transactions: int
    transactions_per_job: float
    agent_peak_memory_mb: float
    agent_cpu_seconds: float
    accepted_at: list[int]
    attested_at: list[int]
    settled_at: list[int]


def measure(directory: Path, jobs: int, slots: int) -> Figures:
    """Run the whole thing in a fresh directory. Raises BenchmarkError unless all are settled."""
    settings = {"TERAPROOF_AGENT__SLOTS": str(slots), "TERAPROOF_AGENT__ACCEPT_AHEAD": "3"}
    with market(
        directory,
        Anvil(arguments=["--order", "fifo", "--gas-limit", "300000000"]),
        challenge_window=WINDOW,
        settings=settings,
    ) as world:
        inputs = world.job_directory("job", QUICK)
        specs = [world.spec(inputs, env={"JOB": str(n)}) for n in range(jobs)]
        world.start_agent()
        world.anvil.set_automine(False)
        world.anvil.set_block_time(1)
        begin, first_block = time.monotonic(), world.anvil.timestamp()
        orders = [
            Order(
                spec=spec.digest(),
                start_price=1 * USD,
                max_price=1 * USD,
                collateral=TPF,
                duration=DAY,
                auction=0,
                min_stake=0,
                min_score=0,
                allow_root=bytes(32),
                nonce=n,
            )
            for n, spec in enumerate(specs)
        ]
        world.deployment.transact(
            *(world.jobs.call(world.tenant, "post", order.abi_tuple()) for order in orders)
        )
        for spec in specs:
            world.client().upload(spec, inputs)
        settled = 0
        while settled < jobs:
            if time.monotonic() - begin > SECONDS_A_JOB * jobs + 60:
                raise BenchmarkError(
                    f"{settled} of {jobs} jobs are settled after {time.monotonic() - begin:.0f} s; "
                    f"the agent says:\n{world.log()}"
                )
            time.sleep(0.5)
            settled = int(world.rows("SELECT count(*) FROM jobs WHERE status = 4")[0][0])
        wall = time.monotonic() - begin
        peak, cpu = _usage(world)
        accepted, attested, paid = _times(world, first_block)
        sent = world.anvil.nonce(world.operator.address)
        if world.stop_agent() != 0 or world.left_processes():
            raise BenchmarkError("the agent did not end cleanly; its log: run the tests")
    busy = max(1, attested[-1] - accepted[0])
    return Figures(
        jobs=jobs,
        slots=slots,
        settled=len(paid),
        wall_seconds=round(wall, 1),
        jobs_per_minute=round(60 * len(attested) / busy, 1),
        transactions=sent,
        transactions_per_job=round(sent / jobs, 3),
        agent_peak_memory_mb=round(peak / 1024, 1),
        agent_cpu_seconds=round(cpu, 1),
        accepted_at=accepted,
        attested_at=attested,
        settled_at=paid,
    )


def _usage(world: World) -> tuple[int, float]:
    """Peak memory in KiB and CPU seconds of the agent's own process."""
    assert world.process is not None
    place = Path("/proc") / str(world.process.pid)
    lines = dict(
        line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line
    )
    times = (place / "stat").read_text().rsplit(")", 1)[1].split()
    return int(lines["VmHWM"].split()[0]), (int(times[11]) + int(times[12])) / os.sysconf(
        "SC_CLK_TCK"
    )


def _times(world: World, start: int) -> tuple[list[int], list[int], list[int]]:
    """When jobs were accepted, attested and settled, in seconds of the chain since `start`."""
    pool = RpcPool([world.anvil.url], world.anvil.chain_id)
    contract = JobsContract(pool, world.jobs.address)
    found: dict[type, list[int]] = {Accepted: [], Attested: [], Settled: []}
    clock: dict[int, int] = {}
    for entry in pool.logs([contract.address], 0, world.anvil.number()):
        event = contract.decode(entry)
        if type(event) in found:
            number = entry.block_number
            if number not in clock:
                clock[number] = pool.block(number).timestamp
            found[type(event)].append(clock[number] - start)
    pool.close()
    return tuple(sorted(times) for times in found.values())  # type: ignore[return-value]  # three


def show(figures: Figures, console: Console) -> None:
    """The table, and how the jobs went over time."""
    table = Table(title=f"{figures.jobs} jobs posted at once, {figures.slots} slots")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        ("settled", str(figures.settled)),
        ("wall time", f"{figures.wall_seconds} s"),
        ("jobs per minute", str(figures.jobs_per_minute)),
        ("transactions per job", str(figures.transactions_per_job)),
        ("agent's peak memory", f"{figures.agent_peak_memory_mb} MiB"),
        ("agent's CPU time", f"{figures.agent_cpu_seconds} s"),
    ):
        table.add_row(name, value)
    console.print(table)
    for line in bars(figures):
        console.print(line, highlight=False)


def bars(figures: Figures) -> list[str]:
    """Jobs accepted (.), attested (=) and settled (#) by then, one line a slice of time."""
    end = max(figures.settled_at)
    lines = [f"{'time':>7}  accepted . attested = settled #"]
    for n in range(1, BARS + 1):
        until = end * n / BARS
        reached = [
            WIDTH * sum(time <= until for time in times) // figures.jobs
            for times in (figures.settled_at, figures.attested_at, figures.accepted_at)
        ]
        settled, attested, accepted = reached
        bar = "#" * settled + "=" * (attested - settled) + "." * (accepted - attested)
        lines.append(f"{until:6.0f}s  {bar}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all jobs are settled."""
    parser = argparse.ArgumentParser(description="many jobs at once to one agent")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--slots", type=int, default=4)
    chosen = parser.parse_args(arguments)
    if chosen.jobs < 1 or chosen.slots < 1:
        parser.error("--jobs and --slots must be at least 1")
    try:
        with tempfile.TemporaryDirectory() as directory:
            figures = measure(Path(directory), chosen.jobs, chosen.slots)
    except (BenchmarkError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    show(figures, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
