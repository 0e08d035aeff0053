# SPDX-License-Identifier: Apache-2.0
"""Whether a port can be reached from inside a network namespace; a program of its own, since only
a process with one thread can go there: knock.py NAMESPACE HOST PORT prints open or closed.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

_SECONDS = 1.5
_CLONE_NEWNET = 0x40000000


def enter(namespace: str) -> None:
    """Moves the calling thread into the network namespace of a file. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(handle)


def reaches(host: str, port: int) -> bool:
    """Whether anybody takes a connection there."""
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    enter(sys.argv[1])
    sys.stdout.write("open" if reaches(sys.argv[2], int(sys.argv[3])) else "closed")
