# SPDX-License-Identifier: Apache-2.0
"""The gateway's connections to hosts: to public addresses, and to networks that its settings name.

A host says by itself where its API is. Without this rule it could have the gateway send requests
into the network that the gateway is in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from teraproof.connections import trusted
from teraproof.gateway.faults import HostFailed
from teraproof.storage.reach import Reach
from teraproof.wire import FAILURES, Reply, Wire

_RESOLVERS = 16  # names that are looked up at once
_CONNECT_SECONDS = 10.0
_SERVERS = 4_096  # to which connections are kept
# Ours are the bytes that a receipt is about, so nobody packs them.
_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class Answer:
    """A host's answer, its body not read yet. `close` it, whatever has happened."""

    def __init__(self, reply: Reply) -> None:
        self._reply, self._closed = reply, False
        self.status = reply.status

    def header(self, name: str) -> str | None:
        """The value of a header; None without it."""
        return self._reply.header(name)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes of its body, as they come. HostFailed."""
        with _faults():
            async for piece in self._reply.pieces():
                yield piece

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._reply.end()


class Lines:
    """Sends requests to hosts, over connections that are kept for `kept_seconds`. For one loop."""

    def __init__(self, reach: Reach, *, kept_seconds: float) -> None:
        self._resolve, self._kept = reach.resolve, kept_seconds
        self._tls = trusted(None)
        self._wires: dict[str, Wire] = {}
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for wire in self._wires.values():
            wire.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, wait: float
    ) -> Answer:
        """Send JSON; the answer once its head is here. `wait` is in seconds, for whatever is read
        next. HostFailed, and LocalError (URI_REFUSED) where it may not go there.
        """
        place = urlsplit(url)
        wire = self._wire(f"{place.scheme}://{place.netloc}")
        with _faults(place.netloc):
            return Answer(await wire.send("POST", place.path, body, headers=headers, wait=wait))

    def _wire(self, base: str) -> Wire:
        wire = self._wires.get(base)
        if wire is None:
            if len(self._wires) >= _SERVERS:
                self._wires.pop(next(iter(self._wires))).close()
            # Sent again it would be a second request: the voucher with it may have arrived.
            wire = self._wires[base] = Wire(
                base,
                _HEADERS,
                connect=_CONNECT_SECONDS,
                idle=self._kept,
                resolve=self._look_up,
                tls=self._tls,
                resends=False,
            )
        return wire

    async def _look_up(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """The addresses that were checked: a name is looked up once."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._resolve, host, port, seconds)


@contextlib.contextmanager
def _faults(place: str = "") -> Iterator[None]:
    """What breaks a connection is the host's failure. `place` is named where there is one."""
    try:
        yield
    except TimeoutError:
        raise HostFailed("it is silent for too long") from None
    except FAILURES as error:
        to = f" to {place}" if place else ""
        raise HostFailed(f"the connection{to} broke ({type(error).__name__})") from None
