# SPDX-License-Identifier: Apache-2.0
"""The contracts on anvil, and its blocks: what every market of the end-to-end tests stands on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

from eth_account.signers.local import LocalAccount

from scripts.deployment.artifacts import Artifact, compile_all
from scripts.deployment.channels import PLACES, place
from scripts.deployment.plan import Plan, amended, load
from scripts.deployment.transactions import Rollout
from teraproof.contracts.abi import Abi
from tests.support.anvil import ROOT, Anvil

DAY, TPF, USD = 86_400, 10**18, 10**6
ZERO = "0x" + "00" * 20
GAS = 3_000_000


@cache
def artifacts() -> dict[str, Artifact]:
    """The compiled contracts."""
    return compile_all()


@cache
def local_plan() -> Plan:
    """The plan for a local chain."""
    return load(ROOT / "deployments" / "params" / "local.yaml", artifacts())


class Failed(AssertionError):
    """A transaction of the test's own reverted."""


@dataclass(eq=False)
class Contract:
    """A contract on the chain."""

    deployment: Deployment
    name: str
    address: str

    @property
    def abi(self) -> Abi:
        """Its ABI."""
        return artifacts()[self.name].abi

    def send(self, sender: LocalAccount, function: str, *arguments: object) -> dict[str, Any]:
        """Call a function in a transaction; its receipt."""
        return self.deployment.transact(self.call(sender, function, *arguments))[0]

    def call(self, sender: LocalAccount, function: str, *arguments: object) -> Call:
        """A call for `Deployment.transact`."""
        return Call(sender.address, self.address, self.abi.encode(function, *arguments))

    def read(self, function: str, *arguments: object) -> Any:
        """Call a view."""
        data = self.abi.encode(function, *arguments)
        request = {"to": self.address, "data": "0x" + data.hex()}
        raw = self.deployment.anvil.rpc("eth_call", request, "latest")
        values = self.abi.decode_output(function, len(arguments), bytes.fromhex(raw[2:]))
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class Call:
    """A transaction to be sent from an unlocked account."""

    sender: str
    to: str | None
    data: bytes


@dataclass(frozen=True)
class ProofTerms:
    """Proofs that a test can wait for: by itself every boundary that may opens a window. Times in
    seconds, amounts in TPF wei, the draw's delay in blocks.
    """

    n: int = 256
    blocks: int = 1
    samples: int = 4
    bond: int = 1_000 * TPF
    slot: int = 1_200
    chance_ppm: int = 10**6
    spacing: int = 1_200
    open_period: int = 20
    window: int = 40
    draw_period: int = 150
    draw_delay: int = 2
    reach: int = 150
    opening_period: int = 600
    fault_period: int = 600
    bond_life: int = 10_000
    score_life: int = 1
    source: int = 0
    rate: int = TPF
    """TPF wei a second."""

    @property
    def length(self) -> int:
        """From the opening of a window to the end of its epoch."""
        return self.window + self.draw_period + self.reach + self.opening_period


@dataclass
class Deployment:
    """The contracts on one anvil. `set_up` first."""

    anvil: Anvil
    challenge_window: int = DAY
    proofs: ProofTerms | None = None
    """With it, Benchmark and Emissions are there, and Jobs takes the scores from them."""
    court: Mapping[str, int] = field(default_factory=dict)
    """What is other in the court than in the plan for a local chain."""
    renting: Mapping[str, int] = field(default_factory=dict)
    """The same of Leases."""

    def __post_init__(self) -> None:
        self.deployer, self.bank, self.treasury, self.stranger = self.anvil.accounts[:4]
        self._seen: dict[int, list[tuple[str, str, str]]] = {}
        self._seen_lock = threading.Lock()
        self._sending = threading.Lock()

    def transact(self, *calls: Call) -> list[dict[str, Any]]:
        """Send transactions together and wait for their receipts; Failed, with the contract's
        reason, when one reverts.
        """
        hashes = []
        for call in calls:
            request = {"from": call.sender, "data": "0x" + call.data.hex(), "gas": hex(GAS)}
            if call.to is not None:
                request["to"] = call.to
            else:
                request.pop("gas")
            with self._sending:  # or two of one account get one nonce
                hashes.append(self.anvil.rpc("eth_sendTransaction", request))
        receipts = []
        for call, tx_hash in zip(calls, hashes, strict=True):
            receipt = until(partial(self.anvil.receipt, tx_hash), "a receipt", 30)
            if int(receipt["status"], 16) != 1:
                reason = self.anvil.reason(tx_hash)
                raise Failed(f"a transaction of {call.sender} reverted: {reason}")
            receipts.append(receipt)
        return receipts

    def set_up(self) -> Deployment:
        """Deploy everything. From here on every account can send without its key."""
        self.anvil.rpc("anvil_autoImpersonateAccount", True)
        plan = amended(local_plan(), *self._terms())
        rollout = Rollout(plan, artifacts(), self.deployer.address, self._send)
        rollout.deploy()
        rollout.wire()
        found = {name: Contract(self, name, rollout.addresses[name]) for name in plan.arguments}
        self.token, self.payment = found["Token"], found["PaymentToken"]
        self.staking, self.jobs = found["Staking"], found["Jobs"]
        self.leases = found["Leases"]
        self.benchmark, self.emissions = found.get("Benchmark"), found.get("Emissions")
        self.disputes = found["Disputes"]
        place(lambda method, parameters: self.anvil.rpc(method, *parameters), artifacts())
        self.channels, self.collector = (Contract(self, *one) for one in PLACES.items())
        return self

    def _send(self, label: str, to: str | None, data: bytes) -> str:
        (receipt,) = self.transact(Call(self.deployer.address, to, data))
        return str(receipt["contractAddress"] or "")

    def _terms(self) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """What is other than in the plan for a local chain, and which contracts are not there."""
        bank, treasury, proofs = self.bank.address, self.treasury.address, self.proofs
        changes: dict[str, dict[str, Any]] = {
            # Every case of a sweep is a provider with stake of its own: there must be enough.
            "Token": {
                "owner": bank,
                "cap": 2 * 10**9 * TPF,
                "genesis_supply": 10**9 * TPF,
                "genesis_receiver": bank,
            },
            "Staking": {
                "owner": bank,
                "unbonding": 7 * DAY,
                "max_lock": 60 * DAY,
                "commission_delay": DAY,
            },
            "Jobs": {
                "owner": bank,
                "initial_guardian": bank,
                "treasury": treasury,
                "fee_bps": 100,
                "challenge_window": self.challenge_window,
                "victim_bps": 9000,
            },
        }
        changes["Disputes"] = dict(self.court)
        changes["Leases"] = {
            "owner": bank,
            "initial_guardian": bank,
            "treasury": treasury,
            **self.renting,
        }
        if proofs is None:
            changes["Leases"]["scores"] = ZERO
            changes["Jobs"]["scores"] = ZERO
            return changes, {"Timelock", "Benchmark", "Emissions"}
        changes["Benchmark"] = {
            "randomness_source" if name == "source" else name: value
            for name, value in asdict(proofs).items()
            if name != "rate"
        }
        # Every score is backed by any stake, and pays whatever it is.
        changes["Emissions"] = {
            "owner": bank,
            "rate": proofs.rate,
            "halving": 3 * 10**7,
            "max_accrual": proofs.spacing,
            "ops_per_tpf": 10**12,
            "target": 1,
        }
        return changes, {"Timelock"}

    def sent_by(self, sender: str) -> Counter[tuple[str, bool]]:
        """Transactions of an account in the chain, by (function, whether it succeeded)."""
        with self._seen_lock:
            for number in range(len(self._seen), self.anvil.number() + 1):
                self._seen[number] = [
                    (made["from"].lower(), made["input"][:10], made["hash"])
                    for made in self.anvil.block(number, full=True)["transactions"]
                ]
            found = [made for block in list(self._seen.values()) for made in block]
        calls = {
            self.jobs: (("accept", 1), ("accept", 2), ("attest", 6), ("finalize", 2)),
            self.benchmark: (
                ("open", 3), ("commit", 3), ("close", 1), ("draw", 2), ("fail", 1), ("settle", 1),
                ("open_sample", 2), ("open_samples", 2),
            ),
            self.emissions: (("claim", 1),),
            self.channels: (
                ("deposit", 4), ("claim", 1), ("settle", 2), ("refundWithSignature", 4),
                ("multicall", 1),
            ),
            self.leases: (
                ("accept", 1), ("accept", 2), ("ready", 1), ("heartbeat", 1), ("suspend", 1),
                ("resume", 1), ("settle", 1), ("give_notice", 1), ("leave", 1), ("close", 1),
            ),
        }  # fmt: skip
        names = {
            "0x" + contract.abi.function(name, arguments).selector.hex(): name
            for contract, functions in calls.items()
            if contract is not None
            for name, arguments in functions
        }
        counted: Counter[tuple[str, bool]] = Counter()
        for account, function, tx_hash in found:
            if account == sender.lower():
                receipt = self.anvil.receipt(tx_hash)
                assert receipt is not None
                name = names.get(function, "other")
                counted[name, int(receipt["status"], 16) == 1] += 1
        return counted

    def forget_blocks(self) -> None:
        """Read the chain again, after a reorg."""
        with self._seen_lock:
            self._seen.clear()


def until(look: Callable[[], Any], what: str, seconds: float) -> Any:
    """Wait for something that is not false or None."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"no {what} after {seconds} s")
        time.sleep(0.1)


@contextlib.contextmanager
def mining(
    anvil: Anvil,
    every: float = 0.3,
    seconds: int = 4,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Mine a block `every` so often, each `seconds` after the last on the chain's clock.

    Transactions wait for their block, as on a real chain, and windows pass quickly. There is no
    further block behind the one that makes `until` true, however late a test looks.
    """
    ended = threading.Event()

    def mine() -> None:
        while not ended.wait(every) and not until():
            anvil.step(seconds)

    anvil.set_automine(False)
    thread = threading.Thread(target=mine, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def deployment(
    anvil: Anvil | None = None,
    challenge_window: int = DAY,
    proofs: ProofTerms | None = None,
    court: Mapping[str, int] | None = None,
) -> Iterator[Deployment]:
    """Contracts on a chain that mines each transaction at once, and every second besides."""
    with anvil or Anvil(block_time=1, arguments=["--mixed-mining"]) as chain:
        yield Deployment(chain, challenge_window, proofs, court or {}).set_up()
