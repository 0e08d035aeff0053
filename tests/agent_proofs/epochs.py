# SPDX-License-Identifier: Apache-2.0
"""A chain on which time waits for the agents: slow while one has work to do, fast while none has.

So a test can walk through epochs on any machine, however busy, without sleeping through windows.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from teraproof.contracts.benchmark import EpochRecord, ProofRecord
from teraproof.pog.format import Shape
from teraproof.pog.schedule import Rules, Stage
from tests.agent_e2e.chain import Contract, Deployment, ProofTerms, deployment
from tests.agent_e2e.world import World
from tests.support.anvil import Anvil
from tests.support.processes import with_argument

_EVERY = 0.2  # seconds between two blocks
_LAST = 5  # seconds of the window in which there is a block a second
_PATIENCE = 20.0  # seconds that a block waits for what an agent is about to send
_UNTIL_SENT = 150.0  # the same for what it has begun to send: it may be killed and begin again
_LITTLE_PATIENCE = 0.5  # for an opening or a first commit, which an agent may have no mind to send
_NICE = 10
WAIT = 240.0  # seconds for what takes an epoch; time on the chain waits for the agents
_ON_THE_WAY = "('sent', 'mined', 'final')"


class Epochs:
    """Mines blocks until closed. `waits_for` are the providers that time waits for; those that are
    `expected` commit in the window, however busy the machine is.
    """

    def __init__(self, contracts: Deployment, locks: Path) -> None:
        assert isinstance(contracts.benchmark, Contract) and contracts.proofs is not None
        self.deployment, self.anvil = contracts, contracts.anvil
        self.benchmark, terms = contracts.benchmark, contracts.proofs
        self.rules = Rules(
            shape=Shape(terms.n, terms.blocks),
            samples=terms.samples,
            bond=terms.bond,
            genesis=self.benchmark.read("GENESIS"),
            slot=terms.slot,
            chance_ppm=terms.chance_ppm,
            spacing=terms.spacing,
            open_period=terms.open_period,
            window=terms.window,
            draw_period=terms.draw_period,
            draw_delay=terms.draw_delay,
            reach=terms.reach,
            opening_period=terms.opening_period,
            fault_period=terms.fault_period,
            source=terms.source,
        )
        self.waits_for: list[World] = []
        self.expected: list[World] = []
        self.locks = locks
        self._ended = threading.Event()
        self._held = threading.Lock()
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
        """The newest epoch, 0 before the first."""
        return int(self.benchmark.read("current_epoch"))

    def record(self, epoch: int) -> EpochRecord:
        """What the contract knows of an epoch."""
        return EpochRecord(*self.benchmark.read("epoch_of", epoch))

    def stage(self) -> Stage:
        """Where the newest epoch stands."""
        return self.rules.stage(self.record(self.epoch), self.now)

    def proof(self, world: World) -> ProofRecord:
        """A provider's last commitment."""
        return ProofRecord(*self.benchmark.read("proof_of", world.owner.address))

    def has_committed(self, world: World, epoch: int) -> bool:
        """Whether a provider has committed to a proof in an epoch."""
        proof = self.proof(world)
        return epoch > 0 and proof.epoch == epoch and proof.rounds > 0

    def score_in(self, world: World, epoch: int) -> int:
        """What a provider has proven in an epoch; known of its newest one."""
        return int(self.benchmark.read("share_of", world.owner.address, epoch)[0])

    def is_settled(self, world: World, epoch: int) -> bool:
        """Whether nothing is due to a provider for an epoch any more."""
        proof = self.proof(world)
        return proof.epoch > epoch or (proof.epoch == epoch and proof.settled)

    def _is_sending(self, world: World) -> bool:
        """Whether a provider's agent is down, or has a transaction that it has not sent yet."""
        if world.process is None:
            return False
        waiting = "SELECT 1 FROM intents WHERE state IN ('planned', 'signed')"
        return world.process.poll() is not None or bool(world.rows(waiting))

    def _has_sent(self, world: World, about: int, action: str) -> bool:
        """Whether a provider's agent has sent a call about an epoch, or a boundary."""
        where = f"object_id LIKE '{about}-%' AND action LIKE '{action}%'"
        return bool(world.rows(f"SELECT 1 FROM intents WHERE {where} AND state IN {_ON_THE_WAY}"))

    # ------------------------------------------------------------------ time

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No block is mined inside."""
        with self._held:
            yield

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            with self._held:
                seconds = self._seconds()
                # What an agent has begun to send comes in time, even if it dies on the way: a
                # chain that does not wait takes it too late, and the call fails there.
                self._await(lambda: not any(map(self._is_sending, self.waits_for)), _UNTIL_SENT)
                self.anvil.step(seconds)
                if self.stage() is Stage.WINDOW:
                    self._calm()

    def _calm(self) -> None:
        """Rounds are done without an end: the cores are for those that come to one."""
        for process in with_argument(str(self.locks)):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process, _NICE)

    def _seconds(self) -> int:
        """How far the next block is from the last one: not over a boundary, which comes to the
        second.
        """
        now, epoch = self.now, self.epoch
        record = self.record(epoch)
        far = self._steps(now, epoch, record)
        return max(1, min(far, self.rules.next_boundary(now) - now))

    def _steps(self, now: int, epoch: int, record: EpochRecord) -> int:
        stage = self.rules.stage(record, now)
        if stage is Stage.WINDOW:
            return self._in_window(now, epoch, record)
        if stage in (Stage.CLOSE, Stage.DRAW):
            return 5
        mine = [world for world in self.waits_for if self.has_committed(world, epoch)]
        if stage is Stage.SAMPLES:
            behind = [w for w in mine if self.proof(w).verified < self.rules.samples]
            return 1 if behind else 100
        ended = stage in (Stage.OVER, Stage.VOID)
        if ended and not all(self.is_settled(world, epoch) for world in mine):
            return 1
        boundary = self.rules.boundary(now)
        may_win = boundary is not None and boundary >= self.rules.next_window_from(record.opened_at)
        if may_win and boundary is not None and now < self.rules.opened_until(boundary):
            left = self.rules.opened_until(boundary) - now
            if self.rules.chance_ppm == 10**6 and self.waits_for:
                # The next block may be the last one that takes it, also from an agent that is
                # about to send with a look at a block of some time ago.
                self._await(
                    lambda: any(self._has_sent(w, boundary, "open") for w in self.waits_for),
                    _PATIENCE if left <= 2 else _LITTLE_PATIENCE,
                )
            return min(2, left)
        return 100

    def _in_window(self, now: int, epoch: int, record: EpochRecord) -> int:
        early = record.opened_at + self.rules.window // 8
        if now < early:
            return min(10, early - now)
        behind = [world for world in self.waits_for if not self.has_committed(world, epoch)]
        if behind:
            surely = any(world in self.expected for world in behind)
            self._await(
                lambda: all(self._has_sent(w, epoch, "commit") for w in behind),
                _PATIENCE if surely else _LITTLE_PATIENCE,
            )
            return 1
        left = self.rules.window_end(record.opened_at) - now
        if left > _LAST:
            return min(10, left - _LAST)
        if 2 <= left <= 4:
            action = f"commit-last-{left - 1}"
            self._await(
                lambda: all(self._has_sent(w, epoch, action) for w in self.waits_for), _PATIENCE
            )
        return 1

    def _await(self, done: Callable[[], bool], seconds: float) -> None:
        """Let agents do something, if they do so in some seconds."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until and not self._ended.wait(0.05):
            pass


@contextlib.contextmanager
def epochs(terms: ProofTerms | None = None) -> Iterator[Epochs]:
    """Contracts with proofs, on a chain of their own."""
    anvil = Anvil(arguments=["--order", "fifo"])
    with (
        tempfile.TemporaryDirectory() as locks,
        deployment(anvil, proofs=terms or ProofTerms()) as contracts,
        Epochs(contracts, Path(locks)) as walking,
    ):
        yield walking


@contextlib.contextmanager
def prover(walking: Epochs, directory: Path, **settings: str) -> Iterator[World]:
    """A provider whose agent proves; `settings` are those of `[benchmark]`."""
    named = {f"TERAPROOF_BENCHMARK__{name.upper()}": value for name, value in settings.items()}
    # The agents of a test take turns at the device, and with nobody else's.
    named["TERAPROOF_AGENT__LOCK_DIR"] = str(walking.locks)
    world = World(directory, walking.deployment, settings=named)
    try:
        yield world.set_up()
    finally:
        if world in walking.waits_for:
            walking.waits_for.remove(world)
        world.close()


def scored(walking: Epochs, world: World, after: int = 0) -> int:
    """Wait for a score; the epoch it was proven in."""

    def look() -> int | None:
        epoch = walking.epoch
        return epoch if epoch > after and walking.score_in(world, epoch) else None

    found: int = world.until(look, "score", WAIT)
    return found


def committed(walking: Epochs, *worlds: World, after: int = 0) -> int:
    """Wait until all have committed in an epoch; which one."""

    def look() -> int | None:
        epoch = walking.epoch
        there = epoch > after and all(walking.has_committed(world, epoch) for world in worlds)
        return epoch if there else None

    found: int = worlds[0].until(look, "commits", WAIT)
    return found


def in_stage(walking: Epochs, world: World, stage: Stage) -> int:
    """Wait until the newest epoch is in a stage; which one."""
    world.until(lambda: walking.stage() is stage, stage.value, WAIT)
    return walking.epoch


def pool(world: World) -> int:
    """A provider's active stake."""
    return int(world.staking.read("pool", world.owner.address)[0])
