# SPDX-License-Identifier: Apache-2.0
"""Sockets that wait for connections."""

from __future__ import annotations

import socket

import pytest

from teraproof.listening import listener
from tests.support.sockets import sends_at_once


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listener__what_is_accepted__sends_small_pieces_at_once(host: str) -> None:
    with (
        listener(host, 0, 4) as waits,
        socket.create_connection(waits.getsockname()[:2]),
        waits.accept()[0],
    ):
        assert sends_at_once(waits.getsockname()[1]) == [True]


def test_create_server__what_is_accepted__waits_for_acknowledgements() -> None:
    """Why there is a listener of our own."""
    with (
        socket.create_server(("127.0.0.1", 0)) as waits,
        socket.create_connection(waits.getsockname()),
        waits.accept()[0],
    ):
        assert sends_at_once(waits.getsockname()[1]) == [False]


def test_listener__taken_port__oserror() -> None:
    with listener("127.0.0.1", 0, 4) as waits, pytest.raises(OSError, match="in use"):
        listener("127.0.0.1", waits.getsockname()[1], 4)
