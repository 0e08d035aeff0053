# SPDX-License-Identifier: Apache-2.0
"""`attest`: the present operator's word for this job, until the deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boa
import pytest
from eth_account.signers.local import LocalAccount

from teraproof.protocol import messages
from teraproof.protocol.terms import Status, Terms
from tests.contracts.actions import (
    ORDER,
    RECEIPT,
    RESULT,
    Provider,
    assigned,
    attest,
    attestation_of,
    attested,
    consent,
    domain,
    event,
    go_to,
    now,
    order,
    pass_time,
    post,
)
from tests.contracts.deploy import DAY, Contract, Suite, account_of, address_of, deploy_jobs


@pytest.fixture
def terms(suite: Suite, requester: str, provider: Provider) -> Terms:
    """A job assigned now."""
    return assigned(suite, requester, provider)


@pytest.fixture
def submit(jobs: Contract, stranger: str) -> Callable[..., Any]:
    """Relay a signed attestation."""

    def call(terms: Terms, message: messages.Attestation, signature: bytes) -> None:
        jobs.attest(
            terms.abi_tuple(),
            message.result,
            message.receipt,
            message.started,
            message.finished,
            signature,
            sender=stranger,
        )

    return call


def signed(jobs: Contract, operator: LocalAccount, message: messages.Attestation) -> bytes:
    return messages.sign(domain(jobs), message, operator)


def test_attest__relayed_by_anyone(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms, stranger: str
) -> None:
    assigned_at = now()
    pass_time(60)
    record = attest(suite, provider, terms, sender=stranger, started=5, finished=6)
    assert event(jobs, "Attested") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "result": RESULT,
        "receipt": RECEIPT,
        "started": 5,
        "finished": 6,
        "assigned_at": assigned_at,
        "attested_at": now(),
        "paused": 0,
    }
    assert jobs.status(terms.job_id()) == Status.ATTESTED
    assert jobs.state(terms.job_id()) == record.state_word()


def test_attest__keeps_the_collateral_locked(
    suite: Suite, jobs: Contract, staking: Contract, provider: Provider, terms: Terms
) -> None:
    attest(suite, provider, terms)
    assert staking.lock_of(jobs.address, provider.owner, terms.job_id())[0] == ORDER.collateral


@pytest.mark.parametrize("late", [False, True])
def test_attest__deadline__exact(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms, late: bool
) -> None:
    go_to(terms.deadline(now()) + late)
    if late:
        with boa.reverts("jobs: deadline passed"):
            attest(suite, provider, terms)
    else:
        attest(suite, provider, terms)
        assert jobs.status(terms.job_id()) == Status.ATTESTED


def test_attest__under_a_pause(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms
) -> None:
    jobs.pause(DAY, sender=suite.guardian)
    attest(suite, provider, terms)


def test_attest__after_the_manager_is_removed(
    suite: Suite, jobs: Contract, staking: Contract, provider: Provider, terms: Terms
) -> None:
    staking.remove_manager(jobs.address, sender=suite.owner)
    attest(suite, provider, terms)


def test_attest__open__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, submit: Callable[..., Any]
) -> None:
    terms = post(suite, requester)
    message = attestation_of(terms)
    with boa.reverts("jobs: not assigned"):
        submit(terms, message, signed(jobs, provider.operator, message))


def test_attest__twice__reverts(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms, submit: Callable[..., Any]
) -> None:
    attest(suite, provider, terms)
    message = attestation_of(terms, result=bytes(32))
    with boa.reverts("jobs: not assigned"):
        submit(terms, message, signed(jobs, provider.operator, message))


@pytest.mark.parametrize(
    "change", [{"result": b"\x07" * 32}, {"receipt": b"\x07" * 32}, {"started": 7}, {"finished": 7}]
)
def test_attest__changed_by_the_relayer__reverts(
    jobs: Contract, provider: Provider, terms: Terms, submit: Callable[..., Any], change: Any
) -> None:
    signature = signed(jobs, provider.operator, attestation_of(terms))
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, attestation_of(terms, **change), signature)


def test_attest__replayed_on_another_job__reverts(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    terms: Terms,
    submit: Callable[..., Any],
) -> None:
    other = assigned(suite, requester, provider, order(nonce=1))
    attest(suite, provider, terms)
    message = attestation_of(terms)
    with boa.reverts("jobs: not the operator's attestation"):
        submit(other, message, signed(jobs, provider.operator, message))


def test_attest__for_another_deployment__reverts(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms, submit: Callable[..., Any]
) -> None:
    other = deploy_jobs(
        suite.payment,
        suite.staking,
        suite.owner,
        suite.parameters,
        guardian=suite.guardian,
        treasury=suite.treasury,
    )
    message = attestation_of(terms)
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, message, signed(other, provider.operator, message))


@pytest.mark.parametrize("signer", ["stranger", "provider", "provider's payout"])
def test_attest__signed_by_another__reverts(
    jobs: Contract, provider: Provider, terms: Terms, submit: Callable[..., Any], signer: str
) -> None:
    message = attestation_of(terms)
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, message, signed(jobs, account_of(signer), message))


def test_attest__operator_of_another_provider__reverts(
    jobs: Contract, terms: Terms, submit: Callable[..., Any], make_provider: Callable[..., Provider]
) -> None:
    other = make_provider("other provider")
    message = attestation_of(terms)
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, message, signed(jobs, other.operator, message))


@pytest.mark.parametrize("length", [0, 1, 63])
def test_attest__malformed_signature__reverts(
    terms: Terms, submit: Callable[..., Any], length: int
) -> None:
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, attestation_of(terms), b"\x01" * length)


def test_attest__old_operator__reverts_and_the_new_one_can(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    provider: Provider,
    terms: Terms,
    submit: Callable[..., Any],
) -> None:
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    message = attestation_of(terms)
    with boa.reverts("jobs: not the operator's attestation"):
        submit(terms, message, signed(jobs, provider.operator, message))
    submit(terms, message, signed(jobs, successor, message))
    assert jobs.status(terms.job_id()) == Status.ATTESTED


def test_attest__invented_terms__reverts(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    terms: Terms,
    submit: Callable[..., Any],
) -> None:
    """Terms with a longer deadline are another job, which does not exist."""
    longer = replace(terms, order=order(duration=9_999))
    message = attestation_of(longer)
    with boa.reverts("jobs: not assigned"):
        submit(longer, message, signed(jobs, provider.operator, message))


def test_attest__in_the_block_of_the_post(suite: Suite, requester: str, provider: Provider) -> None:
    terms, record = attested(suite, requester, provider)
    assert record.attested_at == terms.posted_at


def test_attest__expired_job__reverts(
    suite: Suite, jobs: Contract, provider: Provider, terms: Terms, submit: Callable[..., Any]
) -> None:
    pass_time(ORDER.duration + 1)
    jobs.expire(terms.abi_tuple(), sender=address_of("hunter"))
    message = attestation_of(terms)
    with boa.reverts("jobs: not assigned"):
        submit(terms, message, signed(jobs, provider.operator, message))


def send_unsigned(jobs: Contract, terms: Terms, sender: str) -> None:
    """Attest without a signature."""
    jobs.attest(terms.abi_tuple(), RESULT, RECEIPT, 1, 2, b"", sender=sender)


def test_attest__by_the_operator_itself__needs_no_signature(
    jobs: Contract, provider: Provider, terms: Terms
) -> None:
    send_unsigned(jobs, terms, provider.operator.address)
    assert event(jobs, "Attested")["provider"] == provider.owner
    assert jobs.status(terms.job_id()) == Status.ATTESTED


def test_attest__unsigned_by_another__reverts(
    jobs: Contract,
    provider: Provider,
    terms: Terms,
    make_provider: Callable[..., Provider],
    stranger: str,
) -> None:
    other = make_provider("other provider")
    for caller in (stranger, provider.owner, provider.payout, other.operator.address):
        with boa.reverts("jobs: not the operator's attestation"):
            send_unsigned(jobs, terms, caller)


def test_attest__by_the_operator_with_a_wrong_signature__reverts(
    jobs: Contract, provider: Provider, terms: Terms
) -> None:
    with boa.reverts("jobs: not the operator's attestation"):
        jobs.attest(
            terms.abi_tuple(),
            RESULT,
            RECEIPT,
            1,
            2,
            signed(jobs, account_of("stranger"), attestation_of(terms)),
            sender=provider.operator.address,
        )


@pytest.mark.parametrize("length", [1, 63, 64])
def test_attest__by_the_operator_with_a_broken_signature__reverts(
    jobs: Contract, provider: Provider, terms: Terms, length: int
) -> None:
    """Only none at all is the operator's own word; what is there must be right."""
    with boa.reverts("jobs: not the operator's attestation"):
        jobs.attest(
            terms.abi_tuple(),
            RESULT,
            RECEIPT,
            1,
            2,
            b"\x01" * length,
            sender=provider.operator.address,
        )


def test_attest__old_operator_unsigned__reverts(
    jobs: Contract, staking: Contract, provider: Provider, terms: Terms
) -> None:
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    with boa.reverts("jobs: not the operator's attestation"):
        send_unsigned(jobs, terms, provider.operator.address)
    send_unsigned(jobs, terms, successor.address)
    assert jobs.status(terms.job_id()) == Status.ATTESTED
