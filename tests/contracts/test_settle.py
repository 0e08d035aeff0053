# SPDX-License-Identifier: Apache-2.0
"""`approve`, `finalize`, `expire`: one end for each job, and the sum is the escrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.terms import Record, Status, Terms
from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    assigned,
    attest,
    attested,
    event,
    events,
    go_to,
    now,
    order,
    pass_time,
    plain,
    post,
)
from tests.contracts.deploy import DAY, TPF, USD, Contract, Suite, address_of, deployer_of

pytestmark = pytest.mark.invariant("I-5", "I-10")

WINDOW = DAY
PRICE = 10 * USD
FEE = PRICE * 250 // 10_000


@pytest.fixture
def deal(suite: Suite, requester: str, provider: Provider) -> tuple[Terms, Record]:
    """An attested job: terms and record."""
    return attested(suite, requester, provider)


@pytest.fixture
def approve(jobs: Contract) -> Callable[..., Any]:
    return lambda terms, record, sender: jobs.approve(
        terms.abi_tuple(), record.abi_tuple(), sender=sender
    )


@pytest.fixture
def finalize(jobs: Contract, stranger: str) -> Callable[..., Any]:
    return lambda terms, record: jobs.finalize(
        terms.abi_tuple(), record.abi_tuple(), sender=stranger
    )


# -------------------------------------------------------------------- approve


def test_approve__pays_provider_and_fee(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    approve: Callable[..., Any],
) -> None:
    terms, record = deal
    approve(terms, record, requester)
    assert event(jobs, "Settled") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "paid": PRICE - FEE,
        "fee": FEE,
    }
    assert jobs.state(terms.job_id()) == Status.SETTLED
    assert jobs.credit_of(provider.payout) == PRICE - FEE
    assert jobs.accrued_fees() == FEE
    # The rest of the escrow came back at the assignment.
    assert jobs.credit_of(requester) == ORDER.max_price - PRICE
    assert staking.lock_of(jobs.address, provider.owner, terms.job_id()) == (0, 0)
    assert staking.pool(provider.owner)[1] == 0


def test_approve__not_the_requester__reverts(
    provider: Provider, deal: tuple[Terms, Record], approve: Callable[..., Any], stranger: str
) -> None:
    for caller in (stranger, provider.owner, provider.operator.address):
        with boa.reverts("jobs: caller is not the requester"):
            approve(*deal, caller)


def test_approve__forged_requester__reverts(
    deal: tuple[Terms, Record], approve: Callable[..., Any], stranger: str
) -> None:
    terms, record = deal
    with boa.reverts("jobs: not attested"):
        approve(replace(terms, requester=stranger), record, stranger)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": address_of("stranger")},
        {"assigned_at": 1},
        {"attested_at": 1},
        {"attestation": bytes(32)},
    ],
)
def test_approve__another_record__reverts(
    requester: str, deal: tuple[Terms, Record], approve: Callable[..., Any], change: Any
) -> None:
    terms, record = deal
    with boa.reverts("jobs: not the attested record"):
        approve(terms, replace(record, **change), requester)


def test_approve__twice__reverts(
    requester: str, deal: tuple[Terms, Record], approve: Callable[..., Any]
) -> None:
    approve(*deal, requester)
    with boa.reverts("jobs: not attested"):
        approve(*deal, requester)


def test_approve__before_the_attestation__reverts(
    suite: Suite,
    requester: str,
    provider: Provider,
    deal: tuple[Terms, Record],
    approve: Callable[..., Any],
) -> None:
    _, record = deal
    terms = assigned(suite, requester, provider, order(nonce=1))
    with boa.reverts("jobs: not attested"):
        approve(terms, record, requester)


def test_approve__by_a_contract_wallet(
    suite: Suite, jobs: Contract, provider: Provider, approve: Callable[..., Any]
) -> None:
    keeper = address_of("keeper")
    wallet = deployer_of("mocks/Wallet").deploy(keeper)
    suite.payment.mint(wallet.address, ORDER.max_price)
    calls = (
        (suite.payment, suite.payment.approve.prepare_calldata(jobs.address, ORDER.max_price)),
        (jobs, jobs.post.prepare_calldata(ORDER.abi_tuple())),
    )
    for target, data in calls:
        wallet.execute(target.address, data, sender=keeper)
    terms = Terms.from_abi(plain(event(wallet, "Posted")["terms"]))
    assert terms.requester == wallet.address
    accept(suite, provider, terms)
    record = attest(suite, provider, terms)
    data = jobs.approve.prepare_calldata(terms.abi_tuple(), record.abi_tuple())
    wallet.execute(jobs.address, data, sender=keeper)
    assert jobs.status(terms.job_id()) == Status.SETTLED
    wallet.execute(jobs.address, jobs.withdraw.prepare_calldata(), sender=keeper)
    assert suite.payment.balanceOf(wallet.address) == ORDER.max_price - PRICE


# ------------------------------------------------------------------- finalize


@pytest.mark.parametrize("early", [True, False])
def test_finalize__window__exact(
    jobs: Contract, deal: tuple[Terms, Record], finalize: Callable[..., Any], early: bool
) -> None:
    terms, record = deal
    go_to(terms.finalizable_after(record.attested_at) + (not early))
    if early:
        with boa.reverts("jobs: challenge window is open"):
            finalize(terms, record)
    else:
        finalize(terms, record)
        assert jobs.status(terms.job_id()) == Status.SETTLED


def test_finalize__forged_attestation_time__reverts(
    deal: tuple[Terms, Record], finalize: Callable[..., Any]
) -> None:
    terms, record = deal
    go_to(now() + WINDOW)
    with boa.reverts("jobs: not the attested record"):
        finalize(terms, replace(record, attested_at=record.attested_at - 1))


def test_finalize__forged_window__reverts(
    deal: tuple[Terms, Record], finalize: Callable[..., Any]
) -> None:
    terms, record = deal
    pass_time(1)
    with boa.reverts("jobs: not attested"):
        finalize(replace(terms, challenge_window=0), record)


def test_finalize__after_approve__reverts(
    requester: str,
    deal: tuple[Terms, Record],
    approve: Callable[..., Any],
    finalize: Callable[..., Any],
) -> None:
    approve(*deal, requester)
    pass_time(WINDOW + 1)
    with boa.reverts("jobs: not attested"):
        finalize(*deal)


def test_finalize__released_lock__still_pays(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    provider: Provider,
    deal: tuple[Terms, Record],
    finalize: Callable[..., Any],
    stranger: str,
) -> None:
    terms, record = deal
    pass_time(60 * DAY)
    staking.release(jobs.address, provider.owner, terms.job_id(), sender=stranger)
    finalize(terms, record)
    assert jobs.credit_of(provider.payout) == PRICE - FEE


def test_finalize__wiped_provider_and_removed_manager__still_pays(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    provider: Provider,
    manager: str,
    deal: tuple[Terms, Record],
    finalize: Callable[..., Any],
) -> None:
    staking.slash(provider.owner, bytes(32), 2**200, sender=manager)
    staking.remove_manager(jobs.address, sender=suite.owner)
    pass_time(WINDOW + 1)
    finalize(*deal)
    assert jobs.credit_of(provider.payout) == PRICE - FEE


def test_finalize__payout_of_the_moment(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    provider: Provider,
    deal: tuple[Terms, Record],
    finalize: Callable[..., Any],
    stranger: str,
) -> None:
    staking.set_payout(stranger, sender=provider.owner)
    pass_time(WINDOW + 1)
    finalize(*deal)
    assert jobs.credit_of(stranger) == PRICE - FEE
    assert jobs.credit_of(provider.payout) == 0


def test_finalize__under_a_pause(
    suite: Suite, jobs: Contract, deal: tuple[Terms, Record], finalize: Callable[..., Any]
) -> None:
    pass_time(WINDOW + 1)
    jobs.pause(DAY, sender=suite.guardian)
    finalize(*deal)


@pytest.mark.invariant("I-11")
def test_finalize__fee_and_window_of_the_deal(
    suite: Suite,
    jobs: Contract,
    provider: Provider,
    deal: tuple[Terms, Record],
    finalize: Callable[..., Any],
) -> None:
    """I-11: parameters changed later do not reach it."""
    jobs.set_fee(1_000, sender=suite.owner)
    jobs.set_challenge_window(14 * DAY, sender=suite.owner)
    pass_time(WINDOW + 1)
    finalize(*deal)
    assert jobs.credit_of(provider.payout) == PRICE - FEE


def test_settle__free_job__pays_nothing(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, approve: Callable[..., Any]
) -> None:
    terms, record = attested(suite, requester, provider, order(start_price=0))
    approve(terms, record, requester)
    assert event(jobs, "Settled")["paid"] == 0
    assert jobs.credit_of(provider.payout) == 0
    assert jobs.accrued_fees() == 0
    assert jobs.credit_of(requester) == ORDER.max_price


def test_settle__no_fee(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, approve: Callable[..., Any]
) -> None:
    jobs.set_fee(0, sender=suite.owner)
    terms, record = attested(suite, requester, provider)
    approve(terms, record, requester)
    assert jobs.accrued_fees() == 0
    assert jobs.credit_of(provider.payout) == PRICE


@pytest.mark.parametrize(("price", "fee"), [(39, 0), (40, 1), (79, 1), (80, 2)])
def test_settle__fee_rounds_down(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    approve: Callable[..., Any],
    price: int,
    fee: int,
) -> None:
    terms, record = attested(suite, requester, provider, order(start_price=price, max_price=price))
    approve(terms, record, requester)
    assert jobs.accrued_fees() == fee
    assert jobs.credit_of(provider.payout) == price - fee


# --------------------------------------------------------------------- expire


@pytest.mark.parametrize("early", [True, False])
def test_expire__deadline__exact(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, hunter: str, early: bool
) -> None:
    terms = assigned(suite, requester, provider)
    go_to(terms.deadline(now()) + (not early))
    if early:
        with boa.reverts("jobs: deadline not passed"):
            jobs.expire(terms.abi_tuple(), sender=hunter)
    else:
        jobs.expire(terms.abi_tuple(), sender=hunter)
        assert jobs.state(terms.job_id()) == Status.EXPIRED


def test_expire__refunds_and_seizes(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider, hunter: str
) -> None:
    terms = post(suite, requester)
    pass_time(500)
    accept(suite, provider, terms)
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple(), sender=hunter)
    assert event(jobs, "Expired") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "refund": 25 * USD,
        "seized": 100 * TPF,
    }
    # The price of the assignment and what was refunded then are the escrow.
    assert jobs.credit_of(requester) == ORDER.max_price
    assert jobs.credit_of(provider.payout) == 0
    assert jobs.accrued_fees() == 0
    assert staking.credit_of(requester) == 50 * TPF
    assert staking.credit_of(hunter) == 5 * TPF
    assert staking.owner_assets(provider.owner) == 900 * TPF


def test_expire__twice__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = assigned(suite, requester, provider)
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple())
    with boa.reverts("jobs: not assigned"):
        jobs.expire(terms.abi_tuple())


def test_expire__attested__reverts(
    suite: Suite, jobs: Contract, deal: tuple[Terms, Record]
) -> None:
    terms, _ = deal
    pass_time(ORDER.duration + 1)
    with boa.reverts("jobs: not assigned"):
        jobs.expire(terms.abi_tuple())


def test_expire__open__reverts(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    pass_time(ORDER.duration + 1)
    with boa.reverts("jobs: not assigned"):
        jobs.expire(terms.abi_tuple())


def test_expire__without_collateral__refunds(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    terms = assigned(suite, requester, provider, order(collateral=0))
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple())
    assert event(jobs, "Expired")["seized"] == 0
    assert jobs.credit_of(requester) == ORDER.max_price
    assert staking.owner_assets(provider.owner) == 1_000 * TPF


def test_expire__after_the_lock_ended__refunds_only(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    provider: Provider,
    stranger: str,
) -> None:
    terms = assigned(suite, requester, provider)
    pass_time(ORDER.duration + WINDOW + 7 * DAY)
    with boa.reverts("staking: lock has not expired"):
        staking.release(jobs.address, provider.owner, terms.job_id(), sender=stranger)
    pass_time(1)
    jobs.expire(terms.abi_tuple())
    assert event(jobs, "Expired")["seized"] == 0
    assert jobs.credit_of(requester) == ORDER.max_price
    assert staking.pool(provider.owner)[:2] == (1_000 * TPF, 0)


def test_expire__wiped_provider_and_removed_manager__refunds(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    provider: Provider,
    manager: str,
) -> None:
    terms = assigned(suite, requester, provider)
    staking.slash(provider.owner, bytes(32), 2**200, sender=manager)
    staking.remove_manager(jobs.address, sender=suite.owner)
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple())
    assert jobs.credit_of(requester) == ORDER.max_price
    assert staking.credit_of(requester) == 0


def test_expire__under_a_pause(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = assigned(suite, requester, provider)
    pass_time(ORDER.duration + 1)
    jobs.pause(DAY, sender=suite.guardian)
    jobs.expire(terms.abi_tuple())
    assert len(events(jobs, "Expired")) == 1


@pytest.mark.invariant("I-1", "I-5")
def test_settle_and_expire__together__escrow_is_conserved(
    suite: Suite,
    jobs: Contract,
    payment: Contract,
    requester: str,
    provider: Provider,
    stranger: str,
) -> None:
    """I-1 and I-5 over one job of each end."""
    ends = [order(nonce=n, collateral=0, max_price=40_000_001) for n in range(4)]
    settled, expired, cancelled, opened = (post(suite, requester, wanted) for wanted in ends)
    pass_time(333)
    accept(suite, provider, settled)
    accept(suite, provider, expired)
    record = attest(suite, provider, settled)
    jobs.approve(settled.abi_tuple(), record.abi_tuple(), sender=requester)
    jobs.cancel(cancelled.abi_tuple(), sender=requester)
    pass_time(ORDER.duration + 1)
    jobs.expire(expired.abi_tuple(), sender=stranger)
    liabilities = (
        jobs.credit_of(requester)
        + jobs.credit_of(provider.payout)
        + jobs.accrued_fees()
        + opened.order.max_price
    )
    assert payment.balanceOf(jobs.address) == liabilities == 4 * 40_000_001
