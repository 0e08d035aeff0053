# SPDX-License-Identifier: Apache-2.0
"""`seize`: the lock goes to victim, hunter and fire; delegators lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import Provider, delegate, event, events, go_to, now, register
from tests.contracts.deploy import DAY, TPF, ZERO_ADDRESS, Contract, Suite, address_of

pytestmark = pytest.mark.invariant("I-3", "I-4")

ID = b"\x01" * 32
OTHER_ID = b"\x02" * 32


@pytest.fixture
def locked(staking: Contract, provider: Provider, manager: str) -> int:
    """A lock of 100 TPF for a day; returns its last second."""
    expires_at = now() + DAY
    staking.lock(provider.operator.address, ID, 100 * TPF, expires_at, 0, sender=manager)
    return expires_at


@pytest.fixture
def seize(
    staking: Contract, provider: Provider, manager: str, victim: str, hunter: str
) -> Callable[..., Any]:
    def call(
        victim_bps: int = 5_000, bounty_bps: int = 1_000, id: bytes = ID, sender: str = manager
    ) -> Any:
        return staking.seize(
            provider.owner, id, victim, hunter, victim_bps, bounty_bps, sender=sender
        )

    return call


def test_seize__splits_and_burns(
    staking: Contract,
    token: Contract,
    provider: Provider,
    manager: str,
    victim: str,
    hunter: str,
    locked: int,
    seize: Callable[..., Any],
) -> None:
    supply, held = token.totalSupply(), token.balanceOf(staking.address)
    assert seize() == 100 * TPF
    assert event(staking, "Seized") == {
        "provider": provider.owner,
        "manager": manager,
        "id": ID,
        "victim": victim,
        "to_victim": 50 * TPF,
        "hunter": hunter,
        "bounty": 5 * TPF,
        "burned": 45 * TPF,
    }
    assert event(staking, "Unlocked")["amount"] == 100 * TPF
    assert staking.credit_of(victim) == 50 * TPF
    assert staking.credit_of(hunter) == 5 * TPF
    assert token.totalSupply() == supply - 45 * TPF
    assert token.balanceOf(staking.address) == held - 45 * TPF
    assert staking.owner_assets(provider.owner) == 900 * TPF
    assert staking.pool(provider.owner)[:2] == (900 * TPF, 0)


def test_seize__lowers_the_limit_in_all(
    staking: Contract, provider: Provider, manager: str, locked: int, seize: Callable[..., Any]
) -> None:
    """A stolen operator key loses the limit once, however often it locks."""
    in_all = staking.lock_limits(provider.owner)[1]
    staking.set_lock_limits(in_all, in_all, sender=provider.owner)
    seize()
    left = in_all - 100 * TPF
    assert staking.lock_limits(provider.owner) == (in_all, left)
    again = (provider.operator.address, OTHER_ID)
    with boa.reverts("staking: above the owner's limit in all"):
        staking.lock(*again, left + 1, now() + 1, 0, sender=manager)
    staking.lock(*again, left, now() + 1, 0, sender=manager)


def test_seize__limit_below_the_lock_by_now__ends_at_zero(
    staking: Contract, provider: Provider, locked: int, seize: Callable[..., Any]
) -> None:
    staking.set_lock_limits(50 * TPF, 50 * TPF, sender=provider.owner)
    seize()
    assert staking.lock_limits(provider.owner) == (50 * TPF, 0)


@pytest.mark.parametrize(
    ("victim_bps", "bounty_bps", "to_victim", "bounty"),
    [(10_000, 5_000, 100, 0), (0, 5_000, 0, 50), (0, 0, 0, 0), (3_000, 5_000, 30, 35)],
)
def test_seize__shares_at_their_bounds(
    staking: Contract,
    token: Contract,
    victim: str,
    hunter: str,
    locked: int,
    seize: Callable[..., Any],
    victim_bps: int,
    bounty_bps: int,
    to_victim: int,
    bounty: int,
) -> None:
    supply = token.totalSupply()
    seize(victim_bps, bounty_bps)
    assert staking.credit_of(victim) == to_victim * TPF
    assert staking.credit_of(hunter) == bounty * TPF
    assert token.totalSupply() == supply - (100 - to_victim - bounty) * TPF


@pytest.mark.parametrize("shares", [(10_001, 0), (0, 5_001)])
def test_seize__shares_out_of_bounds__reverts(
    locked: int, seize: Callable[..., Any], shares: Any
) -> None:
    with boa.reverts():
        seize(*shares)


def test_seize__in_the_last_second_of_the_lock(locked: int, seize: Callable[..., Any]) -> None:
    go_to(locked)
    assert seize() == 100 * TPF


def test_seize__after_expiry__ends_the_lock_and_takes_nothing(
    staking: Contract, provider: Provider, locked: int, seize: Callable[..., Any]
) -> None:
    go_to(locked + 1)
    assert seize() == 0
    assert events(staking, "Seized") == []
    assert event(staking, "Unlocked")["amount"] == 100 * TPF
    assert staking.pool(provider.owner)[:2] == (1_000 * TPF, 0)


def test_seize__no_lock__takes_nothing(
    staking: Contract, provider: Provider, seize: Callable[..., Any]
) -> None:
    assert seize() == 0
    assert events(staking) == []
    assert staking.owner_assets(provider.owner) == 1_000 * TPF


def test_seize__twice__second_takes_nothing(
    staking: Contract, provider: Provider, locked: int, seize: Callable[..., Any]
) -> None:
    seize()
    assert seize() == 0
    assert staking.owner_assets(provider.owner) == 900 * TPF


def test_seize__lock_of_another_manager__takes_nothing(
    staking: Contract, provider: Provider, locked: int, seize: Callable[..., Any], stranger: str
) -> None:
    assert seize(sender=stranger) == 0
    assert staking.owner_assets(provider.owner) == 1_000 * TPF


def test_seize__by_a_removed_manager(
    suite: Suite, staking: Contract, manager: str, locked: int, seize: Callable[..., Any]
) -> None:
    staking.remove_manager(manager, sender=suite.owner)
    assert seize() == 100 * TPF


def test_seize__delegators_keep_theirs(
    staking: Contract, provider: Provider, delegator: str, locked: int, seize: Callable[..., Any]
) -> None:
    staking.delegate(provider.owner, 50 * TPF, sender=delegator)
    seize()
    assert staking.assets_of(provider.owner, delegator) >= 50 * TPF
    assert staking.pool(provider.owner)[0] == 950 * TPF


def test_seize__after_a_slash__at_most_what_the_owner_has_left(
    staking: Contract,
    provider: Provider,
    manager: str,
    victim: str,
    locked: int,
    seize: Callable[..., Any],
) -> None:
    staking.slash(provider.owner, bytes(32), 950 * TPF, sender=manager)
    left = staking.owner_assets(provider.owner)
    assert left <= 50 * TPF
    assert seize(10_000, 0) == left
    assert staking.credit_of(victim) == left
    assert staking.pool(provider.owner)[1] == 0


def test_seize__after_a_wipe__takes_nothing(
    staking: Contract, provider: Provider, manager: str, locked: int, seize: Callable[..., Any]
) -> None:
    staking.slash(provider.owner, bytes(32), 1_000 * TPF, sender=manager)
    assert seize() == 0
    assert staking.pool(provider.owner) == (0, 0, 0, 0, 0, 0)


def test_seize__after_a_wipe_and_new_stake__takes_from_the_new_stake(
    suite: Suite,
    staking: Contract,
    provider: Provider,
    manager: str,
    locked: int,
    seize: Callable[..., Any],
) -> None:
    """The duty outlives the wipe: what the owner stakes again stands behind its open locks."""
    staking.slash(provider.owner, bytes(32), 1_000 * TPF, sender=manager)
    delegate(suite, provider.owner, provider.owner, 150 * TPF)
    shares = staking.shares_of(provider.owner, provider.owner)
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, shares, sender=provider.owner)
    assert seize() == 100 * TPF
    assert staking.owner_assets(provider.owner) == 50 * TPF


@pytest.mark.parametrize("insider", ["owner", "operator", "payout"])
def test_seize__bounty_to_the_provider_itself__is_burned(
    staking: Contract,
    token: Contract,
    provider: Provider,
    manager: str,
    victim: str,
    locked: int,
    insider: str,
) -> None:
    """P14: nobody earns a bounty for its own fault."""
    hunter = {
        "owner": provider.owner,
        "operator": provider.operator.address,
        "payout": provider.payout,
    }[insider]
    supply = token.totalSupply()
    taken = staking.seize(provider.owner, ID, victim, hunter, 5_000, 5_000, sender=manager)
    assert taken == 100 * TPF
    seized = event(staking, "Seized")
    assert (seized["hunter"], seized["bounty"], seized["burned"]) == (hunter, 0, 50 * TPF)
    assert staking.credit_of(hunter) == 0
    assert staking.credit_of(victim) == 50 * TPF
    assert token.totalSupply() == supply - 50 * TPF


def test_seize__keys_of_another_provider__get_the_bounty(
    staking: Contract,
    provider: Provider,
    manager: str,
    victim: str,
    locked: int,
    make_provider: Callable[..., Provider],
) -> None:
    rival = make_provider("rival")
    staking.seize(provider.owner, ID, victim, rival.operator.address, 5_000, 5_000, sender=manager)
    assert staking.credit_of(rival.operator.address) == 25 * TPF


def test_seize__one_of_two_locks__the_other_stays(
    staking: Contract, provider: Provider, manager: str, locked: int, seize: Callable[..., Any]
) -> None:
    staking.lock(provider.operator.address, OTHER_ID, 200 * TPF, now() + DAY, 0, sender=manager)
    seize()
    assert staking.pool(provider.owner)[:2] == (900 * TPF, 200 * TPF)
    assert staking.lock_of(manager, provider.owner, OTHER_ID)[0] == 200 * TPF


# --------------------------------------------------------------- withdraw credit


def test_withdraw__pays_the_credit_once(
    staking: Contract, token: Contract, victim: str, locked: int, seize: Callable[..., Any]
) -> None:
    seize()
    assert staking.withdraw(sender=victim) == 50 * TPF
    assert event(staking, "Withdrawn") == {
        "account": victim,
        "receiver": victim,
        "amount": 50 * TPF,
    }
    assert token.balanceOf(victim) == 50 * TPF
    assert staking.credit_of(victim) == 0
    with boa.reverts("ledger: nothing to withdraw"):
        staking.withdraw(sender=victim)


def test_withdraw__to_another_receiver(
    staking: Contract,
    token: Contract,
    victim: str,
    stranger: str,
    locked: int,
    seize: Callable[..., Any],
) -> None:
    seize()
    staking.withdraw(stranger, sender=victim)
    assert token.balanceOf(stranger) == 50 * TPF


def test_withdraw__zero_receiver__reverts(
    staking: Contract, victim: str, locked: int, seize: Callable[..., Any]
) -> None:
    seize()
    with boa.reverts("token: zero receiver"):
        staking.withdraw(ZERO_ADDRESS, sender=victim)


def test_withdraw__no_credit__reverts(staking: Contract, stranger: str) -> None:
    with boa.reverts("ledger: nothing to withdraw"):
        staking.withdraw(sender=stranger)


def test_withdraw__second_credit_after_the_first(
    staking: Contract,
    token: Contract,
    provider: Provider,
    manager: str,
    victim: str,
    locked: int,
    seize: Callable[..., Any],
) -> None:
    """The slot keeps a one when it is empty; that one is never paid."""
    seize()
    staking.withdraw(sender=victim)
    staking.lock(provider.operator.address, OTHER_ID, 2, now() + DAY, 0, sender=manager)
    seize(10_000, 0, id=OTHER_ID)
    assert staking.credit_of(victim) == 2
    assert staking.withdraw(sender=victim) == 2
    assert token.balanceOf(victim) == 50 * TPF + 2


@settings(max_examples=15)
@given(
    stake=st.integers(1, 10**22),
    delegated=st.integers(0, 10**22),
    slashed=st.integers(0, 10**22),
    amount=st.integers(1, 10**22),
)
def test_seize__any_amounts__conserves_and_spares_delegators(
    suite: Suite, stake: int, delegated: Any, slashed: Any, amount: int
) -> None:
    staking, manager = suite.staking, address_of("manager")
    provider = register(suite, "any", stake=stake, per_order=10**30, in_all=10**30)
    account = address_of("any delegator")
    if delegated:
        delegate(suite, provider.owner, account, delegated)
    amount = min(amount, staking.owner_assets(provider.owner))
    staking.lock(provider.operator.address, ID, amount, now() + 1, 0, sender=manager)
    staking.slash(provider.owner, bytes(32), slashed, sender=manager)
    active = staking.pool(provider.owner)[0]
    own = staking.owner_assets(provider.owner)
    theirs = staking.assets_of(provider.owner, account)
    taken = staking.seize(
        provider.owner, ID, address_of("victim"), address_of("hunter"), 5_000, 1_000, sender=manager
    )
    assert taken == min(amount, own)
    assert staking.pool(provider.owner)[:2] == (active - taken, 0)
    assert staking.assets_of(provider.owner, account) >= theirs
    assert staking.owner_assets(provider.owner) <= own - taken
