# SPDX-License-Identifier: Apache-2.0
"""What agents and tenants say about leases comes back as it was said, or is refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from teraproof.errors import LocalError, SpecError
from teraproof.protocol import lease_wire, messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import Ending, LeaseStatus
from teraproof.protocol.lease_wire import (
    ContainerReport,
    EndpointReport,
    LeaseOutcome,
    LeaseReport,
    QuoteRequest,
    RegistryLogin,
    RegistryLogins,
    SignedLeaseQuote,
)
from tests.agent.api_rig import OPERATOR, TENANT

LEASES = messages.Domain(31_337, "0x" + "0b" * 20)
REPORT = LeaseReport(
    lease=b"\x07" * 32,
    spec=b"\x08" * 32,
    requester=TENANT.address,
    status=LeaseStatus.ACTIVE,
    rate=2**80 - 1,
    blocked_by=Code.LEASE_DOWN,
    note="web 0 exited with 1",
    suspended=True,
    assigned_at=1,
    ready_at=2,
    ends_at=3,
    seconds=4,
    seconds_paid=2,
    affordable=9,
    containers=(ContainerReport("web", 0, "exited", 1, 5, 2, "ended"),),
    endpoints=(EndpointReport("web", 80, 8080, "tcp", True, "https://a.test"),),
    logins=("web",),
)


def quote(**changes: Any) -> messages.LeaseQuote:
    values: dict[str, Any] = {
        "operator": OPERATOR.address,
        "requester": TENANT.address,
        "spec": b"\x09" * 32,
        "rate": 2**79,
        "collateral": 2**87,
        "ready_within": 600,
        "term": 86_400,
        "notice": 3_600,
        "expires": 1_800_000_000,
        "nonce": 2**200 + 5,
    }
    return messages.LeaseQuote(**{**values, **changes})


def signed() -> SignedLeaseQuote:
    made = quote()
    return SignedLeaseQuote(made, messages.sign(LEASES, made, OPERATOR), {"web": "a@sha256:00"})


def test_signed_quote__over_the_wire__the_same_and_its_operators() -> None:
    found = SignedLeaseQuote.from_json(json.loads(json.dumps(signed().to_json())))
    assert found == signed()
    assert messages.recover(LEASES, found.quote, found.signature) == OPERATOR.address


@pytest.mark.parametrize(
    "change",
    [
        {"quote": None},
        {"quote": {}},
        {"signature": "0x12"},
        {"signature": 5},
        {"quote": {**signed().to_json()["quote"], "rate": "-1"}},
        {"quote": {**signed().to_json()["quote"], "term": str(2**64)}},
        {"quote": {**signed().to_json()["quote"], "spec": "0x12"}},
        {"images": []},
    ],
)
def test_quote_of_another_form__refused(change: dict[str, Any]) -> None:
    with pytest.raises(LocalError) as caught:
        SignedLeaseQuote.from_json({**signed().to_json(), **change})
    assert caught.value.code is Code.QUOTE_INVALID


@pytest.mark.parametrize("document", [None, [], "quote", 5])
def test_answer_that_is_no_object__refused(document: Any) -> None:
    with pytest.raises(LocalError):
        SignedLeaseQuote.from_json(document)


def test_quote_request__over_the_wire__the_same() -> None:
    asked = QuoteRequest(b"\x01" * 32, 86_400, 60)
    assert QuoteRequest.from_json(asked.to_json()) == asked


@pytest.mark.parametrize(
    ("field", "value"),
    [("spec", "AB"), ("term", "-1"), ("term", "01"), ("notice", "1.5"), ("term", str(2**32))],
)
def test_quote_request_of_another_form__names_the_field(field: str, value: str) -> None:
    with pytest.raises(LocalError) as caught:
        QuoteRequest.from_json({**QuoteRequest(b"\x01" * 32, 1).to_json(), field: value})
    assert str(caught.value).startswith(f"{field}: ")


def test_report__over_the_wire__the_same() -> None:
    assert LeaseReport.from_json(json.loads(json.dumps(REPORT.to_json()))) == REPORT


def test_report_of_a_later_version__what_is_new_is_left_out() -> None:
    document = REPORT.to_json()
    document["mood"] = "fine"
    document["containers"][0]["mood"] = "fine"
    document |= {"blocked_by": "a_later_code", "outcome": "in_a_later_way"}
    found = LeaseReport.from_json(document)
    assert found.blocked_by is Code.CODE_UNKNOWN
    assert found.outcome is LeaseOutcome.ENDED


@pytest.mark.parametrize(
    "change",
    [
        {"status": "asleep"},
        {"rate": 5},
        {"rate": "-5"},
        {"lease": "07"},
        {"seconds": -1},
        {"running": 1},
        {"note": "x" * 2_001},
        {"containers": [{}]},
        {"endpoints": [{"service": "web"}]},
    ],
)
def test_report_of_another_form__refused_in_a_line(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        LeaseReport.from_json({**REPORT.to_json(), **change})
    assert "\n" not in str(caught.value)


def test_outcome__every_ending_of_the_contract_has_its_own() -> None:
    assert {LeaseOutcome.of(each) for each in Ending} == set(LeaseOutcome) - {
        LeaseOutcome.CANCELLED,
        LeaseOutcome.ENDED,
    }
    assert LeaseOutcome.of(200) is LeaseOutcome.ENDED


def test_logins__over_the_wire__the_same_and_not_in_a_log() -> None:
    logins = RegistryLogins({"web": RegistryLogin("me", "hunter2", "registry.test")})
    assert RegistryLogins.from_json(json.loads(json.dumps(logins.to_json()))) == logins
    assert "hunter2" not in repr(logins)


@pytest.mark.parametrize("password", ["hunter2" * 3_000, ["hunter2"], {"hunter2": 1}])
def test_logins_of_another_form__the_line_has_no_secret(password: Any) -> None:
    login = {"username": "me", "password": password, "host": ""}
    with pytest.raises(SpecError) as caught:
        RegistryLogins.from_json({"services": {"web": login}})
    assert "password" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_logins_for_a_name_that_no_service_has__refused() -> None:
    login = {"username": "me", "password": "a", "host": ""}
    with pytest.raises(SpecError):
        RegistryLogins.from_json({"services": {"No Service": login}})


def test_paths__are_those_of_the_module_text() -> None:
    for path in (lease_wire.OFFER, lease_wire.SPECS, lease_wire.QUOTES):
        assert path in (lease_wire.__doc__ or "")
