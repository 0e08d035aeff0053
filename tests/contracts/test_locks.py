# SPDX-License-Identifier: Apache-2.0
"""`lock`, `unlock`, `release`: the owner's own stake, the owner's limits, a life that ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, event, events, go_to, now, pass_time
from tests.contracts.deploy import (
    DAY,
    REWARD,
    SLASH,
    TPF,
    ZERO_ADDRESS,
    Contract,
    Suite,
    address_of,
)

pytestmark = pytest.mark.invariant("I-3")

ID = b"\x01" * 32
OTHER_ID = b"\x02" * 32
MAX_LOCK = 60 * DAY


@pytest.fixture
def lock(staking: Contract, provider: Provider, manager: str) -> Callable[..., Any]:
    """Lock for the provider; 100 TPF for a day unless told otherwise."""

    def call(
        amount: int = 100 * TPF,
        id: bytes = ID,
        expires_at: int | None = None,
        min_stake: int = 0,
        sender: str = manager,
    ) -> Any:
        return staking.lock(
            provider.operator.address,
            id,
            amount,
            now() + DAY if expires_at is None else expires_at,
            min_stake,
            sender=sender,
        )

    return call


def test_lock__default(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    expires_at = now() + DAY
    assert lock() == (provider.owner, 0)
    assert event(staking, "Locked") == {
        "provider": provider.owner,
        "manager": manager,
        "id": ID,
        "amount": 100 * TPF,
        "expires_at": expires_at,
    }
    assert staking.lock_of(manager, provider.owner, ID) == (100 * TPF, expires_at)
    assert staking.pool(provider.owner)[:2] == (1_000 * TPF, 100 * TPF)


def test_lock__unknown_operator__reverts(
    staking: Contract, provider: Provider, manager: str, stranger: str
) -> None:
    for operator in (stranger, provider.owner, ZERO_ADDRESS):
        with boa.reverts("staking: unknown operator"):
            staking.lock(operator, ID, 1, now() + 1, 0, sender=manager)


def test_lock__nothing__only_checks(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    assert lock(amount=0, expires_at=0) == (provider.owner, 0)
    assert events(staking) == []
    assert staking.lock_of(manager, provider.owner, ID) == (0, 0)
    with boa.reverts("staking: stake too low"):
        lock(amount=0, min_stake=1_000 * TPF + 1)


def test_lock__min_stake__counts_delegators(
    suite: Suite, staking: Contract, provider: Provider, delegator: str, lock: Callable[..., Any]
) -> None:
    with boa.reverts("staking: stake too low"):
        lock(min_stake=1_000 * TPF + 1)
    staking.delegate(provider.owner, 1, sender=delegator)
    lock(min_stake=1_000 * TPF + 1)


def test_lock__min_stake__not_what_is_unbonding(
    staking: Contract, provider: Provider, lock: Callable[..., Any]
) -> None:
    staking.undelegate(provider.owner, 1_000, sender=provider.owner)
    with boa.reverts("staking: stake too low"):
        lock(min_stake=1_000 * TPF)
    lock(min_stake=1_000 * TPF - 1)


def test_lock__limit_per_order__exact(lock: Callable[..., Any]) -> None:
    with boa.reverts("staking: above the owner's limit per order"):
        lock(amount=500 * TPF + 1)
    lock(amount=500 * TPF)


def test_lock__limit_in_all__exact(lock: Callable[..., Any]) -> None:
    lock(amount=500 * TPF)
    with boa.reverts("staking: above the owner's limit in all"):
        lock(amount=300 * TPF + 1, id=OTHER_ID)
    lock(amount=300 * TPF, id=OTHER_ID)


def test_lock__limits_lowered_later__existing_lock_stays(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    lock()
    staking.set_lock_limits(500 * TPF, 0, sender=provider.owner)
    with boa.reverts("staking: above the owner's limit in all"):
        lock(amount=1, id=OTHER_ID)
    assert staking.lock_of(manager, provider.owner, ID)[0] == 100 * TPF


def test_lock__own_stake_only(
    staking: Contract, make_provider: Callable[..., Provider], delegator: str, manager: str
) -> None:
    poor = make_provider("poor", stake=10 * TPF)
    staking.delegate(poor.owner, 1_000 * TPF, sender=delegator)
    operator = poor.operator.address
    with boa.reverts("staking: own stake too low"):
        staking.lock(operator, ID, 10 * TPF + 1, now() + 1, 0, sender=manager)
    staking.lock(operator, ID, 10 * TPF, now() + 1, 0, sender=manager)
    with boa.reverts("staking: own stake too low"):
        staking.lock(operator, OTHER_ID, 1, now() + 1, 0, sender=manager)


def test_lock__expiry__exact(lock: Callable[..., Any]) -> None:
    with boa.reverts("staking: lock is over"):
        lock(expires_at=now() - 1)
    with boa.reverts("staking: lock too long"):
        lock(expires_at=now() + MAX_LOCK + 1)
    lock(expires_at=now(), id=OTHER_ID)
    lock(expires_at=now() + MAX_LOCK)


def test_lock__same_id__reverts(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    lock()
    with boa.reverts("staking: lock exists"):
        lock()


def test_lock__same_id_of_another_provider(
    staking: Contract,
    make_provider: Callable[..., Provider],
    manager: str,
    lock: Callable[..., Any],
) -> None:
    lock()
    other = make_provider("other provider")
    staking.lock(other.operator.address, ID, 1, now() + 1, 0, sender=manager)
    assert staking.lock_of(manager, other.owner, ID)[0] == 1


@pytest.mark.parametrize("permissions", [0, SLASH, REWARD, SLASH | REWARD])
def test_lock__without_the_permission__reverts(
    suite: Suite, staking: Contract, provider: Provider, permissions: Any
) -> None:
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.lock(provider.operator.address, ID, 1, now() + 1, 0, sender=newcomer)


# ------------------------------------------------------------- unlock, release


def test_unlock__ends_the_lock(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    lock()
    assert staking.unlock(provider.owner, ID, sender=manager) == provider.payout
    assert event(staking, "Unlocked") == {
        "provider": provider.owner,
        "manager": manager,
        "id": ID,
        "amount": 100 * TPF,
    }
    assert staking.lock_of(manager, provider.owner, ID) == (0, 0)
    assert staking.pool(provider.owner)[1] == 0


def test_unlock__missing_lock__only_answers(
    staking: Contract, provider: Provider, manager: str
) -> None:
    assert staking.unlock(provider.owner, ID, sender=manager) == provider.payout
    assert events(staking) == []


def test_unlock__lock_of_another_manager__untouched(
    staking: Contract, provider: Provider, manager: str, stranger: str, lock: Callable[..., Any]
) -> None:
    lock()
    staking.unlock(provider.owner, ID, sender=stranger)
    assert staking.lock_of(manager, provider.owner, ID)[0] == 100 * TPF


def test_unlock__by_a_removed_manager(
    suite: Suite, staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    lock()
    staking.remove_manager(manager, sender=suite.owner)
    staking.unlock(provider.owner, ID, sender=manager)
    assert staking.pool(provider.owner)[1] == 0


def test_release__by_anyone_after_expiry(
    staking: Contract, provider: Provider, manager: str, stranger: str, lock: Callable[..., Any]
) -> None:
    expires_at = now() + DAY
    lock(expires_at=expires_at)
    go_to(expires_at)
    with boa.reverts("staking: lock has not expired"):
        staking.release(manager, provider.owner, ID, sender=stranger)
    go_to(expires_at + 1)
    staking.release(manager, provider.owner, ID, sender=stranger)
    assert event(staking, "Unlocked")["manager"] == manager
    assert staking.pool(provider.owner)[1] == 0
    with boa.reverts("staking: no such lock"):
        staking.release(manager, provider.owner, ID, sender=stranger)


@pytest.mark.invariant("I-2")
def test_release__lets_the_owner_leave(
    suite: Suite,
    staking: Contract,
    provider: Provider,
    manager: str,
    stranger: str,
    lock: Callable[..., Any],
) -> None:
    """I-2: a manager that is removed and silent keeps no stake without end."""
    lock(amount=500 * TPF, expires_at=now() + MAX_LOCK)
    staking.remove_manager(manager, sender=suite.owner)
    shares = staking.shares_of(provider.owner, provider.owner)
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, shares, sender=provider.owner)
    pass_time(MAX_LOCK + 1)
    staking.release(manager, provider.owner, ID, sender=stranger)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    pass_time(staking.UNBONDING())
    assert staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner) == 1_000 * TPF


def test_release__same_id_can_be_locked_again(
    staking: Contract, provider: Provider, manager: str, lock: Callable[..., Any]
) -> None:
    lock()
    staking.unlock(provider.owner, ID, sender=manager)
    lock(amount=1)
    assert staking.lock_of(manager, provider.owner, ID)[0] == 1
