# SPDX-License-Identifier: Apache-2.0
"""Opens channels, tops them up, and signs vouchers, within a budget.

What holds, and what the tests say in other words:

- A voucher is on the disk before it leaves, and so is the authorization of a deposit. A deposit is
  signed again only when the one before it is on chain, or can never be.
- The deposits with a provider, and all together, stay within the budget at every moment, those
  under way counted.
- A channel has one request at a time. Its vouchers exceed what receipts show by that request's
  ceiling at most, or by two steps where it is paid by steps. A request without a receipt may be
  charged for once; after a second one in a row the channel is used no more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from teraproof.errors import LocalError, Refused
from teraproof.gateway import ledger as rows
from teraproof.gateway.hosts import Host
from teraproof.gateway.ledger import Channel, Ledger, UnderWay
from teraproof.protocol.channels import (
    ChannelConfig,
    DepositAuthorization,
    Voucher,
    channel_id,
    channels_domain,
)
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain, Struct
from teraproof.protocol.payments import Deposit, Kind, Payment
from teraproof.protocol.x402 import SignedVoucher, Terms

log = logging.getLogger(__name__)

_AUTHORIZED_SECONDS = 900  # for which a deposit may be sent
_LEAST_LEFT_SECONDS = 60  # that a deposit under way must still have to be sent again
_RECOUNT_SECONDS = 60.0  # between two looks at what was called deposited
_BUSY_SECONDS = 2.0  # after which a channel is tried again that its provider calls busy


class ChainView(Protocol):
    """What the chain says. All of it may take long, and raise LocalError."""

    def balance(self, channel: bytes) -> int:
        """Its deposits less what was refunded, units of the token."""
        ...

    def now(self) -> int:
        """The time of a block behind which nothing changes any more, unix seconds."""
        ...

    def funds(self, account: str) -> int:
        """What an account holds outside of channels, units of the token."""
        ...


Sign = Callable[[Domain, Struct], bytes]


@dataclass(frozen=True)
class Budget:
    """What may be deposited, units of the token."""

    total: int
    per_provider: int
    deposit: int
    channels_per_provider: int


class Purse:
    """See the module. For one event loop. `payer` is the account whose key `sign` uses."""

    def __init__(
        self, ledger: Ledger, chain: ChainView, payer: str, sign: Sign, budget: Budget
    ) -> None:
        self.ledger, self.budget = ledger, budget
        self._chain, self._payer, self._sign = chain, payer, sign
        self._store = ledger.store
        self._opening = asyncio.Lock()
        self._recounted = -_RECOUNT_SECONDS
        self._recounting: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ channels

    async def take(self, host: Host, ceiling: int) -> Channel:
        """A channel for one request that may cost `ceiling`; give it back with `release`.

        Refused: BUDGET_SPENT when no deposit can be made for it, SERVER_BUSY when all work.
        """
        async with self._opening:
            free, now = list[Channel](), time.monotonic()
            wanted = _parties(self._config(host, bytes(32)))
            for channel in self.ledger.of(host.owner):
                # What costs least is asked first: a thousand channels may be at work.
                if channel.busy or channel.not_before > now:
                    continue
                if not self._fits(channel, host, wanted):
                    continue
                is_best = not channel.unclear and self._need(channel, ceiling) <= channel.balance
                if is_best and await self._is_ready(channel, ceiling, host):
                    channel.busy = True
                    return channel
                free.append(channel)
            free.sort(key=lambda one: (self._need(one, ceiling) > one.balance, one.unclear > 0))
            for channel in free:
                if await self._is_ready(channel, ceiling, host):
                    channel.busy = True
                    return channel
            if len(self.ledger.of(host.owner)) - self._closed(host.owner) >= (
                self.budget.channels_per_provider
            ):
                if free:
                    raise self._spent(host.owner)
                raise Refused(
                    Code.SERVER_BUSY,
                    f"all {self.budget.channels_per_provider} channels with {host.owner} are at "
                    "work; raise pay.channels_per_provider",
                )
            if self._allowed(host.owner) < max(ceiling, host.offer.min_deposit):
                raise self._spent(host.owner)
            made = self._new(host)
            await self._store.write(lambda db: rows.insert(db, made))
            self.ledger.channels[made.id] = made
            made.busy = True
            return made

    def release(self, channel: Channel) -> None:
        """The request has ended."""
        channel.busy = False

    def pause(self, channel: Channel) -> None:
        """Its provider says that it is busy: use others for a while."""
        channel.not_before = time.monotonic() + _BUSY_SECONDS

    def _closed(self, owner: str) -> int:
        return sum(channel.state == rows.CLOSED for channel in self.ledger.of(owner))

    def _fits(self, channel: Channel, host: Host, wanted: tuple[object, ...]) -> bool:
        """Whether a channel is one that the host takes today, with `wanted` parties."""
        if channel.state != rows.OPEN or channel.chain_id != _chain_id(host):
            return False
        return _parties(channel.config) == wanted

    def _config(self, host: Host, salt: bytes) -> ChannelConfig:
        return ChannelConfig(
            payer=self._payer,
            payer_authorizer=self._payer,
            receiver=host.offer.receiver,
            receiver_authorizer=host.operator,
            token=host.offer.token,
            withdraw_delay=host.offer.withdraw_delay,
            salt=salt,
        )

    def _new(self, host: Host) -> Channel:
        config = self._config(host, secrets.token_bytes(32))
        chain = _chain_id(host)
        found = channel_id(chain, config, host.offer.channels)
        return Channel(found, host.owner, host.operator, host.url, chain, config)

    async def _is_ready(self, channel: Channel, ceiling: int, host: Host) -> bool:
        """Whether a request can be paid from a channel, after a deposit if there must be one."""
        made = channel.under_way
        if made is not None and _left(made) < _LEAST_LEFT_SECONDS:
            await self._look(channel)  # it cannot be sent again
        need = self._need(channel, ceiling) - channel.funds
        if need <= 0:
            return True
        if channel.under_way is not None:
            return False  # one deposit at a time
        return self._allowed(channel.owner) >= max(need, host.offer.min_deposit)

    def _need(self, channel: Channel, ceiling: int) -> int:
        """What a request's voucher would come to."""
        return max(channel.signed, channel.base + ceiling)

    def _allowed(self, owner: str) -> int:
        """What may still be deposited with a provider."""
        return min(
            self.budget.total - self.ledger.outlay(),
            self.budget.per_provider - self.ledger.outlay(owner),
        )

    def _spent(self, owner: str) -> Refused:
        if time.monotonic() >= self._recounted + _RECOUNT_SECONDS:
            self._recounted = time.monotonic()
            self._recounting = asyncio.create_task(self._recount())
        return Refused(
            Code.BUDGET_SPENT,
            f"no deposit with {owner} is left in the budget; raise pay.per_provider and pay.total, "
            "or take back what lies idle: teraproof channel refund",
        )

    # ------------------------------------------------------------------ deposits

    async def _look(self, channel: Channel) -> None:
        """Ask the chain what became of a deposit under way, where it is not sent again."""
        made = channel.under_way
        assert made is not None
        try:
            now, balance = await asyncio.gather(
                asyncio.to_thread(self._chain.now),
                asyncio.to_thread(self._chain.balance, channel.id),
            )
        except LocalError:
            return  # nothing is known: it stays under way
        if balance >= made.before + made.deposit.amount:
            await self._end_deposit(channel, made, balance, done=True)
        elif now >= made.deposit.authorization.valid_before:
            await self._end_deposit(channel, made, balance, done=False)

    async def deposited(self, channel: Channel) -> None:
        """The provider has served a payment with the deposit under way: it is on chain."""
        made = channel.under_way
        if made is not None:
            await self._end_deposit(channel, made, made.before + made.deposit.amount, done=True)

    async def settled(self) -> None:
        """Wait for what goes on behind requests."""
        if self._recounting is not None:
            await self._recounting

    async def _recount(self) -> None:
        """Ask the chain for balances: a provider may have said that a deposit is made, and never
        have sent it, which would hold the budget without end. What can still be sent counts on.
        """
        try:
            until = await self._store.write(rows.last_authorized)
            now = await asyncio.to_thread(self._chain.now)
            for channel in [*self.ledger.channels.values()]:
                if not channel.busy and not channel.under_way and until.get(channel.id, now) < now:
                    channel.busy = True  # nobody pays from it meanwhile
                    try:
                        await self._recount_one(channel)
                    finally:
                        channel.busy = False
        except LocalError as error:
            log.info("the balances stay as they were: %s", error)

    async def _recount_one(self, channel: Channel) -> None:
        balance = await asyncio.to_thread(self._chain.balance, channel.id)
        if balance < channel.balance:
            await self._store.write(partial(self._keep_balance, channel.id, balance))
            log.warning(
                "%s said that %d units were deposited, and the chain has %d",
                channel.owner,
                channel.balance,
                balance,
            )
            channel.balance = balance

    @staticmethod
    def _keep_balance(channel: bytes, balance: int, db: sqlite3.Connection) -> None:
        rows.keep(db, channel, balance=balance)

    async def _end_deposit(
        self, channel: Channel, made: UnderWay, balance: int, *, done: bool
    ) -> None:
        await self._store.write(
            lambda db: rows.end_deposit(db, channel.id, made, balance, done=done)
        )
        channel.balance, channel.under_way = balance, None

    def _is_short(self, channel: Channel, whole: int, terms: Terms) -> bool:
        """Whether a stream would run dry, and a deposit that prevents it is in the budget."""
        need = channel.base + whole - channel.balance
        return need > 0 and max(need, terms.min_deposit or 0) <= self._allowed(channel.owner)

    async def _deposit(self, channel: Channel, need: int, wanted: int, terms: Terms) -> UnderWay:
        """The deposit under way, or a new one, durable before it leaves."""
        made = channel.under_way
        if made is not None:
            if _left(made) < _LEAST_LEFT_SECONDS:
                raise LocalError(
                    f"a deposit for {channel.url} is under way, and nobody knows its end yet",
                    Code.SERVER_BUSY,
                )
            return made
        held = await self._held()
        async with self._opening:
            least = max(need - channel.balance, terms.min_deposit or 0)
            allowed = self._allowed(channel.owner)
            if allowed < least:
                raise self._spent(channel.owner)
            if held is not None:
                allowed = min(allowed, held - self._under_way())
            if allowed < least:
                raise Refused(
                    Code.BUDGET_SPENT,
                    f"the account {self._payer} holds too few payment tokens for a deposit with "
                    f"{channel.owner}; send it some",
                )
            amount = min(allowed, max(least, wanted - channel.balance, self.budget.deposit))
            authorization = DepositAuthorization(
                0, int(time.time()) + _AUTHORIZED_SECONDS, secrets.randbits(256)
            )
            domain = Domain(channel.chain_id, terms.asset, terms.name, terms.version)
            message = authorization.message(channel.id, self._payer, amount)
            deposit = Deposit(amount, authorization, self._sign(domain, message))
            made = UnderWay(deposit, channel.balance)
            channel.under_way = made  # counted before anybody else looks
        try:
            await self._store.write(lambda db: rows.insert_deposit(db, channel.id, made))
        except LocalError:
            channel.under_way = None  # it is not on the disk, so it never leaves
            raise
        return made

    async def _held(self) -> int | None:
        """What the account holds; None where nobody says it. A deposit that it cannot pay would be
        refused, and may not be signed again while it is good.
        """
        try:
            return await asyncio.to_thread(self._chain.funds, self._payer)
        except LocalError:
            return None

    def _under_way(self) -> int:
        """Deposits that may still leave the account."""
        made = (channel.under_way for channel in self.ledger.channels.values())
        return sum(one.deposit.amount for one in made if one is not None)

    # ------------------------------------------------------------------ vouchers

    async def pay(
        self,
        channel: Channel,
        amount: int,
        terms: Terms,
        also: Callable[[sqlite3.Connection], int] | None = None,
        *,
        whole: int = 0,
    ) -> tuple[Payment, int]:
        """A payment that covers the next step of a request, which may cost `amount`. All of its
        steps may cost `whole`. There is a deposit with it if the balance is short.

        It is durable when this returns, together with what `also` writes; that is the number.
        """
        target = self._need(channel, amount)
        made = channel.under_way
        is_needed = made is not None or target > channel.balance
        if is_needed or self._is_short(channel, whole, terms):
            try:
                made = await self._deposit(channel, target, channel.base + whole, terms)
            except Refused:
                if is_needed:
                    raise
        voucher, number = await self._voucher(channel, target, also)
        payment = Payment(
            kind=Kind.VOUCHER if made is None else Kind.DEPOSIT,
            config=channel.config,
            voucher=voucher,
            deposit=None if made is None else made.deposit,
            accepted=terms.to_json(),
            url=channel.url,
        )
        return payment, number

    async def step(
        self, channel: Channel, target: int, also: Callable[[sqlite3.Connection], None]
    ) -> Payment | None:
        """A voucher of this sum for a stream that runs, written together with what `also` writes;
        None where the balance does not allow it, or the last voucher covers it.
        """
        target = min(target, channel.balance)
        if target <= channel.signed:
            return None

        def write(db: sqlite3.Connection) -> int:
            also(db)
            return 0

        voucher, _ = await self._voucher(channel, target, write)
        return Payment(Kind.VOUCHER, channel.config, voucher, url=channel.url)

    def again(self, channel: Channel) -> Payment:
        """The last voucher once more: it gives nothing that the provider has not."""
        message = Voucher(channel.id, channel.signed)
        signature = self._sign(channels_domain(channel.chain_id), message)
        voucher = SignedVoucher(channel.id, channel.signed, signature)
        return Payment(Kind.VOUCHER, channel.config, voucher, url=channel.url)

    async def _voucher(
        self, channel: Channel, target: int, also: Callable[[sqlite3.Connection], int] | None
    ) -> tuple[SignedVoucher, int]:
        if target > channel.funds:
            raise self._spent(channel.owner)
        domain = channels_domain(channel.chain_id)
        signature = self._sign(domain, Voucher(channel.id, target))

        def write(db: sqlite3.Connection) -> int:
            rows.keep(db, channel.id, signed=target)
            return 0 if also is None else also(db)

        channel.signed = target
        number = await self._store.write(write)
        return SignedVoucher(channel.id, target, signature), number


def _left(made: UnderWay) -> float:
    """Seconds for which a deposit may still be sent."""
    return made.deposit.authorization.valid_before - time.time()


def _parties(config: ChannelConfig) -> tuple[object, ...]:
    """All of a channel's configuration but its salt."""
    return (
        config.payer,
        config.payer_authorizer,
        config.receiver,
        config.receiver_authorizer,
        config.token,
        config.withdraw_delay,
    )


def _chain_id(host: Host) -> int:
    return int(host.offer.network.partition(":")[2])


def terms_of(host: Host, amount: int, seconds: int = 60) -> Terms:
    """What a host wants for a request, as it says in its offer."""
    offer = host.offer
    return Terms(
        network=offer.network,
        asset=offer.token,
        amount=amount,
        pay_to=offer.receiver,
        max_timeout_seconds=seconds,
        receiver_authorizer=offer.authorizer,
        withdraw_delay=offer.withdraw_delay,
        name=offer.token_name,
        version=offer.token_version,
        min_deposit=offer.min_deposit,
    )
