# SPDX-License-Identifier: Apache-2.0
"""Leases under fire: what is killed at random, and what was paid for what.

    python -m benchmarks.rentals.siege [--seed 1] [--leases 4] [--rounds 2]
    python -m benchmarks.rentals.siege --silence     ten minutes without an answer of any node
    python -m benchmarks.rentals.siege --runner ray  on a fleet of two machines; needs make fleet

Real are the chain (anvil with a block a second), the contracts, the agent as a process, and Docker
Engine. The agent reads the chain through two nodes, processes of their own. A prober outside the
agent asks each service over its public port every half second. Each round kills the agent,
dockerd, both, one node, both nodes, and Ray's daemon on a machine of a fleet by SIGKILL. So is the
program of one container, each time that it starts. One node, then both take requests and never
answer. When, and for how long, follows from the seed. Meanwhile
another tenant hires and closes one lease after the other, and a stranger accuses and closes
whatever the contract lets it.
Fails when more was paid than answered seconds and the allowance of each outage, when a lease was
closed or accused, collateral was seized, a program ran twice, or something is left. `--silence` is
one blow with the times of a real chain. Needs root and `make engine`. Figures are also written to
`.build/lease-siege-RUNNER-SEED.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.rentals.blows import ONE_MACHINE, Blow, Bounds, Target, blows
from benchmarks.rentals.command import engine_and_place, run
from benchmarks.rentals.fleet import Cluster, fleet
from benchmarks.rentals.guests import Guests
from benchmarks.rentals.market import Rental, RentalWorld, rental_market
from benchmarks.rentals.nodes import Node
from benchmarks.rentals.rent import Seen, excess
from benchmarks.rentals.watch import LONGEST, Hunter, Meter, Prober, Programs, Round
from teraproof.errors import LocalError
from teraproof.protocol.lease_terms import LeaseStatus
from tests.support.anvil import ROOT

RESULTS = ROOT / ".build"
DOWN = 3  # seconds for which a container may be down before its rent stops
DETECTION = DOWN + 10
"""Seconds from a fault to the end of the rent: a look at the containers, a cycle, two blocks, and
two requests of the prober come on top of `DOWN`."""
DETECTION_FLEET = DETECTION + 30
"""What a machine of a fleet has said is good for half a minute, then it counts as down."""
TEN_MINUTES = 600.0
MACHINES = ("a", "b")
START, READY, BACK, GONE = 240.0, 300.0, 180.0, 300.0  # seconds, for what is waited for

_STRIKE = 0.2  # seconds between two looks at a program that is killed each time it starts
_ROUNDING = 2.0  # the chain counts whole seconds, at both ends

Say = Callable[[str], None]


@dataclass(frozen=True)
class Clock:
    """Of the contract, in seconds."""

    max_gap: int
    abandon: int


REAL = Clock(300, 1_800)
"""As the plans of public networks have it."""
SHORT = Clock(12, 180)
"""Both nodes hang for a third of ABANDON or longer: ten minutes or more, were it a real chain."""
BOUNDS = Bounds(
    gone=(2, 40),
    silence=(SHORT.abandon / 3, SHORT.abandon / 2),
    fleet=(20, 70),
    rest=(10, 25),
)


@dataclass(frozen=True)
class Account:
    """One lease. Seconds."""

    paid: int
    """By the chain, while the prober asked."""
    answered: float
    outages: tuple[float, ...]
    most: float
    """That may have been paid."""
    excess: float
    """Of the worst outage by itself: what came to be due in it beyond its allowance."""

    @property
    def holds(self) -> bool:
        """Whether no more was paid than may be, in the whole and in each outage."""
        return self.paid <= self.most and self.excess <= _ROUNDING


@dataclass(frozen=True)
class Outcome:
    """What came of a siege."""

    seed: int
    seconds: float
    drift: float
    """Seconds by which the chain's clock was faster than the prober's."""
    blows: tuple[Blow, ...]
    clock: Clock
    detection: int
    """Seconds."""
    accounts: tuple[Account, ...]
    guests: int
    """Leases that began and ended meanwhile."""
    seized: int
    """Leases of which collateral was seized."""
    accused: tuple[str, ...]
    """What a stranger could do to the leases."""
    ended: tuple[str, ...]
    """Leases that were not active at the end."""
    most_programs: int
    """That ran of one lease at one time."""
    left: dict[str, int]

    @property
    def faults(self) -> list[str]:
        """What is other than promised."""
        found = [
            f"lease {number} was paid for {one.paid} s, {one.most:.1f} s are the most; an outage "
            f"was paid for {one.excess:.1f} s more than is allowed for it"
            for number, one in enumerate(self.accounts)
            if not one.holds
        ]
        found += [
            f"lease {number} has never answered"
            for number, one in enumerate(self.accounts)
            if not one.answered
        ]
        found += [f"a stranger could {what}" for what in self.accused]
        found += [f"{what} at the end" for what in self.ended]
        if self.seized:
            found.append(f"collateral of {self.seized} leases was seized")
        if self.most_programs > 1:
            found.append(f"{self.most_programs} programs of one lease ran at one time")
        found += [f"{number} {name} are left" for name, number in self.left.items()]
        return found

    def show(self, console: Console) -> None:
        """The tables."""
        hits = Table(title=f"seed {self.seed}, {self.seconds:.0f} s")
        for name in ("blow", "times", "seconds"):
            hits.add_column(name, justify="left" if name == "blow" else "right")
        for target in Target:
            found = [f"{one.seconds:.0f}" for one in self.blows if one.target is target]
            if found:
                hits.add_row(target.value, str(len(found)), ", ".join(found))
        console.print(hits)
        table = Table(title=f"allowed for an outage: {self.clock.max_gap} + {self.detection} s")
        names = ("lease", "paid", "answered", "outages", "their seconds", "most that is right")
        for name in (*names, "worst outage, beyond its allowance"):
            table.add_column(name, justify="right")
        for number, one in enumerate(self.accounts):
            silent = (len(one.outages), sum(one.outages))
            row = (number, one.paid, one.answered, *silent, one.most, one.excess)
            table.add_row(*(f"{each:.0f}" for each in row))
        console.print(table)
        console.print(
            f"the chain's clock gained {self.drift:.1f} s; {self.guests} more leases came and "
            f"went; at most {self.most_programs} program of a lease ran at one time",
            highlight=False,
        )


class Siege:
    """One run in a fresh world. Raises AssertionError when something does not come up."""

    def __init__(
        self,
        world: RentalWorld,
        nodes: Sequence[Node],
        clock: Clock,
        seed: int,
        say: Say,
        cluster: Cluster | None = None,
    ) -> None:
        self._world, self._nodes, self._clock = world, nodes, clock
        self._cluster = cluster
        self._detection = DETECTION if cluster is None else DETECTION_FLEET
        self._seed, self._say = seed, say
        self._rentals: list[Rental] = []
        self._probers: list[Prober] = []
        self._programs: Programs | None = None

    def run(self, leases: int, planned: Sequence[Blow]) -> Outcome:
        """Live through it."""
        world = self._world
        self._start()
        words = [f"lease-{number}" for number in range(leases)]
        self._rent(words)
        self._programs = programs = Programs(world, words)
        hunter = Hunter(world, self._rentals)
        guests, meter = Guests(world, words), Meter(world, self._rentals)
        watches = [*(one.round for one in self._probers), programs.round, hunter.round]
        watches += [guests.round, meter.round]
        with _at_work(watches):
            begin, chain_begin = time.monotonic(), world.anvil.timestamp()
            before = [world.due(rental) for rental in self._rentals]
            for blow in planned:
                self._wait(begin + blow.at)
                self._say(f"{time.monotonic() - begin:5.0f} s  {blow.target}: {blow.seconds:.0f} s")
                self._strike(blow)
            self._wait_for_answers()
            guests.leave(READY)
            hunter.round.end()  # from here on it could be right to close
            meter.round.end()
            ended = tuple(
                f"lease {number} is {state.status.name}"
                for number, state in enumerate(map(world.state, self._rentals))
                if state.status is not LeaseStatus.ACTIVE
            )
            ends = [self._close(rental) for rental in self._rentals]
            end, chain_end = time.monotonic(), world.anvil.timestamp()
        left = dict(world.wait_for_nothing(GONE))
        running = sum(programs.now().values())
        if running:
            left["programs"] = running
        world.stop_agent()
        drift = max(0.0, (chain_end - chain_begin) - (end - begin))
        return Outcome(
            seed=self._seed,
            seconds=end - begin,
            drift=drift,
            blows=tuple(planned),
            clock=self._clock,
            detection=self._detection,
            accounts=tuple(self._accounts(before, begin, ends, drift, meter)),
            guests=guests.served,
            seized=sum(one.seized > 0 for one in world.closings().values()),
            accused=tuple(hunter.done),
            ended=ended,
            most_programs=max(programs.most.values(), default=0),
            left=left,
        )

    def _accounts(
        self,
        before: Sequence[int],
        begin: float,
        ends: Sequence[float],
        drift: float,
        meter: Meter,
    ) -> list[Account]:
        closings, found = self._world.closings(), []
        for number, rental in enumerate(self._rentals):
            seen = Seen.of(self._probers[number].probes, begin, ends[number], LONGEST)
            paid = closings[rental.lease].seconds - before[number]
            allowance = self._clock.max_gap + self._detection
            most = seen.most(allowance) + drift + _ROUNDING
            worst = max(
                (
                    excess(meter.readings[rental.lease], at, seconds, allowance)
                    for at, seconds in zip(seen.begins, seen.outages, strict=True)
                ),
                default=-float(allowance),
            )
            found.append(Account(paid, seen.answered, seen.outages, most, worst - drift))
        return found

    # ------------------------------------------------------------------ before

    def _start(self) -> None:
        self._world.launch()
        self._world.until(self._world._answers, "answer of the agent's API", START)

    def _rent(self, words: Sequence[str]) -> None:
        """Leases that run, are confirmed and answer."""
        world = self._world
        with world.tenancy() as client:
            for word in words:
                rental = world.hire(client, world.service(word))
                self._rentals.append(rental)
                world.until(
                    partial(_is_active, world, rental),
                    f"running lease {word}",
                    READY,
                )
                world.by_tenant(rental, "confirm")
            for word, rental in zip(words, self._rentals, strict=True):
                port = world.until(
                    partial(_quietly, partial(world.outer_port, client, rental)),
                    f"public port of {word}",
                    READY,
                )
                self._probers.append(Prober(port))
        self._wait_for_answers()
        self._say(f"{len(words)} leases answer")

    def _wait_for_answers(self) -> None:
        for prober in self._probers:
            self._world.until(prober.answers, "answer of a service", BACK)

    def _close(self, rental: Rental) -> float:
        """Have the tenant close it; when that was done, on the monotonic clock."""
        if self._world.state(rental).status is LeaseStatus.ACTIVE:
            self._world.by_tenant(rental, "close")
        return time.monotonic()

    @staticmethod
    def _wait(until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))

    # ------------------------------------------------------------------ blows

    def _strike(self, blow: Blow) -> None:
        """Have the target gone for a while, and back after it."""
        until = time.monotonic() + blow.seconds
        hit = self._nodes[:1] if blow.target in (Target.NODE, Target.HANG) else self._nodes
        if blow.target in (Target.AGENT, Target.ENGINE, Target.BOTH):
            self._strike_provider(blow.target, until)
        elif blow.target is Target.RAY:
            assert self._cluster is not None
            machine = random.Random(blow.at).choice(MACHINES)
            self._cluster.do("kill", machine)
            self._wait(until)
            self._cluster.do("start", machine)
        elif blow.target is Target.PROGRAM:
            self._strike_program(f"lease-{int(blow.at) % len(self._rentals)}", until)
        elif blow.target in (Target.NODE, Target.NODES):
            for node in hit:
                node.kill()
            self._wait(until)
            for node in hit:
                node.start()
        else:
            for node in hit:
                node.hang()
            self._wait(until)
            for node in hit:
                node.go_on()

    def _strike_program(self, word: str, until: float) -> None:
        """Whoever keeps it running starts it again; it dies each time until the end of the blow."""
        assert self._programs is not None
        hits = 0
        while time.monotonic() < until:
            hits += self._programs.kill(word)
            time.sleep(_STRIKE)
        if not hits:
            raise AssertionError(f"nothing of {word} ran, and nothing was killed")

    def _strike_provider(self, target: Target, until: float) -> None:
        world = self._world
        assert world.engine is not None
        if target is not Target.AGENT:
            world.engine.kill()
        if target is not Target.ENGINE:
            world.kill_agent()
        self._wait(until)
        if target is not Target.ENGINE:
            world.launch()  # where both were killed, it comes first
        if target is not Target.AGENT:
            world.engine.start()
        if target is not Target.ENGINE:
            world.until(world._answers, "answer of the agent's API", START)


@contextlib.contextmanager
def _at_work(watches: Sequence[Round]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for watch in watches:
            watch.start()
            stack.callback(watch.end)
        yield


def _is_active(world: RentalWorld, rental: Rental) -> bool:
    return world.state(rental).status is LeaseStatus.ACTIVE


def _quietly(look: Callable[[], int | None]) -> int | None:
    """What an agent says; None while it says no."""
    try:
        return look()
    except LocalError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when everything is as promised."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description="leases while things are killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2, help="of one blow at each target")
    parser.add_argument("--runner", choices=("docker", "ray"), default="docker")
    parser.add_argument("--silence", action="store_true", help="ten minutes of it, as they are")
    chosen = parser.parse_args(given)
    if min(chosen.leases, chosen.rounds) < 1:
        parser.error("give numbers above 0")
    name = "silence" if chosen.silence else chosen.seed
    result = RESULTS / f"lease-siege-{chosen.runner}-{name}.json"
    return run("benchmarks.rentals.siege", given, result, lambda: _measured(chosen))


def _measured(chosen: argparse.Namespace) -> Outcome:
    targets = tuple(Target) if chosen.runner == "ray" else ONE_MACHINE
    clock, planned = SHORT, tuple(blows(chosen.seed, chosen.rounds, BOUNDS, targets))
    if chosen.silence:
        clock, planned = REAL, (Blow(10.0, Target.SILENCE, TEN_MINUTES),)
    settings = {
        "TERAPROOF_LEASES__DOWN_SECONDS": str(DOWN),
        "TERAPROOF_CHAIN__RPC_TIMEOUT_SECONDS": "3",
    }
    with contextlib.ExitStack() as stack:
        daemon, image, place = stack.enter_context(engine_and_place())
        world, _ = stack.enter_context(
            rental_market(
                place / "w",
                daemon,
                image,
                nodes=0,
                renting={"max_gap": clock.max_gap, "abandon": clock.abandon},
                settings=settings,
                most=chosen.leases + 8,
            )
        )
        nodes = [stack.enter_context(Node(world.anvil.url)) for _ in range(2)]
        world.rpc_urls = [node.url for node in nodes]
        cluster = None
        if chosen.runner == "ray":
            cluster = stack.enter_context(fleet(world, place / "r"))
        siege = Siege(world, nodes, clock, chosen.seed, Console().print, cluster)
        return siege.run(chosen.leases, planned)


if __name__ == "__main__":
    sys.exit(main())
