# SPDX-License-Identifier: Apache-2.0
"""`reward` and `credit`: commission to the payout address, the rest to every active share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, delegate, event, now, pass_time, reward
from tests.contracts.deploy import IDLE, LOCK, PAY, REWARD, SLASH, TPF, Contract, Suite, address_of

pytestmark = pytest.mark.invariant("I-13")


def close(value: int, expected: int) -> bool:
    """Equal but for rounding and what the virtual shares take."""
    return expected - 2_000 <= value <= expected


def test_reward__commission_and_pool(
    suite: Suite, staking: Contract, token: Contract, provider: Provider, delegator: str
) -> None:
    staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    held, supply = token.balanceOf(staking.address), token.totalSupply()
    reward(suite, provider.owner, 100 * TPF)
    kept = 90 * TPF * 1_000 // (2_000_000 * TPF + 1_000)
    assert event(suite.holder, "Rewarded") == {
        "provider": provider.owner,
        "manager": suite.holder.address,
        "to_pool": 90 * TPF - kept,
        "to_payout": 10 * TPF + kept,
    }
    assert staking.credit_of(provider.payout) == 10 * TPF + kept
    assert staking.pool(provider.owner)[0] == 2_090 * TPF - kept
    assert close(staking.owner_assets(provider.owner), 1_045 * TPF)
    assert close(staking.assets_of(provider.owner, delegator), 1_045 * TPF)
    assert token.balanceOf(staking.address) == held + 100 * TPF
    assert token.totalSupply() == supply + 100 * TPF


@pytest.mark.parametrize("bps", [1, 3_333, 9_999])
def test_reward__commission__never_more_than_its_share(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], bps: int
) -> None:
    """What cannot be divided is the delegators'."""
    rewarded = make_provider("rewarded", commission_bps=bps)
    stake = 1_000 * TPF
    for amount in (7, 10**6 + 7, 100 * TPF + 7):
        had = staking.credit_of(rewarded.payout)
        reward(suite, rewarded.owner, amount)
        # The virtual shares are a millionth of a TPF next to at least `stake`.
        of_the_pool = amount * (10_000 - bps) // 10_000 * 1_000 // (stake * 1_000)
        earned = staking.credit_of(rewarded.payout) - had
        assert (earned - of_the_pool) * 10_000 <= amount * bps


def test_reward__what_is_unbonding_earns_nothing(
    suite: Suite, staking: Contract, provider: Provider, delegator: str
) -> None:
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares, sender=delegator)
    reward(suite, provider.owner, 100 * TPF)
    assert staking.ticket(provider.owner, delegator, 0)[1] == 1_000 * TPF
    assert close(staking.owner_assets(provider.owner), 1_090 * TPF)


def test_reward__no_active_shares__all_to_the_payout(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider]
) -> None:
    empty = make_provider("empty", stake=0)
    reward(suite, empty.owner, 100 * TPF)
    assert event(suite.holder, "Rewarded")["to_pool"] == 0
    assert staking.credit_of(empty.payout) == 100 * TPF
    assert staking.pool(empty.owner)[:3] == (0, 0, 0)


def test_reward__everybody_has_left__no_sniper_gets_it(
    suite: Suite, staking: Contract, provider: Provider, stranger: str
) -> None:
    """P3: the owner retires after its proof; who comes then gets nothing of it."""
    suite.holder.hold(provider.operator.address)
    suite.holder.set_manner(IDLE)
    staking.undelegate(
        provider.owner, staking.shares_of(provider.owner, provider.owner), sender=provider.owner
    )
    suite.holder.owe(provider.owner, 100 * TPF)
    suite.holder.set_manner(PAY)
    delegate(suite, provider.owner, stranger, 10**6)
    assert staking.credit_of(provider.payout) == 100 * TPF
    assert staking.assets_of(provider.owner, stranger) <= 10**6


@pytest.mark.parametrize(("bps", "commission"), [(0, 0), (10_000, 100 * TPF)])
def test_reward__commission_at_its_bounds(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    bps: int,
    commission: int,
) -> None:
    rewarded = make_provider("rewarded", commission_bps=bps)
    reward(suite, rewarded.owner, 100 * TPF)
    assert 0 <= staking.credit_of(rewarded.payout) - commission <= 1_000
    assert staking.pool(rewarded.owner)[0] == 1_100 * TPF - staking.credit_of(rewarded.payout)


def test_reward__nothing__changes_nothing(
    suite: Suite, staking: Contract, provider: Provider
) -> None:
    before = staking.pool(provider.owner)
    reward(suite, provider.owner, 0)
    rewarded = event(suite.holder, "Rewarded")
    assert (rewarded["to_pool"], rewarded["to_payout"]) == (0, 0)
    assert staking.pool(provider.owner) == before
    assert staking.credit_of(provider.payout) == 0


def test_reward__can_be_undelegated(suite: Suite, staking: Contract, provider: Provider) -> None:
    reward(suite, provider.owner, 100 * TPF)
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    pass_time(staking.UNBONDING())
    assert close(staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner), 1_090 * TPF)


def test_reward__keeps_locks(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    staking.lock(provider.operator.address, bytes(32), TPF, now() + 1, 0, sender=manager)
    reward(suite, provider.owner, 100 * TPF)
    assert staking.pool(provider.owner)[1] == TPF


@pytest.mark.parametrize("method", ["reward", "credit"])
def test_reward__unknown_provider__reverts(
    suite: Suite, staking: Contract, manager: str, stranger: str, method: str
) -> None:
    for amount in (0, TPF):
        with boa.reverts("staking: not registered"):
            getattr(staking, method)(stranger, amount, sender=manager)


@pytest.mark.parametrize("method", ["reward", "credit"])
@pytest.mark.parametrize("permissions", [0, LOCK, SLASH])
def test_reward__without_the_permission__reverts(
    suite: Suite, staking: Contract, provider: Provider, permissions: Any, method: str
) -> None:
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        getattr(staking, method)(provider.owner, 0, sender=newcomer)


def test_reward__announced_manager__not_before_it_is_active(
    suite: Suite, staking: Contract, provider: Provider
) -> None:
    newcomer = address_of("newcomer")
    staking.announce_manager(newcomer, REWARD, sender=suite.owner)
    pass_time(staking.MANAGER_DELAY() - 1)
    with boa.reverts("staking: caller lacks the permission"):
        staking.reward(provider.owner, 0, sender=newcomer)
    pass_time(1)
    staking.reward(provider.owner, 0, sender=newcomer)


@pytest.mark.parametrize("method", ["reward", "credit"])
def test_reward__nothing_was_minted__reverts(
    suite: Suite, staking: Contract, provider: Provider, manager: str, method: str
) -> None:
    """Tokens that just lie there pay nobody: not a donation, nor the stake of others."""
    suite.token.transfer(staking.address, TPF, sender=suite.faucet)
    with boa.reverts("token: not minted to the caller just now"):
        getattr(staking, method)(provider.owner, 1, sender=manager)


def test_donation__changes_nothing(
    suite: Suite, staking: Contract, token: Contract, provider: Provider, delegator: str
) -> None:
    """I-1: internal accounting only, in rewards as in all else."""
    staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    with boa.env.anchor():
        reward(suite, provider.owner, 100 * TPF)
        expected = staking.pool(provider.owner), staking.credit_of(provider.payout)
    token.transfer(staking.address, 1_000_000 * TPF, sender=suite.faucet)
    reward(suite, provider.owner, 100 * TPF)
    assert (staking.pool(provider.owner), staking.credit_of(provider.payout)) == expected


# ---------------------------------------------------------------------------- credit


def test_credit__whole_to_the_payout(
    suite: Suite, staking: Contract, provider: Provider, delegator: str
) -> None:
    """Not earned by stake, so no stake is paid by it; no commission, no hold ended."""
    staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    suite.holder.hold(provider.operator.address)
    before = staking.pool(provider.owner)
    suite.holder.credit(provider.owner, 100 * TPF)
    assert event(suite.holder, "Credited") == {
        "provider": provider.owner,
        "manager": suite.holder.address,
        "payout": provider.payout,
        "amount": 100 * TPF,
    }
    assert staking.credit_of(provider.payout) == 100 * TPF
    assert staking.pool(provider.owner) == before
    assert staking.is_unsettled(provider.owner)
    assert staking.withdraw(sender=provider.payout) == 100 * TPF


def test_credit__payout_of_now(
    suite: Suite, staking: Contract, provider: Provider, stranger: str
) -> None:
    staking.set_payout(stranger, sender=provider.owner)
    suite.holder.credit(provider.owner, TPF)
    assert staking.credit_of(stranger) == TPF


def test_credit__nothing(suite: Suite, staking: Contract, provider: Provider) -> None:
    suite.holder.credit(provider.owner, 0)
    assert staking.credit_of(provider.payout) == 0
