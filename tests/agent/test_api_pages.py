# SPDX-License-Identifier: Apache-2.0
"""Web pages as tenants: which may call the API from a browser, and what their users sign."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.messages import encode_defunct

from provider_agent.core.settings import ApiSettings
from teraproof.errors import AuthError
from teraproof.protocol import siwe
from teraproof.protocol.errors import CODE_HEADER, Code
from tests.agent.api_rig import CHAIN_ID, TENANT, Rig, code_of, http, serve

PAGE = "https://app.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path, origins=(PAGE, "http://localhost:3000"))) as running:
        yield running


def preflight(rig: Rig, origin: str, method: str = "POST", header: str = "content-type") -> Any:
    return http.options(
        rig.url + "/v1/auth/login",
        headers={
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": header,
        },
    )


def sign_in(rig: Rig, **changes: Any) -> httpx.Response:
    nonce = http.post(rig.url + "/v1/auth/nonce").json()["nonce"]
    message = siwe.new_message(rig.url, TENANT.address, CHAIN_ID, nonce, int(time.time()))
    text = replace(message, **changes).text()
    signature = TENANT.sign_message(encode_defunct(text=text)).signature.hex()
    return http.post(rig.url + "/v1/auth/login", json={"message": text, "signature": signature})


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
@pytest.mark.parametrize("header", ["content-type", "authorization", "range"])
def test_page_that_is_named__may_call(rig: Rig, origin: str, header: str) -> None:
    asked = preflight(rig, origin, header=header)
    assert (asked.status_code, asked.headers[ALLOWED]) == (200, origin)
    assert header in asked.headers["access-control-allow-headers"].lower()
    answer = http.get(rig.url + "/v1/provider", headers={"origin": origin})
    assert answer.headers[ALLOWED] == origin
    assert "origin" in answer.headers["vary"].lower()


def test_page_that_is_named__reads_errors_too(rig: Rig) -> None:
    answer = http.get(f"{rig.url}/v1/jobs/0x{'0' * 64}", headers={"origin": PAGE})
    assert (code_of(answer), answer.headers[ALLOWED]) == (Code.SESSION_REQUIRED, PAGE)
    assert CODE_HEADER in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", "https://app.example:8443", "null"]
    + ["https://app.example.evil.example", "https://sub.app.example"],
)
def test_any_other_page__refused_in_the_one_shape(rig: Rig, origin: str) -> None:
    assert code_of(preflight(rig, origin)) is Code.BAD_REQUEST
    answer = http.get(rig.url + "/v1/provider", headers={"origin": origin})
    assert ALLOWED not in answer.headers


def test_no_cookies__a_page_can_send_no_session_unasked(rig: Rig) -> None:
    answer = preflight(rig, PAGE)
    assert "access-control-allow-credentials" not in answer.headers


def test_unless_set__no_page_at_all(tmp_path: Path) -> None:
    with serve(Rig(tmp_path)) as rig:
        assert code_of(preflight(rig, PAGE)) is Code.METHOD_NOT_ALLOWED
        answer = http.get(rig.url + "/v1/provider", headers={"origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_sign_in__user_of_a_page__signs_the_page_s_domain(rig: Rig) -> None:
    page = {"domain": "app.example", "scheme": "https"}
    assert sign_in(rig, **page).status_code == 200
    assert sign_in(rig, **{**page, "scheme": None}).status_code == 200
    assert sign_in(rig, domain="localhost:3000", scheme="http").status_code == 200
    assert sign_in(rig).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"domain": "evil.example", "scheme": "https"},
        {"domain": "app.example", "scheme": "http"},
        {"domain": "app.example:8443", "scheme": "https"},
        {"domain": "app.example", "scheme": "https", "uri": PAGE},
    ],
)
def test_sign_in__for_another_site__refused(rig: Rig, changes: dict[str, Any]) -> None:
    assert code_of(sign_in(rig, **changes)) is Code.SIGN_IN_ELSEWHERE


def test_sign_in__page_not_set__refused(tmp_path: Path) -> None:
    with serve(Rig(tmp_path)) as rig:
        answer = sign_in(rig, domain="app.example", scheme="https")
        assert code_of(answer) is Code.SIGN_IN_ELSEWHERE


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://app.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_setting__origin_as_browsers_send_it(given: str, kept: str) -> None:
    assert ApiSettings(allowed_origins=(given,)).allowed_origins == (kept,)


@pytest.mark.parametrize(
    "given",
    ["*", "app.example", "https://", "https://app.example/path", "https://a@app.example"]
    + ["https://*.example/x", "ftp://app.example", "null", "https://app.example?x"],
)
def test_setting__not_an_origin__refused(given: str) -> None:
    with pytest.raises(ValueError, match="allowed_origins"):
        ApiSettings(allowed_origins=(given,))
    with pytest.raises(AuthError):
        siwe.origin(given)


def test_setting__status_port__next_to_the_api_unless_named() -> None:
    assert ApiSettings().status_port_in_use == 8_701
    assert ApiSettings(port=0).status_port_in_use == 0
    assert ApiSettings(port=65_535).status_port_in_use == 0
    assert ApiSettings(status_port=9_000).status_port_in_use == 9_000
