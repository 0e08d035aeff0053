# SPDX-License-Identifier: Apache-2.0
"""A market in virtual time: real contracts on anvil, the whole agent but its API and its sandbox.

Blocks come at a fixed rate of virtual time. Tenants post, the runs of jobs take their time
and write one file. The agent's loop, its database and its transactions are the real ones.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.simulation.clock import Clock
from benchmarks.simulation.node import Node
from provider_agent import app
from provider_agent.core.settings import Settings
from provider_agent.devices import Device
from provider_agent.modules.all import open_store
from provider_agent.modules.jobs import module as jobs_module
from provider_agent.modules.jobs.repository import JobsRepository
from provider_agent.runners.base import Phase, Reason, RunRequest, RunState
from provider_agent.settings import validate
from teraproof.contracts.jobs import JobsContract
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Order
from tests.agent_e2e.chain import GAS, TPF, USD
from tests.agent_e2e.world import World

AHEAD = 600  # seconds before its first job that the agent runs idle


@dataclass(frozen=True)
class Plan:
    """What happens. Times are seconds of virtual time; `posts` are when jobs are posted."""

    posts: list[float]
    seconds: float
    """Of each run."""
    slots: int = 8
    block_seconds: int = 12
    poll_seconds: float = 2.0
    duration: int = 3_600
    """For each job, from its acceptance to its deadline."""
    window: int = 10
    """In which a tenant may object."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    jobs: int
    settled: int
    expired: int
    transactions: int
    hours: float
    """Of virtual time, from the first post to the last payment."""
    calls: dict[str, int]
    """RPC calls by method in that time."""
    idle: dict[str, float]
    """RPC calls by method and block while there was no job."""
    blocks: int
    refused: int
    """Calls that the node answered with "too many requests", from the start."""
    busiest: int
    """Most calls in a second."""
    seconds: float
    """That the machine took."""

    @property
    def calls_a_job(self) -> float:
        """All of them, those of the idle loop included."""
        return sum(self.calls.values()) / max(1, self.jobs)


class Runner:
    """Runs that do nothing for some time and leave one file."""

    def __init__(self, root: Path, clock: Clock, seconds: float) -> None:
        self._root, self._clock, self._seconds = root, clock, seconds
        self._runs: dict[str, tuple[float, int]] = {}  # monotonic, unix
        self._requests: dict[str, RunRequest] = {}

    def check(self) -> str:
        return "simulated"

    def start(self, run: RunRequest) -> None:
        if run.run_id not in self._runs:
            self._requests[run.run_id] = run
            (self.outputs(run.run_id)).mkdir(parents=True)
            self._runs[run.run_id] = (time.monotonic(), int(time.time()))

    def request(self, run_id: str) -> RunRequest:
        return self._requests[run_id]

    def probe(self, device: Device) -> str:
        return ""

    def poll(self, run_id: str) -> RunState:
        begin, started = self._runs[run_id]
        if time.monotonic() - begin < self._seconds:
            return RunState(Phase.RUNNING, started=started)
        (self.outputs(run_id) / "answer").write_text("42")
        self.log(run_id).write_text("done\n")
        finished = started + int(self._seconds)
        return RunState(Phase.EXITED, Reason.EXITED, 0, started, finished)

    def stop(self, run_id: str) -> None:
        self.remove(run_id)

    def remove(self, run_id: str) -> None:
        self._requests.pop(run_id, None)
        if self._runs.pop(run_id, None) is not None:
            shutil.rmtree(self._root / run_id, ignore_errors=True)

    def list(self) -> tuple[str, ...]:
        return tuple(sorted(self._runs))

    def allocated(self, run_id: str) -> int:
        return 0

    def outputs(self, run_id: str) -> Path:
        return self._root / run_id / "outputs"

    def log(self, run_id: str) -> Path:
        return self._root / run_id / "log"


class _NoServer:
    """In place of the API: nobody visits."""

    port = 0

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class _Stop:
    """In place of the loop's event: a wait lets virtual time pass."""

    def __init__(self, clock: Clock, done: Callable[[], bool]) -> None:
        self._clock, self._done = clock, done

    def is_set(self) -> bool:
        return self._done()

    def wait(self, seconds: float) -> bool:
        self._clock.advance(seconds)
        return self._done()

    def set(self) -> None:
        pass


class Market:
    """One provider with its agent, and one tenant who posts as the plan says."""

    def __init__(self, world: World, clock: Clock, node: Node, plan: Plan) -> None:
        self._world, self._clock, self._node, self._plan = world, clock, node, plan
        self._anvil = world.anvil
        self._begin = 0.0
        self._next_block = 0
        self._posted = 0
        self._looked = self._blocks = 0
        self._ended: Counter[str] = Counter()
        self._idle: dict[str, float] = {}
        self._before: Counter[str] = Counter()
        self._topics = {"0x" + kind.TYPE.topic.hex(): kind.__name__ for kind in JobsContract.EVENTS}

    def run(self, tell: Callable[[int, int], None]) -> Outcome:
        """Live through the plan; `tell` is called with jobs posted and settled after each block.

        Raises AssertionError when jobs do not end within a day after the last one was posted.
        """
        real = self._clock.real
        self._tell = tell
        self._anvil.set_automine(False)
        self._next_block = self._anvil.timestamp() + self._plan.block_seconds
        self._looked = self._anvil.number() + 1
        self._clock.begin(self._next_block - self._plan.block_seconds)
        self._begin = time.time() + AHEAD
        self._clock.at(self._next_block, self._mine)
        self._clock.at(self._begin, self._note_idle)
        try:
            with (
                mock.patch.object(jobs_module, "make_runner", self._make_runner),
                mock.patch.object(app, "ApiServer", _NoServer),
                mock.patch.object(app, "status_server", _NoServer),
            ):
                self._agent = app.Agent(self._settings())
                self._agent._stop = _Stop(self._clock, self._done)  # type: ignore[assignment]
                self._agent.run()
            passed = time.time() - self._begin
        finally:
            self._clock.end()
        jobs = len(self._plan.posts)
        return Outcome(
            jobs=jobs,
            settled=self._ended["Settled"],
            expired=self._ended["Expired"],
            transactions=self._anvil.nonce(self._world.operator.address),
            hours=passed / 3600,
            calls=dict(self._node.calls - self._before),
            idle=self._idle,
            blocks=self._blocks,
            refused=self._node.refused,
            busiest=self._node.busiest,
            seconds=self._clock.real - real,
        )

    def _done(self) -> bool:
        return self._ended["Settled"] + self._ended["Expired"] >= len(self._plan.posts)

    def _make_runner(self, settings: Settings) -> Any:
        return Runner(settings.agent.data_dir / "runs", self._clock, self._plan.seconds)

    def _settings(self) -> Settings:
        home, world = self._world.directory / "agent", self._world
        world.configure()
        return validate(
            {
                "chain": {
                    "rpc_urls": world.rpc_urls,
                    "chain_id": self._anvil.chain_id,
                    "staking": world.staking.address,
                    "jobs": world.jobs.address,
                    "poll_seconds": self._plan.poll_seconds,
                    # As for a provider's endpoint; a node on this machine has no limit.
                    "requests_per_second": 20,
                },
                "operator": {"private_key_file": home / "operator.key"},
                "agent": {
                    "data_dir": home / "data",
                    "slots": self._plan.slots,
                    "accept_ahead": 3,
                    "lock_dir": home,
                },
                "api": {"public_url": "http://127.0.0.1:8700"},
                "runner": {"runtimes": {"system": "/usr"}},
                "jobs": {"price_per_hour": "1"},
            }
        )

    # ------------------------------------------------------------------ what happens

    def _note_idle(self) -> None:
        blocks = AHEAD / self._plan.block_seconds
        self._idle = {method: n / blocks for method, n in self._node.calls.items()}
        self._before = self._node.calls.copy()

    def _mine(self) -> None:
        """Post what is due, and mine a block."""
        while self._posted < len(self._plan.posts) and (
            self._begin + self._plan.posts[self._posted] <= self._next_block
        ):
            self._post(self._posted)
            self._posted += 1
        self._anvil.rpc("evm_setNextBlockTimestamp", hex(self._next_block))
        self._anvil.rpc("evm_mine")
        self._next_block += self._plan.block_seconds
        self._clock.at(self._next_block, self._mine)
        if self._posted:
            self._blocks += 1
        self._look()
        late = self._next_block - self._begin - (self._plan.posts[-1] if self._plan.posts else 0)
        assert late < 86_400, f"jobs do not end: {dict(self._ended)}"
        self._tell(self._posted, self._ended["Settled"])

    def _post(self, number: int) -> None:
        spec = self._spec(number)
        order = Order(
            spec=spec.digest(),
            start_price=USD,
            max_price=USD,
            collateral=10 * TPF,
            duration=self._plan.duration,
            auction=600,
            min_stake=0,
            min_score=0,
            allow_root=bytes(32),
            nonce=number,
        )
        call = self._world.jobs.call(self._world.tenant, "post", order.abi_tuple())
        request = {"from": call.sender, "to": call.to, "data": "0x" + call.data.hex()}
        self._anvil.rpc("eth_sendTransaction", {**request, "gas": hex(GAS)})
        # What an upload would do.
        store = open_store(app.database(self._settings()), owner=False)
        JobsRepository(store).put_spec(spec.digest(), spec.canonical(), self._world.tenant.address)
        store.close()

    def _spec(self, number: int) -> JobSpec:
        return parse(
            canonical(
                {
                    "version": 1,
                    "kind": "batch",
                    "name": "simulated",
                    "runtime": "system",
                    "command": ["true"],
                    "env": {"JOB": str(number)},
                    "inputs": [],
                    "outputs": ["answer"],
                    "resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 1, "gpus": 0},
                    "timeout_seconds": 60,
                    "deterministic": True,
                    "network": False,
                }
            )
        )

    def _look(self) -> None:
        """Count how jobs end, as the chain says."""
        last = self._anvil.number()
        entries = self._anvil.rpc(
            "eth_getLogs",
            {
                "address": self._world.jobs.address,
                "fromBlock": hex(self._looked),
                "toBlock": hex(last),
            },
        )
        self._looked = last + 1
        for entry in entries:
            self._ended[self._topics.get(entry["topics"][0], "?")] += 1
