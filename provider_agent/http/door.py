# SPDX-License-Identifier: Apache-2.0
"""Who is asking, and how often: what several routes share."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from provider_agent.http.clients import RateLimit
from provider_agent.http.deps import ApiDeps
from teraproof.errors import Refused, counted
from teraproof.protocol.errors import Code


class Door:
    """See the module."""

    def __init__(self, deps: ApiDeps) -> None:
        limits = deps.limits
        self._auth = deps.auth
        self._sign_ins = RateLimit(limits.auth_per_minute, limits.auth_burst)

    async def account(self, request: Request) -> str:
        """The address that signed in. AuthError when there is none."""
        return await run_in_threadpool(self._auth.account, request.headers.get("authorization"))

    def count_sign_in(self, request: Request) -> None:
        """Refused when the client signs in too often."""
        client = request.client.host if request.client else "unknown"
        if not self._sign_ins.allow(client):
            raise too_often("sign-ins", self._sign_ins.pause(client))


def too_often(what: str, pause: int) -> Refused:
    """The answer to a client that asks more often than the API bears; the next one is welcome after
    `pause` seconds.
    """
    line = f"too many {what}; wait for {counted(pause, 'second')}"
    return Refused(Code.RATE_LIMITED, line, retry_after=pause)
