# SPDX-License-Identifier: Apache-2.0
"""Answers made of files, whose files are closed when the answer ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send


class FileStream(StreamingResponse):
    """Starlette leaves the pieces of a reader that went away to the garbage collector, with the
    files that they hold open.
    """

    def __init__(
        self,
        pieces: Generator[bytes, None, None],
        media_type: str,
        headers: Mapping[str, str],
        status: int = 200,
        close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._pieces, self._close = pieces, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            if scope["method"] == "HEAD":
                # No file is read for nobody.
                await Response(None, self.status_code, self.headers)(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()
            if self._close is not None:  # what a generator that never began does not close
                self._close()
