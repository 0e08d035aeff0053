# SPDX-License-Identifier: Apache-2.0
"""What this process holds of sockets."""

from __future__ import annotations

import contextlib
import os
import socket


def sends_at_once(port: int) -> list[bool]:
    """For each connection that was accepted on a port: whether small pieces leave at once."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor))) as one:
            inet = one.family in (socket.AF_INET, socket.AF_INET6)
            if inet and one.getsockname()[1] == port and one.getpeername():  # not what listens
                found.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
    return found
