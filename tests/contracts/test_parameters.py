# SPDX-License-Identifier: Apache-2.0
"""Parameters and constructor of Jobs: hard bounds, owner only, future deals only (I-11)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, attested, event, order, post
from tests.contracts.deploy import (
    DAY,
    USD,
    ZERO_ADDRESS,
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_jobs,
    deploy_staking,
    deployer_of,
)

pytestmark = pytest.mark.invariant("I-11")


def test_set_fee__bounds(suite: Suite, jobs: Contract) -> None:
    for bps in (0, 1_000):
        jobs.set_fee(bps, sender=suite.owner)
        assert event(jobs, "FeeChanged") == {"fee_bps": bps}
        assert jobs.fee_bps() == bps
    for bps in (1_001, 2**256 - 1):
        with boa.reverts("config: fee out of bounds"):
            jobs.set_fee(bps, sender=suite.owner)


def test_set_challenge_window__bounds(suite: Suite, jobs: Contract) -> None:
    for seconds in (10, 14 * DAY):
        jobs.set_challenge_window(seconds, sender=suite.owner)
        assert event(jobs, "ChallengeWindowChanged") == {"seconds": seconds}
        assert jobs.challenge_window() == seconds
    for seconds in (0, 9, 14 * DAY + 1, 2**32):
        with boa.reverts("config: challenge window out of bounds"):
            jobs.set_challenge_window(seconds, sender=suite.owner)


def test_set_treasury__changes_and_refuses_zero(
    suite: Suite, jobs: Contract, stranger: str
) -> None:
    jobs.set_treasury(stranger, sender=suite.owner)
    assert event(jobs, "TreasuryChanged") == {"treasury": stranger}
    assert jobs.treasury() == stranger
    with boa.reverts("escrow: zero treasury"):
        jobs.set_treasury(ZERO_ADDRESS, sender=suite.owner)


@pytest.mark.parametrize(
    ("method", "argument"),
    [("set_fee", 1), ("set_challenge_window", 60), ("set_treasury", address_of("stranger"))],
)
def test_setters__unauthorized__reverts(
    suite: Suite, jobs: Contract, stranger: str, method: str, argument: Any
) -> None:
    for caller in (stranger, suite.guardian, suite.treasury, suite.deployer):
        with boa.reverts("ownable: caller is not the owner"):
            getattr(jobs, method)(argument, sender=caller)


def test_config__each_part_keeps_the_others(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms, record = attested(suite, requester, provider)
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    fees = jobs.accrued_fees()
    assert fees == 250_000
    jobs.set_fee(1_000, sender=suite.owner)
    jobs.set_challenge_window(14 * DAY, sender=suite.owner)
    assert (jobs.fee_bps(), jobs.challenge_window(), jobs.accrued_fees()) == (
        1_000,
        14 * DAY,
        fees,
    )
    jobs.set_fee(0, sender=suite.owner)
    assert (jobs.fee_bps(), jobs.challenge_window(), jobs.accrued_fees()) == (0, 14 * DAY, fees)


def test_terms__parameters_of_the_post(suite: Suite, jobs: Contract, requester: str) -> None:
    jobs.set_fee(7, sender=suite.owner)
    jobs.set_challenge_window(70, sender=suite.owner)
    terms = post(suite, requester)
    assert (terms.fee_bps, terms.challenge_window) == (7, 70)


def test_accrued_fees__largest_deal(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    jobs.set_fee(1_000, sender=suite.owner)
    largest = 2**120 - 1
    terms, record = attested(
        suite, requester, provider, order(start_price=largest, max_price=largest)
    )
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert jobs.accrued_fees() == largest // 10
    assert jobs.credit_of(provider.payout) == largest - largest // 10
    assert (jobs.fee_bps(), jobs.challenge_window()) == (1_000, DAY)


# ----------------------------------------------------------------- constructor


def deploy(suite: Suite, **changes: Any) -> Contract:
    """Deploy Jobs with some arguments changed, by name of the constructor's parameter."""
    arguments = {
        "payment_token": suite.payment.address,
        "staking": suite.staking.address,
        "scores": ZERO_ADDRESS,
        "court": ZERO_ADDRESS,
        "owner": suite.owner,
        "initial_guardian": suite.guardian,
        "treasury": suite.treasury,
        "fee_bps": 0,
        "challenge_window": DAY,
        "open_margin": 3_600,
        "lock_margin": DAY,
        "victim_bps": 5_000,
        "bounty_bps": 1_000,
    } | changes
    return deployer_of("Jobs").deploy(*arguments.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payment_token": ZERO_ADDRESS}, "escrow: zero payment token"),
        ({"staking": ZERO_ADDRESS}, "collateral: zero staking"),
        ({"owner": ZERO_ADDRESS}, "jobs: zero owner"),
        ({"treasury": ZERO_ADDRESS}, "escrow: zero treasury"),
        ({"fee_bps": 1_001}, "config: fee out of bounds"),
        ({"challenge_window": 9}, "config: challenge window out of bounds"),
        ({"challenge_window": 14 * DAY + 1}, "config: challenge window out of bounds"),
        ({"open_margin": 0}, "jobs: open margin out of bounds"),
        ({"open_margin": 30 * DAY + 1}, "jobs: open margin out of bounds"),
        ({"victim_bps": 10_001}, "collateral: victim share above 100 %"),
        ({"bounty_bps": 5_001}, "collateral: bounty above half"),
        ({"lock_margin": 0}, "collateral: zero lock margin"),
        ({"lock_margin": 46 * DAY}, "collateral: locks too short"),
    ],
)
def test_init__out_of_bounds__reverts(suite: Suite, changes: Any, reason: str) -> None:
    with boa.reverts(reason):
        deploy(suite, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"fee_bps": 1_000},
        {"challenge_window": 10},
        {"challenge_window": 14 * DAY},
        {"open_margin": 1},
        {"open_margin": 30 * DAY},
        {"victim_bps": 10_000, "bounty_bps": 5_000},
        {"victim_bps": 0, "bounty_bps": 0},
        {"lock_margin": 1},
        {"lock_margin": 46 * DAY - 1},
        {"initial_guardian": ZERO_ADDRESS},
    ],
)
def test_init__at_the_bounds(suite: Suite, changes: Any) -> None:
    jobs = deploy(suite, **changes)
    for name, getter in {
        "fee_bps": jobs.fee_bps,
        "challenge_window": jobs.challenge_window,
        "open_margin": jobs.OPEN_MARGIN,
        "lock_margin": jobs.LOCK_MARGIN,
        "victim_bps": jobs.VICTIM_BPS,
        "bounty_bps": jobs.BOUNTY_BPS,
        "initial_guardian": jobs.guardian,
    }.items():
        if name in changes:
            assert getter() == changes[name]


def test_init__wiring_can_be_read(suite: Suite, jobs: Contract) -> None:
    assert jobs.PAYMENT_TOKEN() == suite.payment.address
    assert jobs.STAKING() == suite.staking.address
    assert jobs.treasury() == suite.treasury
    assert jobs.guardian() == suite.guardian
    assert jobs.owner() == suite.owner
    assert jobs.MAX_FEE_BPS() == 1_000
    assert (jobs.MIN_CHALLENGE_WINDOW(), jobs.MAX_CHALLENGE_WINDOW()) == (10, 14 * DAY)
    assert (jobs.MAX_AUCTION(), jobs.MAX_PAUSE()) == (30 * DAY, 7 * DAY)
    assert jobs.eip712Domain()[1:5] == ("Teraproof", "1", 1, jobs.address)


def test_init__shortest_locks__no_job_outlives_its_lock(suite: Suite, requester: str) -> None:
    """With the tightest locks that the constructor takes and the widest window, one second of
    work is left, and a job can be posted for it.
    """
    parameters = replace(
        Parameters(), max_lock=14 * DAY + 2, lock_margin=1, challenge_window=14 * DAY
    )
    staking = deploy_staking(suite.token, suite.owner, parameters, suite.deployer)
    jobs = deploy_jobs(
        suite.payment,
        staking,
        suite.owner,
        parameters,
        guardian=suite.guardian,
        treasury=suite.treasury,
    )
    suite.payment.approve(jobs.address, 100 * USD, sender=requester)
    with boa.reverts("jobs: duration too long"):
        jobs.post(order(duration=2).abi_tuple(), sender=requester)
    jobs.post(order(duration=1).abi_tuple(), sender=requester)


@pytest.mark.parametrize("name", ["transfer_ownership", "renounce_ownership"])
def test_surface__ownership_cannot_move(jobs: Contract, name: str) -> None:
    assert not hasattr(jobs, name)
