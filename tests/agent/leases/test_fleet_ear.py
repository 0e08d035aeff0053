# SPDX-License-Identifier: Apache-2.0
"""Our part on a machine: strangers who connect and say nothing keep the agent from nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from provider_agent.errors import RunnerError
from provider_agent.runners.ray import server, streams
from provider_agent.runners.ray.cluster import Contact
from provider_agent.runners.ray.keys import identity
from provider_agent.runners.ray.link import Channel, Link
from provider_agent.runners.ray.server import OF_ADDRESS, Server
from provider_agent.runners.ray.streams import Streams
from teraproof.protocol.errors import Code


def nothing(asked: object) -> None:
    """There are no channels here."""
    raise AssertionError(asked)


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as made:
        yield made


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(server, "_HELLO_SECONDS", 120.0)  # nobody leaves by itself
    made = Server("127.0.0.1", 0, lambda asked: "here", nothing)  # type: ignore[arg-type]
    yield made
    made.close()


def agent_of(ear: Server, place: Path) -> Link:
    agent, machine = identity(place / "agent", "agent"), identity(place / "machine", "machine")
    ear.trust(machine.serves(agent.pem))
    return Link(Contact("machine", "", "127.0.0.1", ear.port, machine.pem), agent, 20.0)


def silent(crowd: contextlib.ExitStack, ear: Server, source: str) -> socket.socket:
    """A connection that has been taken, and says nothing."""
    made = socket.create_connection(("127.0.0.1", ear.port), 20, (source, 0))
    return crowd.enter_context(made)


def test_one_address_that_says_nothing__holds_only_its_share(
    ear: Server, tmp_path: Path, crowd: contextlib.ExitStack
) -> None:
    link = agent_of(ear, tmp_path)
    first = silent(crowd, ear, "127.0.0.2")
    for _ in range(3 * OF_ADDRESS):
        silent(crowd, ear, "127.0.0.2")
    assert first.recv(1) == b""
    assert link.ask("here") == "here"


def test_every_place_is_held_by_strangers__the_agent_comes_in(
    ear: Server, tmp_path: Path, crowd: contextlib.ExitStack
) -> None:
    link = agent_of(ear, tmp_path)
    for number in range(server.AT_ONCE // OF_ADDRESS + 1):
        for _ in range(OF_ADDRESS):
            silent(crowd, ear, f"127.0.1.{number + 1}")
    assert link.ask("here") == "here"


class Open:
    """A connection to a container that says nothing."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def read(self) -> tuple[int, bytes]:
        self._closed.wait()
        return 1, b""

    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def resize(self, rows: int, columns: int) -> None: ...

    def exit_code(self) -> int | None:
        return None

    def close(self) -> None:
        self._closed.set()


def test_strangers_fill_all_services_of_a_lease__the_agent_and_other_leases_come_in(
    tmp_path: Path, crowd: contextlib.ExitStack
) -> None:
    ear = Server("127.0.0.1", 0, lambda asked: "here", lambda asked: Open())
    crowd.callback(ear.close)
    link = agent_of(ear, tmp_path)

    def connect(lease: str, service: str) -> Channel:
        made = link.channel("connect", lease=lease, service=service, number=0)
        crowd.callback(made.close)
        return made

    def crowded() -> int:
        came = 0
        for number in range(2 * streams.MOST):
            with contextlib.suppress(RunnerError):
                connect("hostile", f"service-{number // 50}")
                came += 1
        return came

    assert crowded() == streams.MOST
    assert link.ask("here") == "here"
    with pytest.raises(RunnerError) as caught:
        connect("hostile", "another")
    assert caught.value.code is Code.NOT_READY and "\n" not in str(caught.value)
    # Others get their share, of the one that has most, and the agent what it needs of its own.
    for lease in ("good", "better"):
        assert len([connect(lease, "web") for _ in range(streams.MOST // 4)]) == 40
    for _ in range(8):
        crowd.callback(link.channel("changes").close)
    assert link.ask("here") == "here"


def test_who_has_the_most__gives_way__and_whoever_leaves_makes_room() -> None:
    places, ended = Streams(4), list[int]()
    made = [places.enter("large") for _ in range(3)]
    for number, one in enumerate(made):
        one.cut = partial(ended.append, number)
    first = places.enter("small")
    second = places.enter("small")
    assert ended == [2], "the newest of the one with the most"
    with pytest.raises(RunnerError):
        places.enter("small")
    first.leave()
    first.leave()
    places.enter("large")
    assert ended == [2]
    second.leave()


def test_who_shares_the_address_of_the_agent__keeps_it_out_of_nothing(
    ear: Server, tmp_path: Path, crowd: contextlib.ExitStack
) -> None:
    link = agent_of(ear, tmp_path)
    for _ in range(2 * OF_ADDRESS):
        silent(crowd, ear, "127.0.0.1")
    assert [link.ask("here") for _ in range(4)] == ["here"] * 4
