# SPDX-License-Identifier: Apache-2.0
"""`reward`: commission to the payout address, the rest to every active share."""

import boa
import pytest

from tests.contracts.actions import event, now, pass_time
from tests.contracts.deploy import LOCK, SLASH, TPF, address_of

pytestmark = pytest.mark.invariant("I-13")


def close(value, expected):
    """Equal but for the wei of rounding and what virtual shares take."""
    return expected - 10 <= value <= expected


def test_reward__commission_and_pool(suite, staking, token, provider, delegator, manager):
    staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    held = token.balanceOf(staking.address)
    staking.reward(provider.owner, 100 * TPF, now(), sender=manager)
    assert event(staking, "Rewarded") == {
        "provider": provider.owner,
        "manager": manager,
        "to_pool": 90 * TPF,
        "commission": 10 * TPF,
    }
    assert staking.credit_of(provider.payout) == 10 * TPF
    assert close(staking.owner_assets(provider.owner), 1_045 * TPF)
    assert close(staking.assets_of(provider.owner, delegator), 1_045 * TPF)
    assert token.balanceOf(staking.address) == held + 100 * TPF


def test_reward__what_is_unbonding_earns_nothing(staking, provider, delegator, manager):
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares, sender=delegator)
    staking.reward(provider.owner, 100 * TPF, now(), sender=manager)
    assert staking.ticket(provider.owner, delegator, 0)[1] == 1_000 * TPF
    assert close(staking.owner_assets(provider.owner), 1_090 * TPF)


def test_reward__no_active_shares__all_to_the_payout(staking, make_provider, manager):
    empty = make_provider("empty", stake=0)
    staking.reward(empty.owner, 100 * TPF, now(), sender=manager)
    assert event(staking, "Rewarded")["to_pool"] == 0
    assert staking.credit_of(empty.payout) == 100 * TPF
    assert staking.pool(empty.owner)[0] == 0


@pytest.mark.parametrize(("bps", "commission"), [(0, 0), (10_000, 100 * TPF)])
def test_reward__commission_at_its_bounds(staking, make_provider, manager, bps, commission):
    rewarded = make_provider("rewarded", commission_bps=bps)
    staking.reward(rewarded.owner, 100 * TPF, now(), sender=manager)
    assert staking.credit_of(rewarded.payout) == commission
    assert staking.pool(rewarded.owner)[0] == 1_100 * TPF - commission


def test_reward__can_be_undelegated(suite, staking, provider, manager):
    staking.reward(provider.owner, 100 * TPF, now(), sender=manager)
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    pass_time(staking.UNBONDING())
    assert close(staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner), 1_090 * TPF)


def test_reward__keeps_locks(staking, provider, manager):
    staking.lock(provider.operator.address, bytes(32), TPF, now() + 1, 0, sender=manager)
    staking.reward(provider.owner, 100 * TPF, now(), sender=manager)
    assert staking.pool(provider.owner)[1] == TPF


def test_reward__unknown_provider__reverts(staking, manager, stranger):
    with boa.reverts("staking: not registered"):
        staking.reward(stranger, 1, now(), sender=manager)


def test_reward__without_allowance__reverts(suite, staking, provider, manager):
    suite.token.approve(staking.address, 0, sender=manager)
    with boa.reverts("erc20: insufficient allowance"):
        staking.reward(provider.owner, 1, now(), sender=manager)


@pytest.mark.parametrize(("stake", "shared"), [(10**6, True), (10**6 - 1, False)])
def test_reward__next_to_no_stake__credited_whole(staking, make_provider, manager, stake, shared):
    """Regression: the virtual shares kept half of a reward into a pool of dust."""
    thin = make_provider("thin", stake=stake)
    staking.set_payout(thin.owner, sender=thin.owner)
    staking.reward(thin.owner, 100 * TPF, now(), sender=manager)
    credited = staking.credit_of(thin.owner)
    if shared:
        assert credited < 100 * TPF
        assert staking.owner_assets(thin.owner) + credited >= 100 * TPF - 10**14 - 1
    else:
        assert credited == 100 * TPF
        assert staking.owner_assets(thin.owner) == stake


@pytest.mark.parametrize("permissions", [0, LOCK, SLASH])
def test_reward__without_the_permission__reverts(suite, staking, provider, permissions):
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.reward(provider.owner, 1, now(), sender=newcomer)


def test_reward_minted__nothing_was_minted__reverts(staking, provider, manager):
    with boa.reverts("token: not minted to the caller just now"):
        staking.reward_minted(provider.owner, 1, now(), sender=manager)


def test_reward_minted__no_permission__reverts(staking, provider):
    with boa.reverts("staking: caller lacks the permission"):
        staking.reward_minted(provider.owner, 1, now(), sender=address_of("stranger"))


def test_reward_minted__not_registered__reverts(staking, manager):
    with boa.reverts("staking: not registered"):
        staking.reward_minted(address_of("stranger"), 1, now(), sender=manager)
