# SPDX-License-Identifier: Apache-2.0
"""`convict`: an operator's own signatures end its job, in one transaction, by anyone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest
from eth_utils.crypto import keccak

from teraproof.protocol import messages
from teraproof.protocol.terms import Record, Status
from tests.contracts.actions import (
    ORDER,
    Provider,
    assigned,
    attest,
    attestation_of,
    consent,
    domain,
    event,
    go_to,
    now,
    order,
    post,
)
from tests.contracts.deploy import Contract, Suite, account_of

OTHER = keccak(text="another result")
OTHER_SPEC = keccak(text="another specification")
NOTHING = Record("0x" + "00" * 20, 0, 0, 0, bytes(32))
PRICE = ORDER.start_price


@pytest.fixture
def terms(suite: Suite, requester: str, provider: Provider) -> Any:
    """A job that the provider works on."""
    return assigned(suite, requester, provider)


@pytest.fixture
def convict(suite: Suite, provider: Provider, hunter: str) -> Any:
    """Send two statements; `signer` None leaves a signature out."""

    def call(
        terms: Any,
        first: Any,
        second: Any,
        record: Any = NOTHING,
        signers: Any = (None, None),
        sender: Any = hunter,
    ) -> None:
        arguments = []
        for message, signer in zip((first, second), signers, strict=True):
            fields = (message.spec, message.result, message.receipt)
            signed = (
                messages.sign(domain(suite.jobs), message, signer) if signer is not None else b""
            )
            arguments += [(*fields, message.started, message.finished), signed]
        suite.jobs.convict(terms.abi_tuple(), record.abi_tuple(), *arguments, sender=sender)

    return call


@pytest.mark.invariant("I-5")
def test_convict__two_results__while_assigned__refunds_and_seizes(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    terms: Any,
    provider: Provider,
    requester: str,
    hunter: str,
    convict: Any,
) -> None:
    before = jobs.credit_of(requester)
    key = provider.operator
    convict(terms, attestation_of(terms), attestation_of(terms, result=OTHER), signers=(key, key))
    assert event(jobs, "Refunded") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "refund": PRICE,
        "seized": ORDER.collateral,
    }
    assert jobs.status(terms.job_id()) == Status.REFUNDED
    assert jobs.credit_of(requester) == before + PRICE
    assert staking.credit_of(requester) == ORDER.collateral // 2
    assert staking.credit_of(hunter) == ORDER.collateral // 20
    with boa.reverts("jobs: not attested"):
        convict(terms, attestation_of(terms), attestation_of(terms, result=OTHER))


def test_convict__recorded_result__needs_no_second_signature(
    suite: Suite, jobs: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    record = attest(suite, provider, terms)
    other = attestation_of(terms, result=OTHER)
    convict(terms, other, attestation_of(terms), record, (provider.operator, None))
    assert jobs.status(terms.job_id()) == Status.REFUNDED


def test_convict__other_specification__one_signature(
    suite: Suite, jobs: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    wrong = attestation_of(terms, spec=OTHER_SPEC)
    convict(terms, wrong, attestation_of(terms), signers=(provider.operator, None))
    assert jobs.status(terms.job_id()) == Status.REFUNDED


def test_convict__other_specification__after_the_attestation(
    suite: Suite, jobs: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    record = attest(suite, provider, terms)
    wrong = attestation_of(terms, spec=OTHER_SPEC)
    convict(terms, wrong, wrong, record, (provider.operator, None))
    assert jobs.status(terms.job_id()) == Status.REFUNDED


def test_convict__frees_the_reserved_score(scored_suite: Suite, requester: str) -> None:
    from tests.contracts.actions import register

    suite = scored_suite
    provider = register(suite, "scored")
    suite.scores.set_score(provider.owner, 100)
    terms = assigned(suite, requester, provider, order(min_score=60))
    assert suite.jobs.reserved_score(provider.owner) == 60
    first, second = attestation_of(terms), attestation_of(terms, result=OTHER)
    arguments = []
    for message in (first, second):
        fields = (message.spec, message.result, message.receipt, message.started, message.finished)
        arguments += [fields, messages.sign(domain(suite.jobs), message, provider.operator)]
    suite.jobs.convict(terms.abi_tuple(), NOTHING.abi_tuple(), *arguments)
    assert suite.jobs.reserved_score(provider.owner) == 0


def test_convict__same_result__is_no_fault(terms: Any, provider: Provider, convict: Any) -> None:
    """Another receipt, or other times, of the same result: a run may be described twice."""
    key = provider.operator
    again = attestation_of(terms, receipt=OTHER, started=7, finished=8)
    with boa.reverts("jobs: no fault"):
        convict(terms, attestation_of(terms), again, signers=(key, key))


def test_convict__not_the_operators_signature__reverts(
    terms: Any, provider: Provider, stranger: str, convict: Any
) -> None:
    key, other = provider.operator, account_of("somebody")
    first, second = attestation_of(terms), attestation_of(terms, result=OTHER)
    for signers in ((other, key), (key, other), (None, key), (key, None)):
        with boa.reverts("jobs: not the operator's attestation"):
            convict(terms, first, second, signers=signers)


def test_convict__attestation_of_another_job__reverts(
    suite: Suite, requester: str, terms: Any, provider: Provider, convict: Any
) -> None:
    """The signature of another job's result proves nothing here."""
    key = provider.operator
    another = assigned(suite, requester, provider, order(nonce=9))
    first = attestation_of(another)
    arguments = []
    for message in (first, attestation_of(terms, result=OTHER)):
        fields = (message.spec, message.result, message.receipt, message.started, message.finished)
        arguments += [fields, messages.sign(domain(suite.jobs), message, key)]
    with boa.reverts("jobs: not the operator's attestation"):
        suite.jobs.convict(terms.abi_tuple(), NOTHING.abi_tuple(), *arguments)


def test_convict__of_an_earlier_operator__reverts(
    suite: Suite, staking: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """A key that the owner let go speaks for nobody any more."""
    old, new = provider.operator, account_of("new operator")
    staking.set_operator(new.address, *consent(staking, provider.owner, new), sender=provider.owner)
    first, second = attestation_of(terms), attestation_of(terms, result=OTHER)
    with boa.reverts("jobs: not the operator's attestation"):
        convict(terms, first, second, signers=(old, old))


def test_convict__record_of_another__reverts(
    suite: Suite, terms: Any, provider: Provider, convict: Any
) -> None:
    record = attest(suite, provider, terms)
    other = attestation_of(terms, result=OTHER)
    false = replace(record, attestation=other.struct_hash())
    with boa.reverts("jobs: not the attested record"):
        convict(terms, attestation_of(terms), other, false, (provider.operator, None))


def test_convict__open_or_ended__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, convict: Any
) -> None:
    key = provider.operator
    terms = post(suite, requester, order(nonce=3))
    pair = attestation_of(terms), attestation_of(terms, result=OTHER)
    with boa.reverts("jobs: not attested"):
        convict(terms, *pair, signers=(key, key))
    jobs.cancel(terms.abi_tuple(), sender=requester)
    with boa.reverts("jobs: not attested"):
        convict(terms, *pair, signers=(key, key))


def test_convict__settled__reverts(
    suite: Suite, jobs: Contract, terms: Any, provider: Provider, requester: str, convict: Any
) -> None:
    record = attest(suite, provider, terms)
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    with boa.reverts("jobs: not attested"):
        convict(
            terms,
            attestation_of(terms, result=OTHER),
            attestation_of(terms),
            record,
            (provider.operator, None),
        )


@pytest.mark.invariant("I-12")
def test_convict__by_the_provider_itself__no_bounty(
    suite: Suite, staking: Contract, terms: Any, provider: Provider, requester: str, convict: Any
) -> None:
    key = provider.operator
    pair = attestation_of(terms), attestation_of(terms, result=OTHER)
    convict(terms, *pair, signers=(key, key), sender=key.address)
    assert staking.credit_of(key.address) == 0
    assert staking.credit_of(requester) == ORDER.collateral // 2


def test_convict__after_the_deadline__still(
    suite: Suite, jobs: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """Late or not: the fault stays one until the job has ended."""
    go_to(now() + ORDER.duration + 1)
    key = provider.operator
    pair = attestation_of(terms), attestation_of(terms, result=OTHER)
    convict(terms, *pair, signers=(key, key))
    assert jobs.status(terms.job_id()) == Status.REFUNDED
