# SPDX-License-Identifier: Apache-2.0
"""`delegate`, `undelegate`, `withdraw_unbonded`: shares in, tickets out, rounding for the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import (
    Provider,
    delegate,
    event,
    events,
    go_to,
    now,
    pass_time,
    permit,
    register,
    reward,
)
from tests.contracts.deploy import DAY, TPF, ZERO_ADDRESS, Contract, Suite, account_of, address_of

pytestmark = pytest.mark.invariant("I-2")

UNBONDING = 21 * DAY
VIRTUAL_SHARES = 1_000


def test_delegate__by_the_owner__is_own_stake(
    suite: Suite, staking: Contract, provider: Provider
) -> None:
    shares = delegate(suite, provider.owner, provider.owner, 5 * TPF)
    assert event(staking, "Delegated") == {
        "provider": provider.owner,
        "account": provider.owner,
        "assets": 5 * TPF,
        "shares": 5 * TPF * VIRTUAL_SHARES,
    }
    assert shares == 5 * TPF * VIRTUAL_SHARES
    total = 1_005 * TPF
    assert staking.pool(provider.owner) == (
        total,
        0,
        total * VIRTUAL_SHARES,
        total * VIRTUAL_SHARES,
        0,
        0,
    )
    assert staking.owner_assets(provider.owner) == total


def test_delegate__by_another__is_not_own_stake(
    suite: Suite, staking: Contract, token: Contract, provider: Provider, delegator: str
) -> None:
    before = token.balanceOf(staking.address)
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    assert token.balanceOf(staking.address) == before + 50 * TPF
    assert staking.shares_of(provider.owner, delegator) == shares
    assert staking.assets_of(provider.owner, delegator) == 50 * TPF
    assert staking.owner_assets(provider.owner) == 1_000 * TPF
    staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    assert staking.shares_of(provider.owner, delegator) == 2 * shares


def test_delegate__unknown_provider__reverts(
    staking: Contract, delegator: str, stranger: str
) -> None:
    with boa.reverts("staking: not registered"):
        staking.delegate(stranger, 1, sender=delegator)


@pytest.mark.parametrize("amount", [0])
def test_delegate__nothing__reverts(
    staking: Contract, provider: Provider, delegator: str, amount: int
) -> None:
    with boa.reverts("staking: amount too small"):
        staking.delegate(provider.owner, amount, sender=delegator)


@pytest.mark.parametrize("stake", [1, 10**6, TPF])
def test_delegate__one_wei__is_never_too_small(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    delegator: str,
    stake: Any,
) -> None:
    """However large a reward was in a small pool: a share costs at most a wei."""
    provider = make_provider(stake=stake, commission_bps=0)
    reward(suite, provider.owner, 10**6 * TPF)
    assert staking.delegate(provider.owner, 1, sender=delegator) >= 1


def test_delegate__without_allowance__reverts(
    suite: Suite, staking: Contract, provider: Provider, stranger: str
) -> None:
    suite.token.transfer(stranger, 5, sender=suite.faucet)
    with boa.reverts("erc20: insufficient allowance"):
        staking.delegate(provider.owner, 5, sender=stranger)


def test_delegate__above_96_bits__reverts(
    staking: Contract, provider: Provider, delegator: str
) -> None:
    with boa.reverts():
        staking.delegate(provider.owner, 2**96, sender=delegator)


# ---------------------------------------------------------- delegate_with_permit


@pytest.fixture
def holder(suite: Suite) -> LocalAccount:
    """Holds TPF, has approved nothing, signs permits."""
    account = account_of("holder")
    suite.token.transfer(account.address, 10 * TPF, sender=suite.faucet)
    return account


def test_delegate_with_permit__default(
    suite: Suite, staking: Contract, provider: Provider, holder: LocalAccount
) -> None:
    v, r, s = permit(suite.token, holder, staking.address, TPF)
    shares = staking.delegate_with_permit(
        provider.owner, TPF, 2**63, v, r, s, sender=holder.address
    )
    assert staking.shares_of(provider.owner, holder.address) == shares == TPF * VIRTUAL_SHARES


def test_delegate_with_permit__permit_sent_first_by_another__still_works(
    suite: Suite, staking: Contract, provider: Provider, holder: LocalAccount, stranger: str
) -> None:
    v, r, s = permit(suite.token, holder, staking.address, TPF)
    suite.token.permit(holder.address, staking.address, TPF, 2**63, v, r, s, sender=stranger)
    staking.delegate_with_permit(provider.owner, TPF, 2**63, v, r, s, sender=holder.address)
    assert staking.assets_of(provider.owner, holder.address) == TPF


def test_delegate_with_permit__bad_permit_no_allowance__reverts(
    suite: Suite, staking: Contract, provider: Provider, holder: LocalAccount
) -> None:
    v, r, s = permit(suite.token, holder, staking.address, TPF)
    with boa.reverts("erc20: insufficient allowance"):
        staking.delegate_with_permit(provider.owner, TPF + 1, 2**63, v, r, s, sender=holder.address)


def test_delegate_with_permit__permit_of_another__takes_nothing_from_it(
    suite: Suite, staking: Contract, provider: Provider, holder: LocalAccount, stranger: str
) -> None:
    v, r, s = permit(suite.token, holder, staking.address, TPF)
    with boa.reverts("erc20: transfer amount exceeds balance"):
        suite.token.approve(staking.address, TPF, sender=stranger)
        staking.delegate_with_permit(provider.owner, TPF, 2**63, v, r, s, sender=stranger)
    assert suite.token.balanceOf(holder.address) == 10 * TPF


# -------------------------------------------------------------------- undelegate


def test_undelegate__moves_assets_to_unbonding(
    suite: Suite, staking: Contract, provider: Provider, delegator: str
) -> None:
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    number = staking.undelegate(provider.owner, shares, sender=delegator)
    assert event(staking, "Undelegated") == {
        "provider": provider.owner,
        "account": delegator,
        "ticket": 0,
        "assets": 50 * TPF,
        "shares": shares,
        "ready_at": now() + UNBONDING,
    }
    assert number == 0
    assert staking.ticket_count(provider.owner, delegator) == 1
    assert staking.shares_of(provider.owner, delegator) == 0
    assert staking.ticket(provider.owner, delegator, 0) == (
        50 * TPF * VIRTUAL_SHARES,
        50 * TPF,
        now() + UNBONDING,
    )
    active, _, total, owned, leaving, leaving_shares = staking.pool(provider.owner)
    assert (active, leaving, leaving_shares) == (
        1_000 * TPF,
        50 * TPF,
        50 * TPF * VIRTUAL_SHARES,
    )
    assert total == owned == 1_000 * TPF * VIRTUAL_SHARES


def test_undelegate__all__by_a_delegator(
    suite: Suite, staking: Contract, provider: Provider, delegator: str
) -> None:
    """All are the caller's own, whatever the owner has."""
    delegate(suite, provider.owner, delegator, 7 * TPF)
    had = staking.assets_of(provider.owner, delegator)
    number = staking.undelegate(provider.owner, 2**256 - 1, sender=delegator)
    assert staking.shares_of(provider.owner, delegator) == 0
    assert staking.owner_assets(provider.owner) == 1_000 * TPF
    pass_time(UNBONDING)
    receiver = address_of("receiver of all")
    staking.withdraw_unbonded(provider.owner, number, receiver, sender=delegator)
    assert suite.token.balanceOf(receiver) == had


def test_undelegate__in_parts__numbers_the_tickets(
    staking: Contract, provider: Provider, delegator: str
) -> None:
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    assert staking.undelegate(provider.owner, shares // 2, sender=delegator) == 0
    assert staking.undelegate(provider.owner, shares // 4, sender=delegator) == 1
    assert staking.shares_of(provider.owner, delegator) == shares // 4
    assert staking.ticket_count(provider.owner, delegator) == 2
    # A deposit keeps the count, so no ticket is overwritten.
    staking.delegate(provider.owner, TPF, sender=delegator)
    assert staking.ticket_count(provider.owner, delegator) == 2
    assert staking.undelegate(provider.owner, 1, sender=delegator) == 2


def test_undelegate__owner(staking: Contract, provider: Provider) -> None:
    shares = staking.shares_of(provider.owner, provider.owner)
    assert staking.undelegate(provider.owner, shares // 2, sender=provider.owner) == 0
    assert staking.undelegate(provider.owner, shares // 2, sender=provider.owner) == 1
    assert staking.owner_assets(provider.owner) == 0
    assert staking.pool(provider.owner)[:4] == (0, 0, 0, 0)


@pytest.mark.parametrize("more", [0, 1])
def test_undelegate__bad_amount__reverts(
    staking: Contract, provider: Provider, delegator: str, more: int
) -> None:
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(provider.owner, (shares + 1) * more, sender=delegator)


def test_undelegate__unknown_provider__reverts(
    staking: Contract, delegator: str, stranger: str
) -> None:
    with boa.reverts("staking: not registered"):
        staking.undelegate(stranger, 1, sender=delegator)


def test_undelegate__owner_keeps_what_is_locked(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    staking.lock(provider.operator.address, b"\x01" * 32, 400 * TPF, now() + DAY, 0, sender=manager)
    free = 600 * TPF * VIRTUAL_SHARES
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, free + 1, sender=provider.owner)
    staking.undelegate(provider.owner, free, sender=provider.owner)
    assert staking.owner_assets(provider.owner) == 400 * TPF


def test_undelegate__delegator_leaves_whatever_is_locked(
    staking: Contract, provider: Provider, delegator: str, manager: str
) -> None:
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    staking.lock(provider.operator.address, b"\x01" * 32, 500 * TPF, now() + DAY, 0, sender=manager)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert staking.owner_assets(provider.owner) >= 500 * TPF


def test_undelegate__shares_worth_nothing__empty_ticket(
    staking: Contract, provider: Provider, delegator: str
) -> None:
    """A fraction of a wei leaves nothing, and harms nobody."""
    staking.delegate(provider.owner, TPF, sender=delegator)
    number = staking.undelegate(provider.owner, 1, sender=delegator)
    assert event(staking, "Undelegated")["assets"] == 0
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(provider.owner, number, sender=delegator) == 0
    assert events(staking, "Transfer") == []


# ------------------------------------------------------------- withdraw_unbonded


@pytest.fixture
def ticket(staking: Contract, provider: Provider, delegator: str) -> Any:
    """A ticket of 50 TPF."""
    shares = staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    return staking.undelegate(provider.owner, shares, sender=delegator)


def test_withdraw_unbonded__at_the_first_second(
    staking: Contract, token: Contract, provider: Provider, delegator: str, ticket: Any
) -> None:
    go_to(now() + UNBONDING)
    before = token.balanceOf(delegator)
    assert staking.withdraw_unbonded(provider.owner, ticket, sender=delegator) == 50 * TPF
    assert event(staking, "Unbonded") == {
        "provider": provider.owner,
        "account": delegator,
        "receiver": delegator,
        "ticket": ticket,
        "assets": 50 * TPF,
    }
    assert token.balanceOf(delegator) == before + 50 * TPF
    assert staking.pool(provider.owner)[4:] == (0, 0)
    assert staking.ticket(provider.owner, delegator, ticket) == (0, 0, 0)


def test_withdraw_unbonded__one_second_early__reverts(
    staking: Contract, provider: Provider, delegator: str, ticket: Any
) -> None:
    go_to(now() + UNBONDING - 1)
    with boa.reverts("staking: still unbonding"):
        staking.withdraw_unbonded(provider.owner, ticket, sender=delegator)


def test_withdraw_unbonded__to_another_receiver(
    staking: Contract,
    token: Contract,
    provider: Provider,
    delegator: str,
    ticket: Any,
    stranger: str,
) -> None:
    pass_time(UNBONDING)
    staking.withdraw_unbonded(provider.owner, ticket, stranger, sender=delegator)
    assert token.balanceOf(stranger) == 50 * TPF


def test_withdraw_unbonded__zero_receiver__reverts(
    staking: Contract, provider: Provider, delegator: str, ticket: Any
) -> None:
    pass_time(UNBONDING)
    with boa.reverts("token: zero receiver"):
        staking.withdraw_unbonded(provider.owner, ticket, ZERO_ADDRESS, sender=delegator)


def test_withdraw_unbonded__twice__reverts(
    staking: Contract, provider: Provider, delegator: str, ticket: Any
) -> None:
    pass_time(UNBONDING)
    staking.withdraw_unbonded(provider.owner, ticket, sender=delegator)
    with boa.reverts("staking: no such ticket"):
        staking.withdraw_unbonded(provider.owner, ticket, sender=delegator)


def test_withdraw_unbonded__ticket_of_another__reverts(
    staking: Contract, provider: Provider, ticket: Any, stranger: str
) -> None:
    pass_time(UNBONDING)
    with boa.reverts("staking: no such ticket"):
        staking.withdraw_unbonded(provider.owner, ticket, sender=stranger)


# -------------------------------------------------------------------- attacks


def test_inflation__by_reward_on_a_tiny_stake__takes_nothing(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], delegator: str
) -> None:
    """The owner stakes one wei and lets a reward raise the price of its shares: they are
    multiplied, and the next depositor loses a wei.
    """
    provider = make_provider(stake=1, commission_bps=0)
    reward(suite, provider.owner, 1_000 * TPF)
    before = staking.owner_assets(provider.owner)
    staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    assert staking.assets_of(provider.owner, delegator) >= 1_000 * TPF - 1
    assert staking.owner_assets(provider.owner) <= before + 1


def test_donation__changes_no_share(
    suite: Suite, staking: Contract, token: Contract, provider: Provider, delegator: str
) -> None:
    staking.delegate(provider.owner, TPF, sender=delegator)
    before = staking.pool(provider.owner)
    token.transfer(staking.address, 1_000 * TPF, sender=suite.faucet)
    assert staking.pool(provider.owner) == before
    assert staking.assets_of(provider.owner, delegator) == TPF


@settings(max_examples=15)
@given(
    stake=st.integers(1, 10**24),
    slashed=st.integers(0, 10**24),
    deposit=st.integers(1, 10**24),
    part=st.integers(1, 10**6),
)
def test_round_trip__never_makes_money(
    suite: Suite, stake: int, slashed: Any, deposit: Any, part: Any
) -> None:
    """In and out at any price of a share returns at most what went in, and no more than a share
    less: nobody gains by rounding, and nobody loses more than the rounding.
    """
    staking = suite.staking
    provider = register(suite, "round trip", stake=stake)
    staking.slash(provider.owner, bytes(32), slashed, sender=address_of("manager"))
    account = address_of("round trip delegator")
    others = staking.owner_assets(provider.owner)
    try:
        shares = delegate(suite, provider.owner, account, deposit)
    except boa.BoaError:
        # A deposit below the price of a share, or beyond 128 bits, is refused whole.
        return
    staking.undelegate(provider.owner, max(shares * part // 10**6, 1), sender=account)
    rest = staking.shares_of(provider.owner, account)
    if rest:
        staking.undelegate(provider.owner, rest, sender=account)
    pass_time(UNBONDING)
    count = staking.ticket_count(provider.owner, account)
    back = sum(staking.withdraw_unbonded(provider.owner, n, sender=account) for n in range(count))
    assert back <= deposit
    assert deposit - back <= 6
    assert staking.owner_assets(provider.owner) >= others
