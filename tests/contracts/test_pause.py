# SPDX-License-Identifier: Apache-2.0
"""The guardian's pause: new orders only, for a limited time, and not again for as long."""

from __future__ import annotations

import boa
import pytest

from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    event,
    go_to,
    hire,
    now,
    order,
    pass_time,
    post,
)
from tests.contracts.deploy import DAY, ZERO_ADDRESS, Contract, Suite

pytestmark = pytest.mark.invariant("I-2")

MAX_PAUSE = 7 * DAY


@pytest.fixture
def guardian(suite: Suite) -> str:
    return suite.guardian


def test_pause__stops_new_orders(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str
) -> None:
    terms = post(suite, requester)
    jobs.pause(DAY, sender=guardian)
    assert event(jobs, "OrdersPaused") == {"guardian": guardian, "until": now() + DAY}
    assert jobs.paused_until() == now() + DAY
    assert jobs.next_pause() == now() + DAY + MAX_PAUSE
    for attempt in (
        lambda: jobs.post(order(nonce=1).abi_tuple(), sender=requester),
        lambda: hire(suite, requester, provider),
        lambda: accept(suite, provider, terms),
    ):
        with boa.reverts("guardian: orders are paused"):
            attempt()


def test_pause__money_in_and_out_goes_on(
    suite: Suite, jobs: Contract, requester: str, guardian: str
) -> None:
    jobs.pause(DAY, sender=guardian)
    jobs.deposit(5, sender=requester)
    assert jobs.withdraw(sender=requester) == 5


def test_pause__ends_by_itself__exact(jobs: Contract, requester: str, guardian: str) -> None:
    jobs.pause(DAY, sender=guardian)
    until = now() + DAY
    go_to(until - 1)
    with boa.reverts("guardian: orders are paused"):
        jobs.post(ORDER.abi_tuple(), sender=requester)
    go_to(until)
    jobs.post(ORDER.abi_tuple(), sender=requester)


def test_pause__not_again_for_as_long__exact(jobs: Contract, guardian: str) -> None:
    jobs.pause(MAX_PAUSE, sender=guardian)
    allowed = now() + 2 * MAX_PAUSE
    for time in (now(), now() + MAX_PAUSE, allowed - 1):
        go_to(time)
        with boa.reverts("guardian: paused too recently"):
            jobs.pause(1, sender=guardian)
    go_to(allowed)
    jobs.pause(1, sender=guardian)


@pytest.mark.parametrize("duration", [0, MAX_PAUSE + 1, 2**256 - 1])
def test_pause__out_of_bounds__reverts(jobs: Contract, guardian: str, duration: int) -> None:
    with boa.reverts("guardian: pause out of bounds"):
        jobs.pause(duration, sender=guardian)


def test_pause__unauthorized__reverts(suite: Suite, jobs: Contract, stranger: str) -> None:
    for caller in (stranger, suite.owner):
        with boa.reverts("guardian: caller is not the guardian"):
            jobs.pause(1, sender=caller)


def test_pause__lifting_early_and_pausing_again_is_no_way_around(
    jobs: Contract, guardian: str
) -> None:
    jobs.pause(1, sender=guardian)
    jobs.unpause(sender=guardian)
    with boa.reverts("guardian: paused too recently"):
        jobs.pause(1, sender=guardian)


def test_pause__forever__at_most_half_of_the_time(
    jobs: Contract, requester: str, guardian: str
) -> None:
    """A guardian that pauses whenever it can leaves windows of at least MAX_PAUSE."""
    paused = total = 0
    for _ in range(5):
        jobs.pause(MAX_PAUSE, sender=guardian)
        free_from, again = jobs.paused_until(), jobs.next_pause()
        assert again - free_from >= MAX_PAUSE
        paused, total = paused + free_from - now(), total + again - now()
        go_to(again)
    assert 2 * paused <= total


def test_unpause__by_guardian_or_owner(
    suite: Suite, jobs: Contract, requester: str, guardian: str
) -> None:
    for caller in (guardian, suite.owner):
        pass_time(2 * MAX_PAUSE)
        jobs.pause(DAY, sender=guardian)
        jobs.unpause(sender=caller)
        assert event(jobs, "OrdersUnpaused") == {"account": caller}
        assert jobs.paused_until() == 0
        jobs.post(order(nonce=now()).abi_tuple(), sender=requester)


def test_unpause__unauthorized__reverts(jobs: Contract, guardian: str, stranger: str) -> None:
    jobs.pause(DAY, sender=guardian)
    with boa.reverts("guardian: caller is not the guardian"):
        jobs.unpause(sender=stranger)


def test_set_guardian__the_limit_stays(
    suite: Suite, jobs: Contract, guardian: str, stranger: str
) -> None:
    jobs.pause(DAY, sender=guardian)
    until, allowed = jobs.paused_until(), jobs.next_pause()
    jobs.set_guardian(stranger, sender=suite.owner)
    assert event(jobs, "GuardianChanged") == {"guardian": stranger}
    assert jobs.guardian() == stranger
    assert (jobs.paused_until(), jobs.next_pause()) == (until, allowed)
    with boa.reverts("guardian: paused too recently"):
        jobs.pause(1, sender=stranger)
    with boa.reverts("guardian: caller is not the guardian"):
        jobs.pause(1, sender=guardian)


def test_set_guardian__zero__nobody_can_pause(suite: Suite, jobs: Contract, guardian: str) -> None:
    jobs.set_guardian(ZERO_ADDRESS, sender=suite.owner)
    with boa.reverts("guardian: caller is not the guardian"):
        jobs.pause(1, sender=guardian)


def test_set_guardian__unauthorized__reverts(jobs: Contract, guardian: str) -> None:
    with boa.reverts("ownable: caller is not the owner"):
        jobs.set_guardian(guardian, sender=guardian)
