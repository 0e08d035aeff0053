# SPDX-License-Identifier: Apache-2.0
"""`deposit`, `withdraw`, `collect_fees`; donated tokens; tokens that misbehave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import boa
import pytest
from eth_account.signers.local import LocalAccount

from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    assigned,
    attest,
    attested,
    event,
    order,
    pass_time,
    permit,
    post,
)
from tests.contracts.actions import register as register_provider
from tests.contracts.deploy import (
    USD,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
    deploy_suite,
    deployer_of,
)

pytestmark = pytest.mark.invariant("I-1")

FEE = 10 * USD * 250 // 10_000


def test_deposit__credits(jobs: Contract, payment: Contract, requester: str) -> None:
    before = payment.balanceOf(requester)
    jobs.deposit(5, sender=requester)
    assert event(jobs, "Deposited") == {"account": requester, "amount": 5}
    jobs.deposit(6, sender=requester)
    assert jobs.credit_of(requester) == 11
    assert payment.balanceOf(requester) == before - 11
    assert payment.balanceOf(jobs.address) == 11


def test_deposit__nothing__reverts(jobs: Contract, requester: str) -> None:
    with boa.reverts("escrow: zero amount"):
        jobs.deposit(0, sender=requester)


def test_deposit__without_allowance__reverts(jobs: Contract, stranger: str) -> None:
    with boa.reverts("erc20: insufficient allowance"):
        jobs.deposit(1, sender=stranger)


def test_withdraw__all_of_the_credit(jobs: Contract, payment: Contract, requester: str) -> None:
    jobs.deposit(5, sender=requester)
    before = payment.balanceOf(requester)
    assert jobs.withdraw(sender=requester) == 5
    assert event(jobs, "Withdrawn") == {"account": requester, "receiver": requester, "amount": 5}
    assert payment.balanceOf(requester) == before + 5
    assert jobs.credit_of(requester) == 0
    with boa.reverts("ledger: nothing to withdraw"):
        jobs.withdraw(sender=requester)


def test_withdraw__to_another_receiver(
    jobs: Contract, payment: Contract, requester: str, stranger: str
) -> None:
    jobs.deposit(5, sender=requester)
    jobs.withdraw(stranger, sender=requester)
    assert payment.balanceOf(stranger) == 5


def test_withdraw__zero_receiver__reverts(jobs: Contract, requester: str) -> None:
    jobs.deposit(5, sender=requester)
    with boa.reverts("token: zero receiver"):
        jobs.withdraw(ZERO_ADDRESS, sender=requester)


def test_withdraw__never_had_credit__reverts(jobs: Contract, stranger: str) -> None:
    with boa.reverts("ledger: nothing to withdraw"):
        jobs.withdraw(sender=stranger)


# ---------------------------------------------------------- deposit_with_permit


@pytest.fixture
def holder(payment: Contract) -> LocalAccount:
    """Holds payment tokens, has approved nothing, signs permits."""
    account = account_of("holder")
    payment.mint(account.address, 10)
    return account


def test_deposit_with_permit__default(
    jobs: Contract, payment: Contract, holder: LocalAccount
) -> None:
    v, r, s = permit(payment, holder, jobs.address, 10)
    jobs.deposit_with_permit(10, 2**63, v, r, s, sender=holder.address)
    assert jobs.credit_of(holder.address) == 10


def test_deposit_with_permit__permit_sent_first_by_another__still_works(
    jobs: Contract, payment: Contract, holder: LocalAccount, stranger: str
) -> None:
    v, r, s = permit(payment, holder, jobs.address, 10)
    payment.permit(holder.address, jobs.address, 10, 2**63, v, r, s, sender=stranger)
    jobs.deposit_with_permit(10, 2**63, v, r, s, sender=holder.address)
    assert jobs.credit_of(holder.address) == 10


def test_deposit_with_permit__bad_permit__reverts(
    jobs: Contract, payment: Contract, holder: LocalAccount
) -> None:
    v, r, s = permit(payment, holder, jobs.address, 9)
    with boa.reverts("erc20: insufficient allowance"):
        jobs.deposit_with_permit(10, 2**63, v, r, s, sender=holder.address)


def test_deposit_with_permit__nothing__reverts(
    jobs: Contract, payment: Contract, holder: LocalAccount
) -> None:
    v, r, s = permit(payment, holder, jobs.address, 0)
    with boa.reverts("escrow: zero amount"):
        jobs.deposit_with_permit(0, 2**63, v, r, s, sender=holder.address)


# ---------------------------------------------------------------- collect_fees


def test_collect_fees__to_the_treasury_by_anyone(
    suite: Suite,
    jobs: Contract,
    payment: Contract,
    requester: str,
    provider: Provider,
    stranger: str,
) -> None:
    for nonce in range(2):
        terms, record = attested(suite, requester, provider, order(nonce=nonce))
        jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert jobs.collect_fees(sender=stranger) == 2 * FEE
    assert event(jobs, "FeesCollected") == {"treasury": suite.treasury, "amount": 2 * FEE}
    assert payment.balanceOf(suite.treasury) == 2 * FEE
    assert jobs.accrued_fees() == 0
    # Fee and window share the word with the fees.
    assert (jobs.fee_bps(), jobs.challenge_window()) == (250, 86_400)
    with boa.reverts("escrow: no fees"):
        jobs.collect_fees()


# -------------------------------------------------------------------- donations


def test_donation__changes_nothing(
    suite: Suite, jobs: Contract, payment: Contract, requester: str, provider: Provider
) -> None:
    payment.mint(jobs.address, 1_000 * USD)
    terms, record = attested(suite, requester, provider)
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert jobs.accrued_fees() == FEE
    paid = jobs.withdraw(sender=provider.payout) + jobs.withdraw(sender=requester)
    assert paid + jobs.collect_fees() == ORDER.max_price
    assert payment.balanceOf(jobs.address) == 1_000 * USD


# --------------------------------------------------------------- hostile tokens


def suite_with(name: str) -> Suite:
    """A suite whose payment token is a mock of that name."""
    return deploy_suite(payment=deployer_of(f"mocks/{name}").deploy())


def test_silent_token__whole_job() -> None:
    """A token that returns nothing, as some old ones do."""
    suite = suite_with("SilentToken")
    provider, requester = register_provider(suite), address_of("requester")
    terms, record = attested(suite, requester, provider)
    suite.jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert suite.jobs.withdraw(sender=provider.payout) == 10 * USD - FEE
    assert suite.payment.balanceOf(provider.payout) == 10 * USD - FEE


def test_refusing_token__answer_false__reverts() -> None:
    """A token that answers false instead of reverting moves nothing: the call must fail."""
    suite = suite_with("SilentToken")
    requester = address_of("requester")
    suite.payment.mint(requester, 10 * USD)
    suite.payment.answer_false(True)
    with boa.reverts("token: transfer failed"):
        suite.jobs.deposit(5, sender=requester)
    suite.payment.answer_false(False)
    suite.payment.approve(suite.jobs.address, 5, sender=requester)
    suite.jobs.deposit(5, sender=requester)
    suite.payment.answer_false(True)
    with boa.reverts("token: transfer failed"):
        suite.jobs.withdraw(sender=requester)
    assert suite.jobs.credit_of(requester) == 5


@pytest.mark.invariant("I-2")
def test_blocked_receiver__stops_nobody_else() -> None:
    """The token blocks the requester: refunds, settlement and the others go on (I-2)."""
    suite = suite_with("SilentToken")
    provider, requester = register_provider(suite), address_of("requester")
    terms = post(suite, requester)
    suite.payment.block_account(requester)
    accept(suite, provider, terms)
    record = attest(suite, provider, terms)
    pass_time(86_401)
    suite.jobs.finalize(terms.abi_tuple(), record.abi_tuple())
    suite.jobs.withdraw(sender=provider.payout)
    with boa.reverts("silent token: blocked"):
        suite.jobs.withdraw(sender=requester)
    elsewhere = address_of("elsewhere")
    assert suite.jobs.withdraw(elsewhere, sender=requester) == 30 * USD
    assert suite.payment.balanceOf(elsewhere) == 30 * USD


def test_blocked_treasury__owner_names_another() -> None:
    suite = suite_with("SilentToken")
    provider, requester = register_provider(suite), address_of("requester")
    terms, record = attested(suite, requester, provider)
    suite.jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    suite.payment.block_account(suite.treasury)
    with boa.reverts("silent token: blocked"):
        suite.jobs.collect_fees()
    suite.jobs.set_treasury(address_of("second treasury"), sender=suite.owner)
    assert suite.jobs.collect_fees() == FEE


@pytest.fixture
def reentrant() -> Any:
    """A suite with a token that calls back, a requester with credit, and a job to expire."""
    return suite_with("ReentrantToken")


REENTRY = {
    "withdraw": lambda jobs, terms: jobs.withdraw.prepare_calldata(),
    "deposit": lambda jobs, terms: jobs.deposit.prepare_calldata(1),
    "cancel": lambda jobs, terms: jobs.cancel.prepare_calldata(terms.abi_tuple()),
    "post": lambda jobs, terms: jobs.post.prepare_calldata(order(nonce=1).abi_tuple(), True),
    "status": lambda jobs, terms: jobs.status.prepare_calldata(terms.job_id()),
}


@pytest.mark.parametrize("entry", REENTRY)
@pytest.mark.parametrize("outer", ["withdraw", "deposit", "post"])
def test_reentrant_token__every_way_in_is_closed(reentrant: Any, entry: Any, outer: str) -> None:
    """The token itself holds credit and an open job, and calls back while money moves."""
    suite, jobs, token = reentrant, reentrant.jobs, reentrant.payment
    requester = address_of("requester")
    for account in (token.address, requester):
        token.mint(account, 90 * USD)
        jobs.deposit(50 * USD, sender=account)
    terms = post(suite, token.address)
    token.arm(jobs.address, REENTRY[entry](jobs, terms))
    if outer == "withdraw":
        jobs.withdraw(sender=requester)
    elif outer == "deposit":
        jobs.deposit(1, sender=requester)
    else:
        jobs.post(ORDER.abi_tuple(), sender=requester)
    assert token.tried()
    assert not token.succeeded()
    # The same call is fine by itself: what stopped it was the lock.
    token.arm(ZERO_ADDRESS, b"")
    data = REENTRY[entry](jobs, terms)
    alone = boa.env.execute_code(to_address=jobs.address, sender=token.address, data=data)
    assert not alone.is_error


def test_no_code_at_the_token__reverts(suite: Suite, requester: str) -> None:
    """A token without code moves nothing, and must not look as if it did."""
    nowhere = SimpleNamespace(address=address_of("no contract"))
    broken = deploy_suite(payment=nowhere)
    with boa.reverts():
        broken.jobs.deposit(1, sender=requester)


def test_expire__refund_does_not_need_the_token(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = assigned(suite, requester, provider)
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple(), sender=requester)
    assert event(jobs, "Expired")["refund"] == 10 * USD
