# SPDX-License-Identifier: Apache-2.0
"""Specifications come in, and quotes for them go out."""

from __future__ import annotations

import hashlib
import re
import threading

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.clients import RateLimit
from provider_agent.http.door import too_often
from provider_agent.http.requests import field_invalid, read_body, read_fields, sha256_of
from provider_agent.http.schemas import ADDRESS, DECIMAL, DIGEST, HEX, object_of
from provider_agent.modules.jobs.api import JobsApi
from teraproof.errors import Refused, SpecError
from teraproof.protocol import jobspec, messages
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code

_UINT256 = re.compile(r"[0-9]{1,78}")
_KINDS = {"address": ADDRESS, "bytes32": HEX}
_SIGNED_QUOTE = object_of(
    quote=object_of(**{n: _KINDS.get(kind, DECIMAL) for n, kind in messages.Quote.FIELDS}),
    signature=HEX,
)


class SpecRoutes:
    """See the module."""

    def __init__(self, api: JobsApi, door: Door) -> None:
        self._specs, self._quotes = api.specs, api.quotes
        self._limits, self._door, self._has_room = api.limits, door, api.has_room
        self._rate = RateLimit(
            self._limits.specs_per_minute, self._limits.specs_per_minute, crowd=10
        )
        # Checking a specification is work for the processor: one at a time, the agent has jobs.
        self._lock = threading.Lock()

    def operations(self) -> list[Operation]:
        """What it answers."""
        return [
            Operation("HEAD", "/v1/specs/{sha256}", self.has_spec),
            Operation(
                "PUT",
                "/v1/specs/{sha256}",
                self.put_spec,
                result=object_of(spec=DIGEST),
                statuses=(200, 201),
            ),
            Operation(
                "POST",
                "/v1/quotes",
                self.quote,
                fields={"spec": DIGEST},
                query={"judged": DECIMAL},
                result=_SIGNED_QUOTE,
            ),
        ]

    async def has_spec(self, request: Request) -> Response:
        """Whether the agent has a specification."""
        await self._door.account(request)
        await self._read(bytes.fromhex(sha256_of(request)))
        return Response()

    async def put_spec(self, request: Request) -> Response:
        """Take a canonical job specification."""
        account = await self._door.account(request)
        digest = bytes.fromhex(sha256_of(request))
        if await run_in_threadpool(self._specs.spec, digest) is not None:
            return JSONResponse({"spec": digest.hex()})
        self._count(account)
        data = await read_body(request, jobspec.MAX_BYTES, self._limits.body_seconds)
        if hashlib.sha256(data).digest() != digest:
            raise Refused(Code.DIGEST_MISMATCH, "the body does not hash to the name; send it again")
        new = await run_in_threadpool(self._keep, digest, data, account)
        return JSONResponse({"spec": digest.hex()}, 201 if new else 200)

    def _keep(self, digest: bytes, data: bytes, account: str) -> bool:
        specs, limits = self._specs, self._limits
        with self._lock:
            if specs.spec(digest) is not None:
                return False
            named = specs.is_named(digest)
            full = specs.spec_bytes() + len(data) > limits.spec_bytes
            full = full or not self._has_room(len(data), named)
            if not named:
                count, size = specs.spec_usage(account)
                if (
                    count >= limits.specs_per_account
                    or size + len(data) > limits.spec_bytes_per_account
                ):
                    raise Refused(
                        Code.SPEC_QUOTA,
                        "your specifications without a job are over this provider's quota; post "
                        "the job, and send its specification once the provider has seen it",
                    )
                full = full or specs.spec_usage()[1] + len(data) > limits.unnamed_spec_bytes
            if full:
                raise Refused(
                    Code.STORAGE_FULL, "this provider has no room left; try later or elsewhere"
                )
            try:
                jobspec.parse_named(data, digest)
            except SpecError as error:
                raise Refused(error.code, str(error)) from None
            specs.put_spec(digest, data, account)
            return True

    async def quote(self, request: Request) -> Response:
        """A signed price for a specification that is here; `judged` is how its result is."""
        account = await self._door.account(request)
        body = await read_fields(request, self._limits.body_seconds, "spec")
        if self._quotes is None:
            raise Refused(
                Code.QUOTES_NOT_OFFERED, "this provider issues no quotes; post the job instead"
            )
        if not is_hex_digest(body["spec"]):
            raise field_invalid("spec", "64 lower-case hex digits")
        asked = request.query_params.get("judged", "0")
        if not _UINT256.fullmatch(asked) or int(asked) >= 2**256:
            raise field_invalid("judged", "a decimal number of up to 256 bits")
        self._count(account)
        digest = bytes.fromhex(body["spec"])
        spec = await run_in_threadpool(self._quotes.spec, digest)
        if spec is None:
            raise _missing()
        quote, signature = await run_in_threadpool(self._quotes.issue, account, spec, int(asked))
        return JSONResponse({"quote": quote_json(quote), "signature": "0x" + signature.hex()})

    def _count(self, account: str) -> None:
        """Refused when the account sends or names too many specifications."""
        if not self._rate.allow(account):
            raise too_often("specifications", self._rate.pause(account))

    async def _read(self, digest: bytes) -> bytes:
        data = await run_in_threadpool(self._specs.spec, digest)
        if data is None:
            raise _missing()
        return data


def _missing() -> Refused:
    return Refused(Code.SPEC_MISSING, "the specification is not here; upload it first")


def quote_json(quote: messages.Quote) -> dict[str, str]:
    """A quote as JSON; integers are decimal text because they may have 256 bits."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for name, value in quote.values().items()
    }
