# SPDX-License-Identifier: Apache-2.0
"""One agent, honest jobs all the time, an hour's worth of attacks in the middle."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.siege.attackers import Counts, Crowd, Report
from benchmarks.siege.nodes import Kind, SiegeNode
from benchmarks.siege.timed_agent import Cycle
from teraproof.contracts.jobs import Expired, JobsContract, Settled
from teraproof.errors import LocalError
from teraproof.protocol.terms import Order
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import TPF, USD, Failed
from tests.agent_e2e.world import World, market
from tests.support.anvil import ROOT, Anvil

CALM = 60.0  # seconds without an attack, before it
EVERY = 4.0  # seconds from one honest job to the next
AFTER = 240.0  # seconds after the attack in which the last honest jobs must be paid
START = 120.0  # seconds in which an agent must answer
WINDOW = 10  # seconds: the least that the contract allows
CYCLES = ROOT / ".build" / "siege-cycles"
PROGRAM = Path(__file__).with_name("timed_agent.py")
_DAY = 86_400
_HONEST = """\
import os, time
time.sleep(1)
os.mkdir("out")
open("out/answer", "w").write("42")
"""
_PRICE = 10 * USD
_COLLATERAL = 1_000 * TPF

#: Called with a phase and how much of it is over, from 0 to 1.
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Spread:
    """The middle and the hundredth slowest, in seconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of some values, at least one."""
        found = sorted(values)
        return cls(found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)])


@dataclass(frozen=True)
class Phase:
    """What was measured in one phase. Seconds, MiB. Chain, nodes, tenants and attackers share the
    cores with the agent, so a cycle's waits for a core and for nodes are told apart.
    """

    seconds: float
    cycles: int
    cycle: Spread
    own: Spread
    """Of a cycle without its waits for a core and for nodes."""
    cpu: Spread
    """That the thread of the cycles computes."""
    queue: Spread
    """That it waits for a core."""
    node: Spread
    """That it waits for nodes."""
    disk: Spread
    """That it waits for the database."""
    others: Spread
    """That it waits for other threads of the agent."""
    cpu_share: float
    """Of one core, by the whole agent without its runs."""
    load: float
    """Of the machine, on average: processes that compute or want to."""
    rss: float
    rpc_calls: int
    honest_posted: int

    @property
    def calls_a_second(self) -> float:
        """RPC calls at the good node."""
        return self.rpc_calls / self.seconds


@dataclass(frozen=True)
class Outcome:
    """What came of it. Amounts in TPF wei and units of USD."""

    rest: Phase
    siege: Phase
    honest: int
    delivered: int
    collateral_lost: int
    agent_kills: int
    attacks: Counts
    attacker_gas: int
    attacker_paid: int
    seconds: float
    left: dict[str, int]
    """Honest jobs that were not paid, by what the agent says of them."""

    @property
    def slowdown(self) -> float:
        """How many times as long the slowest cycles take under siege."""
        return self.siege.cycle.p99 / self.rest.cycle.p99

    @property
    def own_slowdown(self) -> float:
        """The same without the waits for a core and for nodes."""
        return self.siege.own.p99 / self.rest.own.p99

    @property
    def held(self) -> bool:
        """No collateral lost, and every honest job delivered and paid."""
        return self.collateral_lost == 0 and self.delivered == self.honest


class Siege:
    """The run. `minutes` is how long the attack lasts."""

    def __init__(self, world: World, minutes: float, orders: int, tell: Tell) -> None:
        self._world, self._seconds, self._tell = world, 60 * minutes, tell
        self._nodes = [SiegeNode(world.anvil.url, kind) for kind in Kind]
        self._crowd = Crowd(world, orders, self._seconds)
        self._honest: list[bytes] = []
        self._waiting: list[tuple[Any, Path]] = []  # to be uploaded
        self._cycles = world.directory / "cycles"
        self._rss = 0.0
        self._cpu: dict[int, float] = {}  # seconds so far, by process
        self._loads: list[float] = []
        self._kills = 0

    def run(self) -> Outcome:
        """Live through it. Raises AssertionError when the agent does not come up."""
        begin, world = time.monotonic(), self._world
        with contextlib.ExitStack() as stack:
            for node in self._nodes:
                stack.enter_context(node)
            world.rpc_urls = [node.url for node in self._nodes if node.kind is not Kind.GOOD]
            world.rpc_urls.insert(1, self._good.url)
            world.anvil.set_automine(False)
            world.anvil.set_block_time(1)
            self._start()
            rest = self._phase("at rest", CALM)
            self._crowd.start()
            self._turn(True)
            siege = self._phase("under siege", self._seconds, kill_every=50.0)
            self._turn(False)
            report = self._crowd.stop()
            self._wait_for_honest()
            paid, lost = self._endings()
            left = self._left(paid)
            world.stop_agent()
            shutil.copyfile(self._cycles, CYCLES)
        return Outcome(
            rest=rest,
            siege=siege,
            honest=len(self._honest),
            delivered=len(paid),
            collateral_lost=lost,
            agent_kills=self._kills,
            attacks=report.done,
            attacker_gas=self._gas(report),
            attacker_paid=report.tokens_paid,
            seconds=time.monotonic() - begin,
            left=left,
        )

    @property
    def _good(self) -> SiegeNode:
        return next(node for node in self._nodes if node.kind is Kind.GOOD)

    def _turn(self, hostile: bool) -> None:
        for node in self._nodes:
            node.hostile = hostile

    def _start(self) -> None:
        """Start the agent; it may take long where the machine has no time for it."""
        world = self._world
        world.launch(str(PROGRAM), environment={"SIEGE_CYCLES": str(self._cycles)})
        world.until(world._answers, "answer of the agent's API", START)

    # ------------------------------------------------------------------ phases

    def _phase(self, name: str, seconds: float, kill_every: float | None = None) -> Phase:
        """Post honest jobs for some time, and kill the agent now and then."""
        hostile = kill_every is not None
        begin = time.monotonic()
        calls, jobs, self._rss = len(self._good.calls), len(self._honest), 0.0
        self._see()
        cpu, self._loads = sum(self._cpu.values()), []
        next_job, next_kill = begin, begin + (kill_every or float("inf"))
        while (now := time.monotonic()) < begin + seconds:
            self._tell(name, (now - begin) / seconds)
            self._see()
            if hostile:
                self._crowd.look()
            if now >= next_kill:
                next_kill += kill_every or 0.0
                self._kill()
            if now >= next_job:
                next_job += EVERY
                self._post()
            self._upload()
            time.sleep(0.2)
        self._tell(name, 1.0)
        cycles = [one for one in self._lines() if begin <= one.at < begin + seconds]
        assert cycles, f"no cycle ended {name}: {self._world.log()}"
        return Phase(
            seconds=seconds,
            cycles=len(cycles),
            cycle=Spread.of(one.wall for one in cycles),
            own=Spread.of(one.own for one in cycles),
            cpu=Spread.of(one.cpu for one in cycles),
            queue=Spread.of(one.queue for one in cycles),
            node=Spread.of(one.node for one in cycles),
            disk=Spread.of(one.disk for one in cycles),
            others=Spread.of(one.others for one in cycles),
            cpu_share=(sum(self._cpu.values()) - cpu) / seconds,
            load=sum(self._loads) / len(self._loads),
            rss=self._rss,
            rpc_calls=len(self._good.calls) - calls,
            honest_posted=len(self._honest) - jobs,
        )

    def _lines(self) -> list[Cycle]:
        parsed = map(Cycle.parse, self._cycles.read_text().splitlines())
        return [one for one in parsed if one is not None]

    def _see(self) -> None:
        """The agent's memory and time; one that ended by itself is an error."""
        process = self._world.process
        assert process is not None
        assert process.poll() is None, f"the agent ended: {self._world.log()}"
        place = Path("/proc") / str(process.pid)
        with contextlib.suppress(OSError, IndexError):
            status = (place / "status").read_text()
            self._rss = max(self._rss, int(status.split("VmRSS:")[1].split()[0]) / 1024)
            times = (place / "stat").read_text().rsplit(")", 1)[1].split()
            ticks = int(times[11]) + int(times[12])
            self._cpu[process.pid] = ticks / os.sysconf("SC_CLK_TCK")
        running = Path("/proc/loadavg").read_text().split()[3]
        self._loads.append(int(running.split("/")[0]))

    def _kill(self) -> None:
        """The agent dies by kill -9, and is started again."""
        process = self._world.process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._kills += 1
        self._start()

    # ------------------------------------------------------------------ honest tenants

    def _post(self) -> None:
        """An honest job: well paid, with as much collateral as the provider puts up."""
        world, number = self._world, len(self._honest)
        folder = world.job_directory(f"honest{number}", _HONEST)
        spec = world.spec(folder, env={"JOB": str(number)})
        order = Order(
            spec=spec.digest(),
            start_price=_PRICE,
            max_price=_PRICE,
            collateral=_COLLATERAL,
            duration=6 * 3_600,
            auction=_DAY,
            min_stake=0,
            min_score=0,
            allow_root=bytes(32),
            nonce=10**9 + number,
        )
        receipt = world.jobs.send(world.tenant, "post", order.abi_tuple())
        self._honest.append(world.posted(receipt).job_id())
        self._waiting.append((spec, folder))

    def _upload(self) -> None:
        """Hand in what is owed; an agent that is down or busy is asked again."""
        if not self._waiting:
            return
        spec, folder = self._waiting.pop(0)
        try:
            self._world.client().upload(spec, folder, wait=2)
        except LocalError:
            self._waiting.append((spec, folder))

    def _wait_for_honest(self) -> None:
        """Until all honest jobs are paid, or time is up."""
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < AFTER:
            self._tell("the last jobs", passed / AFTER)
            self._upload()
            if len(self._endings()[0]) == len(self._honest):
                break
            time.sleep(1.0)
        self._tell("the last jobs", 1.0)

    # ------------------------------------------------------------------ what the chain says

    def _endings(self) -> tuple[set[bytes], int]:
        """Honest jobs that were paid for, and the collateral that the provider has lost."""
        world = self._world
        pool = RpcPool([world.anvil.url], world.anvil.chain_id)
        contract = JobsContract(pool, world.jobs.address)
        kinds = [["0x" + kind.TYPE.topic.hex() for kind in (Settled, Expired)]]
        entries = pool.logs([contract.address], 0, world.anvil.number(), kinds)
        pool.close()
        events = [contract.decode(entry) for entry in entries]
        honest = set(self._honest)
        paid = {e.job for e in events if isinstance(e, Settled) and e.job in honest}
        lost = sum(
            e.seized for e in events if isinstance(e, Expired) and e.provider == world.owner.address
        )
        return paid, lost

    def _left(self, paid: set[bytes]) -> dict[str, int]:
        """What the agent says of honest jobs that are not paid."""
        rows = self._world.rows("SELECT job_id, status, note FROM jobs")
        said = {bytes(job): f"status {status}: {note}" for job, status, note in rows}
        left = [job for job in self._honest if job not in paid]
        return dict(Counter(said.get(job, "unknown to the agent") for job in left))

    def _gas(self, report: Report) -> int:
        """Gas that the attackers have paid for."""
        anvil, attackers = self._world.anvil, set(report.accounts)
        total = 0
        for number in range(anvil.number() + 1):
            for receipt in anvil.rpc("eth_getBlockReceipts", hex(number)) or ():
                if receipt["from"].lower() in attackers:
                    total += int(receipt["gasUsed"], 16)
        return total


def besiege(directory: Path, minutes: float, orders: int, tell: Tell) -> Outcome:
    """The whole run in a fresh directory. Raises AssertionError, Failed."""
    settings = {
        "TERAPROOF_AGENT__SLOTS": "4",
        "TERAPROOF_AGENT__ACCEPT_AHEAD": "3",
        "TERAPROOF_CHAIN__RPC_TIMEOUT_SECONDS": "3",
    }
    anvil = Anvil(arguments=["--order", "fifo", "--gas-limit", "300000000"])
    with market(directory, anvil, challenge_window=WINDOW, settings=settings) as world:
        return Siege(world, minutes, orders, tell).run()


__all__ = ["Failed", "Outcome", "Phase", "besiege"]
