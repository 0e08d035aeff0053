# SPDX-License-Identifier: Apache-2.0
"""A whole market on one anvil: contracts, a provider with its agent process, a tenant.

The agent is the installed wheel in its own environment, started as a process and configured by a
file, like a provider's. The tenant side uses plain JSON-RPC and the agent's own HTTP client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.api.client import AgentClient
from provider_agent.chain.contracts import Abi, Attested, JobsContract, Posted
from provider_agent.chain.rpc import RpcPool
from provider_agent.protocol import messages
from provider_agent.protocol.digests import file_digest
from provider_agent.protocol.jobspec import JobSpec, canonical, parse
from provider_agent.protocol.terms import Order, Record, Status, Terms
from tests.support.anvil import ROOT, Anvil, free_port
from tests.support.processes import with_argument
from tools.contracts import CONTRACTS, compile_contract

AGENT_PYTHON = ROOT / ".venv-agent" / "bin" / "python"
RUNTIME = ROOT / ".venv-runtime"
DAY, TPF, USD = 86_400, 10**18, 10**6
ZERO = "0x" + "00" * 20
LOCK = 1


@cache
def artefact(name: str) -> tuple[Abi, list[dict[str, Any]], str]:
    """ABI and creation code of `contracts/<name>.vy`, compiled once a session."""
    compiled = compile_contract(CONTRACTS / f"{name}.vy", "abi", "bytecode")
    return Abi(compiled["abi"]), compiled["abi"], str(compiled["bytecode"])


class Failed(AssertionError):
    """A transaction of the test's own reverted."""


@dataclass
class Deployed:
    """A contract on the chain."""

    world: World
    name: str
    address: str

    @property
    def abi(self) -> Abi:
        """Its ABI."""
        return artefact(self.name)[0]

    def send(self, sender: LocalAccount, function: str, *arguments: object) -> dict[str, Any]:
        """Call a function in a transaction; its receipt."""
        return self.world.transact(sender, self.address, self.abi.encode(function, *arguments))

    def read(self, function: str, *arguments: object) -> Any:
        """Call a view."""
        data = self.abi.encode(function, *arguments)
        request = {"to": self.address, "data": "0x" + data.hex()}
        raw = self.world.anvil.rpc("eth_call", request, "latest")
        values = self.abi.decode_output(function, len(arguments), bytes.fromhex(raw[2:]))
        return values[0] if len(values) == 1 else values


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

    def upload(self, wait: float = 30) -> None:
        """Send specification and inputs to the agent."""
        self.world.client().upload(self.spec, self.directory, wait=wait)

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
            event.provider, event.assigned_at, event.attested_at, attestation.struct_hash()
        )

    def approve(self) -> None:
        """Pay at once."""
        self.world.jobs.send(
            self.world.tenant, "approve", self.terms.abi_tuple(), self.record().abi_tuple()
        )

    def wait(self, *statuses: Status, seconds: float = 60) -> Status:
        """Wait until the chain shows one of the statuses."""
        return self.world.until(
            lambda: self.status if self.status in statuses else None,
            f"{' or '.join(s.name for s in statuses)} (is {{status}})",
            seconds,
            lambda: {"status": self.status.name},
        )


@dataclass
class World:
    """See the module. Use as a context manager."""

    directory: Path
    anvil: Anvil
    challenge_window: int = DAY
    settings: Mapping[str, str] = field(default_factory=dict)
    """Overrides of the agent's settings, as its environment takes them."""

    def __post_init__(self) -> None:
        self.deployer, self.owner, self.tenant, self.treasury, self.stranger = self.anvil.accounts[
            :5
        ]
        self.operator: LocalAccount = Account.create()
        self.api_port = free_port()
        self.rpc_urls: list[str] = [self.anvil.url]
        self.process: subprocess.Popen[bytes] | None = None
        self._client: AgentClient | None = None
        self._nonce = 0

    # ------------------------------------------------------------------ chain

    def transact(self, sender: LocalAccount, to: str | None, data: bytes) -> dict[str, Any]:
        """Send a transaction and wait for its receipt; Failed when it reverts."""
        request = {"from": sender.address, "data": "0x" + data.hex()}
        if to is not None:
            request["to"] = to
        tx_hash = self.anvil.rpc("eth_sendTransaction", request)
        receipt = self.until(lambda: self.anvil.receipt(tx_hash), "a receipt", 30)
        if int(receipt["status"], 16) != 1:
            raise Failed(f"a transaction of {sender.address} reverted")
        return receipt

    def deploy(self, name: str, *arguments: object) -> Deployed:
        """Deploy a contract from the sources."""
        from eth_abi.abi import encode

        _, entries, bytecode = artefact(name)
        constructor = next((e for e in entries if e["type"] == "constructor"), {"inputs": []})
        kinds = [argument["type"] for argument in constructor["inputs"]]
        data = bytes.fromhex(bytecode[2:]) + encode(kinds, arguments)
        receipt = self.transact(self.deployer, None, data)
        return Deployed(
            self, name.rsplit("/", 1)[-1] if "/" not in name else name, receipt["contractAddress"]
        )

    def set_up(self) -> World:
        """Deploy everything; register and fund the provider; fund the tenant."""
        owner, tenant = self.owner.address, self.tenant.address
        self.token = self.deploy("Token", owner, 10**9 * TPF, 10**8 * TPF, owner)
        self.payment = self.deploy("mocks/PaymentToken")
        self.staking = self.deploy("Staking", self.token.address, owner, 7 * DAY, 60 * DAY, DAY)
        self.jobs = self.deploy(
            "Jobs", self.payment.address, self.staking.address, ZERO, owner, owner,
            self.treasury.address, 100, self.challenge_window, 3600, DAY, 9000, 5000,
        )  # fmt: skip
        self.staking.send(self.deployer, "setup_manager", self.jobs.address, LOCK)
        self.staking.send(self.deployer, "seal")
        self.anvil.set_balance(self.operator.address, 100 * 10**18)
        domain = messages.Domain(self.anvil.chain_id, self.staking.address)
        consent = messages.OperatorConsent(owner, self.operator.address, 2**63)
        signature = messages.sign(domain, consent, self.operator)
        self.staking.send(
            self.owner, "register", self.operator.address, owner, 1000, 10**6 * TPF,
            10**7 * TPF, f"http://127.0.0.1:{self.api_port}", consent.expires, signature,
        )  # fmt: skip
        self.token.send(self.owner, "approve", self.staking.address, 2**256 - 1)
        self.staking.send(self.owner, "delegate", owner, 10**6 * TPF)
        self.payment.send(self.tenant, "mint", tenant, 10**9 * USD)
        self.payment.send(self.tenant, "approve", self.jobs.address, 2**256 - 1)
        return self

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
        home.mkdir(exist_ok=True)
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
confirmations = 1
reorg_window = 16
poll_seconds = 0.2
rpc_timeout_seconds = 3

[operator]
private_key_file = "operator.key"

[agent]
data_dir = "data"

[api]
port = {self.api_port}
public_url = "http://127.0.0.1:{self.api_port}"

[runner]
runtimes = {{ python-ml = "{RUNTIME}" }}

[jobs]
price_per_hour = "1"
margin_seconds = 20
"""
        )
        return config

    def start_agent(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the agent and wait until its API answers."""
        self.launch(*command, environment=environment)
        self.until(self._answers, "the agent's API", 30)

    def launch(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the agent as its own process; `command` replaces the module that is run."""
        config = self.configure()
        arguments = list(command) or ["-m", "provider_agent"]
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(AGENT_PYTHON), *arguments, "run", "--skip-checks", "--config", str(config)],
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], **self.settings, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        import httpx

        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended:\n{self.log()}")
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.api_port}/healthz"
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    def log(self) -> str:
        """The end of the agent's log."""
        path = self.directory / "agent.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def kill_agent(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop_agent(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def left_processes(self) -> list[str]:
        """Command lines of processes that still work in the agent's data directory."""
        return list(with_argument(str(self.directory / "agent" / "data")).values())

    # ------------------------------------------------------------------ waiting

    def until(
        self,
        look: Callable[[], Any],
        what: str,
        seconds: float = 30,
        tell: Callable[[], Mapping[str, str]] | None = None,
    ) -> Any:
        """Wait for something that is not false or None; AssertionError with the agent's log."""
        end = time.monotonic() + seconds
        while True:
            found = look()
            if found is not None and found is not False:
                return found
            if time.monotonic() > end:
                text = what.format(**tell()) if tell is not None else what
                raise AssertionError(f"no {text} after {seconds} s; the agent's log:\n{self.log()}")
            time.sleep(0.05)


@contextlib.contextmanager
def market(directory: Path, anvil: Anvil | None = None, **changes: Any) -> Iterator[World]:
    """A world that is set up, and taken down whatever happens."""
    # Transactions are mined at once, and time goes on without them.
    with anvil or Anvil(block_time=1, arguments=["--mixed-mining"]) as chain:
        world = World(directory, chain, **changes)
        try:
            yield world.set_up()
        finally:
            world.kill_agent()
            for process_id in with_argument(str(directory)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
