# SPDX-License-Identifier: Apache-2.0
"""Managers: named before the seal, or announced so long ahead that everybody can leave."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, event, go_to, now, pass_time
from tests.contracts.deploy import (
    DAY,
    LOCK,
    REWARD,
    SLASH,
    ZERO_ADDRESS,
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_staking,
    deployer_of,
)

pytestmark = pytest.mark.invariant("I-11")

UNBONDING = 21 * DAY


@pytest.fixture
def open_staking(suite: Suite) -> Contract:
    """Staking that is not sealed."""
    return deploy_staking(suite.token, suite.owner, suite.parameters, suite.deployer)


@pytest.fixture
def newcomer() -> str:
    return address_of("newcomer")


def test_setup_manager__active_at_once(suite: Suite, open_staking: Contract, newcomer: str) -> None:
    open_staking.setup_manager(newcomer, LOCK | SLASH, sender=suite.deployer)
    assert event(open_staking, "ManagerAnnounced") == {
        "manager": newcomer,
        "permissions": LOCK | SLASH,
        "active_from": now(),
    }
    assert open_staking.manager_of(newcomer) == (LOCK | SLASH, now(), 0)


def test_setup_manager__twice__reverts(suite: Suite, open_staking: Contract, newcomer: str) -> None:
    open_staking.setup_manager(newcomer, LOCK, sender=suite.deployer)
    with boa.reverts("staking: manager exists"):
        open_staking.setup_manager(newcomer, SLASH, sender=suite.deployer)


def test_setup_manager__not_the_deployer__reverts(
    suite: Suite, open_staking: Contract, newcomer: str
) -> None:
    for caller in (suite.owner, newcomer):
        with boa.reverts("staking: not in set-up"):
            open_staking.setup_manager(newcomer, LOCK, sender=caller)


def test_setup_manager__after_the_seal__reverts(
    suite: Suite, staking: Contract, newcomer: str
) -> None:
    with boa.reverts("staking: not in set-up"):
        staking.setup_manager(newcomer, LOCK, sender=suite.deployer)


def test_seal__once_by_the_deployer(suite: Suite, open_staking: Contract) -> None:
    with boa.reverts("staking: not in set-up"):
        open_staking.seal(sender=suite.owner)
    assert not open_staking.sealed()
    open_staking.seal(sender=suite.deployer)
    event(open_staking, "Sealed")
    assert open_staking.sealed()
    with boa.reverts("staking: not in set-up"):
        open_staking.seal(sender=suite.deployer)


def test_announce_manager__active_after_the_delay(
    suite: Suite, staking: Contract, provider: Provider, newcomer: str
) -> None:
    active_from = now() + 82 * DAY
    assert staking.MANAGER_DELAY() == 82 * DAY
    staking.announce_manager(newcomer, SLASH, sender=suite.owner)
    assert event(staking, "ManagerAnnounced")["active_from"] == active_from
    go_to(active_from - 1)
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, bytes(32), 1, sender=newcomer)
    go_to(active_from)
    assert staking.slash(provider.owner, bytes(32), 1, sender=newcomer) == 1


@pytest.mark.parametrize(
    ("unbonding", "max_lock", "expected"),
    [(30 * DAY, 20 * DAY, 51 * DAY), (20 * DAY, 30 * DAY, 51 * DAY)],
)
def test_announce_manager__delay_covers_unbonding_after_locks(
    suite: Suite, unbonding: int, max_lock: int, expected: int
) -> None:
    parameters = Parameters(unbonding=unbonding, max_lock=max_lock)
    staking = deploy_staking(suite.token, suite.owner, parameters, suite.deployer)
    assert staking.MANAGER_DELAY() == expected


def test_announce_manager__everybody_can_leave_first(
    suite: Suite, staking: Contract, provider: Provider, newcomer: str
) -> None:
    """Also who learns of it a day late."""
    staking.announce_manager(newcomer, SLASH, sender=suite.owner)
    pass_time(DAY)
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    pass_time(staking.UNBONDING())
    assert now() <= staking.manager_of(newcomer)[1]
    assert staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner) > 0


@pytest.mark.parametrize("permissions", [LOCK, SLASH, REWARD, LOCK | SLASH | REWARD])
def test_announce_manager__permissions(
    suite: Suite, staking: Contract, newcomer: str, permissions: Any
) -> None:
    staking.announce_manager(newcomer, permissions, sender=suite.owner)
    assert staking.manager_of(newcomer)[0] == permissions


def test_announce_manager__bad_argument__reverts(
    suite: Suite, staking: Contract, newcomer: str, manager: str
) -> None:
    with boa.reverts("staking: zero manager"):
        staking.announce_manager(ZERO_ADDRESS, LOCK, sender=suite.owner)
    with boa.reverts("staking: no permissions"):
        staking.announce_manager(newcomer, 0, sender=suite.owner)
    with boa.reverts("staking: manager exists"):
        staking.announce_manager(manager, LOCK, sender=suite.owner)


def test_announce_manager__unknown_permission_bit__reverts(
    suite: Suite, staking: Contract, newcomer: str
) -> None:
    data = staking.announce_manager.prepare_calldata(newcomer, LOCK)
    result = boa.env.execute_code(
        to_address=staking.address, sender=suite.owner, data=data[:-1] + b"\x08"
    )
    assert result.is_error
    assert staking.manager_of(newcomer) == (0, 0, 0)


def test_announce_manager__last_number__then_no_more(suite: Suite, staking: Contract) -> None:
    """A hold keeps a manager's number in 16 bits; no number is skipped, and none comes twice."""
    layout = staking.compiler_data.storage_layout["storage_layout"]["managers"]
    boa.env.set_storage(staking.address, layout["count"]["slot"], 2**16 - 3)
    for name in ("the last but one", "the last"):
        staking.announce_manager(address_of(name), LOCK, sender=suite.owner)
    with boa.reverts():
        staking.announce_manager(address_of("one too many"), LOCK, sender=suite.owner)
    assert staking.manager_of(address_of("the last"))[0] == LOCK
    assert staking.manager_of(address_of("one too many")) == (0, 0, 0)


def test_announce_manager__unauthorized__reverts(
    suite: Suite, staking: Contract, newcomer: str, manager: str
) -> None:
    for caller in (suite.deployer, manager, newcomer):
        with boa.reverts("ownable: caller is not the owner"):
            staking.announce_manager(newcomer, LOCK, sender=caller)


def test_remove_manager__ends_its_permissions(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    since = staking.manager_of(manager)[1]
    staking.remove_manager(manager, sender=suite.owner)
    assert event(staking, "ManagerRemoved") == {"manager": manager}
    assert staking.manager_of(manager) == (0, since, now())
    with boa.reverts("staking: no such lock"):
        staking.slash(provider.owner, bytes(32), 1, sender=manager)
    for method in (staking.reward, staking.credit):
        with boa.reverts("staking: caller lacks the permission"):
            method(provider.owner, 0, sender=manager)
    with boa.reverts("staking: caller lacks the permission"):
        staking.hold(provider.operator.address, sender=manager)
    with boa.reverts("staking: caller lacks the permission"):
        staking.lock(provider.operator.address, bytes(32), 1, now(), 0, sender=manager)


def test_remove_manager__comes_back_only_after_the_delay(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    """Not before what it has begun has ended, and then as slowly as a new one."""
    staking.remove_manager(manager, sender=suite.owner)
    removed_at = now()
    go_to(removed_at + UNBONDING - 1)
    with boa.reverts("staking: removed too recently"):
        staking.announce_manager(manager, SLASH, sender=suite.owner)
    go_to(removed_at + UNBONDING)
    staking.announce_manager(manager, SLASH, sender=suite.owner)
    active_from = removed_at + UNBONDING + staking.MANAGER_DELAY()
    assert staking.manager_of(manager) == (SLASH, active_from, 0)
    go_to(active_from - 1)
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, bytes(32), 1, sender=manager)
    go_to(active_from)
    assert staking.slash(provider.owner, bytes(32), 1, sender=manager) == 1


def test_remove_manager__twice__reverts(suite: Suite, staking: Contract, manager: str) -> None:
    staking.remove_manager(manager, sender=suite.owner)
    with boa.reverts("staking: unknown manager"):
        staking.remove_manager(manager, sender=suite.owner)


def test_remove_manager__before_it_is_active__also_waits(
    suite: Suite, staking: Contract, provider: Provider, newcomer: str
) -> None:
    staking.announce_manager(newcomer, SLASH, sender=suite.owner)
    staking.remove_manager(newcomer, sender=suite.owner)
    for _ in range(2):
        with boa.reverts("staking: caller lacks the permission"):
            staking.slash(provider.owner, bytes(32), 1, sender=newcomer)
        with boa.reverts("staking: removed too recently"):
            staking.announce_manager(newcomer, SLASH, sender=suite.owner)
        pass_time(UNBONDING - 1)


def test_remove_manager__unknown__reverts(suite: Suite, staking: Contract, newcomer: str) -> None:
    with boa.reverts("staking: unknown manager"):
        staking.remove_manager(newcomer, sender=suite.owner)


def test_remove_manager__unauthorized__reverts(
    suite: Suite, staking: Contract, manager: str
) -> None:
    for caller in (suite.deployer, manager):
        with boa.reverts("ownable: caller is not the owner"):
            staking.remove_manager(manager, sender=caller)


# ------------------------------------------------------------------ constructor

YEAR = 366 * DAY


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (0, ZERO_ADDRESS, "staking: zero token"),
        (1, ZERO_ADDRESS, "staking: zero owner"),
        (2, 0, "staking: unbonding out of bounds"),
        (2, YEAR + 1, "staking: unbonding out of bounds"),
        (3, 0, "staking: max lock out of bounds"),
        (3, YEAR + 1, "staking: max lock out of bounds"),
        (4, 0, "staking: commission delay out of bounds"),
        (4, YEAR + 1, "staking: commission delay out of bounds"),
    ],
)
def test_init__out_of_bounds__reverts(suite: Suite, position: int, value: Any, reason: str) -> None:
    arguments = [suite.token.address, suite.owner, DAY, DAY, DAY]
    arguments[position] = value
    with boa.reverts(reason):
        deployer_of("Staking").deploy(*arguments)


@pytest.mark.parametrize(
    ("position", "value"), [(2, 1), (2, YEAR), (3, 1), (3, YEAR), (4, 1), (4, YEAR)]
)
def test_init__at_the_bounds(suite: Suite, position: int, value: Any) -> None:
    arguments = [suite.token.address, suite.owner, DAY, DAY, DAY]
    arguments[position] = value
    staking = deployer_of("Staking").deploy(*arguments)
    stored = [staking.UNBONDING(), staking.MAX_LOCK(), staking.COMMISSION_DELAY()]
    assert stored == arguments[2:]
    assert staking.TOKEN() == suite.token.address
    assert staking.owner() == suite.owner
    assert staking.eip712Domain()[1:5] == ("Teraproof", "1", 1, staking.address)


@pytest.mark.parametrize("name", ["transfer_ownership", "renounce_ownership"])
def test_surface__ownership_cannot_move(staking: Contract, name: str) -> None:
    assert not hasattr(staking, name)
