# SPDX-License-Identifier: Apache-2.0
"""A hostile hour against one agent, with honest jobs next to it.

    python -m benchmarks.siege [--minutes 6] [--orders 10000]

Real are the chain (anvil), the contracts, the agent as a process, its sandbox, and every attack.
First the agent serves honest jobs for a minute at rest. Then attackers come: junk orders, large
specifications, quotes without money, floods of uploads, idle sockets, jobs that fill the disk,
nodes that drip, veto and lie next to a good one, steps of the chain's clock, kill -9 of the agent
and of supervisors. Fails when collateral was lost or an honest job was not delivered. Figures are
also written to `.build/siege.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.siege.siege import Failed, Outcome, besiege
from tests.support.anvil import ROOT

RESULT = ROOT / ".build" / "siege.json"
MINUTES, ORDERS = 6.0, 10_000
AIM = 5.0  # times as long as at rest, for the slowest cycles


def run(minutes: float, orders: int) -> Outcome:
    """The siege, with a bar for each phase."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns) as bars:
        shown: dict[str, TaskID] = {}

        def tell(phase: str, part: float) -> None:
            if phase not in shown:
                shown[phase] = bars.add_task(phase, total=1.0)
            bars.update(shown[phase], completed=part)

        return besiege(Path(folder), minutes, orders, tell)


def show(outcome: Outcome) -> None:
    """The tables."""
    console = Console()
    phases = Table(title=f"one agent, {outcome.honest} honest jobs")
    for name in ("figure", "at rest", "under siege"):
        phases.add_column(name, justify="left" if name == "figure" else "right")
    rest, siege = outcome.rest, outcome.siege
    for name, first, second in (
        ("seconds", f"{rest.seconds:.0f}", f"{siege.seconds:.0f}"),
        ("cycles", str(rest.cycles), str(siege.cycles)),
        ("cycle, p50", f"{rest.cycle_p50 * 1000:.0f} ms", f"{siege.cycle_p50 * 1000:.0f} ms"),
        ("cycle, p99", f"{rest.cycle_p99 * 1000:.0f} ms", f"{siege.cycle_p99 * 1000:.0f} ms"),
        ("memory (RSS)", f"{rest.rss:.0f} MiB", f"{siege.rss:.0f} MiB"),
        (
            "RPC calls per second, good node",
            f"{rest.calls_a_second:.1f}",
            f"{siege.calls_a_second:.1f}",
        ),
        ("honest jobs posted", str(rest.honest_posted), str(siege.honest_posted)),
    ):
        phases.add_row(name, first, second)
    console.print(phases)
    attacks = Table(title="attacks")
    attacks.add_column("what")
    attacks.add_column("number", justify="right")
    for name, number in sorted({**outcome.attacks, "agent killed": outcome.agent_kills}.items()):
        attacks.add_row(name, str(number))
    console.print(attacks)
    for said, number in outcome.left.items():
        console.print(f"not paid, {said}: {number}", highlight=False)
    console.print(
        f"collateral lost {outcome.collateral_lost / 10**18:g} TPF; honest jobs paid "
        f"{outcome.delivered} of {outcome.honest}; slowest cycles {outcome.slowdown:.1f} times as "
        f"long as at rest (aim {AIM:g}); attackers paid {outcome.attacker_gas:,} gas and "
        f"{outcome.attacker_paid / 10**6:g} dollars",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when the agent has held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of the attack")
    parser.add_argument("--orders", type=int, help="junk orders; fewer in fewer minutes")
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    orders = options.orders or min(ORDERS, round(ORDERS * options.minutes / MINUTES))
    try:
        outcome = run(options.minutes, orders)
    except (AssertionError, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({**asdict(outcome), "slowdown": outcome.slowdown}, indent=1))
    show(outcome)
    return 0 if outcome.held else 1


if __name__ == "__main__":
    sys.exit(main())
