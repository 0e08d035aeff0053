# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty with a real store, real rounds, and a chain made of plain data.

What the contract says is set by the test; calldata is made by the real ABI, and read back from the
intents in the store. Rounds are done in this process, some at each call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from provider_agent.core.attempts import Attempts
from provider_agent.modules.jobs.policy import Standing
from provider_agent.modules.proofs.duty import BenchmarkDuty
from provider_agent.modules.proofs.epochs import NO_EPOCH
from provider_agent.modules.proofs.prover import Prover
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.prover import worker
from provider_agent.prover.folder import ProofFolder
from provider_agent.prover.turns import Turn
from provider_agent.store import Intent, IntentKey, IntentState, Store
from provider_agent.tx.sender import Sender
from teraproof import headers
from teraproof.contracts import benchmark
from teraproof.contracts.benchmark import (
    BenchmarkContract,
    Committed,
    EpochRecord,
    ProofRecord,
    Proven,
)
from teraproof.headers import Header
from teraproof.pog import format as pog
from teraproof.pog.format import Shape
from teraproof.pog.schedule import Rules
from teraproof.rpc.client import RpcPool
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef, Log
from tests.agent.duty_parts import OTHER, OWNER, TPF, WritingSender
from tests.agent.engines import quick_engine
from tests.agent.stores import fresh_store

CHAIN_ID = 31_337
BENCHMARK = "0x" + "0c" * 20
DRAW = b"\x0e" * 32
SHAPE = Shape(256, 1)
RULES = Rules(
    shape=SHAPE,
    samples=5,
    bond=100 * TPF,
    genesis=1_000,
    slot=1_000,
    chance_ppm=250_000,
    spacing=5_000,
    open_period=300,
    window=800,
    draw_period=600,
    draw_delay=4,
    reach=400,
    opening_period=2_000,
    fault_period=3_000,
    source=0,
)
EPOCH = 3
OPENED = 21_000  # a boundary
WINDOW_END, END = OPENED + RULES.window, OPENED + RULES.length
PACE = 12.0  # seconds between two blocks
# What a block holds that opens a window, and what one does that opens none.
_VALUES = [number.to_bytes(32, "big") for number in range(1, 99)]
WINS, WINS_TOO = [v for v in _VALUES if RULES.wins(headers.lottery(v))][:2]
LOSES = next(v for v in _VALUES if not RULES.wins(headers.lottery(v)))
BEACON = headers.beacon(WINS)
STANDING = Standing(
    owner=OWNER,
    operator_is_ours=True,
    active_stake=1_000 * TPF,
    available=500 * TPF,
    per_order=200 * TPF,
    open_margin=600,
    has_scores=True,
    orders_paused=False,
    only_member_root=bytes(32),
)
NO_PROOF = ProofRecord(0, 0, bytes(32), 0, 0, 0, False)


class PlainBenchmark(BenchmarkContract):
    """What the contract and the chain answer; calldata is the real one. The chain has a block a
    second, whose number is its time.
    """

    def __init__(self) -> None:
        self.address = BENCHMARK
        self.rpc = cast(RpcPool, self)
        self.epochs: dict[int, EpochRecord] = {}
        self.known_from: dict[int, int] = {}  # block from which on an epoch is there
        self.proofs: dict[str, ProofRecord] = {}
        self.values: dict[int, bytes] = {}  # what blocks hold that open a window
        self.branch = b""  # another one after a reorg
        self.reads = 0
        self.fails: Exception | None = None
        self.lie = 0  # the newest epoch, as one endpoint has it
        self.agrees = False

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        self.agrees = True
        yield
        self.agrees = False

    def current_epoch(self, block: Any) -> int:
        if self.fails is not None:
            raise self.fails
        if self.lie and not self.agrees:
            return self.lie
        there = [e for e in self.epochs if block.number >= self.known_from.get(e, 0)]
        return max(there, default=0)

    def epoch_of(self, epoch: int, block: Any) -> EpochRecord:
        there = block.number >= self.known_from.get(epoch, 0)
        return self.epochs.get(epoch, NO_EPOCH) if there else NO_EPOCH

    def proof_of(self, provider: str, block: Any) -> ProofRecord:
        return self.proofs.get(provider, NO_PROOF)

    def score(self, provider: str, block: Any) -> int:
        return 7

    def proven(self, provider: str, block: Any) -> Proven:
        return Proven(9, 2, 10**6)

    def block(self, number: int) -> BlockRef:
        self.reads += 1
        header = self.header(number)
        return BlockRef(number, header.hash, header.timestamp)

    def header(self, number: int) -> Header:
        def digest(of: int) -> bytes:
            return pog.keccak(self.branch + of.to_bytes(32, "big"))

        value = self.values.get(number, LOSES)
        data = digest(number) * 17
        return Header(number, digest(number), digest(number - 1), number, value, data)


def _fixed(value: int) -> Any:
    return lambda self, block: value


# What the contract fixes permanently.
for _name, _value in {
    "n": SHAPE.n,
    "blocks": SHAPE.blocks,
    **{name: getattr(RULES, name) for name in RULES.__dataclass_fields__ if name != "shape"},
}.items():
    setattr(PlainBenchmark, _name, _fixed(_value))


class PlainProver:
    """Does its work at once, in this process: `rounds` more at each call."""

    def __init__(self, locks: Path) -> None:
        self._turn = Turn("cpu", locks)
        self.rounds = 3
        self.failures = 0
        self.trouble = ""
        self.works = ""

    def wait(self, folder: ProofFolder) -> None:
        assert folder.task().shape == SHAPE
        self.works = "wait"

    def prove(self, folder: ProofFolder) -> None:
        self.works = "prove"
        rounds = len(folder.roots()) + self.rounds
        worker.prove(folder, self._turn, rounds=rounds, engines=quick_engine)

    def open(self, folder: ProofFolder) -> None:
        self.works = "open"
        worker.open_samples(folder, self._turn, engines=quick_engine)

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
    """A duty and everything around it. The time is the epoch's opening unless told; the pinned
    block is `lag` blocks behind.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = BenchmarkSettings(**settings)
        self.now = OPENED
        self.lag = 0
        self.seconds = 0.0  # of the machine's clock, since the newest block
        self.cycles = 0
        self.busy = self.settles = False
        self.standing: Standing | None = STANDING
        self.contract = PlainBenchmark()
        self.store = fresh_store(folder / "agent.sqlite", clock=lambda: self.now)
        self.outcomes: list[str] = []
        self.restart()

    def restart(self) -> None:
        """A new process over the same files."""
        self.prover = PlainProver(self.folder)
        sender = cast(Sender, CancellingSender(self.store))
        self.pace = Pace(cast(RpcPool, None), PACE, clock=lambda: self.seconds)
        self.duty = BenchmarkDuty(
            settings=self.settings,
            chain_id=CHAIN_ID,
            pace=self.pace,
            store=self.store,
            contract=self.contract,
            attempts=Attempts(self.store, sender, "benchmark", BENCHMARK, clock=lambda: self.now),
            prover=cast(Prover, self.prover),
            folders=self.folder / "proofs",
            busy=lambda: self.busy,
            settles=self.settles,
            on_outcome=self.outcomes.append,
        )

    # ------------------------------------------------------------------ the chain

    def cycle(self, at: int | None = None, times: int = 1, waited: float = PACE) -> str:
        """Cycles in a new block at a time, `waited` seconds after it; what the duty says."""
        self.now = self.now if at is None else at
        for _ in range(times):
            self.cycles += 1
            made = self.cycles.to_bytes(32, "big")  # a state of its own
            head = BlockRef(self.now, made, self.now)
            block = BlockRef(self.now - self.lag, made[::-1], self.now - self.lag)
            self.seconds = 0.0
            self.pace.see(head)
            self.seconds = waited
            self.duty.reconcile(block, head, self.standing)
        return self.duty.report.note

    def win(self, boundary: int = OPENED, value: bytes = WINS) -> None:
        """The block of a boundary opens a window."""
        self.contract.values[boundary] = value

    def open_epoch(self, beacon: bytes = BEACON, epoch: int = EPOCH, at: int = OPENED) -> None:
        """The chain shows the epoch as opened."""
        self.contract.epochs[epoch] = EpochRecord(beacon, at, 0, bytes(32), RULES.ends_at(at))

    def close_epoch(self, epoch: int = EPOCH) -> int:
        """The chain shows the block of the draw as named; its number."""
        record = self.contract.epochs[epoch]
        target = RULES.window_end(record.opened_at) + 30
        self.contract.epochs[epoch] = record._replace(target=target)
        return target

    def draw_epoch(self, draw: bytes = DRAW, epoch: int = EPOCH) -> int:
        """The chain shows the epoch as drawn; when."""
        target = self.close_epoch(epoch)
        self.contract.epochs[epoch] = self.contract.epochs[epoch]._replace(draw=draw)
        return target + 5

    def land(self, intent: Intent) -> ProofRecord:
        """The chain shows a commit of ours."""
        self.set(intent, IntentState.SIGNED, IntentState.SENT, IntentState.MINED, IntentState.FINAL)
        epoch, rounds, commitment = self.arguments(intent)
        record = ProofRecord(epoch, rounds, commitment, 0, 10**21, 10**6, False)
        self.contract.proofs[OWNER] = record
        return record

    def verified(self, count: int) -> None:
        """The chain shows `count` samples of ours as verified."""
        self.contract.proofs[OWNER] = self.contract.proofs[OWNER]._replace(verified=count)

    def committed(self, epoch: int, provider: str = OTHER, /, **changes: Any) -> None:
        """Another provider has committed: the event and the state."""
        entry = Log(BENCHMARK, (), b"", 1, bytes(32), bytes(32), 0)
        self.duty.consume([Committed(entry, epoch, provider, 9, bytes(32), 1)])
        record = ProofRecord(epoch, 9, bytes(32), 0, 1, 10**6, False)
        self.contract.proofs[provider] = record._replace(**changes)

    def set(self, intent: Intent, *states: IntentState) -> None:
        """Move an intent on, as the sender would."""
        for state in states:
            if state is IntentState.SIGNED:
                # Nobody signs here: along the edges that need no transaction.
                continue
            self.store._update("intents", "id", intent.id, {"state": state})

    # ------------------------------------------------------------------ looking

    def place(self, beacon: bytes, epoch: int | None = None) -> Path:
        """Where the proof of an epoch with this beacon lies; the first one after all on chain."""
        number = max(self.contract.epochs, default=0) + 1 if epoch is None else epoch
        challenge = pog.challenge(CHAIN_ID, BENCHMARK, number, beacon, OWNER, SHAPE)
        return self.folder / "proofs" / f"{number}-{challenge.hex()[:8]}"

    @property
    def proof(self) -> ProofFolder:
        """Where the proof of this epoch lies."""
        return ProofFolder(self.place(self.contract.epochs[EPOCH].beacon, EPOCH))

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
        for function in (
            benchmark.OPEN,
            benchmark.COMMIT,
            benchmark.CLOSE,
            benchmark.DRAW,
            benchmark.FAIL,
            benchmark.SETTLE,
            benchmark.OPEN_SAMPLE,
            benchmark.OPEN_SAMPLES,
        ):
            if intent.data[:4] == function.selector:
                return function.decode_input(intent.data)
        raise AssertionError("another function")

    def with_standing(self, **changes: Any) -> None:
        """Another standing of the provider."""
        assert self.standing is not None
        self.standing = replace(self.standing, **changes)


FIRST = OPENED + RULES.window // 8
MIDDLE = OPENED + RULES.window // 2
LAST = [WINDOW_END - 48, WINDOW_END - 36, WINDOW_END - 24]  # blocks before the last three
CLOSED = WINDOW_END + RULES.close_delay(OWNER, EPOCH)


def committed_rig(tmp_path: Path, **settings: Any) -> Rig:
    """A rig whose commit has landed in an open epoch."""
    rig = Rig(tmp_path, **settings)
    rig.open_epoch()
    rig.cycle(at=FIRST)
    rig.land(rig.intents("commit-1")[0])
    return rig
