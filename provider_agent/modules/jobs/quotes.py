# SPDX-License-Identifier: Apache-2.0
"""Signs quotes: binding prices for a specification whose inputs are already here.

A quote obliges the provider the moment a tenant hires by it, and costs the tenant nothing. So it is
signed only when every input is on the disk, when the ledger has a part for it, and when the tenant
has the money for it and for all its other quotes. It is good for a minute, and none is signed while
an order with its price in escrow waits for room. An account that asks again gets the same quote.
Where there is not room for all who ask, who has let a quote run out comes after who has not.

A tenant without a job may upload inputs for the specification that it asked a quote for: that is a
reservation, short and counted, and it gives way when others want its place.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable

from provider_agent.core.capacity import Kind, Resource
from provider_agent.core.funds import Funds
from provider_agent.core.spent import SpentQuotes
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.book import JobBook
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.halt import Halt
from provider_agent.modules.jobs.policy import Policy, Standing, taken
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.repository import QuoteRow
from provider_agent.modules.jobs.turns import HasMoney, Places, Turns
from provider_agent.tx.keys import OperatorKey
from teraproof.errors import Refused, counted
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import Judged
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef

_RESERVATIONS = 32
_RESERVED_SECONDS = 900
_FIRM_SECONDS = 120  # for which a reservation gives way to nobody
_LAST_NONCE = "quotes.last_nonce"


class QuoteDesk:
    """Issues quotes to tenants that have signed in. Called from the API's threads."""

    def __init__(
        self,
        book: JobBook,
        duty: JobsDuty,
        promises: Promises,
        policy: Policy,
        key: OperatorKey,
        turns: Turns,
        funds: Funds,
        spent: SpentQuotes,
        inputs: InputStorage,
        domain: messages.Domain,
        good_for: int,
        halt: Halt,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._duty, self._promises, self._policy = book, duty, promises, policy
        self._key, self._funds, self._inputs = key, funds, inputs
        self._domain, self._good_for, self._halt = domain, good_for, halt
        self._turns, self._spent = turns, spent
        self._places = Places(_RESERVATIONS, _FIRM_SECONDS, _RESERVED_SECONDS, clock)

    def specs_of(self, account: str) -> set[bytes]:
        """The specifications for which an account may upload inputs because of quotes."""
        found = {quote.spec for quote in self._promises.quotes if quote.requester == account}
        reserved = self._places.of(account)
        return found if reserved is None else found | {reserved}

    def spec(self, digest: bytes) -> JobSpec | None:
        """A specification that is here; who asks again and again has it read once."""
        return self._book.spec_named(digest)

    def issue(
        self, requester: str, spec: JobSpec, judged: int = Judged.TRUSTED
    ) -> tuple[messages.Quote, bytes]:
        """A quote for this requester and its signature, for an order that is `judged` like that.
        Refused tells the tenant why not.
        """
        known = self._live(requester, spec, judged)
        if known is not None and not self._spent.look(known[0].nonce):
            return known
        refusal = (
            self._policy.refuse_way(judged, requester, spec.digest())
            or self._policy.refuse_spec(spec)
            or self._policy.refuse_judged(judged, spec)
        )
        if refusal is not None:
            raise refusal
        block = self._promises.block
        standing = self._duty.standing
        if block is None or standing is None or not standing.operator_is_ours:
            raise Refused(
                Code.NOT_REGISTERED, "this provider is not registered on chain yet; try later"
            )
        refusal = self._halt.refuse()
        if refusal is not None:
            raise refusal
        price = self._policy.price(spec)
        held = self._funds.of(requester, block)
        # Before any lock: a node may be asked.
        self._check_funds(requester, price, held, ask=True)
        ahead = self._turns.ahead_of(requester, self._has_money(block))
        missing = self._book.missing_inputs(requester, spec)
        if missing:
            self._check_room(requester, spec, price, ahead)
            self._reserve(requester, spec.digest(), price, block)
            raise Refused(
                Code.INPUTS_MISSING,
                f"upload the missing inputs ({missing} of {len(spec.inputs)}) within "
                f"{_RESERVED_SECONDS // 60} minutes, then ask again",
                missing=missing,
                inputs=len(spec.inputs),
                seconds=_RESERVED_SECONDS,
            )
        with self._promises.lock:
            # The same may have been asked for, or more, in the meantime.
            known = self._live(requester, spec, judged)
            if known is None:
                self._check_funds(requester, price, held, ask=False)
                known = self._sign(requester, spec, price, standing, ahead, judged)
            return known

    def _live(
        self, requester: str, spec: JobSpec, judged: int
    ) -> tuple[messages.Quote, bytes] | None:
        """The quote for this that is still good, as far as is known here."""
        digest = spec.digest()
        for row in self._mine(requester):
            same = (row.spec, row.judged) == (digest, judged)
            if same and row.expires > self._now():
                return self._quote(row), row.signature
        return None

    def _quote(self, row: QuoteRow) -> messages.Quote:
        return messages.Quote(
            operator=self._key.address,
            requester=row.requester,
            spec=row.spec,
            price=row.price,
            collateral=row.collateral,
            duration=row.duration,
            expires=row.expires,
            nonce=row.nonce,
            judged=row.judged,
        )

    def _now(self) -> int:
        """The time of the newest block, about: hiring is mined in a later one."""
        return self._duty.now + self._policy.lag_seconds

    def _check_room(self, requester: str, spec: JobSpec, price: int, ahead: int) -> None:
        if self._promises.is_awaited:
            raise Refused(Code.SLOTS_TAKEN, "a paid order waits for a slot; try later or post one")
        needs, capacity = self._policy.needs(spec), self._promises.capacity
        short = capacity.fit(needs, Kind.OFFERED).short
        if not short:
            # Room for those before it, too; they are taken to want as much.
            short = capacity.fit(sum([needs] * ahead, needs), Kind.OFFERED).short
        if short:
            self._turns.refused(requester, price)
            raise taken(short[0])

    def _has_money(self, block: BlockRef) -> HasMoney:
        """Whether an account still has what it had when it asked; it has where no node answers."""

        def has_money(account: str, price: int) -> bool:
            try:
                return self._funds.of(account, block) >= price
            except ChainError:
                return True

        return has_money

    def _sign(
        self,
        requester: str,
        spec: JobSpec,
        price: int,
        standing: Standing,
        ahead: int,
        judged: int,
    ) -> tuple[messages.Quote, bytes]:
        load = self._promises.load()
        if standing.orders_paused:
            raise Refused(Code.ORDERS_PAUSED, "new orders are paused; try later")
        self._check_room(requester, spec, price, ahead)
        # Young files are not tidied away while the quote lives.
        for entry in spec.inputs:
            path = self._inputs.path(requester, entry.sha256)
            if path is not None:
                os.utime(path)
        most = min(self._policy.collateral(price, judged), standing.per_order)
        now = self._now()
        collateral = min(most, self._promises.capacity.left_to_offer(Resource.COLLATERAL))
        quote = messages.Quote(
            operator=self._key.address,
            requester=requester,
            spec=spec.digest(),
            price=price,
            collateral=collateral,
            duration=self._policy.seconds_quoted(spec, load),
            expires=now + self._good_for,
            nonce=self._next_nonce(standing.consent),
            judged=judged,
        )
        signature = messages.sign(self._domain, quote, self._key.account)
        row = QuoteRow(
            digest=quote.struct_hash(),
            nonce=quote.nonce,
            spec=quote.spec,
            requester=requester,
            price=quote.price,
            collateral=quote.collateral,
            duration=quote.duration,
            expires=quote.expires,
            signature=signature,
            created_at=now,
            judged=quote.judged,
        )
        found = self._promises.offer(row, spec)
        if not found:
            raise taken(*found.short)
        self._book.store.put_quote(row)
        self._promises.added(row)
        self._turns.served(requester)
        return quote, signature

    def _mine(self, requester: str) -> list[QuoteRow]:
        """The quotes of an account that nobody has seen used."""
        quotes = self._promises.quotes
        return [
            one for one in quotes if one.requester == requester and one.nonce not in self._spent
        ]

    def _check_funds(self, requester: str, price: int, held: int, *, ask: bool) -> None:
        """A quote holds a slot: who cannot pay for it, and for all its others, gets none. `ask`:
        whether a node may be asked which of them were used.
        """
        mine = self._mine(requester)
        other = [quote.price for quote in mine]
        if held < price + sum(other) and ask:
            # It may have used them since the last cycle.
            other = [quote.price for quote in mine if not self._spent.look(quote.nonce)]
        if held < price + sum(other):
            beside = f", besides {counted(len(other), 'open quote')} of yours" if other else ""
            needed = price + sum(other)
            raise Refused(
                Code.FUNDS_MISSING,
                f"you need {self._policy.show(needed)} for this quote{beside}",
                needed=str(needed),
            )

    def _next_nonce(self, consent: int) -> int:
        """One after the other from a random start: 256 nonces share a word on chain, which makes
        hiring cheaper, and a lost database starts elsewhere. Each consent has numbers of its own.
        """
        store = self._book.store
        last = store.core.meta(_LAST_NONCE)
        if last is None or int(last) >> 128 != consent:
            nonce = messages.quote_nonce(consent, secrets.randbits(112) << 16)
        else:
            nonce = int(last) + 1
        store.core.set_meta(_LAST_NONCE, str(nonce))
        return nonce

    def _reserve(self, requester: str, spec: bytes, price: int, block: BlockRef) -> None:
        if not self._places.take(requester, spec, price, self._has_money(block)):
            raise Refused(
                Code.UPLOADERS_BUSY, "too many tenants are uploading for a quote; try later"
            )
