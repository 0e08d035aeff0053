# SPDX-License-Identifier: Apache-2.0
"""A chain on which time waits for the agents: slow while one has work to do, fast while none has.

So a test can walk through epochs on any machine, however busy, without sleeping through windows.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from provider_agent.benchmark.format import Shape
from provider_agent.benchmark.schedule import Rules, Stage
from provider_agent.chain.contracts import EpochRecord, ProofRecord
from tests.agent_e2e.world import Contract, Deployment, ProofTerms, World, deployment, step
from tests.support.anvil import Anvil

_EVERY = 0.2  # seconds between two blocks
_LAST_COMMIT = 40  # blocks before the window's end: time for a busy machine


class Epochs:
    """Mines blocks until closed. `waits_for` are the providers that time waits for."""

    def __init__(self, contracts: Deployment) -> None:
        assert isinstance(contracts.benchmark, Contract) and contracts.proofs is not None
        self.deployment, self.anvil = contracts, contracts.anvil
        self.benchmark, terms = contracts.benchmark, contracts.proofs
        self.rules = Rules(
            Shape(256, 1),
            terms.samples,
            terms.bond,
            self.benchmark.read("GENESIS"),
            terms.epoch,
            terms.open_period,
            terms.window,
            terms.draw_delay,
            terms.draw_period,
            terms.fault_period,
        )
        self.waits_for: list[World] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Epochs:
        self.anvil.set_automine(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    # ------------------------------------------------------------------ looking

    @property
    def now(self) -> int:
        """The time of the newest block."""
        return self.anvil.timestamp()

    @property
    def epoch(self) -> int:
        """The current epoch."""
        number = self.rules.number(self.now)
        assert number is not None
        return number

    def record(self, epoch: int) -> EpochRecord:
        """What the contract knows of an epoch."""
        return EpochRecord(*self.benchmark.read("epoch_of", epoch))

    def stage(self) -> Stage:
        """Where the current epoch stands."""
        epoch, record = self.epoch, self.record(self.epoch)
        return self.rules.stage(epoch, record.opened_at, record.drawn_at, self.now)

    def proof(self, world: World) -> ProofRecord:
        """A provider's last commitment."""
        return ProofRecord(*self.benchmark.read("proof_of", world.owner.address))

    def has_committed(self, world: World, epoch: int) -> bool:
        """Whether a provider has committed to a proof in an epoch."""
        proof = self.proof(world)
        return proof.epoch == epoch and proof.rounds > 0

    def score_in(self, world: World, epoch: int) -> int:
        """What a provider has proven in an epoch."""
        return int(self.benchmark.read("share_of", world.owner.address, epoch)[0])

    def _is_last(self, world: World, epoch: int) -> bool:
        """Whether a provider's agent has sent the last commit of an epoch."""
        sent = "action LIKE 'commit-2%' AND state IN ('mined', 'final')"
        named = f"object_id LIKE '{epoch}-%'"
        return bool(world.rows(f"SELECT 1 FROM intents WHERE {named} AND {sent}"))

    # ------------------------------------------------------------------ time

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            step(self.anvil, self._seconds())

    def _seconds(self) -> int:
        """How far the next block is from the last one."""
        now, epoch = self.now, self.epoch
        record = self.record(epoch)
        stage = self.rules.stage(epoch, record.opened_at, record.drawn_at, now)
        late = [world for world in self.waits_for if not self.has_committed(world, epoch)]
        if stage is Stage.WINDOW:
            if now < record.opened_at + self.rules.window // 8:
                return 10
            last = now >= self.rules.window_end(record.opened_at) - _LAST_COMMIT
            late += [world for world in self.waits_for if last and not self._is_last(world, epoch)]
            return 1 if late else 10
        if stage is Stage.SAMPLES:
            behind = [
                world
                for world in self.waits_for
                if self.has_committed(world, epoch)
                and self.proof(world).verified < self.rules.samples
            ]
            return 1 if behind else 100
        return {Stage.UNOPENED: 2, Stage.DELAY: 5, Stage.DRAW: 5}.get(stage, 100)


@contextlib.contextmanager
def epochs(terms: ProofTerms | None = None) -> Iterator[Epochs]:
    """Contracts with proofs, on a chain of their own."""
    anvil = Anvil(arguments=["--order", "fifo"])
    with (
        deployment(anvil, proofs=terms or ProofTerms()) as contracts,
        Epochs(contracts) as walking,
    ):
        yield walking


@contextlib.contextmanager
def prover(walking: Epochs, directory: Path, **settings: str) -> Iterator[World]:
    """A provider whose agent proves, with two commits; `settings` are those of `[benchmark]`."""
    settings = {"commits": "2", "commit_blocks": str(_LAST_COMMIT), **settings}
    named = {f"TERAPROOF_BENCHMARK__{name.upper()}": value for name, value in settings.items()}
    world = World(directory, walking.deployment, settings=named)
    try:
        yield world.set_up()
    finally:
        if world in walking.waits_for:
            walking.waits_for.remove(world)
        world.close()
