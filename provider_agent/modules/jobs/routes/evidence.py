# SPDX-License-Identifier: Apache-2.0
"""What a drawn juror reads of a job: specification, inputs, and the result where it is compared."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from provider_agent.core.operation import Door, Handler, Operation, Schema
from provider_agent.http.requests import field_invalid, sha256_of
from provider_agent.http.schemas import DIGEST, list_of
from provider_agent.modules.jobs.documents import JobView
from provider_agent.modules.jobs.evidence import Evidence, EvidenceDirectory
from provider_agent.modules.jobs.routes.downloads import ENTRY, RANGE, Downloads
from teraproof.errors import Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code


class EvidenceRoutes:
    """See the module."""

    def __init__(self, desk: EvidenceDirectory, door: Door, downloads: Downloads) -> None:
        self._desk, self._door, self._downloads = desk, door, downloads

    def operations(self) -> list[Operation]:
        """What it answers."""
        place = "/v1/jobs/{job_id}/evidence"
        seal = {"seal": DIGEST}
        files: list[tuple[str, Handler, Mapping[str, Schema]]] = [
            ("/inputs/{sha256}", self.evidence_input, {}),
            ("/result/{path:path}", self.evidence_file, seal),
        ]
        return [
            Operation("GET", place + "/spec", self.evidence_spec),
            Operation(
                "GET",
                place + "/result",
                self.evidence_manifest,
                result=list_of(ENTRY),
                query=seal,
            ),
            *(
                Operation(
                    "GET",
                    place + path,
                    handler,
                    answer="application/octet-stream",
                    statuses=(200, 206),
                    query=query,
                    headers=RANGE,
                )
                for path, handler, query in files
            ),
        ]

    async def evidence_spec(self, request: Request) -> Response:
        """The specification, canonical."""
        _, found = await self._found(request)
        return Response(found.spec, media_type="application/json")

    async def evidence_input(self, request: Request) -> Response:
        """One input, by its sha256."""
        account, found = await self._found(request)
        entry = found.inputs.get(sha256_of(request))
        if entry is None:
            raise Refused(Code.FILE_UNKNOWN, "no such input in the specification")
        file = await run_in_threadpool(self._desk.input, found, entry)
        return await self._downloads.input(request, account, entry, file)

    async def evidence_manifest(self, request: Request) -> Response:
        """The manifest of the result, where the juror needs it or knows its seal."""
        account, found = await self._found(request)
        return await self._downloads.manifest(account, _result(found))

    async def evidence_file(self, request: Request) -> Response:
        """One file of the result."""
        account, found = await self._found(request)
        return await self._downloads.result_file(request, account, _result(found))

    async def _found(self, request: Request) -> tuple[str, Evidence]:
        account = await self._door.account(request)
        text = request.path_params["job_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise field_invalid("job_id", "0x and 64 lower-case hex digits")
        seal = request.query_params.get("seal")
        return account, await run_in_threadpool(self._desk.of, bytes.fromhex(text), account, seal)


def _result(found: Evidence) -> JobView:
    if found.result is None:
        raise Refused(Code.NOT_REQUESTER, "run the job first, and show the seal of what it gives")
    return found.result
