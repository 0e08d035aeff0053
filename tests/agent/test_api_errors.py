# SPDX-License-Identifier: Apache-2.0
"""Errors on the wire: one shape wherever they come from, and a client that decides by codes.

The rig's own client checks the shape of every error that any other test of the API meets.
"""

from __future__ import annotations

import ast
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from provider_agent.http.errors import told
from provider_agent.modules.jobs.documents import JobView
from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError, Refused, TeraproofError
from teraproof.protocol.errors import CODE_HEADER, Code, Exit, WireError, known
from teraproof.rpc.errors import ChainError, Reverted, RpcError
from tests.agent.api_rig import JOB_ID, TENANT, Rig, code_of, http, make_spec, serve
from tests.support.codes import fails_as

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path)) as running:
        yield running


def raw(rig: Rig, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to bytes that no client would send."""
    host, port = rig.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while piece := connection.recv(4_096):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


class Answer(httpx.BaseTransport):
    """One answer to everything."""

    def __init__(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.status, self.content, self.headers, self.asked = status, content, headers, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(self.status, headers=self.headers, content=iter([self.content]))


def client(answer: Answer) -> AgentClient:
    return AgentClient("http://127.0.0.1:1", TENANT, transport=answer)


# ---------------------------------------------------------------------- the server


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"])
def test_server__not_http__same_shape_before_any_route(rig: Rig, request_: bytes) -> None:
    status, headers, body = raw(rig, request_)
    assert (status, headers[CODE_HEADER]) == (400, "bad_request")
    jsonschema.validate(json.loads(body), WireError.schema())
    assert b"nonsense" not in body


def test_server__long_headers__431(rig: Rig) -> None:
    answer = http.get(rig.url + "/healthz", headers={"x": "y" * 16_300})
    assert code_of(answer) is Code.HEADERS_TOO_LONG


def test_readyz__not_ready__error_and_report_in_one(rig: Rig) -> None:
    answer = http.get(rig.url + "/readyz")
    assert code_of(answer) is Code.AGENT_NOT_READY
    assert (answer.json()["ready"], answer.json()["checks"][0]["ok"]) == (False, False)


def test_head__no_body__code_in_the_header(rig: Rig) -> None:
    with rig.client() as tenant:
        tenant.login()
        headers = {"authorization": f"Bearer {tenant._http._token}"}
    for kind, code in (("specs", Code.SPEC_MISSING), ("inputs", Code.INPUT_MISSING)):
        answer = http.head(f"{rig.url}/v1/{kind}/{'0' * 64}", headers=headers)
        assert (answer.content, code_of(answer)) == (b"", code)


def test_result__range_after_the_end__416(rig: Rig) -> None:
    rig.add_result({"a": b"123"})
    with rig.client() as tenant:
        tenant.login()
        headers = {"authorization": f"Bearer {tenant._http._token}", "range": "bytes=3-"}
    answer = http.get(f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}/result/a", headers=headers)
    assert code_of(answer) is Code.RANGE_INVALID
    assert answer.json()["error"]["details"] == {"size": 3}


def test_chain_is_down__503_without_its_words(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(job_id: bytes) -> JobView:
        raise ChainError("https://user:password@rpc.example does not answer")

    with rig.client() as tenant:
        tenant.login()
        headers = {"authorization": f"Bearer {tenant._http._token}"}
    monkeypatch.setattr(rig, "job", down)
    answer = http.get(f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}", headers=headers)
    assert (code_of(answer), "password" in answer.text) == (Code.CHAIN_UNAVAILABLE, False)


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (Refused(Code.SLOTS_TAKEN, "for the tenant"), Code.SLOTS_TAKEN, True),
        (LocalError("/secret/path is full"), Code.INTERNAL, False),
        (ZeroDivisionError("secret"), Code.INTERNAL, False),
        (Reverted("secret"), Code.CHAIN_UNAVAILABLE, False),
        (RpcError(-32000, "secret"), Code.CHAIN_UNAVAILABLE, False),
    ],
)
def test_told__what_is_not_for_tenants__stays_here(
    error: Exception, code: Code, shown: bool
) -> None:
    refused = told(error)
    assert refused.code is code
    assert (str(error) in str(refused)) is shown
    assert "secret" not in str(refused)


def test_openapi__every_route_has_the_one_shape_of_errors(rig: Rig) -> None:
    found = http.get(rig.url + "/v1/openapi.json").json()
    assert found["components"]["schemas"]["Error"] == WireError.schema()
    content = found["components"]["responses"]["Error"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Error"}
    said = found["components"]["responses"]["Error"]["description"]
    for code in Code:
        assert (f"`{code}` {code.status}" in said) is (code.status > 0)
    operations = {
        (method.upper(), path): operation
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
    }
    assert ("POST", "/v1/quotes") in operations and len(operations) == 23
    assert len({operation["operationId"] for operation in operations.values()}) == 23
    for (method, path), operation in operations.items():
        name = "BareError" if method == "HEAD" else "Error"
        for family in ("4XX", "5XX"):
            assert operation["responses"][family] == {"$ref": f"#/components/responses/{name}"}
        assert operation["summary"].endswith(".")
        # Without a session the answer is an error of that shape; the rig's client checks it.
        place = path.format(sha256="0" * 64, job_id="0x" + "0" * 64, path="x")
        answer = http.request(method, rig.url + place)
        assert (answer.status_code == 401) is bool(operation["security"]), place


# ---------------------------------------------------------------------- the client


def test_client__proxy_s_own_error__unreachable_and_retryable() -> None:
    with client(Answer(502, b"<html>bad gateway</html>")) as tenant:
        with fails_as(Code.AGENT_UNREACHABLE) as caught:
            tenant.provider()
        assert caught.value.retryable
    with client(Answer(500, b"<html>oops</html>")) as tenant, fails_as(Code.ANSWER_INVALID):
        tenant.provider()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"[" * 50_000,
        b'{"error": "inputs are missing"}',
        b'{"error": {"code": 1, "message": "x", "retryable": true, "details": {}}}',
        b'{"error": {"code": "x", "message": 1, "retryable": true, "details": {}}}',
        b'{"error": {"code": "x", "message": "x", "retryable": 1, "details": {}}}',
        b'{"error": {"code": "x", "message": "x", "retryable": true, "details": []}}',
        b'{"error": {"code": "x", "message": "x", "retryable": true}}',
    ],
    ids=range(9),
)
def test_client__error_in_no_form_of_ours__one_line(body: bytes) -> None:
    assert WireError.parse(body) is None
    with client(Answer(409, body)) as tenant, fails_as(Code.ANSWER_INVALID):
        tenant.provider()


def test_client__words_decide_nothing() -> None:
    """The message of one code with another's words."""
    error = WireError(Code.FUNDS_MISSING, "inputs are missing; upload them", False, {})
    with (
        client(Answer(409, json.dumps(error.to_json()).encode())) as tenant,
        fails_as(Code.FUNDS_MISSING) as caught,
    ):
        tenant.provider()
    assert not caught.value.retryable


def test_upload__stranger_says_retry_for_ever__ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(AgentClient, "_has", lambda *_: False)
    for retry_after, pauses in ((1, 61), (25, 4), (10**9, 2), ("x", 61), (-1, 61)):
        now[0], slept[:] = 0.0, []
        details = {"retry_after": retry_after}
        error = WireError(Code.SPEC_QUOTA, "later", True, details)
        answer = Answer(429, json.dumps(error.to_json()).encode())
        with client(answer) as tenant:
            tenant._http._token = "t"
            with fails_as(Code.SPEC_QUOTA):
                tenant._upload_spec(make_spec({}), 60.0)
        assert (len(slept), now[0] < 63) == (pauses, True)


def test_upload__refused_for_good__not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentClient, "_has", lambda *_: False)
    error = WireError(Code.RUNTIME_NOT_OFFERED, "no", False, {})
    answer = Answer(409, json.dumps(error.to_json()).encode())
    with client(answer) as tenant:
        tenant._http._token = "t"
        with fails_as(Code.RUNTIME_NOT_OFFERED):
            tenant._upload_spec(make_spec({}), time.monotonic() + 60)
    assert answer.asked == 1


# ---------------------------------------------------------------------- the registry


def test_codes__stable_words_and_a_status_that_fits() -> None:
    for code in Code:
        assert code.value == code.name.lower()
        assert code.value.replace("_", "").isalpha() and code.value == str(code)
        assert code.status == 0 or 400 <= code.status < 600
        assert code.meaning.endswith(".") and len(code.meaning.split()) <= 25
        assert code.exit in set(Exit) - {Exit.OK}
    assert known("inputs_missing") is Code.INPUTS_MISSING
    assert known("of a later version") is Code.CODE_UNKNOWN


def _sources(word: str) -> Iterator[tuple[Path, ast.Module]]:
    """Our own files with this word, read by the compiler."""
    for place in ("teraproof", "provider_agent", "scripts"):
        for path in sorted((ROOT / place).rglob("*.py")):
            if word in (text := path.read_text()):
                yield path, ast.parse(text)


def test_codes__each_is_used_and_none_is_raised_that_is_not_registered() -> None:
    used: set[str] = set()
    for path, tree in _sources("Code"):
        if path.name == "codes.py" and path.parent.name == "protocol":
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Code"
            ):
                used.add(node.attr)
    assert used <= set(Code.__members__)
    assert set(Code.__members__) - used <= {"FAILED", "CODE_UNKNOWN"}


def test_http__every_error_is_raised_as_refused() -> None:
    """The router's own HTTPException is translated; nobody else makes one."""
    for path, tree in _sources("HTTPException"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                assert "HTTPException" not in ast.unparse(node.exc), path


def test_errors__every_type_has_a_code_of_its_own_kind() -> None:
    def below(kind: type[TeraproofError]) -> Iterator[type[TeraproofError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    for kind in below(TeraproofError):
        assert isinstance(kind.default, Code), kind
    line: Any = TeraproofError("x", Code.SLOTS_TAKEN, limit=1)
    assert (line.code, line.retryable, line.details) == (Code.SLOTS_TAKEN, True, {"limit": 1})
