# SPDX-License-Identifier: Apache-2.0
"""Whole markets on anvil: contracts, providers with their agent processes, tenants.

A `World` is one provider with its agent and one tenant; several can share a `Deployment` (see
`chain`). The agent is the installed wheel in its own environment, started as a process and
configured by a file, like a provider's. The tenant side uses plain JSON-RPC and the agent's own
HTTP client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.market.ports import free_port
from teraproof.client.jobs import AgentClient
from teraproof.contracts.jobs import Attested, JobsContract, Posted
from teraproof.errors import LocalError
from teraproof.protocol import messages
from teraproof.protocol.digests import file_digest
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Order, Record, Status, Terms
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import DAY, TPF, USD, Deployment, deployment, until
from tests.agent_e2e.nursery import Nursery, Process
from tests.support.anvil import ROOT, Anvil
from tests.support.processes import with_argument
from tests.support.runs import accepted

AGENT_PYTHON = ROOT / ".venv-agent" / "bin" / "python"
RUNTIME = ROOT / ".venv-runtime"
QUICK = """\
import os
os.mkdir("out")
open("out/answer", "w").write("42")
"""


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
    python: Path | None = None
    """Of another environment than the agent's own."""

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
private_networks = ["127.0.0.0/8"]

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
        self.until(self._answers, "the agent's API", 120)

    def launch(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the agent as its own process; `command` replaces the module that is run."""
        arguments = [str(self.python or AGENT_PYTHON), *(command or ("-m", "provider_agent"))]
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*arguments, *self._run_arguments()],
                cwd=self.directory,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def fork_agent(self, nursery: Nursery, *options: str, **orders: str) -> None:
        """Start the agent from a process that has its modules loaded already; see `nursery`."""
        self.process = nursery.start(
            [*self._run_arguments(), *options],
            directory=self.directory,
            environment=self._environment(None),
            log=self.directory / "agent.log",
            **orders,
        )

    def own_up(self, nursery: Nursery) -> None:
        """Have the agent accept what its owner has sent with the operator's key."""
        self.fork_agent(nursery, "--adopt-nonces")
        self.until(self._answers, "the agent's API", 120)
        self.kill_agent()

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
        # One that may write empties the log at its end, and an agent takes that for a loss.
        place = f"file:{path}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, timeout=30, uri=True)) as database:
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
