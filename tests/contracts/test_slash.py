# SPDX-License-Identifier: Apache-2.0
"""`slash`: pro rata from active and unbonding, burned whole; too many shares are divided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
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
    register,
)
from tests.contracts.deploy import DAY, IDLE, LOCK, REWARD, SLASH, TPF, Contract, Suite, address_of

pytestmark = pytest.mark.invariant("I-4")

UNBONDING = 21 * DAY
ALL = 2**255
NO_LOCK = bytes(32)


@pytest.fixture
def pool(staking: Contract, provider: Provider, delegator: str) -> str:
    """1,000 TPF of the owner and 600 of a delegator, 200 of which are unbonding."""
    shares = staking.delegate(provider.owner, 600 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares // 3, sender=delegator)
    return provider.owner


@pytest.fixture
def slash(staking: Contract, manager: str) -> Callable[..., Any]:
    return lambda provider, amount: staking.slash(provider, bytes(32), amount, sender=manager)


def test_slash__pro_rata_and_burned(
    staking: Contract,
    token: Contract,
    pool: str,
    delegator: str,
    manager: str,
    slash: Callable[..., Any],
) -> None:
    supply, held = token.totalSupply(), token.balanceOf(staking.address)
    assert slash(pool, 160 * TPF) == 160 * TPF
    assert event(staking, "Slashed") == {
        "provider": pool,
        "manager": manager,
        "from_active": 140 * TPF,
        "from_unbonding": 20 * TPF,
    }
    assert token.totalSupply() == supply - 160 * TPF
    assert token.balanceOf(staking.address) == held - 160 * TPF
    assert staking.owner_assets(pool) == 900 * TPF
    assert staking.assets_of(pool, delegator) == 360 * TPF
    assert staking.ticket(pool, delegator, 0)[1] == 180 * TPF
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 180 * TPF


def test_slash__nobody_gets_anything(
    staking: Contract, pool: str, manager: str, slash: Callable[..., Any], provider: Provider
) -> None:
    slash(pool, 160 * TPF)
    for account in (manager, provider.owner, provider.payout, provider.operator.address):
        assert staking.credit_of(account) == 0


def test_slash__nothing__takes_nothing(
    staking: Contract, pool: str, slash: Callable[..., Any]
) -> None:
    before = staking.pool(pool)
    assert slash(pool, 0) == 0
    assert staking.pool(pool) == before


def test_slash__empty_pool__takes_nothing(
    staking: Contract, make_provider: Callable[..., Provider], slash: Callable[..., Any]
) -> None:
    empty = make_provider("empty", stake=0)
    assert slash(empty.owner, 5) == 0
    slashed = event(staking, "Slashed")
    assert (slashed["from_active"], slashed["from_unbonding"]) == (0, 0)
    assert events(staking, "Transfer") == []


def test_slash__more_than_the_pool__takes_the_pool(
    staking: Contract, pool: str, slash: Callable[..., Any]
) -> None:
    assert slash(pool, ALL) == 1_600 * TPF
    assert staking.pool(pool) == (0, 0, 0, 0, 0, 0)


def test_slash__only_unbonding_left(
    staking: Contract, provider: Provider, slash: Callable[..., Any]
) -> None:
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    assert slash(provider.owner, 300 * TPF) == 300 * TPF
    assert event(staking, "Slashed")["from_active"] == 0
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner) == 700 * TPF


def test_slash__wipe__old_shares_and_tickets_are_worth_nothing(
    staking: Contract, token: Contract, pool: str, delegator: str, slash: Callable[..., Any]
) -> None:
    slash(pool, ALL)
    assert staking.shares_of(pool, delegator) == 0
    assert staking.shares_of(pool, pool) == 0
    assert staking.assets_of(pool, delegator) == 0
    assert staking.ticket(pool, delegator, 0)[1] == 0
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(pool, 1, sender=delegator)
    before = token.balanceOf(delegator)
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 0
    assert event(staking, "Unbonded")["assets"] == 0
    assert token.balanceOf(delegator) == before


def test_slash__wipe__new_stake_is_untouched_by_old_shares(
    suite: Suite,
    staking: Contract,
    pool: str,
    delegator: str,
    slash: Callable[..., Any],
    stranger: str,
) -> None:
    slash(pool, ALL)
    shares = delegate(suite, pool, stranger, 10 * TPF)
    assert shares == 10_000 * TPF
    assert staking.pool(pool)[:4] == (10 * TPF, 0, 10_000 * TPF, 0)
    staking.delegate(pool, 7 * TPF, sender=delegator)
    assert staking.assets_of(pool, delegator) == 7 * TPF
    assert staking.assets_of(pool, stranger) == 10 * TPF
    # Numbers go on: the ticket of the lost generation is still there, and worth nothing.
    number = staking.undelegate(pool, staking.shares_of(pool, delegator), sender=delegator)
    assert number == 1
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 0
    assert staking.withdraw_unbonded(pool, 1, sender=delegator) == 7 * TPF
    assert staking.assets_of(pool, stranger) == 10 * TPF


def test_slash__wipe_of_active_alone__tickets_live_on(
    suite: Suite, staking: Contract, provider: Provider, delegator: str, slash: Callable[..., Any]
) -> None:
    """Rounding can leave the last wei to one part: it keeps its worth."""
    shares = staking.delegate(provider.owner, 200 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert slash(provider.owner, 1_200 * TPF - 1) == 1_200 * TPF - 1
    assert staking.pool(provider.owner)[:5] == (0, 0, 0, 0, 1)
    delegate(suite, provider.owner, provider.owner, TPF)
    assert staking.owner_assets(provider.owner) == TPF
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(provider.owner, 0, sender=delegator) <= 1


def test_slash__twice_to_nothing__each_starts_a_generation(
    suite: Suite, staking: Contract, provider: Provider, slash: Callable[..., Any]
) -> None:
    for stake in (3 * TPF, 5 * TPF):
        slash(provider.owner, ALL)
        delegate(suite, provider.owner, provider.owner, stake)
        assert staking.owner_assets(provider.owner) == stake


def test_slash__wipe__open_locks_end_as_usual(
    staking: Contract, provider: Provider, manager: str, slash: Callable[..., Any]
) -> None:
    lock_id = b"\x01" * 32
    staking.lock(provider.operator.address, lock_id, 5 * TPF, now() + DAY, 0, sender=manager)
    slash(provider.owner, ALL)
    assert staking.pool(provider.owner)[:2] == (0, 5 * TPF)
    staking.unlock(provider.owner, lock_id, sender=manager)
    assert staking.pool(provider.owner)[:2] == (0, 0)


def test_slash__owner_below_its_locks__cannot_leave_nor_lock_more(
    staking: Contract, provider: Provider, manager: str, slash: Callable[..., Any], delegator: str
) -> None:
    lock_id = b"\x01" * 32
    staking.lock(provider.operator.address, lock_id, 500 * TPF, now() + DAY, 0, sender=manager)
    slash(provider.owner, 600 * TPF)
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, 1, sender=provider.owner)
    with boa.reverts("staking: own stake too low"):
        staking.lock(provider.operator.address, bytes(32), 1, now() + DAY, 0, sender=manager)


@pytest.mark.parametrize(("left", "divided"), [(10**11, False), (10**11 - 1, True)])
def test_slash__rebase__exact(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    slash: Callable[..., Any],
    left: int,
    divided: bool,
) -> None:
    """10**21 shares of a stake of 10**18 wei: more than 10**10 a wei, and they are divided."""
    thin = make_provider("thin", stake=TPF)
    assert slash(thin.owner, TPF - left) == TPF - left
    assert staking.pool(thin.owner)[0] == left
    assert staking.shares_of(thin.owner, thin.owner) == (10**15 if divided else 10**21)
    assert left - 1 <= staking.owner_assets(thin.owner) <= left
    # Either way new stake works, and takes nothing from the old.
    newcomer = address_of("newcomer")
    delegate(suite, thin.owner, newcomer, 10**6 * TPF)
    assert staking.assets_of(thin.owner, newcomer) >= 10**6 * TPF - 1
    assert left - 1 <= staking.owner_assets(thin.owner) <= left + 1


def test_slash__rebase__delegators_and_tickets_keep_their_part(
    suite: Suite, staking: Contract, pool: str, delegator: str, slash: Callable[..., Any]
) -> None:
    before = staking.pool(pool)
    left = 16 * 10**9
    assert slash(pool, 1_600 * TPF - left) == 1_600 * TPF - left
    assert staking.pool(pool)[2] == before[2] // 10**6
    parts = (
        staking.owner_assets(pool),
        staking.assets_of(pool, delegator),
        staking.ticket(pool, delegator, 0)[1],
    )
    for part, share in zip(parts, (10, 4, 2), strict=True):
        assert left * share // 16 - 1 <= part <= left * share // 16
    # What was written down two generations ago is carried over both.
    assert slash(pool, left - 16) == left - 16
    assert staking.owner_assets(pool) in (9, 10)
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) in (1, 2)
    held = staking.shares_of(pool, delegator)
    staking.undelegate(pool, held, sender=delegator)


def test_slash__later_stake_in_a_poor_pool__loses_its_part_and_no_more(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    delegator: str,
    slash: Callable[..., Any],
) -> None:
    """Regression: a pool tuned to the border of worthlessness burned all that came later."""
    thin = make_provider("thin", stake=1_000 * TPF)
    slash(thin.owner, 1_000 * TPF - 11 * 10**11)
    delegate(suite, thin.owner, delegator, 10**6 * TPF)
    assert slash(thin.owner, 2 * 10**5 * TPF) == 2 * 10**5 * TPF
    left = staking.assets_of(thin.owner, delegator)
    assert 8 * 10**5 * TPF - 10**12 <= left <= 8 * 10**5 * TPF + 10**12


def test_slash__again_and_again__shares_fit_and_stake_can_leave(
    suite: Suite, staking: Contract, provider: Provider, slash: Callable[..., Any]
) -> None:
    owner = provider.owner
    for _ in range(12):
        delegate(suite, owner, owner, 10**6 * TPF)
        active = staking.pool(owner)[0]
        slash(owner, active - 1)
        assert staking.pool(owner)[0] == 1
    delegate(suite, owner, owner, TPF)
    number = staking.undelegate(owner, staking.shares_of(owner, owner), sender=owner)
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(owner, number, sender=owner) >= TPF - 1


def test_slash__unknown_provider__reverts(slash: Callable[..., Any], stranger: str) -> None:
    with boa.reverts("staking: not registered"):
        slash(stranger, 1)


@pytest.mark.parametrize("permissions", [0, LOCK, REWARD])
def test_slash__without_the_permission__reverts(
    suite: Suite, staking: Contract, provider: Provider, permissions: Any
) -> None:
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, NO_LOCK, 1, sender=newcomer)


# ----------------------------------------------------- the lock and a removed manager

ID = b"\x01" * 32


@pytest.fixture
def bond(staking: Contract, provider: Provider, manager: str) -> int:
    """A lock of 300 TPF for 30 days; returns its last second."""
    expires_at = now() + 30 * DAY
    staking.lock(provider.operator.address, ID, 300 * TPF, expires_at, 0, sender=manager)
    return expires_at


def test_slash__ends_the_lock(
    staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    """The bond that the fault burns stands behind nothing else any more."""
    assert staking.slash(provider.owner, ID, 300 * TPF, sender=manager) == 300 * TPF
    assert event(staking, "Unlocked")["amount"] == 300 * TPF
    assert staking.lock_of(manager, provider.owner, ID) == (0, 0)
    assert staking.pool(provider.owner)[:2] == (700 * TPF, 0)


def test_slash__active_manager__more_than_its_lock_and_without_one(
    staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    assert staking.slash(provider.owner, ID, 400 * TPF, sender=manager) == 400 * TPF
    assert staking.slash(provider.owner, ID, 100 * TPF, sender=manager) == 100 * TPF
    assert staking.pool(provider.owner)[0] == 500 * TPF


def test_slash__lock_of_another_manager__untouched(
    suite: Suite, staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    suite.holder.slash(provider.owner, ID, TPF)
    assert staking.lock_of(manager, provider.owner, ID)[0] == 300 * TPF


@pytest.mark.parametrize(("amount", "taken"), [(ALL, 300), (299 * TPF, 299), (0, 0)])
def test_slash__removed_manager__at_most_its_lock(
    suite: Suite,
    staking: Contract,
    provider: Provider,
    manager: str,
    bond: int,
    amount: Any,
    taken: int,
) -> None:
    """Q7: what was pending when its manager was removed is slashed all the same, no more."""
    staking.remove_manager(manager, sender=suite.owner)
    go_to(now() + UNBONDING - 1)
    assert staking.slash(provider.owner, ID, amount, sender=manager) == taken * TPF
    assert staking.pool(provider.owner)[:2] == ((1_000 - taken) * TPF, 0)
    with boa.reverts("staking: no such lock"):
        staking.slash(provider.owner, ID, amount, sender=manager)


def test_slash__removed_manager__no_lock__reverts(
    suite: Suite, staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    """It cannot invent a fault: neither without a lock, nor with one of another."""
    staking.remove_manager(manager, sender=suite.owner)
    with boa.reverts("staking: no such lock"):
        staking.slash(provider.owner, NO_LOCK, 1, sender=manager)
    other = register(suite, "other provider")
    with boa.reverts("staking: no such lock"):
        staking.slash(other.owner, ID, 1, sender=manager)
    with boa.reverts("staking: caller lacks the permission"):
        staking.lock(provider.operator.address, NO_LOCK, 1, now() + 1, 0, sender=manager)


def test_slash__removed_manager__after_unbonding__reverts(
    suite: Suite, staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    staking.remove_manager(manager, sender=suite.owner)
    pass_time(UNBONDING)
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, ID, 1, sender=manager)


def test_slash__removed_manager__expired_lock__reverts(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    """I-3: no lock outlives its expiry, whether somebody has released it or not."""
    expires_at = now() + DAY
    staking.lock(provider.operator.address, ID, TPF, expires_at, 0, sender=manager)
    staking.remove_manager(manager, sender=suite.owner)
    go_to(expires_at + 1)
    with boa.reverts("staking: lock is over"):
        staking.slash(provider.owner, ID, TPF, sender=manager)
    assert staking.lock_of(manager, provider.owner, ID)[0] == TPF


def test_slash__removed_manager__in_the_last_second_of_its_lock(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    expires_at = now() + DAY
    staking.lock(provider.operator.address, ID, TPF, expires_at, 0, sender=manager)
    staking.remove_manager(manager, sender=suite.owner)
    go_to(expires_at)
    assert staking.slash(provider.owner, ID, TPF, sender=manager) == TPF


def test_slash__removed_manager_that_could_never_slash__reverts(
    suite: Suite, staking: Contract, provider: Provider
) -> None:
    """Whoever may only lock has no slash after its removal either."""
    locker = address_of("locker")
    staking.announce_manager(locker, LOCK | REWARD, sender=suite.owner)
    pass_time(staking.MANAGER_DELAY())
    staking.lock(provider.operator.address, ID, TPF, now() + DAY, 0, sender=locker)
    for _ in range(2):
        with boa.reverts("staking: caller lacks the permission"):
            staking.slash(provider.owner, ID, TPF, sender=locker)
        if staking.manager_of(locker)[0]:
            staking.remove_manager(locker, sender=suite.owner)


def test_slash__announced_anew__old_lock_gives_no_slash(
    suite: Suite, staking: Contract, provider: Provider, manager: str, bond: int
) -> None:
    staking.remove_manager(manager, sender=suite.owner)
    pass_time(UNBONDING)
    staking.announce_manager(manager, LOCK | SLASH, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, ID, 1, sender=manager)
    staking.remove_manager(manager, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, ID, 1, sender=manager)


def test_slash__entries_are_not_in_the_pool(
    suite: Suite,
    staking: Contract,
    pool: str,
    provider: Provider,
    stranger: str,
    slash: Callable[..., Any],
) -> None:
    """F5: who comes after the fault pays nothing for it."""
    suite.holder.hold(provider.operator.address)
    suite.holder.set_manner(IDLE)
    assert delegate(suite, pool, stranger, 100 * TPF) == 0
    assert slash(pool, ALL) == 1_600 * TPF
    assert staking.take_back(pool, sender=stranger) == 100 * TPF


@settings(max_examples=15)
@given(
    own=st.integers(1, 10**24),
    delegated=st.integers(1, 10**24),
    leaving=st.integers(0, 10**24),
    amount=st.integers(0, 3 * 10**24),
)
def test_slash__any_amounts__conserves_and_is_fair(
    suite: Suite, own: Any, delegated: Any, leaving: Any, amount: int
) -> None:
    staking = suite.staking
    provider = register(suite, "slashed", stake=own).owner
    account = address_of("slashed delegator")
    delegate(suite, provider, account, delegated)
    staking.undelegate(provider, min(leaving, delegated) * 1_000 or 1, sender=account)
    active, _, _, _, unbonding, _ = staking.pool(provider)
    supply = suite.token.totalSupply()
    taken = staking.slash(provider, NO_LOCK, amount, sender=address_of("manager"))
    assert suite.token.totalSupply() == supply - taken
    after, _, _, _, after_unbonding, _ = staking.pool(provider)
    assert after + after_unbonding == active + unbonding - taken
    assert taken == min(amount, active + unbonding)
    assert unbonding - after_unbonding == (taken * unbonding // (active + unbonding or 1))
