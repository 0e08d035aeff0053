# SPDX-License-Identifier: Apache-2.0
"""`set_commission`: raises wait, lower ones work at once, and a hold keeps what was in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, event, go_to, now, pass_time, reward
from tests.contracts.deploy import DAY, IDLE, TPF, Contract, Suite

DELAY = 7 * DAY


@pytest.fixture
def set_commission(staking: Contract, provider: Provider) -> Callable[..., Any]:
    """Set the provider's commission; it starts at 10 %."""
    return lambda bps: staking.set_commission(bps, sender=provider.owner)


@pytest.fixture
def commissions(staking: Contract, provider: Provider) -> Callable[..., Any]:
    """The commission in force, and the raise that waits."""
    return lambda: (
        staking.commission_of(provider.owner),
        staking.pending_commission(provider.owner),
    )


def test_set_commission__raise__in_force_after_the_delay(
    staking: Contract,
    provider: Provider,
    set_commission: Callable[..., Any],
    commissions: Callable[..., Any],
) -> None:
    since = now() + DELAY
    set_commission(2_000)
    assert event(staking, "CommissionChanged") == {
        "provider": provider.owner,
        "commission_bps": 2_000,
        "since": since,
    }
    assert commissions() == (1_000, (2_000, since))
    go_to(since - 1)
    assert commissions() == (1_000, (2_000, since))
    go_to(since)
    assert commissions() == (2_000, (0, 0))


@pytest.mark.parametrize("bps", [0, 999, 1_000])
def test_set_commission__not_higher__at_once(
    staking: Contract,
    provider: Provider,
    set_commission: Callable[..., Any],
    commissions: Callable[..., Any],
    bps: int,
) -> None:
    set_commission(bps)
    assert event(staking, "CommissionChanged")["since"] == now()
    assert commissions() == (bps, (0, 0))
    pass_time(2 * DELAY)
    assert commissions() == (bps, (0, 0))


def test_set_commission__lower_while_a_raise_waits__drops_the_raise(
    set_commission: Callable[..., Any], commissions: Callable[..., Any]
) -> None:
    set_commission(5_000)
    pass_time(DAY)
    set_commission(900)
    pass_time(30 * DAY)
    assert commissions() == (900, (0, 0))


@pytest.mark.parametrize("bps", [3_000, 6_000])
def test_set_commission__raise_while_a_raise_waits__replaces_it(
    set_commission: Callable[..., Any], commissions: Callable[..., Any], bps: int
) -> None:
    """Also by a smaller raise: it waits from now on, and what is in force stays."""
    set_commission(5_000)
    pass_time(DELAY - 1)
    set_commission(bps)
    since = now() + DELAY
    assert commissions() == (1_000, (bps, since))
    go_to(since - 1)
    assert commissions()[0] == 1_000
    go_to(since)
    assert commissions() == (bps, (0, 0))


def test_set_commission__raise_after_a_raise__needs_its_own_delay(
    set_commission: Callable[..., Any], commissions: Callable[..., Any]
) -> None:
    set_commission(2_000)
    pass_time(DELAY)
    set_commission(10_000)
    assert commissions() == (2_000, (10_000, now() + DELAY))


def test_set_commission__above_100_percent__reverts(set_commission: Callable[..., Any]) -> None:
    set_commission(10_000)
    with boa.reverts("staking: commission above 100 %"):
        set_commission(10_001)


def test_set_commission__not_registered__reverts(
    staking: Contract, provider: Provider, stranger: str
) -> None:
    for caller in (stranger, provider.operator.address, provider.payout):
        with boa.reverts("staking: not registered"):
            staking.set_commission(0, sender=caller)


def test_set_commission__keeps_the_payout_address(
    staking: Contract, provider: Provider, set_commission: Callable[..., Any]
) -> None:
    set_commission(1)
    assert staking.payout_of(provider.owner) == provider.payout


def test_set_payout__keeps_the_commission_and_its_raise(
    staking: Contract,
    provider: Provider,
    set_commission: Callable[..., Any],
    commissions: Callable[..., Any],
) -> None:
    set_commission(2_000)
    before = commissions()
    staking.set_payout(provider.owner, sender=provider.owner)
    assert commissions() == before


# ------------------------------------------------------------ the commission of a hold


def paid(suite: Suite, provider: Provider) -> Any:
    """What the payout address gets of a reward of 100 TPF, in TPF."""
    before = suite.staking.credit_of(provider.payout)
    reward(suite, provider.owner, 100 * TPF)
    # What virtual shares would take is a few wei of a million.
    return round((suite.staking.credit_of(provider.payout) - before) / TPF, 6)


def test_hold__keeps_the_commission_of_the_last_commit(
    suite: Suite, staking: Contract, provider: Provider, set_commission: Callable[..., Any]
) -> None:
    """P10: a raise after the work was done does not reach back, however late it is claimed."""
    set_commission(5_000)
    suite.holder.set_manner(IDLE)
    suite.holder.hold(provider.operator.address)
    assert event(suite.holder, "Held") == {
        "provider": provider.owner,
        "manager": suite.holder.address,
        "commission_bps": 1_000,
    }
    pass_time(10 * DELAY)
    assert staking.commission_of(provider.owner) == 5_000
    assert paid(suite, provider) == 10
    # The next epoch pays what is in force, as the hold is over.
    assert paid(suite, provider) == 50


def test_hold__lowered_after_the_commit__the_epoch_keeps_its_own(
    suite: Suite, provider: Provider, set_commission: Callable[..., Any]
) -> None:
    suite.holder.hold(provider.operator.address)
    set_commission(0)
    assert paid(suite, provider) == 10
    assert paid(suite, provider) == 0


def test_hold__again__keeps_the_commission_of_now(
    suite: Suite, provider: Provider, set_commission: Callable[..., Any]
) -> None:
    suite.holder.hold(provider.operator.address)
    set_commission(300)
    suite.holder.hold(provider.operator.address)
    set_commission(0)
    assert paid(suite, provider) == 3


def test_hold__raise_in_force_at_the_commit__counts(
    suite: Suite, provider: Provider, set_commission: Callable[..., Any]
) -> None:
    set_commission(2_000)
    pass_time(DELAY)
    suite.holder.hold(provider.operator.address)
    assert paid(suite, provider) == 20
