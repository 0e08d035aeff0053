# SPDX-License-Identifier: Apache-2.0
"""Servers that leases try to reach: they say hello to whoever comes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

HELLO = b"hello\n"


@contextlib.contextmanager
def greeting(host: str, port: int = 0) -> Iterator[int]:
    """A TCP server; its port."""
    with socket.create_server((host, port)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    guest, _ = server.accept()
                    with guest:
                        guest.sendall(HELLO)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def listening(host: str, port: int = 0) -> Iterator[socket.socket]:
    """A UDP socket that takes what comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, port))
        server.settimeout(1.5)
        yield server


def got_anything(server: socket.socket) -> bool:
    """Whether anything came."""
    try:
        server.recv(100)
    except TimeoutError:
        return False
    return True


@contextlib.contextmanager
def naming(host: str, address: str) -> Iterator[None]:
    """A name server that says one address for every name."""
    with listening(host, 53) as server:
        server.settimeout(None)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    question, client = server.recvfrom(512)
                    if not question:
                        return
                    end = question.index(b"\0", 12) + 5
                    asked = question[end - 4 : end - 2]
                    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
                    count = 1 if asked == b"\0\1" else 0
                    head = question[:2] + b"\x81\x80\0\1" + bytes((0, count)) + b"\0\0\0\0"
                    server.sendto(head + question[12:end] + answer * count, client)

        threading.Thread(target=serve, daemon=True).start()
        yield
        with contextlib.suppress(OSError):  # it wakes the thread all the same
            server.shutdown(socket.SHUT_RDWR)
