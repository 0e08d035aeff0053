# SPDX-License-Identifier: Apache-2.0
"""Disputes as a module of the agent: its parts put together; see `duty` for what it does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, ClassVar, Self

from eth_utils.crypto import keccak

from provider_agent.core.clock import ChainClock
from provider_agent.core.demands import Demands
from provider_agent.core.feed import Followed, Source
from provider_agent.core.module import Context, Cycle, Module, Table, short_id
from provider_agent.core.operation import Door, Operation
from provider_agent.core.pay import Pay
from provider_agent.core.runner import make_runner
from provider_agent.core.settings import Section
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.modules.disputes.appeals import Appeals
from provider_agent.modules.disputes.bench import Bench, Tools, input_bytes
from provider_agent.modules.disputes.checks import DisputesChecks
from provider_agent.modules.disputes.duty import CONTRACT, COURT, Contracts, DisputesDuty
from provider_agent.modules.disputes.hearing import Hearing
from provider_agent.modules.disputes.metrics import DisputesMetrics
from provider_agent.modules.disputes.repository import DisputesRepository
from provider_agent.modules.disputes.routes import HearingRoutes
from provider_agent.modules.disputes.seats import Seats, held
from provider_agent.modules.disputes.settings import DisputesSettings
from provider_agent.modules.disputes.tables import TABLES
from provider_agent.modules.disputes.votes import VOTES, VoteBook
from provider_agent.runners.containment import of_this_machine
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.client.jobs import AgentClient
from teraproof.contracts.base import Event
from teraproof.contracts.disputes import DisputesContract
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.contracts.staking import EndpointChanged, Registered, StakingContract
from teraproof.deals import JOB_EVENTS
from teraproof.errors import LocalError, counted
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.storage.reach import Reach

log = logging.getLogger(__name__)


class DisputesModule(Module):
    """Judges results of others and defends its own, where Jobs has a court."""

    name: ClassVar[str] = "disputes"
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "disputes"
    settings: ClassVar[type[Section]] = DisputesSettings
    kept: ClassVar[Sequence[str]] = (VOTES,)

    def __init__(self, context: Context, jobs: JobsContract, court: str) -> None:
        settings, chain, pool = context.settings, context.settings.chain, context.pool
        wanted, runner = settings.section(DisputesSettings), settings.runner
        self._wanted = wanted
        disputes = DisputesContract(pool, court)
        context.store.bind(disputes=disputes.address)
        staking = StakingContract(pool, chain.staking)
        token = PaymentTokenContract(pool, jobs.payment_token("latest"))
        store = DisputesRepository(context.store)
        attempts = context.attempts(CONTRACT, disputes.address, context.short_pause)
        at_jobs = context.attempts(COURT, jobs.address, context.short_pause)

        # A stranger wrote the URL.
        reach = Reach.of_strangers(map(ip_network, settings.agent.private_networks), plain=True)

        def client(owner: str, until: float) -> AgentClient:
            url = _endpoint(store, staking, owner, chain.start_block)
            return AgentClient(url, context.key.account, chain.chain_id, reach=reach, until=until)

        root, self._clock = settings.agent.data_dir / "juror", ChainClock()
        self._hearing = Hearing(root, self._clock.now)
        self._bench = bench = Bench(
            root,
            Tools(
                runner=make_runner(settings),
                demands=Demands(
                    runner,
                    lambda: len(context.fleet.usable),
                    of_this_machine(runner.sandbox).disk,
                ),
                capacity=context.capacity,
                fleet=context.fleet,
                runtimes=runner.runtimes,
                slots=settings.agent.slots,
                client=client,
                input_bytes=input_bytes(runner.input_mb),
            ),
        )
        self._seats = seats = Seats(disputes, staking, attempts, context.store, wanted.seats)
        pay = Pay.read(token)
        self._contracts = Contracts(disputes, jobs, staking)
        self._duty = DisputesDuty(
            store=store,
            contracts=self._contracts,
            key=context.key,
            domain=Domain(chain.chain_id, disputes.address),
            seats=seats,
            bench=bench,
            book=VoteBook(settings.agent.data_dir / VOTES),
            appeals=Appeals(
                jobs,
                token,
                context.key.address,
                at_jobs,
                context.attempts("court-token", token.address, context.short_pause),
                int(wanted.appeal_up_to * pay.unit),
                pay,
            ),
            panels=context.panels,
            hearing=self._hearing,
            attempts=attempts,
            court=at_jobs,
            start_block=chain.start_block,
            block_seconds=lambda: context.pace.seconds,
            concludes=wanted.conclude,
        )
        self._metrics = DisputesMetrics(context.metrics)
        context.activity.add(self.name, lambda: self._duty.busy > 0)

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None where there is no court."""
        place = context.settings.chain.jobs
        if place is None:
            return None
        jobs = JobsContract(context.pool, place)
        court = jobs.court("latest")
        return None if court == ZERO_ADDRESS else cls(context, jobs, court)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """Whether this machine can judge what its settings say."""
        if trial.settings.chain.jobs is None or not trial.settings.section(DisputesSettings).seats:
            return ()
        return DisputesChecks(trial).all()

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        """Its seats, and the disputes in which this provider has done something."""
        seats = [
            f"Juror: {counted(count, 'seat')} for {text}" for text, count in held(store).items()
        ]
        noted = [one for one in DisputesRepository(store).disputed() if one.note]
        if not noted:
            return seats
        rows = [(short_id(one.job), one.case.provider if one.case else "") for one in noted]
        # A note has a line of its own: it may hold a command with the whole id.
        notes = [f"{short_id(one.job)}: {one.note}" for one in noted]
        return [*seats, Table("Disputes", ("job", "provider"), rows), *notes]

    def close(self) -> None:
        """Wait for work under way."""
        self._bench.close()

    def contracts(self) -> Sequence[Source]:
        """All that happens in disputes, and what they are about."""
        contracts = self._contracts
        return [
            Followed(contracts.disputes, DisputesContract.EVENTS),
            Followed(contracts.jobs, JOB_EVENTS),
            Followed(contracts.staking, (Registered, EndpointChanged)),
        ]

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See the duty."""
        self._duty.consume(events, again)

    @property
    def is_idle(self) -> bool:
        """See the duty."""
        return self._duty.is_idle

    def reconcile(self, cycle: Cycle) -> None:
        """See the duty."""
        self._clock.see(cycle.head.timestamp)
        self._duty.reconcile(cycle)

    def measure(self) -> None:
        """Seats and disputes."""
        self._metrics.show(self._seats, self._duty)

    def operations(self, door: Door) -> Sequence[Operation]:
        """What a juror takes from tenants."""
        return HearingRoutes(self._hearing, door).operations()

    def offer(self) -> dict[str, Any]:
        """What this machine judges."""
        return {"judges": {text: seats for text, seats in self._wanted.seats.items() if seats}}


def _endpoint(
    store: DisputesRepository, staking: StakingContract, owner: str, start_block: int
) -> str:
    """The URL of a provider's agent, as events say it and the chain confirms it."""
    digest = staking.endpoint_digest(owner, "latest")
    known = store.endpoint(owner)
    if known is not None and bytes(keccak(text=known)) == digest:
        return known
    # The event was lost, or is of before this module: all of history is searched, once.
    for event in reversed(
        staking.find_any((Registered, EndpointChanged), start_block, provider=owner)
    ):
        assert isinstance(event, Registered | EndpointChanged)  # what was asked for
        if bytes(keccak(text=event.endpoint)) == digest:
            store.put_endpoint(owner, event.endpoint)
            return event.endpoint
    raise LocalError(f"provider {owner} announces no endpoint", Code.AGENT_UNREACHABLE)
