# SPDX-License-Identifier: Apache-2.0
"""How a request at a host can fail, and what follows for the host and for the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.gateway import bodies
from teraproof.protocol.errors import Code

_BUSY = (408, 409, 425, 429)


class HostFailed(LocalError):
    """A host has not answered; `excludes` says whether it is left out for a while."""

    default: ClassVar[Code] = Code.HOSTS_EXHAUSTED

    def __init__(self, line: str, *, excludes: bool = True) -> None:
        super().__init__(line)
        self.excludes = excludes


class RequestRefused(LocalError):
    """A host says that the request itself is wrong: `status` and `body` are its answer."""

    default: ClassVar[Code] = Code.UPSTREAM_REFUSED

    def __init__(self, line: str, status: int, body: bytes) -> None:
        super().__init__(line)
        self.status, self.body = status, body


def failure(status: int, body: bytes) -> LocalError:
    """What an answer means that is neither 200 nor 402."""
    line = f"it answers with HTTP status {status}: {bodies.refusal(body)}"
    if 400 <= status < 500 and status not in _BUSY:
        return RequestRefused(line, status, body)
    return HostFailed(line, excludes=status not in (409, 429))


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """HostFailed when what is inside takes longer."""
    try:
        async with asyncio.timeout(max(0.001, seconds)):
            yield
    except TimeoutError:
        raise HostFailed("it is too slow") from None
