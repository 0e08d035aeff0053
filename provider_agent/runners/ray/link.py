# SPDX-License-Identifier: Apache-2.0
"""The agent's way to one machine of the fleet: requests with deadlines, and channels."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from provider_agent.runners.ray import wire
from provider_agent.runners.ray.cluster import Contact
from provider_agent.runners.ray.keys import Identity
from provider_agent.runners.ray.streams import MOST_SHELVES, Stream, Streams
from provider_agent.runners.ray.wire import END, INPUT, MESSAGE, Line

_BROKEN = (OSError, ValueError)
_CONNECT_SECONDS = 10.0


class Link:
    """See the module. Safe to use from several threads: each request has its own connection."""

    def __init__(self, contact: Contact, identity: Identity, seconds: float) -> None:
        self.contact, self._seconds = contact, seconds
        self._context = identity.calls(contact.certificate)
        self._open: set[socket.socket] = set()
        self._cut = False
        shelves = Streams(MOST_SHELVES)
        streams = Streams()
        #: By what they are for; the others are the agent's own.
        self._bounded = {"shelf": shelves, "connect": streams, "exec": streams, "logs": streams}

    @property
    def machine(self) -> str:
        """What the owner calls it."""
        return self.contact.machine

    def ask(self, what: str, /, within: float | None = None, **given: Any) -> Any:
        """The answer to one request; `within` is in seconds. Raises RunnerError, Refused: the
        machine's own, or the one with the code `containers_away`.
        """
        until = time.monotonic() + (self._seconds if within is None else within)
        try:
            line = self._line(until)
            self._open.add(line.socket)
            try:
                if self._cut:
                    raise ConnectionAbortedError("the agent ends")
                with line.socket:
                    line.tell({"do": what, **given})
                    answer = line.hear()
            finally:
                self._open.discard(line.socket)
        except _BROKEN as error:
            raise self._away(error) from None
        return wire.value_of(self.machine, answer)

    def cut(self) -> None:
        """Breaks off all requests, those to come too. What was asked for may go on there."""
        self._cut = True
        for opened in list(self._open):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def channel(self, what: str, **given: Any) -> Channel:
        """An open channel. Raises as `ask` does, and where too many are open."""
        until = time.monotonic() + self._seconds
        output = source = None
        bounded = self._bounded.get(what)
        place = None if bounded is None else bounded.enter(str(given.get("lease")))
        try:
            output = self._line(until)
            output.tell({"do": "channel", "what": what, **given})
            name = wire.value_of(self.machine, output.hear())
            source = self._line(until)
            source.tell({"do": "input", "channel": name})
            wire.value_of(self.machine, source.hear())
        except BaseException as error:
            if place is not None:
                place.leave()
            for line in (output, source):
                if line is not None:
                    line.socket.close()
            if isinstance(error, _BROKEN):
                raise self._away(error) from None
            raise
        output.until = source.until = None
        return Channel(self, name, output, source, place)

    def _line(self, until: float) -> Line:
        opened = socket.create_connection(
            (self.contact.host, self.contact.port),
            timeout=max(0.1, min(_CONNECT_SECONDS, until - time.monotonic())),
        )
        try:
            wire.tune(opened)
            return Line(self._context.wrap_socket(opened), until)
        except BaseException:
            opened.close()
            raise

    def _away(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            return wire.away(self.machine, "it takes too long")
        if isinstance(error, ssl.SSLError):
            return wire.away(self.machine, "what listens there is not ours")
        return wire.away(self.machine, f"the connection broke off ({type(error).__name__})")


class Channel:
    """A program, a log or a connection on another machine; see `lease.Shell`."""

    def __init__(
        self, link: Link, name: str, output: Line, source: Line, place: Stream | None = None
    ) -> None:
        self._link, self._name, self._place = link, name, place
        self._output, self._source = output, source
        self._closed = self._ended = False
        #: Seconds after which a machine that says and takes nothing is away; None: never.
        self.patience: float | None = None
        if place is not None:
            place.cut = self.close

    @property
    def machine(self) -> str:
        """What the owner calls the machine."""
        return self._link.machine

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        if self._ended:
            return 1, b""
        try:
            self._wait(self._output)
            found = self._output.next()
        except _BROKEN as error:
            if self._closed:
                return 1, b""
            raise self._link._away(error) from None
        if found is None and not self._closed:
            raise wire.away(self._link.machine, "the connection broke off")
        if found is None or found[0] == END:
            self._ended = True
            return 1, b""
        kind, data = found
        if kind == MESSAGE:
            self._ended = True
            wire.value_of(self._link.machine, json.loads(data))
            return 1, b""
        return kind, data

    def write(self, data: bytes) -> None:
        """See `lease.Shell`."""
        for start in range(0, len(data), wire.PIECE):
            self._send(INPUT, data[start : start + wire.PIECE])

    def finish(self) -> None:
        """See `lease.Shell`."""
        with suppress(Exception):
            self._send(END, b"")

    def _send(self, kind: int, data: bytes) -> None:
        try:
            self._wait(self._source)
            self._source.send(kind, data)
        except _BROKEN as error:
            raise self._link._away(error) from None

    def _wait(self, line: Line) -> None:
        if self.patience is not None:
            line.until = time.monotonic() + self.patience

    def resize(self, rows: int, columns: int) -> None:
        """See `lease.Shell`."""
        self._link.ask("resize", channel=self._name, rows=rows, columns=columns)

    def exit_code(self) -> int | None:
        """See `lease.Shell`."""
        found = self._link.ask("exit_code", channel=self._name)
        return None if found is None else int(found)

    def close(self) -> None:
        """See `lease.Shell`."""
        self._closed = True
        if self._place is not None:
            self._place.leave()
        for line in (self._source, self._output):
            with suppress(OSError):
                line.socket.shutdown(socket.SHUT_RDWR)
            line.socket.close()


class Printed:
    """What a container on another machine prints; see `lease.Output`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __iter__(self) -> Printed:
        return self

    def __next__(self) -> tuple[int, bytes]:
        kind, data = self._channel.read()
        if not data:
            self._channel.close()
            raise StopIteration
        return kind, data

    def close(self) -> None:
        """See `lease.Output`."""
        self._channel.close()


def placed(lease: str, service: str, number: int) -> Mapping[str, Any]:
    """A container, as requests name it."""
    return {"lease": lease, "service": service, "number": number}
