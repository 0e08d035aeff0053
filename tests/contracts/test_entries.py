# SPDX-License-Identifier: Apache-2.0
"""Entries: stake that comes while an epoch is unsettled waits, earns nothing and risks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import (
    Provider,
    consent,
    delegate,
    event,
    give_tpf,
    now,
    pass_time,
    permit,
)
from tests.contracts.deploy import (
    DAY,
    IDLE,
    PAY,
    TPF,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
    deploy_staking,
)

pytestmark = pytest.mark.invariant("I-2", "I-13")


@pytest.fixture
def holder(suite: Suite) -> Contract:
    return suite.holder


@pytest.fixture
def unsettled(holder: Contract, provider: Provider) -> str:
    """The provider, in an epoch that is not over."""
    holder.hold(provider.operator.address)
    holder.set_manner(IDLE)
    return provider.owner


@pytest.fixture
def end_epoch(holder: Contract) -> Callable[..., Any]:
    """End the epoch: whoever asks for it from now on settles it with that reward."""

    def end(provider: Provider, amount: int = 0) -> None:
        holder.owe(provider, amount)
        holder.set_manner(PAY)

    return end


def close(value: int, expected: int) -> bool:
    """Equal but for rounding and what the virtual shares take."""
    return expected - 2_000 <= value <= expected + 1


def test_delegate__unsettled__becomes_an_entry(
    staking: Contract, token: Contract, unsettled: str, delegator: str
) -> None:
    before, held = staking.pool(unsettled), token.balanceOf(staking.address)
    assert staking.delegate(unsettled, 5 * TPF, sender=delegator) == 0
    assert event(staking, "Entered") == {
        "provider": unsettled,
        "account": delegator,
        "assets": 5 * TPF,
    }
    assert staking.pool(unsettled) == before
    assert staking.entry_of(unsettled, delegator) == 5 * TPF
    assert staking.assets_of(unsettled, delegator) == 0
    assert staking.shares_of(unsettled, delegator) == 0
    assert token.balanceOf(staking.address) == held + 5 * TPF
    staking.delegate(unsettled, 2 * TPF, sender=delegator)
    assert staking.entry_of(unsettled, delegator) == 7 * TPF


def test_delegate__settled_by_the_call__active_at_once(
    staking: Contract, holder: Contract, provider: Provider, delegator: str
) -> None:
    """The holder has nothing more to wait for: the newcomer's call settles, and pays the old."""
    holder.hold(provider.operator.address)
    holder.owe(provider.owner, 100 * TPF)
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    assert shares > 0
    assert staking.entry_of(provider.owner, delegator) == 0
    assert close(staking.assets_of(provider.owner, delegator), 1_000 * TPF)
    assert close(staking.owner_assets(provider.owner), 1_090 * TPF)
    assert not staking.is_unsettled(provider.owner)


def test_delegate__owner_too(
    suite: Suite,
    staking: Contract,
    unsettled: str,
    provider: Provider,
    manager: str,
    end_epoch: Callable[..., Any],
) -> None:
    """The owner's entry is not stake of its own yet: it cannot be locked."""
    assert delegate(suite, unsettled, unsettled, 5_000 * TPF) == 0
    assert staking.owner_assets(unsettled) == 1_000 * TPF
    staking.set_lock_limits(10_000 * TPF, 10_000 * TPF, sender=unsettled)
    lock = (provider.operator.address, bytes(32), 1_000 * TPF + 1, now() + 1)
    with boa.reverts("staking: own stake too low"):
        staking.lock(*lock, 0, sender=manager)
    end_epoch(unsettled)
    staking.activate(unsettled, unsettled)
    assert staking.owner_assets(unsettled) == 6_000 * TPF
    staking.lock(*lock, 6_000 * TPF, sender=manager)


def test_delegate_with_permit__unsettled__becomes_an_entry(
    suite: Suite, staking: Contract, unsettled: str
) -> None:
    account = account_of("holder of a permit")
    suite.token.transfer(account.address, TPF, sender=suite.faucet)
    v, r, s = permit(suite.token, account, staking.address, TPF)
    sent = staking.delegate_with_permit(unsettled, TPF, 2**63, v, r, s, sender=account.address)
    assert sent == 0
    assert staking.entry_of(unsettled, account.address) == TPF


def test_delegate__unsettled__bad_argument__reverts(
    suite: Suite, staking: Contract, unsettled: str, delegator: str
) -> None:
    with boa.reverts("staking: amount too small"):
        staking.delegate(unsettled, 0, sender=delegator)
    poor = address_of("poor")
    with boa.reverts("erc20: insufficient allowance"):
        staking.delegate(unsettled, 1, sender=poor)
    assert staking.entry_of(unsettled, poor) == 0


# ----------------------------------------------------------------------- activate


def test_activate__by_anyone_once_settled(
    staking: Contract, unsettled: str, delegator: str, stranger: str, end_epoch: Callable[..., Any]
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    end_epoch(unsettled)
    shares = staking.activate(unsettled, delegator, sender=stranger)
    assert shares == 5 * TPF * 1_000
    assert event(staking, "Activated") == {
        "provider": unsettled,
        "account": delegator,
        "assets": 5 * TPF,
        "shares": shares,
    }
    assert staking.entry_of(unsettled, delegator) == 0
    assert staking.shares_of(unsettled, delegator) == shares
    assert staking.assets_of(unsettled, delegator) == 5 * TPF
    assert staking.pool(unsettled)[0] == 1_005 * TPF
    with boa.reverts("staking: no entry"):
        staking.activate(unsettled, delegator, sender=stranger)


def test_activate__unsettled__reverts(staking: Contract, unsettled: str, delegator: str) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    with boa.reverts("staking: epoch is unsettled"):
        staking.activate(unsettled, delegator)
    assert staking.entry_of(unsettled, delegator) == 5 * TPF


def test_activate__no_entry__reverts(
    staking: Contract, provider: Provider, delegator: str, stranger: str
) -> None:
    for account in (delegator, provider.owner):
        with boa.reverts("staking: no entry"):
            staking.activate(provider.owner, account)
    with boa.reverts("staking: no entry"):
        staking.activate(stranger, stranger)


def test_activate__reward_is_paid_first(
    staking: Contract, unsettled: str, delegator: str, end_epoch: Callable[..., Any]
) -> None:
    """I-13: the call that makes it active settles, and the entry gets nothing of that."""
    staking.delegate(unsettled, 1_000 * TPF, sender=delegator)
    end_epoch(unsettled, 100 * TPF)
    staking.activate(unsettled, delegator)
    assert close(staking.assets_of(unsettled, delegator), 1_000 * TPF)
    assert close(staking.owner_assets(unsettled), 1_090 * TPF)


def test_activate__one_wei__at_any_price(
    suite: Suite, staking: Contract, unsettled: str, delegator: str, end_epoch: Callable[..., Any]
) -> None:
    staking.delegate(unsettled, 1, sender=delegator)
    end_epoch(unsettled, 10**6 * TPF)
    assert staking.activate(unsettled, delegator) >= 1


def test_activate__adds_to_what_is_active(
    suite: Suite,
    staking: Contract,
    holder: Contract,
    provider: Provider,
    delegator: str,
    end_epoch: Callable[..., Any],
) -> None:
    before = staking.delegate(provider.owner, 5 * TPF, sender=delegator)
    staking.undelegate(provider.owner, before // 5, sender=delegator)
    holder.hold(provider.operator.address)
    holder.set_manner(IDLE)
    staking.delegate(provider.owner, TPF, sender=delegator)
    end_epoch(provider.owner)
    staking.activate(provider.owner, delegator)
    assert staking.assets_of(provider.owner, delegator) == 5 * TPF
    assert staking.ticket_count(provider.owner, delegator) == 1


def test_activate__shares_do_not_fit__entry_stays_and_can_leave(
    suite: Suite, staking: Contract, unsettled: str, manager: str, end_epoch: Callable[..., Any]
) -> None:
    """A pool slashed to next to nothing has many shares for a wei: too much is refused whole."""
    rich = address_of("rich")
    give_tpf(suite, rich, 9 * 10**7 * TPF)
    staking.delegate(unsettled, 9 * 10**7 * TPF, sender=rich)
    # 10**24 shares for 10**14 wei: just not rebased; 9 * 10**25 wei get 9 * 10**35 shares.
    staking.slash(unsettled, bytes(32), 1_000 * TPF - 10**14, sender=manager)
    end_epoch(unsettled)
    assert staking.activate(unsettled, rich) < 2**128
    assert close(staking.assets_of(unsettled, rich), 9 * 10**7 * TPF)


# ---------------------------------------------------------------------- take_back


def test_take_back__whole_entry_at_any_time(
    staking: Contract, token: Contract, unsettled: str, delegator: str
) -> None:
    before = token.balanceOf(delegator)
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    staking.delegate(unsettled, 1, sender=delegator)
    assert staking.take_back(unsettled, sender=delegator) == 5 * TPF + 1
    assert event(staking, "TakenBack") == {
        "provider": unsettled,
        "account": delegator,
        "receiver": delegator,
        "assets": 5 * TPF + 1,
    }
    assert token.balanceOf(delegator) == before
    assert staking.entry_of(unsettled, delegator) == 0
    with boa.reverts("staking: no entry"):
        staking.take_back(unsettled, sender=delegator)


def test_take_back__also_once_settled(
    staking: Contract, unsettled: str, delegator: str, end_epoch: Callable[..., Any]
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    end_epoch(unsettled, TPF)
    staking.settle(unsettled)
    assert staking.take_back(unsettled, sender=delegator) == 5 * TPF


def test_take_back__to_another_receiver(
    staking: Contract, token: Contract, unsettled: str, delegator: str, stranger: str
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    with boa.reverts("token: zero receiver"):
        staking.take_back(unsettled, ZERO_ADDRESS, sender=delegator)
    staking.take_back(unsettled, stranger, sender=delegator)
    assert token.balanceOf(stranger) == 5 * TPF


def test_take_back__entry_of_another__reverts(
    staking: Contract, unsettled: str, delegator: str, stranger: str, provider: Provider
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    for caller in (stranger, unsettled, provider.operator.address):
        with boa.reverts("staking: no entry"):
            staking.take_back(unsettled, sender=caller)
    with boa.reverts("staking: no entry"):
        staking.take_back(delegator, sender=delegator)


def test_take_back__asks_no_holder(
    staking: Contract, holder: Contract, unsettled: str, delegator: str
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    asked = holder.asked()
    staking.take_back(unsettled, sender=delegator)
    assert holder.asked() == asked


# ------------------------------------------------------ what an entry is not part of


def test_entry__not_stake(
    staking: Contract, unsettled: str, provider: Provider, delegator: str, manager: str
) -> None:
    """Neither for a minimum, nor for what a benchmark counts, nor for an exit."""
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    assert staking.stake_of(unsettled) == (1_000 * TPF, 0)
    with boa.reverts("staking: stake too low"):
        staking.lock(provider.operator.address, bytes(32), 0, 0, 1_000 * TPF + 1, sender=manager)
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(unsettled, 1, sender=delegator)


def test_entry__cannot_be_slashed(
    staking: Contract, unsettled: str, delegator: str, manager: str
) -> None:
    """F5: who comes between a fault and its report pays nothing for it."""
    staking.delegate(unsettled, 99_000 * TPF // 10, sender=delegator)
    assert staking.slash(unsettled, bytes(32), 2**200, sender=manager) == 1_000 * TPF
    assert staking.take_back(unsettled, sender=delegator) == 9_900 * TPF


def test_entry__keeps_its_worth_through_a_wipe(
    staking: Contract, holder: Contract, unsettled: str, delegator: str, manager: str
) -> None:
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    staking.slash(unsettled, bytes(32), 2**200, sender=manager)
    holder.free(unsettled)
    staking.activate(unsettled, delegator)
    assert staking.assets_of(unsettled, delegator) == 5 * TPF


def test_sniper__delegate_and_claim_in_one_moment__gets_nothing(
    suite: Suite,
    staking: Contract,
    holder: Contract,
    make_provider: Callable[..., Provider],
    stranger: str,
) -> None:
    """F3, P2: 5 million TPF that come when the reward is due take nothing of it."""
    pool = make_provider("pool", stake=20_000 * TPF)
    honest = address_of("honest")
    delegate(suite, pool.owner, honest, 80_000 * TPF)
    holder.hold(pool.operator.address)
    holder.owe(pool.owner, 154_000 * TPF)
    delegate(suite, pool.owner, stranger, 5_000_000 * TPF)
    staking.settle(pool.owner)
    assert close(staking.assets_of(pool.owner, honest), 80_000 * TPF + 110_880 * TPF)
    assert close(staking.assets_of(pool.owner, stranger), 5_000_000 * TPF)


def test_sniper__owner_that_withholds_its_claims__gets_nothing_more(
    suite: Suite, staking: Contract, holder: Contract, make_provider: Callable[..., Provider]
) -> None:
    """Q2: the operator brings 10 million TPF of its own just before it lets itself be paid."""
    pool = make_provider("pool", stake=1_000 * TPF, commission_bps=0)
    honest = address_of("honest")
    delegate(suite, pool.owner, honest, 99_000 * TPF)
    holder.set_manner(IDLE)
    holder.hold(pool.operator.address)
    delegate(suite, pool.owner, pool.owner, 10_000_000 * TPF)
    holder.owe(pool.owner, 154_000 * TPF)
    holder.set_manner(PAY)
    staking.activate(pool.owner, pool.owner)
    assert close(staking.assets_of(pool.owner, honest), 99_000 * TPF + 152_460 * TPF)
    assert close(staking.owner_assets(pool.owner), 10_001_000 * TPF + 1_540 * TPF)


# ---------------------------------------------------------------- conservation, set-up


def test_conservation__entries_credits_pools_and_tickets(
    suite: Suite,
    staking: Contract,
    token: Contract,
    unsettled: str,
    delegator: str,
    stranger: str,
    victim: str,
    end_epoch: Callable[..., Any],
    provider: Provider,
) -> None:
    """I-1: what the contract holds is what it owes, to the wei."""
    delegate(suite, unsettled, stranger, 7 * TPF)
    staking.delegate(unsettled, 5 * TPF, sender=delegator)
    end_epoch(unsettled, 3 * TPF)
    staking.activate(unsettled, stranger)
    staking.undelegate(unsettled, 10**21, sender=stranger)

    def owed() -> Any:
        pool = staking.pool(unsettled)
        entries = sum(staking.entry_of(unsettled, a) for a in (delegator, stranger))
        return pool[0] + pool[4] + entries + staking.credit_of(provider.payout)

    assert token.balanceOf(staking.address) == owed()
    pass_time(21 * DAY)
    staking.withdraw_unbonded(unsettled, 0, sender=stranger)
    staking.take_back(unsettled, sender=delegator)
    assert token.balanceOf(staking.address) == owed()


def test_entry__before_the_seal__reverts(suite: Suite) -> None:
    staking = deploy_staking(suite.token, suite.owner, suite.parameters, suite.deployer)
    owner, operator = address_of("early"), account_of("early operator")
    staking.register(
        operator.address, owner, 0, 0, 0, "", *consent(staking, owner, operator), sender=owner
    )
    with boa.reverts("staking: not sealed"):
        staking.delegate(owner, 1, sender=owner)
    with boa.reverts("staking: no entry"):
        staking.activate(owner, owner)
