# SPDX-License-Identifier: Apache-2.0
"""`hire` and `cancel_quotes`: an operator's signed price, used once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
from eth_account.signers.local import LocalAccount

from teraproof.protocol.messages import quote_nonce
from teraproof.protocol.terms import Assignment, Status
from tests.contracts.actions import (
    Provider,
    attest,
    consent,
    event,
    events,
    give_usd,
    go_to,
    hire,
    now,
    pass_time,
    post,
    quote_of,
    sign_quote,
)
from tests.contracts.deploy import (
    DAY,
    TPF,
    USD,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
    deploy_jobs,
)

PRICE = 25 * USD


def test_hire__opens_and_assigns(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    payment: Contract,
    requester: str,
    provider: Provider,
) -> None:
    quote = quote_of(provider, nonce=quote_nonce(0, 2**128 - 1))
    terms = hire(suite, requester, provider, quote)
    job = terms.job_id()
    assert [type(log).__name__ for log in events(jobs) if log.address == jobs.address] == [
        "Posted",
        "Accepted",
    ]
    assert event(jobs, "Accepted") == {
        "job": job,
        "provider": provider.owner,
        "operator": provider.operator.address,
        "price": PRICE,
    }
    assert terms.order == quote.order()
    assert jobs.state(job) == Assignment(provider.owner, now()).state_word()
    expires_at = now() + quote.duration + DAY + 7 * DAY
    assert staking.lock_of(jobs.address, provider.owner, job) == (100 * TPF, expires_at)
    assert jobs.quote_used(provider.operator.address, quote.nonce)
    assert not jobs.quote_used(provider.operator.address, quote.nonce - 1)
    assert payment.balanceOf(jobs.address) == PRICE
    assert jobs.credit_of(requester) == 0


def test_hire__from_credit(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    jobs.deposit(PRICE, sender=requester)
    hire(suite, requester, provider, from_credit=True)
    assert jobs.credit_of(requester) == 0


def test_hire__credit_too_low__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    with boa.reverts("ledger: credit too low"):
        hire(suite, requester, provider, from_credit=True)


def test_hire__for_this_requester(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, stranger: str
) -> None:
    quote = quote_of(provider, requester=requester)
    with boa.reverts("quotes: for another requester"):
        hire(suite, stranger, provider, quote)
    hire(suite, requester, provider, quote)


def test_hire__expiry__exact(suite: Suite, requester: str, provider: Provider) -> None:
    quote = quote_of(provider)
    go_to(quote.expires + 1)
    with boa.reverts("quotes: expired"):
        hire(suite, requester, provider, quote)
    go_to(quote.expires)
    hire(suite, requester, provider, quote)


def test_hire__twice__reverts(
    suite: Suite, requester: str, provider: Provider, stranger: str
) -> None:
    quote = quote_of(provider)
    hire(suite, requester, provider, quote)
    for caller in (requester, stranger):
        with boa.reverts("quotes: used or cancelled"):
            hire(suite, caller, provider, quote)


def test_hire__same_nonce_in_another_quote__reverts(
    suite: Suite, requester: str, provider: Provider
) -> None:
    hire(suite, requester, provider, quote_of(provider))
    with boa.reverts("quotes: used or cancelled"):
        hire(suite, requester, provider, quote_of(provider, price=1))


def test_hire__nonces_are_unordered(suite: Suite, requester: str, provider: Provider) -> None:
    for nonce in (700, 0, 255, 256):
        hire(suite, requester, provider, quote_of(provider, nonce=nonce, collateral=0))


def test_hire__nonces_of_two_operators_are_apart(
    suite: Suite, requester: str, provider: Provider, make_provider: Callable[..., Provider]
) -> None:
    hire(suite, requester, provider)
    hire(suite, requester, make_provider("other provider"))


@pytest.mark.parametrize(
    "change",
    [
        {"price": 1},
        {"collateral": 0},
        {"duration": 7_201},
        {"spec": bytes(32)},
        {"nonce": 1},
        {"requester": address_of("requester")},
    ],
)
def test_hire__changed_quote__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, change: Any
) -> None:
    signature = sign_quote(jobs, provider.operator, quote_of(provider))
    with boa.reverts("quotes: not the operator's"):
        jobs.hire(quote_of(provider, **change).abi_tuple(), signature, sender=requester)


@pytest.mark.parametrize("signature", [b"", b"\x01" * 63])
def test_hire__no_signature_and_zero_operator__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, signature: bytes
) -> None:
    """A malformed signature recovers to zero, and zero may be named as the operator: then no
    provider is behind it.
    """
    with boa.reverts("quotes: not the operator's"):
        jobs.hire(quote_of(provider).abi_tuple(), signature, sender=requester)
    with boa.reverts("staking: unknown operator"):
        jobs.hire(
            quote_of(provider, operator=ZERO_ADDRESS).abi_tuple(), signature, sender=requester
        )


def test_hire__signed_by_a_stranger_for_itself__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    stranger = account_of("stranger")
    quote = quote_of(provider, operator=stranger.address)
    with boa.reverts("staking: unknown operator"):
        jobs.hire(quote.abi_tuple(), sign_quote(jobs, stranger, quote), sender=requester)


def test_hire__quote_of_another_deployment__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    other = deploy_jobs(
        suite.payment,
        suite.staking,
        suite.owner,
        suite.parameters,
        guardian=suite.guardian,
        treasury=suite.treasury,
    )
    quote = quote_of(provider)
    with boa.reverts("quotes: not the operator's"):
        jobs.hire(quote.abi_tuple(), sign_quote(other, provider.operator, quote), sender=requester)


def test_hire__old_operators_quote__reverts(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    quote = quote_of(provider)
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    with boa.reverts("staking: unknown operator"):
        hire(suite, requester, provider, quote)
    assert not jobs.quote_used(provider.operator.address, quote.nonce)


def bind(staking: Contract, owner: str, operator: LocalAccount) -> None:
    """The owner's operator from now on, by a new consent."""
    staking.set_operator(operator.address, *consent(staking, owner, operator), sender=owner)


def test_hire__bound_anew__quotes_of_the_earlier_consent_are_dead(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    """A key that comes back does not bring back what it signed before."""
    early = quote_of(provider)
    bind(staking, provider.owner, account_of("successor"))
    bind(staking, provider.owner, provider.operator)
    with boa.reverts("jobs: quote of an earlier consent"):
        hire(suite, requester, provider, early)
    assert not jobs.quote_used(provider.operator.address, early.nonce)
    hire(suite, requester, provider, quote_of(provider, nonce=quote_nonce(1, 0)))


def test_hire__key_works_for_another_owner__quotes_for_the_first_are_dead(
    suite: Suite,
    staking: Contract,
    requester: str,
    provider: Provider,
    make_provider: Callable[..., Provider],
) -> None:
    """Nobody is bound by what its key has signed for somebody else."""
    early = quote_of(provider)
    other = make_provider("other provider")
    bind(staking, provider.owner, account_of("successor"))
    bind(staking, other.owner, provider.operator)
    with boa.reverts("jobs: quote of an earlier consent"):
        hire(suite, requester, provider, early)


@pytest.mark.parametrize("named", [1, 2, 2**128 - 1])
def test_hire__consent_to_come__reverts(
    suite: Suite, requester: str, provider: Provider, named: int
) -> None:
    with boa.reverts("jobs: quote of an earlier consent"):
        hire(suite, requester, provider, quote_of(provider, nonce=quote_nonce(named, 0)))


def test_hire__same_number_under_two_consents__two_quotes(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    hire(suite, requester, provider)
    bind(staking, provider.owner, account_of("successor"))
    bind(staking, provider.owner, provider.operator)
    hire(suite, requester, provider, quote_of(provider, nonce=quote_nonce(1, 0)))
    for number in range(2):
        assert jobs.quote_used(provider.operator.address, quote_nonce(number, 0))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": 0}, "jobs: price out of bounds"),
        ({"price": 2**120}, "jobs: price out of bounds"),
        ({"collateral": 2**120}, "jobs: collateral out of bounds"),
        ({"duration": 0}, "jobs: zero duration"),
        ({"duration": 60 * DAY - 8 * DAY + 1}, "jobs: duration too long"),
        ({"collateral": 500 * TPF + 1}, "staking: above the owner's limit per order"),
    ],
)
def test_hire__bad_quote__reverts(
    suite: Suite, requester: str, provider: Provider, change: Any, reason: str
) -> None:
    with boa.reverts(reason):
        hire(suite, requester, provider, quote_of(provider, **change))


def test_hire__from_then_on_like_any_job(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = hire(suite, requester, provider)
    record = attest(suite, provider, terms)
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert jobs.credit_of(provider.payout) == PRICE - PRICE * 250 // 10_000


def test_hire__not_attested__expires_with_the_whole_price_back(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = hire(suite, requester, provider)
    pass_time(terms.order.duration + 1)
    jobs.expire(terms.abi_tuple())
    assert jobs.credit_of(requester) == PRICE


def test_hire__same_order_posted_in_the_same_block__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    """The id of a hired job can be taken by its own requester only, and then harms only it."""
    quote = quote_of(provider)
    terms = post(suite, requester, quote.order())
    assert jobs.status(terms.job_id()) == Status.OPEN
    with boa.reverts("jobs: exists"):
        hire(suite, requester, provider, quote)
    pass_time(1)
    hire(suite, requester, provider, quote)


# -------------------------------------------------------------- cancel_quotes


def test_cancel_quotes__makes_them_unusable(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    operator = provider.operator.address
    jobs.cancel_quotes(2, 0b101, sender=operator)
    assert event(jobs, "QuotesCancelled") == {"operator": operator, "word": 2, "mask": 0b101}
    assert [jobs.quote_used(operator, 512 + bit) for bit in range(3)] == [True, False, True]
    with boa.reverts("quotes: used or cancelled"):
        hire(suite, requester, provider, quote_of(provider, nonce=512))
    hire(suite, requester, provider, quote_of(provider, nonce=513))


def test_cancel_quotes__keeps_those_used_before(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    hire(suite, requester, provider, quote_of(provider, nonce=3))
    jobs.cancel_quotes(0, 1, sender=provider.operator.address)
    assert jobs.quote_used(provider.operator.address, 3)
    assert jobs.quote_used(provider.operator.address, 0)


def test_cancel_quotes__all_of_a_word(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    jobs.cancel_quotes(0, 2**256 - 1, sender=provider.operator.address)
    with boa.reverts("quotes: used or cancelled"):
        hire(suite, requester, provider, quote_of(provider, nonce=255))


def test_cancel_quotes__of_another__untouched(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, stranger: str
) -> None:
    jobs.cancel_quotes(0, 2**256 - 1, sender=stranger)
    give_usd(suite, requester, PRICE)
    hire(suite, requester, provider)
