# SPDX-License-Identifier: Apache-2.0
"""The jobs duty with a real store, real storage and a runner and a chain made of plain data.

What the chain says is set by the test (`Rig.word`), what the duty wants sent is read from the
intents in the store; nobody signs or sends anything. The runner's runs end when the test says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

from provider_agent.core import background
from provider_agent.core.attempts import Attempts
from provider_agent.core.capacity import Capacity
from provider_agent.core.clock import ChainClock, Drift
from provider_agent.core.fleet import Fleet
from provider_agent.core.following import Following
from provider_agent.core.means import Means
from provider_agent.core.standing import Standing
from provider_agent.devices import Device, Survey
from provider_agent.errors import RunnerError
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.book import JobBook
from provider_agent.modules.jobs.chain_view import ChainView
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.executor import Machine, Worker
from provider_agent.modules.jobs.halt import Halt
from provider_agent.modules.jobs.housekeeping import Housekeeper
from provider_agent.modules.jobs.policy import Policy
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.repository import JobsRepository
from provider_agent.modules.jobs.results import Results
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.taking import Taker
from provider_agent.modules.jobs.turns import Turns
from provider_agent.modules.jobs.views import JobViews
from provider_agent.settings import validate
from provider_agent.store import IntentKey, IntentState
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.reserve import GasReserve
from provider_agent.tx.sender import Sender
from teraproof.contracts.jobs import Accepted, Attested, JobsContract, Posted
from teraproof.contracts.staking import StakingContract
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Assignment, Order, Record, Status, Terms
from teraproof.rpc.types import BlockRef, Log
from tests.agent.duty_parts import (
    JOBS,
    OPERATOR,
    OTHER,
    OWNER,
    STAKING,
    START,
    TENANT,
    TPF,
    TUSD,
    PlainChain,
    PlainReserve,
    PlainRunner,
    WritingSender,
)
from tests.agent.stores import fresh_store


class Rig:
    """A duty and everything around it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        background._PATIENCE = 30.0  # a cycle waits for its work, however busy the machine is
        self.now = float(START)
        self.wall_is_off = 0.0
        self.trials, self.trial_fails = 0, False
        self.gpus = settings.pop("gpus", 0)  # of the machine
        self.lost: set[int] = set()  # of them, by index
        self.block = BlockRef(100, b"\x01" * 32, START)
        self.settings = validate(
            {
                "chain": {
                    "rpc_urls": ["http://127.0.0.1:1"],
                    "chain_id": 31337,
                    "staking": STAKING,
                    "jobs": JOBS,
                },
                "operator": {},
                "agent": {"data_dir": folder, **settings.pop("agent", {})},
                "runner": {
                    "runtimes": {"python-ml": folder},
                    "memory_mb": 512,
                    "disk_reserve_mb": 0,
                    "disk_mb_per_second": 10**6,
                    **settings.pop("runner", {}),
                },
                **settings,
            }
        )
        self.store = fresh_store(folder / "agent.sqlite", clock=lambda: self.now)
        self.records = JobsRepository(self.store)
        self.chain = PlainChain(blocks={self.block.number: self.block})
        self.runner = PlainRunner(folder / "runs")
        self.nonce = 0
        self.reserve = PlainReserve()
        chain, jobs = self.settings.chain, self.settings.section(JobsSettings)
        self.policy = Policy(jobs, self.settings.runner, chain, TUSD, lambda: self.gpus, lambda: 1)
        self.restart()

    def wall(self) -> float:
        """The machine's clock."""
        return self.now + self.wall_is_off

    def trial(self) -> None:
        """What is tried after a missed job."""
        self.trials += 1
        if self.trial_fails:
            raise RunnerError("the sandbox does not start")

    def survey(self) -> Survey:
        """What NVML says: that number of GPUs, each with a memory of 8 GiB."""
        return Survey(
            tuple(
                Device("cuda", n, "GPU", f"GPU-{n}", 8 << 30, node=f"/dev/nvidia{n}")
                for n in range(self.gpus)
                if n not in self.lost
            ),
            tuple(f"GPU {n}: GPU is lost" for n in sorted(self.lost)),
        )

    def restart(self) -> None:
        """A new process over the same files."""
        jobs = cast(JobsContract, self.chain)
        staking = cast(StakingContract, self.chain)
        sender = cast(Sender, WritingSender(self.store))
        self.standing = Standing(staking, OPERATOR.address, lambda: self.now)
        agent = self.settings.agent
        reserve = cast(GasReserve, self.reserve)
        self.fleet = Fleet(
            self.gpus, self.survey, lambda path: True, lambda: self.now, memory=self.store
        )
        means = Means(self.settings, reserve, self.standing, lambda: len(self.fleet.usable))
        self.capacity = Capacity(means, ahead=agent.accept_ahead)
        self.inputs = InputStorage(self.folder / "inputs", capacity=self.capacity)
        self.machine = Machine(
            self.runner, self.inputs, Results(self.folder / "results"), self.fleet
        )
        results = self.machine.results
        self.book = JobBook(self.records, self.inputs)
        attempts = Attempts(self.store, sender, "jobs", JOBS, clock=lambda: self.now)
        self.turns = Turns(self.settings.section(JobsSettings).quote_seconds + 60, lambda: self.now)
        self.promises = Promises(
            self.capacity,
            self.book,
            self.policy,
            results,
            self.inputs,
            jobs,
            OPERATOR.address,
            attempts,
            self.turns,
            self.runner.allocated,
            lambda: self.now,
        )
        self.clock = ChainClock(lambda: self.now)
        self.drift = Drift(120.0, lambda: self.wall())
        self.halt = Halt(
            self.store,
            self.trial,
            self.folder,
            Following(self.clock, self.drift),
            lambda: self.now,
        )
        self.duty = JobsDuty(
            store=self.records,
            book=self.book,
            view=ChainView(jobs, self.capacity, clock=lambda: self.now),
            promises=self.promises,
            taker=Taker(
                self.book,
                self.policy,
                self.promises,
                attempts,
                jobs,
                self.halt,
                reserve,
                self.fleet,
            ),
            worker=Worker(
                self.book,
                self.machine,
                self.policy,
                self.settings.runner,
                agent.slots,
                clock=lambda: self.now,
                quotes=lambda: self.promises.quotes,
                hired=lambda: self.promises.unseen,
                before_run=self.capacity.call_in,
            ),
            attempts=attempts,
            jobs=jobs,
            halt=self.halt,
            clock=self.clock,
            expires_missed=self.settings.section(JobsSettings).expire_missed,
        )
        self.housekeeper = Housekeeper(
            self.book,
            self.promises,
            results,
            self.inputs,
            int(agent.keep_results_hours * 3600),
            clock=lambda: self.now,
        )

    # ------------------------------------------------------------------ the tenant

    def spec(self, content: bytes = b"print(1)", **changes: Any) -> JobSpec:
        document = {
            "version": 1,
            "kind": "batch",
            "name": "test",
            "runtime": "python-ml",
            "command": ["python", "job.py"],
            "env": {},
            "inputs": [
                {
                    "path": "job.py",
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                }
            ],
            "outputs": ["out"],
            "resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 0},
            "timeout_seconds": 60,
            "deterministic": True,
            "network": False,
            **changes,
        }
        return parse(canonical(document))

    def upload(self, spec: JobSpec, content: bytes = b"print(1)", account: str = TENANT) -> None:
        """Specification and its input."""
        self.records.put_spec(spec.digest(), spec.canonical(), account)
        name = hashlib.sha256(content).hexdigest()
        with self.inputs.receive(account, name, len(content)) as upload:
            upload.write(content)
            upload.finish()

    def post(self, spec: JobSpec, requester: str = TENANT, **changes: Any) -> Terms:
        """The event of a new job."""
        self.nonce += 1
        values: dict[str, Any] = {
            "spec": spec.digest(),
            "start_price": 10**6,
            "max_price": 10**6,
            "collateral": 10 * TPF,
            "duration": 600,
            "auction": 60,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": bytes(32),
            "nonce": self.nonce,
            **changes,
        }
        terms = Terms(
            requester, self.block.timestamp, 3600, 100, self.chain.paused_seconds_, Order(**values)
        )
        job = terms.job_id()
        self.chain.words[job] = Status.OPEN
        self.duty.consume([Posted(self.entry(), job, requester, terms)], [])
        return terms

    # ------------------------------------------------------------------ the chain

    def entry(self) -> Log:
        return Log(JOBS, (), b"", self.block.number, self.block.hash, bytes(32), 0)

    def next_block(self, seconds: int = 12) -> None:
        """Time passes, here and on chain."""
        number = self.block.number + 1
        self.now += seconds
        self.block = BlockRef(number, number.to_bytes(32, "big"), self.block.timestamp + seconds)
        self.chain.blocks[number] = self.block

    def assign(self, terms: Terms, provider: str = OWNER) -> None:
        """The chain shows the job as assigned."""
        job = terms.job_id()
        paused = terms.paused_since(self.chain.paused_seconds_)
        self.chain.words[job] = Assignment(provider, self.block.timestamp, paused).state_word()
        operator = OPERATOR.address if provider == OWNER else OTHER
        self.duty.consume([Accepted(self.entry(), job, provider, operator, 10**6)], [])

    def attest(self, terms: Terms, record: Record, result: bytes, receipt: bytes) -> None:
        """The chain shows the job as attested."""
        job = terms.job_id()
        self.chain.words[job] = record.state_word()
        event = Attested(
            self.entry(), job, record.provider, result, receipt, START, START + 5,
            record.assigned_at, record.attested_at, record.paused,
        )  # fmt: skip
        self.duty.consume([event], [])

    # ------------------------------------------------------------------ looking

    def news(self, job_id: bytes) -> None:
        """A look at everything finds that a job may have moved."""
        self.duty._dirty.add(job_id)
        self.duty._view.forget(job_id)

    def cycle(self, times: int = 1) -> None:
        for _ in range(times):
            provider = self.standing.look(self.block, idle=self.duty.is_idle)
            self.duty.reconcile(self.block, provider)

    def intents(self) -> list[tuple[str, str]]:
        """Action and state of all intents, oldest first."""
        rows = [intent for state in IntentState for intent in self.store.intents_in(state)]
        return [(i.key.action, i.state.value) for i in sorted(rows, key=lambda i: i.id)]

    def set_intent(self, terms: Terms, action: str, *states: IntentState) -> None:
        """Move an intent on, as the sender would."""
        intent = self.store.intent(IntentKey("jobs", terms.job_id().hex(), action))
        assert intent is not None
        for state in states:
            self.store.set_intent_state(intent.id, state)

    def runs(self) -> list[tuple[str, str]]:
        """Attempt-slot and state of all runs of all jobs."""
        return [
            (run.run_id.partition("-")[2], run.state.value)
            for job in self.records.jobs()
            for run in self.records.runs_of(job.job_id)
        ]

    def note(self, terms: Terms) -> str:
        job = self.records.job(terms.job_id())
        assert job is not None
        return job.note

    def status(self, terms: Terms) -> dict[str, Any]:
        """What the API tells the requester."""
        views = JobViews(
            self.book, self.machine, OperatorKey(OPERATOR), messages.Domain(31337, JOBS)
        )
        view = views.job(terms.job_id())
        assert view is not None
        return view.status

    def blocked(self, terms: Terms) -> Code | None:
        return cast(Code | None, self.status(terms)["blocked_by"])


def assigned(rig: Rig, **order: Any) -> Terms:
    """A job of ours with everything here; `order` is what its order has that others have not."""
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec, **order)
    rig.assign(terms)
    return terms


def attested(rig: Rig, **order: Any) -> Terms:
    """A job of ours that ran and whose attestation is on chain."""
    terms = assigned(rig, **order)
    rig.cycle(2)
    rig.runner.end(f"{terms.job_id().hex()}-1-0")
    rig.cycle(2)
    (run,) = rig.records.runs_of(terms.job_id())
    assert run.result is not None and run.receipt is not None
    attestation = messages.Attestation(
        terms.job_id(), terms.order.spec, run.result, run.receipt, START, START + 5
    )
    job = rig.records.job(terms.job_id())
    assert job is not None and job.assigned_at is not None
    record = Record(
        OWNER, job.assigned_at, rig.block.timestamp, job.paused or 0, attestation.struct_hash()
    )
    rig.next_block()
    rig.attest(terms, record, run.result, run.receipt)
    return terms
