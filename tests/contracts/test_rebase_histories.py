# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a pool, rebases included: every holder keeps its part."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import delegate, now, register, reward
from tests.contracts.deploy import Suite, address_of
from tests.contracts.test_rebase import NO_LOCK, REWARD_DUST, VIRTUAL, price_is_fair

pytestmark = pytest.mark.invariant("I-12", "I-13")


# --------------------------------------------------------------- whatever the numbers

# From one wei to a million TPF, every size as likely.
amounts = st.integers(0, 24).flatmap(lambda size: st.integers(10**size // 10 + 1, 10**size))
WHO = range(4)
steps = st.one_of(
    st.tuples(st.just("deposit"), st.sampled_from(WHO), amounts),
    st.tuples(st.just("leave"), st.sampled_from(WHO), st.integers(1, 10**6)),
    st.tuples(st.just("leave"), st.sampled_from(WHO), st.just(10**6)),
    st.tuples(st.just("reward"), st.just(0), amounts),
    st.tuples(st.just("slash"), st.just(0), amounts),
    st.tuples(st.just("slash to"), st.just(0), st.integers(0, 18).map(lambda n: 10**n)),
    st.tuples(st.just("seize"), st.just(0), amounts),
)


class Watch:
    """A pool and its four holders, of whom the first is the owner."""

    def __init__(self, suite: Suite, commission_bps: int) -> None:
        self.suite, self.staking = suite, suite.staking
        self.provider = register(
            suite,
            "watched",
            stake=0,
            commission_bps=commission_bps,
            per_order=2**127,
            in_all=2**127,
        )
        self.owner = self.provider.owner
        self.holders = [self.owner, *(address_of(f"watched {k}") for k in range(1, 4))]
        self.commission_bps = commission_bps

    def shares(self) -> list[int]:
        return [self.staking.shares_of(self.owner, account) for account in self.holders]

    def assets(self) -> list[int]:
        return [self.staking.assets_of(self.owner, account) for account in self.holders]

    def owed(self) -> Any:
        """Everything that the contract owes to anybody in this test."""
        pool = self.staking.pool(self.owner)
        return (
            pool[0]
            + pool[4]
            + sum(self.staking.credit_of(a) for a in (self.provider.payout, address_of("victim")))
        )

    def step(self, action: str, who: int, value: int) -> None:
        """Do one step; check what it may change, and for whom."""
        staking, owner, account = self.staking, self.owner, self.holders[who]
        held, had = self.shares(), self.assets()
        active, _, total, _, leaving, _ = staking.pool(owner)
        slack = self.suite.token.balanceOf(staking.address) - self.owed()
        own = self.holders.index(account)
        if action == "deposit":
            try:
                assert delegate(self.suite, owner, account, value) >= value
            except boa.BoaError as error:
                assert "shares: number above 128 bits" in str(error)
                return
            self.only(own, had, value)
        elif action == "leave":
            amount = held[own] * value // 10**6
            if amount == 0:
                return
            staking.undelegate(owner, amount, sender=account)
            moved = active - staking.pool(owner)[0]
            assert moved <= amount
            self.only(own, had, -moved)
        elif action == "reward":
            reward(self.suite, owner, value)
            part = value - value * self.commission_bps // 10_000
            for k, now_has in enumerate(self.assets()):
                fair = part * held[k] // total if total else 0
                if held[k]:
                    assert abs(now_has - had[k] - fair) <= REWARD_DUST
                else:
                    assert now_has == 0
        elif action in ("slash", "slash to"):
            amount = value if action == "slash" else max(active + leaving - value, 0)
            taken = staking.slash(owner, NO_LOCK, amount, sender=address_of("manager"))
            assert taken == min(amount, active + leaving)
            lost = active - staking.pool(owner)[0]
            for k, now_has in enumerate(self.assets()):
                fair = had[k] * lost // active if active else 0
                assert abs(had[k] - now_has - fair) <= 2
        elif had[0] > 0:
            amount = min(value, had[0])
            manager, victim = address_of("manager"), address_of("victim")
            staking.lock(self.provider.operator.address, NO_LOCK, amount, now(), 0, sender=manager)
            taken = staking.seize(owner, NO_LOCK, victim, victim, 10_000, 0, sender=manager)
            assert taken == amount
            staking.set_lock_limits(2**127, 2**127, sender=owner)
            self.only(0, had, -taken)
        assert slack == self.suite.token.balanceOf(staking.address) - self.owed()

    def only(self, own: int, had: list[int], change: int) -> None:
        """One holder's stake has changed by that, to a wei; that of the others has not."""
        for k, now_has in enumerate(self.assets()):
            if k == own:
                assert had[k] + change - 1 <= now_has <= had[k] + change + 1
            else:
                # Rounding is for the pool: a wei more at most, never less.
                assert had[k] <= now_has <= had[k] + 1

    def check(self) -> None:
        """What holds after every step."""
        active, _, total, *_ = self.staking.pool(self.owner)
        assert sum(self.shares()) <= total
        assert sum(self.assets()) <= active
        assert price_is_fair(self.staking, self.owner)


@settings(max_examples=25)
@given(
    commission_bps=st.sampled_from([0, 1_000, 9_999]),
    script=st.lists(steps, min_size=3, max_size=14),
)
def test_any_history__fair_to_everybody(suite: Suite, commission_bps: int, script: Any) -> None:
    """Deposits, exits, rewards, slashes and seizures of any size, in any order."""
    watch = Watch(suite, commission_bps)
    for step in script:
        watch.step(*step)
        watch.check()


@settings(max_examples=25)
@given(
    stakes=st.lists(amounts, min_size=2, max_size=4),
    slashed_to=st.one_of(st.none(), st.integers(0, 20).map(lambda n: 10**n)),
    commission_bps=st.integers(0, 10_000),
    amount=amounts,
)
def test_any_reward__every_holder_gets_its_part(
    suite: Suite, stakes: Any, slashed_to: Any, commission_bps: int, amount: int
) -> None:
    """I-13: (1 - commission) times its part, within a millionth and the dust of a few wei."""
    watch = Watch(suite, commission_bps)
    staking, owner = suite.staking, watch.owner
    for account, stake in zip(watch.holders, stakes, strict=False):
        delegate(suite, owner, account, stake)
    if slashed_to is not None:
        active = staking.pool(owner)[0]
        staking.slash(owner, NO_LOCK, max(active - slashed_to, 0), sender=address_of("manager"))
    had, held, total = watch.assets(), watch.shares(), staking.pool(owner)[2]
    credited = staking.credit_of(watch.provider.payout)
    reward(suite, owner, amount)
    part = amount - amount * commission_bps // 10_000
    for k, now_has in enumerate(watch.assets()):
        fair = part * held[k] // total if total else 0
        gained = now_has - had[k]
        assert fair - fair // 10**6 - REWARD_DUST <= gained <= fair + VIRTUAL + 1
    to_payout = staking.credit_of(watch.provider.payout) - credited
    if total:
        assert to_payout - (amount - part) <= min(VIRTUAL, part // 10**6 + 1)
    else:
        assert to_payout == amount
    assert price_is_fair(staking, owner)
