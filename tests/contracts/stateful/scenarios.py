# SPDX-License-Identifier: Apache-2.0
"""Machines that start in a market of a certain kind and lean to one side."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from provider_agent.protocol.terms import ZERO_WORD, Order, Status
from tests.contracts.deploy import DAY, TPF
from tests.contracts.stateful.base import DATA, Data
from tests.contracts.stateful.machine import SPECS, MarketMachine
from tests.contracts.stateful.market import (
    DELEGATORS,
    OPERATORS,
    OWNERS,
    STRANGER,
    TENANTS,
    WARDEN,
)


class SlashingMachine(MarketMachine):
    """Heavy slashes: pools fall to next to nothing, start anew, and are staked again."""

    @initialize()
    def found(self) -> None:
        super().found()
        for account in DELEGATORS:
            self.stake(account, OWNERS[0], 3_000 * TPF)
        self.leave(OWNERS[0], DELEGATORS[0], 10**21)

    @precondition(lambda self: self.registered)
    @rule(data=DATA, left=st.one_of(st.integers(0, 10), st.integers(10**3, 10**15)))
    def devastate(self, data: Data, left: int) -> None:
        """Leave a few wei, so that the price of a share nears the border of worthless."""
        provider = self.pick(data, self.registered)
        pool = self.staking.providers[provider]
        self.punish(WARDEN, provider, max(0, pool.active.assets + pool.unbonding.assets - left))

    @precondition(lambda self: self.stakes())
    @rule(data=DATA)
    def slash_the_leaving(self, data: Data) -> None:
        """Unbonding stake is slashed like active stake, and comes out smaller."""
        provider, account, held = self.pick(data, self.stakes())
        if self.leave(provider, account, held):
            pool = self.staking.providers[provider]
            self.punish(WARDEN, provider, (pool.active.assets + pool.unbonding.assets) // 2)

    @precondition(lambda self: self.registered)
    @rule(data=DATA, amount=st.integers(1, 10**21))
    def return_after_a_slash(self, data: Data, amount: int) -> None:
        """Old shares and new ones in one pool, old tickets beside new ones."""
        provider = self.pick(data, self.registered)
        account = self.pick(data, (provider, *DELEGATORS))
        pool = self.staking.providers[provider]
        self.punish(WARDEN, provider, pool.active.assets + pool.unbonding.assets)
        self.stake(account, provider, amount)
        if held := pool.active.held[account]:
            self.leave(provider, account, held)


class SmallJobsMachine(MarketMachine):
    """Many jobs for little money at the same time."""

    PROVIDERS_AT_START: ClassVar[int] = 3

    def small(self, n: int, auction: int) -> Order:
        # Prices from 1 up: every rounding of fees and auctions comes by.
        return Order(
            SPECS[0], n, n * n, 10**15 + n, 600 + n, auction, 0, 0, ZERO_WORD, self.number()
        )

    @rule(data=DATA, count=st.integers(1, 5), auction=st.sampled_from([0, 7, 100]))
    def burst(self, data: Data, count: int, auction: int) -> None:
        for _ in range(count):
            tenant = self.pick(data, TENANTS)
            order = self.small(data.draw(st.integers(1, 400)), auction)
            if self.open(tenant, order, self.can_pay(tenant, order.max_price)):
                self.chain.now += data.draw(st.integers(0, 10))
                self.take(list(self.jobs.jobs.values())[-1], self.pick(data, OPERATORS[:3]).address)

    @precondition(lambda self: self.with_status(Status.ASSIGNED))
    @rule()
    def deliver_all(self) -> None:
        for job in self.with_status(Status.ASSIGNED)[:5]:
            self.deliver(job)

    @precondition(lambda self: len(self.with_status(Status.ATTESTED)) > 1)
    @rule(late=st.booleans())
    def settle_all(self, late: bool) -> None:
        for job in self.with_status(Status.ATTESTED)[:5]:
            if late:
                self.chain.now = max(self.now, job.window_end + 1)
                self.conclude(job)
            else:
                self.accept_result(job, job.terms.requester)

    @precondition(lambda self: len(self.with_status(Status.ASSIGNED)) > 1)
    @rule()
    def default_all(self) -> None:
        """A provider that vanished: each job costs it its lock, none more."""
        for job in self.with_status(Status.ASSIGNED)[:5]:
            self.chain.now = max(self.now, job.deadline + 1)
            self.give_up(job, STRANGER)


class ExitRushMachine(MarketMachine):
    """Everybody wants out while work is running, orders are paused and Jobs may be removed."""

    @initialize()
    def found(self) -> None:
        super().found()
        for account, amount in zip(DELEGATORS, (1, 10**18 + 7, 777 * TPF), strict=True):
            self.stake(account, OWNERS[0], amount)
        for n in range(2):
            order = Order(
                SPECS[0], 50, 100 + n, 40 * TPF, DAY, 3_600, 0, 0, ZERO_WORD, self.number()
            )
            self.open(TENANTS[0], order, False)
            self.take(list(self.jobs.jobs.values())[-1], OPERATORS[0].address)

    @precondition(lambda self: self.stakes())
    @rule(part=st.integers(1, 4))
    def rush(self, part: int) -> None:
        for provider, account, held in self.stakes():
            self.leave(provider, account, -(-held // part))

    @precondition(lambda self: self.tickets())
    @rule()
    def queue(self) -> None:
        """Whoever is ready takes its stake."""
        for provider, account, number, ready_at in self.tickets():
            if ready_at <= self.now:
                self.collect_ticket(provider, account, number)

    @rule()
    def seek_shelter(self) -> None:
        """The worst that governance can do while people leave."""
        guardian = self.jobs.guardian
        self.act(
            "jobs.pause",
            (DAY,),
            guardian,
            lambda: self.jobs.pause(self.now, guardian, DAY),
        )
        self.act(
            "staking.remove_manager",
            (self.jobs.address,),
            self.owner,
            lambda: self.staking.remove_manager(self.owner, self.jobs.address),
        )
