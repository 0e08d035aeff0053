# SPDX-License-Identifier: Apache-2.0
"""Our part on a machine: strangers who connect and say nothing keep the agent from nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from provider_agent.runners.ray import server
from provider_agent.runners.ray.cluster import Contact
from provider_agent.runners.ray.keys import identity
from provider_agent.runners.ray.link import Link
from provider_agent.runners.ray.server import OF_ADDRESS, Server


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


def test_who_shares_the_address_of_the_agent__keeps_it_out_of_nothing(
    ear: Server, tmp_path: Path, crowd: contextlib.ExitStack
) -> None:
    link = agent_of(ear, tmp_path)
    for _ in range(2 * OF_ADDRESS):
        silent(crowd, ear, "127.0.0.1")
    assert [link.ask("here") for _ in range(4)] == ["here"] * 4
