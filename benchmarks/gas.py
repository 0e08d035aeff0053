# SPDX-License-Identifier: Apache-2.0
"""Measures whole transactions on anvil and compares them with `.gas-snapshot`.

    python -m benchmarks.gas             fails when any figure differs, or is above its target
    python -m benchmarks.gas --update    writes the snapshot

Figures are receipts' gas: base cost, calldata, execution and refunds.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import channels, disputes, leases, operations, proofs, snapshot
from benchmarks.capacity import Capacity
from benchmarks.chain import BenchmarkError, local_chain
from benchmarks.market import Market
from benchmarks.meter import Meter
from tools.contracts import ContractError

# Most gas of the steady state.
TARGETS = {
    "benchmark_commit": 65_000,
    "benchmark_open_eight_k32640": 2_500_000,
    "benchmark_open_one_k16320": 190_000,
    "benchmark_open_one_k32640": 330_000,
    "channels_claim_one": 48_000,
    "channels_claim_one_execution": 45_000,
    "channels_claim_ten": 215_000,
    "channels_claim_ten_execution": 200_000,
    "disputes_commit": 60_000,
    "disputes_draw_per_juror": 60_000,
    "disputes_open": 180_000,
    "disputes_reveal": 60_000,
    "emissions_claim": 90_000,
    "jobs_attest": 60_000,
    "jobs_attest_relayed": 60_000,
    "jobs_convict": 150_000,
    "jobs_lifecycle_total": 305_000,
    "leases_heartbeat": 35_000,
    "leases_whole_total": 350_000,
    "provider_register": 150_000,
    "staking_slash": 110_000,
}


def table_of(figures: dict[str, list[int]]) -> Table:
    """Every operation: steady state, first use, target."""
    table = Table(title="gas per transaction")
    table.add_column("operation")
    for heading in ("steady", "first", "target"):
        table.add_column(heading, justify="right")
    for name, cycles in sorted(figures.items()):
        target = TARGETS.get(name)
        style = "red" if target is not None and cycles[-1] > target else None
        limit = f"{target:,}" if target is not None else ""
        first = f"{cycles[0]:,}" if len(cycles) > 1 else ""
        table.add_row(name, f"{cycles[-1]:,}", first, limit, style=style)
    return table


def table_of_differences(rows: list[tuple[str, int | None, int | None]]) -> Table:
    """What differs from the snapshot."""
    table = Table(title="different from .gas-snapshot")
    table.add_column("operation")
    for heading in ("snapshot", "now", "change"):
        table.add_column(heading, justify="right")
    for name, before, now in rows:
        change = f"{now - before:+,}" if before is not None and now is not None else ""
        cells = (f"{gas:,}" if gas is not None else "none" for gas in (before, now))
        table.add_row(name, *cells, change)
    return table


def run(update: bool, console: Console) -> int:
    """Measure, print, compare; 0 when nothing differs and every target is met."""
    committed = {} if update else snapshot.read()
    meter = Meter()
    with local_chain() as chain:
        operations.measure(Market(chain), meter)
    with local_chain() as chain:
        disputes.measure(Market(chain), meter)
    with local_chain() as chain:
        leases.measure(leases.Rental(chain), meter)
    with local_chain() as chain:
        channels.measure(chain, meter)
    with local_chain() as chain:
        proofs.measure(Capacity(chain), meter)
    figures = meter.figures
    console.print(table_of(figures))
    missed = [name for name, target in TARGETS.items() if figures[name][-1] > target]
    measured = snapshot.flatten(figures)
    if update:
        snapshot.write(measured)
        console.print(f"wrote {snapshot.SNAPSHOT.name}")
    rows = [] if update else snapshot.differences(committed, measured)
    if rows:
        console.print(table_of_differences(rows))
        print("error: gas changed; if it is meant to, run make gas-update", file=sys.stderr)
    if missed:
        print(f"error: above target: {', '.join(sorted(missed))}", file=sys.stderr)
    return 1 if rows or missed else 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gas", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write .gas-snapshot")
    update = parser.parse_args().update
    try:
        return run(update, Console())
    except (BenchmarkError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
