# SPDX-License-Identifier: Apache-2.0
"""Ports of containers on other machines, as ports of this one.

Each relay listens on loopback of the agent's machine. No lease reaches it there: the walls drop
what a lease sends to its own machine, and no packet for loopback crosses a network.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Port, Shell
from provider_agent.runners.ray.wire import PIECE, tune

log = logging.getLogger(__name__)

_AT_ONCE = 256


class Relay:
    """One port. `dial` opens a channel to the container, as it is now."""

    def __init__(self, dial: Callable[[], Shell]) -> None:
        self._dial = dial
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place: tuple[str, int] = self._listener.getsockname()[:2]
        self._open: set[Shell] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True, name="relay").start()

    def close(self) -> None:
        """Takes no more connections, and ends those that are open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for one in left:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                guest, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._carry, args=(guest,), daemon=True).start()
            else:
                guest.close()

    def _carry(self, guest: socket.socket) -> None:
        try:
            with guest:
                tune(guest)
                far = self._dial()
                with self._lock:
                    self._open.add(far)
                try:
                    threading.Thread(target=_outward, args=(guest, far), daemon=True).start()
                    while data := far.read()[1]:
                        guest.sendall(data)
                finally:
                    with self._lock:
                        self._open.discard(far)
                    far.close()
                    with suppress(OSError):
                        guest.shutdown(socket.SHUT_RDWR)
        except (RunnerError, OSError) as error:
            log.debug("relay: %s", error)
        finally:
            self._places.release()


class Relays:
    """The relays of all leases, each made when it is first asked for. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str, int, Port], Relay] = {}

    def place(
        self, lease_id: str, service: str, number: int, port: Port, dial: Callable[[], Shell]
    ) -> tuple[str, int]:
        """Where the port of a container is on this machine."""
        key = (lease_id, service, number, port)
        with self._lock:
            if key not in self._made:
                self._made[key] = Relay(dial)
            return self._made[key].place

    def close(self, lease_id: str | None = None) -> None:
        """Ends those of a lease, or all."""
        with self._lock:
            ended = [key for key in self._made if lease_id in (None, key[0])]
            relays = [self._made.pop(key) for key in ended]
        for relay in relays:
            relay.close()


def _outward(guest: socket.socket, far: Shell) -> None:
    with suppress(RunnerError, OSError):
        while data := guest.recv(PIECE):
            far.write(data)
        far.finish()
