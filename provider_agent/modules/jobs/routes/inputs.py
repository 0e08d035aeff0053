# SPDX-License-Identifier: Apache-2.0
"""Uploads of input files, for jobs and quotes of the account that sends them."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation
from provider_agent.http.requests import broken_off, content_length, pieces, sha256_of, too_slow
from provider_agent.http.schemas import DIGEST, object_of
from provider_agent.http.streaming import Slots
from provider_agent.http.uploads import Permit
from provider_agent.modules.jobs.api import JobsApi
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_WRITE_BYTES = 1 << 20


class InputRoutes:
    """See the module."""

    def __init__(self, api: JobsApi, door: Door) -> None:
        self._inputs, self._may_upload = api.inputs, api.may_upload
        self._limits, self._door = api.limits, door
        limits = api.limits
        self._uploads = Slots(
            "uploads", limits.uploads, limits.uploads_per_account, Code.UPLOADS_BUSY
        )

    def operations(self) -> list[Operation]:
        """What it answers."""
        return [
            Operation("HEAD", "/v1/inputs/{sha256}", self.has_input),
            Operation(
                "PUT",
                "/v1/inputs/{sha256}",
                self.put_input,
                result=object_of(sha256=DIGEST),
                statuses=(200, 201),
            ),
        ]

    async def has_input(self, request: Request) -> Response:
        """Whether the account has sent an input."""
        account = await self._door.account(request)
        if await run_in_threadpool(self._inputs.path, account, sha256_of(request)) is None:
            raise Refused(Code.INPUT_MISSING, "the input is not here; upload it")
        return Response()

    async def put_input(self, request: Request) -> Response:
        """Take one input file."""
        account = await self._door.account(request)
        sha256 = sha256_of(request)
        size = content_length(request)
        permit = await run_in_threadpool(self._may_upload, account, sha256, size)
        if permit is None:
            raise Refused(
                Code.INPUT_UNEXPECTED,
                "no open job or quote of yours here has an input of this digest and size; send "
                "its specification, and post the job first",
            )
        if await run_in_threadpool(self._inputs.path, account, sha256) is not None:
            return JSONResponse({"sha256": sha256})
        ended = self._uploads.take(account, self._kept(permit))
        try:
            await self._receive(request, account, sha256, size, permit.worth)
        except TimeoutError:
            raise too_slow() from None
        except ClientDisconnect:
            raise broken_off() from None
        except OSError as error:
            log.error("an upload could not be written: %s", error)
            raise Refused(
                Code.STORAGE_FAILED, "this provider's disk failed; try elsewhere"
            ) from None
        finally:
            ended()
        return JSONResponse({"sha256": sha256}, 201)

    def _kept(self, permit: Permit) -> int:
        """The uploads at once that one with this permit leaves to others: a part is for jobs of
        ours, and half for whoever pays.
        """
        if permit.worth is None:
            return 0
        return self._limits.uploads // (4 if permit.worth > 0 else 2)

    async def _receive(
        self, request: Request, account: str, sha256: str, size: int, worth: int | None
    ) -> None:
        limits = self._limits
        upload = await run_in_threadpool(self._inputs.receive, account, sha256, size, worth)
        await run_in_threadpool(upload.__enter__)
        error: BaseException | None = None
        try:
            buffer = bytearray()
            async for chunk in pieces(request, limits.body_seconds, limits.upload_rate):
                buffer += chunk
                if len(buffer) >= _WRITE_BYTES:
                    await run_in_threadpool(upload.write, bytes(buffer))
                    buffer.clear()
            await run_in_threadpool(upload.write, bytes(buffer))
            await run_in_threadpool(upload.finish)
        except BaseException as raised:
            error = raised
            raise
        finally:
            # Not in a worker thread: it must happen even when this task is being cancelled.
            upload.__exit__(type(error) if error else None, error, None)
