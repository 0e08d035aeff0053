# SPDX-License-Identifier: Apache-2.0
"""Jurors take in the evidence of a tenant: the one part of the API that is a juror's."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.limits import ApiLimits
from provider_agent.http.requests import field_invalid, read_body
from provider_agent.http.schemas import DIGEST, object_of
from provider_agent.http.streaming import Slots
from provider_agent.modules.disputes.hearing import Awaited, Hearing
from teraproof.errors import Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.dispute import EVIDENCE_BYTES
from teraproof.protocol.errors import Code

_AT_ONCE = 4  # each is in memory while it comes


class HearingRoutes:
    """See the module."""

    def __init__(self, hearing: Hearing, door: Door, limits: ApiLimits | None = None) -> None:
        self._hearing, self._door = hearing, door
        self._limits = limits or ApiLimits()
        self._slots = Slots("files", _AT_ONCE, 1, Code.UPLOADS_BUSY)

    def operations(self) -> list[Operation]:
        """What it answers."""
        place = "/v1/disputes/{job_id}/evidence"
        return [
            Operation("HEAD", place, self.has),
            Operation(
                "PUT",
                place,
                self.put,
                result=object_of(evidence=DIGEST),
                statuses=(200, 201),
            ),
        ]

    async def has(self, request: Request) -> Response:
        """Whether a drawn juror has the evidence of the caller's dispute."""
        job, _ = await self._awaited(request)
        if not await run_in_threadpool(self._hearing.has, job):
            raise Refused(Code.INPUT_MISSING, "the evidence is not here yet")
        return Response()

    async def put(self, request: Request) -> Response:
        """Take the evidence of a dispute, from its requester, while its jurors may commit."""
        job, awaited = await self._awaited(request)
        answer = {"evidence": awaited.digest.hex()}
        if await run_in_threadpool(self._hearing.has, job):
            return JSONResponse(answer)
        give_back = self._slots.take(awaited.requester)
        try:
            data = await read_body(request, EVIDENCE_BYTES, self._limits.body_seconds)
            await run_in_threadpool(self._hearing.keep, job, awaited, data)
        finally:
            give_back()
        return JSONResponse(answer, 201)

    async def _awaited(self, request: Request) -> tuple[bytes, Awaited]:
        account = await self._door.account(request)
        text = request.path_params["job_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise field_invalid("job_id", "0x and 64 lower-case hex digits")
        job = bytes.fromhex(text)
        return job, await run_in_threadpool(self._hearing.awaited, job, account)
