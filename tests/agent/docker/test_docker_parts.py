# SPDX-License-Identifier: Apache-2.0
"""Parts of the runner that need no engine: framing, deadlines, names, deaths, what is kept."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.devices import Device
from provider_agent.runners.base import MIB
from provider_agent.runners.docker import strays
from provider_agent.runners.docker.deaths import Deaths
from provider_agent.runners.docker.engine import Engine, EngineAway, EngineRefused
from provider_agent.runners.docker.images import split
from provider_agent.runners.docker.labels import Names
from provider_agent.runners.docker.space import Space, Work
from provider_agent.runners.docker.streams import pieces
from provider_agent.runners.lease import (
    ContainerState,
    Lease,
    Port,
    Service,
    Status,
    Volume,
)
from provider_agent.runners.lease_json import digest, from_json, to_json
from teraproof.errors import Refused

PINNED = "name@sha256:" + "0" * 64
PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"


class Bytes:
    """A stream of given bytes, which come in crumbs."""

    def __init__(self, data: bytes, crumb: int) -> None:
        self._data, self._crumb = data, crumb

    def read(self, most: int) -> bytes:
        size = min(most, self._crumb)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := self.read(size - len(data))):
            data += piece
        return data


@given(
    st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(min_size=1, max_size=300)), max_size=6),
    st.integers(1, 400),
)
def test_output__in_crumbs_of_any_size__is_what_was_printed(
    frames: list[tuple[int, bytes]], crumb: int
) -> None:
    data = b"".join(bytes((k, 0, 0, 0)) + len(d).to_bytes(4, "big") + d for k, d in frames)
    found = list(pieces(Bytes(data, crumb)))  # type: ignore[arg-type]  # as a stream reads
    for kind in (1, 2):
        assert b"".join(d for k, d in found if k == kind) == b"".join(
            d for k, d in frames if k == kind
        )


def test_output__a_frame_that_promises_gigabytes__is_handed_on_as_it_comes() -> None:
    data = b"\1\0\0\0\xff\xff\xff\xff" + b"x" * 200_000
    found = list(pieces(Bytes(data, 1 << 30)))  # type: ignore[arg-type]  # as a stream reads
    assert max(len(piece) for _, piece in found) <= 65_536
    assert sum(len(piece) for _, piece in found) == 200_000


@contextlib.contextmanager
def engine_that(answer: list[bytes], place: Path, pause: float = 0.0) -> Iterator[Engine]:
    """What listens where an engine should: it greets well, and then answers these bytes."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                for parts in ([PING], answer):
                    guest, _ = server.accept()
                    guest.recv(65_536)
                    for part in parts:
                        guest.sendall(part)
                        time.sleep(pause)
                    kept.append(guest)
                    if parts is not answer:
                        guest.close()

        kept: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Engine(place, seconds=1)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for guest in kept:
            guest.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [b"HTTP/1.1 200 OK\r\n"],
        [HEAD + b"Content-Length: 10\r\n\r\n", b"{"],
        [HEAD + b"Content-Length: 2\r\n\r\nno"],
        [b"not HTTP at all\r\n\r\n"],
        [HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n"],
    ],
)
def test_engine__that_speaks_badly_or_not_at_all__is_away(
    answer: list[bytes], tmp_path: Path
) -> None:
    with engine_that(answer, tmp_path / "s") as engine, pytest.raises(EngineAway):
        engine.get("/info")


def test_engine__a_byte_now_and_then__does_not_outlive_the_deadline(tmp_path: Path) -> None:
    drips = [HEAD + b"Content-Length: 1000\r\n\r\n", *[b" "] * 30]
    with engine_that(drips, tmp_path / "s", pause=0.2) as engine, pytest.raises(EngineAway):
        engine.get("/info")


def test_engine__refuses__with_its_status_and_words(tmp_path: Path) -> None:
    body = b'{"message": "no such\\n thing"}'
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        engine_that([head + body], tmp_path / "s") as engine,
        pytest.raises(EngineRefused) as refused,
    ):
        engine.get("/info")
    assert refused.value.status == 404
    assert refused.value.words == "no such thing"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nginx", ("nginx", "", "")),
        ("nginx:1.25", ("nginx", "1.25", "")),
        ("host:5000/a/b", ("host:5000/a/b", "", "")),
        ("host:5000/a/b:t", ("host:5000/a/b", "t", "")),
        ("ghcr.io/a/b_c-d:T@sha256:" + "a" * 64, ("ghcr.io/a/b_c-d", "T", "sha256:" + "a" * 64)),
    ],
)
def test_image_names__are_split(name: str, parts: tuple[str, str, str]) -> None:
    assert split(name) == parts


@given(st.text(max_size=80))
def test_image_names__anything__is_split_or_refused(name: str) -> None:
    with contextlib.suppress(Refused):
        found, tag, digest = split(name)
        rebuilt = found + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        assert rebuilt == name


def test_names__short_enough_and_apart() -> None:
    names = [Names("one"), Names("two")]
    bridges = {name.bridge(f"lease-{number}") for name in names for number in range(200)}
    assert len(bridges) == 400
    assert all(len(bridge) <= 15 for bridge in bridges)
    assert names[0].container("a", "b", 11) != names[0].container("a", "b1", 1)
    assert names[0].container("a", "b", 1) != names[1].container("a", "b", 1)


def test_lease__kept_as_json__comes_back() -> None:
    gpu = Device("cuda", 0, "GPU", "GPU-1", 1 << 30, caps=("a", "b"))
    service = Service(
        "web",
        PINNED,
        cpu=100,
        memory=MIB,
        storage=MIB,
        command=("a",),
        args=("b", "c"),
        env={"A": "ü"},
        ports=(Port(80), Port(53, "udp")),
        volumes=(Volume("v", "/v", MIB, read_only=True),),
        devices=(gpu, gpu),
        count=2,
    )
    lease = Lease("id", (service,), outbound=True)
    again = from_json(to_json(lease))
    assert again == lease
    assert digest(again) == digest(lease)
    assert digest(Lease("id", (service,))) != digest(lease)


def dead(finished: float, ran: float = 1.0) -> ContainerState:
    return ContainerState(
        "app", 0, Status.EXITED, exit_code=1, started=finished - ran, finished=finished
    )


def test_deaths__each_counted_once__and_pauses_grow() -> None:
    deaths, now, pauses = Deaths(), 1000.0, []
    for number in range(12):
        state = deaths.see("lease", dead(now), now)
        assert deaths.see("lease", dead(now), now).deaths == state.deaths == number + 1
        wait = 0.0
        while not deaths.is_due("lease", state, now + wait):
            wait += 1
        pauses.append(wait)
        now += wait + 1
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] == 300


def test_deaths__after_a_long_run__no_pause() -> None:
    deaths = Deaths()
    for now in (1000.0, 1010.0, 1020.0):
        deaths.see("lease", dead(now), now)
    state = deaths.see("lease", dead(9000.0, ran=5000.0), 9000.0)
    assert deaths.is_due("lease", state, 9000.0)
    deaths.forget("lease")
    assert deaths.count("lease", "app", 0) == 0


def test_deaths__refused_by_the_engine__waits_longer_each_time_and_is_no_death() -> None:
    deaths, now, pauses = Deaths(), 1000.0, []
    state = ContainerState("app", 0, Status.CREATED)
    for _ in range(12):
        deaths.refused("lease", state, now)
        wait = 0.0
        while not deaths.is_due("lease", state, now + wait):
            wait += 1
        pauses.append(wait)
        now += wait + 1
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300
    assert deaths.count("lease", "app", 0) == 0


@pytest.mark.parametrize(
    "groups",
    [
        "9:pids:/docker/{id}\n1:name=systemd:/user.slice\n",
        "0::/system.slice/docker-{id}.scope\n",
        "0::/system.slice/docker-{id}.scope/init\n",
        "0::/../../{id}\n",
    ],
)
def test_programs__of_a_container__are_known_by_their_group(groups: str, tmp_path: Path) -> None:
    ours, other = "ab" * 32, "cd" * 32
    for name, known in ((ours, True), (other, False), (f"x{ours}", False)):
        (tmp_path / "cgroup").write_text(groups.format(id=name))
        assert strays._is_of(tmp_path, [ours]) is known


def test_space__what_has_come_is_promised_no_more(tmp_path: Path) -> None:
    space = Space(Engine(tmp_path / "none"), 0, 0)
    space._root = tmp_path
    first, second = Work(), Work()
    first.most, second.most = 1000, 500
    for work in (first, second):
        space.begin(work, firm=True)
    assert space.expected() == 1500
    first.parts = {"a": (100, 400), "b": (50, 50)}
    assert (first.received, first.expected, space.expected()) == (150, 450, 1350)
    first.parts.clear()
    first.most -= 600  # an image is whole
    assert space.expected() == 900
    space.end(first)
    assert space.expected() == 500
