# SPDX-License-Identifier: Apache-2.0
"""A job's status, result, receipt and log, for its requester alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.requests import field_invalid, query_integer
from provider_agent.http.schemas import BYTES, COUNT, DIGEST, TEXT, list_of, object_of
from provider_agent.http.streaming import FileStream, Slots
from provider_agent.modules.jobs import documents as job_files
from provider_agent.modules.jobs.api import JobsApi
from provider_agent.modules.jobs.documents import JobView
from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import Entry, UnfitTree, check_path, is_hex_digest, parse_manifest
from teraproof.protocol.errors import Code

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

_ENTRY = object_of(path=TEXT, sha256=DIGEST, size=COUNT)


class JobRoutes:
    """See the module."""

    def __init__(self, api: JobsApi, door: Door) -> None:
        self._jobs, self._door = api.jobs, door
        limits = api.limits
        self._downloads = Slots(
            "downloads", limits.downloads, limits.downloads_per_account, Code.RATE_LIMITED
        )

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
            Operation("GET", job + "/result", self.manifest, result=list_of(_ENTRY)),
            Operation("GET", job + "/result.tar", self.tar, answer="application/x-tar"),
            Operation(
                "GET",
                job + "/result/{path:path}",
                self.result_file,
                answer="application/octet-stream",
                statuses=(200, 206),
                headers={
                    "range": {
                        "type": "string",
                        "description": "One range: bytes=A-B, bytes=A- or bytes=-N.",
                    }
                },
            ),
        ]

    async def job(self, request: Request) -> Response:
        """Where the job stands."""
        return JSONResponse((await self._job(request)).status)

    async def receipt(self, request: Request) -> Response:
        """The receipt whose digest goes on chain."""
        receipt = (await self._job(request)).receipt
        if receipt is None:
            raise _not_ready("receipt")
        return Response(receipt, media_type="application/json")

    async def logs(self, request: Request) -> Response:
        """A piece of the log."""
        view = await self._job(request)
        offset = query_integer(request, "offset")
        limit = query_integer(request, "limit") or job_files.LOG_BYTES
        if view.log is None:
            raise _not_ready("log")
        try:
            piece = await run_in_threadpool(job_files.log_slice, view.log, offset, limit)
        except FileNotFoundError:
            raise _not_ready("log") from None
        except LocalError:
            raise Refused(Code.RESULT_GONE, "the log is not a file any more") from None
        return JSONResponse(piece)

    async def manifest(self, request: Request) -> Response:
        """The manifest exactly as it was attested."""
        view = await self._job(request)
        with self._download(view) as stack:
            size, pieces = await run_in_threadpool(job_files.whole_file, stack, _manifest(view))
            headers = {"content-length": str(size)}
            return FileStream(pieces, "application/json", headers, close=stack.pop_all().close)

    async def tar(self, request: Request) -> Response:
        """The whole result."""
        view = await self._job(request)
        with self._download(view) as stack:
            listed = await run_in_threadpool(_listed, view)
            assert view.results is not None
            return FileStream(
                job_files.tar_stream(view.results, listed),
                "application/x-tar",
                {"content-length": str(job_files.tar_size(listed))},
                close=stack.pop_all().close,
            )

    async def result_file(self, request: Request) -> Response:
        """One file of the result, from an offset on if one is asked for."""
        view = await self._job(request)
        try:
            path = check_path(request.path_params["path"])
        except UnfitTree as error:
            raise Refused(error.code, str(error)) from None
        with self._download(view) as stack:
            listed = await run_in_threadpool(_listed, view)
            assert view.results is not None
            entry = next((e for e in listed if e.path == path), None)
            if entry is None:
                raise Refused(Code.FILE_UNKNOWN, "no such file in the result")
            asked = _range(request.headers.get("range"), entry.size)
            first, length = asked or (0, entry.size)
            headers = {"content-length": str(length), "accept-ranges": "bytes"}
            if asked is not None:
                headers["content-range"] = f"bytes {first}-{first + length - 1}/{entry.size}"
            pieces = await run_in_threadpool(
                job_files.file_slice, stack, view.results, entry, first, length
            )
            return FileStream(
                pieces,
                "application/octet-stream",
                headers,
                200 if asked is None else 206,
                stack.pop_all().close,
            )

    @contextmanager
    def _download(self, view: JobView) -> Iterator[ExitStack]:
        """A download of the requester: what is on the stack ends with it, and its slot is free."""
        with ExitStack() as stack:
            stack.callback(self._downloads.take(view.requester))
            try:
                yield stack
            except LocalError as error:
                if isinstance(error, Refused):
                    raise
                raise Refused(Code.RESULT_GONE, str(error)) from None

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


def _not_ready(what: str) -> Refused:
    return Refused(Code.NOT_READY, f"no {what} yet", what=what)


def _range(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes that a Range header asks for.

    None for the whole file: also when it asks in a way that this server does not serve, as RFC 9110
    wants it. Refused when nothing of the file is asked for.
    """
    found = _RANGE.fullmatch(asked) if asked else None
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:  # a number of them at the end
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(size - 1, int(found[2] or size))
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        raise Refused(Code.RANGE_INVALID, "the range begins after the end of the file", size=size)
    return first, last - first + 1


def _manifest(view: JobView) -> Path:
    if view.manifest is None or view.results is None:
        raise _not_ready("result")
    return view.manifest


def _listed(view: JobView) -> list[Entry]:
    with ExitStack() as stack:
        _, pieces = job_files.whole_file(stack, _manifest(view))
        return parse_manifest(b"".join(pieces))
