# SPDX-License-Identifier: Apache-2.0
"""The owner's model servers: one pool of connections for each, and an end to every wait.

What a server says when it refuses is shown to the payer; what it says when it fails is not.
"""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from provider_agent.core.health import Check
from provider_agent.modules.inference.settings import InferenceSettings, ModelSettings
from teraproof import keyfiles, nesting
from teraproof.errors import Refused
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.inference import PATHS
from teraproof.wire import FAILURES, Reply, Wire

log = logging.getLogger(__name__)

_CONNECT = 5.0  # seconds
_IDLE = 30.0  # seconds that a connection is kept
_ERROR_BYTES = 64 << 10
_LOOK_EVERY, _LOOK = 15.0, 5.0  # seconds between two looks at a server, and for one
#: What of a server's refusals is the payer's own fault.
_PAYERS = (400, 413, 415, 422)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the owner's key is for the place that the owner has named."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: the answer is an HTTPError."""


# No proxy of the environment stands in front of the owner's own servers.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stays)


class UpstreamLost(Exception):
    """A server does not answer, or has broken off; the words are for the log."""


class TooLong(UpstreamLost):
    """Its answer was cut off."""


@dataclass
class Answer:
    """The beginning of a server's answer; `pieces` are its bytes."""

    status: int
    pieces: AsyncIterator[bytes]


class Upstream:
    """One model's server. `ask` is for the listener's event loop, `look` for any thread."""

    def __init__(self, name: str, settings: ModelSettings, *, wait: float, most: int) -> None:
        """`wait` is in seconds, for the beginning of an answer and for each piece of it; `most` in
        bytes of an answer. Raises KeyFileError.
        """
        self.name = name
        self.model = settings.upstream_model or name
        self._base = settings.upstream.rstrip("/")
        self._most = most
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if settings.key_file is not None:
            key = keyfiles.secret(settings.key_file).strip()
            self._headers["authorization"] = f"Bearer {key}"
        self._wait = wait
        self._wire = Wire(self._base, self._headers, connect=_CONNECT, idle=_IDLE)
        #: Whether it answered when it was asked last.
        self.is_up = True
        self._moved = False  # it redirects

    @asynccontextmanager
    async def ask(self, kind: str, body: bytes, most: int | None = None) -> AsyncIterator[Answer]:
        """Send a request. UpstreamLost when no answer begins, also from its pieces, which are
        `most` bytes together.
        """
        most = self._most if most is None else min(most, self._most)
        try:
            path = PATHS[kind].removeprefix("/v1")
            async with self._wire.ask("POST", path, body, wait=self._wait) as reply:
                self.is_up = True
                yield Answer(reply.status, self._pieces(reply, most))
        except FAILURES as error:
            if isinstance(error, ConnectionRefusedError):
                self.is_up = False
            raise UpstreamLost(f"{self.name}: {type(error).__name__} {error}") from None

    async def _pieces(self, reply: Reply, most: int) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in reply.pieces():
                size += len(piece)
                if size > most:
                    raise TooLong(f"{self.name}: the answer is longer than {most} bytes")
                yield piece
        except FAILURES as error:
            raise UpstreamLost(f"{self.name}: {type(error).__name__} {error}") from None

    def look(self) -> None:
        """See whether it answers."""
        request = urllib.request.Request(f"{self._base}/models", headers=self._headers)  # noqa: S310 - the owner's own setting, http or https
        try:
            with _DIRECT.open(request, timeout=_LOOK):
                self.is_up, self._moved = True, False
        except urllib.error.HTTPError as error:
            self._moved = 300 <= error.code < 400
            if self._moved and self.is_up:
                log.warning(
                    "model %s: its server redirects, and no redirect is followed: name the place "
                    "itself as upstream",
                    self.name,
                )
            self.is_up = error.code < 500 and not self._moved
            error.close()
        except (OSError, http.client.HTTPException) as error:
            if self.is_up:
                log.warning("model %s: its server does not answer: %s", self.name, error)
            self.is_up = False

    def check(self) -> Check:
        """For the readiness report."""
        why = "its server redirects; name the place itself" if self._moved else "no answer"
        return Check(f"model {self.name}", self.is_up, "" if self.is_up else why)


async def whole(answer: Answer, most: int | None = None) -> bytes:
    """All of an answer's bytes, or the first `most`. UpstreamLost."""
    data = bytearray()
    async for piece in answer.pieces:
        data += piece
        if most is not None and len(data) >= most:
            break
    return bytes(data)


async def refusal(answer: Answer) -> Refused:
    """What the payer is shown of an answer that is not a success. UpstreamLost."""
    if answer.status not in _PAYERS:
        log.warning("a model's server answers with status %s", answer.status)
        return away()
    said = _message(await whole(answer, _ERROR_BYTES))
    return Refused(
        Code.UPSTREAM_REFUSED, f"the model's server refuses the request: {said}", said=said
    )


def away() -> Refused:
    """The server does not answer."""
    return Refused(Code.UPSTREAM_AWAY, "the model's server does not answer now; try later")


def _message(body: bytes) -> str:
    """The line of an error in OpenAI's form, or in that of other servers."""
    try:
        found: Any = nesting.loads(body)
    except (ValueError, RecursionError):
        return "no reason is given"
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail")
    return one_line(found) if isinstance(found, str) else "no reason is given"


class Upstreams:
    """All servers, and a thread that looks at them now and then."""

    def __init__(self, settings: InferenceSettings) -> None:
        self._all: Mapping[str, Upstream] = {
            name: Upstream(
                name, one, wait=float(settings.first_wait), most=settings.answer_mb << 20
            )
            for name, one in settings.models.items()
        }
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def __getitem__(self, name: str) -> Upstream:
        return self._all[name]

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._watch, name="model servers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the looks."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(_LOOK * 2)

    def checks(self) -> Sequence[Callable[[], Check]]:
        """One line of the readiness report for each."""
        return [one.check for one in self._all.values()]

    def look_once(self) -> list[Check]:
        """What each of them is like now. Nothing goes to the log."""
        for one in self._all.values():
            one.is_up = False  # a look logs what has changed for the worse
            one.look()
        return [one.check() for one in self._all.values()]

    def _watch(self) -> None:
        while True:
            for one in self._all.values():
                one.look()
                if self._ends.is_set():
                    return
            if self._ends.wait(_LOOK_EVERY):
                return
