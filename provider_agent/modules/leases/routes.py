# SPDX-License-Identifier: Apache-2.0
"""The part of the HTTP API that is about leases; `teraproof.protocol.lease_wire` has its forms.

GET  /v1/leases/offer                   public
HEAD, PUT /v1/leases/specs/{sha256}     canonical lease specification
POST /v1/leases/quotes {spec, term, notice, ready_within}
GET  /v1/leases/{id}                    for its tenant; PUT /v1/leases/{id}/credentials as well
POST /v1/leases/{id}/checkpoint {save}  for its tenant: save now
GET, POST /v1/leases/{id}/challenge     see `http.routes.acceptance`
"""

from __future__ import annotations

import hashlib
import json

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.clients import RateLimit
from provider_agent.http.door import too_often
from provider_agent.http.requests import field_invalid, read_body, read_fields, sha256_of
from provider_agent.http.routes.acceptance import AcceptanceRoutes
from provider_agent.http.schemas import ADDRESS, DECIMAL, DIGEST, HEX, OBJECT, TEXT, object_of
from provider_agent.modules.leases.api import LeasesApi
from teraproof.errors import LocalError, Refused, SpecError
from teraproof.protocol import lease_wire, leasespec
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import ASKED_SAVE_SCHEMA
from teraproof.protocol.lease_wire import LeaseReport, QuoteRequest, RegistryLogins
from teraproof.protocol.messages import LeaseQuote

_KINDS = {"address": ADDRESS, "bytes32": HEX}
_SIGNED_QUOTE = object_of(
    quote=object_of(**{n: _KINDS.get(kind, DECIMAL) for n, kind in LeaseQuote.FIELDS}),
    signature=HEX,
    images={"type": "object", "additionalProperties": TEXT},
)


class LeaseRoutes:
    """See the module."""

    def __init__(self, api: LeasesApi, door: Door) -> None:
        self._api, self._door, self._limits = api, door, api.limits
        each = api.limits.specs_per_minute
        self._rate = RateLimit(each, each, crowd=10)
        self._challenges = AcceptanceRoutes(api.desk, api.place_of, door, api.limits)

    def operations(self) -> list[Operation]:
        """What it answers."""
        spec = lease_wire.SPECS + "/{sha256}"
        lease = lease_wire.LEASES + "/{lease_id}"
        return [
            Operation("GET", lease_wire.OFFER, self.lease_offer, result=OBJECT, public=True),
            Operation("HEAD", spec, self.has_lease_spec),
            Operation(
                "PUT",
                spec,
                self.put_lease_spec,
                result=object_of(spec=DIGEST),
                statuses=(200, 201),
            ),
            Operation(
                "POST",
                lease_wire.QUOTES,
                self.lease_quote,
                fields={"spec": DIGEST, "term": TEXT, "notice": TEXT, "ready_within": TEXT},
                result=_SIGNED_QUOTE,
            ),
            Operation("GET", lease, self.lease, result=lease_wire.REPORT_SCHEMA),
            Operation(
                "PUT",
                lease + "/credentials",
                self.put_credentials,
                body=lease_wire.LOGINS_SCHEMA,
            ),
            Operation(
                "POST",
                lease + "/checkpoint",
                self.save,
                fields={"save": DECIMAL},
                result=ASKED_SAVE_SCHEMA,
            ),
            *self._challenges.operations(),
        ]

    async def lease_offer(self, request: Request) -> Response:
        """What this provider offers for leases, and what of it is free now."""
        return JSONResponse(await run_in_threadpool(self._api.offer))

    async def has_lease_spec(self, request: Request) -> Response:
        """Whether the agent has a lease specification."""
        await self._door.account(request)
        if not await run_in_threadpool(self._api.specs.has, bytes.fromhex(sha256_of(request))):
            raise Refused(Code.SPEC_MISSING, "the specification is not here; upload it first")
        return Response()

    async def put_lease_spec(self, request: Request) -> Response:
        """Take a canonical lease specification that this provider could run."""
        account = await self._door.account(request)
        digest = bytes.fromhex(sha256_of(request))
        if await run_in_threadpool(self._api.specs.has, digest):
            return JSONResponse({"spec": digest.hex()})
        self._count(account)
        data = await read_body(request, leasespec.MAX_BYTES, self._limits.body_seconds)
        if hashlib.sha256(data).digest() != digest:
            raise Refused(Code.DIGEST_MISMATCH, "the body does not hash to the name; send it again")
        new = await run_in_threadpool(self._api.specs.take, account, digest, data)
        return JSONResponse({"spec": digest.hex()}, 201 if new else 200)

    async def lease_quote(self, request: Request) -> Response:
        """A signed rate for a specification that is here, for a term."""
        account = await self._door.account(request)
        body = await read_fields(
            request, self._limits.body_seconds, "spec", "term", "notice", "ready_within"
        )
        try:
            asked = QuoteRequest.from_json(body)
        except LocalError as error:
            name, _, expected = str(error).partition(": ")
            raise field_invalid(name, expected.removeprefix("give ")) from None
        self._count(account)
        signed = await run_in_threadpool(self._api.quotes.issue, account, asked)
        return JSONResponse(signed.to_json())

    async def lease(self, request: Request) -> Response:
        """How a lease stands, for its tenant."""
        return JSONResponse((await self._lease(request)).to_json())

    async def put_credentials(self, request: Request) -> Response:
        """Credentials for the registries of a lease's images; they are kept in memory alone."""
        report = await self._lease(request)
        data = await read_body(request, lease_wire.LOGINS.max_bytes, self._limits.body_seconds)
        try:
            logins = RegistryLogins.from_json(json.loads(data))
        except (ValueError, RecursionError):
            raise Refused(Code.BODY_INVALID, "the body is not JSON") from None
        except SpecError as error:
            raise Refused(Code.BODY_INVALID, str(error)) from None
        await run_in_threadpool(self._api.leases.log_in, report.lease, logins)
        return JSONResponse({})

    async def save(self, request: Request) -> Response:
        """Save the checkpoint of a lease now, or say how far a save is that was asked for."""
        report = await self._lease(request)
        body = await read_fields(request, self._limits.body_seconds, "save")
        text = body["save"]
        if not text.isdigit() or len(text) > 15:
            raise field_invalid("save", "a number: 0, or that of an earlier answer")
        found = await run_in_threadpool(self._api.leases.save, report.lease, int(text))
        return JSONResponse(found.to_json())

    async def _lease(self, request: Request) -> LeaseReport:
        account = await self._door.account(request)
        text = request.path_params["lease_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise field_invalid("lease_id", "0x and 64 lower-case hex digits")
        report = await run_in_threadpool(self._api.leases.report, bytes.fromhex(text))
        if report is None:
            raise Refused(Code.LEASE_UNKNOWN, "this provider does not know the lease")
        if report.requester.lower() != account.lower():
            raise Refused(Code.NOT_TENANT, "only the tenant of the lease may ask")
        return report

    def _count(self, account: str) -> None:
        """Refused when the account sends or names too many specifications."""
        if not self._rate.allow(account):
            raise too_often("specifications", self._rate.pause(account))
