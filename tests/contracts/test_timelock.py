# SPDX-License-Identifier: Apache-2.0
"""The timelock as owner of the suite: real proposals wait, then act; nothing goes around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import event, now, pass_time
from tests.contracts.deploy import DAY, LOCK, Contract, Suite, address_of, deploy_suite, deployer_of

DELAY = 2 * DAY
NOTHING = bytes(32)
SALT = b"\x01" * 32


@pytest.fixture(scope="module")
def timelock() -> Contract:
    """Anyone may execute what waited long enough."""
    anyone = "0x" + "00" * 20
    return deployer_of("Timelock").deploy(DELAY, [address_of("proposer")], [anyone])


@pytest.fixture(scope="module")
def governed(timelock: Contract) -> Suite:
    return deploy_suite(owner=str(timelock.address), with_holder=False)


@pytest.fixture
def schedule(timelock: Contract) -> Callable[..., Any]:
    """Propose one call; returns the arguments with which it is executed."""

    def propose(
        target: Any, payload: Any, delay: Any = DELAY, sender: str | None = None
    ) -> tuple[Any, ...]:
        timelock.schedule(
            target.address,
            0,
            payload,
            NOTHING,
            SALT,
            delay,
            sender=sender or address_of("proposer"),
        )
        return target.address, 0, payload, NOTHING, SALT

    return propose


def test_execute__parameter_change_after_the_delay(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any], stranger: str
) -> None:
    call = schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400))
    pass_time(DELAY)
    timelock.execute(*call, sender=stranger)
    assert event(timelock, "FeeChanged") == {"fee_bps": 400}
    assert governed.jobs.fee_bps() == 400


def test_execute__before_the_delay__reverts(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    call = schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400))
    pass_time(DELAY - 1)
    with boa.reverts("timelock_controller: operation is not ready"):
        timelock.execute(*call)
    assert governed.jobs.fee_bps() == governed.parameters.fee_bps


def test_execute__twice__reverts(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    call = schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400))
    pass_time(DELAY)
    timelock.execute(*call)
    with boa.reverts("timelock_controller: operation is not ready"):
        timelock.execute(*call)


def test_execute__bounds_hold_for_the_timelock_too(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    call = schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(1_001))
    pass_time(DELAY)
    with boa.reverts("config: fee out of bounds"):
        timelock.execute(*call)


def test_schedule__announce_manager__second_delay_starts_at_execution(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    newcomer = address_of("newcomer")
    staking = governed.staking
    call = schedule(staking, staking.announce_manager.prepare_calldata(newcomer, LOCK))
    pass_time(DELAY)
    timelock.execute(*call)
    assert staking.manager_of(newcomer) == (LOCK, now() + staking.MANAGER_DELAY(), 0)


def test_schedule__set_minter(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    minter = address_of("minter")
    call = schedule(governed.token, governed.token.set_minter.prepare_calldata(minter))
    pass_time(DELAY)
    timelock.execute(*call)
    assert governed.token.minter() == minter


def test_schedule__unpause_by_the_owner(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    governed.jobs.pause(7 * DAY, sender=governed.guardian)
    call = schedule(governed.jobs, governed.jobs.unpause.prepare_calldata())
    pass_time(DELAY)
    timelock.execute(*call)
    assert governed.jobs.paused_until() == 0


def test_schedule__too_short_delay__reverts(governed: Suite, schedule: Callable[..., Any]) -> None:
    with boa.reverts("timelock_controller: insufficient delay"):
        schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400), delay=DELAY - 1)


def test_schedule__not_a_proposer__reverts(
    governed: Suite, schedule: Callable[..., Any], stranger: str
) -> None:
    with boa.reverts("access_control: account is missing role"):
        schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400), sender=stranger)


def test_cancel__by_a_proposer(
    timelock: Contract, governed: Suite, schedule: Callable[..., Any]
) -> None:
    call = schedule(governed.jobs, governed.jobs.set_fee.prepare_calldata(400))
    operation = timelock.hash_operation(*call)
    timelock.cancel(operation, sender=address_of("proposer"))
    pass_time(DELAY)
    with boa.reverts("timelock_controller: operation is not ready"):
        timelock.execute(*call)


def test_update_delay__only_by_a_proposal(timelock: Contract, schedule: Callable[..., Any]) -> None:
    with boa.reverts("timelock_controller: caller must be timelock"):
        timelock.update_delay(1, sender=address_of("proposer"))
    call = schedule(timelock, timelock.update_delay.prepare_calldata(3 * DAY))
    pass_time(DELAY)
    timelock.execute(*call)
    assert timelock.get_minimum_delay() == 3 * DAY


def test_roles__nobody_administers_but_the_timelock(timelock: Contract) -> None:
    admin = timelock.DEFAULT_ADMIN_ROLE()
    assert timelock.hasRole(admin, timelock.address)
    for role in ("deployer", "proposer", "owner"):
        assert not timelock.hasRole(admin, address_of(role))
    assert not timelock.hasRole(admin, boa.env.eoa)
    with boa.reverts("access_control: account is missing role"):
        timelock.grantRole(
            timelock.PROPOSER_ROLE(), address_of("stranger"), sender=address_of("proposer")
        )
