# SPDX-License-Identifier: Apache-2.0
"""A provider that drips, hangs or floods: no call of the client lasts for as long as it likes.

Nothing here is timed: a call that went on would never come back.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from teraproof.client.jobs import AgentClient
from teraproof.errors import AuthError, LocalError
from teraproof.protocol.digests import Origin
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain
from teraproof.storage.reach import Reach
from tests.agent.disputes.rig import spec_of

TENANT = Account.create()
JOB, OWNER = b"\x21" * 32, "0x" + "00" * 20
SPEC = spec_of()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200000\r\n\r\n"
BYTE = 0.02  # seconds between two bytes: far less than the time-out of a read
TIMEOUT = 0.1

Serve = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def stranger(serve: Serve) -> Iterator[str]:
    """A server that treats each connection like that; its URL."""
    stop = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection, stop)

    def accept() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            accepting.join()


def drip(data: bytes) -> Serve:
    """Byte by byte, without end."""

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65_536)
        sent = 0
        while not stop.wait(BYTE):
            connection.sendall(data[sent : sent + 1] or b" ")
            sent += 1

    return serve


def body_that_drips(connection: socket.socket, stop: threading.Event) -> None:
    connection.recv(65_536)
    connection.sendall(HEAD)
    while not stop.wait(BYTE):
        connection.sendall(b" ")


def reads_nothing(connection: socket.socket, stop: threading.Event) -> None:
    stop.wait()


STRANGERS = {
    "headers drip": drip(HEAD),
    "body drips": body_that_drips,
    "reads nothing": reads_nothing,
}
CALLS: dict[str, Callable[[AgentClient, Path], object]] = {
    "login": lambda client, _: client.login(),
    "provider": lambda client, _: client.provider(),
    "quote": lambda client, _: client.quote(SPEC, Domain(1, OWNER)),
    "upload_spec": lambda client, _: client.upload_spec(SPEC),
    "upload": lambda client, place: client.upload(SPEC, inputs(place), wait=0),
    "job": lambda client, _: client.job(JOB),
    "receipt": lambda client, _: client.receipt(JOB, JOB),
    "logs": lambda client, _: client.logs(JOB),
    "result": lambda client, place: client.fetch_result(Origin(JOB, OWNER), place / "r", JOB),
    "spec": lambda client, _: client.fetch_spec(JOB, JOB),
    "inputs": lambda client, place: client.fetch_inputs(JOB, SPEC, place / "i", 1 << 30),
    "evidence": lambda client, _: client.give_evidence(JOB, bytes(1 << 20)),
}


def inputs(place: Path) -> Path:
    (place / "job.py").write_bytes(b"print(1)")
    return place


def client_of(url: str, **more: Any) -> AgentClient:
    made = AgentClient(url, TENANT, timeout=TIMEOUT, **more)
    made._http._token = "signed-in-before"
    return made


@pytest.mark.parametrize("what", STRANGERS)
@pytest.mark.parametrize("call", CALLS)
def test_every_call__comes_to_an_end(call: str, what: str, tmp_path: Path) -> None:
    with stranger(STRANGERS[what]) as url, client_of(url) as client:
        try:
            CALLS[call](client, tmp_path)
        except LocalError as error:
            assert error.code in (Code.AGENT_UNREACHABLE, Code.RESULT_MISMATCH)
        else:
            # Whether it has a file is asked without a body, so nothing of it can drip.
            assert what == "body drips" and call in ("upload_spec", "upload", "evidence")


def test_file_at_a_fair_pace__comes_though_it_takes_longer(tmp_path: Path) -> None:
    """The deadline is for those that do not send, not for long files."""
    body = b" " * (16 << 10)

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for _ in range(12):
            stop.wait(TIMEOUT / 2)
            connection.sendall(body)
        connection.sendall(b"{}")

    with stranger(serve) as url, client_of(url) as client:
        assert client.provider() == {}


def test_many_small_files_that_each_drip__one_deadline_for_all(tmp_path: Path) -> None:
    """Each file alone would be in time."""
    begun = threading.Event()

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(0.2)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65_536):
                    return
                begun.set()
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
                stop.wait(TIMEOUT / 2)
                connection.sendall(b"not it!!")

    with (
        stranger(serve) as url,
        client_of(url) as client,
        client._http.whole(),
        pytest.raises(LocalError),
    ):
        while True:  # without a deadline for the whole it goes on without end
            client._http.request("GET", "/v1/some")
    assert begun.is_set()


def test_nobody_needs_it_any_more__it_ends_while_bytes_come(tmp_path: Path) -> None:
    def flows(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.wait(BYTE):
            connection.sendall(bytes(4_096))

    until = time.monotonic() + 5 * BYTE
    with (
        stranger(flows) as url,
        client_of(url, until=until) as client,
        pytest.raises(LocalError) as caught,
    ):
        client.fetch_inputs(JOB, SPEC, tmp_path / "i", 1 << 30)
    assert caught.value.code in (Code.AGENT_UNREACHABLE, Code.RESULT_MISMATCH)


def test_cut_off__the_thread_that_waits_comes_back(tmp_path: Path) -> None:
    here = threading.Event()

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65_536)
        here.set()
        stop.wait()

    ends: list[LocalError] = []

    def ask(client: AgentClient) -> None:
        try:
            client.fetch_spec(JOB, JOB)
        except LocalError as error:
            ends.append(error)

    with stranger(serve) as url:
        client = AgentClient(url, TENANT, timeout=600)
        client._http._token = "signed-in-before"
        asking = threading.Thread(target=ask, args=(client,))
        asking.start()
        assert here.wait(30)
        client.cut_off()
        asking.join(30)
        assert not asking.is_alive() and ends[0].code is Code.AGENT_UNREACHABLE
        ask(client)
        assert len(ends) == 2, "nothing is begun any more"
        client.close()


# ---------------------------------------------------------------- where a URL may lead

HERE = Reach.of_strangers([ip_network("127.0.0.0/8")], plain=True)
PUBLIC = Reach.of_strangers(plain=True)


def test_private_address__asked_only_where_the_owner_says_so() -> None:
    asked = threading.Event()

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        asked.set()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    with stranger(serve) as url:
        with client_of(url, reach=PUBLIC) as client, pytest.raises(LocalError) as caught:
            client.provider()
        assert caught.value.code is Code.URI_REFUSED and not asked.is_set()
        by_name = url.replace("127.0.0.1", "localhost")
        with client_of(by_name, reach=PUBLIC) as client, pytest.raises(LocalError):
            client.provider()
        assert not asked.is_set(), "nor by a name"
        with client_of(url, reach=HERE) as client:
            assert client.provider() == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:8700",
        "http://169.254.169.254",
        "http://192.168.1.1",
        "http://[::1]:8700",
        "http://[fe80::1]:8700",
        "http://[::ffff:127.0.0.1]:8700",
        "http://0.0.0.0:8700",
        "http://100.64.0.1:8700",
    ],
)
def test_address_that_is_not_public__nothing_is_sent(url: str) -> None:
    with client_of(url, reach=PUBLIC) as client, pytest.raises(LocalError) as caught:
        client.provider()
    assert caught.value.code is Code.URI_REFUSED


@pytest.mark.parametrize(
    "url", ["http://a.example:22", "http://a.example:25", "https://a.example:1"]
)
def test_port_of_another_service__refused(url: str) -> None:
    with pytest.raises(LocalError) as caught:
        client_of(url, reach=PUBLIC)
    assert caught.value.code is Code.URI_REFUSED


@pytest.mark.parametrize("rest", ["/admin", "/?a=b", "?a=b", "#a", "/x?y#z", "//", "/.."])
def test_url_with_more_than_a_place__refused(rest: str) -> None:
    """A stranger's URL must not choose what is asked for."""
    with pytest.raises(AuthError):
        AgentClient(f"http://a.example{rest}", TENANT)
