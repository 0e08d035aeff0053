# SPDX-License-Identifier: Apache-2.0
"""Deposits come back: by the provider's word at once, or by the payer's own transaction later.

A refund asks the provider, which claims what it is owed and gives the rest back in one transaction
that it pays for. A withdrawal needs nobody: it is announced on chain, and paid when the channel's
delay is over. What the provider claims until then stays with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from teraproof.amounts import show_time
from teraproof.client.line import Line
from teraproof.connections import Deadline
from teraproof.contracts.channels import ChannelsContract
from teraproof.errors import CommandError, LocalError, WrongInput
from teraproof.gateway import bodies
from teraproof.gateway import ledger as rows
from teraproof.gateway import log as activity
from teraproof.gateway.ledger import Channel, Ledger
from teraproof.gateway.onchain import signing
from teraproof.gateway.store import Store
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.market.vouchers import channels_of
from teraproof.protocol.channels import Voucher, channels_domain
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.inference import PATHS
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import (
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    SIGNATURE_HEADER,
    Required,
    Settlement,
    SignedVoucher,
)
from teraproof.storage.reach import Reach

_REFUND_SECONDS = 300.0  # the provider sends a transaction and waits for it
_ANSWER_BYTES = 64 << 10
_LEAST_DIGITS = 6
_DAY = 86_400


@dataclass(frozen=True)
class Standing:
    """A channel as we know it, and as the chain has it. Amounts are units of the token."""

    channel: Channel
    balance: int
    claimed: int
    withdrawing: int
    ready_at: int
    """When an announced withdrawal can be finalised; 0: there is not one."""

    @property
    def left(self) -> int:
        """What the provider has not claimed."""
        return self.balance - self.claimed

    @property
    def state(self) -> str:
        """For people."""
        if self.ready_at:
            return "withdrawing"
        if not self.left:
            return "empty"
        return self.channel.state


class Returning:
    """The channels of one store on the market's chain. `reach` says where providers may be."""

    def __init__(self, market: Market, store: Store, reach: Reach) -> None:
        self._market, self._store, self._reach = market, store, reach
        self._contract: ChannelsContract = channels_of(market)
        self._ledger = Ledger.load(store)

    def standings(self, named: Sequence[str] = ()) -> list[Standing]:
        """All channels of this chain, or those whose ids begin like this. WrongInput when a name
        fits none or several.
        """
        ours = [
            channel
            for channel in self._ledger.channels.values()
            if channel.chain_id == self._market.chain.chain_id
        ]
        if named:
            ours = [_named(ours, name) for name in named]
        return [self._standing(channel) for channel in ours]

    def _standing(self, channel: Channel) -> Standing:
        held = self._contract.channels(channel.id, "latest")
        leaving = self._contract.pending_withdrawals(channel.id, "latest")
        ready = leaving.initiated_at + channel.config.withdraw_delay if leaving.initiated_at else 0
        return Standing(channel, held.balance, held.total_claimed, leaving.amount, ready)

    # ------------------------------------------------------------------ by the provider's word

    def refund(self, one: Standing, sender: Sender, ui: Ui) -> int:
        """Ask the provider for what is left. The units that came back. LocalError when it does not
        give them.
        """
        channel = one.channel
        self._set(channel, rows.LEAVING)  # nothing is paid from it any more, whatever comes
        ui.doing(f"asking {channel.url} for what is left of {_short(channel)}")
        # For what receipts show: it gives away nothing that an earlier voucher did not.
        amount = max(channel.charged, one.claimed)
        domain, voucher = channels_domain(channel.chain_id), Voucher(channel.id, amount)
        signed = SignedVoucher(channel.id, amount, signing(sender.signer)(domain, voucher))
        payment = Payment(Kind.REFUND, channel.config, signed, url=channel.url)
        _ask_refund(channel.url, payment, self._reach)
        after = self._standing(channel)
        self._keep(after)
        back = one.balance - after.balance
        ui.step(f"{_short(channel)}: {self._market.show_price(back)} came back")
        return back

    # ------------------------------------------------------------------ by our own transaction

    def withdraw(self, one: Standing, sender: Sender, ui: Ui) -> None:
        """Announce that all that is left is taken back after the channel's delay."""
        channel = one.channel
        if one.ready_at:
            raise WrongInput(
                f"{_short(channel)} is being withdrawn; finalize it "
                f"{show_time(one.ready_at, self._market.now())}"
            )
        self._set(channel, rows.LEAVING)
        data = self._contract.initiate_withdraw(channel.config, one.left)
        transact(sender, ui, f"withdraw {_short(channel)}", self._contract, data)
        after = self._standing(channel)
        ui.step(
            f"{_short(channel)}: {self._market.show_price(one.left)} at most, to finalize "
            f"{show_time(after.ready_at, self._market.now())}"
        )

    def finalize(self, one: Standing, sender: Sender, ui: Ui) -> int:
        """Take what was announced. The units."""
        channel = one.channel
        if not one.ready_at:
            raise WrongInput(f"{_short(channel)}: nothing was announced; channel withdraw does it")
        if one.ready_at > self._market.now():
            raise CommandError(
                f"{_short(channel)}: it can be finalized "
                f"{show_time(one.ready_at, self._market.now())}",
                Code.CONTRACT_REFUSED,
            )
        data = self._contract.finalize_withdraw(channel.config)
        transact(sender, ui, f"finalize {_short(channel)}", self._contract, data)
        after = self._standing(channel)
        self._keep(after)
        return one.balance - after.balance

    # ------------------------------------------------------------------ the store

    def _set(self, channel: Channel, state: str) -> None:
        self._store.run(lambda db: rows.keep_state(db, channel.id, state))
        channel.state = state

    def _keep(self, after: Standing) -> None:
        """What a channel holds now. What was claimed beyond receipts is booked to its request."""
        channel = after.channel
        late = max(0, after.claimed - channel.charged)
        closed = after.left == 0

        def write(db: sqlite3.Connection) -> None:
            payer = activity.unclear_of(db, channel.id) if late else None
            if payer is not None:
                activity.charge_late(db, *payer, int(time.time()) // _DAY, late)
            charged = channel.charged + late
            if closed:
                rows.keep(db, channel.id, balance=after.balance, charged=charged, unclear=0)
                rows.keep_state(db, channel.id, rows.CLOSED)
            else:
                rows.keep(db, channel.id, balance=after.balance)

        self._store.run(write)
        channel.balance = after.balance
        if closed:
            channel.charged, channel.unclear, channel.state = channel.charged + late, 0, rows.CLOSED


def _ask_refund(url: str, payment: Payment, reach: Reach) -> None:
    """LocalError when the provider does not give the rest back, or does not say it in time."""
    where = url + PATHS["chat"]
    headers = {SIGNATURE_HEADER: payment.encode(), "accept-encoding": "identity"}
    deadline = Deadline()
    deadline.at = time.monotonic() + _REFUND_SECONDS
    line = Line(deadline, reach.resolve, tls=url.startswith("https:"))
    try:
        with (
            httpx.Client(transport=line, timeout=_REFUND_SECONDS, trust_env=False) as client,
            client.stream("GET", where, headers=headers) as answer,
        ):
            data = b""
            for piece in answer.iter_raw():
                data += piece
                if len(data) > _ANSWER_BYTES:
                    break
    except httpx.HTTPError as error:
        raise LocalError(
            f"{url} does not answer ({type(error).__name__})", Code.AGENT_UNREACHABLE
        ) from None
    if answer.status_code == 200:
        said = answer.headers.get(RESPONSE_HEADER)
        if said is not None and Settlement.decode(said).success:
            return
        raise LocalError(f"{url} does not say that it has refunded", Code.ANSWER_INVALID)
    why = bodies.refusal(data)
    if answer.status_code == 402 and why == bodies.NO_REASON:
        with contextlib.suppress(LocalError):
            why = Required.decode(answer.headers.get(REQUIRED_HEADER, "")).error or why
    raise LocalError(f"{url} does not refund: {one_line(why, 200)}", Code.PAYMENT_UNFIT)


def _named(channels: Sequence[Channel], name: str) -> Channel:
    digits = name.removeprefix("0x").lower()
    found = [one for one in channels if one.id.hex().startswith(digits)]
    if len(digits) < _LEAST_DIGITS or len(found) != 1:
        raise WrongInput(
            f"CHANNEL: {name[:70]!r} names {len(found)} channels of this store; give at least "
            f"{_LEAST_DIGITS} of the digits that channel list shows"
        )
    return found[0]


def _short(channel: Channel) -> str:
    return f"channel 0x{channel.id.hex()[:8]}"


# ---------------------------------------------------------------------- for people


def show(found: Sequence[Standing], market: Market, ui: Ui) -> Mapping[str, Any]:
    """A table, and the same as JSON values."""
    columns = (
        "channel",
        "provider",
        "deposited",
        "claimed",
        "receipts",
        "vouchers",
        "left",
        "state",
    )
    if found:
        ui.table("Channels", columns, [_row(one, market) for one in found])
    else:
        ui.note("there are no channels; the gateway opens them when a request is paid")
    return {"channels": [_to_json(one) for one in found]}


def _row(one: Standing, market: Market) -> tuple[str, ...]:
    channel = one.channel
    state = one.state
    if one.ready_at:
        state = f"{state}, ready {show_time(one.ready_at, market.now())}"
    amounts = (one.balance, one.claimed, channel.charged, channel.signed, one.left)
    return (
        f"0x{channel.id.hex()}",
        channel.owner,
        *(market.show_price(amount) for amount in amounts),
        state,
    )


def _to_json(one: Standing) -> dict[str, Any]:
    channel = one.channel
    return {
        "channel": f"0x{channel.id.hex()}",
        "provider": channel.owner,
        "url": channel.url,
        "balance": str(one.balance),
        "claimed": str(one.claimed),
        "charged": str(channel.charged),
        "signed": str(channel.signed),
        "left": str(one.left),
        "withdrawing": str(one.withdrawing),
        "ready_at": one.ready_at or None,
        "state": one.state,
    }
