# SPDX-License-Identifier: Apache-2.0
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.messages import encode_defunct

from provider_agent.http.clients import RateLimit
from provider_agent.http.limits import ApiLimits
from provider_agent.modules.jobs.documents import JobView
from teraproof.client import transport
from teraproof.client.jobs import AgentClient
from teraproof.client.line import Line
from teraproof.errors import AuthError
from teraproof.protocol import siwe
from teraproof.protocol.errors import Code
from tests.agent.api_rig import (
    CHAIN_ID,
    JOB_ID,
    STRANGER,
    TENANT,
    WALLET,
    Rig,
    code_of,
    http,
    serve,
)
from tests.support.codes import fails_as


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path)) as running:
        running.jobs[JOB_ID] = JobView(TENANT.address, {"status": "OPEN"})
        yield running


def job_url(rig: Rig) -> str:
    return f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def signed_in(rig: Rig, account: Any = TENANT, **changes: Any) -> httpx.Response:
    """Sign in with a message that differs from the right one in `changes`."""
    nonce = http.post(rig.url + "/v1/auth/nonce").json()["nonce"]
    message = siwe.new_message(rig.url, TENANT.address, CHAIN_ID, nonce, int(time.time()))
    text = replace(message, **changes).text()
    signature = account.sign_message(encode_defunct(text=text)).signature.hex()
    body = {"message": text, "signature": "0x" + signature.removeprefix("0x")}
    return http.post(rig.url + "/v1/auth/login", json=body)


def test_login__tenant__token_opens_own_job(rig: Rig) -> None:
    answer = signed_in(rig)
    assert answer.status_code == 200
    assert answer.json()["address"] == TENANT.address
    token = answer.json()["token"]
    found = http.get(job_url(rig), headers=bearer(token))
    assert (found.status_code, found.json()) == (200, {"status": "OPEN"})
    assert found.headers["cache-control"] == "no-store"


def test_login__token__stored_as_hash_only(rig: Rig) -> None:
    token = signed_in(rig).json()["token"]
    assert len(token) >= 43  # 256 bits
    assert list(rig.store.sessions) == [hashlib.sha256(token.encode()).digest()]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"domain": "evil.example"}, Code.SIGN_IN_ELSEWHERE),
        ({"uri": "http://evil.example"}, Code.SIGN_IN_ELSEWHERE),
        ({"chain_id": 1}, Code.SIGN_IN_ELSEWHERE),
        ({"nonce": "0" * 32}, Code.NONCE_UNKNOWN),
        ({"issued_at": siwe.rfc3339(1_700_000_000)}, Code.SIGN_IN_EXPIRED),
        ({"expiration_time": siwe.rfc3339(1_700_000_000)}, Code.SIGN_IN_EXPIRED),
        ({"address": STRANGER.address}, Code.SIGNATURE_INVALID),
    ],
)
def test_login__message_for_something_else__401(
    rig: Rig, changes: dict[str, str], code: Code
) -> None:
    answer = signed_in(rig, **changes)
    assert answer.status_code == 401
    assert code_of(answer) is code
    assert not rig.store.sessions


def test_login__wrong_signer__401(rig: Rig) -> None:
    assert signed_in(rig, STRANGER).status_code == 401


def test_login__replayed__401(rig: Rig) -> None:
    nonce = http.post(rig.url + "/v1/auth/nonce").json()["nonce"]
    text = siwe.new_message(rig.url, TENANT.address, CHAIN_ID, nonce, int(time.time())).text()
    signature = bytes(TENANT.sign_message(encode_defunct(text=text)).signature).hex()
    body = {"message": text, "signature": signature}
    statuses = [http.post(rig.url + "/v1/auth/login", json=body).status_code for _ in range(2)]
    assert statuses == [200, 401]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"message":"x"}', b'{"message":1,"signature":"0x"}', b"[" * 9_000]
    + [b'{"message":"x","signature":"zz"}', '{"message":"é","signature":""}'.encode()],
    ids=len,
)
def test_login__malformed_body__400(rig: Rig, body: bytes) -> None:
    answer = http.post(rig.url + "/v1/auth/login", content=body)
    assert code_of(answer) in (Code.BODY_INVALID, Code.FIELD_INVALID)


def test_login__huge_body__413(rig: Rig) -> None:
    answer = http.post(rig.url + "/v1/auth/login", content=b" " * 100_000)
    assert code_of(answer) is Code.BODY_TOO_LARGE


def test_login__contract_wallet__asks_the_contract(rig: Rig) -> None:
    assert signed_in(rig, address=WALLET).status_code == 401
    rig.wallet_signer = TENANT.address
    answer = signed_in(rig, address=WALLET)
    assert (answer.status_code, answer.json()["address"]) == (200, WALLET)
    assert signed_in(rig, STRANGER, address=WALLET).status_code == 401


def test_job__no_or_bad_token__401(rig: Rig) -> None:
    for headers in ({}, bearer("x"), bearer("y" * 43), {"authorization": "Basic eDp5"}):
        answer = http.get(job_url(rig), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert code_of(answer) in (Code.SESSION_REQUIRED, Code.SESSION_UNKNOWN)


def test_job__token_of_another_address__403(rig: Rig) -> None:
    with rig.client(STRANGER) as stranger:
        for path in ("", "/result", "/result/a", "/result.tar", "/receipt", "/logs"):
            with fails_as(Code.NOT_REQUESTER):
                stranger._http.json("GET", f"/v1/jobs/0x{JOB_ID.hex()}{path}")


def test_job__session_expired__client_signs_in_again(rig: Rig) -> None:
    with rig.client() as tenant:
        tenant.job(JOB_ID)
        rig.store.sessions.clear()
        assert tenant.job(JOB_ID) == {"status": "OPEN"}
        (token_hash,) = rig.store.sessions
        rig.store.sessions[token_hash] = (TENANT.address, int(time.time()) - 1)
        assert tenant.job(JOB_ID) == {"status": "OPEN"}
        assert len(rig.store.sessions) == 2


def test_client__other_chain__refuses_to_sign(rig: Rig) -> None:
    with (
        rig.client(chain_id=1) as tenant,
        fails_as(Code.SIGN_IN_ELSEWHERE),
    ):
        tenant.login()


def test_client__agent_calls_itself_another_host__refuses_to_sign(rig: Rig) -> None:
    by_name = rig.url.replace("127.0.0.1", "localhost")
    with (
        AgentClient(by_name, TENANT) as tenant,
        fails_as(Code.SIGN_IN_ELSEWHERE),
    ):
        tenant.login()


def test_client__wallet_declines__one_line(rig: Rig) -> None:
    class Declines:
        address = TENANT.address

        def sign_message(self, message: object, /) -> None:
            return None

    with AgentClient(rig.url, Declines()) as tenant, fails_as(Code.DECLINED):
        tenant.login()


def test_client__nobody_there__one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with (
        AgentClient("http://127.0.0.1:1", TENANT) as tenant,
        fails_as(Code.AGENT_UNREACHABLE),
    ):
        tenant.login()


def test_auth__too_many_from_one_client__429(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(auth_burst=3, auth_per_minute=1))) as rig:
        statuses = [http.post(rig.url + "/v1/auth/nonce").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert http.get(rig.url + "/healthz").status_code == 200


@pytest.mark.parametrize("trusted", [(), ("127.0.0.0/8",), ("10.1.2.3",)])
def test_auth__behind_a_proxy__clients_told_apart_if_it_is_trusted(
    tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    limits = ApiLimits(auth_burst=1, auth_per_minute=1)
    with serve(Rig(tmp_path, limits, trusted_proxies=trusted)) as rig:
        statuses = [
            http.post(
                rig.url + "/v1/auth/nonce", headers={"x-forwarded-for": f"192.0.2.{n}"}
            ).status_code
            for n in (1, 2, 1)
        ]
    apart = trusted == ("127.0.0.0/8",)
    assert statuses == ([200, 200, 429] if apart else [200, 429, 429])


@pytest.mark.parametrize(
    "url", ["HTTPS://127.0.0.1:9", "https://127.0.0.1:9", "http://127.0.0.1:9"]
)
def test_client__scheme_in_capitals__certificates_are_checked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def line(*given: Any, tls: bool) -> Line:
        asked.append(tls)
        return Line(*given, tls=False)

    monkeypatch.setattr(transport, "Line", line)
    with AgentClient(url, TENANT) as made:
        assert made.base_url == url.lower()
    assert asked == [url.lower().startswith("https")]


@pytest.mark.parametrize("url", ["gopher://x", "http://", "http://exa mple\x01", "http://[::1"])
def test_client__bad_url__one_line(url: str) -> None:
    with pytest.raises(AuthError):
        AgentClient(url, TENANT)


def test_rate_limit__time_passes__allows_again() -> None:
    now = [0.0]
    limit = RateLimit(per_minute=60, burst=2, clock=lambda: now[0])
    assert [limit.allow("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert limit.allow("10.0.0.2")
    now[0] = 1.0
    assert [limit.allow("10.0.0.1") for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("per_minute", "crowd"), [(60, 20), (1, 20), (7, 1), (6_000, 3)])
def test_rate_limit__pause__the_least_whole_seconds(per_minute: int, crowd: int) -> None:
    now = [0.0]
    limit = RateLimit(per_minute, burst=3, crowd=crowd, clock=lambda: now[0])
    clients = ["10.0.0.1", "2001:db8::1"]
    while limit.allow(clients[0]) or limit.allow(clients[1]):
        now[0] += 0.001
    for client in clients:
        pause = limit.pause(client)
        if pause > 1:
            now[0] += pause - 1.001
            assert not limit.allow(client)
            now[0] += 1.001
        else:
            now[0] += 1
        assert limit.allow(client)


def test_rate_limit__one_ipv6_network__one_client() -> None:
    limit = RateLimit(per_minute=1, burst=2, clock=lambda: 0.0)
    found = [limit.allow(f"2001:db8::{n:x}") for n in range(3)]
    assert found == [True, True, False]
    assert limit.allow("2001:db8:0:1::1")


def test_rate_limit__a_crowd__limited_together_in_bounded_memory() -> None:
    limit = RateLimit(per_minute=1, burst=2, crowd=3, clock=lambda: 0.0)
    found = [limit.allow(f"10.0.{n // 250}.{n % 250}") for n in range(12_000)]
    assert sum(found) == 6
    assert len(limit._buckets) <= 10_000
