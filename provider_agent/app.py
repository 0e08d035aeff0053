# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its parts put together, and the loop that drives them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from provider_agent import devices
from provider_agent.core.attempts import PAUSE, Attempts
from provider_agent.core.feed import EventFeed, Followed
from provider_agent.core.health import Check, Health
from provider_agent.core.metrics import Metrics
from provider_agent.core.pools import make_pool, make_visitor_pool
from provider_agent.errors import KeyInUse, RunnerError
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.descriptors import open_limits
from provider_agent.http.server import ApiServer, status_server
from provider_agent.http.status import create_status_app
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.adoption import adopt
from provider_agent.modules.jobs.backfill import Backfill
from provider_agent.modules.jobs.book import ACTIVE_RUNS, CONTRACT, JobBook
from provider_agent.modules.jobs.chain_view import ChainView
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.executor import Machine, Worker
from provider_agent.modules.jobs.funds import Funds
from provider_agent.modules.jobs.housekeeping import Housekeeper
from provider_agent.modules.jobs.policy import Policy
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.results import Results
from provider_agent.modules.jobs.taking import Taker
from provider_agent.modules.jobs.views import JobViews, ProviderView, UploadRule
from provider_agent.modules.proofs import duty as benchmark
from provider_agent.modules.proofs.duty import BenchmarkDuty
from provider_agent.modules.proofs.prover import Prover
from provider_agent.modules.rewards import duty as rewards
from provider_agent.modules.rewards.duty import RewardsDuty
from provider_agent.runners.base import Phase
from provider_agent.runners.process import ProcessRunner
from provider_agent.settings import OperatorSettings, Settings
from provider_agent.store import Intent, IntentState, Store, StoreError
from provider_agent.store.errors import explain
from provider_agent.tx.keys import KeyLock, OperatorKey, load_key
from provider_agent.tx.sender import Sender
from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import BenchmarkContract, Committed
from teraproof.contracts.emissions import EmissionsContract
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.staking import StakingContract
from teraproof.contracts.token import TokenContract
from teraproof.deals import JOB_EVENTS
from teraproof.errors import counted
from teraproof.protocol import messages, siwe
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status
from teraproof.rpc.errors import ChainError
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

DATABASE = "agent.sqlite"
PAY_DECIMALS, PAY_SYMBOL = "payment.decimals", "payment.symbol"  # in the store's meta
_PRUNE_EVERY = 600.0  # seconds
_MAX_PAUSE = 60.0  # between cycles, when nodes do not answer
_HURRIED_CYCLES = 8  # in a row, after cycles that wrote something
_MEASURE_EVERY = 5.0  # seconds between two looks at what is costly to measure
_WALLET_GAS = 3_000_000  # for a contract wallet to check a signature
_EVENTS = {
    IntentState.SENT: "sent",
    IntentState.MINED: "mined",
    IntentState.REVERTED: "failed",
    IntentState.ABANDONED: "abandoned",
}


@cache
def read_key(operator: OperatorSettings) -> OperatorKey:
    """The operator's key as the settings name it; opened once, which takes most of a second."""
    return load_key(operator.keystore, operator.password_file, operator.private_key_file)


def make_runner(settings: Settings) -> ProcessRunner:
    """The runner of the settings; no job sees the keys or the data directory."""
    operator = settings.operator
    secret = (operator.keystore, operator.password_file, operator.private_key_file)
    return ProcessRunner(
        settings.agent.data_dir,
        sandbox_kind=settings.runner.sandbox,
        private=[path.parent for path in secret if path is not None],
    )


class Agent:
    """Everything of one provider on one machine. `run` returns after `stop`, or raises LocalError.

    Several agents on one key are refused (KeyInUse).
    """

    def __init__(self, settings: Settings, *, adopt_nonces: bool = False) -> None:
        self._settings = settings
        self._adopt = adopt_nonces
        self._stop = threading.Event()
        self._last_cycle: float | None = None
        self._pruned_at = 0.0
        self._measured_at = 0.0
        self._head: BlockRef | None = None
        self._block: BlockRef | None = None  # pinned under that head
        self._read: bytes | None = None  # hash of the block up to which events are read
        settings.agent.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key = read_key(settings.operator)
        self._lock = KeyLock(settings.chain.chain_id, self._key.address, settings.agent.lock_dir)
        self._metrics = Metrics()
        self._pool = make_pool(settings, self._metrics)
        self._visitors = make_visitor_pool(settings)
        chain = settings.chain
        self._jobs = JobsContract(self._pool, chain.jobs)
        self._staking = StakingContract(self._pool, chain.staking)
        self._pace = Pace(self._pool, chain.block_seconds)
        self._proofs: BenchmarkDuty | None = None
        self._rewards: RewardsDuty | None = None

    def run(self) -> None:
        """Reconcile until `stop`. Runs of jobs go on when it ends."""
        with self._lock:
            try:
                self._assemble()
                self._begin()
                try:
                    self._loop()
                finally:
                    self._server.stop()
                    self._status.stop()
                    if self._proofs is not None:
                        self._proofs.close()
                    self._duty.close()
                    self._housekeeper.close()
                self._take_leave()
            finally:
                store: Store | None = getattr(self, "_store", None)  # not when it cannot be used
                if store is not None:
                    store.close()
                self._pool.close()
                self._visitors.close()

    def _begin(self) -> None:
        """Find what there is, then listen."""
        lost = self._store.rows_lost
        if lost:
            log.warning("rows of the database are lost: its jobs and nonces are found again")
        # Without its rows the key's newest transactions look like a stranger's: they are ours.
        self._sender.start(adopt=self._adopt or lost)
        adopt(self._store, self._machine.runner)
        if lost:
            self._store.made_good()
        self._housekeeper.start()
        self._status.start()
        self._server.start()
        data = self._settings.agent.data_dir
        log.info(
            "agent %s listens on port %s, status on port %s, data in %s",
            self._key.address,
            self._server.port,
            self._status.port,
            data,
        )

    def _take_leave(self) -> None:
        runner, going = self._machine.runner, 0
        for run_id in runner.list():  # the store may not have seen the last one start
            with contextlib.suppress(RunnerError, OSError):
                going += runner.poll(run_id).phase in (Phase.PENDING, Phase.RUNNING)
        verb = "goes on under its supervisor" if going == 1 else "go on under their supervisors"
        log.info("stopped; %s %s", counted(going, "run"), verb)

    def stop(self) -> None:
        """End the loop after the present cycle. May be called from a signal handler."""
        self._stop.set()

    # ------------------------------------------------------------------ assembly

    def _assemble(self) -> None:
        settings, chain = self._settings, self._settings.chain
        data = settings.agent.data_dir
        self._store = Store(data / DATABASE)
        self._store.bind(jobs=self._jobs.address, staking=self._staking.address)
        self._sender = Sender(
            self._pool,
            self._store,
            self._key,
            max_fee=int(chain.max_fee_gwei * 10**9),
            max_tip=int(chain.max_tip_gwei * 10**9),
            confirmations=chain.confirmations,
            reorg_window=chain.reorg_window,
            in_flight=settings.agent.max_in_flight,
            on_change=self._count,
        )
        self._pace.see(self._pool.head())
        proven = None
        sources = [Followed(self._jobs, JOB_EVENTS)]
        if chain.benchmark is not None:
            proven = BenchmarkContract(self._pool, chain.benchmark)
            self._assemble_proofs(proven)
            if self._proofs is not None:
                sources.append(Followed(proven, (Committed,)))
        self._feed = EventFeed(
            self._pool,
            self._store,
            sources,
            start_block=chain.start_block,
            reorg_window=chain.reorg_window,
        )
        gpus = tuple(devices.gpus())
        self._machine = Machine(
            runner=make_runner(settings),
            inputs=InputStorage(data / "inputs"),
            results=Results(data / "results"),
            devices=gpus,
        )
        book = JobBook(self._store, self._machine.inputs)
        token = TokenContract(self._pool, self._jobs.payment_token("latest"))
        funds = Funds(
            JobsContract(self._visitors, self._jobs.address),
            TokenContract(self._visitors, token.address),
        )
        decimals = token.decimals("latest")
        self._remember_token(token, decimals)
        policy = Policy(
            settings.jobs,
            settings.runner,
            chain,
            10**decimals,
            len(gpus),
            lambda: self._pace.seconds,
        )
        promises = Promises(
            settings.agent, book, policy, self._machine.results, self._jobs, self._key.address
        )
        self._backfill = Backfill(book, promises, self._feed, self._pace, chain.reorg_window)
        attempts = Attempts(self._store, self._sender, CONTRACT, self._jobs.address)
        self._duty = JobsDuty(
            store=self._store,
            book=book,
            view=ChainView(
                self._jobs,
                self._staking,
                self._key.address,
                proven if settings.benchmark.enabled else None,
            ),
            promises=promises,
            taker=Taker(book, policy, promises, attempts, self._jobs, data, self._sender.reserve),
            worker=Worker(book, self._machine, policy, settings.runner, settings.agent.slots),
            attempts=attempts,
            jobs=self._jobs,
            reserve=self._sender.reserve,
        )
        self._housekeeper = Housekeeper(
            book,
            promises,
            self._machine.results,
            self._machine.inputs,
            int(settings.agent.keep_results_hours * 3600),
            # As far back as the event feed looks for a fork.
            depth=4 * chain.reorg_window,
        )
        domain = messages.Domain(chain.chain_id, self._jobs.address)
        desk = QuoteDesk(
            book=book,
            duty=self._duty,
            promises=promises,
            policy=policy,
            key=self._key,
            funds=funds,
            inputs=self._machine.inputs,
            domain=domain,
            data_dir=data,
            reserve=self._sender.reserve,
            good_for=settings.jobs.quote_seconds,
        )
        shown = [
            {"kind": d.kind, "name": d.name, "memory_bytes": d.memory_bytes}
            for d in gpus or (devices.cpu(),)
        ]
        health = Health(
            lambda: self._last_cycle,
            max_age=60 + 10 * chain.poll_seconds,
            clock=time.time,
            checks=[self._check_disk, self._check_registered, self._sender.reserve.check],
        )
        api = settings.api
        app = create_app(
            ApiDeps(
                auth=Authenticator(
                    self._store,
                    siwe.Expected.at(api.public_url, chain.chain_id, api.allowed_origins),
                    lambda to, call: self._visitors.eth_call(to, call, "latest", gas=_WALLET_GAS),
                ),
                jobs=JobViews(book, self._machine, self._key, domain),
                specs=self._store,
                inputs=self._machine.inputs,
                may_upload=UploadRule(book, self._duty, desk, policy),
                provider=ProviderView(
                    settings,
                    self._key.address,
                    self._duty,
                    promises,
                    shown,
                    lambda: None if self._proofs is None else self._proofs.report,
                ),
                health=health,
                metrics=self._metrics,
                quotes=desk,
                origins=api.allowed_origins,
            )
        )
        self._server = ApiServer(
            app, api.host, api.port, open_limits(), trusted_proxies=api.trusted_proxies
        )
        self._status = status_server(
            create_status_app(health, self._metrics), api.status_host, api.status_port_in_use
        )

    def _assemble_proofs(self, contract: BenchmarkContract) -> None:
        settings, chain = self._settings, self._settings.chain
        # Epochs are short where blocks are: a second attempt must not wait for the next one.
        pause = max(1, min(PAUSE, int(self._pace.seconds * 2)))
        if settings.benchmark.enabled:
            self._proofs = BenchmarkDuty(
                settings=settings.benchmark,
                chain_id=chain.chain_id,
                pace=self._pace,
                store=self._store,
                contract=contract,
                attempts=Attempts(
                    self._store, self._sender, benchmark.CONTRACT, contract.address, pause=pause
                ),
                prover=Prover(self._settings.agent.lock_dir),
                folders=settings.agent.data_dir / "proofs",
                busy=lambda: bool(self._store.runs_in(*ACTIVE_RUNS)),
                settles=chain.emissions is None,
                on_outcome=self._metrics.proof,
            )
        if chain.emissions is not None:
            emissions = EmissionsContract(self._pool, chain.emissions)
            self._rewards = RewardsDuty(
                store=self._store,
                benchmark=contract,
                emissions=emissions,
                attempts=Attempts(
                    self._store, self._sender, rewards.CONTRACT, emissions.address, pause=pause
                ),
            )

    def _remember_token(self, token: TokenContract, decimals: int) -> None:
        """Keep how amounts of pay are written: `status` shows them without asking a node."""
        try:
            symbol = token.symbol("latest")
        except ChainError:
            symbol = ""  # optional in ERC-20
        self._store.set_meta(PAY_DECIMALS, str(decimals))
        self._store.set_meta(PAY_SYMBOL, "".join(c for c in symbol if c.isprintable())[:16])

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        pause = self._settings.chain.poll_seconds
        failures = hurried = 0
        while not self._stop.is_set():
            written = self._store.changes()
            try:
                with self._metrics.reconcile_seconds.time():
                    self._cycle()
                failures = 0
                self._last_cycle = time.time()
                self._metrics.last_reconcile.set(self._last_cycle)
            except (KeyInUse, StoreError):
                raise
            except ChainError as error:
                failures += 1
                self._metrics.reconcile_failures.inc()
                log.warning("%s", error)
            except sqlite3.Error as error:
                said = explain(self._store.path, error)
                if said.code is Code.DATABASE_DAMAGED:
                    raise said from error
                # A full disk: jobs are running and deadlines near, so go on trying.
                failures += 1
                self._metrics.reconcile_failures.inc()
                log.warning("%s", said)
            except Exception:
                # A bug: jobs are running and deadlines near, so go on trying.
                failures += 1
                self._metrics.reconcile_failures.inc()
                log.exception("the cycle failed")
            if failures:
                self._stop.wait(min(_MAX_PAUSE, pause * 2 ** min(failures, 6)))
            elif self._store.changes() != written and hurried < _HURRIED_CYCLES:
                # One step often makes the next one possible: do not sleep on it.
                hurried += 1
            else:
                hurried = 0
                self._stop.wait(self._rest(pause))

    def _rest(self, pause: float) -> float:
        """Seconds to the next cycle: fewer while each block counts."""
        again = None if self._proofs is None else self._proofs.look_again
        return pause if again is None else min(pause, again)

    def _cycle(self) -> None:
        self._store.check_there()
        head = self._sender.tick()
        self._pace.see(head)
        block = self._pinned(head)
        self._backfill.look(block)
        if block.hash != self._read or self._feed.looks_back:
            try:
                self._feed.poll(block, self._consume)
                self._read = block.hash
            except ChainError as error:
                # Events are hints; what is owed follows from state, which may be there yet.
                log.warning("events: %s", error)
        self._duty.reconcile(block)
        standing = self._duty.standing
        if self._proofs is not None:
            self._proofs.reconcile(block, head, standing)
        if self._rewards is not None:
            self._rewards.reconcile(block, head, None if standing is None else standing.owner)
        if self._store.intents_in(IntentState.PLANNED):
            self._sender.tick()
        self._measure(head, block)
        if standing is not None:
            self._housekeeper.see(block.number, standing.owner)
        if time.monotonic() - self._pruned_at > _PRUNE_EVERY:
            self._pruned_at = time.monotonic()
            self._housekeeper.prune(0 if standing is None else standing.open_margin)

    def _consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        self._duty.consume(events, again)
        if self._proofs is not None:
            self._proofs.consume(events)

    def _pinned(self, head: BlockRef) -> BlockRef:
        """The block that this cycle reads: behind the head, so that small reorgs pass by, and one
        that two endpoints have, so that none of them can make up a chain for us.
        """
        number = max(0, head.number - self._settings.chain.confirmations)
        known = self._block
        if known is not None and self._head == head and known.number == number:
            return known
        alone = len(self._settings.chain.rpc_urls) == 1
        block = head if alone and number == head.number else self._pool.agreed_block(number)
        shorter = self._head is not None and head.number < self._head.number
        if known is not None and block.number < known.number and not shorter:
            return known  # the second endpoint has fallen behind, the chain has not
        self._block, self._head = block, head
        return block

    # ------------------------------------------------------------------ what is shown

    def _count(self, intent: Intent) -> None:
        event = _EVENTS.get(intent.state)
        if event is not None:
            self._metrics.transaction(event)
        if intent.state in (IntentState.REVERTED, IntentState.ABANDONED):
            log.warning("%s: %s (%s)", "/".join(intent.key), intent.state, intent.reason)

    def _measure(self, head: BlockRef, block: BlockRef) -> None:
        metrics = self._metrics
        metrics.head_block.set(head.number)
        metrics.pinned_block.set(block.number)
        metrics.lag_seconds.set(max(0.0, time.time() - block.timestamp))
        if time.monotonic() - self._measured_at < _MEASURE_EVERY:
            return
        self._measured_at = time.monotonic()
        metrics.slots.set(self._settings.agent.slots)
        jobs = self._store.count_jobs()
        metrics.set_jobs({Status(status).name.lower(): number for status, number in jobs.items()})
        metrics.set_runs({stage.value: n for stage, n in self._store.count_runs().items()})
        metrics.disk_free_bytes.set(shutil.disk_usage(self._settings.agent.data_dir).free)
        metrics.input_bytes.set(self._machine.inputs.used()[0])
        metrics.gas_balance.set(self._pool.balance(self._key.address))
        if self._proofs is not None:
            metrics.set_proof(self._proofs.report)
        if self._rewards is not None:
            metrics.rewards_unclaimed.set(self._rewards.unclaimed / 10**18)

    def _check_disk(self) -> Check:
        free = shutil.disk_usage(self._settings.agent.data_dir).free
        return Check("disk", free > 1 << 30, f"{free >> 30} GiB free")

    def _check_registered(self) -> Check:
        standing = self._duty.standing
        ours = standing is not None and standing.operator_is_ours
        return Check("registered", ours, "" if ours else "the operator works for no provider yet")


def database(settings: Settings) -> Path:
    """Where the agent keeps its memory."""
    return settings.agent.data_dir / DATABASE
