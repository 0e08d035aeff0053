# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty with a real store, real rounds, and a chain made of plain data.

What the contract says is set by the test; calldata is made by the real ABI, and read back from the
intents in the store. Rounds are done in this process, some at each call.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from eth_abi.abi import decode

from provider_agent.benchmark import format as pog
from provider_agent.benchmark import worker
from provider_agent.benchmark.folder import ProofFolder
from provider_agent.benchmark.format import Shape
from provider_agent.benchmark.schedule import Rules
from provider_agent.benchmark.turns import Turn
from provider_agent.chain.contracts import (
    Abi,
    BenchmarkContract,
    Committed,
    EpochRecord,
    ProofRecord,
)
from provider_agent.chain.rpc import BlockRef, Log
from provider_agent.chain.sender import Sender
from provider_agent.duties.attempts import Attempts
from provider_agent.duties.benchmark import BenchmarkDuty
from provider_agent.duties.policy import Standing
from provider_agent.duties.prover import Prover
from provider_agent.settings import BenchmarkSettings
from provider_agent.store import Intent, IntentKey, IntentState, Store
from tests.agent.duty_rig import OTHER, OWNER, TPF, WritingSender

CHAIN_ID = 31_337
BENCHMARK = "0x" + "0c" * 20
BEACON, DRAW = b"\x0d" * 32, b"\x0e" * 32
SHAPE = Shape(256, 1)
RULES = Rules(
    shape=SHAPE,
    samples=5,
    bond=100 * TPF,
    genesis=1_000,
    epoch=10_000,
    open_period=600,
    window=800,
    draw_delay=50,
    draw_period=600,
    fault_period=3_000,
)
EPOCH = 3
START = RULES.start(EPOCH)
OPENED = START + 40
STANDING = Standing(
    owner=OWNER,
    payout=OWNER,
    operator_is_ours=True,
    active_stake=1_000 * TPF,
    available=500 * TPF,
    per_order=200 * TPF,
    open_margin=600,
    has_scores=True,
    orders_paused=False,
    only_member_root=bytes(32),
)
NOTHING = EpochRecord(bytes(32), 0, bytes(32), 0)
NO_PROOF = ProofRecord(0, 0, bytes(32), 0, 0, 0)


class PlainBenchmark(BenchmarkContract):
    """What the contract answers; calldata is the real one."""

    def __init__(self) -> None:
        self.address = BENCHMARK
        self.abi = Abi.of("Benchmark")
        self.epochs: dict[int, EpochRecord] = {}
        self.proofs: dict[str, ProofRecord] = {}
        self.fails: Exception | None = None

    def rules(self, block: Any) -> Rules:
        return RULES

    def epoch_of(self, epoch: int, block: Any) -> EpochRecord:
        if self.fails is not None:
            raise self.fails
        return self.epochs.get(epoch, NOTHING)

    def proof_of(self, provider: str, block: Any) -> ProofRecord:
        return self.proofs.get(provider, NO_PROOF)

    def score(self, provider: str, block: Any) -> int:
        return 7


class PlainProver:
    """Does its work at once, in this process: `rounds` more at each call."""

    def __init__(self, locks: Path) -> None:
        self._turn = Turn("cpu", locks)
        self.rounds = 3
        self.failures = 0
        self.trouble = ""
        self.works = ""

    def prove(self, folder: ProofFolder) -> None:
        self.works = "prove"
        worker.prove(folder, self._turn, rounds=len(folder.roots()) + self.rounds)

    def open(self, folder: ProofFolder) -> None:
        self.works = "open"
        worker.open_samples(folder, self._turn)

    def stop(self) -> None:
        self.works = ""

    def leave(self, path: Path) -> None:
        self.works = ""


class CancellingSender(WritingSender):
    """Gives intents up at once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.store = store

    def abandon(self, key: IntentKey, reason: str) -> None:
        intent = self.store.intent(key)
        assert intent is not None
        self.store.set_intent_state(intent.id, IntentState.ABANDONED, reason=reason)


class Rig:
    """A duty and everything around it. The time is the epoch's opening unless told."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = BenchmarkSettings(**settings)
        self.now = START
        self.number = 100
        self.busy = False
        self.standing: Standing | None = STANDING
        self.contract = PlainBenchmark()
        self.store = Store(folder / "agent.sqlite", clock=lambda: self.now)
        self.outcomes: list[str] = []
        self.restart()

    def restart(self) -> None:
        """A new process over the same files."""
        self.prover = PlainProver(self.folder)
        sender = cast(Sender, CancellingSender(self.store))
        self.duty = BenchmarkDuty(
            settings=self.settings,
            chain_id=CHAIN_ID,
            block_seconds=12,
            store=self.store,
            contract=self.contract,
            attempts=Attempts(self.store, sender, "benchmark", BENCHMARK, clock=lambda: self.now),
            prover=cast(Prover, self.prover),
            folders=self.folder / "proofs",
            busy=lambda: self.busy,
            on_outcome=self.outcomes.append,
        )

    # ------------------------------------------------------------------ the chain

    def cycle(self, at: int | None = None, times: int = 1) -> str:
        """Cycles in a new block at a time; what the duty says."""
        self.now = self.now if at is None else at
        for _ in range(times):
            self.number += 1
            block = BlockRef(self.number, self.number.to_bytes(32, "big"), self.now)
            self.duty.reconcile(block, self.now, self.standing)
        return self.duty.report.note

    def open_epoch(self, beacon: bytes = BEACON, epoch: int = EPOCH) -> None:
        """The chain shows the epoch as opened."""
        opened = RULES.start(epoch) + OPENED - START
        self.contract.epochs[epoch] = EpochRecord(beacon, opened, bytes(32), 0)

    def draw_epoch(self, draw: bytes = DRAW, epoch: int = EPOCH) -> int:
        """The chain shows the epoch as drawn; when."""
        record = self.contract.epochs[epoch]
        drawn = RULES.draw_from(record.opened_at) + 5
        self.contract.epochs[epoch] = record._replace(draw=draw, drawn_at=drawn)
        return drawn

    def land(self, intent: Intent) -> ProofRecord:
        """The chain shows a commit of ours."""
        self.set(intent, IntentState.SIGNED, IntentState.SENT, IntentState.MINED, IntentState.FINAL)
        epoch, rounds, commitment = self.arguments(intent)
        until = RULES.fault_until(epoch) + 10**6
        record = ProofRecord(epoch, rounds, commitment, 0, 10**21, until)
        self.contract.proofs[OWNER] = record
        return record

    def verified(self, count: int) -> None:
        """The chain shows so many samples of ours as verified."""
        self.contract.proofs[OWNER] = self.contract.proofs[OWNER]._replace(verified=count)

    def committed(self, epoch: int, provider: str = OTHER, /, **changes: Any) -> None:
        """Another provider has committed: the event and the state."""
        entry = Log(BENCHMARK, (), b"", 1, bytes(32), bytes(32), 0)
        self.duty.consume([Committed(entry, provider, epoch, 9, bytes(32), 1)])
        record = ProofRecord(epoch, 9, bytes(32), 0, 1, RULES.fault_until(epoch))
        self.contract.proofs[provider] = record._replace(**changes)

    def set(self, intent: Intent, *states: IntentState) -> None:
        """Move an intent on, as the sender would."""
        for state in states:
            if state is IntentState.SIGNED:
                # Nobody signs here: along the edges that need no transaction.
                continue
            self.store._update("intents", "id", intent.id, {"state": state})

    # ------------------------------------------------------------------ looking

    @property
    def challenge(self) -> bytes:
        """The challenge of this provider in this epoch."""
        record = self.contract.epochs[EPOCH]
        return pog.challenge(CHAIN_ID, BENCHMARK, EPOCH, record.beacon, OWNER, SHAPE)

    @property
    def proof(self) -> ProofFolder:
        """Where the proof of this epoch lies."""
        return ProofFolder(self.folder / "proofs" / f"{EPOCH}-{self.challenge.hex()[:8]}")

    def intents(self, action: str = "") -> list[Intent]:
        """The intents whose action begins so, oldest first."""
        rows = self.store.intents_in(*IntentState)
        return sorted(
            (i for i in rows if i.key.action.startswith(action)), key=lambda intent: intent.id
        )

    def actions(self) -> list[str]:
        """The actions of all intents, oldest first."""
        return [intent.key.action for intent in self.intents()]

    def arguments(self, intent: Intent) -> tuple[Any, ...]:
        """What an intent calls its function with."""
        abi = self.contract.abi
        for name, count in (("open", 1), ("commit", 3), ("draw", 1), ("fail", 1)):
            function = abi.function(name, count)
            if intent.data[:4] == function.selector:
                return tuple(decode(function.inputs, intent.data[4:]))
        for name in ("open_sample", "open_samples"):
            function = abi.function(name, 2)
            if intent.data[:4] == function.selector:
                return tuple(decode(function.inputs, intent.data[4:]))
        raise AssertionError("another function")

    def with_standing(self, **changes: Any) -> None:
        """Another standing of the provider."""
        assert self.standing is not None
        self.standing = replace(self.standing, **changes)
