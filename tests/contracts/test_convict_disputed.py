# SPDX-License-Identifier: Apache-2.0
"""A conviction in the middle of a dispute: the job ends by it, and the court pays out its bonds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol import messages
from teraproof.protocol.terms import Status
from tests.contracts import contested
from tests.contracts.actions import Provider, attestation_of, domain, give_usd, go_to, now
from tests.contracts.contested import OTHER_MANIFEST, PRICE, WANTED, dispute, statement
from tests.contracts.court import RIGHT, WITHHELD, WRONG, Case, Court, result_of
from tests.contracts.court_room import locked, wait
from tests.contracts.deploy import Contract, Suite

# A court behind the real Jobs.
full_court, suite, deal = contested.full_court, contested.suite, contested.deal
bond, case, conclude = contested.bond, contested.case, contested.conclude

pytestmark = pytest.mark.invariant("I-1", "I-5")


@pytest.fixture
def convict(suite: Suite, deal: Any, provider: Provider) -> Any:
    """By the operator's signature of another result than the recorded one."""
    terms, record = deal

    def call(sender: Any) -> None:
        other = attestation_of(terms, result=result_of(OTHER_MANIFEST))
        signed = messages.sign(domain(suite.jobs), other, provider.operator)
        said = statement(terms, result=other.result)
        papers = (terms.abi_tuple(), record.abi_tuple(), said, signed, statement(terms), b"")
        suite.jobs.convict(*papers, sender=sender)

    return call


def held(suite: Suite, accounts: Any) -> int:
    """What Jobs owes to these accounts and as fees."""
    return int(sum(suite.jobs.credit_of(one) for one in accounts) + suite.jobs.accrued_fees())


def test_convict__in_a_dispute__price_and_collateral_at_once_and_no_bounty(
    suite: Suite,
    staking: Contract,
    case: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    convict: Any,
) -> None:
    before = suite.jobs.credit_of(requester)
    convict(stranger)
    assert suite.jobs.status(case.job) == Status.REFUNDED
    assert suite.jobs.credit_of(requester) == before + PRICE
    assert staking.credit_of(requester) == WANTED.collateral // 2
    # A provider that is about to lose must not take a part back by a puppet.
    assert staking.credit_of(stranger) == 0
    assert staking.pool(provider.owner)[1] == 0
    with boa.reverts("jobs: not attested"):
        convict(stranger)


@pytest.mark.parametrize(
    ("votes", "fees"),
    [([RIGHT] * 3, 3), ([(WRONG, OTHER_MANIFEST)] * 3, 3), ([RIGHT, RIGHT, None], 2)],
    ids=["right", "wrong", "one is silent"],
)
def test_convict__in_a_dispute__jurors_are_paid_and_fined_as_without_it(
    court: Court,
    suite: Suite,
    staking: Contract,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    convict: Any,
    conclude: Any,
    votes: Any,
    fees: int,
) -> None:
    fee = court.fee(drawn)
    jurors = [court.who(drawn, place) for place in range(3)]
    before = suite.jobs.credit_of(requester)
    convict(stranger)
    court.vote(drawn, votes)
    wait(court, drawn)
    seized = staking.credit_of(requester)
    conclude(drawn, stranger)
    assert suite.jobs.credit_of(requester) == before + PRICE + bond - fees * fee
    assert sum(suite.jobs.credit_of(juror.payout) for juror in jurors) == fees * fee
    assert suite.jobs.credit_of(provider.payout) == 0 == suite.jobs.accrued_fees()
    assert staking.credit_of(requester) == seized
    assert suite.jobs.status(drawn.job) == Status.REFUNDED
    silent = [juror for juror, vote in zip(jurors, votes, strict=True) if vote is None]
    for juror in jurors:
        lost = court.big(drawn) if juror in silent else 0
        assert locked(court, juror) == court.p.seat - lost
    accounts = {requester, provider.payout, *(juror.payout for juror in jurors)}
    assert held(suite, accounts) == suite.payment.balanceOf(suite.jobs.address)
    with boa.reverts("court: no such dispute"):
        conclude(drawn, stranger)


def test_convict__after_an_appeal__each_bond_goes_back_to_its_side(
    court: Court,
    suite: Suite,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    convict: Any,
    conclude: Any,
) -> None:
    before, fee = suite.jobs.credit_of(requester), court.fee(drawn)
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 3)
    give_usd(suite, provider.owner, 9 * fee)
    suite.jobs.appeal(drawn.abi_tuple(), sender=provider.owner)
    court.spread(drawn, 2)
    convict(stranger)
    court.vote(drawn, [RIGHT] * 9)
    conclude(drawn, stranger)
    # The court finds for the provider, which gets its bond and no price: it was convicted.
    spent = min(9 * fee, bond)
    assert suite.jobs.credit_of(requester) == before + PRICE + bond - spent
    assert suite.jobs.credit_of(provider.payout) == 9 * fee - (9 * fee - spent)
    assert suite.jobs.status(drawn.job) == Status.REFUNDED


def test_convict__when_the_ruling_is_final__before_it_is_carried_out(
    court: Court,
    suite: Suite,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    convict: Any,
    conclude: Any,
) -> None:
    """Whichever call comes first ends the job; the bonds go as ruled in both cases."""
    before, fee = suite.jobs.credit_of(requester), court.fee(drawn)
    court.vote(drawn, [RIGHT] * 3)
    wait(court, drawn)
    with boa.env.anchor():
        conclude(drawn, stranger)
        assert suite.jobs.status(drawn.job) == Status.SETTLED
        with boa.reverts("jobs: not attested"):
            convict(stranger)
    convict(stranger)
    conclude(drawn, stranger)
    assert suite.jobs.credit_of(requester) == before + PRICE + bond - 3 * fee
    assert suite.jobs.credit_of(provider.payout) == 0


@pytest.mark.invariant("I-2", "I-15")
def test_convict__in_a_dispute__everybody_else_is_dead__the_bond_comes_back(
    court: Court,
    suite: Suite,
    case: Case,
    requester: str,
    stranger: str,
    bond: int,
    convict: Any,
    conclude: Any,
) -> None:
    before = suite.jobs.credit_of(requester)
    convict(stranger)
    go_to(now() + court.disputes.longest(600))
    conclude(case, stranger)
    assert suite.jobs.credit_of(requester) == before + PRICE + bond


def test_conclude__of_a_convicted_job__with_the_papers_of_another__reverts(
    court: Court,
    suite: Suite,
    deal: Any,
    drawn: Case,
    requester: str,
    provider: Provider,
    stranger: str,
    bond: int,
    convict: Any,
    conclude: Any,
) -> None:
    """Neither a job that goes on nor one that has ended lends its price to another's case."""
    other = contested.attested(suite, requester, provider, replace(WANTED, nonce=7))
    give_usd(suite, requester, bond)
    convict(stranger)
    court.vote(drawn, [WITHHELD] * 3)
    wait(court, drawn)
    with boa.reverts("jobs: not attested"):
        conclude(drawn, stranger, *other)
    go_to(now() - court.p.appeal_time)
    dispute(court, *other)
    go_to(now() + court.p.appeal_time)
    with boa.reverts("jobs: not attested"):
        conclude(drawn, stranger, *other)
    conclude(drawn, stranger)
