# SPDX-License-Identifier: Apache-2.0
"""Transactions of the commands: estimated, paid for, signed, broadcast, awaited.

A transaction is handed to `on_signed` before it is broadcast, so that a deployment can write down
what it is about to do. Amounts are wei, times seconds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_ether
from teraproof.errors import CommandError
from teraproof.locks import MachineLock
from teraproof.market.chain import Chain
from teraproof.market.signers import Signer, Unsigned
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError, Reverted, RpcError, TxFault, TxRefused
from teraproof.rpc.fees import Offer, Pricer, gas_limit, raised
from teraproof.rpc.types import Receipt

_MAX_TIP = 100 * 10**9  # wei per gas; a node that asks for more is wrong
_LIKELY_GAS = 1_000_000  # people's calls take less than a third of it; more needs a second word


@dataclass(frozen=True)
class Call:
    """What is to be sent: `to` None creates a contract. `label` is for people."""

    label: str
    to: str | None
    data: bytes
    value: int = 0


@dataclass(frozen=True)
class Signed:
    """A signed transaction that may or may not be on its way."""

    label: str
    nonce: int
    tx_hash: bytes
    raw: bytes
    max_fee: int
    tip: int
    unsigned: Unsigned | None = None
    """What was signed; None for bytes that an earlier run has left."""


@dataclass(frozen=True)
class Sent:
    """A transaction that has succeeded."""

    label: str
    receipt: Receipt

    def to_json(self) -> dict[str, Any]:
        """For documents; the fee is wei as text."""
        return {
            "what": self.label,
            "hash": "0x" + self.receipt.tx_hash.hex(),
            "block": self.receipt.block_number,
            "gas_used": self.receipt.gas_used,
            "fee": str(self.receipt.gas_used * self.receipt.gas_price),
        }


@contextmanager
def hold(chain: Chain, address: str) -> Iterator[None]:
    """Keep other commands of this machine from sending for the same account of the same chain.

    Two of them would take the same nonce. CommandError names the process that is under way.
    """
    place = f"{chain.chain_id}-{chain.genesis()[2:14]}-{address.lower()}"
    lock = MachineLock(f"send-{place}")
    if not lock.take():
        holder = lock.holder()
        which = "" if holder is None else f" (process {holder})"
        raise CommandError(
            f"another command is sending transactions of {address}{which}; wait until it has ended",
            Code.COMMAND_RUNNING,
        )
    try:
        yield
    finally:
        lock.release()


_PATIENCE = 300.0  # seconds that a lasting command waits for another one's transaction


class Sender:
    """Sends one account's transactions, one after the other."""

    def __init__(self, chain: Chain, signer: Signer) -> None:
        self.chain = chain
        self.signer = signer
        #: What was sent and has succeeded, in order.
        self.sent: list[Sent] = []

    def offer(self, instead_of: Offer | None = None) -> Offer:
        """What a transaction offers for gas now, or instead of one that waits."""
        pricer = Pricer(self.chain.pool.fees, max_tip=_MAX_TIP)
        today = pricer.offer()
        if today is None:
            raise CommandError(pricer.trouble)
        if instead_of is None:
            return today
        return Offer(
            max(today.max_fee, raised(instead_of.max_fee)),
            max(today.priority_fee, raised(instead_of.priority_fee)),
            today.legacy,
        )

    @property
    def address(self) -> str:
        """Who pays."""
        return self.signer.address

    def estimate(self, call: Call, overrides: dict[str, Any] | None = None) -> int:
        """Gas of a call on the newest state. Raises Reverted with the contract's reason."""
        return self.chain.pool.estimate_gas(
            self.address,
            call.to,
            call.data,
            call.value,
            likely=_LIKELY_GAS,
            most=self.chain.gas_limit(),
            state=None,
            overrides=overrides or None,
        )

    def send(self, call: Call, on_signed: Callable[[Signed], None] | None = None) -> Receipt:
        """Send and wait for the confirmations. CommandError: refused by the contract, not enough
        gas money, not mined in time.
        """
        signed = self.start(call, on_signed=on_signed)
        receipt = self.wait(signed, self.chain.confirmations, replace=on_signed is None)
        self.sent.append(Sent(call.label, receipt))
        return receipt

    def start(
        self,
        call: Call,
        *,
        nonce: int | None = None,
        instead_of: Offer | None = None,
        on_signed: Callable[[Signed], None] | None = None,
    ) -> Signed:
        """Sign and broadcast. `instead_of` is what a transaction offered that this one replaces."""
        try:
            gas = self.estimate(call)
        except Reverted as error:
            raise CommandError(
                f"{call.label}: the contract refuses: {error.reason}", error.code
            ) from None
        except RpcError as error:
            self._explain(error, call.label)
            raise
        gas = gas_limit(gas, self.chain.gas_limit())
        offer = self.offer(instead_of)
        self.check_balance(gas * offer.max_fee + call.value, call.label)
        if nonce is None:
            nonce = self.chain.pool.nonce(self.address, "pending")
        unsigned = Unsigned(self.chain.chain_id, nonce, gas, offer, call.to, call.data, call.value)
        signed = self._sign(call.label, unsigned)
        if on_signed is not None:
            on_signed(signed)
        self.broadcast(signed)
        return signed

    def _sign(self, label: str, unsigned: Unsigned) -> Signed:
        tx_hash, raw = self.signer.sign_transaction(unsigned)
        offer = unsigned.offer
        return Signed(
            label, unsigned.nonce, tx_hash, raw, offer.max_fee, offer.priority_fee, unsigned
        )

    def _dearer(self, signed: Signed) -> Signed | None:
        """The same call and nonce at today's price, broadcast; None when price is not the reason
        for which it waits. Only one of them can be mined.
        """
        if signed.unsigned is None:
            return None
        pricer = Pricer(self.chain.pool.fees, max_tip=_MAX_TIP)
        try:
            offer = pricer.replacement(signed.unsigned.offer)
        except ChainError:
            return None
        if offer is None:
            return None
        newer = self._sign(signed.label, dataclasses.replace(signed.unsigned, offer=offer))
        # Refused or not, what was sent before may be mined: the receipts decide.
        self.chain.pool.broadcast(newer.raw)
        return newer

    def broadcast(self, signed: Signed) -> None:
        """Give the bytes to the node. CommandError when it refuses them for good."""
        answer = self.chain.pool.broadcast(signed.raw)
        if answer.accepted:
            return
        for error in answer.errors:
            if isinstance(error, RpcError):
                if self.chain.pool.receipt(signed.tx_hash) is not None:
                    return
                self._explain(error, signed.label)
                raise CommandError(f"{signed.label}: {error}", error.code)
        raise CommandError(
            f"{signed.label}: the node did not answer, so it is unknown whether "
            f"0x{signed.tx_hash.hex()} was sent; look for it before you try again",
            Code.CHAIN_UNAVAILABLE,
        )

    def wait(self, signed: Signed, confirmations: int, *, replace: bool = False) -> Receipt:
        """The receipt, once `confirmations` blocks hold it. CommandError when that takes too long
        or the transaction failed. With `replace` more is offered while it waits.
        """
        end = time.monotonic() + self.chain.receipt_seconds
        due = time.monotonic() + self.chain.replace_seconds
        made = [signed]
        while True:
            receipt = next(
                (found for one in made if (found := self._receipt(one.tx_hash)) is not None), None
            )
            if receipt is None and replace and time.monotonic() > due:
                due = time.monotonic() + self.chain.replace_seconds
                newer = self._dearer(made[-1])
                if newer is not None:
                    made.append(newer)
            if receipt is not None:
                if receipt.status != 1:
                    raise CommandError(
                        f"{signed.label}: transaction 0x{receipt.tx_hash.hex()} failed in block "
                        f"{receipt.block_number}{self._reason(signed)}; the state changed under "
                        "it, so try again",
                        Code.CONTRACT_REFUSED,
                    )
                if confirmations <= 1:
                    return receipt
                if self.chain.head().number - receipt.block_number + 1 >= confirmations:
                    return receipt
            if time.monotonic() > end:
                raise CommandError(
                    f"{signed.label}: transaction 0x{signed.tx_hash.hex()} is not mined after "
                    f"{self.chain.receipt_seconds:.0f} s; run the same command again later",
                    Code.CHAIN_UNAVAILABLE,
                )
            time.sleep(self.chain.poll_seconds)

    def _reason(self, signed: Signed) -> str:
        """Why a transaction that failed would fail again, for its line; "" where it would not."""
        made = signed.unsigned
        if made is None:
            return ""
        try:
            self.estimate(Call(signed.label, made.to, made.data, made.value))
        except Reverted as error:
            return f" ({error.reason})"
        except ChainError:
            pass
        return ""

    def check_balance(self, needed: int, label: str) -> None:
        """CommandError when the account cannot pay `needed` wei."""
        held = self.chain.pool.balance(self.address)
        if held < needed:
            raise CommandError(
                f"{label}: {self.signer.alias} ({self.address}) holds {self._coin(held)} and may "
                f"need {self._coin(needed)} for gas; send it some",
                Code.GAS_MISSING,
            )

    def _receipt(self, tx_hash: bytes) -> Receipt | None:
        try:
            return self.chain.pool.receipt(tx_hash, logs=True)
        except ChainError:
            return None  # A node that hiccups says nothing about the transaction; look again.

    def _explain(self, error: RpcError, label: str) -> None:
        if isinstance(error, TxRefused) and error.fault is TxFault.FUNDS:
            held = self._coin(self.chain.pool.balance(self.address))
            raise CommandError(
                f"{label}: {self.signer.alias} ({self.address}) holds {held}, which does not pay "
                "for the gas; send it some",
                Code.GAS_MISSING,
            ) from None

    def _coin(self, wei: int) -> str:
        return show_ether(wei, self.chain.symbol)


class LastingSender(Sender):
    """For a command that lasts: it keeps others from sending only while it sends itself."""

    def send(self, call: Call, on_signed: Callable[[Signed], None] | None = None) -> Receipt:
        """As `Sender`, once no other command of this machine sends for the account."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with hold(self.chain, self.address):
                    return super().send(call, on_signed)
            except CommandError as error:
                if error.code is not Code.COMMAND_RUNNING or time.monotonic() > until:
                    raise
            time.sleep(self.chain.poll_seconds)
