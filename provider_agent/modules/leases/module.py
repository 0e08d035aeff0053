# SPDX-License-Identifier: Apache-2.0
"""Leases as a module of the agent: its parts put together; see `duty` for what it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any, ClassVar, Self

from provider_agent.core.business import Business
from provider_agent.core.feed import Followed, Source
from provider_agent.core.following import Following
from provider_agent.core.funds import Funds
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle, Table
from provider_agent.core.operation import Door, Operation
from provider_agent.core.pay import Pay
from provider_agent.core.settings import Section
from provider_agent.core.spent import SpentQuotes
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.core.worth import GasWorth
from provider_agent.dataplane.plane import DataPlane
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.api import LeasesApi
from provider_agent.modules.leases.backfill import Backfill
from provider_agent.modules.leases.chain_view import LeaseView
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from provider_agent.modules.leases.checks import LeaseChecks
from provider_agent.modules.leases.collecting import Collecting
from provider_agent.modules.leases.duty import EVENTS, LeasesDuty
from provider_agent.modules.leases.fleet_stock import FleetStock
from provider_agent.modules.leases.heartbeat import Heart
from provider_agent.modules.leases.images import ImageDesk
from provider_agent.modules.leases.last_look import LastLook
from provider_agent.modules.leases.machine import Machine, patience
from provider_agent.modules.leases.metrics import LeaseMetrics
from provider_agent.modules.leases.plane import FOLDER as PLANE_FOLDER
from provider_agent.modules.leases.plane import Endpoints, Holders, plane_settings
from provider_agent.modules.leases.policy import Policy
from provider_agent.modules.leases.promises import Promises
from provider_agent.modules.leases.quotes import QuoteDesk
from provider_agent.modules.leases.repository import LeasesRepository
from provider_agent.modules.leases.routes import LeaseRoutes
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.specs import Specs
from provider_agent.modules.leases.status import leases_table
from provider_agent.modules.leases.stock import MODULE
from provider_agent.modules.leases.tables import TABLES
from provider_agent.modules.leases.taking import Taker
from provider_agent.modules.leases.tenure import Tenure
from provider_agent.modules.leases.views import LeaseViews
from provider_agent.modules.leases.wishes import FOLDER, wishes
from provider_agent.prover.acceptance.desk import Desk
from provider_agent.runners.base import MIB
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.token import TokenContract
from teraproof.errors import Refused
from teraproof.protocol import lease_wire, messages
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.storage.reach import Reach

log = logging.getLogger(__name__)

_WALLET_GAS = 3_000_000  # for a contract wallet to check a signature
_OLD = 60.0  # seconds without a look at the chain after which nothing is promised
_REACTION_BLOCKS = 3  # from the look at a state to the transaction that follows from it
_OPEN_DAYS = 32 * 86_400  # seconds after which no order is open any more


class LeasesModule(Business):
    """Rents this machine out by the second: runs containers, and is paid while they run."""

    name: ClassVar[str] = MODULE
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "leases"
    settings: ClassVar[type[Section]] = LeasesSettings
    kept: ClassVar[Sequence[str]] = (FOLDER, PLANE_FOLDER)

    def __init__(self, context: Context, place: str) -> None:
        settings, chain, store = context.settings, context.settings.chain, context.store
        wanted = settings.section(LeasesSettings)
        self._keep_seconds = int(settings.agent.keep_results_hours * 3_600)
        self._leases = leases = LeasesContract(context.pool, place)
        store.bind(leases=leases.address)
        self._fleet, self._records = context.fleet, LeasesRepository(store)
        token = TokenContract(context.pool, leases.payment_token("latest"))
        pay = Pay.read(token)
        pay.keep(store, self.name)
        records, operator = self._records, context.key.address
        runner = engine.make_lease_runner(settings, operator)
        good_for = patience(chain.poll_seconds, wanted.down_seconds)
        self._machine = machine = Machine(runner, good_for)
        self._last_look = LastLook(runner)
        networks = tuple(map(ip_network, settings.agent.private_networks))
        self._checkpoints = checkpoints = LeaseCheckpoints(
            runner,
            settings.agent.data_dir,
            Reach.of_strangers(networks, plain_inside=True),  # TLS, but in a network of ours
            wanted=wanted.checkpoints,
        )
        machine.before_start = self._before_start
        following = Following.within(chain.clock_margin_seconds, _OLD)
        self._stock = stock = engine.make_stock(settings, context.capacity, context.fleet, runner)
        self._images = images = ImageDesk(
            runner,
            context.capacity,
            most=wanted.image_mb * MIB,
            seconds=wanted.pull_seconds,
            elsewhere=stock if isinstance(stock, FleetStock) else None,
        )
        self._policy = policy = Policy(
            wanted,
            stock,
            pay,
            lambda: self._promises.count,
            checkpoints=checkpoints.offered,
        )
        self._specs = specs = Specs(records, context.capacity, policy)
        self._promises = promises = Promises(
            records,
            context.capacity,
            stock,
            leases,
            operator,
            specs.spec,
            lambda name: machine.has(name),
            lambda: machine.room,
            images.reckon,
            lambda: machine.held(),
        )
        attempts = context.attempts(MODULE, leases.address, context.short_pause)
        view = LeaseView(leases, context.capacity)
        self._lag: Callable[[], int] = lambda: int(chain.confirmations * context.pace.seconds)
        self._heart = heart = Heart(leases, view, machine, attempts)
        taker = Taker(
            store=records,
            specs=specs,
            policy=policy,
            stock=stock,
            images=images,
            promises=promises,
            attempts=attempts,
            leases=leases,
            refuse=self._refuse,
        )
        self._desk = desk = Desk()
        data_dir = settings.agent.data_dir
        self._duty = duty = LeasesDuty(
            store=records,
            view=view,
            machine=machine,
            promises=promises,
            tenure=Tenure(
                store=records,
                settings=wanted,
                specs=specs,
                stock=stock,
                view=view,
                machine=machine,
                attempts=attempts,
                leases=leases,
                last_look=self._last_look,
                collecting=Collecting(
                    leases,
                    operator,
                    every=wanted.settle_hours * 3_600,
                    worth=GasWorth(chain, pay.unit),
                ),
                reaction=lambda: int(
                    (chain.confirmations + _REACTION_BLOCKS) * context.pace.seconds
                ),
                now=lambda: duty.now + self._lag(),
                wishes=lambda: dict(wishes(data_dir)),
            ),
            heart=heart,
            attempts=attempts,
            clock=following.clock,
            operator=operator,
            data_dir=data_dir,
            take=taker.take,
            look_back=Backfill(context.feed, context.pace, chain.reorg_window).look,
            begun=context.capacity.call_in,
            left=self._left,
            fetching=lambda: images.wanted() | promises.fetched,
            is_whole=lambda: context.feed.is_whole,
        )
        self._views = LeaseViews(
            store=records,
            specs=specs,
            machine=machine,
            chain_id=chain.chain_id,
            contract=leases.address,
            owner=lambda: None if duty.standing is None else duty.standing.owner,
            find=stock.find,
            checkpoints=checkpoints,
            command=engine.challenger(settings, runner),
        )
        domain = messages.Domain(chain.chain_id, leases.address)
        self._plane = DataPlane(
            plane_settings(settings),
            domain,
            context.key.account,
            Holders(records, specs, lambda: duty.now, lambda: duty.is_settled, lambda: duty.lost),
            runner,
            lambda to, call: context.visitors.eth_call(to, call, "latest", gas=_WALLET_GAS),
            store.end_sessions,
        )
        self._views.endpoints = Endpoints(
            settings, lambda: self._plane.port, lambda lease: self._plane.public_ports(lease)
        )
        seen_by_all = LeasesContract(context.visitors, leases.address)
        quotes = QuoteDesk(
            store=records,
            settings=wanted,
            specs=specs,
            policy=policy,
            stock=stock,
            images=images,
            promises=promises,
            funds=Funds(
                seen_by_all,
                TokenContract(context.visitors, token.address),
            ),
            spent=SpentQuotes(seen_by_all, operator),
            key=context.key,
            domain=domain,
            standing=lambda: duty.standing,
            now=lambda: duty.now + self._lag(),
            refuse=self._refuse,
        )
        self._api = LeasesApi(
            offer=lambda: policy.offer().to_json(),
            specs=specs,
            quotes=quotes,
            leases=self._views,
            desk=desk,
            place_of=self._views.place,
        )
        self._metrics = LeaseMetrics(context.metrics)
        self.set_up(duty, following, context.fleet)
        context.activity.add(self.name, self._is_busy)

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None without `chain.leases`, or when nothing has a price."""
        place = context.settings.chain.leases
        wanted = context.settings.section(LeasesSettings)
        return cls(context, place) if place is not None and wanted.is_set else None

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """The contract, what is for rent, and what contains it."""
        place = trial.settings.chain.leases
        if place is None or not trial.settings.section(LeasesSettings).is_set:
            return ()
        return LeaseChecks(trial, place).all()

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        """The leases, if there were any."""
        table = leases_table(LeasesRepository(store))
        return [table] if table.rows else []

    def start(self) -> None:
        """Let tenants in. LocalError when a port is taken."""
        self._plane.start()

    def close(self) -> None:
        """Wait for work under way. Containers go on."""
        self._plane.stop()
        self._desk.close()
        # It breaks off what is fetched, so that nothing else waits for a registry.
        self._images.close()
        self._checkpoints.close()
        self._machine.close()
        self._last_look.close()
        going = len(self._records.ours())
        if going:
            log.info("stopped; %s leases go on in their containers", going)

    # ------------------------------------------------------------------ the cycle

    def contracts(self) -> Sequence[Source]:
        """Leases are opened, taken and closed there."""
        return [Followed(self._leases, EVENTS)]

    @property
    def look_again(self) -> float | None:
        """See the duty."""
        return self._duty.look_again

    def work(self, cycle: Cycle) -> None:
        """See the duty; afterwards, checkpoints and challenges go on."""
        self._duty.reconcile(cycle)
        self._save()
        self._desk.tick()

    def tidy(self) -> None:
        """Forget orders that are open no more, and leases that ended long ago."""
        now = int(time.time())
        self._records.drop_open(now - _OPEN_DAYS)
        self._records.forget_ended(now - self._keep_seconds)

    def keep_up(self) -> None:
        """See the duty."""
        self._duty.keep_up()

    def measure(self) -> None:
        """Leases, quotes, the engine."""
        rows = self._records.ours()
        self._metrics.show(
            rows,
            {row.name for row in rows if self._machine.is_up(row.name)},
            len(self._promises.quotes()),
            0 if self._duty.standing is None else self._duty.standing.max_suspension,
            engine=self._machine.trouble is None and self._machine.is_fresh,
        )
        self._metrics.show_heart(self._heart)
        self._metrics.show_images(self._machine.room)
        plane = self._plane
        self._metrics.show_plane(up=plane.running, expires=plane.expires, refused=plane.refused)

    def _left(self, lease: bytes) -> None:
        """A lease has ended: so have its challenge, its streams and its checkpoints here."""
        self._desk.leave(lease)
        self._plane.end(lease)
        self._checkpoints.forget(lease.hex())

    def _before_start(self, name: str) -> None:
        """What a lease names is there before any program of it runs. Called by worker threads."""
        row = self._records.lease(bytes.fromhex(name)) if is_hex_digest(name) else None
        spec = None if row is None else self._specs.spec(row.spec)
        if spec is None:  # whether it has checkpoints is not known: it never begins without them
            raise Refused(Code.SPEC_MISSING, "waiting for the specification")
        self._checkpoints.prepare(name, spec, lambda: self._machine.log_in(name, {}))

    def _save(self) -> None:
        """Checkpoints of what runs."""
        running, machine = {}, self._machine
        rows = self._records.ours()
        for row in rows:
            spec = self._specs.spec(row.spec)
            is_saved = spec is not None and spec.checkpoints is not None
            runs = row.status is LeaseStatus.ACTIVE and machine.is_up(row.name)
            if spec is not None and is_saved and runs:
                running[row.name] = spec
        there = {*machine.there, *(row.name for row in rows)} if machine.is_fresh else None
        self._checkpoints.keep(running, there)

    def _is_busy(self) -> bool:
        """Whether a lease has what proofs are made with."""
        held = any(row.devices for row in self._records.ours())
        return held or (not self._fleet.usable and bool(self._records.ours()))

    def _refuse(self) -> Refused | None:
        """Why no lease is taken now, whatever it is."""
        if self._machine.trouble is not None or not self._machine.is_fresh:
            line = "the container engine of this provider does not answer; try later"
            return Refused(Code.CONTAINERS_AWAY, line)
        return self._following.refuse()

    # ------------------------------------------------------------------ what others see

    def checks_of_its_own(self) -> Sequence[Callable[[], Check]]:
        """Whether the engine answers, and tenants can come in."""
        return [self._check_engine, self._check_plane]

    def _check_engine(self) -> Check:
        trouble = self._machine.trouble
        return Check("engine", trouble is None, "" if trouble is None else str(trouble))

    def _check_plane(self) -> Check:
        running = self._plane.running
        return Check("data plane", running, "" if running else "it has ended; see the log")

    def operations(self, door: Door) -> Sequence[Operation]:
        """The offer, specifications, quotes, leases and their challenges."""
        return LeaseRoutes(self._api, door).operations()

    def offer(self) -> dict[str, Any]:
        """Where the offer is."""
        return {"leases": {"contract": self._leases.address, "offer": lease_wire.OFFER}}
