# SPDX-License-Identifier: Apache-2.0
"""A hostile hour against one agent, with honest jobs next to it.

    python -m benchmarks.siege [--minutes 6] [--orders 10000]

Real are the chain (anvil), the contracts, the agent as a process, its sandbox, and every attack.
First the agent serves honest jobs for a minute at rest. Then attackers come: junk orders, large
specifications, quotes without money, floods of uploads, idle sockets, jobs that fill the disk,
nodes that drip, veto and lie next to a good one, steps of the chain's clock, kill -9 of the agent
and of supervisors. Fails when collateral was lost or an honest job was not delivered. Figures are
also written to `.build/siege.json`, and each cycle to `.build/siege-cycles`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.siege.siege import Failed, Outcome, Phase, Spread, besiege
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
    for name in ("figure (p50 / p99)", "at rest", "under siege"):
        phases.add_column(name, justify="left" if "figure" in name else "right")
    rest, siege = outcome.rest, outcome.siege
    figures: tuple[tuple[str, Callable[[Phase], str]], ...] = (
        ("seconds", lambda one: f"{one.seconds:.0f}"),
        ("cycles", lambda one: str(one.cycles)),
        ("cycle", lambda one: _spread(one.cycle)),
        ("  without waits for a core and for nodes", lambda one: _spread(one.own)),
        ("  computing", lambda one: _spread(one.cpu)),
        ("  waiting for a core", lambda one: _spread(one.queue)),
        ("  waiting for nodes", lambda one: _spread(one.node)),
        ("  waiting for the database", lambda one: _spread(one.disk)),
        ("  waiting for other threads", lambda one: _spread(one.others)),
        ("the agent's part of one core", lambda one: f"{one.cpu_share:.0%}"),
        ("processes that want a core", lambda one: f"{one.load:.1f}"),
        ("memory (RSS)", lambda one: f"{one.rss:.0f} MiB"),
        ("RPC calls per second, good node", lambda one: f"{one.calls_a_second:.1f}"),
        ("honest jobs posted", lambda one: str(one.honest_posted)),
    )
    for name, figure in figures:
        phases.add_row(name, figure(rest), figure(siege))
    console.print(phases)
    attacks = Table(title="attacks")
    for name in ("what", "tried", "taken", "refused, by code"):
        attacks.add_column(name, justify="right" if name in ("tried", "taken") else "left")
    for name, counts in sorted(outcome.attacks.items()):
        refused = {how: number for how, number in counts.items() if how != "taken"}
        said = ", ".join(f"{how} {n:,}" for how, n in sorted(refused.items(), key=lambda p: -p[1]))
        attacks.add_row(name, f"{sum(counts.values()):,}", f"{counts.get('taken', 0):,}", said)
    attacks.add_row("agent killed", str(outcome.agent_kills), str(outcome.agent_kills), "")
    console.print(attacks)
    for said, number in outcome.left.items():
        console.print(f"not paid, {said}: {number}", highlight=False)
    console.print(
        f"collateral lost {outcome.collateral_lost / 10**18:g} TPF; honest jobs paid "
        f"{outcome.delivered} of {outcome.honest}; slowest cycles {outcome.slowdown:.1f} times as "
        f"long as at rest (aim {AIM:g}), without waits for a core and for nodes "
        f"{outcome.own_slowdown:.1f} times; attackers paid {outcome.attacker_gas:,} gas and "
        f"{outcome.attacker_paid / 10**6:g} dollars",
        highlight=False,
    )


def _spread(one: Spread) -> str:
    return f"{one.p50 * 1000:.0f} / {one.p99 * 1000:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when the agent has held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of the attack")
    parser.add_argument("--orders", type=int, help="junk orders; fewer in fewer minutes")
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    orders = options.orders or min(ORDERS, round(ORDERS * options.minutes / MINUTES))
    RESULT.parent.mkdir(exist_ok=True)
    try:
        outcome = run(options.minutes, orders)
    except (AssertionError, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    told = {"slowdown": outcome.slowdown, "own_slowdown": outcome.own_slowdown}
    RESULT.write_text(json.dumps({**asdict(outcome), **told}, indent=1))
    show(outcome)
    return 0 if outcome.held else 1


if __name__ == "__main__":
    sys.exit(main())
