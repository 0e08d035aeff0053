# SPDX-License-Identifier: Apache-2.0
"""A disk that takes nothing while a request runs: what ends by it is free again when it does."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.agent.api_rig import wait_until
from tests.agent.inference.rig import Rig, serve
from tests.agent.inference.test_leaving import ask
from tests.support.model_server import Faults, ModelServer


@contextlib.contextmanager
def refusing(rig: Rig) -> Iterator[None]:
    """SQLite itself refuses to write, on all connections."""
    connections = rig.book.core._all

    def say(word: str) -> None:
        for one in connections:
            one.execute(f"PRAGMA query_only = {word}")

    assert connections
    say("ON")
    try:
        with pytest.raises(sqlite3.Error):
            rig.book.recover()
        yield
    finally:
        say("OFF")


def answer_of(link: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while piece := link.recv(1 << 16):
            data += piece
            if not data.startswith(b"HTTP/1.1 200"):
                break
    link.close()
    return data


@pytest.mark.parametrize(
    "asked", [{"kind": "chat"}, {"kind": "chat", "stream": True}, {"kind": "embeddings"}]
)
def test_disk_is_full_when_an_answer_ends__the_channel_is_free_when_it_is_not(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=0.3 if asked.get("stream") else 2.0))) as rig:
        wallet = rig.fund()
        kind = asked.pop("kind")
        link = ask(rig, wallet, kind, **asked)
        wait_until(lambda: wallet.row.is_open, 20)
        with refusing(rig):
            said = answer_of(link)
            assert b"teraproof-receipt" not in said.lower() and wallet.row.charged == 0
            with contextlib.suppress(httpx.TransportError):
                assert rig.ask(wallet.pay(10**6), kind).status_code == 500
            assert wallet.row.is_open
        rig.server.faults.pause = 0
        with httpx.Client(timeout=30) as rig.http:  # the other one may have lost its connection
            again = rig.ask(wallet.pay(10**6), kind)
        assert again.status_code == 200, again.text
        row = wallet.row
        assert not row.is_open and row.number == 2


def test_disk_is_full_when_a_server_fails__the_channel_is_free_when_it_is_not(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=2.0, body=b"<html>"))) as rig:
        wallet = rig.fund()
        link = ask(rig, wallet, "chat")
        wait_until(lambda: wallet.row.is_open, 20)
        with refusing(rig):
            assert b"upstream_away" in answer_of(link)
            assert wallet.row.is_open
        rig.ask(rig.fund(salt=1).pay(10**6))
        row = wallet.row
        assert not row.is_open and row.charged == 0
