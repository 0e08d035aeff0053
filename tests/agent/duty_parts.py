# SPDX-License-Identifier: Apache-2.0
"""What stands around the jobs duty in its tests: a runner without processes, a chain of data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account

from provider_agent.core.pay import Pay
from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.base import Phase, Reason, RunRequest, RunState
from provider_agent.store import IntentKey, IntentState, Store
from teraproof.contracts.jobs import FINALIZE
from teraproof.protocol.terms import Record, Terms
from teraproof.rpc.errors import Transport
from teraproof.rpc.types import Block, BlockRef

OWNER = Account.from_key(b"\x01" * 32).address
OPERATOR = Account.from_key(b"\x02" * 32)
TENANT = Account.from_key(b"\x03" * 32).address
OTHER = Account.from_key(b"\x04" * 32).address
STAKING, JOBS = "0x" + "0a" * 20, "0x" + "0b" * 20
START = int(time.time())  # chain, machine and test agree on the time
TPF = 10**18
TUSD = Pay(6, "tUSD")


class PlainRunner:
    """Keeps requests; runs end when the test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[RunRequest] = []
        self.states: dict[str, RunState] = {}
        self.refuses = ""
        self.takes = 0  # bytes of the disk that each run allocates
        self.requests: dict[str, RunRequest] = {}
        self.probed: list[str] = []
        self.broken: dict[str, str] = {}  # GPUs by UUID, and what is wrong with them

    def check(self) -> str:
        return "plain"

    def request(self, run_id: str) -> RunRequest:
        return self.requests[run_id]

    def probe(self, device: Device) -> str:
        self.probed.append(device.uuid)
        return self.broken.get(device.uuid, "")

    def start(self, run: RunRequest) -> None:
        if self.refuses:
            raise RunnerError(self.refuses)
        if run.run_id not in self.states:
            self.started.append(run)
            self.requests[run.run_id] = run
            self.states[run.run_id] = RunState(Phase.RUNNING, started=START)
            (self.root / run.run_id / "outputs").mkdir(parents=True)

    def end(self, run_id: str, reason: Reason = Reason.EXITED, code: int | None = 0) -> None:
        """Let a run end."""
        (self.root / run_id / "outputs" / "answer").write_text("42")
        (self.root / run_id / "log").write_text("done")
        self.states[run_id] = RunState(Phase.EXITED, reason, code, START, START + 5)

    def blame_device(self, run_id: str, why: str = "cuInit: error 999") -> None:
        """Let a run fail, and the probe of its GPU after it."""
        self.end(run_id)
        (gpu,) = self.requests[run_id].devices
        self.states[run_id] = RunState(
            *(Phase.EXITED, Reason.DEVICE, None, START, START + 5),
            detail=f"{gpu.uuid} cannot be used: {why}",
            broken=(gpu.uuid,),
        )

    def poll(self, run_id: str) -> RunState:
        if run_id not in self.states:
            raise RunnerError(f"there is no run {run_id}")
        return self.states[run_id]

    def stop(self, run_id: str) -> None:
        self.remove(run_id)

    def remove(self, run_id: str) -> None:
        self.states.pop(run_id, None)

    def list(self) -> tuple[str, ...]:
        return tuple(self.states)

    def allocated(self, run_id: str) -> int:
        return self.takes

    def outputs(self, run_id: str) -> Path:
        return self.root / run_id / "outputs"

    def log(self, run_id: str) -> Path:
        return self.root / run_id / "log"


@dataclass
class PlainChain:
    """What both contracts answer; calldata is made by the real ABI."""

    words: dict[bytes, int] = field(default_factory=dict)
    lies: dict[bytes, int] = field(default_factory=dict)  # words as one endpoint has them
    agrees: bool = False
    quarrels: bool = False  # whether no two endpoints say the same
    owner: str = OWNER
    operator: str = OPERATOR.address
    own_stake: int = 1000 * TPF
    locked: int = 0
    paused_until_: int = 0
    paused_seconds_: int = 0
    consent: int = 4
    money: int = 10**12
    wallets: dict[str, int] = field(default_factory=dict)  # of whom it says otherwise
    used_quotes: set[int] = field(default_factory=set)
    times: dict[int, int] = field(default_factory=dict)  # of blocks
    blocks: dict[int, BlockRef] = field(default_factory=dict)  # that were pinned
    reads: int = 0
    address: str = JOBS

    def states(self, jobs: Sequence[bytes], block: BlockRef) -> tuple[int, ...]:
        assert 0 < len(jobs) <= 64, "as the contract has it"
        self.reads += 1
        if self.agrees and self.quarrels:
            raise Transport("the RPC endpoints do not agree")
        words = self.words if self.agrees else self.words | self.lies
        return tuple(words.get(job, 0) for job in jobs)

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        self.agrees = True
        try:
            yield
        finally:
            self.agrees = False

    def provider_of(self, operator: str, block: BlockRef) -> str:
        return self.owner if operator == self.operator else "0x" + "00" * 20

    def operator_of(self, owner: str, block: BlockRef) -> str:
        return self.operator

    def owner_assets(self, owner: str, block: BlockRef) -> int:
        return self.own_stake

    def pool(self, owner: str, block: BlockRef) -> Any:
        return Values(active=self.own_stake, locked=self.locked)

    def lock_limits(self, owner: str, block: BlockRef) -> Any:
        return Values(per_order=100 * TPF, total=500 * TPF)

    def open_margin(self, block: BlockRef) -> int:
        return 600

    def scores(self, block: BlockRef) -> str:
        return "0x" + "00" * 20

    def quote_used(self, operator: str, nonce: int, block: Block) -> bool:
        return nonce in self.used_quotes

    @property
    def rpc(self) -> PlainChain:
        return self

    def block(self, number: int) -> BlockRef:
        if number in self.times:
            return BlockRef(number, bytes(32), self.times[number])
        return self.blocks[number]

    def credit_of(self, account: str, block: Block) -> int:
        return 0

    def balance_of(self, account: str, block: BlockRef) -> int:
        return self.wallets.get(account, self.money)

    def paused_until(self, block: BlockRef) -> int:
        return self.paused_until_

    def paused_seconds(self, block: BlockRef) -> int:
        return self.paused_seconds_

    def consent_nonce(self, operator: str, block: BlockRef) -> int:
        return self.consent + 1

    def accept(self, terms: Terms, proof: Sequence[bytes] | None = None) -> bytes:
        return b"accept" + terms.job_id() + b"".join(proof or ())

    def attest(self, terms: Terms, *values: Any) -> bytes:
        return b"attest" + b"".join(v for v in values if isinstance(v, bytes))

    def expire(self, terms: Terms) -> bytes:
        return b"expire" + terms.job_id()

    def cancel_quotes(self, word: int, mask: int) -> bytes:
        return b"cancel" + word.to_bytes(32, "big") + mask.to_bytes(32, "big")

    def finalize(self, terms: Terms, record: Record) -> bytes:
        return FINALIZE.encode(terms.abi_tuple(), record.abi_tuple())


class Values:
    def __init__(self, **values: int) -> None:
        self.__dict__.update(values)


class WritingSender:
    """Writes intents like the real one, and sends nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def submit(
        self, key: IntentKey, to: str, data: bytes, *, deadline: int | None = None
    ) -> IntentState:
        return self._store.add_intent(key, to, data, 0, deadline).state


class PlainReserve:
    """Gas money for `jobs` jobs."""

    jobs = 1_000
    left: int | None = None  # for how many it is enough when it is looked at for a promise

    def look(self, block: BlockRef, *, promises: bool = False) -> None:
        if promises and self.left is not None:
            self.jobs = self.left
