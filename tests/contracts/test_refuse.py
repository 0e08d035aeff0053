# SPDX-License-Identifier: Apache-2.0
"""`refuse`: the tenant of a refusable order burns its own price and the collateral with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.terms import Judged, Record, Status, Terms
from tests.contracts.actions import (
    ORDER,
    RECEIPT,
    RESULT,
    Provider,
    accept,
    assigned,
    attest,
    attested,
    event,
    go_to,
    hire,
    now,
    order,
    pass_time,
    post,
)
from tests.contracts.deploy import DAY, TPF, USD, Contract, Suite

BURNED = "0x000000000000000000000000000000000000dEaD"
REFUSABLE = order(judged=Judged.REFUSABLE)
PRICE = 10 * USD


@pytest.fixture
def deal(suite: Suite, requester: str, provider: Provider) -> tuple[Terms, Record]:
    """An attested job that can be refused: terms and record."""
    return attested(suite, requester, provider, REFUSABLE)


@pytest.fixture
def refuse(jobs: Contract) -> Callable[..., Any]:
    return lambda terms, record, sender: jobs.refuse(
        terms.abi_tuple(), record.abi_tuple(), sender=sender
    )


# ---------------------------------------------------------------- what it does


def test_refuse__burns_price_and_collateral(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    token: Contract,
    payment: Contract,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    terms, record = deal
    supply, held = token.totalSupply(), payment.balanceOf(jobs.address)
    refuse(terms, record, requester)
    assert event(jobs, "Refused") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "burned": PRICE,
        "seized": ORDER.collateral,
    }
    assert jobs.state(terms.job_id()) == jobs.status(terms.job_id()) == Status.REFUSED
    # The price: out of reach for everybody, and nothing left the contract (I-1).
    assert jobs.credit_of(BURNED) == PRICE
    assert payment.balanceOf(jobs.address) == held
    # The collateral: destroyed whole, from the owner's own stake.
    assert token.totalSupply() == supply - ORDER.collateral
    assert staking.owner_assets(provider.owner) == 1_000 * TPF - ORDER.collateral
    assert staking.lock_of(jobs.address, provider.owner, terms.job_id()) == (0, 0)


@pytest.mark.invariant("I-12")
def test_refuse__nobody_is_paid(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    """I-12: neither the tenant, nor the provider, nor the treasury, nor a hunter."""
    before = jobs.credit_of(requester)
    refuse(*deal, requester)
    assert jobs.credit_of(requester) == before == ORDER.max_price - PRICE
    assert jobs.credit_of(provider.payout) == jobs.accrued_fees() == 0
    for account in (requester, provider.owner, provider.payout, provider.operator.address):
        assert staking.credit_of(account) == 0


@pytest.mark.invariant("I-5")
def test_refuse__price_of_the_assignment(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, refuse: Callable[..., Any]
) -> None:
    """I-5: what was refunded at the acceptance and what is burned are the escrow."""
    terms = post(suite, requester, REFUSABLE)
    pass_time(500)
    price = accept(suite, provider, terms)
    pass_time(400)
    refuse(terms, attest(suite, provider, terms), requester)
    assert jobs.credit_of(BURNED) == price == 25 * USD
    assert jobs.credit_of(requester) == ORDER.max_price - price


def test_refuse__without_collateral__burns_the_price(
    suite: Suite,
    jobs: Contract,
    token: Contract,
    requester: str,
    provider: Provider,
    refuse: Callable[..., Any],
) -> None:
    supply = token.totalSupply()
    terms, record = attested(suite, requester, provider, replace(REFUSABLE, collateral=0))
    refuse(terms, record, requester)
    assert event(jobs, "Refused")["seized"] == 0
    assert jobs.credit_of(BURNED) == PRICE
    assert token.totalSupply() == supply


def test_refuse__free_of_charge__burns_the_collateral(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, refuse: Callable[..., Any]
) -> None:
    terms, record = attested(suite, requester, provider, replace(REFUSABLE, start_price=0))
    refuse(terms, record, requester)
    assert event(jobs, "Refused")["burned"] == 0
    assert event(jobs, "Refused")["seized"] == ORDER.collateral
    assert jobs.credit_of(BURNED) == 0


@pytest.mark.invariant("I-4")
def test_refuse__delegators_lose_nothing(
    suite: Suite,
    staking: Contract,
    requester: str,
    provider: Provider,
    delegator: str,
    refuse: Callable[..., Any],
) -> None:
    """I-4: what the owner put up is the owner's own."""
    staking.delegate(provider.owner, 500 * TPF, sender=delegator)
    before = staking.assets_of(provider.owner, delegator)
    refuse(*attested(suite, requester, provider, REFUSABLE), requester)
    assert staking.assets_of(provider.owner, delegator) == before


def test_refuse__twice_burns_twice(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, refuse: Callable[..., Any]
) -> None:
    for nonce in range(2):
        refuse(*attested(suite, requester, provider, replace(REFUSABLE, nonce=nonce)), requester)
    assert jobs.credit_of(BURNED) == 2 * PRICE


def test_refuse__wiped_provider_and_removed_manager__still_burns_the_price(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    provider: Provider,
    manager: str,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    staking.slash(provider.owner, bytes(32), 2**200, sender=manager)
    staking.remove_manager(jobs.address, sender=suite.owner)
    refuse(*deal, requester)
    assert jobs.credit_of(BURNED) == PRICE


def test_refuse__under_a_pause(
    suite: Suite,
    jobs: Contract,
    requester: str,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    jobs.pause(DAY, sender=suite.guardian)
    refuse(*deal, requester)
    assert jobs.status(deal[0].job_id()) == Status.REFUSED


# --------------------------------------------------------------- who, when, what


@pytest.mark.parametrize("late", [False, True])
def test_refuse__window__exact(
    jobs: Contract,
    requester: str,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
    late: bool,
) -> None:
    terms, record = deal
    go_to(terms.finalizable_after(record.attested_at) + late)
    if late:
        with boa.reverts("jobs: challenge window is over"):
            refuse(terms, record, requester)
        jobs.finalize(terms.abi_tuple(), record.abi_tuple())
    else:
        refuse(terms, record, requester)


def test_refuse__forged_time_of_the_attestation__reverts(
    requester: str, deal: tuple[Terms, Record], refuse: Callable[..., Any]
) -> None:
    terms, record = deal
    pass_time(terms.challenge_window + 1)
    with boa.reverts("jobs: not the attested record"):
        refuse(terms, replace(record, attested_at=now()), requester)


def test_refuse__unauthorized__reverts(
    suite: Suite,
    provider: Provider,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
    stranger: str,
) -> None:
    for caller in (
        stranger,
        provider.owner,
        provider.operator.address,
        suite.owner,
        suite.guardian,
    ):
        with boa.reverts("jobs: caller is not the requester"):
            refuse(*deal, caller)


def test_refuse__trusted_order__reverts(
    suite: Suite, requester: str, provider: Provider, refuse: Callable[..., Any]
) -> None:
    terms, record = attested(suite, requester, provider)
    with boa.reverts("jobs: order without refusal"):
        refuse(terms, record, requester)
    # Saying that it was refusable names another job.
    with boa.reverts("jobs: not attested"):
        refuse(replace(terms, order=REFUSABLE), record, requester)


def test_refuse__hired_job__reverts(
    suite: Suite, requester: str, provider: Provider, refuse: Callable[..., Any]
) -> None:
    """Who hires by a quote has chosen whom it trusts."""
    terms = hire(suite, requester, provider)
    assert terms.order.judged == Judged.TRUSTED
    record = attest(suite, provider, terms)
    with boa.reverts("jobs: order without refusal"):
        refuse(terms, record, requester)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": BURNED},
        {"assigned_at": 1},
        {"paused": 1},
        {"attestation": bytes(32)},
    ],
)
def test_refuse__forged_record__reverts(
    requester: str, deal: tuple[Terms, Record], refuse: Callable[..., Any], change: Any
) -> None:
    terms, record = deal
    with boa.reverts("jobs: not the attested record"):
        refuse(terms, replace(record, **change), requester)
    refuse(terms, record, requester)


def test_refuse__not_attested__reverts(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    _, record = deal
    opened = post(suite, requester, replace(REFUSABLE, nonce=1))
    working = assigned(suite, requester, provider, replace(REFUSABLE, nonce=2))
    for terms in (opened, working):
        with boa.reverts("jobs: not attested"):
            refuse(terms, record, requester)


@pytest.mark.invariant("I-10")
@pytest.mark.parametrize("first", ["approve", "refuse"])
def test_refuse__ends_once(
    jobs: Contract, requester: str, deal: tuple[Terms, Record], first: str
) -> None:
    """I-10: no edge leads out of SETTLED or REFUSED."""
    terms, record = deal
    getattr(jobs, first)(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    for method in ("approve", "refuse"):
        with boa.reverts("jobs: not attested"):
            getattr(jobs, method)(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    with boa.reverts("jobs: not assigned"):
        jobs.expire(terms.abi_tuple())
    with boa.reverts("jobs: not open"):
        jobs.cancel(terms.abi_tuple(), sender=requester)
    pass_time(terms.challenge_window + 1)
    with boa.reverts("jobs: not attested"):
        jobs.finalize(terms.abi_tuple(), record.abi_tuple())


def test_refuse__no_attestation_after_it(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    refuse: Callable[..., Any],
) -> None:
    terms, record = deal
    refuse(terms, record, requester)
    with boa.reverts("jobs: not assigned"):
        jobs.attest(terms.abi_tuple(), RESULT, RECEIPT, 1, 2, b"", sender=provider.operator.address)


@pytest.mark.invariant("I-2", "I-15")
def test_refusable__not_refused__is_paid_like_any_other(
    suite: Suite, jobs: Contract, provider: Provider, deal: tuple[Terms, Record]
) -> None:
    """I-2, I-15: with a tenant that does nothing the provider is paid."""
    terms, record = deal
    pass_time(terms.challenge_window + 1)
    jobs.finalize(terms.abi_tuple(), record.abi_tuple())
    assert jobs.credit_of(provider.payout) == PRICE - PRICE * 250 // 10_000


# ------------------------------------------------------------------------- post


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (2, "jobs: unknown way to judge"),
        (2**128, "jobs: unknown way to judge"),
        (2**128 + 1, "jobs: no court"),
        (2**256 - 1, "jobs: no court"),
    ],
)
def test_post__no_way_to_judge__reverts(
    jobs: Contract, requester: str, judged: Any, reason: str
) -> None:
    with boa.reverts(reason):
        jobs.post(order(judged=judged).abi_tuple(), sender=requester)


def test_post__judged_is_part_of_the_id(suite: Suite, requester: str) -> None:
    assert post(suite, requester).job_id() != post(suite, requester, REFUSABLE).job_id()
