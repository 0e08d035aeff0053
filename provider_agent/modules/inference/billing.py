# SPDX-License-Identifier: Apache-2.0
"""The bill of one request: what its receipts say, each in the book before it leaves.

Never above what the voucher leaves, never below an earlier receipt of the same request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from eth_account.signers.local import LocalAccount

from provider_agent.modules.inference.cashier import settlement
from provider_agent.modules.inference.credit import Credit
from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.modules.inference.shares import Shares
from teraproof.protocol.inference import Model, Receipt, SignedReceipt
from teraproof.protocol.inference_request import ModelRequest
from teraproof.protocol.messages import Domain
from teraproof.protocol.payments import Payment
from teraproof.protocol.x402 import Settlement

# Bytes of a request for each token of its prompt, until the server says how many there are. No more
# than it has: a prompt that turns out shorter must not take back what a receipt says.
_PROMPT_BYTES = 6


@dataclass(frozen=True)
class Desk:
    """What all bills share."""

    book: ChannelBook
    journal: Journal
    domain: Domain
    operator: LocalAccount
    chain_id: int
    clock: Callable[[], float] = time.time
    credit: Credit | None = None
    shares: Shares = field(default_factory=Shares)


class Bill:
    """See the module. `row` is the channel as it was when the request was opened."""

    def __init__(
        self,
        desk: Desk,
        row: ChannelRow,
        model: Model,
        asked: ModelRequest,
        request: bytes,
        size: int,
    ) -> None:
        """`request` is the sha256 of the request's body, `size` its bytes."""
        self._desk, self.row, self.model, self.asked = desk, row, model, asked
        self._request = request
        #: Sum that vouchers cover.
        self.voucher = row.voucher
        self._prompt = min(asked.prompt_bound, -(-size // _PROMPT_BYTES))
        self._charged = 0
        self.last: SignedReceipt | None = None
        self._is_over = False

    @property
    def base(self) -> int:
        """What the channel was charged before this request."""
        return self.row.opened_charged

    def needed(self, prompt: int | None, completion: int) -> int:
        """The voucher that covers as many completion tokens."""
        return self.base + self.model.prices.cost(self._bounded(prompt), completion)

    async def hold(self) -> None:
        """Until the voucher that opened the request is on the disk."""
        await self._desk.journal.run(self._desk.book.hold, self.row.channel)

    async def step(self, prompt: int | None, completion: int, response: bytes, next_: int) -> bool:
        """A step was served; the one after it goes up to `next_` completion tokens. Whether it can
        be served on credit.
        """
        async with self._desk.shares.of(self.row.config.payer):
            signed = self._make(prompt, completion, response)
            ahead = self.needed(prompt, next_) - signed.receipt.cumulative
            covered = max(0, min(ahead, self.voucher - signed.receipt.cumulative))
            desk = self._desk
            has_room = await desk.journal.run(desk.book.step, signed, covered, desk.credit)
            self._keep(signed)
            return has_room

    async def end(self, prompt: int | None, completion: int, response: bytes) -> SignedReceipt:
        """The request has ended. Where the disk does not take the receipt, it counts as far as the
        one before: its channel must not stay busy until the agent starts again.
        """
        async with self._desk.shares.of(self.row.config.payer):
            signed = self._make(prompt, completion, response)
            self._is_over = True
            try:
                await self._desk.journal.run(self._desk.book.end, signed, self._desk.credit)
            except Exception:
                self._is_over = False
                await self.abandon()
                raise
            self._keep(signed)
        return signed

    async def abandon(self) -> None:
        """The request has ended, and nothing more was served for it; once, and without an error."""
        if not self._is_over:
            self._is_over = True
            desk = self._desk
            await desk.journal.finish(desk.book.abandon, self.row.channel, desk.credit)

    def settlement(self, payment: Payment, charged: int, made: bytes = b"") -> Settlement:
        """What the client hears, `charged` being what this request counts for."""
        return settlement(self._desk.chain_id, self.row, payment, self.base + charged, made)

    def _bounded(self, prompt: int | None) -> int:
        return min(self._prompt if prompt is None else prompt, self.asked.prompt_bound)

    def _make(self, prompt: int | None, completion: int, response: bytes) -> SignedReceipt:
        read, wrote = self._bounded(prompt), min(completion, self.asked.limit)
        cost = max(self._charged, self.model.prices.cost(read, wrote))
        charged = min(cost, self.voucher - self.base)
        said = Receipt(
            channel=self.row.channel,
            number=self.row.number,
            request=self._request,
            response=response,
            model=self.model.word,
            prompt_tokens=read,
            completion_tokens=wrote,
            charged=charged,
            cumulative=self.base + charged,
            started=self.row.opened_at or 0,
            finished=max(self.row.opened_at or 0, int(self._desk.clock())),
        )
        return SignedReceipt.make(self._desk.domain, said, self._desk.operator)

    def _keep(self, signed: SignedReceipt) -> None:
        self._charged, self.last = signed.receipt.charged, signed
