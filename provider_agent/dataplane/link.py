# SPDX-License-Identifier: Apache-2.0
"""The agent's end of a tenant's stream."""

from __future__ import annotations

import asyncio

from teraproof.errors import LocalError, Refused
from teraproof.protocol import dataplane
from teraproof.protocol.dataplane import KEEP_SECONDS, PIECE, Frame
from teraproof.protocol.errors import Code, WireError

_LAST_WORD = 2.0
_UNEXPECTED = "a frame that does not belong here"


class Link:
    """Frames over one secured connection. One task reads; `idle` is how long nothing may come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float
    ) -> None:
        self._reader, self._writer, self._idle = reader, writer, idle

    async def read(self, *wanted: Frame, longest: int = PIECE) -> tuple[Frame, bytes]:
        """The next frame but KEEP. LocalError for one that is not `wanted`; EOFError, OSError and
        TimeoutError where the tenant has gone.
        """
        while True:
            async with asyncio.timeout(self._idle):
                kind, data = await dataplane.read_frame(self._reader, longest)
            if kind is Frame.KEEP:
                continue
            if kind not in wanted:
                raise LocalError(_UNEXPECTED, Code.BAD_REQUEST)
            return kind, data

    async def send(self, kind: Frame, data: bytes = b"") -> None:
        """Sends a frame; waits where the tenant does not read."""
        self._writer.write(dataplane.frame(kind, data))
        await self._writer.drain()

    async def refuse(self, refused: Refused) -> None:
        """The last frame: why there is no stream, or no more of it."""
        error = WireError(refused.code, str(refused), refused.retryable, refused.details)
        async with asyncio.timeout(_LAST_WORD):  # the tenant may not read
            await self.send(Frame.REFUSED, dataplane.encoded(error.to_json()))

    async def keep(self) -> None:
        """Shows that the agent is there, until it is cancelled."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self.send(Frame.KEEP)
