# SPDX-License-Identifier: Apache-2.0
"""Judged orders: a dispute moves the money of a job as the court says, and its bonds whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.terms import ZERO_ADDRESS, Judged, Status
from tests.contracts import contested
from tests.contracts.actions import (
    ORDER,
    RESULT,
    Provider,
    accept,
    assigned,
    attest,
    event,
    give_usd,
    go_to,
    hire,
    now,
    order,
    post,
    quote_of,
)
from tests.contracts.contested import (
    EVIDENCE,
    JUDGED,
    OTHER_MANIFEST,
    PRICE,
    WANTED,
    attested,
    dispute,
    statement,
)
from tests.contracts.court import (
    CAPABILITY,
    DRAWING,
    RIGHT,
    WITHHELD,
    WRONG,
    Case,
    Court,
)
from tests.contracts.court_room import JURORS, wait
from tests.contracts.deploy import (
    Contract,
    Parameters,
    Suite,
    deploy_suite,
)

# A court behind the real Jobs.
full_court, suite, deal = contested.full_court, contested.suite, contested.deal
bond, case, conclude = contested.bond, contested.case, contested.conclude


def liabilities(suite: Suite, accounts: Any) -> Any:
    jobs = suite.jobs
    return sum(jobs.credit_of(account) for account in accounts) + jobs.accrued_fees()


# -------------------------------------------------------------------------- orders


def test_post__judged__locked_for_the_longest_dispute(
    court: Court, suite: Suite, requester: str, provider: Provider
) -> None:
    terms = assigned(suite, requester, provider, WANTED)
    p = suite.parameters
    lock = suite.staking.lock_of(suite.jobs.address, provider.owner, terms.job_id())
    assert lock == (
        WANTED.collateral,
        now() + 600 + p.challenge_window + court.disputes.longest(600) + p.lock_margin,
    )


def test_post__not_judged__locked_as_before(
    suite: Suite, requester: str, provider: Provider
) -> None:
    for judged in (Judged.TRUSTED, Judged.REFUSABLE):
        terms = assigned(suite, requester, provider, order(judged=judged, nonce=judged))
        lock = suite.staking.lock_of(suite.jobs.address, provider.owner, terms.job_id())
        p = suite.parameters
        assert lock[1] == now() + ORDER.duration + p.challenge_window + p.lock_margin


def test_post__too_few_jurors_too_long_or_unknown__reverts(
    court: Court, suite: Suite, requester: str
) -> None:
    for judged, reason in (
        (2, "jobs: unknown way to judge"),
        (2**128, "jobs: unknown way to judge"),
        (2**128 + 1, "court: too few jurors"),
    ):
        with boa.reverts(reason):
            post(suite, requester, replace(WANTED, judged=judged))
    with boa.reverts("court: job too long"):
        post(suite, requester, replace(WANTED, duration=court.p.max_duration + 1))


def test_post__no_court__reverts(requester: str) -> None:
    bare = deploy_suite(Parameters())
    assert bare.jobs.COURT() == ZERO_ADDRESS
    with boa.reverts("jobs: no court"):
        post(bare, requester, WANTED)


def test_hire__the_quote_says_how_it_is_judged(
    court: Court, suite: Suite, requester: str, provider: Provider
) -> None:
    quote = quote_of(provider, judged=JUDGED, duration=600)
    terms = hire(suite, requester, provider, quote)
    assert terms.order.judged == JUDGED
    lock = suite.staking.lock_of(suite.jobs.address, provider.owner, terms.job_id())
    p = suite.parameters
    assert lock[1] == now() + 600 + p.challenge_window + court.disputes.longest(600) + p.lock_margin


def test_hire__refusable__can_be_refused(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = hire(suite, requester, provider, quote_of(provider, judged=Judged.REFUSABLE, nonce=1))
    record = attest(suite, provider, terms)
    jobs.refuse(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert jobs.status(terms.job_id()) == Status.REFUSED


# ------------------------------------------------------------------------- dispute


def test_dispute__takes_the_bond_and_asks_for_a_jury(
    court: Court, suite: Suite, payment: Contract, deal: Any, requester: str, bond: int
) -> None:
    terms, record = deal
    give_usd(suite, requester, bond)
    held, mine = payment.balanceOf(suite.jobs.address), payment.balanceOf(requester)
    case = dispute(court, terms, record)
    assert event(suite.jobs, "Disputed") == {
        "job": terms.job_id(),
        "provider": record.provider,
        "evidence": EVIDENCE,
        "bond": bond,
    }
    assert payment.balanceOf(suite.jobs.address) == held + bond
    assert payment.balanceOf(requester) == mine - bond
    assert suite.jobs.status(terms.job_id()) == Status.DISPUTED
    assert court.standing(case)[:2] == (0, DRAWING)


def test_dispute__from_credit(
    suite: Suite, court: Court, deal: Any, requester: str, bond: int
) -> None:
    terms, record = deal
    give_usd(suite, requester, bond)
    suite.jobs.deposit(bond, sender=requester)
    before = suite.jobs.credit_of(requester)
    suite.jobs.dispute(
        terms.abi_tuple(), record.abi_tuple(), statement(terms), EVIDENCE, True, sender=requester
    )
    assert suite.jobs.credit_of(requester) == before - bond


def test_dispute__last_second__exact(
    court: Court, suite: Suite, deal: Any, requester: str, bond: int
) -> None:
    terms, record = deal
    give_usd(suite, requester, bond)
    end = record.attested_at + terms.challenge_window
    with boa.env.anchor():
        go_to(end)
        dispute(court, terms, record)
    go_to(end + 1)
    with boa.reverts("jobs: challenge window is over"):
        dispute(court, terms, record)


def test_dispute__who_and_what__reverts(
    court: Court,
    suite: Suite,
    deal: Any,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
) -> None:
    terms, record = deal
    give_usd(suite, requester, 3 * bond)
    for sender in (stranger, provider.owner):
        with boa.reverts("jobs: caller is not the requester"):
            dispute(court, terms, record, sender)
    with boa.reverts("jobs: not what was attested"):
        dispute(court, terms, record, result=RESULT)
    with boa.reverts("jobs: not what was attested"):
        dispute(court, terms, record, spec=RESULT)
    with boa.reverts("jobs: not the attested record"):
        dispute(court, terms, replace(record, provider=stranger))
    dispute(court, terms, record)
    with boa.reverts("jobs: not attested"):
        dispute(court, terms, record)


def test_dispute__order_that_is_not_judged__reverts(
    court: Court, suite: Suite, requester: str, provider: Provider
) -> None:
    for judged in (Judged.TRUSTED, Judged.REFUSABLE):
        deal = attested(suite, requester, provider, order(judged=judged, nonce=judged))
        with boa.reverts("jobs: order is not judged"):
            dispute(court, *deal)


@pytest.mark.invariant("I-10")
def test_disputed__no_other_exit(
    suite: Suite, deal: Any, case: Case, requester: str, stranger: str
) -> None:
    terms, record = (part.abi_tuple() for part in deal)
    go_to(now() + 100 * 86_400)
    with boa.reverts("jobs: not attested"):
        suite.jobs.finalize(terms, record, sender=stranger)
    with boa.reverts("jobs: not attested"):
        suite.jobs.approve(terms, record, sender=requester)
    with boa.reverts("jobs: not assigned"):
        suite.jobs.expire(terms, sender=stranger)


# ------------------------------------------------------------------------ conclude


@pytest.mark.invariant("I-1", "I-5")
def test_conclude__wrong__the_price_comes_back_with_collateral(
    court: Court,
    suite: Suite,
    staking: Contract,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    conclude: Any,
) -> None:
    jobs, fee = suite.jobs, court.disputes.costs_of(PRICE, 600)[0]
    before = jobs.credit_of(requester)
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 3)
    with boa.reverts("court: not final"):
        conclude(drawn, stranger)
    payouts = [court.who(drawn, place).payout for place in range(3)]
    wait(court, drawn)
    conclude(drawn, stranger)
    assert event(jobs, "Refunded") == {
        "job": drawn.job,
        "provider": provider.owner,
        "refund": PRICE,
        "seized": WANTED.collateral,
    }
    assert jobs.status(drawn.job) == Status.REFUNDED
    assert jobs.credit_of(requester) == before + PRICE + bond - 3 * fee
    assert [jobs.credit_of(payout) for payout in payouts] == [fee] * 3
    assert jobs.credit_of(provider.payout) == 0
    # Half of the collateral to the tenant.
    assert staking.credit_of(requester) == WANTED.collateral // 2
    # Nobody is paid for a verdict: what the tenant does not get is burned.
    assert staking.credit_of(stranger) == 0
    with boa.reverts("court: no such dispute"):
        conclude(drawn, stranger)


@pytest.mark.invariant("I-1", "I-5")
def test_conclude__right__the_provider_is_paid(
    court: Court,
    suite: Suite,
    staking: Contract,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    conclude: Any,
) -> None:
    jobs, fee = suite.jobs, court.disputes.costs_of(PRICE, 600)[0]
    before = jobs.credit_of(requester)
    court.vote(drawn, [RIGHT] * 3)
    wait(court, drawn)
    conclude(drawn, stranger)
    charge = PRICE * suite.parameters.fee_bps // 10_000
    assert event(jobs, "Settled")["paid"] == PRICE - charge
    assert jobs.status(drawn.job) == Status.SETTLED
    assert jobs.credit_of(provider.payout) == PRICE - charge
    assert jobs.accrued_fees() == charge
    assert jobs.credit_of(requester) == before + bond - 3 * fee
    assert staking.pool(provider.owner)[1] == 0
    assert staking.credit_of(requester) == 0


@pytest.mark.invariant("I-15")
def test_conclude__nobody_does_anything__as_if_nobody_had_disputed(
    court: Court,
    suite: Suite,
    deal: Any,
    case: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    conclude: Any,
) -> None:
    """Who attested in time is paid; the tenant gets its bond, and has paid the price."""
    before = suite.jobs.credit_of(requester)
    go_to(now() + court.disputes.longest(600))
    conclude(case, stranger)
    charge = PRICE * suite.parameters.fee_bps // 10_000
    assert suite.jobs.credit_of(provider.payout) == PRICE - charge
    assert suite.jobs.credit_of(requester) == before + bond


def test_conclude__other_papers__reverts(
    court: Court,
    suite: Suite,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    conclude: Any,
) -> None:
    court.vote(drawn, [RIGHT] * 3)
    wait(court, drawn)
    terms, record = deal
    other = attested(suite, requester, provider, replace(WANTED, nonce=7))
    with boa.reverts("jobs: not attested"):
        conclude(drawn, stranger, *other)
    with boa.reverts("jobs: not the attested record"):
        conclude(drawn, stranger, terms, replace(record, provider=stranger))
    with boa.reverts("court: not the case"):
        conclude(replace(drawn, price=1), stranger)


def test_conclude__case_of_another_disputed_job__reverts(
    court: Court,
    suite: Suite,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    conclude: Any,
) -> None:
    """Papers of one disputed job do not close the case of another."""
    court.vote(drawn, [RIGHT] * 3)
    wait(court, drawn)
    go_to(now() - court.p.appeal_time)
    other = attested(suite, requester, provider, replace(WANTED, nonce=7))
    give_usd(suite, requester, bond)
    dispute(court, *other)
    go_to(now() + court.p.appeal_time)
    with boa.reverts("jobs: case of another job"):
        conclude(drawn, stranger, *other)


@pytest.mark.invariant("I-1")
def test_appeal__its_bond_comes_back_to_the_payout_address(
    court: Court,
    suite: Suite,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    conclude: Any,
) -> None:
    jobs, fee = suite.jobs, court.disputes.costs_of(PRICE, 600)[0]
    before = jobs.credit_of(requester)
    court.vote(drawn, [WITHHELD] * 3)
    operator = provider.operator.address
    give_usd(suite, operator, 9 * fee)
    jobs.appeal(drawn.abi_tuple(), sender=operator)
    assert event(jobs, "Appealed") == {"job": drawn.job, "account": operator, "bond": 9 * fee}
    assert suite.payment.balanceOf(operator) == 0
    court.spread(drawn, 2)
    court.vote(drawn, [RIGHT] * 9)
    conclude(drawn, stranger)
    charge = PRICE * suite.parameters.fee_bps // 10_000
    # Nine fees: nobody knows why the first jury was not served, so each side pays half.
    by_tenant = 9 * fee // 2
    assert jobs.credit_of(requester) == before + bond - by_tenant
    assert jobs.credit_of(provider.payout) == PRICE - charge + by_tenant
    # All that was ever put in, and nothing more, is owed to somebody.
    accounts = {requester, provider.payout}
    accounts |= {court.who_sat(drawn, 2, place).payout for place in range(9)}
    assert liabilities(suite, accounts) == suite.payment.balanceOf(jobs.address)


def test_appeal__by_the_tenant_from_credit(
    court: Court, suite: Suite, drawn: Case, requester: str
) -> None:
    court.vote(drawn, [RIGHT] * 3)
    cost = 9 * court.disputes.costs_of(PRICE, 600)[0]
    give_usd(suite, requester, cost)
    suite.jobs.deposit(cost, sender=requester)
    before = suite.jobs.credit_of(requester)
    suite.jobs.appeal(drawn.abi_tuple(), True, sender=requester)
    assert suite.jobs.credit_of(requester) == before - cost


def test_accept__judged__jurors_left_meanwhile__nobody_takes_it_and_the_price_comes_back(
    court: Court, suite: Suite, requester: str, provider: Provider
) -> None:
    """Seats are counted again: what nobody could judge any more is not taken."""
    terms = post(suite, requester, WANTED)
    jurors = list(court.jurors[CAPABILITY].values())[:JURORS]
    spare = len(jurors) - least_seats(court)
    for juror in jurors[:spare]:
        court.disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    with boa.env.anchor():
        accept(suite, provider, terms)
    court.disputes.resign(jurors[-1].owner, CAPABILITY, sender=jurors[-1].owner)
    with boa.reverts("court: too few jurors"):
        accept(suite, provider, terms)
    before = suite.jobs.credit_of(requester)
    suite.jobs.cancel(terms.abi_tuple(), sender=requester)
    assert suite.jobs.credit_of(requester) == before + WANTED.max_price


def least_seats(court: Court) -> int:
    """What such an order asks for."""
    return int(court.p.panel_min + WANTED.max_price // court.p.price_per_seat)


@pytest.mark.parametrize("by_quote", [False, True])
def test_take__judged__the_providers_own_seats_do_not_count(
    court: Court, suite: Suite, requester: str, by_quote: bool
) -> None:
    """Else whoever has most of the seats would be judged by nobody."""
    jurors = list(court.jurors[CAPABILITY].values())[:JURORS]
    for juror in jurors[least_seats(court) :]:
        court.disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    own, price = jurors[0], WANTED.max_price

    def take(taker: Provider, nonce: int) -> None:
        if by_quote:
            quote = quote_of(taker, judged=JUDGED, duration=600, price=price, nonce=nonce)
            hire(suite, requester, taker, quote)
        else:
            accept(suite, taker, post(suite, requester, replace(WANTED, nonce=nonce)))

    give_usd(suite, requester, 3 * price)
    with boa.reverts("court: too few jurors"):
        take(own, 1)
    take(court.juror("without seats", 0), 2)
    court.juror("one more", 1)
    take(own, 3)
