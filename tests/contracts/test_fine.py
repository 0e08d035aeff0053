# SPDX-License-Identifier: Apache-2.0
"""`fine`: a part of a lock is burned, the rest goes on; delegators lose nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import Provider, delegate, event, events, go_to, now, register
from tests.contracts.deploy import DAY, TPF, Contract, Suite, address_of

pytestmark = pytest.mark.invariant("I-3", "I-4", "I-12")

ID = b"\x01" * 32
OTHER_ID = b"\x02" * 32


@pytest.fixture
def locked(staking: Contract, provider: Provider, manager: str) -> Any:
    """A lock of 100 TPF for a day; returns its last second."""
    expires_at = now() + DAY
    staking.lock(provider.operator.address, ID, 100 * TPF, expires_at, 0, sender=manager)
    return expires_at


@pytest.fixture
def fine(staking: Contract, provider: Provider, manager: str) -> Any:
    def call(amount: Any = 30 * TPF, id: Any = ID, sender: Any = manager) -> Any:
        return staking.fine(provider.owner, id, amount, sender=sender)

    return call


def test_fine__burns_a_part__the_rest_stays_locked(
    staking: Contract, token: Contract, provider: Provider, manager: str, locked: int, fine: Any
) -> None:
    supply, held = token.totalSupply(), token.balanceOf(staking.address)
    assert fine() == 70 * TPF
    assert event(staking, "Unlocked") == {
        "provider": provider.owner,
        "manager": manager,
        "id": ID,
        "amount": 30 * TPF,
    }
    assert token.totalSupply() == supply - 30 * TPF
    assert token.balanceOf(staking.address) == held - 30 * TPF
    assert staking.owner_assets(provider.owner) == 970 * TPF
    assert staking.pool(provider.owner)[:2] == (970 * TPF, 70 * TPF)
    assert staking.lock_of(manager, provider.owner, ID) == (70 * TPF, locked)
    assert staking.stake_of(provider.owner) == (970 * TPF, 30 * TPF)


def test_fine__again_and_again__never_more_than_the_lock(
    staking: Contract, token: Contract, provider: Provider, locked: int, fine: Any
) -> None:
    supply = token.totalSupply()
    assert [fine(), fine(), fine(), fine(), fine()] == [v * TPF for v in (70, 40, 10, 0, 0)]
    assert token.totalSupply() == supply - 100 * TPF
    assert staking.pool(provider.owner)[:2] == (900 * TPF, 0)


def test_fine__nothing_left__the_lock_still_ends(
    staking: Contract, provider: Provider, manager: str, locked: int, fine: Any
) -> None:
    fine(2**256 - 1)
    assert staking.lock_of(manager, provider.owner, ID) == (0, locked)
    assert staking.unlock(provider.owner, ID, sender=manager) == provider.payout
    assert staking.lock_of(manager, provider.owner, ID) == (0, 0)
    staking.lock(provider.operator.address, ID, TPF, now(), 0, sender=manager)


def test_fine__then_seized__takes_the_rest(
    staking: Contract, provider: Provider, manager: str, victim: str, locked: int, fine: Any
) -> None:
    fine()
    assert staking.seize(provider.owner, ID, victim, victim, 10_000, 0, sender=manager) == 70 * TPF
    assert staking.credit_of(victim) == 70 * TPF
    assert staking.pool(provider.owner)[:2] == (900 * TPF, 0)


def test_fine__lowers_the_limit_in_all(
    staking: Contract, provider: Provider, locked: int, fine: Any
) -> None:
    per_order, in_all = staking.lock_limits(provider.owner)
    fine()
    assert staking.lock_limits(provider.owner) == (per_order, in_all - 30 * TPF)


def test_fine__delegators_lose_nothing(
    suite: Suite, staking: Contract, provider: Provider, delegator: str, locked: int, fine: Any
) -> None:
    delegate(suite, provider.owner, delegator, 500 * TPF)
    before = staking.assets_of(provider.owner, delegator)
    fine()
    assert staking.assets_of(provider.owner, delegator) >= before


def test_fine__after_a_slash__takes_at_most_what_the_owner_has(
    staking: Contract, token: Contract, provider: Provider, manager: str, locked: int, fine: Any
) -> None:
    staking.slash(provider.owner, OTHER_ID, 950 * TPF, sender=manager)
    supply = token.totalSupply()
    assert fine(100 * TPF) == 0
    assert staking.pool(provider.owner)[:2] == (0, 0)
    assert supply - token.totalSupply() == 50 * TPF


def test_fine__last_second__exact(fine: Any, locked: int) -> None:
    go_to(locked)
    assert fine() == 70 * TPF
    go_to(locked + 1)
    assert fine() == 0


def test_fine__over_or_missing_or_of_another_manager__changes_nothing(
    suite: Suite,
    staking: Contract,
    token: Contract,
    provider: Provider,
    manager: str,
    stranger: str,
    locked: int,
    fine: Any,
) -> None:
    supply = token.totalSupply()
    assert fine(id=OTHER_ID) == 0
    assert fine(sender=stranger) == 0
    assert fine(sender=str(suite.jobs.address)) == 0
    assert staking.lock_of(manager, provider.owner, ID) == (100 * TPF, locked)
    go_to(locked + 1)
    assert fine() == 0
    assert events(staking) == []
    assert staking.lock_of(manager, provider.owner, ID) == (100 * TPF, locked)
    assert token.totalSupply() == supply


def test_fine__by_a_manager_that_was_removed__still_ends_what_it_began(
    suite: Suite, staking: Contract, manager: str, locked: int, fine: Any
) -> None:
    staking.remove_manager(manager, sender=suite.owner)
    assert fine() == 70 * TPF


@settings(max_examples=25)
@given(
    amounts=st.lists(st.integers(0, 60 * TPF), max_size=5),
    slashed=st.integers(0, 1_500 * TPF),
    delegated=st.integers(0, 1_000 * TPF),
)
def test_fine__any_amounts_after_any_slash__locked_is_what_is_left_of_the_lock(
    suite: Suite, amounts: Any, slashed: Any, delegated: Any
) -> None:
    staking, token, manager = suite.staking, suite.token, address_of("manager")
    provider, account = register(suite, "any"), address_of("any delegator")
    if delegated:
        delegate(suite, provider.owner, account, delegated)
    staking.lock(provider.operator.address, ID, 100 * TPF, now(), 0, sender=manager)
    staking.slash(provider.owner, OTHER_ID, slashed, sender=manager)
    left, supply, own = 100 * TPF, token.totalSupply(), staking.owner_assets(provider.owner)
    theirs = staking.assets_of(provider.owner, account)
    for amount in amounts:
        left -= min(left, amount)
        assert staking.fine(provider.owner, ID, amount, sender=manager) == left
        assert staking.pool(provider.owner)[1] == left
    burned = supply - token.totalSupply()
    assert burned == min(own, 100 * TPF - left) or own - burned <= len(amounts)
    # Rounding is against the owner, a wei a call at most; delegators pay for nothing.
    assert 0 <= own - staking.owner_assets(provider.owner) - burned <= len(amounts)
    assert staking.assets_of(provider.owner, account) >= theirs
