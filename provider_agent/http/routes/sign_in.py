# SPDX-License-Identifier: Apache-2.0
"""Sign-in by EIP-4361: a nonce, then a signed message for a bearer token."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Operation
from provider_agent.http.deps import ApiDeps
from provider_agent.http.door import Door
from provider_agent.http.requests import field_invalid, read_fields
from provider_agent.http.schemas import ADDRESS, COUNT, MESSAGE, SIGNATURE, TEXT, object_of
from teraproof.errors import LocalError
from teraproof.protocol import signatures

_NONCE = object_of(nonce=TEXT, domain=TEXT, uri=TEXT, chain_id=COUNT, expires=COUNT)


class SignInRoutes:
    """See the module."""

    def __init__(self, deps: ApiDeps, door: Door) -> None:
        self._auth, self._door = deps.auth, door
        self._body_seconds = deps.limits.body_seconds

    def operations(self) -> list[Operation]:
        """What it answers."""
        return [
            Operation("POST", "/v1/auth/nonce", self.nonce, result=_NONCE, public=True),
            Operation(
                "POST",
                "/v1/auth/login",
                self.login,
                fields={"message": MESSAGE, "signature": SIGNATURE},
                result=object_of(token=TEXT, address=ADDRESS, expires=COUNT),
                public=True,
            ),
        ]

    async def nonce(self, request: Request) -> Response:
        """A fresh nonce, and what the message must name."""
        self._door.count_sign_in(request)
        value, expires = await run_in_threadpool(self._auth.nonce)
        expected = self._auth.expected
        return JSONResponse(
            {
                "nonce": value,
                "domain": expected.domain,
                "uri": expected.uri,
                "chain_id": expected.chain_id,
                "expires": expires,
            }
        )

    async def login(self, request: Request) -> Response:
        """A token for the signer of the message."""
        self._door.count_sign_in(request)
        body = await read_fields(request, self._body_seconds, "message", "signature")
        try:
            signature = signatures.read(body["signature"])
        except LocalError:
            raise field_invalid("signature", "hex digits, two per byte") from None
        session = await run_in_threadpool(self._auth.login, body["message"], signature)
        return JSONResponse(
            {"token": session.token, "address": session.address, "expires": session.expires}
        )
