# SPDX-License-Identifier: Apache-2.0
"""Docker Engine for tests: the real one, in a network namespace of its own.

The namespace has no way out, so that no test reaches the internet or a port of the machine. A
second one next to it plays the internet. Tests enter the first: what they, the runner and the
engine do to networks stays there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.runners import disk
from tools.engine import TOOLS, Place, find_busybox, missing

_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def busybox() -> Path:
    """A static program that is a shell and all its tools."""
    return find_busybox() or pytest.skip("no static busybox; make engine fetches it")


class Namespace:
    """A network namespace of its own, with nothing but loopback."""

    def __init__(self) -> None:
        home = self._open()
        try:
            _call(_libc.unshare(_NEWNET))
            self.handle = self._open()
            ip("link set lo up")
        finally:
            _call(_libc.setns(home, _NEWNET))
            os.close(home)

    @staticmethod
    def _open() -> int:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is inside."""
        home = self._open()
        _call(_libc.setns(self.handle, _NEWNET))
        try:
            yield
        finally:
            _call(_libc.setns(home, _NEWNET))
            os.close(home)


OUTSIDE = "198.51.100.7"
"""An address on the internet."""
ELSEWHERE = ("10.77.0.1", "172.30.0.1", "192.168.77.1", "100.64.7.7", "169.254.169.254")
"""Addresses behind this machine that no lease may reach: the owner's networks, a cloud's."""


def join(here: Place, there: Namespace) -> None:
    """Connects two namespaces; `there` has the addresses of the internet and of the neighbours."""
    with here.entered():
        place = f"/proc/{os.getpid()}/fd/{there.handle}"
        ip(f"link add name out type veth peer name far netns {place}")
        ip("addr add 203.0.113.1/24 dev out")
        ip("link set out up")
        ip("route add default via 203.0.113.2")
    with there.entered():
        for address in ("203.0.113.2/24", *(f"{one}/32" for one in (OUTSIDE, *ELSEWHERE))):
            ip(f"addr add {address} dev far")
        ip("link set far up")


def ip(line: str) -> None:
    """Runs the tool of that name."""
    subprocess.run(
        ["ip", *line.split()], env={"PATH": TOOLS}, check=True, stderr=subprocess.DEVNULL
    )


def cannot_run() -> str:
    """Why no engine can run here, or ""."""
    if trouble := missing():
        return trouble
    if disk.choose(True, True) != disk.IMAGE:
        return "no loop devices here"
    try:
        namespace, other = Namespace(), Namespace()
        join(namespace, other)
        os.close(other.handle)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace can be made: {error}"
    with namespace.entered():
        rule = (
            "-I PREROUTING -m conntrack --ctstate ESTABLISHED -m addrtype --dst-type LOCAL -j DROP"
        )
        done = subprocess.run(
            ["iptables", "-w", "10", "-t", "mangle", *rule.split()],
            env={"PATH": TOOLS},
            capture_output=True,
            text=True,
            check=False,
        )
    os.close(namespace.handle)
    return f"the kernel takes no such rules: {done.stderr.strip()}" if done.returncode else ""


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
