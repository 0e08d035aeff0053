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


def replace_key(staking: Contract, owner: str, key: Any) -> None:
    """The owner names another operator."""
    staking.set_operator(key.address, *consent(staking, owner, key), sender=owner)


NEW, NEXT = account_of("new operator"), account_of("next operator")


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("recorded", [False, True])
def test_convict__key_let_go__still_answers_for_what_it_took(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    terms: Any,
    provider: Provider,
    convict: Any,
    recorded: bool,
    seconds: int,
) -> None:
    """One call, in the same block even, frees nobody from its own signatures."""
    old = provider.operator
    record = attest(suite, provider, terms) if recorded else NOTHING
    go_to(now() + seconds)
    replace_key(staking, provider.owner, NEW)
    go_to(now() + 5)
    other = attestation_of(terms, result=OTHER)
    if recorded:
        with boa.env.anchor():
            convict(terms, other, attestation_of(terms), record, (old, None))
    convict(terms, attestation_of(terms), other, record, (old, old))
    assert jobs.status(terms.job_id()) == Status.REFUNDED


def test_convict__key_let_go_and_bound_elsewhere_or_back_and_forth__still(
    suite: Suite, jobs: Contract, staking: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """What else the key does later takes nothing back."""
    from tests.contracts.actions import register

    old, owner = provider.operator, provider.owner
    record = attest(suite, provider, terms)
    other = attestation_of(terms, result=OTHER)
    go_to(now() + 1)
    with boa.env.anchor():
        replace_key(staking, owner, NEW)
        elsewhere = register(suite, "somebody else")
        replace_key(staking, elsewhere.owner, old)
        convict(terms, other, attestation_of(terms), record, (old, None))
    for key in (NEW, old, NEXT):
        replace_key(staking, owner, key)
        go_to(now() + 1)
    convict(terms, other, attestation_of(terms), record, (old, None))
    assert jobs.status(terms.job_id()) == Status.REFUNDED


def test_convict__key_between__its_word_against_what_the_next_one_attested(
    suite: Suite, jobs: Contract, staking: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """It could attest, as its successor did."""
    old = provider.operator
    go_to(now() + 1)
    replace_key(staking, provider.owner, NEW)
    go_to(now() + 1)
    record = attest(suite, replace(provider, operator=NEW), terms)
    other = attestation_of(terms, result=OTHER)
    for signer in (old, NEW):
        with boa.env.anchor():
            convict(terms, other, attestation_of(terms), record, (signer, None))
            assert jobs.status(terms.job_id()) == Status.REFUNDED
    # The same twice proves nothing, whoever says it.
    with boa.reverts("jobs: no fault"):
        convict(terms, attestation_of(terms), attestation_of(terms), record, (old, None))


def test_convict__two_keys_that_each_say_one_thing__reverts(
    staking: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """Nothing is recorded yet, and neither has contradicted itself."""
    old = provider.operator
    replace_key(staking, provider.owner, NEW)
    first, second = attestation_of(terms), attestation_of(terms, result=OTHER)
    with boa.reverts("jobs: not the operator's attestation"):
        convict(terms, first, second, signers=(old, NEW))


def test_convict__key_named_after_the_attestation__reverts(
    suite: Suite, staking: Contract, terms: Any, provider: Provider, convict: Any
) -> None:
    """It never promised this result; also once it is let go again."""
    record = attest(suite, provider, terms)
    go_to(now() + 1)
    replace_key(staking, provider.owner, NEW)
    first, second = attestation_of(terms), attestation_of(terms, result=OTHER)
    for _ in range(2):
        with boa.reverts("jobs: not the operator's attestation"):
            convict(terms, first, second, record, signers=(NEW, NEW))
        with boa.reverts("jobs: not the operator's attestation"):
            convict(terms, second, first, record, signers=(NEW, None))
        go_to(now() + 1)
        replace_key(staking, provider.owner, NEXT)


def test_convict__key_let_go_before_the_assignment__reverts(
    suite: Suite, staking: Contract, requester: str, provider: Provider, convict: Any
) -> None:
    """Its old signatures are of no deal that it could take."""
    old = provider.operator
    replace_key(staking, provider.owner, NEW)
    go_to(now() + 1)
    terms = assigned(suite, requester, replace(provider, operator=NEW), order(nonce=5))
    pair = attestation_of(terms), attestation_of(terms, result=OTHER)
    with boa.reverts("jobs: not the operator's attestation"):
        convict(terms, *pair, signers=(old, old))
    wrong = attestation_of(terms, spec=OTHER_SPEC)
    with boa.reverts("jobs: not the operator's attestation"):
        convict(terms, wrong, wrong, signers=(old, None))


def test_convict__no_signature__is_nobodys(terms: Any, convict: Any) -> None:
    """Nobody is the operator of a provider before it has one: zero speaks for none."""
    wrong = attestation_of(terms, spec=OTHER_SPEC)
    with boa.reverts("jobs: not the operator's attestation"):
        convict(terms, wrong, wrong)


def test_spoke_for__from_the_first_second_to_the_last(
    staking: Contract, provider: Provider
) -> None:
    key, owner = provider.operator.address, provider.owner
    begins = now()
    assert staking.spoke_for(key, owner, begins, begins)
    assert not staking.spoke_for(key, owner, 1, begins - 1)
    go_to(begins + 100)
    assert staking.spoke_for(key, owner, now(), now())
    replace_key(staking, owner, NEW)
    assert staking.spoke_for(key, owner, begins + 100, begins + 200)
    assert not staking.spoke_for(key, owner, begins + 101, begins + 200)
    assert not staking.spoke_for(NEW.address, owner, 1, begins + 99)
    assert not staking.spoke_for(NEXT.address, owner, 1, 2**63)
    assert not staking.spoke_for(key, NEXT.address, 1, 2**63)


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
