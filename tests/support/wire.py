# SPDX-License-Identifier: Apache-2.0
"""Requests to a node on this machine, at a fifth of the work that a general client has with them:
tests make them by the ten thousand.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

_HEADERS = {"content-type": "application/json"}
_TIMEOUT = 30.0
#: What a request to a node that is not there, or goes away, ends with.
BROKEN = (OSError, http.client.HTTPException)
_CLOSED = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected)


class Wire:
    """Kept connections to one URL; safe to use from several threads."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.scheme == "http" and parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port
        self._idle: list[http.client.HTTPConnection] = []

    def post(self, document: Any) -> bytes:
        """The body of the answer, whatever its status. Raises one of `BROKEN`."""
        body = json.dumps(document).encode()
        with contextlib.suppress(IndexError, *_CLOSED):
            return self._once(self._idle.pop(), body)  # the other end may have closed it since
        return self._once(
            http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT), body
        )

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _once(self, connection: http.client.HTTPConnection, body: bytes) -> bytes:
        try:
            connection.request("POST", "/", body, _HEADERS)
            data = connection.getresponse().read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return data
