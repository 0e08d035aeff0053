# SPDX-License-Identifier: Apache-2.0
"""HTTP at public ports: what `http_options` say is what happens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import h11
import httpx
import pytest

from teraproof.protocol.leasespec import Http, Port
from tests.agent.dataplane.conftest import Rig, service, spec
from tests.agent.dataplane.test_public import free, opened

Answer = Callable[[h11.Request, bytes], tuple[int, bytes]]


class Site:
    """A container that speaks HTTP, and remembers what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.heads: list[h11.Request] = []
        self.bodies: list[bytes] = []
        self._answer = answer or (lambda request, body: (200, request.target + b" " + body))

    def __call__(self, link: socket.socket) -> None:
        conn = h11.Connection(h11.SERVER)
        body = b""
        while True:
            try:
                event = conn.next_event()
            except h11.RemoteProtocolError:
                return  # a body was cut off: it is not one that was asked
            if event is h11.NEED_DATA:
                conn.receive_data(link.recv(65_536))
            elif isinstance(event, h11.Request):
                self.heads.append(event)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return
        self.bodies.append(body)
        status, said = self._answer(self.heads[-1], body)
        head = h11.Response(status_code=status, headers=[("content-length", str(len(said)))])
        if self.heads[-1].method == b"HEAD":
            said = b""
        for part in (head, h11.Data(data=said), h11.EndOfMessage()):
            with contextlib.suppress(h11.LocalProtocolError):
                link.sendall(conn.send(part) or b"")

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.heads[-1].headers if key == name]


def site(rig: Rig, http: Http | None = None, *sites: Callable[[socket.socket], None]) -> str:
    """The address of a public port with these options; a container for each of `sites`."""
    rig.settings = {"outer": free()}
    port = Port(8080, 80, "tcp", public=True, http=http or Http())
    rig.hold(said=spec(service("web", len(sites), port)))
    rig.start()
    for number, one in enumerate(sites):
        rig.serve(one, number=number)
    return f"https://127.0.0.1:{opened(rig).outer}"


@pytest.fixture
def web() -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, timeout=30, trust_env=False) as client:
        yield client


def raw(url: str, data: bytes, seconds: float = 20) -> bytes:
    """What comes back for bytes as they are, to the end of the connection or the silence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as link,
        context.wrap_socket(link) as secured,
    ):
        secured.sendall(data)
        found = b""
        with contextlib.suppress(OSError):
            while piece := secured.recv(65_536):
                found += piece
        return found


def test_requests__one_after_the_other_on_one_connection(rig: Rig, web: httpx.Client) -> None:
    url = site(rig, None, Site())
    assert [web.get(f"{url}/{number}").text for number in range(5)] == [
        f"/{number} " for number in range(5)
    ]
    assert web.post(url, content=b"body").text == "/ body"
    answer = web.head(f"{url}/x")
    assert (answer.status_code, answer.headers["content-length"]) == (200, "3")
    assert web.get(url).headers.get("connection") is None


def test_answer__longer_than_memory_may_hold__streamed(rig: Rig, web: httpx.Client) -> None:
    size = 30 << 20

    def large(link: socket.socket) -> None:
        link.recv(65_536)
        link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            link.sendall(bytes(1 << 20))

    url = site(rig, None, large)
    with web.stream("GET", url) as answer:
        assert sum(map(len, answer.iter_raw())) == size


def test_answer__until_the_connection_ends__whole(rig: Rig, web: httpx.Client) -> None:
    def old(link: socket.socket) -> None:
        link.recv(65_536)
        link.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

    assert web.get(site(rig, None, old)).text == "hello"


def test_answer__broken_off__is_not_shown_as_whole(rig: Rig, web: httpx.Client) -> None:
    def broken(link: socket.socket) -> None:
        link.recv(65_536)
        link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")

    url = site(rig, None, broken)
    with pytest.raises(httpx.TransportError):
        web.get(url)


@pytest.mark.parametrize("chunked", [False, True])
def test_body__up_to_the_most__passes__one_byte_more_does_not(
    rig: Rig, web: httpx.Client, chunked: bool
) -> None:
    most = 200_000
    heard = Site(lambda request, body: (200, hashlib.sha256(body).hexdigest().encode()))
    url = site(rig, Http(max_body_bytes=most), heard)
    text = os.urandom(most + 1)

    def post(body: bytes) -> httpx.Response:
        return web.post(url, content=iter([body]) if chunked else body)

    assert post(text[:-1]).text == hashlib.sha256(text[:-1]).hexdigest()
    with contextlib.suppress(httpx.TransportError):  # it may hear of it while it sends
        assert post(text).status_code == 413
    assert heard.bodies == [text[:-1]]
    assert web.get(url).status_code == 200


def test_expect_continue__answered__and_too_long_a_body_is_not_even_sent(rig: Rig) -> None:
    heard = Site()
    url = site(rig, Http(max_body_bytes=10), heard)
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
    found = raw(url, head + b"content-length: 5\r\n\r\nhello")
    assert found.startswith(b"HTTP/1.1 100 ") and found.endswith(b"/ hello")
    assert b" 413 " in raw(url, head + b"content-length: 11\r\n\r\n")
    assert heard.bodies == [b"hello"]


def test_read_timeout__504(rig: Rig, web: httpx.Client) -> None:
    def silent(link: socket.socket) -> None:
        link.recv(65_536)
        link.recv(65_536)

    url = site(rig, Http(read_timeout_ms=200), silent)
    assert web.get(url).status_code == 504


def test_send_timeout__a_container_that_does_not_read(rig: Rig, web: httpx.Client) -> None:
    stop = threading.Event()

    def deaf(link: socket.socket) -> None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stop.wait(20)

    url = site(rig, Http(send_timeout_ms=200, max_body_bytes=100 << 20), deaf)
    try:
        assert web.post(url, content=bytes(40 << 20)).status_code == 504
    except httpx.TransportError:
        pass  # the end of the connection reached it while it was sending
    finally:
        stop.set()


def down(link: socket.socket) -> None:
    link.recv(65_536)  # and breaks off


def test_next_container__when_one_breaks_off__for_what_can_be_done_twice(
    rig: Rig, web: httpx.Client
) -> None:
    heard = Site()
    url = site(rig, None, down, heard)
    assert [web.get(url).status_code for _ in range(4)] == [200] * 4
    assert len(heard.bodies) == 4


def test_post__that_a_container_has_had__is_not_sent_to_another(
    rig: Rig, web: httpx.Client
) -> None:
    had: list[bytes] = []

    def breaks(link: socket.socket) -> None:
        had.append(link.recv(65_536))

    url = site(rig, None, breaks, breaks)
    assert web.post(url, content=b"pay once").status_code == 502
    assert len(had) == 1


def test_post__that_nobody_has_had__is_sent_to_another(rig: Rig, web: httpx.Client) -> None:
    heard = Site()
    url = site(rig, None, down, heard)
    rig.containers[0].kill()
    assert [web.post(url, content=b"x").status_code for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    ("cases", "found"), [(("503",), {200}), (("502", "error"), {200, 503}), ((), {200, 503})]
)
def test_next_cases__decide(
    rig: Rig, web: httpx.Client, cases: tuple[str, ...], found: set[int]
) -> None:
    busy = Site(lambda request, body: (503, b"busy"))
    url = site(rig, Http(next_cases=cases), busy, Site())
    assert {web.get(url).status_code for _ in range(4)} == found


@pytest.mark.parametrize(("tries", "asked"), [(1, 1), (2, 2), (5, 5)])
def test_next_tries__bound_how_often(rig: Rig, web: httpx.Client, tries: int, asked: int) -> None:
    busy = [Site(lambda request, body: (503, b"busy")) for _ in range(2)]
    url = site(rig, Http(next_tries=tries, next_cases=("503",)), *busy)
    assert web.get(url).status_code == 503
    assert sum(len(one.bodies) for one in busy) == asked


def test_next_timeout__ends_the_tries(rig: Rig, web: httpx.Client) -> None:
    def slow(request: h11.Request, body: bytes) -> tuple[int, bytes]:
        time.sleep(0.3)
        return 503, b"busy"

    busy = [Site(slow), Site(slow)]
    url = site(rig, Http(next_tries=50, next_cases=("503",), next_timeout_ms=500), *busy)
    assert web.get(url).status_code == 503
    assert sum(len(one.bodies) for one in busy) < 5


def test_no_container__502(rig: Rig, web: httpx.Client) -> None:
    url = site(rig, None, Site())
    rig.runner.places.clear()
    assert web.get(url).status_code == 502


def test_headers__what_the_agent_says_of_the_client__cannot_be_forged(
    rig: Rig, web: httpx.Client
) -> None:
    heard = Site()
    url = site(rig, None, heard)
    web.get(url, headers={"X-Forwarded-For": "8.8.8.8", "x-real-ip": "8.8.8.8", "x-own": "kept"})
    assert heard.header(b"x-forwarded-for") == [b"127.0.0.1"]
    assert heard.header(b"x-real-ip") == [b"127.0.0.1"]
    assert heard.header(b"x-forwarded-proto") == [b"https"]
    assert heard.header(b"x-own") == [b"kept"]


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nG",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n smuggled: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhuge: " + b"x" * 100_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01" * 100,
    ],
    ids=range(9),
)
def test_malformed__one_reading_of_it__and_the_next_client_is_served(
    rig: Rig, web: httpx.Client, data: bytes
) -> None:
    heard = Site()
    url = site(rig, None, heard)
    found = raw(url, data, 3)
    assert found == b"" or found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 "))
    for head in heard.heads:
        names = [name for name, _ in head.headers]
        framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
        assert len(framing) <= 1
    assert web.get(f"{url}/next").text == "/next "


def test_another_protocol__both_ways(rig: Rig) -> None:
    def socket_of_the_web(link: socket.socket) -> None:
        head = link.recv(65_536)
        assert b"upgrade: websocket" in head.lower()
        link.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"\r\nfirst"
        )
        while piece := link.recv(65_536):
            link.sendall(piece.upper())

    url = site(rig, None, socket_of_the_web)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as link,
        context.wrap_socket(link) as secured,
    ):
        secured.sendall(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        found = b""
        while not found.endswith(b"first"):
            found += secured.recv(100)
        assert found.startswith(b"HTTP/1.1 101 ")
        secured.sendall(b"hello")
        assert secured.recv(100) == b"HELLO"


def test_upgrade__that_the_container_does_not_want__is_an_ordinary_answer(rig: Rig) -> None:
    url = site(rig, None, Site())
    head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    found = raw_until(url, head, b"/ ")
    assert found.startswith(b"HTTP/1.1 200 ")


def raw_until(url: str, data: bytes, end: bytes) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as link,
        context.wrap_socket(link) as secured,
    ):
        secured.sendall(data)
        found = b""
        while not found.endswith(end) and (piece := secured.recv(65_536)):
            found += piece
        return found


def test_heads_that_never_end__hold_no_other(rig: Rig, web: httpx.Client) -> None:
    rig.limits = type(rig.limits)(
        sweep_seconds=0.05, public_connections=8, public_per_address=8, opening_seconds=5
    )
    url = site(rig, None, Site())
    port = int(url.rpartition(":")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            with contextlib.suppress(OSError):
                link = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                secured = stack.enter_context(context.wrap_socket(link))
                secured.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        assert web.get(url).status_code == 200
