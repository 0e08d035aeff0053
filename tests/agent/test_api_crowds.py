# SPDX-License-Identifier: Apache-2.0
"""What strangers can hold of the API: connections, descriptors, memory of the kernel, log lines.

Real sockets. Each address of 127.0.0.0/8 is a client of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from provider_agent.core.log_limit import LogLimit
from provider_agent.http.descriptors import RESERVED, fitting, open_limits
from provider_agent.http.limits import ApiLimits
from provider_agent.modules.jobs.documents import JobView
from teraproof.protocol.errors import Code
from tests.agent.api_rig import JOB_ID, TENANT, Rig, code_of, http, serve, wait_until

ROOT = Path(__file__).resolve().parents[2]
UNFINISHED = b"GET /v1/provider HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def held(
    url: str, number: int, said: bytes = UNFINISHED, first: int = 1, addresses: int = 1
) -> Iterator[list[socket.socket]]:
    """Connections that send `said` and nothing more, from addresses 127.0.1.`first` on."""
    host, port = url.removeprefix("http://").split(":")
    found: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for n in range(number):
            source = (f"127.0.1.{first + n % addresses}", 0)
            connection = socket.create_connection((host, int(port)), 5, source_address=source)
            stack.enter_context(connection)
            with contextlib.suppress(OSError):  # it may be closed already
                connection.sendall(said)
            found.append(connection)
        yield found


def alive(connections: list[socket.socket]) -> int:
    """How many the server has not closed."""
    count = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            count += connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def client(last: int) -> httpx.Client:
    """A client at 127.0.2.`last`."""
    return httpx.Client(
        transport=httpx.HTTPTransport(local_address=f"127.0.2.{last}"), trust_env=False, timeout=10
    )


@dataclass
class Work:
    """GET /v1/jobs/... of the rig waits until `free` is set; `under_way` such requests wait now."""

    rig: Rig
    free: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0

    def job(self, job_id: bytes) -> JobView:
        self.under_way += 1
        assert self.free.wait(30)
        return JobView(TENANT.address, {"status": "OPEN"})


def session(rig: Rig) -> dict[str, str]:
    with rig.client() as tenant:
        tenant.login()
        return {"authorization": f"Bearer {tenant._http._token}"}


def busy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work(rig)
    monkeypatch.setattr(rig, "job", work.job)
    return work


def asking(rig: Rig, headers: dict[str, str]) -> bytes:
    """A request for a job, as bytes."""
    line = f"GET /v1/jobs/0x{JOB_ID.hex()} HTTP/1.1\r\nHost: x\r\n"
    return (line + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode()


# ---------------------------------------------------------------------- connections


def test_one_address_holds_hundreds__it_has_its_share_and_all_are_served(tmp_path: Path) -> None:
    limits = ApiLimits()
    with (
        serve(Rig(tmp_path)) as rig,
        held(rig.url, 300) as stranger,
        client(1) as other,
        held(rig.url, 1, b"GET /v1/provider HTTP/1.1\r\nHost: x\r\n\r\n") as again,
    ):
        assert other.get(rig.url + "/v1/provider").status_code == 200
        assert again[0].recv(4_096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: alive(stranger) <= limits.connections_per_address)


def test_many_addresses_hold_all__a_newcomer_is_served(tmp_path: Path) -> None:
    with (
        serve(Rig(tmp_path, ApiLimits(connections=16, connections_per_address=4))) as rig,
        held(rig.url, 64, addresses=16) as strangers,
        client(1) as other,
    ):
        assert other.get(rig.url + "/v1/provider").status_code == 200
        wait_until(lambda: alive(strangers) < 16)


def test_address_with_most__loses_first(tmp_path: Path) -> None:
    with (
        serve(Rig(tmp_path, ApiLimits(connections=8, connections_per_address=6))) as rig,
        held(rig.url, 2, first=50) as modest,
        held(rig.url, 6) as greedy,
        client(1) as other,
    ):
        assert other.get(rig.url + "/v1/provider").status_code == 200
        wait_until(lambda: alive(greedy) == 5)
        assert alive(modest) == 2


def test_all_at_work__newcomers_wait_and_none_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Rig(tmp_path, ApiLimits(connections=2))) as rig:
        headers = session(rig)
        work = busy(rig, monkeypatch)
        asked = asking(rig, headers)
        with (
            contextlib.ExitStack() as stack,
            held(rig.url, 1, asked) as one,
            held(rig.url, 1, asked, first=2) as two,
        ):
            wait_until(lambda: work.under_way == 2)
            newcomer = stack.enter_context(held(rig.url, 1, UNFINISHED + b"\r\n", first=3))
            newcomer[0].settimeout(0.3)
            with pytest.raises(TimeoutError):
                newcomer[0].recv(1)
            work.free.set()
            for connection in (one[0], two[0]):
                assert b" 200 " in connection.recv(4_096)
            newcomer[0].settimeout(10)
            assert b" 200 " in newcomer[0].recv(4_096)


def test_address_with_its_share_at_work__one_more_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Rig(tmp_path, ApiLimits(connections_per_address=2))) as rig:
        headers = session(rig)
        work = busy(rig, monkeypatch)
        with held(rig.url, 2, asking(rig, headers)) as working:
            wait_until(lambda: work.under_way == 2)
            with held(rig.url, 1, b"") as refused:
                assert refused[0].recv(4_096).startswith(b"HTTP/1.1 429 ")
            with client(1) as other:
                assert other.get(rig.url + "/v1/provider").status_code == 200
            work.free.set()
            for connection in working:
                assert b" 200 " in connection.recv(4_096)


def test_connections_in_a_hurry__bounded_for_one_address_alone(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(new_connections_per_second=2))) as rig:
        with held(rig.url, 40) as stranger:
            wait_until(lambda: alive(stranger) <= 12)
        with client(1) as other:
            assert other.get(rig.url + "/v1/provider").status_code == 200


def test_requests_in_a_hurry__bounded_for_one_client_alone(tmp_path: Path) -> None:
    limits = ApiLimits(requests_per_second=1)
    with serve(Rig(tmp_path, limits, trusted_proxies=("127.0.2.0/24",))) as rig:
        with client(1) as proxy:

            def ask(sender: str) -> httpx.Response:
                headers = {"x-forwarded-for": sender}
                return proxy.get(rig.url + "/v1/provider", headers=headers)

            answers = [ask("192.0.2.1") for _ in range(30)]
            assert [answer.status_code for answer in answers[:10]] == [200] * 10
            assert code_of(answers[-1]) is Code.RATE_LIMITED
            assert int(answers[-1].headers["retry-after"]) > 0
            assert ask("192.0.2.2").status_code == 200
        assert http.get(rig.status_url + "/healthz").status_code == 200


def test_behind_a_proxy__its_connections_are_not_one_client_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ApiLimits(connections_per_address=2, requests_per_address=2)
    with serve(Rig(tmp_path, limits, trusted_proxies=("127.0.1.0/24",))) as rig:
        headers = session(rig)
        work = busy(rig, monkeypatch)
        with contextlib.ExitStack() as stack:

            def ask(sender: str) -> socket.socket:
                asked = asking(rig, {**headers, "x-forwarded-for": sender})
                return stack.enter_context(held(rig.url, 1, asked))[0]

            waiting = [ask("192.0.2.1"), ask("192.0.2.1")]
            wait_until(lambda: work.under_way == 2)
            assert b" 429 " in ask("192.0.2.1").recv(4_096)
            waiting.append(ask("192.0.2.2"))
            wait_until(lambda: work.under_way == 3)
            work.free.set()
            for connection in waiting:
                assert b" 200 " in connection.recv(4_096)


# ---------------------------------------------------------------------- slow clients


@pytest.mark.parametrize(
    "said",
    [
        b"GET /v1/provider HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 500,
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + b"a" * 500,
        b"POST /v1/auth/nonce HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + b"a" * 500,
        b"GET /v1/provider HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + b"a" * 500,
    ],
    ids=["head", "body", "body that nobody reads", "body of a GET"],
)
def test_a_few_bytes_a_second__ended(tmp_path: Path, said: bytes) -> None:
    head = said.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in said else 20
    with (
        serve(Rig(tmp_path, ApiLimits(header_seconds=0.4, body_seconds=0.4))) as rig,
        held(rig.url, 1, said[:head]) as connections,
    ):
        connection = connections[0]
        for position in range(head, len(said)):
            try:
                connection.sendall(said[position : position + 1])
            except OSError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("all of it could be sent, slowly")


def result(rig: Rig, headers: dict[str, str], receive: int) -> socket.socket:
    """A connection that has asked for a result of 8 MB, with a receive buffer of its own size."""
    rig.add_result({"a": os.urandom(8 << 20)})
    host, port = rig.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(10)
    connection.connect((host, int(port)))
    asked = asking(rig, headers).replace(b" HTTP/1.1", b"/result.tar HTTP/1.1")
    connection.sendall(asked)
    return connection


def test_reader_that_reads_nothing__dropped_and_the_file_closed(tmp_path: Path) -> None:
    limits = ApiLimits(header_seconds=0.2, body_seconds=0.5)
    with serve(Rig(tmp_path, limits)) as rig:
        headers = session(rig)
        before = len(os.listdir("/proc/self/fd"))
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(result(rig, headers, 4_096))
            wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 8, 20)
        assert http.get(rig.url + "/v1/provider").status_code == 200


def test_reader_of_the_last_bytes_reads_nothing__dropped(tmp_path: Path) -> None:
    """The answer is made, and a close would wait until the client has taken it."""
    limits = ApiLimits(header_seconds=0.2, body_seconds=0.5)
    rig = Rig(tmp_path, limits)
    with serve(rig):
        # Answers are pipelined until the kernel takes no more.
        asked = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400
        before = len(os.listdir("/proc/self/fd"))
        with held(rig.url, 4, b"") as readers:
            for reader in readers:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                reader.setblocking(False)
                with contextlib.suppress(OSError):
                    reader.send(asked)
            wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + len(readers), 20)


def test_reader_slower_than_allowed__dropped(tmp_path: Path) -> None:
    limits = ApiLimits(header_seconds=0.2, body_seconds=0.5, download_rate=1 << 20)
    with serve(Rig(tmp_path, limits)) as rig:
        connection = result(rig, session(rig), 4_096)
        taken = 0
        with contextlib.suppress(ConnectionResetError), connection:
            while piece := connection.recv(1_024):
                taken += len(piece)
                time.sleep(0.02)
        assert taken < 8 << 20


def test_reader_slow_but_steady__gets_all(tmp_path: Path) -> None:
    limits = ApiLimits(header_seconds=0.2, body_seconds=1.0)
    with serve(Rig(tmp_path, limits)) as rig:
        connection, taken = result(rig, session(rig), 256 << 10), 0
        with connection:
            while piece := connection.recv(128 << 10):
                taken += len(piece)
                time.sleep(0.02)
                if taken > 8 << 20:
                    break
        assert taken > 8 << 20


# ---------------------------------------------------------------------- descriptors and logs

_STARVED = """
import contextlib, logging, os, resource, sys, time
from pathlib import Path
from tests.agent.api_rig import Rig, serve
logging.basicConfig(stream=sys.stderr)
with serve(Rig(Path(sys.argv[1]))) as rig:
    print(rig.url, flush=True)
    open_now = len(os.listdir("/proc/self/fd"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 24, hard))
    opened = 0
    for line in sys.stdin:
        with contextlib.suppress(OSError), open("/dev/null"), open("/dev/null"):
            opened += 1
        print(opened, flush=True)
"""


def test_out_of_descriptors__few_lines_and_the_loop_gets_some(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", _STARVED, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        assert child.stdin is not None and child.stdout is not None
        url = child.stdout.readline().strip()
        with held(url, 100, addresses=50):
            with contextlib.suppress(httpx.TransportError):
                http.get(url + "/v1/provider")
            opened = 0
            for _ in range(40):
                child.stdin.write("\n")
                child.stdin.flush()
                opened = int(child.stdout.readline())
                time.sleep(0.1)
            assert opened >= 10
        child.stdin.close()
    log = (tmp_path / "log").read_text()
    assert "cannot accept connections" in log and "Traceback" not in log
    assert len(log.splitlines()) < 30


def test_open_files__raised_to_the_hard_limit_and_kept_for_the_agent() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
        open_limits()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("files", [16, 300, 512, 1_024, 1 << 20, resource.RLIM_INFINITY])
def test_connections__leave_descriptors_to_the_agent(files: int) -> None:
    limits = ApiLimits()
    found = fitting(limits, files)
    assert 0 < found.connections_per_address <= found.connections <= limits.connections
    if files >= RESERVED + 8:
        assert 2 * found.connections + RESERVED <= files
    assert (found == limits) is (files < 0 or files >= 1_024)


class Lines(logging.Handler):
    """What would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_log__many_of_a_kind__the_first_and_a_count() -> None:
    now = [0.0]
    lines = Lines()
    lines.addFilter(LogLimit(lines, 3, 60, lambda: now[0]))
    log = logging.Logger("strangers")
    log.addHandler(lines)
    for number in range(1_000):
        log.warning("from %s\x1b[31m", number)
    log.info("something else")
    assert lines.lines == [*(f"from {n}\x1b[31m" for n in range(3)), "something else"]
    now[0] = 61.0
    log.info("later")
    assert lines.lines[4:] == ["997 more lines like: from 999?[31m", "later"]
    log.warning("from %s", 1)
    assert lines.lines[6:] == ["from 1"]


def test_log__debug__all_of_it() -> None:
    lines = Lines()
    lines.addFilter(LogLimit(lines, 1))
    log = logging.Logger("looking", logging.DEBUG)
    log.addHandler(lines)
    for _ in range(5):
        log.debug("x")
    assert len(lines.lines) == 5


# ---------------------------------------------------------------------- health apart


def test_status__answers_whatever_happens_to_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Rig(tmp_path, ApiLimits(connections=2))) as rig:
        headers, status = session(rig), rig.status_url
        work = busy(rig, monkeypatch)
        with (
            held(rig.url, 1, asking(rig, headers)),
            held(rig.url, 1, asking(rig, headers), first=2),
            held(rig.url, 20, b"", first=3),
        ):
            for path in ("/healthz", "/metrics"):
                assert http.get(status + path).status_code == 200
            assert code_of(http.get(status + "/readyz")) is Code.AGENT_NOT_READY
            work.free.set()


def test_metrics__not_for_strangers(tmp_path: Path) -> None:
    with serve(Rig(tmp_path)) as rig:
        assert code_of(http.get(rig.url + "/metrics")) is Code.ROUTE_UNKNOWN
        assert http.get(rig.url + "/healthz").status_code == 200
        # And nothing of tenants stands on the other door.
        assert code_of(http.get(rig.status_url + "/v1/provider")) is Code.ROUTE_UNKNOWN
