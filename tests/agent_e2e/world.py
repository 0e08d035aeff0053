# SPDX-License-Identifier: Apache-2.0
"""Whole markets on anvil: contracts, providers with their agent processes, tenants.

A `Deployment` is the contracts on one chain; a `World` is one provider with its agent and one
tenant, and several worlds can share a deployment. The agent is the installed wheel in its own
environment, started as a process and configured by a file, like a provider's. The tenant side uses
plain JSON-RPC and the agent's own HTTP client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.deployment.artifacts import Artifact, compile_all
from scripts.deployment.plan import Plan, amended, load
from scripts.deployment.transactions import Rollout
from teraproof.client.jobs import AgentClient
from teraproof.contracts.abi import Abi
from teraproof.contracts.jobs import Attested, JobsContract, Posted
from teraproof.errors import LocalError
from teraproof.protocol import messages
from teraproof.protocol.digests import file_digest
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Order, Record, Status, Terms
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.nursery import Nursery
from tests.support.anvil import ROOT, Anvil, free_port
from tests.support.processes import with_argument
from tests.support.runs import accepted

AGENT_PYTHON = ROOT / ".venv-agent" / "bin" / "python"
RUNTIME = ROOT / ".venv-runtime"
DAY, TPF, USD = 86_400, 10**18, 10**6
ZERO = "0x" + "00" * 20
GAS = 3_000_000
QUICK = """\
import os
os.mkdir("out")
open("out/answer", "w").write("42")
"""


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


class Process(Protocol):
    """What both kinds of agent process can do."""

    pid: int

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""

    def kill(self) -> None:
        """kill -9."""

    def send_signal(self, sig: int, /) -> None:
        """Any other signal."""


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

    def __post_init__(self) -> None:
        self.deployer, self.bank, self.treasury, self.stranger = self.anvil.accounts[:4]
        self._seen: dict[int, list[tuple[str, str, str]]] = {}
        self._seen_lock = threading.Lock()

    def transact(self, *calls: Call) -> list[dict[str, Any]]:
        """Send transactions together and wait for their receipts; Failed when one reverts."""
        hashes = []
        for call in calls:
            request = {"from": call.sender, "data": "0x" + call.data.hex(), "gas": hex(GAS)}
            if call.to is not None:
                request["to"] = call.to
            else:
                request.pop("gas")
            hashes.append(self.anvil.rpc("eth_sendTransaction", request))
        receipts = []
        for call, tx_hash in zip(calls, hashes, strict=True):
            receipt = until(partial(self.anvil.receipt, tx_hash), "a receipt", 30)
            if int(receipt["status"], 16) != 1:
                raise Failed(f"a transaction of {call.sender} reverted")
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
        self.benchmark, self.emissions = found.get("Benchmark"), found.get("Emissions")
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
        if proofs is None:
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


@dataclass
class Job:
    """A job that the tenant has posted or hired, with the means to follow it."""

    world: World
    terms: Terms
    spec: JobSpec
    directory: Path

    @property
    def id(self) -> bytes:
        """The job's id."""
        return self.terms.job_id()

    @property
    def status(self) -> Status:
        """The status on chain now."""
        return Status(self.world.jobs.read("status", self.id))

    def upload(self, wait: float = 60) -> None:
        """Send specification and inputs to the agent."""
        self.world.client().upload(self.spec, self.directory, wait=wait)

    def try_upload(self) -> bool:
        """Send what the agent takes now; False when it is not there or wants to wait."""
        try:
            self.upload(wait=0)
        except LocalError:
            return False
        return True

    def attested(self) -> Attested:
        """The Attested event."""
        pool = RpcPool([self.world.anvil.url], self.world.anvil.chain_id)
        contract = JobsContract(pool, self.world.jobs.address)
        logs = pool.logs([contract.address], 0, self.world.anvil.number())
        pool.close()
        for entry in logs:
            event = contract.decode(entry)
            if isinstance(event, Attested) and event.job == self.id:
                return event
        raise AssertionError("the job was not attested")

    def record(self) -> Record:
        """The attested record."""
        event = self.attested()
        attestation = messages.Attestation(
            self.id, self.terms.order.spec, event.result, event.receipt, event.started,
            event.finished,
        )  # fmt: skip
        return Record(
            event.provider,
            event.assigned_at,
            event.attested_at,
            event.paused,
            attestation.struct_hash(),
        )

    def approve(self) -> None:
        """Pay at once."""
        self.world.jobs.send(
            self.world.tenant, "approve", self.terms.abi_tuple(), self.record().abi_tuple()
        )

    def wait(self, *statuses: Status, seconds: float = 60) -> Status:
        """Wait until the chain shows one of the statuses."""
        reached: Status = self.world.until(
            lambda: self.status if self.status in statuses else None,
            " or ".join(status.name for status in statuses),
            seconds,
            lambda: {"status": self.status.name},
        )
        return reached


@dataclass
class World:
    """One provider and one tenant. Close it, whatever happens."""

    directory: Path
    deployment: Deployment
    settings: Mapping[str, str] = field(default_factory=dict)
    """Overrides of the agent's settings, as its environment takes them."""
    poll_seconds: float = 0.2
    block_seconds: float | None = 1
    """None lets the agent measure it."""

    def __post_init__(self) -> None:
        self.anvil = self.deployment.anvil
        self.token, self.payment = self.deployment.token, self.deployment.payment
        self.staking, self.jobs = self.deployment.staking, self.deployment.jobs
        self.benchmark, self.emissions = self.deployment.benchmark, self.deployment.emissions
        self.stranger = self.deployment.stranger
        self.owner: LocalAccount = Account.create()
        self.tenant: LocalAccount = Account.create()
        self.operator: LocalAccount = Account.create()
        self.api_port, self.status_port = free_port(), free_port()
        self.rpc_urls: list[str] = [self.anvil.url]
        self.process: Process | None = None
        self._client: AgentClient | None = None
        self._nonce = 0

    def set_up(self) -> World:
        """Register and fund the provider; fund the tenant."""
        self.directory.mkdir(parents=True, exist_ok=True)
        owner, bank = self.owner, self.deployment.bank
        for account in (owner, self.tenant, self.operator):
            self.anvil.set_balance(account.address, 100 * 10**18)
        domain = messages.Domain(self.anvil.chain_id, self.staking.address)
        consent = messages.OperatorConsent(owner.address, self.operator.address, 0, 2**63)
        signature = messages.sign(domain, consent, self.operator)
        endpoint = f"http://127.0.0.1:{self.api_port}"
        self.deployment.transact(
            self.token.call(bank, "transfer", owner.address, 10**6 * TPF),
            self.payment.call(self.tenant, "mint", self.tenant.address, 10**6 * USD),
            self.payment.call(self.tenant, "approve", self.jobs.address, 2**256 - 1),
        )
        self.deployment.transact(
            self.staking.call(
                owner, "register", self.operator.address, owner.address, 1000, 10**6 * TPF,
                10**7 * TPF, endpoint, consent.nonce, consent.expires, signature,
            ),
            self.token.call(owner, "approve", self.staking.address, 2**256 - 1),
            self.staking.call(owner, "delegate", owner.address, 10**6 * TPF),
        )  # fmt: skip
        return self

    def close(self) -> None:
        """End the agent and whatever it has left."""
        self.kill_agent()
        if self._client is not None:
            self._client.close()
        for process_id in with_argument(str(self.directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    # ------------------------------------------------------------------ tenant

    def spec(self, directory: Path, **changes: object) -> JobSpec:
        """A specification whose inputs are all files of a directory."""
        inputs = [
            {
                "path": path.relative_to(directory).as_posix(),
                "sha256": file_digest(path).hex(),
                "size": path.stat().st_size,
            }
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        ]
        document = {
            "version": 1,
            "kind": "batch",
            "name": "test",
            "runtime": "python-ml",
            "command": ["python", "job.py"],
            "env": {},
            "inputs": inputs,
            "outputs": ["out"],
            "resources": {"cpus": 1, "memory_mb": 512, "disk_mb": 64, "gpus": 0},
            "timeout_seconds": 30,
            "deterministic": True,
            "network": False,
            **changes,
        }
        return parse(canonical(document))

    def job_directory(self, name: str, script: str) -> Path:
        """A directory with `job.py`."""
        directory = self.directory / "tenant" / name
        directory.mkdir(parents=True)
        (directory / "job.py").write_text(script)
        return directory

    def quick_job(self, script: str = QUICK, **changes: object) -> Job:
        """Post a job that is over at once, with long terms. Nothing is uploaded."""
        directory = self.job_directory(f"job{self._nonce}", script)
        order = {"duration": 20 * DAY, "auction": 10 * DAY} | changes
        return self.post(self.spec(directory), directory, **order)

    def post(self, spec: JobSpec, directory: Path, **changes: object) -> Job:
        """Post a job on chain. Nothing is uploaded."""
        self._nonce += 1
        values: dict[str, Any] = {
            "spec": spec.digest(),
            "start_price": 1 * USD,
            "max_price": 2 * USD,
            "collateral": 10 * TPF,
            "duration": 600,
            "auction": 60,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": bytes(32),
            "nonce": self._nonce,
            **changes,
        }
        order = Order(**values)
        receipt = self.jobs.send(self.tenant, "post", order.abi_tuple())
        return Job(self, self.posted(receipt), spec, directory)

    def posted(self, receipt: dict[str, Any]) -> Terms:
        """The terms in a receipt's Posted event."""
        pool = RpcPool([self.anvil.url], self.anvil.chain_id)
        number = int(receipt["blockNumber"], 16)
        contract = JobsContract(pool, self.jobs.address)
        wanted = bytes.fromhex(receipt["transactionHash"][2:])
        events = [
            contract.decode(e)
            for e in pool.logs([contract.address], number, number)
            if e.tx_hash == wanted
        ]
        pool.close()
        return next(event.terms for event in events if isinstance(event, Posted))

    def client(self) -> AgentClient:
        """The tenant's connection to the agent."""
        if self._client is None:
            self._client = AgentClient(f"http://127.0.0.1:{self.api_port}", self.tenant)
        return self._client

    # ------------------------------------------------------------------ agent

    def configure(self) -> Path:
        """Write the agent's settings and key."""
        home = self.directory / "agent"
        home.mkdir(parents=True, exist_ok=True)
        key = home / "operator.key"
        key.write_text(self.operator.key.hex())
        key.chmod(0o600)
        config = home / "provider.toml"
        config.write_text(
            f"""\
[chain]
rpc_urls = {json.dumps(self.rpc_urls)}
chain_id = {self.anvil.chain_id}
staking = "{self.staking.address}"
jobs = "{self.jobs.address}"
{self._proof_settings()}
confirmations = 1
{"" if self.block_seconds is None else f"block_seconds = {self.block_seconds}"}
reorg_window = 16
poll_seconds = {self.poll_seconds}
rpc_timeout_seconds = 20
# Chains of tests run ahead.
clock_margin_seconds = 1000000000

[operator]
private_key_file = "operator.key"

[agent]
data_dir = "data"

[api]
port = {self.api_port}
public_url = "http://127.0.0.1:{self.api_port}"
status_port = {self.status_port}

[runner]
runtimes = {{ python-ml = "{RUNTIME}" }}
allow_unlimited = "{accepted()}"

[jobs]
price_per_hour = "1"
margin_seconds = 20
"""
        )
        return config

    def _proof_settings(self) -> str:
        found = {"benchmark": self.benchmark, "emissions": self.emissions}
        return "\n".join(f'{name} = "{c.address}"' for name, c in found.items() if c is not None)

    def start_agent(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the agent and wait until its API answers."""
        self.launch(*command, environment=environment)
        self.until(self._answers, "the agent's API", 30)

    def launch(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the agent as its own process; `command` replaces the module that is run."""
        arguments = [str(AGENT_PYTHON), *(command or ("-m", "provider_agent"))]
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*arguments, *self._run_arguments()],
                cwd=self.directory,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def fork_agent(self, nursery: Nursery, **orders: str) -> None:
        """Start the agent from a process that has its modules loaded already; see `nursery`."""
        self.process = nursery.start(
            self._run_arguments(),
            directory=self.directory,
            environment=self._environment(None),
            log=self.directory / "agent.log",
            **orders,
        )

    def _run_arguments(self) -> list[str]:
        return ["run", "--skip-checks", "--config", str(self.configure())]

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **self.settings, **(more or {})}

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended:\n{self.log()}")
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.api_port}/healthz"
            return httpx.get(url, trust_env=False, verify=False).status_code == 200
        return False

    def log(self) -> str:
        """The end of the agent's log."""
        path = self.directory / "agent.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def status(self) -> str:
        """What `provider-agent status` shows on a wide terminal."""
        return subprocess.run(
            [
                str(AGENT_PYTHON),
                "-m",
                "provider_agent",
                "status",
                "--config",
                str(self.configure()),
            ],
            env={**self._environment(None), "COLUMNS": "200"},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def kill_agent(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop_agent(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)

    def left_processes(self) -> list[str]:
        """Command lines of processes that still work in the agent's data directory."""
        return list(with_argument(str(self.directory / "agent" / "data")).values())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the agent's database says; nothing when it is not there yet."""
        path = self.directory / "agent" / "data" / "agent.sqlite"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            try:
                return database.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []  # the file has no tables yet

    # ------------------------------------------------------------------ whole jobs

    def settled(self, job: Job, seconds: float = 90) -> None:
        """Wait until a job is paid and the agent has nothing more to do for it."""
        job.wait(Status.SETTLED, seconds=seconds)
        self.until(
            lambda: (
                not self.rows(
                    "SELECT 1 FROM intents WHERE state NOT IN ('final', 'reverted', 'abandoned') "
                    "UNION ALL SELECT 1 FROM runs WHERE state IN ('planned', 'running', 'exited') "
                    f"UNION ALL SELECT 1 FROM jobs WHERE job_id = x'{job.id.hex()}' AND status <> 4"
                )
            ),
            "rest",
            30,
        )

    def check_clean(self, **expected: int) -> None:
        """Nothing was sent twice, nothing was left behind; stops the agent.

        `expected` counts the operator's successful transactions; others are a fault.
        """
        assert self.process is not None
        if self.process.poll() is None:
            assert self.stop_agent() == 0, self.log()
        assert self.left_processes() == []
        runs = self.directory / "agent" / "data" / "runs"
        assert [path.name for path in runs.iterdir()] == []
        sent = self.deployment.sent_by(self.operator.address)
        assert sent == {(name, True): n for name, n in expected.items()}, self.log()
        assert self.anvil.nonce(self.operator.address) == sum(expected.values())

    # ------------------------------------------------------------------ waiting

    def until(
        self,
        look: Callable[[], Any],
        what: str,
        seconds: float = 30,
        tell: Callable[[], Mapping[str, str]] | None = None,
    ) -> Any:
        """Wait for something that is not false or None; AssertionError with the agent's log."""
        try:
            return until(look, what, seconds)
        except AssertionError as error:
            said = "" if tell is None else f" {dict(tell())}"
            raise AssertionError(f"{error}{said}; the agent's log:\n{self.log()}") from None


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
def mining(anvil: Anvil, every: float = 0.3, seconds: int = 4) -> Iterator[None]:
    """Mine a block `every` so often, each `seconds` after the last on the chain's clock.

    Transactions wait for their block, as on a real chain, and windows pass quickly.
    """
    ended = threading.Event()

    def mine() -> None:
        while not ended.wait(every):
            step(anvil, seconds)

    anvil.set_automine(False)
    thread = threading.Thread(target=mine, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def step(anvil: Anvil, seconds: int = 4) -> None:
    """Mine one block, `seconds` after the last."""
    anvil.rpc("evm_setNextBlockTimestamp", hex(anvil.timestamp() + seconds))
    anvil.rpc("evm_mine")


@contextlib.contextmanager
def deployment(
    anvil: Anvil | None = None, challenge_window: int = DAY, proofs: ProofTerms | None = None
) -> Iterator[Deployment]:
    """Contracts on a chain that mines each transaction at once, and every second besides."""
    with anvil or Anvil(block_time=1, arguments=["--mixed-mining"]) as chain:
        yield Deployment(chain, challenge_window, proofs).set_up()


@contextlib.contextmanager
def market(
    directory: Path, anvil: Anvil | None = None, challenge_window: int = DAY, **changes: Any
) -> Iterator[World]:
    """A world on a chain of its own."""
    with deployment(anvil, challenge_window) as contracts:
        world = World(directory, contracts, **changes)
        try:
            yield world.set_up()
        finally:
            world.close()
