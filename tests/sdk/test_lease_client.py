# SPDX-License-Identifier: Apache-2.0
"""What a provider's agent may answer about leases: taken whole, or refused in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from eth_account import Account

from teraproof.client.leases import LeaseClient, ask
from teraproof.errors import CommandError, LocalError
from teraproof.market import lease_plane
from teraproof.market.lease_plane import Lines
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_offer import FORM
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import (
    EndpointReport,
    LeaseReport,
    QuoteRequest,
    SignedLeaseQuote,
)
from teraproof.protocol.messages import Domain, LeaseQuote
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.sdl.leases import read
from teraproof.storage.reach import Reach
from tests.sdk.lease_stage import OFFER
from tests.support.codes import fails_as
from tests.support.sdl import SMALL

(LEASE,) = read(SMALL.encode())
SPEC = LEASE.spec
DOMAIN = Domain(31_337, "0x" + "0a" * 20)
OPERATOR, STRANGER, TENANT = Account.create(), Account.create(), Account.create()
WANTED = QuoteRequest(SPEC.digest(), 3_600, notice=60, ready_within=600)
QUOTE = LeaseQuote(
    operator=str(OPERATOR.address),
    requester=ZERO_ADDRESS,
    spec=SPEC.digest(),
    rate=100,
    collateral=0,
    ready_within=600,
    term=3_600,
    notice=60,
    expires=2**40,
    nonce=1,
)
NAME = bytes(31) + b"\x01"
REPORT = LeaseReport(NAME, SPEC.digest(), str(TENANT.address), LeaseStatus.ACTIVE, 100)


def streamed(status: int, answer: Any) -> httpx.Response:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return httpx.Response(status, stream=httpx.ByteStream(data))


def client(answer: Any, status: int = 200) -> LeaseClient:
    """A client whose agent gives this answer, whatever it is asked."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/auth"):
            said = {"nonce": "a" * 16, "chain_id": 1, "domain": "agent.test", "token": "t" * 8}
            return streamed(200, said | {"expires": 2**31})
        return streamed(status, answer)

    return LeaseClient("http://agent.test", TENANT, transport=httpx.MockTransport(handle))


def signed(quote: LeaseQuote, key: Any = OPERATOR) -> dict[str, Any]:
    return SignedLeaseQuote(quote, messages.sign(DOMAIN, quote, key)).to_json()


def test_quote__as_asked_for__taken() -> None:
    with client(signed(QUOTE)) as agent:
        assert agent.lease_quote(SPEC, WANTED, DOMAIN).quote == QUOTE
    mine = replace(QUOTE, requester=str(TENANT.address), notice=600, ready_within=1)
    with client(signed(mine)) as agent:
        assert agent.lease_quote(SPEC, WANTED, DOMAIN).quote == mine


@pytest.mark.parametrize(
    "change",
    [
        {"spec": bytes(32)},
        {"requester": str(STRANGER.address)},
        {"term": 3_599},
        {"term": 3_601},
        {"notice": 59},
        {"ready_within": 601},
    ],
    ids=str,
)
def test_quote__for_something_else__refused(change: dict[str, Any]) -> None:
    with client(signed(replace(QUOTE, **change))) as agent, fails_as(Code.QUOTE_INVALID):
        agent.lease_quote(SPEC, WANTED, DOMAIN)


def test_quote__signed_by_another_or_for_another_market__refused() -> None:
    elsewhere = messages.sign(Domain(1, DOMAIN.contract), QUOTE, OPERATOR)
    for answer in (signed(QUOTE, STRANGER), SignedLeaseQuote(QUOTE, elsewhere).to_json()):
        with client(answer) as agent, fails_as(Code.QUOTE_INVALID):
            agent.lease_quote(SPEC, WANTED, DOMAIN)


@pytest.mark.parametrize(
    "answer",
    [{}, {"quote": []}, {"quote": {}, "signature": 1}, {"quote": None}, {"quote": {"rate": {}}}],
    ids=str,
)
def test_quote__malformed__one_line(answer: Any) -> None:
    with client(answer) as agent, fails_as(Code.QUOTE_INVALID) as said:
        agent.lease_quote(SPEC, WANTED, DOMAIN)
    assert "\n" not in str(said.value)


def test_report__of_this_lease_alone() -> None:
    with client(REPORT.to_json()) as agent:
        assert agent.report(NAME) == REPORT
    with client(REPORT.to_json()) as agent, fails_as(Code.ANSWER_INVALID):
        agent.report(bytes(32))


@pytest.mark.parametrize(
    "answer", [{}, {"lease": 1}, REPORT.to_json() | {"rate": "-1"}, b"[", b"[]", b"\xff"], ids=str
)
def test_report__malformed__refused(answer: Any) -> None:
    with client(answer) as agent, fails_as(Code.ANSWER_INVALID):
        agent.report(NAME)


# ---------------------------------------------------------------------- offers


class Handler(BaseHTTPRequestHandler):
    answer = b""
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_offer__read(url: str) -> None:
    Handler.answer, Handler.status = json.dumps(OFFER.to_json()).encode(), 200
    assert ask(url, Reach.own()).offer == OFFER


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b"[" * 9_000, b"{" * 100_000, b"\xff\xfe", b"1e400", b" " * (FORM.max_bytes + 1)],
    ids=lambda data: f"{data[:4]!r} {len(data)}",
)
def test_offer__any_bytes__no_offer_and_a_line(url: str, answer: bytes) -> None:
    Handler.answer, Handler.status = answer, 200
    found = ask(url, Reach.own())
    assert found.offer is None and found.trouble and "\n" not in found.trouble


def test_offer__refused_or_nobody_there__no_offer_and_a_line(url: str) -> None:
    Handler.answer, Handler.status = b"", 404
    assert ask(url, Reach.own()).trouble == "answers with HTTP status 404"
    assert ask("http://127.0.0.1:1", Reach.own()).offer is None


# ---------------------------------------------------------------------- the way in


def test_plane__where_the_agent_says_it_is() -> None:
    public = EndpointReport("page", 80, 443, "tcp", True, "https://agent.test:31000")
    private = EndpointReport("page", 22, 22, "tcp", False, "teraproof://agent.test:8701/page/22")
    assert lease_plane.said(replace(REPORT, endpoints=(public, private))) == "agent.test:8701"
    with pytest.raises(CommandError, match="--plane"):
        lease_plane.said(replace(REPORT, endpoints=(public,)))


def test_log__nothing_that_a_terminal_obeys() -> None:
    lines: list[str] = []
    out = Lines(lines.append)
    for piece in (b"one\ntw", b"o\r\n\x1b[2Jthree", b"\xff\n", b"rest"):
        out.write(piece)
    out.flush()
    assert lines == ["one", "two", "?[2Jthree\ufffd"]
    out.end()
    assert lines[-1] == "rest"


def test_errors__are_those_of_agents() -> None:
    with client(b"", 503) as agent, pytest.raises(LocalError):
        agent.report(NAME)
