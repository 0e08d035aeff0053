# SPDX-License-Identifier: Apache-2.0
"""Jobs as a module of the agent: its parts put together; see `duty` for what it does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from provider_agent.core.business import Business
from provider_agent.core.feed import Followed, Source
from provider_agent.core.following import Following
from provider_agent.core.funds import Funds
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle, Table
from provider_agent.core.operation import Door, Operation
from provider_agent.core.pay import Pay
from provider_agent.core.runner import make_runner
from provider_agent.core.settings import Section
from provider_agent.core.spent import SpentQuotes
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.errors import RunnerError
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.adoption import adopt
from provider_agent.modules.jobs.api import JobsApi
from provider_agent.modules.jobs.backfill import Backfill
from provider_agent.modules.jobs.book import ACTIVE_RUNS, CONTRACT, JobBook
from provider_agent.modules.jobs.chain_view import ChainView
from provider_agent.modules.jobs.checks import JobChecks
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.evidence import EvidenceDesk
from provider_agent.modules.jobs.executor import Machine, Worker
from provider_agent.modules.jobs.halt import Halt, halted
from provider_agent.modules.jobs.housekeeping import Housekeeper
from provider_agent.modules.jobs.metrics import JobMetrics
from provider_agent.modules.jobs.policy import Policy
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.repository import JobsRepository
from provider_agent.modules.jobs.results import SIGNED, Results
from provider_agent.modules.jobs.routes import operations
from provider_agent.modules.jobs.self_test import SelfTest
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.status import jobs_table
from provider_agent.modules.jobs.tables import TABLES
from provider_agent.modules.jobs.taking import Taker
from provider_agent.modules.jobs.turns import Turns
from provider_agent.modules.jobs.views import JobViews, UploadRule, offer, spec_fits
from provider_agent.runners.base import Phase
from provider_agent.runners.containment import of_this_machine
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.token import TokenContract
from teraproof.courts.votes import salt as ballot_salt
from teraproof.deals import JOB_EVENTS
from teraproof.errors import counted
from teraproof.protocol import messages
from teraproof.protocol.terms import Status

log = logging.getLogger(__name__)

_COMES_BACK = 60  # seconds after the end of a quote, within which who waited for it asks again


class JobsModule(Business):
    """Takes paid jobs, runs them in a sandbox, attests the results and collects the pay."""

    name: ClassVar[str] = "jobs"
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "jobs"
    settings: ClassVar[type[Section]] = JobsSettings
    kept: ClassVar[Sequence[str]] = (SIGNED,)

    def __init__(self, context: Context, place: str) -> None:
        settings, chain, store = context.settings, context.settings.chain, context.store
        wanted = settings.section(JobsSettings)
        data = settings.agent.data_dir
        self._settings, self._operator = settings, context.key.address
        self._jobs = jobs = JobsContract(context.pool, place)
        store.bind(jobs=jobs.address)
        self._fleet = fleet = context.fleet
        self._machine = machine = Machine(
            runner=make_runner(settings),
            inputs=InputStorage(data / "inputs", capacity=context.capacity),
            results=Results(data / "results"),
            fleet=fleet,
        )
        self._records = records = JobsRepository(store)
        book = JobBook(records, machine.inputs)
        token = TokenContract(context.pool, jobs.payment_token("latest"))
        pay = Pay.read(token)
        # `status` shows amounts without asking a node.
        pay.keep(store, self.name)
        policy = Policy(
            wanted,
            settings.runner,
            chain,
            pay,
            lambda: len(fleet.usable),
            lambda: context.pace.seconds,
            of_this_machine(settings.runner.sandbox).disk,
            lambda: fleet.usable,
        )
        attempts = context.attempts(CONTRACT, jobs.address)
        turns = Turns(wanted.quote_seconds + _COMES_BACK, time.monotonic)
        self._promises = promises = Promises(
            context.capacity,
            book,
            policy,
            machine.results,
            machine.inputs,
            jobs,
            self._operator,
            attempts,
            turns,
            machine.runner.allocated,
        )
        self._backfill = Backfill(book, promises, context.feed, context.pace, chain.reorg_window)
        following = Following.within(chain.clock_margin_seconds)
        clock = following.clock
        domain = messages.Domain(chain.chain_id, jobs.address)
        trial = SelfTest(context, machine.runner, domain)
        self._halt = halt = Halt(store, trial, data, following)
        self._worker = worker = Worker(
            book,
            machine,
            policy,
            settings.runner,
            settings.agent.slots,
            quotes=lambda: promises.quotes,
            hired=lambda: promises.unseen,
            before_run=context.capacity.call_in,
            # Nobody but this operator can tell it, so a failure's seal cannot be guessed.
            salt=lambda job: ballot_salt(context.key.account, domain, job, 0),
        )
        self._duty = duty = JobsDuty(
            store=records,
            book=book,
            view=ChainView(jobs, context.capacity),
            promises=promises,
            taker=Taker(
                book, policy, promises, attempts, jobs, halt, context.sender.reserve, fleet
            ),
            worker=worker,
            attempts=attempts,
            jobs=jobs,
            halt=halt,
            clock=clock,
            expires_missed=wanted.expire_missed,
        )
        self._housekeeper = Housekeeper(
            book,
            promises,
            machine.results,
            machine.inputs,
            int(settings.agent.keep_results_hours * 3600),
            # As far back as the event feed looks for a fork.
            depth=4 * chain.reorg_window,
            knows_all=lambda: context.feed.is_whole,
        )
        self._contained = of_this_machine(settings.runner.sandbox).to_json()
        self.set_up(duty, following, fleet)
        seen_by_all = JobsContract(context.visitors, jobs.address)
        desk = QuoteDesk(
            book=book,
            duty=duty,
            promises=promises,
            policy=policy,
            key=context.key,
            turns=turns,
            funds=Funds(
                seen_by_all,
                TokenContract(context.visitors, token.address),
            ),
            spent=SpentQuotes(seen_by_all, context.key.address),
            inputs=machine.inputs,
            domain=domain,
            good_for=wanted.quote_seconds,
            halt=halt,
        )
        self._api = JobsApi(
            jobs=JobViews(book, machine, context.key, domain),
            evidence=EvidenceDesk(
                book, machine.results, machine.inputs, clock.now, context.panels.until
            ),
            specs=records,
            inputs=machine.inputs,
            may_upload=UploadRule(book, duty, desk, policy, context.capacity),
            has_room=lambda size, named: spec_fits(context.capacity, size, named),
            quotes=desk,
        )
        self._metrics = JobMetrics(context.metrics)
        fleet.hold(self.name, worker.held)
        context.activity.add(self.name, lambda: bool(records.runs_in(*ACTIVE_RUNS)))

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None without `chain.jobs`."""
        place = context.settings.chain.jobs
        return None if place is None else cls(context, place)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """What jobs run on, and what contains them."""
        place = trial.settings.chain.jobs
        return () if place is None else JobChecks(trial, place).all()

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        """The jobs, and why no more are taken if that is so."""
        why = halted(store)
        return [*([f"no jobs are taken: {why}"] if why else []), jobs_table(JobsRepository(store))]

    # ------------------------------------------------------------------ the life of the agent

    def start(self) -> None:
        """Take in what the disk has and the database has not; begin to move what has ended."""
        adopt(self._records, self._machine.runner)
        self._housekeeper.start()

    def close(self) -> None:
        """Wait for work under way. Runs go on under their supervisors."""
        self._duty.close()
        self._housekeeper.close()
        runner, going = self._machine.runner, 0
        for run_id in runner.list():  # the store may not have seen the last one start
            with contextlib.suppress(RunnerError, OSError):
                going += runner.poll(run_id).phase in (Phase.PENDING, Phase.RUNNING)
        verb = "goes on under its supervisor" if going == 1 else "go on under their supervisors"
        log.info("stopped; %s %s", counted(going, "run"), verb)

    # ------------------------------------------------------------------ the cycle

    def contracts(self) -> Sequence[Source]:
        """Jobs are posted, accepted, attested and ended there."""
        return [Followed(self._jobs, JOB_EVENTS)]

    def work(self, cycle: Cycle) -> None:
        """See the duty; afterwards, what may be missing is looked for."""
        self._duty.reconcile(cycle.block, cycle.provider, cycle.time_left)
        self._worker.probe_suspects()
        standing = self._duty.standing
        self._backfill.look(cycle.block, None if standing is None else standing.owner)
        if standing is not None:
            self._housekeeper.see(cycle.block.number, standing.owner)
        self._housekeeper.value(self._duty.moved(), *self._open_for())

    def tidy(self) -> None:
        """Delete what is over."""
        self._housekeeper.prune(*self._open_for())

    def _open_for(self) -> tuple[int, int]:
        """Seconds after its auction in which an order can be taken, and those of pauses."""
        standing = self._duty.standing
        return (0, 0) if standing is None else (standing.open_margin, standing.paused_seconds)

    def measure(self) -> None:
        """Jobs, runs, inputs."""
        metrics = self._metrics
        metrics.slots.set(self._settings.agent.slots)
        jobs = self._records.count_jobs()
        metrics.set_jobs({Status(status).name.lower(): number for status, number in jobs.items()})
        metrics.set_runs({stage.value: n for stage, n in self._records.count_runs().items()})
        metrics.input_bytes.set(self._machine.inputs.used()[0])
        standing = self._duty.standing
        if standing is not None:
            # They leave the table an hour after their end.
            expired = self._records.jobs_by(standing.owner, Status.EXPIRED)
            metrics.set_own(self._records.jobs_by(standing.owner, Status.ASSIGNED), len(expired))

    # ------------------------------------------------------------------ what others see

    def checks_of_its_own(self) -> Sequence[Callable[[], Check]]:
        """Whether jobs are taken after one was missed, and the GPUs work."""
        gpus = [self._fleet.check] if self._settings.runner.gpus else []
        return [self._halt.check, *gpus]

    def operations(self, door: Door) -> Sequence[Operation]:
        """Specifications, inputs, quotes, jobs and results."""
        return operations(self._api, door)

    def offer(self) -> dict[str, Any]:
        """Prices, limits and slots, and what keeps jobs apart."""
        found = offer(self._settings, self._promises.shown, len(self._fleet.usable))
        return {**found, "sandbox": self._contained}
