# SPDX-License-Identifier: Apache-2.0
"""A job's status, result, receipt and log, for its requester alone."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.requests import field_invalid, query_integer
from provider_agent.http.schemas import BYTES, COUNT, TEXT, list_of, object_of
from provider_agent.modules.jobs import documents as job_files
from provider_agent.modules.jobs.api import JobsApi
from provider_agent.modules.jobs.documents import JobView
from provider_agent.modules.jobs.routes.downloads import ENTRY, RANGE, Downloads, not_ready
from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code


class JobRoutes:
    """See the module."""

    def __init__(self, api: JobsApi, door: Door, downloads: Downloads) -> None:
        self._jobs, self._door, self._downloads = api.jobs, door, downloads

    def operations(self) -> list[Operation]:
        """What it answers."""
        job = "/v1/jobs/{job_id}"
        return [
            Operation("GET", job, self.job, result=object_of(status=TEXT)),
            Operation("GET", job + "/receipt", self.receipt),
            Operation(
                "GET",
                job + "/logs",
                self.logs,
                query={"offset": BYTES, "limit": BYTES},
                result=object_of(offset=COUNT, next=COUNT, size=COUNT, text=TEXT),
            ),
            Operation("GET", job + "/result", self.manifest, result=list_of(ENTRY)),
            Operation("GET", job + "/result.tar", self.tar, answer="application/x-tar"),
            Operation(
                "GET",
                job + "/result/{path:path}",
                self.result_file,
                answer="application/octet-stream",
                statuses=(200, 206),
                headers=RANGE,
            ),
        ]

    async def job(self, request: Request) -> Response:
        """Where the job stands."""
        return JSONResponse((await self._job(request)).status)

    async def receipt(self, request: Request) -> Response:
        """The receipt whose digest goes on chain."""
        receipt = (await self._job(request)).receipt
        if receipt is None:
            raise not_ready("receipt")
        return Response(receipt, media_type="application/json")

    async def logs(self, request: Request) -> Response:
        """A piece of the log."""
        view = await self._job(request)
        offset = query_integer(request, "offset")
        limit = query_integer(request, "limit") or job_files.LOG_BYTES
        if view.log is None:
            raise not_ready("log")
        try:
            piece = await run_in_threadpool(job_files.log_slice, view.log, offset, limit)
        except FileNotFoundError:
            raise not_ready("log") from None
        except LocalError:
            raise Refused(Code.RESULT_GONE, "the log is not a file any more") from None
        return JSONResponse(piece)

    async def manifest(self, request: Request) -> Response:
        """The manifest exactly as it was attested."""
        view = await self._job(request)
        return await self._downloads.manifest(view.requester, view)

    async def tar(self, request: Request) -> Response:
        """The whole result."""
        view = await self._job(request)
        return await self._downloads.tar(view.requester, view)

    async def result_file(self, request: Request) -> Response:
        """One file of the result, from an offset on if one is asked for."""
        view = await self._job(request)
        return await self._downloads.result_file(request, view.requester, view)

    async def _job(self, request: Request) -> JobView:
        account = await self._door.account(request)
        text = request.path_params["job_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise field_invalid("job_id", "0x and 64 lower-case hex digits")
        view = await run_in_threadpool(self._jobs.job, bytes.fromhex(text))
        if view is None:
            raise Refused(Code.JOB_UNKNOWN, "this provider does not know the job")
        if view.requester.lower() != account.lower():
            raise Refused(Code.NOT_REQUESTER, "only the job's requester may see this")
        return view
