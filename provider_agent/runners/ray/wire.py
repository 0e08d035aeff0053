# SPDX-License-Identifier: Apache-2.0
"""What the agent and a machine say to each other: frames of a kind, a length and bytes.

A request is one MESSAGE with `do` and its arguments, its answer one MESSAGE with `value` or with
`error`. An answer that opens a channel is followed by frames of output.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import ContainerState, Credentials, LeaseState, Status
from teraproof.errors import LocalError, Refused, TeraproofError
from teraproof.protocol.errors import Code

MESSAGE, STDOUT, STDERR, INPUT, END = range(5)
PIECE = 65_536
MOST = 16 << 20
"""Bytes of one frame."""

_HEAD = struct.Struct(">BI")
_IDLE, _EVERY, _COUNT = 10, 5, 3  # seconds, seconds, tries: a peer that is gone is noticed


def tune(opened: socket.socket) -> None:
    """Has the kernel notice a peer that is gone, and send small pieces at once."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _EVERY)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (_IDLE + _COUNT * _EVERY))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Line:
    """A connection, and frames on it. One thread writes, and one reads."""

    def __init__(self, opened: socket.socket, until: float | None = None) -> None:
        self.socket, self.until = opened, until

    def send(self, kind: int, data: bytes) -> None:
        """Sends a frame. Raises OSError."""
        self._arm()
        self.socket.sendall(_HEAD.pack(kind, len(data)) + data)

    def tell(self, value: Mapping[str, Any]) -> None:
        """Sends a message. Raises OSError."""
        self.send(MESSAGE, json.dumps(value).encode())

    def next(self) -> tuple[int, bytes] | None:
        """The next frame; None at the end. Raises OSError, ValueError for what is not one."""
        head = self._exactly(_HEAD.size)
        if not head:
            return None
        kind, size = _HEAD.unpack(head)
        if size > MOST:
            raise ValueError(f"a frame of {size} bytes")
        data = self._exactly(size)
        if len(data) < size:
            raise ConnectionResetError("broken off within a frame")
        return kind, data

    def hear(self) -> dict[str, Any]:
        """The next message. Raises OSError, ValueError."""
        found = self.next()
        if found is None:
            raise ConnectionResetError("broken off")
        kind, data = found
        value = json.loads(data) if kind == MESSAGE else None
        if not isinstance(value, dict):
            raise ValueError("not a message")
        return value

    def _exactly(self, size: int) -> bytes:
        """That number of bytes; none at the end."""
        parts, left = [], size
        while left:
            self._arm()
            piece = self.socket.recv(min(left, PIECE))
            if not piece:
                if left < size:
                    raise ConnectionResetError("broken off within a frame")
                return b""
            parts.append(piece)
            left -= len(piece)
        return b"".join(parts)

    def _arm(self) -> None:
        if self.until is None:
            self.socket.settimeout(None)
            return
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole request took too long")
        self.socket.settimeout(left)


def away(machine: str, why: str) -> RunnerError:
    """Nothing is known of what a machine of the fleet runs."""
    return RunnerError(f"machine {machine} does not answer: {why}", Code.CONTAINERS_AWAY)


def fault(error: Exception) -> dict[str, Any]:
    """An error as an answer."""
    if isinstance(error, TeraproofError):
        whose = "tenant" if isinstance(error, Refused) else "ours"
        return {"error": str(error), "code": error.code.value, "whose": whose}
    words = " ".join(str(error).split())[:300]
    return {"error": f"{type(error).__name__}: {words}", "code": Code.RUNNER_FAILED.value}


def value_of(machine: str, answer: Mapping[str, Any]) -> Any:
    """The value of an answer. Raises what it says: Refused, or RunnerError with its code."""
    if "error" not in answer:
        return answer.get("value")
    said = answer.get("code")
    code = next((one for one in Code if one.value == said), Code.RUNNER_FAILED)
    line = str(answer["error"])
    error: LocalError
    if answer.get("whose") == "tenant":
        error = Refused(code, line)
    else:
        error = RunnerError(f"machine {machine}: {line}", code)
    raise error


def state_to_json(state: LeaseState) -> dict[str, Any]:
    """The state of a lease as JSON values."""
    containers = [{**asdict(one), "status": one.status.value} for one in state.containers]
    return {"lease_id": state.lease_id, "wanted": state.wanted, "containers": containers}


def state_from_json(value: Mapping[str, Any]) -> LeaseState:
    """The inverse of `state_to_json`."""
    containers = (
        ContainerState(**{**one, "status": Status(one["status"])}) for one in value["containers"]
    )
    return LeaseState(value["lease_id"], value["wanted"], tuple(containers))


def credentials_to_json(given: Mapping[str, Credentials] | None) -> dict[str, Any]:
    """Credentials by service, for a connection that nobody else reads."""
    return {name: dict(vars(one)) for name, one in (given or {}).items()}


def credentials_from_json(value: Mapping[str, Any]) -> dict[str, Credentials]:
    """The inverse of `credentials_to_json`."""
    return {name: Credentials(**one) for name, one in value.items()}
