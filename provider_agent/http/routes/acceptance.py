# SPDX-License-Identifier: Apache-2.0
"""The challenge's door of a lease, for its tenant alone: `POST` a step, `GET` how far it is.

A step takes longer than a request should. So a request is held for some seconds, and says then how
far the step is; the tenant asks again with the same nonce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Door, Operation, Schema
from provider_agent.http.limits import ApiLimits
from provider_agent.http.requests import field_invalid, read_fields
from provider_agent.http.schemas import DIGEST, TRUTH, object_of
from provider_agent.prover.acceptance.desk import Desk, Place
from teraproof.acceptance.messages import Step, hex32, work_from_json
from teraproof.errors import LocalError, Refused
from teraproof.pog.errors import BenchmarkError
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code

#: Seconds that a request waits for its answer: less than a proxy's patience.
_HOLD = 15.0
_STEP: Schema = {"type": "string", "enum": [step.value for step in Step]}
_PROGRESS: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_WORK: Schema = {
    "type": "string",
    "maxLength": 512,
    "description": "JSON: what each device has to do, with `fill`; empty with later steps.",
}
_RESULT = object_of(done=TRUTH, progress=_PROGRESS)


class AcceptanceRoutes:
    """See the module. `place_of` gives a lease that this agent runs, by its id."""

    def __init__(
        self,
        desk: Desk,
        place_of: Callable[[bytes], Place | None],
        door: Door,
        limits: ApiLimits,
        hold: float = _HOLD,
    ) -> None:
        self._desk, self._place_of, self._door = desk, place_of, door
        self._body_seconds, self._hold = limits.body_seconds, hold

    def operations(self) -> list[Operation]:
        """What it answers."""
        path = "/v1/leases/{lease_id}/challenge"
        fields = {"step": _STEP, "nonce": DIGEST, "work": _WORK}
        return [
            Operation("POST", path, self.step, result=_RESULT, fields=fields),
            Operation("GET", path, self.progress, result=_RESULT),
        ]

    async def step(self, request: Request) -> Response:
        """The answer to a step once it is there, or how far it is."""
        place = await self._place(request)
        body = await read_fields(request, self._body_seconds, "step", "nonce", "work")
        asked = await run_in_threadpool(self._ask, place, body)
        waiting = asyncio.ensure_future(asyncio.wrap_future(asked))
        done, _ = await asyncio.wait({waiting}, timeout=self._hold)
        if not done:
            # Nobody gives the step up by not waiting any longer.
            waiting.add_done_callback(_seen)
            _, _, part = self._desk.progress(place.lease.id)
            return JSONResponse({"done": False, "progress": part})
        return JSONResponse({"done": True, "progress": 1.0, "answer": waiting.result()})

    async def progress(self, request: Request) -> Response:
        """Which step is under way, and how far it is."""
        place = await self._place(request)
        step, done, part = self._desk.progress(place.lease.id)
        named: dict[str, Any] = {} if step is None else {"step": step.value}
        return JSONResponse({**named, "done": done, "progress": part})

    def _ask(self, place: Place, body: dict[str, str]) -> Future[dict[str, Any]]:
        try:
            step = Step(body["step"])
        except ValueError:
            raise field_invalid("step", ", ".join(Step)) from None
        try:
            nonce = hex32(body["nonce"])
        except LocalError:
            raise field_invalid("nonce", "64 lower-case hex digits") from None
        if step is not Step.FILL:
            return self._desk.go_on(place.lease.id, step, nonce)
        try:
            work = work_from_json(body["work"])
        except BenchmarkError as error:
            raise Refused(Code.FIELD_INVALID, f"work: {error}", field="work") from None
        return self._desk.begin(place, work, nonce)

    async def _place(self, request: Request) -> Place:
        account = await self._door.account(request)
        text = request.path_params["lease_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise field_invalid("lease_id", "0x and 64 lower-case hex digits")
        place = await run_in_threadpool(self._place_of, bytes.fromhex(text))
        if place is None:
            raise Refused(Code.LEASE_UNKNOWN, "this provider does not know the lease")
        if place.tenant.lower() != account.lower():
            raise Refused(Code.NOT_TENANT, "only the tenant of the lease may challenge it")
        return place


def _seen(future: asyncio.Future[dict[str, Any]]) -> None:
    """Take note of how it ended, so that nothing is logged as lost."""
    if not future.cancelled():
        future.exception()
