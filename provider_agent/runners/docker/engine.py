# SPDX-License-Identifier: Apache-2.0
"""Docker Engine's API over its unix socket: whole-request deadlines, byte caps, open streams.

Python's own HTTP client does it. The package `docker` limits the wait for a read and not for an
answer, keeps whole answers in memory, and opens streams by private attributes of its transport.

An engine that hangs, is away or breaks off is `EngineAway`: nothing is known then. What it answers
to a request that it will not do is `EngineRefused` with the HTTP status, which decides; its words
are for people.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from provider_agent.errors import RunnerError
from teraproof.protocol.errors import Code

SOCKET = Path("/run/docker.sock")
PIECE = 65_536

_SECONDS = 30.0
_MOST = 64 << 20  # bytes of an answer; a list of 1,000 containers takes 4 MiB
_LINE = 1 << 20  # bytes of one line of a stream of JSON values
# The API that engines from 20.10 (1.41) up to those that ask for 1.44 at least have in common.
_OLDEST, _NEWEST = (1, 41), (1, 44)
_ACTED = frozenset((200, 201, 202, 204, 304))  # 304: it was so already


class EngineAway(RunnerError):
    """The engine does not answer in time (`late`), or not at all."""

    default: ClassVar[Code] = Code.CONTAINERS_AWAY

    def __init__(self, line: str, *, late: bool = False) -> None:
        super().__init__(line)
        self.late = late


class EngineRefused(RunnerError):
    """The engine's answer to what it will not do; `status` is HTTP's."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"the container engine says: {words}")
        self.status, self.words = status, words


class Cut:
    """Breaks requests off, from any thread: those under way, and those that come later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: list[socket.socket] = []
        self.made = False

    def make(self) -> None:
        """Who waits for an answer gets EngineAway."""
        with self._lock:
            self.made = True
            for one in self._opened:
                _shut(one)

    def over(self, opened: socket.socket) -> None:
        """A connection to break off."""
        with self._lock:
            self._opened = [one for one in self._opened if one.fileno() >= 0] + [opened]
            if self.made:
                _shut(opened)


def _shut(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class _Timed(socket.socket):
    """A connection with one deadline for all that is done on it; None for no deadline."""

    until: float | None = None

    def _arm(self) -> None:
        if self.until is None:
            self.settimeout(None)
            return
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole request took too long")
        self.settimeout(left)

    def recv_into(self, *given: Any, **named: Any) -> int:
        """As the socket's, within the deadline."""
        self._arm()
        return super().recv_into(*given, **named)

    def sendall(self, *given: Any, **named: Any) -> None:
        """As the socket's, within the deadline."""
        self._arm()
        super().sendall(*given, **named)


class _Connection(http.client.HTTPConnection):
    def __init__(self, place: Path, until: float, cut: Cut | None) -> None:
        super().__init__("localhost")
        self._place, self._until, self._cut = place, until, cut

    def connect(self) -> None:
        """Opens the socket."""
        opened = _Timed(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.until = self._until
        self.sock = opened
        opened._arm()
        opened.connect(str(self._place))
        if self._cut is not None:
            self._cut.over(opened)


class Stream:
    """An answer that goes on, and what can be sent meanwhile where the engine has agreed to it."""

    def __init__(self, response: http.client.HTTPResponse, opened: _Timed) -> None:
        self._response, self._socket = response, opened
        # Past the answer to an upgrade: what comes is not HTTP any more.
        upgraded = response.status == http.client.SWITCHING_PROTOCOLS
        self._read = response.fp.read1 if upgraded else response.read1
        self._closed = threading.Event()

    def read(self, most: int = PIECE) -> bytes:
        """At most `most` bytes, as soon as there are any; b"" at the end. Raises EngineAway."""
        try:
            return b"" if self._closed.is_set() else self._read(most)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if self._closed.is_set():
                return b""
            raise _away(error) from None

    def exactly(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end."""
        data = b""
        while len(data) < size and (piece := self.read(size - len(data))):
            data += piece
        return data

    def write(self, data: bytes) -> None:
        """Sends all of it. Raises EngineAway."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _away(error) from None

    def finish(self) -> None:
        """Nothing more will be sent."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends it. A thread that waits in `read` gets the end. May be called by any thread."""
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError, ValueError):
            self._response.close()
        self._socket.close()

    def lines(self) -> Iterator[Any]:
        """Its JSON values, one a line."""
        kept = b""
        while piece := self.read():
            *whole, kept = (kept + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield _decode(line)
            if len(kept) > _LINE:
                raise EngineAway("the container engine sends a line without end")
        if kept.strip():
            yield _decode(kept)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine:
    """One engine. Safe to use from several threads: each request has a connection of its own."""

    def __init__(self, place: Path = SOCKET, *, seconds: float = _SECONDS) -> None:
        self.place, self._seconds = place, seconds
        self._version = ""

    # ------------------------------------------------------------------ requests

    def get(self, path: str, seconds: float | None = None, **query: Any) -> Any:
        """A JSON value."""
        return self.ask("GET", path, query, seconds=seconds)

    def post(self, path: str, body: Any = None, seconds: float | None = None, **query: Any) -> Any:
        """A JSON value, or None where there is nothing to say."""
        return self.ask("POST", path, query, body, seconds=seconds)

    def delete(self, path: str, seconds: float | None = None, **query: Any) -> bool:
        """Whether it was there."""
        try:
            self.ask("DELETE", path, query, seconds=seconds)
        except EngineRefused as refused:
            if refused.status == http.client.NOT_FOUND:
                return False
            raise
        return True

    def find(self, path: str, **query: Any) -> Any | None:
        """A JSON value; None when there is no such thing."""
        try:
            return self.get(path, **query)
        except EngineRefused as refused:
            if refused.status == http.client.NOT_FOUND:
                return None
            raise

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        cut: Cut | None = None,
    ) -> Any:
        """One request within `seconds`. Raises EngineAway, EngineRefused."""
        until = time.monotonic() + (self._seconds if seconds is None else seconds)
        response, opened = self._send(method, path, query, body, headers or {}, until, cut)
        try:
            data = response.read(_MOST + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _away(error) from None
        finally:
            response.close()
            opened.close()
        if len(data) > _MOST:
            raise EngineAway(f"the container engine answers with more than {_MOST >> 20} MiB")
        if response.status not in _ACTED:
            raise EngineRefused(response.status, _words(data))
        return _decode(data) if data.strip() else None

    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        upgrade: bool = False,
        seconds: float | None = None,
        first: float | None = None,
        cut: Cut | None = None,
    ) -> Stream:
        """An answer that goes on; its beginning has to come within `first` seconds, and the rest
        within `seconds` or at any time. `upgrade` asks for a connection that both sides write to.
        """
        start = time.monotonic()
        sent = dict(headers or {})
        if upgrade:
            sent |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        until = start + (self._seconds if first is None else first)
        response, opened = self._send(method, path, query, body, sent, until, cut)
        if response.status not in (*_ACTED, http.client.SWITCHING_PROTOCOLS):
            try:
                data = response.read(PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise _away(error) from None
            finally:
                response.close()
                opened.close()
            raise EngineRefused(response.status, _words(data))
        opened.until = None if seconds is None else start + seconds
        return Stream(response, opened)

    def ping(self) -> None:
        """Raises EngineAway where nobody answers."""
        self._ping()

    def version(self) -> str:
        """The part of the API's paths that names its version, such as `/v1.44`."""
        if not self._version:
            said = self._ping()
            try:
                major, minor = (int(part) for part in said.split("."))
            except ValueError:
                raise EngineAway(f"{self.place} is not a container engine; set its path") from None
            if (major, minor) < _OLDEST:
                raise RunnerError(
                    f"the engine has API {said[:20]}; install Docker Engine 20.10 or later"
                )
            self._version = "/v{}.{}".format(*min((major, minor), _NEWEST))
        return self._version

    # ------------------------------------------------------------------ connections

    def _ping(self) -> str:
        """The version of the API that it says."""
        until = time.monotonic() + self._seconds
        response, opened = self._open("GET", "/_ping", None, {}, until, None)
        with suppress(OSError, http.client.HTTPException):
            response.read(PIECE)
        response.close()
        opened.close()
        return str(response.getheader("Api-Version", ""))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        headers: Mapping[str, str],
        until: float,
        cut: Cut | None,
    ) -> tuple[http.client.HTTPResponse, _Timed]:
        said = {name: _text(value) for name, value in query.items() if value is not None}
        target = f"{self.version()}{path}" + (f"?{urlencode(said)}" if said else "")
        return self._open(method, target, body, headers, until, cut)

    def _open(
        self,
        method: str,
        target: str,
        body: Any,
        headers: Mapping[str, str],
        until: float,
        cut: Cut | None,
    ) -> tuple[http.client.HTTPResponse, _Timed]:
        connection = _Connection(self.place, until, cut)
        sent = dict(headers)
        if body is not None and not isinstance(body, bytes | Iterator):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, target, body=body, headers=sent)
            opened = connection.sock
            response = connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
            connection.close()
            raise EngineAway(
                f"there is no container engine at {self.place}: {error.strerror}; install and "
                "start Docker Engine (Debian: apt-get install docker.io), and run the agent as root"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _away(error) from None
        assert isinstance(opened, _Timed)
        return response, opened


def named(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def labelled(labels: Iterable[str], **more: list[str]) -> dict[str, list[str]]:
    """A filter for what has all of these labels."""
    return {"label": list(labels), **more}


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise EngineAway("the container engine answers with what is not JSON") from None


def _words(data: bytes) -> str:
    """What a refusal says, in one line."""
    try:
        said = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        said = data.decode(errors="replace")
    return " ".join(str(said).split())[:500] or "nothing"


def _away(error: Exception) -> EngineAway:
    if isinstance(error, TimeoutError):
        return EngineAway(
            "the container engine does not answer in time; see: systemctl status docker", late=True
        )
    return EngineAway(f"the container engine broke off ({type(error).__name__})")
