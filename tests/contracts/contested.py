# SPDX-License-Identifier: Apache-2.0
"""A court behind the real Jobs, and deals before it: fixtures for the tests of contested results.

A test file names those that it takes, in place of the common ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.actions import (
    Provider,
    assigned,
    attest,
    attestation_of,
    give_usd,
    order,
)
from tests.contracts.court import CAPABILITY, MANIFEST, Case, Court, result_of
from tests.contracts.court_room import filled
from tests.contracts.deploy import LOCK, REWARD, SLASH, Parameters, Suite, address_of, deploy_suite

JUDGED = int.from_bytes(CAPABILITY, "big")
WANTED = order(judged=JUDGED, duration=600)
PRICE = WANTED.start_price
EVIDENCE = b"\x0e" * 32
OTHER_MANIFEST = b"the manifest of another result"


@pytest.fixture(scope="module")
def full_court() -> Any:
    """A suite with a court of jurors of a seat each."""
    suite = deploy_suite(
        Parameters(),
        with_court=True,
        managers={address_of("manager"): LOCK | SLASH | REWARD},
    )
    return filled(Court(suite, suite.disputes, suite.jobs, suite.parameters))


@pytest.fixture
def suite(court: Court) -> Any:
    return court.suite


def attested(suite: Suite, requester: str, provider: Provider, wanted: Any = WANTED) -> Any:
    terms = assigned(suite, requester, provider, wanted)
    return terms, attest(suite, provider, terms, result=result_of(MANIFEST))


@pytest.fixture
def deal(suite: Suite, requester: str, provider: Provider) -> Any:
    """An attested job that jurors judge: terms and record."""
    return attested(suite, requester, provider)


def statement(terms: Any, **changes: Any) -> Any:
    message = replace(attestation_of(terms, result=result_of(MANIFEST)), **changes)
    return (message.spec, message.result, message.receipt, message.started, message.finished)


def dispute(court: Court, terms: Any, record: Any, sender: Any = None, **changes: Any) -> Any:
    court.suite.jobs.dispute(
        terms.abi_tuple(),
        record.abi_tuple(),
        statement(terms, **changes),
        EVIDENCE,
        sender=sender or terms.requester,
    )
    return court.case_of(court.suite, terms, record, PRICE)


@pytest.fixture
def bond(court: Court) -> Any:
    return PRICE + 6 * court.disputes.costs_of(PRICE, 600)[0]


@pytest.fixture
def case(court: Court, requester: str, deal: Any, bond: int) -> Any:
    """A dispute of a job, opened by its tenant."""
    give_usd(court.suite, requester, bond)
    return dispute(court, *deal)


@pytest.fixture
def conclude(suite: Suite, deal: Any) -> Any:
    def call(case: Case, sender: Any, terms: Any = None, record: Any = None) -> None:
        suite.jobs.conclude(
            (terms or deal[0]).abi_tuple(),
            (record or deal[1]).abi_tuple(),
            case.abi_tuple(),
            sender=sender,
        )

    return call
