# SPDX-License-Identifier: Apache-2.0
"""A paid answer that is streamed, step by step where the payer wants it so.

Whatever ends a stream ends it once: with the server's last event and a receipt, or with a receipt
and one error event. A payer that goes away ends the work for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from provider_agent.modules.inference.billing import Bill
from provider_agent.modules.inference.events import Meter, split
from provider_agent.modules.inference.upstream import Answer, UpstreamLost, away
from teraproof.errors import Refused
from teraproof.protocol.errors import Code, WireError
from teraproof.protocol.inference import DONE, PER, SignedReceipt

log = logging.getLogger(__name__)

_PATIENCE = 4  # waits for a voucher that one stream may take up altogether


class Steps:
    """The steps of a stream: when the next one begins, a voucher has to cover it.

    `size` is in completion tokens. Used on the event loop.
    """

    def __init__(self, bill: Bill, size: int, wait: float) -> None:
        self._bill, self._size, self._wait = bill, size, wait
        self._left = _PATIENCE * wait  # seconds
        self.end = size
        self._prompt: int | None = None  # tokens, as far as they are known
        self._raised = asyncio.Event()

    def raised(self, voucher: int) -> None:
        """A higher voucher was kept."""
        self._bill.voucher = max(self._bill.voucher, voucher)
        self._raised.set()

    @property
    def next_end(self) -> int:
        """Completion tokens at the end of the next step."""
        return min(self.end + self._size, self._bill.asked.limit)

    def is_paid_by(self, voucher: int) -> bool:
        """Whether a voucher pays for a step that none has paid for yet."""
        bill = self._bill
        ahead = max(0, bill.voucher - bill.needed(self._prompt, self.end))
        price = self._size * bill.model.prices.completion
        steps = ahead * PER // price + 1 if price else 1
        end = min(self.end + steps * self._size, bill.asked.limit)
        return bill.voucher < bill.needed(self._prompt, end) <= voucher

    async def go_on(self, prompt: int | None) -> None:
        """Wait until the next step is paid. Refused when no voucher comes, or when the payer has
        waited at every step until it has held the stream for too long.
        """
        self._prompt = prompt
        wanted = self._bill.needed(prompt, self.next_end)
        if self._bill.voucher >= wanted:
            self.end = self.next_end
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(max(0.0, min(self._wait, self._left))):
                while self._bill.voucher < wanted:
                    self._raised.clear()
                    await self._raised.wait()
            self._left -= clock() - began
        except TimeoutError:
            raise Refused(
                Code.STREAM_UNPAID,
                f"no voucher of {wanted} came for the next step; the stream ends here",
                needed=str(wanted),
            ) from None
        self.end = self.next_end


class PaidStream(Response):
    """See the module. `held` has the server's answer and whatever else ends with this one."""

    def __init__(
        self,
        answer: Answer,
        meter: Meter,
        bill: Bill,
        steps: Steps | None,
        held: AsyncExitStack,
        headers: dict[str, str],
        served: Callable[[str], None] = lambda end: None,
    ) -> None:
        """`served` hears how it ended."""
        super().__init__(None, 200, {**headers, "content-type": "text/event-stream"})
        self._answer, self._meter, self._bill, self._steps = answer, meter, bill, steps
        self._held, self._served = held, served
        self._hash = hashlib.sha256()
        self._ending: asyncio.Task[SignedReceipt] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. The client's going away ends the work; what it got is charged."""
        pump = asyncio.create_task(self._pump(send))
        left = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait((pump, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            pump.cancel()
            await asyncio.wait((pump,))
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error

    async def _pump(self, send: Send) -> None:
        end = "gone"
        try:
            async with self._held:
                headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                refused = await self._serve(send)
                end = "whole" if refused is None else refused.code.value
                signed = await self._receipt()
                tail = signed + (_error_event(refused) if refused is not None else self._close())
                await send({"type": "http.response.body", "body": tail, "more_body": False})
        except BaseException:
            await self._receipt()  # whatever has happened, the request is open no more
            raise
        finally:
            self._served(end)

    async def _serve(self, send: Send) -> Refused | None:
        """Pass the events on; what ended them too early, if anything did."""
        meter, steps = self._meter, self._steps
        try:
            async for event in split(self._answer.pieces):
                shown = meter.read(event)
                if shown is not None:
                    await send({"type": "http.response.body", "body": shown, "more_body": True})
                    self._hash.update(shown)
                if meter.ended:
                    return None
                if steps is not None and steps.end <= meter.completion < self._bill.asked.limit:
                    await self._step(send, steps)
        except UpstreamLost as error:
            log.warning("a stream broke off: %s", error)
            return away()
        except Refused as refused:
            return refused
        log.warning("a stream ended without its last event")
        return away()

    async def _step(self, send: Send, steps: Steps) -> None:
        usage, done = self._meter.usage, self._meter.completion
        while steps.end <= done < self._bill.asked.limit:
            digest = self._hash.digest()
            has_room = await self._bill.step(usage.prompt, done, digest, steps.next_end)
            assert self._bill.last is not None
            comment = self._bill.last.to_comment()
            await send({"type": "http.response.body", "body": comment, "more_body": True})
            if not has_room:
                line = "too much is unclaimed here; the stream ends, and a new one may soon begin"
                raise Refused(Code.STREAM_UNPAID, line)
            await steps.go_on(usage.prompt)

    async def _receipt(self) -> bytes:
        """The last one, written once."""
        if self._ending is None:
            meter, digest = self._meter, self._hash.digest()
            ending = self._bill.end(meter.usage.prompt, meter.completion, digest)
            self._ending = asyncio.create_task(ending)
        return (await asyncio.shield(self._ending)).to_comment()

    def _close(self) -> bytes:
        return b"" if self._bill.asked.kind == "responses" else DONE


async def gone(receive: Receive) -> None:
    """Until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _error_event(refused: Refused) -> bytes:
    error = WireError(refused.code, str(refused), refused.retryable, refused.details)
    return b"data: " + json.dumps(error.to_json(), separators=(",", ":")).encode() + b"\n\n"
