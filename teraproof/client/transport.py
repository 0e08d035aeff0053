# SPDX-License-Identifier: Apache-2.0
"""Requests to a provider's API: bounded answers, no redirects, errors by their codes.

A provider is a stranger, and a byte now and then would keep us without end. So each request has one
deadline for the whole, which only bytes move on; `whole` makes many requests one in this.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from teraproof import nesting
from teraproof.client.line import Line
from teraproof.client.sessions import KeptSession
from teraproof.connections import Deadline
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.errors import CODE_HEADER, Code, WireError, known
from teraproof.storage.limits import Limits, Meter
from teraproof.storage.reach import Reach

ANSWER_BYTES = 1 << 20
# Failures of the network that a second try may cure.
TRIES = 4
_SESSION = (Code.SESSION_REQUIRED, Code.SESSION_UNKNOWN)
# What the agent says when a session that was kept is not what its file claims.
_DOUBTED = (*_SESSION, Code.NOT_REQUESTER)
_PROXY = (429, 502, 503, 504)  # what a proxy says for an agent that does not answer


class _Pace(Deadline):
    """Of the present thread: when its request must have ended, and what counts its bytes."""

    meter: Meter | None = None


class Transport:
    """One server. `sign_in` gives a bearer token: at the first need, and when it has ended.

    With `kept`, a session of an earlier program is used first. What it is refused for is tried
    again with one of our own. `timeout` is seconds for a connection and between two bytes, and a
    request may take `TRIES` times as long without a byte. `until` (monotonic) is its end whatever
    comes. `reach` says which addresses may be connected to; a `transport` of its own does not ask.
    """

    def __init__(
        self,
        base_url: str,
        sign_in: Callable[[], str],
        timeout: float,
        transport: httpx.BaseTransport | None,
        kept: KeptSession | None = None,
        *,
        reach: Reach | None = None,
        until: float = math.inf,
    ) -> None:
        self.base_url, self._sign_in = base_url, sign_in
        self._token: str | None = None
        self._kept, self._resumed = kept, False
        self._limits, self._until = Limits(grace_seconds=timeout * TRIES), until
        self._pace, self._cut = _Pace(), threading.Event()
        self._line: Line | None = None
        if transport is None:
            tls = base_url.startswith("https:")
            transport = self._line = Line(self._pace, (reach or Reach.own()).resolve, tls=tls)
        self._http = httpx.Client(
            timeout=timeout, follow_redirects=False, trust_env=False, transport=transport
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def cut_off(self) -> None:
        """End what is under way, and begin nothing more: nobody waits for it. From any thread."""
        self._cut.set()
        if self._line is not None:
            self._line.cut_off()

    def wait(self, seconds: float) -> None:
        """A pause that the other side has asked for. LocalError when nobody waits any more."""
        if self._cut.wait(seconds):
            raise self.gone("nobody waits for the answer any more")

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All that this thread asks for inside is one fetch, with one deadline."""
        before = self._pace.meter
        if before is None:
            self._pace.meter = Meter(self._limits)
        try:
            yield
        finally:
            self._pace.meter = before

    @property
    def is_over(self) -> bool:
        """Whether the fetch of this thread must end: its time is up, or nobody waits for it."""
        return self._cut.is_set() or time.monotonic() >= self._renewed()

    def earned(self, seconds: float) -> None:
        """Something has come whole: that many seconds more for what follows in the fetch."""
        if self._pace.meter is not None:
            self._pace.meter.moved(int(seconds * self._limits.least_rate))

    def _renewed(self) -> float:
        """The deadline (monotonic), as the bytes so far have moved it on."""
        meter = self._pace.meter
        assert meter is not None  # of a request that is under way
        self._pace.at = min(meter.deadline, self._until)
        return self._pace.at

    def _go_on(self) -> None:
        """LocalError, or ReadTimeout, where the fetch must end."""
        if self._cut.is_set():
            raise self.gone("nobody waits for the answer any more")
        if self.is_over:
            raise httpx.ReadTimeout("the whole request took too long")

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
            found = nesting.loads(answer.content)
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
        with self.whole():
            for attempt in range(TRIES):
                try:
                    with self.stream(
                        method, path, content=content, headers=headers, signed=signed
                    ) as answer:
                        return self.bounded(answer, limit)
                except httpx.TransportError as error:
                    self.may_try(attempt, error)
                    time.sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable")

    def may_try(self, attempt: int, error: httpx.TransportError) -> None:
        """LocalError when a try, the first of which has the number 0, was the last one."""
        if attempt == TRIES - 1 or self.is_over:
            raise self.gone(cause(error)) from None

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
        with self.whole():
            for renewed in (False, True):
                sent = {"accept-encoding": "identity", **(headers or {})}
                if signed:
                    if not self.resumed and self._token is None:
                        self.sign_in()
                    sent["authorization"] = f"Bearer {self._token}"
                self._go_on()
                with self._http.stream(
                    method, self.base_url + path, content=self._counted(content), headers=sent
                ) as answer:
                    said = answer.headers.get(CODE_HEADER)
                    over = said in (_DOUBTED if self._resumed else _SESSION)
                    if not over or not signed or renewed:
                        yield answer
                        return
                    self._end()

    def _counted(self, content: Any) -> Any:
        """What is sent. A body in pieces moves the deadline on as it goes, a whole one at once."""
        if callable(content):
            return self._moving(content())
        if isinstance(content, bytes):
            self._moved(len(content))
        return content

    def _moving(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._moved(len(piece))

    def _moved(self, count: int) -> None:
        if self._pace.meter is not None:
            self._pace.meter.moved(count)
        self._go_on()

    def pieces(self, answer: httpx.Response) -> Iterator[bytes]:
        """The body of an open answer as it comes."""
        source = answer.iter_raw()
        while True:
            self._go_on()
            piece = next(source, None)
            if piece is None:
                return
            self._moved(len(piece))
            yield piece

    def bounded(self, answer: httpx.Response, limit: int = ANSWER_BYTES) -> httpx.Response:
        """An open answer, read to its end."""
        data = bytearray()
        for piece in self.pieces(answer):
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

    def gone(self, why: str) -> LocalError:
        """The agent could not be asked, for some reason in words."""
        return LocalError(f"{self.base_url}: {why}; try later", Code.AGENT_UNREACHABLE)

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
