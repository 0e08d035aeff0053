# SPDX-License-Identifier: Apache-2.0
"""`set_commission`: raises wait, lower ones work at once, and no past epoch ever pays more."""

import boa
import pytest

from tests.contracts.actions import event, now, pass_time
from tests.contracts.deploy import DAY, TPF

DELAY = 7 * DAY


@pytest.fixture
def set_commission(staking, provider):
    """Set the provider's commission; it starts at 10 %."""
    return lambda bps: staking.set_commission(bps, sender=provider.owner)


def test_set_commission__raise__in_force_after_the_delay(staking, provider, set_commission):
    announced = now()
    set_commission(2_000)
    assert event(staking, "CommissionChanged") == {
        "provider": provider.owner,
        "commission_bps": 2_000,
        "since": announced + DELAY,
    }
    assert staking.commission_at(provider.owner, announced) == 1_000
    assert staking.commission_at(provider.owner, announced + DELAY - 1) == 1_000
    assert staking.commission_at(provider.owner, announced + DELAY) == 2_000


def test_set_commission__lower__at_once_and_for_unclaimed_epochs(staking, provider, set_commission):
    pass_time(DAY)
    set_commission(300)
    assert event(staking, "CommissionChanged")["since"] == now()
    assert staking.commission_at(provider.owner, now() - DAY) == 300
    assert staking.commission_at(provider.owner, now()) == 300
    assert staking.commission_at(provider.owner, now() + 10 * DAY) == 300


def test_set_commission__lower_while_a_raise_waits__drops_the_raise(
    staking, provider, set_commission
):
    set_commission(5_000)
    pass_time(DAY)
    set_commission(900)
    assert staking.commission_at(provider.owner, now() - DAY) == 900
    assert staking.commission_at(provider.owner, now() + 30 * DAY) == 900


def test_set_commission__raise_while_a_raise_waits__starts_the_delay_anew(
    staking, provider, set_commission
):
    set_commission(5_000)
    pass_time(DELAY - 1)
    set_commission(6_000)
    assert event(staking, "CommissionChanged")["since"] == now() + DELAY
    assert staking.commission_at(provider.owner, now() + DELAY - 1) == 1_000
    assert staking.commission_at(provider.owner, now() + DELAY) == 6_000


def test_set_commission__raise_soon_after_a_raise__reverts(staking, provider, set_commission):
    set_commission(2_000)
    pass_time(2 * DELAY - 1)
    with boa.reverts("staking: commission was raised too recently"):
        set_commission(2_001)
    pass_time(1)
    set_commission(2_001)
    assert staking.commission_at(provider.owner, now()) == 2_000
    assert staking.commission_at(provider.owner, now() + DELAY) == 2_001


@pytest.mark.parametrize("second", [9_999, 10_000])
def test_set_commission__again_once_a_raise_is_in_force__past_epochs_keep_theirs(
    staking, provider, set_commission, second
):
    """Regression: setting it a second time made the raise reach back to epochs before it."""
    earned_at = now()
    set_commission(10_000)
    pass_time(DELAY)
    set_commission(second)
    assert staking.commission_at(provider.owner, earned_at) == 1_000
    assert staking.commission_at(provider.owner, now()) == second


def test_set_commission__above_100_percent__reverts(set_commission):
    set_commission(10_000)
    with boa.reverts("staking: commission above 100 %"):
        set_commission(10_001)


def test_set_commission__not_registered__reverts(staking, stranger):
    with boa.reverts("staking: not registered"):
        staking.set_commission(0, sender=stranger)


def test_set_commission__keeps_the_payout_address(staking, provider, set_commission):
    set_commission(1)
    assert staking.payout_of(provider.owner) == provider.payout


def test_set_payout__keeps_the_commission_and_its_history(staking, provider, set_commission):
    set_commission(2_000)
    staking.set_payout(provider.owner, sender=provider.owner)
    assert staking.commission_at(provider.owner, now()) == 1_000
    assert staking.commission_at(provider.owner, now() + DELAY) == 2_000


def test_reward__earned_before_a_raise__pays_the_old_commission(
    staking, provider, set_commission, manager
):
    earned_at = now()
    set_commission(5_000)
    pass_time(DELAY)
    staking.reward(provider.owner, 100 * TPF, earned_at, sender=manager)
    assert staking.credit_of(provider.payout) == 10 * TPF
    staking.reward(provider.owner, 100 * TPF, now(), sender=manager)
    assert staking.credit_of(provider.payout) == 60 * TPF
