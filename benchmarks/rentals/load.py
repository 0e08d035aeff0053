# SPDX-License-Identifier: Apache-2.0
"""Rents many small containers from one agent, and measures what they cost it.

    python -m benchmarks.rentals.load [--leases 100] [--at-once 1] [--rest 120]

Real are the chain (anvil with a block a second), the contracts, the agent as a process, and Docker
Engine. Each lease is hired by a signed quote. Then nothing happens for a while, then all leases are
closed, and nothing happens again. Fails when the agent sends more than a heartbeat a period, sends
anything while it has no lease, or leaves anything behind. Needs root and `make engine`. Figures are
also written to `.build/lease-load.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.rentals.command import BenchmarkError, engine_and_place, run
from benchmarks.rentals.market import NO_ROOM, Rental, RentalWorld, rental_market
from benchmarks.rentals.rent import most_beats, quantile
from teraproof.client.leases import LeaseClient
from teraproof.errors import RemoteError
from teraproof.protocol.lease_terms import LeaseStatus
from tests.agent.faulty_rpc import FaultyRpc
from tests.support.anvil import ROOT

RESULT = ROOT / ".build" / "lease-load.json"
READY = 600.0  # seconds in which a lease must run
GONE = 300.0  # seconds in which all must be gone from the machine
START = 240.0  # seconds in which an agent answers

Say = Callable[[str], None]


@dataclass(frozen=True)
class Quiet:
    """The agent while nothing happens."""

    seconds: float
    cpu_seconds: float
    rss_mib: float
    rpc_calls: int
    heartbeats: int
    others: int
    """Transactions that are not heartbeats."""

    @property
    def calls_a_second(self) -> float:
        """RPC calls."""
        return self.rpc_calls / self.seconds


@dataclass(frozen=True)
class Figures:
    """What was measured. Seconds, MiB."""

    wanted: int
    leases: int
    at_once: int
    short: str
    """Why there are fewer leases than wanted; "" when all are there."""
    hired_in: float
    opened_to_running: list[float]
    """From before the transaction that opens a lease to the block that shows it ready."""
    cpu_before: float
    cpu_hiring: float
    rss_before: float
    rss_after: float
    period: int
    """Seconds from one heartbeat to the next."""
    held: Quiet
    """With all leases running."""
    idle: Quiet
    """With none."""
    busy: float
    """Programs that ran or waited for a core, of the whole machine, in the last minute at rest."""
    left: dict[str, int]

    @property
    def faults(self) -> list[str]:
        """What is other than promised."""
        found = []
        most = most_beats(self.held.seconds, self.period)
        least = int(self.held.seconds >= 2 * self.period)
        if not least <= self.held.heartbeats <= most:
            found.append(f"{self.held.heartbeats} heartbeats where {least} to {most} are right")
        if self.held.others:
            found.append(f"{self.held.others} transactions besides heartbeats, at rest")
        sent = self.idle.heartbeats + self.idle.others
        if sent:
            found.append(f"{sent} transactions without a lease")
        found += [f"{number} {name} are left" for name, number in self.left.items()]
        return found

    def show(self, console: Console) -> None:
        """The table."""
        many = f"{self.leases} leases"
        if self.short:
            many += f" of {self.wanted}, the machine has no room for more"
            console.print(f"no more leases: {self.short}", highlight=False)
        table = Table(title=f"{many}; at most {self.at_once} starting at a time")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for row in self._rows():
            table.add_row(*row)
        console.print(table)

    def _rows(self) -> Iterator[tuple[str, str]]:
        took, held, idle = self.opened_to_running, self.held, self.idle
        yield "open to running, p50", f"{quantile(took, 0.5):.1f} s"
        yield "open to running, p95", f"{quantile(took, 0.95):.1f} s"
        yield "all of them", f"{self.hired_in:.0f} s"
        yield "agent's CPU time for one lease", f"{self.cpu_hiring / self.leases:.2f} s"
        yield "agent's memory (RSS) before", f"{self.rss_before:.0f} MiB"
        yield "agent's memory (RSS) with all", f"{held.rss_mib:.0f} MiB"
        yield "agent's part of one core at rest", f"{held.cpu_seconds / held.seconds:.1%}"
        yield "RPC calls per second at rest", f"{held.calls_a_second:.2f}"
        beats = f"heartbeats in {held.seconds:.0f} s (period {self.period} s)"
        yield beats, str(held.heartbeats)
        yield "other transactions at rest", str(held.others)
        yield "agent's part of one core, no lease", f"{idle.cpu_seconds / idle.seconds:.1%}"
        yield "RPC calls per second, no lease", f"{idle.calls_a_second:.2f}"
        sent = f"transactions in {idle.seconds:.0f} s, no lease"
        yield sent, str(idle.heartbeats + idle.others)
        yield "load of the machine at rest (all programs)", f"{self.busy:.1f}"


def measure(
    world: RentalWorld, node: FaultyRpc, leases: int, at_once: int, rest: float, say: Say
) -> Figures:
    """The whole run. Raises BenchmarkError, AssertionError."""
    world.launch()
    world.until(world._answers, "answer of the agent's API", START)
    cpu_before, rss_before = world.usage()
    begin = time.monotonic()
    with world.tenancy() as client:
        rentals, took, short = _hire(world, client, leases, at_once, say)
    hired_in = time.monotonic() - begin
    if not rentals:
        raise BenchmarkError(f"no lease was to be had: {short}")
    cpu, rss = world.usage()
    say("at rest with all of them")
    held = _quiet(world, node, rest)
    busy = os.getloadavg()[0]
    say("closing them")
    for rental in rentals:
        if world.state(rental).status is not LeaseStatus.ACTIVE:
            raise BenchmarkError(f"lease {rental.lease.hex()[:12]} has ended by itself")
    world.deployment.transact(
        *(
            world.deployment.leases.call(world.tenant, "close", one.terms.abi_tuple())
            for one in rentals
        )
    )
    left = world.wait_for_nothing(GONE)
    say("at rest with none")
    idle = _quiet(world, node, rest / 2)
    if world.stop_agent() != 0:
        raise BenchmarkError(f"the agent did not end cleanly:\n{world.log()}")
    gap = int(world.deployment.leases.read("MAX_GAP"))
    return Figures(
        wanted=leases,
        leases=len(rentals),
        at_once=at_once,
        short=short,
        hired_in=round(hired_in, 1),
        opened_to_running=[round(one, 2) for one in took],
        cpu_before=round(cpu_before, 1),
        cpu_hiring=round(cpu - cpu_before, 1),
        rss_before=round(rss_before, 1),
        rss_after=round(rss, 1),
        period=gap * 2 // 3,
        held=held,
        idle=idle,
        busy=round(busy, 1),
        left=left,
    )


def _hire(
    world: RentalWorld, client: LeaseClient, leases: int, at_once: int, say: Say
) -> tuple[list[Rental], list[float], str]:
    """Rentals that run, how long each took, and why there are no more."""
    spec, short = world.service(), ""
    hired: list[Rental] = []
    starting: list[Rental] = []
    took: list[float] = []
    while starting or (len(hired) < leases and not short):
        if len(hired) < leases and not short and len(starting) < at_once:
            try:
                rental = world.hire(client, spec)
            except RemoteError as error:
                if error.code not in NO_ROOM:
                    raise BenchmarkError(f"after {len(hired)} leases: {error}") from None
                short = str(error)
            else:
                hired.append(rental)
                starting.append(rental)
        time.sleep(0.2)
        for rental in list(starting):
            passed = time.monotonic() - rental.begun
            if world.state(rental).status is LeaseStatus.ACTIVE:
                starting.remove(rental)
                took.append(passed)
                if len(took) % 10 == 0:
                    say(f"{len(took)} leases run")
            elif passed > READY:
                raise BenchmarkError(f"lease {len(took)} does not run:\n{world.log()}")
    return hired, took, short


def _quiet(world: RentalWorld, node: FaultyRpc, seconds: float) -> Quiet:
    """Wait until what was under way has ended, and measure for some seconds."""
    time.sleep(10.0)
    first, calls = world.anvil.number() + 1, len(node.calls)
    begin, (cpu, _) = time.monotonic(), world.usage()
    time.sleep(seconds)
    after, rss = world.usage()
    passed, sent = time.monotonic() - begin, world.sent(first, world.anvil.number())
    return Quiet(
        seconds=round(passed, 1),
        cpu_seconds=round(after - cpu, 2),
        rss_mib=round(rss, 1),
        rpc_calls=len(node.calls) - calls,
        heartbeats=sent["heartbeat"],
        others=sent["other"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when everything is as promised."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description="many leases on one agent")
    parser.add_argument("--leases", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1, help="leases that start at a time")
    parser.add_argument("--rest", type=float, default=120.0, help="seconds at rest")
    chosen = parser.parse_args(given)
    if min(chosen.leases, chosen.at_once) < 1 or chosen.rest <= 0:
        parser.error("give numbers above 0")
    return run("benchmarks.rentals.load", given, RESULT, lambda: _measured(chosen))


def _measured(chosen: argparse.Namespace) -> Figures:
    with (
        engine_and_place() as (daemon, image, place),
        rental_market(place, daemon, image, most=chosen.leases + 4) as (world, (node,)),
    ):
        say = Console().print
        return measure(world, node, chosen.leases, chosen.at_once, chosen.rest, say)


if __name__ == "__main__":
    sys.exit(main())
