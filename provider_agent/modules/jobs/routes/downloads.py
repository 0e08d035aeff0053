# SPDX-License-Identifier: Apache-2.0
"""Sends results and inputs: whole, or one range of a file. Who may have them was asked before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from provider_agent.http.limits import ApiLimits
from provider_agent.http.schemas import COUNT, DIGEST, TEXT, object_of
from provider_agent.http.streaming import FileStream, Slots
from provider_agent.modules.jobs import documents as job_files
from provider_agent.modules.jobs.documents import JobView
from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import Entry, UnfitTree, check_path, parse_manifest
from teraproof.protocol.errors import Code

ENTRY = object_of(path=TEXT, sha256=DIGEST, size=COUNT)
#: The header of requests that may ask for a part of a file.
RANGE = {
    "range": {
        "type": "string",
        "description": "One range: bytes=A-B, bytes=A- or bytes=-N.",
    }
}
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Downloads:
    """See the module. Each download counts as one of the account's."""

    def __init__(self, limits: ApiLimits) -> None:
        self._slots = Slots(
            "downloads", limits.downloads, limits.downloads_per_account, Code.RATE_LIMITED
        )

    async def manifest(self, account: str, view: JobView) -> Response:
        """The manifest of a result exactly as it was attested."""
        with self._download(account) as stack:
            size, pieces = await run_in_threadpool(job_files.whole_file, stack, _manifest(view))
            headers = {"content-length": str(size)}
            return FileStream(pieces, "application/json", headers, close=stack.pop_all().close)

    async def tar(self, account: str, view: JobView) -> Response:
        """A whole result."""
        with self._download(account) as stack:
            listed = await run_in_threadpool(_listed, view)
            assert view.results is not None
            return FileStream(
                job_files.tar_stream(view.results, listed),
                "application/x-tar",
                {"content-length": str(job_files.tar_size(listed))},
                close=stack.pop_all().close,
            )

    async def result_file(self, request: Request, account: str, view: JobView) -> Response:
        """One file of a result."""
        try:
            path = check_path(request.path_params["path"])
        except UnfitTree as error:
            raise Refused(error.code, str(error)) from None
        with self._download(account) as stack:
            listed = await run_in_threadpool(_listed, view)
            assert view.results is not None
            entry = next((e for e in listed if e.path == path), None)
            if entry is None:
                raise Refused(Code.FILE_UNKNOWN, "no such file in the result")
            return await self._send(request, stack, view.results, entry)

    async def input(self, request: Request, account: str, entry: Entry, file: Path) -> Response:
        """One input of a job, whose specification names it by `entry`."""
        with self._download(account) as stack:
            return await self._send(
                request, stack, file.parent, Entry(file.name, entry.size, entry.sha256)
            )

    async def _send(self, request: Request, stack: ExitStack, root: Path, entry: Entry) -> Response:
        """A file, from an offset on if one is asked for."""
        asked = _range(request.headers.get("range"), entry.size)
        first, length = asked or (0, entry.size)
        headers = {"content-length": str(length), "accept-ranges": "bytes"}
        if asked is not None:
            headers["content-range"] = f"bytes {first}-{first + length - 1}/{entry.size}"
        pieces = await run_in_threadpool(job_files.file_slice, stack, root, entry, first, length)
        return FileStream(
            pieces,
            "application/octet-stream",
            headers,
            200 if asked is None else 206,
            stack.pop_all().close,
        )

    @contextmanager
    def _download(self, account: str) -> Iterator[ExitStack]:
        """A download of an account: what is on the stack ends with it, and its slot is free."""
        with ExitStack() as stack:
            stack.callback(self._slots.take(account))
            try:
                yield stack
            except LocalError as error:
                if isinstance(error, Refused):
                    raise
                raise Refused(Code.RESULT_GONE, str(error)) from None


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
        raise not_ready("result")
    return view.manifest


def _listed(view: JobView) -> list[Entry]:
    with ExitStack() as stack:
        _, pieces = job_files.whole_file(stack, _manifest(view))
        return parse_manifest(b"".join(pieces))


def not_ready(what: str) -> Refused:
    """The error for a part of a job that is still to come."""
    return Refused(Code.NOT_READY, f"no {what} yet", what=what)
