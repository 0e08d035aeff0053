# SPDX-License-Identifier: Apache-2.0
"""A loop that hangs is seen, and what it hangs on is broken off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from provider_agent.core.watch import Watch
from teraproof import connections
from teraproof.rpc.http import Http, HttpFault
from tests.agent.api_rig import wait_until


@pytest.fixture
def silent() -> Iterator[str]:
    """A node that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_look__loop_hangs__told_where_and_broken_off_once_a_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, broken = Clock(), list[float]()
    watch = Watch(lambda: broken.append(clock.now), limit=120, clock=clock)
    in_the_middle, end = threading.Event(), threading.Event()

    def loop() -> None:
        watch.start()
        watch.move("module jobs")
        in_the_middle.set()
        wait_for_a_node_that_is_silent(end)

    thread = threading.Thread(target=loop)
    thread.start()
    in_the_middle.wait()
    for clock.now in (60.0, 120.0, 121.0, 180.0, 240.0, 242.0):
        watch.look()
    assert broken == [121.0, 242.0]
    assert not watch.moves
    said = caplog.records[0].message
    assert "module jobs" in said and "wait_for_a_node_that_is_silent" in said
    end.set()
    thread.join()
    watch.close()


def wait_for_a_node_that_is_silent(end: threading.Event) -> None:
    end.wait()


def test_move__another_thread__does_not_count() -> None:
    clock = Clock()
    watch = Watch(lambda: None, limit=120, clock=clock)
    watch.start()
    clock.now = 121.0
    other = threading.Thread(target=watch.move)
    other.start()
    other.join()
    moved = [watch.moves]
    watch.move()
    assert [*moved, watch.moves] == [False, True]
    watch.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_renew__request_that_outlived_its_deadline__ends_and_the_next_one_goes(
    silent: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline should have ended it: what hangs for a reason that nobody thought of."""
    monkeypatch.setattr(connections.Deadline, "left", lambda *_: None)
    client, faults = Http(tls=True), list[HttpFault]()

    def ask() -> None:
        try:
            client.post(silent.replace("http", scheme), b"{}", seconds=1e6, most=10)
        except HttpFault as fault:
            faults.append(fault)

    for expected in (1, 2):  # the client can be renewed more than once
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: len(client._backend._sockets) > 0)
        client.renew()
        thread.join(timeout=20)
        assert not thread.is_alive() and len(faults) == expected
    client.close()
