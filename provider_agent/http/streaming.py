# SPDX-License-Identifier: Apache-2.0
"""Answers made of files, whose files are closed when the answer ends, however it ends.

What an account can have under way at once is counted here, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from teraproof.errors import Refused
from teraproof.protocol.errors import Code


class Slots:
    """Uploads or downloads at once, of one account and of all. Used on the event loop alone."""

    def __init__(self, what: str, most: int, per_account: int, code: Code) -> None:
        self._what, self._most, self._per_account, self._code = what, most, per_account, code
        self._taken: Counter[str] = Counter()

    def take(self, account: str, kept: int = 0) -> Callable[[], None]:
        """One more, until what is returned is called. Refused when there are too many; `kept` are
        for what matters more than this one.
        """
        if self._taken[account] >= self._per_account:
            raise Refused(
                self._code, f"too many {self._what} of yours at once; wait for one to end"
            )
        if self._taken.total() >= self._most - kept:
            raise Refused(Code.SERVER_BUSY, f"too many {self._what} at once; try later")
        self._taken[account] += 1

        def give_back() -> None:
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]

        return give_back


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
