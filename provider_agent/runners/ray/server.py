# SPDX-License-Identifier: Apache-2.0
"""A machine's ear: requests and channels, over TLS, for the one agent whose certificate it knows.

A channel is a program's terminal, a log, or a connection to a port of a container. It has two
connections, one a direction: each is read or written by one thread, as TLS needs it. When the one
for input breaks off, nobody listens any more, and the channel is closed.
"""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Shell
from provider_agent.runners.ray.wire import END, INPUT, MESSAGE, Line, fault, tune

log = logging.getLogger(__name__)

AT_ONCE = 512
"""Connections at one time."""
OF_ADDRESS = 16
"""Connections of one address that have not shown yet that they are the agent's."""
_ROOM_SECONDS = 0.5
_OF_ONE = 64  # channels of one container: a tenant uses up only its own
_HELLO_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_BROKEN = (OSError, ValueError, EOFError)

Do = Callable[[Mapping[str, Any]], Any]
Open = Callable[[Mapping[str, Any]], Shell]


class _Channel:
    def __init__(self, shell: Shell, owner: str) -> None:
        self.shell, self.owner = shell, owner
        self.joined = threading.Event()


class Server:
    """See the module. `do` answers a request, `channel` opens one; both may wait and raise."""

    def __init__(self, host: str, port: int, do: Do, channel: Open) -> None:
        self._do, self._open = do, channel
        self._context: ssl.SSLContext | None = None
        self._channels: dict[str, _Channel] = {}
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._strangers: dict[socket.socket, str] = {}  # not greeted yet, the oldest first
        self._listener = socket.create_server((host, port), backlog=AT_ONCE)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True, name="ear").start()

    def trust(self, context: ssl.SSLContext) -> None:
        """From now on it talks to the one that this context lets in."""
        self._context = context

    def close(self) -> None:
        """Takes no more connections, and ends all channels."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._channels.values())
        for one in left:
            one.shell.close()

    # ------------------------------------------------------------------ connections

    def _serve(self) -> None:
        while True:
            try:
                opened, peer = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)  # no descriptors, or a peer that left at once
                continue
            if not self._has_room(str(peer[0])):
                opened.close()
                continue
            args = (opened, str(peer[0]))
            threading.Thread(target=self._greet, args=args, daemon=True).start()

    def _has_room(self, address: str) -> bool:
        """Takes a place. Who has said nothing for longest leaves for a newcomer: of its own address
        where that has many, of the address with the most when all is full.
        """
        with self._lock:
            while self._of(address) >= OF_ADDRESS:
                self._turn_away(address)
        if self._places.acquire(blocking=False):
            return True
        with self._lock:
            most = Counter(self._strangers.values()).most_common(1)
            if most:
                self._turn_away(most[0][0])
        return bool(most) and self._places.acquire(timeout=_ROOM_SECONDS)

    def _of(self, address: str) -> int:
        return sum(one == address for one in self._strangers.values())

    def _turn_away(self, address: str) -> None:
        oldest = next(one for one, its in self._strangers.items() if its == address)
        del self._strangers[oldest]
        with suppress(OSError):
            socket.socket.shutdown(oldest, socket.SHUT_RDWR)  # TLS itself would wait

    def _greet(self, opened: socket.socket, address: str) -> None:
        try:
            context = self._context
            if context is None:
                return
            tune(opened)
            opened.settimeout(_HELLO_SECONDS)
            # On failure the socket is closed by the wrapper.
            with context.wrap_socket(
                opened, server_side=True, do_handshake_on_connect=False
            ) as safe:
                with self._lock:
                    self._strangers[safe] = address
                try:
                    safe.do_handshake()
                finally:
                    with self._lock:
                        self._strangers.pop(safe, None)
                self._talk(Line(safe, time.monotonic() + _HELLO_SECONDS))
        except _BROKEN:
            pass  # strangers, and an agent that went away
        finally:
            opened.close()
            self._places.release()

    def _talk(self, line: Line) -> None:
        asked = line.hear()
        line.until = None
        if asked.get("do") == "channel":
            self._output(line, asked)
        elif asked.get("do") == "input":
            self._input(line, str(asked.get("channel")))
        else:
            _answer(line, lambda: self._do(asked))

    # ------------------------------------------------------------------ channels

    def _output(self, line: Line, asked: Mapping[str, Any]) -> None:
        name = secrets.token_hex(16)
        owner = "/".join(str(asked.get(part)) for part in ("lease", "service", "number"))

        def begin() -> str:
            with self._lock:
                if Counter(one.owner for one in self._channels.values())[owner] >= _OF_ONE:
                    raise RunnerError(f"{owner} has {_OF_ONE} connections already; close some")
            channel = _Channel(self._open(asked), owner)
            with self._lock:
                self._channels[name] = channel
            return name

        if not _answer(line, begin):
            return
        channel = self._channels[name]
        try:
            if not channel.joined.wait(_HELLO_SECONDS):
                return
            while True:
                kind, data = channel.shell.read()
                if not data:
                    break
                line.send(kind, data)
            line.send(END, b"")
            # Whoever reads asks for the exit code before it goes.
            line.next()
        except RunnerError as error:
            line.tell(fault(error))
        finally:
            with self._lock:
                self._channels.pop(name, None)
            channel.shell.close()

    def _input(self, line: Line, name: str) -> None:
        channel = self._channels.get(name)
        if channel is None or channel.joined.is_set():
            line.tell(fault(RunnerError("there is no such channel")))
            return
        line.tell({"value": None})
        channel.joined.set()
        try:
            while (found := line.next()) is not None:
                kind, data = found
                if kind == INPUT:
                    channel.shell.write(data)
                elif kind == END:
                    channel.shell.finish()
                elif kind == MESSAGE:
                    break
        except RunnerError:
            pass  # the program is gone; its output says so
        finally:
            channel.shell.close()

    def shell(self, name: str) -> Shell:
        """The open channel of that name. Raises RunnerError."""
        channel = self._channels.get(name)
        if channel is None:
            raise RunnerError("there is no such channel")
        return channel.shell


def _answer(line: Line, do: Callable[[], Any]) -> bool:
    """Answers with what `do` returns or raises; whether it returned."""
    try:
        value = do()
    except Exception as error:  # the agent has to hear of it, whatever it is
        if not isinstance(error, RunnerError):
            log.warning("a request failed", exc_info=error)
        line.until = time.monotonic() + _ANSWER_SECONDS
        line.tell(fault(error))
        line.until = None
        return False
    line.until = time.monotonic() + _ANSWER_SECONDS
    line.tell({"value": value})
    line.until = None
    return True
