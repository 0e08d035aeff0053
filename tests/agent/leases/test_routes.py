# SPDX-License-Identifier: Apache-2.0
"""The routes of leases over HTTP: who may ask, what comes in, what goes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from provider_agent.http.app import create_app
from provider_agent.http.openapi import document
from provider_agent.modules.leases.api import LeasesApi
from provider_agent.modules.leases.routes import LeaseRoutes
from provider_agent.prover.acceptance.desk import Desk
from teraproof.client.leases import LeaseClient
from teraproof.errors import Refused, SpecError
from teraproof.protocol import lease_offer, lease_wire, leasespec
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.lease_offer import Capacity, LeaseOffer, Prices
from teraproof.protocol.lease_wire import (
    LeaseReport,
    QuoteRequest,
    RegistryLogin,
    RegistryLogins,
    SignedLeaseQuote,
)
from tests.agent.api_rig import STRANGER, TENANT, Rig, code_of, http, serve
from tests.agent.leases.documents import spec
from tests.agent.leases.test_wire import REPORT, signed

OFFER = LeaseOffer(Capacity(1_000, 1 << 30, 1 << 30), Capacity(500, 1 << 29, 1 << 29), Prices())
LEASE = "0x" + REPORT.lease.hex()


@dataclass
class LeaseRig(Rig):
    """An API with the routes of leases, and plain answers behind them."""

    specs: dict[bytes, bytes] = field(default_factory=dict)
    spec_refusal: Refused | None = None
    asked: list[tuple[str, QuoteRequest]] = field(default_factory=list)
    logins: dict[bytes, RegistryLogins] = field(default_factory=dict)
    saves: list[tuple[bytes, int]] = field(default_factory=list)

    def app(self) -> ASGIApp:
        """See `Rig`."""
        api = LeasesApi(OFFER.to_json, self, self, self, Desk(), lambda lease: None, self.limits)
        return create_app(self.deps(), [lambda door: LeaseRoutes(api, door).operations()])

    def has(self, digest: bytes) -> bool:
        return digest in self.specs

    def take(self, account: str, digest: bytes, data: bytes) -> bool:
        if self.spec_refusal is not None:
            raise self.spec_refusal
        try:
            leasespec.parse_named(data, digest)
        except SpecError as error:
            raise Refused(error.code, str(error)) from None
        self.specs[digest] = data
        return True

    def issue(self, requester: str, request: QuoteRequest) -> SignedLeaseQuote:  # type: ignore[override]
        self.asked.append((requester, request))
        return signed()

    def report(self, lease: bytes) -> LeaseReport | None:
        return REPORT if lease == REPORT.lease else None

    def log_in(self, lease: bytes, logins: RegistryLogins) -> None:
        self.logins[lease] = logins

    def save(self, lease: bytes, save: int) -> AskedSave:
        self.saves.append((lease, save))
        return AskedSave(save or 1, done=True, checkpoint="20.1")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[LeaseRig]:
    with serve(LeaseRig(tmp_path)) as made:
        assert isinstance(made, LeaseRig)
        yield made


def ask(rig: LeaseRig, method: str, path: str, account: Any = TENANT, **options: Any) -> Any:
    """An answer to a signed-in account."""
    with rig.client(account) as client:
        client.login()
        headers = {"authorization": f"Bearer {client._http._token}"}
    return http.request(method, rig.url + path, headers=headers, **options)


def test_offer__without_a_session__what_the_provider_offers(rig: LeaseRig) -> None:
    answer = http.get(rig.url + lease_wire.OFFER)
    assert lease_offer.from_json(answer.json()) == OFFER


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", f"{lease_wire.SPECS}/{'0' * 64}"),
        ("PUT", f"{lease_wire.SPECS}/{'0' * 64}"),
        ("POST", lease_wire.QUOTES),
        ("GET", f"/v1/leases/{LEASE}"),
        ("PUT", f"/v1/leases/{LEASE}/credentials"),
        ("POST", f"/v1/leases/{LEASE}/checkpoint"),
        ("GET", f"/v1/leases/{LEASE}/challenge"),
    ],
)
def test_everything_else__without_a_session__refused(rig: LeaseRig, method: str, path: str) -> None:
    assert code_of(http.request(method, rig.url + path)) is Code.SESSION_REQUIRED


def test_specification__sent_twice__kept_once(rig: LeaseRig) -> None:
    one = spec()
    path = f"{lease_wire.SPECS}/{one.digest().hex()}"
    assert code_of(ask(rig, "HEAD", path)) is Code.SPEC_MISSING
    assert ask(rig, "PUT", path, content=one.canonical()).status_code == 201
    assert ask(rig, "PUT", path, content=one.canonical()).status_code == 200
    assert ask(rig, "HEAD", path).status_code == 200
    assert rig.specs == {one.digest(): one.canonical()}


def test_specification__other_bytes_than_its_name__refused(rig: LeaseRig) -> None:
    path = f"{lease_wire.SPECS}/{spec().digest().hex()}"
    answer = ask(rig, "PUT", path, content=b"{}")
    assert code_of(answer) is Code.DIGEST_MISMATCH


def test_specification__that_the_provider_would_never_take__says_why(rig: LeaseRig) -> None:
    one = spec()
    rig.spec_refusal = Refused(Code.MACHINE_UNFIT, "has not all of the GPUs", wanted="gpus")
    answer = ask(rig, "PUT", f"{lease_wire.SPECS}/{one.digest().hex()}", content=one.canonical())
    assert code_of(answer) is Code.MACHINE_UNFIT
    assert answer.json()["error"]["details"] == {"wanted": "gpus"}


def test_quote__asked_for__is_for_who_signed_in(rig: LeaseRig) -> None:
    asked = QuoteRequest(b"\x01" * 32, 3_600)
    answer = ask(rig, "POST", lease_wire.QUOTES, json=asked.to_json())
    assert SignedLeaseQuote.from_json(answer.json()) == signed()
    assert rig.asked == [(TENANT.address, asked)]


@pytest.mark.parametrize(
    ("change", "name"),
    [({"term": "x"}, "term"), ({"spec": "1"}, "spec"), ({"notice": ""}, "notice")],
)
def test_quote_request__of_another_form__names_the_field(
    rig: LeaseRig, change: dict[str, str], name: str
) -> None:
    body = QuoteRequest(b"\x01" * 32, 3_600).to_json() | change
    answer = ask(rig, "POST", lease_wire.QUOTES, json=body)
    assert code_of(answer) is Code.FIELD_INVALID
    assert answer.json()["error"]["details"]["field"] == name


def test_report__for_the_tenant_alone(rig: LeaseRig) -> None:
    assert LeaseReport.from_json(ask(rig, "GET", f"/v1/leases/{LEASE}").json()) == REPORT
    for account, path, code in (
        (STRANGER, f"/v1/leases/{LEASE}", Code.NOT_TENANT),
        (TENANT, f"/v1/leases/0x{'0' * 64}", Code.LEASE_UNKNOWN),
        (TENANT, "/v1/leases/one", Code.FIELD_INVALID),
    ):
        assert code_of(ask(rig, "GET", path, account)) is code


def test_credentials__of_the_tenant_alone(rig: LeaseRig) -> None:
    logins = RegistryLogins({"web": RegistryLogin("me", "hunter2")})
    path = f"/v1/leases/{LEASE}/credentials"
    answer = ask(rig, "PUT", path, STRANGER, json=logins.to_json())
    assert code_of(answer) is Code.NOT_TENANT
    assert not rig.logins
    assert ask(rig, "PUT", path, json=logins.to_json()).status_code == 200
    assert rig.logins == {REPORT.lease: logins}


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"{}", b'{"services": 5}'])
def test_credentials__of_another_form__refused(rig: LeaseRig, body: bytes) -> None:
    answer = ask(rig, "PUT", f"/v1/leases/{LEASE}/credentials", content=body)
    assert code_of(answer) is Code.BODY_INVALID


def test_save__asked_for_by_the_tenant_alone(rig: LeaseRig) -> None:
    path = f"/v1/leases/{LEASE}/checkpoint"
    assert code_of(ask(rig, "POST", path, STRANGER, json={"save": "0"})) is Code.NOT_TENANT
    assert not rig.saves
    answer = ask(rig, "POST", path, json={"save": "7"})
    assert AskedSave.from_json(answer.json()) == AskedSave(7, done=True, checkpoint="20.1")
    assert rig.saves == [(REPORT.lease, 7)]
    with LeaseClient(rig.url, TENANT) as client:
        assert client.save(REPORT.lease) == AskedSave(1, done=True, checkpoint="20.1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, Code.BODY_INVALID),
        ({"save": 1}, Code.FIELD_INVALID),
        ({"save": ""}, Code.FIELD_INVALID),
        ({"save": "-1"}, Code.FIELD_INVALID),
        ({"save": "9" * 16}, Code.FIELD_INVALID),
    ],
)
def test_save__of_another_form__refused(rig: LeaseRig, body: dict[str, object], code: Code) -> None:
    assert code_of(ask(rig, "POST", f"/v1/leases/{LEASE}/checkpoint", json=body)) is code
    assert not rig.saves


def test_document__names_every_route_and_the_form_of_credentials(rig: LeaseRig) -> None:
    api = LeasesApi(OFFER.to_json, rig, rig, rig, Desk(), lambda lease: None)
    found = document(LeaseRoutes(api, None).operations())  # type: ignore[arg-type]
    assert sum(len(each) for each in found["paths"].values()) == 9
    body = found["paths"]["/v1/leases/{lease_id}/credentials"]["put"]["requestBody"]
    assert "services" in body["content"]["application/json"]["schema"]["properties"]
