# SPDX-License-Identifier: Apache-2.0
"""Takes payments: checks a channel, its voucher and its deposit, and opens the request.

What is checked costs no call to a node: a voucher is signed by a key, and the channel book has what
the chain says. A deposit is a row that the chain's side of this module brings onto the chain.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from provider_agent.modules.inference.credit import Credit
from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.offers import Offers
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import UNPAID, Asked, ChannelRow, DepositRow, RefundRow
from teraproof.errors import LocalError, Refused
from teraproof.protocol import messages
from teraproof.protocol.channels import (
    MAX_WITHDRAW_DELAY,
    ChannelConfig,
    Voucher,
    channel_id,
    channels_domain,
    deposit_nonce,
)
from teraproof.protocol.errors import Code
from teraproof.protocol.payments import Deposit, Payment
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.protocol.x402 import (
    Fault,
    PaymentUnfit,
    Settlement,
    SignedVoucher,
    Terms,
    network,
)

#: Above the number of any block.
BLIND = 2**63
_OF_ONE_PAYER = 4  # deposits that wait at once
_LOOK = 0.2  # seconds between two looks at a row that waits for the chain
_LEAST_TIME = 6  # seconds that a deposit's authorization must be good for

_id_of = lru_cache(maxsize=4_096)(channel_id)
#: A fault at which the client is shown where its channel stands, so that it gets back into step.
_CORRECTED = (Fault.AMOUNT_MISMATCH, Fault.BELOW_CLAIMED)


class Cashier:
    """See the module. Used on the event loop of the listener."""

    def __init__(
        self,
        book: ChannelBook,
        journal: Journal,
        offers: Offers,
        *,
        max_deposits: int,
        deposit_wait: float,
        clock: Callable[[], float] = time.time,
        floor: Callable[[], int] = lambda: 0,
        has_record: Callable[[str], bool] = lambda payer: False,
        credit: Credit | None = None,
    ) -> None:
        """`floor` is the block that a channel must have been seen at: before it a withdrawal may
        have begun of which nothing is known here. `has_record` says that a payer has brought the
        gas of its deposits.
        """
        self._book, self._journal, self._offers = book, journal, offers
        self._max_deposits, self._wait, self._clock = max_deposits, deposit_wait, clock
        self._floor, self._has_record, self._credit = floor, has_record, credit
        self._domain = channels_domain(offers.payee.chain_id)
        self._depositing: Counter[str] = Counter()

    async def deposit(self, payment: Payment, ceiling: int) -> bytes:
        """Bring a payment's deposit onto the chain, for a request that costs at most `ceiling`
        units; the hash of its transaction, empty without a deposit. PaymentUnfit; Refused while
        the gas of its payer's deposits is not paid.
        """
        self.check(payment)
        if payment.deposit is None:
            return b""
        return await self._deposit(payment, payment.deposit, ceiling)

    async def open(self, payment: Payment, ceiling: int) -> ChannelRow:
        """Open a request on a payment that `deposit` has checked. PaymentUnfit; then nothing is
        open.

        The voucher is on the disk when the request has ended, or its bill is held. Nothing of the
        answer leaves before: until then the model's server works, and nobody has had anything.
        """
        return await self._journal.run(
            self._book.begin,
            payment.voucher,
            ceiling,
            self._offers.max_unclaimed,
            self._credit,
            self._floor(),
            lasting=False,
        )

    def unserved(self, payment: Payment, made: bytes) -> Settlement | None:
        """What a client hears whose deposit was made, and whose request was not served."""
        row = self._book.channel(payment.voucher.channel)
        if not made or row is None:
            return None
        return settlement(self._offers.payee.chain_id, row, payment, row.charged, made)

    async def refund(self, payment: Payment) -> tuple[ChannelRow, RefundRow]:
        """Give back what is left of a channel. PaymentUnfit."""
        self.check(payment)
        await self._journal.run(self._book.ask_refund, payment.voucher, payment.refund)
        until = asyncio.get_running_loop().time() + self._wait
        while True:
            row, refund = self._known(payment), self._book.refund(payment.voucher.channel)
            if refund is None or refund.state is Asked.REFUSED:
                why = "the refund was given up; withdraw by a transaction of your own"
                if refund is not None and refund.reason == UNPAID:
                    why = (
                        "the channel has brought less than the gas that was spent on it; withdraw "
                        "by a transaction of your own"
                    )
                raise PaymentUnfit(_fault(refund, Fault.REFUND_TRANSACTION), why)
            if refund.state is Asked.DONE:
                return row, refund
            if asyncio.get_running_loop().time() > until:
                raise PaymentUnfit(
                    Fault.REFUND_TRANSACTION, "the refund is under way; look at the chain later"
                )
            await asyncio.sleep(_LOOK)

    async def raised(self, payment: Payment) -> ChannelRow:
        """Keep a voucher for the request that runs. PaymentUnfit."""
        self.check(payment)
        return await self._journal.run(self._book.raise_voucher, payment.voucher)

    def standing(self, payment: Payment) -> ChannelRow | None:
        """The channel that a payment with a right signature is about. PaymentUnfit."""
        self.check(payment)
        return self._book.channel(payment.voucher.channel)

    def knows(self, header: str | None) -> bool:
        """Whether a payment has a voucher by which more can be charged on a known channel."""
        if header is None:
            return False
        try:
            payment = Payment.decode(header)
            row = self._book.channel(payment.voucher.channel)
            if row is None or payment.voucher.amount <= row.charged:
                return False
            self.check(payment)
        except LocalError:
            return False
        return payment.voucher.amount <= row.balance

    def check(self, payment: Payment) -> None:
        """PaymentUnfit unless the channel is as this provider wants it, and its payer has signed
        the voucher.
        """
        config, voucher, payee = payment.config, payment.voucher, self._offers.payee
        said = payment.accepted.get("network")
        if said is not None and said != network(payee.chain_id):
            raise PaymentUnfit(Fault.NETWORK_MISMATCH, "the payment is for another chain")
        if _id_of(payee.chain_id, config) != voucher.channel:
            raise PaymentUnfit(
                Fault.CHANNEL_ID_MISMATCH, "the voucher is for another channel or another chain"
            )
        for fault, found, wanted in (
            (Fault.RECEIVER_MISMATCH, config.receiver, self._offers.receiver()),
            (Fault.RECEIVER_AUTHORIZER_MISMATCH, config.receiver_authorizer, payee.operator),
            (Fault.TOKEN_MISMATCH, config.token, payee.token.contract),
        ):
            if found != wanted:
                raise PaymentUnfit(fault, f"the channel has {found}, expected {wanted}")
        delay = self._offers.terms(0).withdraw_delay
        if config.withdraw_delay > MAX_WITHDRAW_DELAY:
            raise PaymentUnfit(Fault.WITHDRAW_DELAY_OUT_OF_RANGE, "withdrawDelay is too long")
        if config.withdraw_delay < delay:
            raise PaymentUnfit(
                Fault.WITHDRAW_DELAY_MISMATCH, f"withdrawDelay has to be {delay} seconds"
            )
        if config.payer_authorizer == ZERO_ADDRESS:
            raise PaymentUnfit(
                Fault.AUTHORIZER_MISMATCH, "payerAuthorizer has to be the key that signs vouchers"
            )
        self._check_signed(config, voucher)

    def corrected(self, terms: Terms, payment: Payment, fault: Fault) -> Terms:
        """The terms of the answer to a payment with this fault, for a client that is out of step.

        Its voucher's signature was right: nobody else is shown a channel.
        """
        if fault not in _CORRECTED:
            return terms
        row = self._book.channel(payment.voucher.channel)
        if row is None:
            return terms
        return replace(terms, state=row.state, voucher=row.signed)

    def _check_signed(self, config: ChannelConfig, voucher: SignedVoucher) -> None:
        said = Voucher(voucher.channel, voucher.amount)
        try:
            signer = messages.recover(self._domain, said, voucher.signature)
        except LocalError as error:
            raise PaymentUnfit(Fault.VOUCHER_SIGNATURE, str(error)) from None
        if signer != config.payer_authorizer:
            raise PaymentUnfit(
                Fault.VOUCHER_SIGNATURE, "payerAuthorizer has not signed the voucher"
            )

    def _known(self, payment: Payment) -> ChannelRow:
        row = self._book.channel(payment.voucher.channel)
        if row is None:
            raise PaymentUnfit(Fault.CHANNEL_NOT_FOUND, "the channel is unknown here")
        return row

    # ------------------------------------------------------------------ deposits

    async def _deposit(self, payment: Payment, deposit: Deposit, ceiling: int) -> bytes:
        """The hash of the transaction, once it is confirmed. PaymentUnfit."""
        channel, payer = payment.voucher.channel, payment.config.payer
        nonce = deposit_nonce(channel, deposit.authorization.salt)
        row = self._book.deposit(nonce)
        if row is not None and row.state is Asked.HELD:
            row = None  # perhaps its gas is paid now
        if row is None:
            self._check_deposit(payment, deposit, ceiling)
        # One that waits already may be sent again, but not by a crowd.
        is_full = self._depositing[payer] >= _OF_ONE_PAYER or (
            row is None
            and self._book.waiting_deposits() >= self._max_deposits
            and not self._has_record(payer)
        )
        if is_full and (row is None or row.state in (Asked.NEW, Asked.SENT)):
            raise PaymentUnfit(
                Fault.STATE_UNAVAILABLE, "too many deposits wait for the chain; try again soon"
            )
        self._depositing[payer] += 1
        try:
            if row is None:
                await self._journal.run(self._book.ask_deposit, channel, payment.config, deposit)
            return await self._confirmed(nonce)
        finally:
            self._depositing[payer] -= 1
            if not self._depositing[payer]:
                del self._depositing[payer]

    def _check_deposit(self, payment: Payment, deposit: Deposit, ceiling: int) -> None:
        said, now = deposit.authorization, int(self._clock())
        if deposit.amount < self._offers.min_deposit:
            raise PaymentUnfit(
                Fault.DEPOSIT_BELOW_MIN, f"a deposit is at least {self._offers.min_deposit} units"
            )
        if said.valid_after > now:
            raise PaymentUnfit(Fault.AUTHORIZATION_EARLY, "the authorization is not valid yet")
        if said.valid_before < now + _LEAST_TIME:
            raise PaymentUnfit(Fault.AUTHORIZATION_LATE, "the authorization is too old")
        row = self._book.channel(payment.voucher.channel)
        charged, balance = (0, 0) if row is None else (row.charged, row.balance)
        if row is not None and row.is_open:
            raise PaymentUnfit(Fault.CHANNEL_BUSY, "a request of the channel runs")
        if payment.voucher.amount < charged + ceiling:
            raise PaymentUnfit(Fault.AMOUNT_MISMATCH, "the voucher is too low; see channelState")
        if payment.voucher.amount > balance + deposit.amount:
            raise PaymentUnfit(Fault.EXCEEDS_BALANCE, "the voucher is above the deposit")
        message = said.message(payment.voucher.channel, payment.config.payer, deposit.amount)
        try:
            signer = messages.recover(self._offers.payee.token, message, deposit.signature)
        except LocalError as error:
            raise PaymentUnfit(Fault.AUTHORIZATION_SIGNATURE, str(error)) from None
        if signer != payment.config.payer:
            raise PaymentUnfit(
                Fault.AUTHORIZATION_SIGNATURE, "the payer has not signed the deposit"
            )

    async def _confirmed(self, nonce: bytes) -> bytes:
        until = asyncio.get_running_loop().time() + self._wait
        while True:
            row = self._book.deposit(nonce)
            if row is not None and row.state is Asked.HELD:
                raise Refused(
                    Code.DEPOSITS_HELD,
                    "the gas of newcomers' deposits is not paid now; deposit by yourself and send "
                    "the same payment again, or try later",
                )
            if row is None or row.state is Asked.REFUSED:
                raise PaymentUnfit(
                    _fault(row, Fault.DEPOSIT_TRANSACTION), "the deposit was not taken"
                )
            if row.state is Asked.DONE:
                return row.tx_hash
            if asyncio.get_running_loop().time() > until:
                raise PaymentUnfit(
                    Fault.STATE_UNAVAILABLE,
                    "the deposit is not confirmed yet; send the same payment again",
                )
            await asyncio.sleep(_LOOK)


def settlement(
    chain_id: int, row: ChannelRow, payment: Payment, stands: int, made: bytes
) -> Settlement:
    """What the client hears of a payment after which its channel stands at `stands` units.

    A client counts on from its own number, which may be above ours: a stream's header names its
    ceiling. What we say moves it to where the channel stands, or leaves it until we get there.
    `made` is the hash of a deposit's transaction.
    """
    amount = payment.amount
    own = row.charged if amount is None else max(0, payment.voucher.amount - amount)
    moved = max(0, stands - own)
    return Settlement(
        success=True,
        network=network(chain_id),
        payer=row.config.payer,
        transaction=f"0x{made.hex()}" if made else "",
        charged=moved,
        state=replace(row.state, charged=own + moved),
    )


def _fault(row: DepositRow | RefundRow | None, otherwise: Fault) -> Fault:
    """The word that the chain's side has left."""
    try:
        return otherwise if row is None else Fault(row.reason)
    except ValueError:
        return otherwise
