# SPDX-License-Identifier: Apache-2.0
"""Ports for programs of a demo or a test, several of which may run on one machine."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import tempfile
from pathlib import Path

from teraproof.errors import CommandError
from teraproof.locks import MachineLock

_PORTS = range(10_000, 30_000)  # below those that the system gives to connections
_LOCKS = Path(tempfile.gettempdir()) / f"teraproof-ports-{os.getuid()}"
_given: list[MachineLock] = []  # held to the end of the process


def free_port() -> int:
    """A port that nobody listens on, and that nobody else gets here while this process lives.

    The system gives it to no connection: it stays free while the program behind it is down.
    CommandError when there is none.
    """
    _LOCKS.mkdir(exist_ok=True)
    for port in random.sample(_PORTS, len(_PORTS)):
        lock = MachineLock(f"port-{port}", _LOCKS)
        if not lock.take():
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.append(lock)
            return port
        lock.release()
    raise CommandError("no port is free on this machine; stop other programs")
