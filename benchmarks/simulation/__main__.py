# SPDX-License-Identifier: Apache-2.0
"""What jobs cost an agent's nodes, in virtual time: RPC calls per job, by method.

    python -m benchmarks.simulation                      40 jobs at once
    python -m benchmarks.simulation --days 2             10,000 jobs per day
    python -m benchmarks.simulation --days 2 --jobs 500  as many a day as you like

The chain is anvil with the real contracts and a block every 12 s. The node admits 25 calls per
second and takes 50 ms for each. The agent is the real one without its API and its sandbox. Fails
when a job is not paid. Figures are also written to `.build/simulation.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.simulation.clock import Clock

if TYPE_CHECKING:
    from benchmarks.simulation.market import Outcome, Plan

DAY = 86_400
AT_ONCE, A_DAY = 40, 10_000
RATE = 25.0  # calls per second, as the free plans of providers
LATENCY = 0.05  # seconds a call


def plan_of(options: argparse.Namespace) -> Plan:
    """What the arguments ask for. Jobs come by chance, the same ones for the same seed."""
    from benchmarks.simulation.market import Plan

    if options.days is None:
        posts = [0.0] * (options.jobs or AT_ONCE)
        return Plan(posts, seconds=2, slots=options.slots, block_seconds=options.block_seconds)
    jobs = round(options.days * (options.jobs or A_DAY))
    chance = random.Random(options.seed)
    posts = sorted(chance.uniform(0, options.days * DAY) for _ in range(jobs))
    return Plan(
        posts, seconds=20, slots=options.slots, block_seconds=options.block_seconds, window=600
    )


def simulate(folder: Path, clock: Clock, options: argparse.Namespace) -> Outcome:
    """Run it in a fresh directory, with a bar. Raises AssertionError when jobs do not end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from benchmarks.simulation.market import Market
    from benchmarks.simulation.node import Node
    from tests.agent_e2e.world import market
    from tests.support.anvil import Anvil

    plan = plan_of(options)
    node = Node(options.rate, LATENCY)
    node.install()
    anvil = Anvil(
        arguments=["--order", "fifo", "--gas-limit", "60000000", "--prune-history", "256"]
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with market(folder, anvil, challenge_window=plan.window) as world, Progress(*columns) as bars:
        posted = bars.add_task("posted", total=len(plan.posts))
        paid = bars.add_task("paid", total=len(plan.posts))

        def tell(posts: int, payments: int) -> None:
            bars.update(posted, completed=posts)
            bars.update(paid, completed=payments)

        return Market(world, clock, node, plan).run(tell)


def show(outcome: Outcome) -> None:
    """The table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{outcome.jobs} jobs, {outcome.hours:.1f} h of the chain in {outcome.seconds:.0f} s"
    )
    for name in ("method", "calls", "a job", "a block when idle"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method in sorted({*outcome.calls, *outcome.idle}, key=lambda m: -outcome.calls.get(m, 0)):
        calls = outcome.calls.get(method, 0)
        table.add_row(
            method,
            str(calls),
            f"{calls / outcome.jobs:.2f}",
            f"{outcome.idle.get(method, 0):.2f}",
        )
    table.add_section()
    table.add_row(
        "all",
        str(sum(outcome.calls.values())),
        f"{outcome.calls_a_job:.1f}",
        f"{sum(outcome.idle.values()):.2f}",
    )
    console = Console()
    console.print(table)
    console.print(
        f"paid {outcome.settled} of {outcome.jobs}, expired {outcome.expired}; transactions/job "
        f"{outcome.transactions / outcome.jobs:.2f}; blocks {outcome.blocks}; most calls in a "
        f"second {outcome.busiest}, refused by the node {outcome.refused}",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when every job is paid."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, help=f"default: {AT_ONCE}, or {A_DAY} a day")
    parser.add_argument("--days", type=float, help="without it, all are posted at once")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--block-seconds", type=int, default=12)
    parser.add_argument("--rate", type=float, default=RATE, help="calls per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", action="store_true", help="show what the agent logs")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.log else logging.CRITICAL)
    clock = Clock()
    clock.install()
    from tests.support.anvil import ROOT

    try:
        with tempfile.TemporaryDirectory() as folder:
            outcome = simulate(Path(folder), clock, options)
    except AssertionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = ROOT / ".build" / "simulation.json"
    result.parent.mkdir(exist_ok=True)
    result.write_text(
        json.dumps({**asdict(outcome), "calls_a_job": outcome.calls_a_job}, indent=1) + "\n"
    )
    show(outcome)
    return 0 if outcome.settled == outcome.jobs else 1


if __name__ == "__main__":
    sys.exit(main())
