# SPDX-License-Identifier: Apache-2.0
"""One request at one host, paid: the voucher first, then the answer, with its receipt checked.

The last bytes of an answer leave for the client when its receipt is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from teraproof.errors import LocalError, Refused
from teraproof.gateway import bodies
from teraproof.gateway.ask import Ask, Sent
from teraproof.gateway.bill import Bill, book_late
from teraproof.gateway.faults import HostFailed, failure, within
from teraproof.gateway.keys import Reservation
from teraproof.gateway.ledger import Channel
from teraproof.gateway.lines import Answer
from teraproof.gateway.means import Means
from teraproof.gateway.purse import terms_of
from teraproof.gateway.ranking import Candidate
from teraproof.gateway.receipts import Asked, Dishonest, check_base, check_late
from teraproof.gateway.room import Part
from teraproof.gateway.sse import DONE, Event, Reader
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.inference import (
    PATHS,
    RECEIPT_HEADER,
    STEP_HEADER,
    VOUCHERS_PATH,
    SignedReceipt,
)
from teraproof.protocol.payments import Payment
from teraproof.protocol.x402 import (
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    SIGNATURE_HEADER,
    Fault,
    Required,
    Settlement,
    Terms,
)

log = logging.getLogger(__name__)

_ROUNDS = 3  # payments of one attempt: the first, and what puts it right
_DEPOSIT_SECONDS = 180.0  # more than usual where a deposit has to be confirmed first
_VOUCHER_SECONDS = 20.0
_REFUSAL_SECONDS = 5.0  # for an answer that the request is wrong, or the host busy
_ERROR_SECONDS = 10.0  # for the body of an error
_OVER_SECONDS = 5.0  # for the end of a stream behind its last event
_MOST_ERROR = 64 << 10  # bytes of an error's body
_FRAME = 1 << 20  # bytes of an answer in addition to its text
_MOST_PARSED = 4 << 20  # bytes of an answer in one piece that its cost is written into
_KEPT = 256 << 10  # bytes of an answer that are kept for comparisons
_MOST_HELD = 16_384  # events that wait here: for content, or for the last receipt
_MORE_RECEIPTS = 4  # than steps: the last one, and what an error may add


@dataclass(frozen=True)
class Piece:
    """Bytes for the client. `content`: the model has written them, or they follow."""

    data: bytes
    content: bool = False


class Attempt:
    """See the module. It is used once: `json`, or `stream`; then `close`, whatever has happened."""

    def __init__(self, means: Means, to: Candidate, ask: Ask, *, kind: str = "") -> None:
        self._kind = kind or ask.kind
        self.host, self.model, self.ask = to.host, to.model, ask
        self._means, self._limits = means, means.limits
        self.sent: Sent = ask.sent(to.model)
        read = self.sent.read
        step = max(means.step_tokens, to.host.offer.min_step)
        self._step = step if ask.streams and read.limit > step else 0
        #: The most that it can cost, units of the token.
        self.ceiling = read.ceiling(to.model)
        self._first = read.ceiling(to.model, self._step or None)
        self._asked = Asked(to.host, to.model, self.sent.request, read.prompt_bound, read.limit)
        #: The body of an answer, or the data of its events, as far as there is room.
        self.answer: list[bytes] = []
        self._kept = 0
        self._over = 0.0  # monotonic: when a stream that has said its last must have ended
        self._more = 0.0
        self._response: Answer | None = None
        self._stepping: asyncio.Task[None] | None = None
        self._bill: Bill | None = None
        self._closed = False
        self._room = means.room.part()

    @property
    def bill(self) -> Bill:
        """What it costs."""
        assert self._bill is not None  # `json` or `stream` was called
        return self._bill

    @property
    def cost(self) -> float:
        """What it has cost in whole tokens, for those who count in them."""
        return float(self.bill.charged / 10**self._means.decimals)

    @property
    def is_partial(self) -> bool:
        """Whether `answer` has only the beginning of what came."""
        return self._kept > _KEPT

    @property
    def is_slow(self) -> bool:
        """Whether the host took longer than a refusal takes; a deposit may have been waited for."""
        bill = self._bill
        return (
            bill is not None
            and not self._more
            and time.monotonic() - bill.timing.began > _REFUSAL_SECONDS
        )

    # ------------------------------------------------------------------ the two kinds of answer

    async def json(self, reserved: Reservation) -> bytes:
        """The answer's body, with `usage.cost`. HostFailed, RequestRefused, Dishonest, Refused."""
        response = await self._paid(reserved)
        body = await self._read(
            response, self._most_bytes(), self._limits.answer_seconds, self._room
        )
        bill = self.bill
        bill.timing.content = bill.timing.ended = time.monotonic()
        said = response.header(RECEIPT_HEADER)
        if said is None:
            raise Dishonest("it has answered without a receipt")
        bill.take(_receipt(said), hashlib.sha256(body).digest())
        bill.whole = True
        await bill.settle()
        self._keep(body)
        if len(body) > _MOST_PARSED:
            return body  # as it came: a document takes many times its bytes
        document = bodies.document(body)
        if document is None:
            raise HostFailed("its answer is not a JSON object")
        return bodies.dump(bodies.with_cost(document, self.cost, self.host.owner))

    def _most_bytes(self) -> int:
        """Of an answer in one piece: it is kept whole, so its tokens bound its length."""
        size = len(self.sent.body)
        return min(self._limits.max_answer_bytes, _FRAME + self.sent.read.answer_bytes(size))

    async def stream(self, reserved: Reservation) -> AsyncIterator[Piece]:
        """The answer's events. Until the first piece with content a failure costs the client
        nothing but time. Raises as `json` does.
        """
        response = await self._paid(reserved)
        if not (response.header("content-type") or "").startswith("text/event-stream"):
            raise HostFailed("its answer is not a stream")
        bill, reader, room = self.bill, Reader(), self._room
        held: list[Event] = []
        is_last = False  # whether nothing came behind the last receipt
        waiting = receipts = 0
        most_receipts = _MORE_RECEIPTS + self.sent.read.limit // (self._step or 1 << 62)
        async for event in self._events(response, reader):
            if self._over:
                continue  # nothing can follow the last event
            if event.receipt is not None:
                receipts += 1
                if receipts > most_receipts:
                    raise HostFailed("it sends more receipts than there are steps")
                bill.take(event.receipt, event.response)
                self._go_on()
                is_last = True
                continue
            said = bodies.error_in(event.data)
            if said is not None:
                bill.final = is_last  # it says what it has charged, and that it ends
                raise HostFailed(f"it says: {said}")
            is_last = is_last and event.data == DONE
            self._keep(event.data)
            if event.data == DONE:
                self._over = time.monotonic() + _OVER_SECONDS
            usage = bodies.may_have_usage(event.data)
            looked = usage or bool(held) or not bill.timing.content
            written = not looked or bodies.is_content(bodies.document(event.data))
            if written and held:
                # A server may say its usage with each event: what waits was not the last.
                for before in held:
                    yield Piece(before.raw)
                room.give(sum(len(before.raw) for before in held))
                held, waiting = [], 0
            waits = bool(held) or not (written or bill.timing.content)
            waiting += waits
            if waiting > _MOST_HELD:
                raise HostFailed("it sends events without end, and no content")
            if waits or event.data == DONE:
                room.take(len(event.raw))
            if event.data == DONE or (not written and (held or usage)):
                held.append(event)  # the cost is known when the last receipt is here
                continue
            first = written and not bill.timing.content
            if first:
                bill.timing.content = time.monotonic()
            yield Piece(event.raw, first)
        bill.timing.ended = time.monotonic()
        ends = self.ask.kind == "responses" or (bool(held) and held[-1].data == DONE)
        if not ends or (reader.is_inside and not self._over):
            raise HostFailed("its stream broke off")
        if not is_last:
            raise Dishonest("its stream has ended without a receipt")
        bill.whole = True
        await bill.settle()
        last = next((one for one in reversed(held) if bodies.may_have_usage(one.data)), None)
        for event in held:
            raw = event.raw
            if event is last:  # once: a client may add costs up
                raw = bodies.costed(raw, event.data, self.cost, self.host.owner)
            yield Piece(raw, True)

    async def _events(self, response: Answer, reader: Reader) -> AsyncIterator[Event]:
        """What comes, within the limits of time and size."""
        pieces, size = response.pieces(), 0
        until = time.monotonic() + self._limits.answer_seconds
        while True:
            left = until - time.monotonic()
            if not self.bill.timing.content:
                left = min(left, self._to_content())
            if self._over:
                left = min(left, self._over - time.monotonic())
            try:
                async with within(left):
                    piece = await anext(pieces, None)
            except HostFailed:
                if self._over:
                    return  # all was said
                raise
            if piece is None:
                return
            size += len(piece)
            if size > self._limits.max_answer_bytes:
                raise HostFailed("its answer is too long")
            try:
                found = list(reader.feed(piece))
            except LocalError as error:
                raise HostFailed(str(error)) from None
            for event in found:
                yield event

    def _to_content(self) -> float:
        """Seconds that are left until the first content must be here."""
        waited = time.monotonic() - self.bill.timing.began
        return self._limits.first_content_seconds + self._more - waited

    # ------------------------------------------------------------------ paying

    async def _paid(self, reserved: Reservation) -> Answer:
        """The answer to a request that was paid for, its body not read yet."""
        means, amount = self._means, self._first
        self._bill = Bill(means.purse.ledger.store, means.keys, self._asked, self._kind, reserved)
        channel = self._bill.channel = await self._take_channel()
        if channel.unclear:
            await self._ask_late(channel)
        for _ in range(_ROUNDS):
            response = await self._send(channel, amount, terms_of(self.host, amount))
            await self._was_settled(response, channel)
            if response.status == 200:
                if self._step:
                    self._pay_step(channel, 2 * self._step)
                return response
            body = await self._read(response, _MOST_ERROR, _ERROR_SECONDS)
            if response.status != 402:
                raise failure(response.status, body)
            amount = self._put_right(channel, response, amount)
        raise HostFailed("it asks for another payment again and again")

    async def _take_channel(self) -> Channel:
        try:
            return await self._means.purse.take(self.host, self._first)
        except Refused as refused:
            if refused.code is Code.SERVER_BUSY:
                raise HostFailed(str(refused), excludes=False) from None
            raise

    async def _send(self, channel: Channel, amount: int, terms: Terms) -> Answer:
        bill = self.bill
        begin = None if bill.row else bill.begin
        payment, row = await self._means.purse.pay(
            channel, amount, terms, begin, whole=self.ceiling
        )
        bill.row = bill.row or row
        if payment.deposit is not None:
            self._more = _DEPOSIT_SECONDS
        headers = {SIGNATURE_HEADER: payment.encode()}
        if self._step:
            headers[STEP_HEADER] = str(self._step)
        limits = self._limits
        wait = max(limits.idle_seconds, limits.first_content_seconds) + self._more
        url = self.host.url + PATHS[self.ask.kind]
        async with within(self._to_content() if self.ask.streams else limits.answer_seconds):
            try:
                self._response = await self._means.lines.post(
                    url, self.sent.body, headers, wait=wait
                )
            except HostFailed:
                raise
            except LocalError as error:  # its URL leads where the gateway does not go
                raise HostFailed(str(error)) from None
        return self._response

    async def _read(
        self, response: Answer, most: int, seconds: float, room: Part | None = None
    ) -> bytes:
        """The body, which is closed then. What it takes is counted in `room`."""
        data = bytearray()
        async with within(seconds):
            async for piece in response.pieces():
                data += piece
                if len(data) > most:
                    raise HostFailed("its answer is too long")
                if room is not None:
                    room.take(len(piece))
        response.close()
        return bytes(data)

    async def _was_settled(self, response: Answer, channel: Channel) -> None:
        """What the answer's header says of the payment."""
        said = response.header(RESPONSE_HEADER)
        if said is None:
            return
        try:
            found = Settlement.decode(said)
        except LocalError as error:
            raise HostFailed(str(error)) from None
        if found.success and channel.under_way is not None:
            await self._means.purse.deposited(channel)

    def _put_right(self, channel: Channel, response: Answer, amount: int) -> int:
        """What is to be paid after an answer 402; HostFailed, Dishonest when nothing is."""
        try:
            required = Required.decode(response.header(REQUIRED_HEADER) or "")
        except LocalError as error:
            raise HostFailed(f"its answer 402 cannot be read: {error}") from None
        wanted = next((one for one in required.accepts if one.asset == self.host.offer.token), None)
        fault = required.error
        if fault == Fault.CHANNEL_BUSY:
            self._means.purse.pause(channel)
            raise HostFailed("it says that the channel is busy", excludes=False)
        if wanted is None:
            raise HostFailed(f"it does not take the payment ({one_line(fault, 120)})")
        state = wanted.state
        if state is not None and state.channel == channel.id and state.charged is not None:
            check_base(state.charged, channel)
            if state.charged > channel.base:
                channel.stated = state.charged
                return amount
        if wanted.amount > self.ceiling:
            raise HostFailed(
                f"it asks for {wanted.amount} units, and its terms make it {self.ceiling} at most"
            )
        if wanted.amount > amount:
            return wanted.amount
        raise HostFailed(f"it does not take the payment ({one_line(fault, 120)})")

    # ------------------------------------------------------------------ steps

    def _go_on(self) -> None:
        """A step was delivered: pay for the one behind the next."""
        bill = self.bill
        if self._step and bill.receipt is not None and bill.channel is not None:
            self._pay_step(bill.channel, bill.receipt.receipt.completion_tokens + 2 * self._step)

    def _pay_step(self, channel: Channel, tokens: int) -> None:
        """Pay for the first `tokens` of the answer, in the background: reading goes on."""
        read, receipt = self.sent.read, self.bill.receipt
        tokens = min(tokens, read.limit)
        if receipt is None:
            target = channel.base + read.ceiling(self.model, tokens)
        else:
            said = receipt.receipt
            price = self.model.prices.cost(said.prompt_tokens, tokens)
            target = said.cumulative - said.charged + price
        self._stepping = asyncio.create_task(self._voucher(channel, target, self._stepping))

    async def _voucher(
        self, channel: Channel, target: int, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await before
        payment = await self._means.purse.step(channel, target, self.bill.shown)
        if payment is None:
            return
        await self._tell(payment)

    async def _tell(self, payment: Payment) -> bytes:
        """Bring a voucher. The answer's body; nothing where it is none that we read."""
        url, body = self.host.url + VOUCHERS_PATH, bytearray()
        said, headers = bodies.dump(payment.to_json()), {SIGNATURE_HEADER: payment.encode()}
        try:
            async with within(_VOUCHER_SECONDS):
                answer = await self._means.lines.post(url, said, headers, wait=_VOUCHER_SECONDS)
                with contextlib.closing(answer):
                    async for piece in answer.pieces():
                        body += piece
                        if len(body) > _MOST_ERROR:
                            return b""
        except LocalError as error:
            log.info("%s: a voucher did not arrive (%s)", self.host.url, error)
            return b""
        if answer.status >= 300:
            log.info("%s: a voucher was answered with %d", self.host.url, answer.status)
            return b""
        return bytes(body)

    async def _ask_late(self, channel: Channel) -> None:
        """Ask for the receipt of the channel's last request, which never came. Dishonest."""
        found = bodies.document(await self._tell(self._means.purse.again(channel)))
        if found is None or found.get("open") is not False or "receipt" not in found:
            return  # it says nothing, or that the request still runs
        try:
            receipt = SignedReceipt.from_json(found)
        except LocalError:
            return
        if receipt.receipt.number == channel.number:
            return  # it has charged for nothing since
        check_late(receipt, self.host, channel)
        await book_late(self._means.purse.ledger.store, self._means.keys, channel, receipt)

    # ------------------------------------------------------------------ the end

    def _keep(self, data: bytes) -> None:
        """Data for comparisons, as far as there is room."""
        self._kept += len(data)
        if data and self._kept <= _KEPT:
            self.answer.append(data)

    async def close(self, why: str = "", *, gone: bool = False) -> None:
        """Write what has become of it, and let go of the channel and the connection; once, a second
        call does nothing. `gone`: the client does not wait for the answer any more.
        """
        bill = self._bill
        if bill is None or self._closed:
            return
        self._closed = True
        try:
            if self._stepping is not None:
                self._stepping.cancel()
                with contextlib.suppress(asyncio.CancelledError, LocalError):
                    await self._stepping
            if self._response is not None:
                self._response.close()
        finally:
            try:
                await bill.settle(why, gone=gone)
            finally:
                self._room.end()
                if bill.channel is not None:
                    self._means.purse.release(bill.channel)


def _receipt(value: str) -> SignedReceipt:
    try:
        return SignedReceipt.from_header(value)
    except LocalError as error:
        raise Dishonest(str(error)) from None
