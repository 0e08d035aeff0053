# SPDX-License-Identifier: Apache-2.0
"""Requests to a provider's API: bounded answers, no redirects, errors by their codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from teraproof.client.sessions import KeptSession
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.errors import CODE_HEADER, Code, WireError, known

ANSWER_BYTES = 1 << 20
_CHUNK = 1 << 18
# Failures of the network that a second try may cure.
TRIES = 4
_SESSION = (Code.SESSION_REQUIRED, Code.SESSION_UNKNOWN)
# What the agent says when a session that was kept is not what its file claims.
_DOUBTED = (*_SESSION, Code.NOT_REQUESTER)
_PROXY = (429, 502, 503, 504)  # what a proxy says for an agent that does not answer


class Transport:
    """One server. `sign_in` gives a bearer token: at the first need, and when it has ended.

    With `kept`, a session of an earlier program is used first. What it is refused for is tried
    again with one of our own.
    """

    def __init__(
        self,
        base_url: str,
        sign_in: Callable[[], str],
        timeout: float,
        transport: httpx.BaseTransport | None,
        kept: KeptSession | None = None,
    ) -> None:
        self.base_url, self._sign_in = base_url, sign_in
        self._token: str | None = None
        self._kept, self._resumed = kept, False
        self._http = httpx.Client(
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
            # Reading all certificates takes longer than a request; plain HTTP needs none.
            verify=base_url.startswith("https:"),
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def sign_in(self) -> None:
        """Open a session now."""
        self._token, self._resumed = self._sign_in(), False

    @property
    def resumed(self) -> bool:
        """Whether there is a session, and an earlier program opened it."""
        if self._token is None and self._kept is not None:
            self._token = self._kept.token()
            self._resumed = self._token is not None
        return self._resumed

    def _end(self) -> None:
        """The session is over, here and for later programs."""
        self._token, self._resumed = None, False
        if self._kept is not None:
            self._kept.forget()

    def json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        content: bytes | None = None,
        signed: bool = True,
        limit: int = ANSWER_BYTES,
    ) -> dict[str, Any]:
        """The answer, a JSON object of at most `limit` bytes."""
        if body is not None:
            content = json.dumps(body).encode()
        sent = self.request(method, path, content=content, signed=signed, limit=limit)
        answer = self.checked(sent)
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self.no_agent()
        return found

    def read(self, path: str, limit: int) -> bytes:
        """The answer to a GET."""
        return self.checked(self.request("GET", path, limit=limit)).content

    def request(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        headers: dict[str, str] | None = None,
        signed: bool = True,
        limit: int = ANSWER_BYTES,
    ) -> httpx.Response:
        """One request with a bounded answer; transport failures are tried again."""
        for attempt in range(TRIES):
            try:
                with self.stream(
                    method, path, content=content, headers=headers, signed=signed
                ) as answer:
                    return self.bounded(answer, limit)
            except httpx.TransportError as error:
                if attempt == TRIES - 1:
                    raise LocalError(
                        f"{self.base_url}: {cause(error)}; try later", Code.AGENT_UNREACHABLE
                    ) from None
                time.sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        headers: dict[str, str] | None = None,
        signed: bool = True,
    ) -> Iterator[httpx.Response]:
        """Open a request; a session that has ended is renewed once."""
        for renewed in (False, True):
            sent = {"accept-encoding": "identity", **(headers or {})}
            if signed:
                if not self.resumed and self._token is None:
                    self.sign_in()
                sent["authorization"] = f"Bearer {self._token}"
            with self._http.stream(
                method,
                self.base_url + path,
                content=content() if callable(content) else content,
                headers=sent,
            ) as answer:
                said = answer.headers.get(CODE_HEADER)
                over = said in (_DOUBTED if self._resumed else _SESSION)
                if not over or not signed or renewed:
                    yield answer
                    return
                self._end()

    def bounded(self, answer: httpx.Response, limit: int = ANSWER_BYTES) -> httpx.Response:
        """An open answer, read to its end."""
        data = bytearray()
        for piece in answer.iter_raw(_CHUNK):
            data += piece
            if len(data) > limit:
                raise LocalError(f"{self.base_url}: the answer is too long", Code.ANSWER_INVALID)
        name = answer.headers.get(CODE_HEADER)
        headers = {} if name is None else {CODE_HEADER: name}
        return httpx.Response(answer.status_code, headers=headers, content=bytes(data))

    def checked(self, answer: httpx.Response) -> httpx.Response:
        """The answer. RemoteError when it is an error."""
        if answer.status_code < 300:
            return answer
        raise RemoteError(self.base_url, WireError.parse(answer.content) or _bare(answer))

    def no_agent(self) -> LocalError:
        """What answers is not an agent."""
        return LocalError(
            f"{self.base_url}: no Teraproof agent answers there; check the URL", Code.ANSWER_INVALID
        )


def _bare(answer: httpx.Response) -> WireError:
    """An error without a body of ours: the answer to HEAD, or a proxy's own."""
    status, name = answer.status_code, answer.headers.get(CODE_HEADER)
    if name is not None:
        code = known(name)
    else:
        code = Code.AGENT_UNREACHABLE if status in _PROXY else Code.ANSWER_INVALID
    return WireError(code, f"HTTP status {status}", code.retryable, {})


def cause(error: httpx.TransportError) -> str:
    """What went wrong with a connection."""
    if isinstance(error, httpx.TimeoutException):
        return "the agent does not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection to the agent"
    return "the connection to the agent broke"
