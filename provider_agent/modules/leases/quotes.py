# SPDX-License-Identifier: Apache-2.0
"""Signed quotes for leases: binding rates, valid for a short time.

A tenant asks, and the policy answers like for an open order. What a quote binds stays reserved
until it ends or is used. It costs money to use one, so it is for whoever has it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping

from provider_agent.core.capacity import Resource
from provider_agent.core.funds import Funds
from provider_agent.core.spent import SpentQuotes
from provider_agent.errors import RunnerError
from provider_agent.modules.leases.chain_view import Standing
from provider_agent.modules.leases.images import ImageDesk
from provider_agent.modules.leases.policy import Asked, Policy, taken
from provider_agent.modules.leases.promises import LIVE, Promises
from provider_agent.modules.leases.repository import LeasesRepository, QuoteRow
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.specs import Specs
from provider_agent.modules.leases.stock import Chosen, Stock
from provider_agent.tx.keys import OperatorKey
from teraproof.errors import Refused
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.rpc.types import BlockRef

_LAST_NONCE = "leases.last_nonce"
_PER_ACCOUNT = 4  # quotes that can still be used


class QuoteDesk:
    """See the module. Called from the API's threads. `standing` and `now` are the loop's: the
    provider at the pinned block, and the time of the newest one, about (unix seconds).
    """

    def __init__(
        self,
        *,
        store: LeasesRepository,
        settings: LeasesSettings,
        specs: Specs,
        policy: Policy,
        stock: Stock,
        images: ImageDesk,
        promises: Promises,
        funds: Funds,
        spent: SpentQuotes,
        key: OperatorKey,
        domain: messages.Domain,
        standing: Callable[[], Standing | None],
        now: Callable[[], int],
        refuse: Callable[[], Refused | None] = lambda: None,
    ) -> None:
        self._store, self._settings, self._specs = store, settings, specs
        self._policy, self._stock, self._images = policy, stock, images
        self._promises, self._funds, self._key = promises, funds, key
        self._spent = spent
        self._domain, self._standing, self._now = domain, standing, now
        self._refuse = refuse

    def issue(self, requester: str, request: QuoteRequest) -> SignedLeaseQuote:
        """A quote for this requester; the same one until it is used. Refused tells the tenant why
        not.
        """
        known = self._live(requester, request)
        if known is not None and not self._spent.look(known.quote.nonce):
            return known
        spec = self._specs.spec(request.spec)
        if spec is None:
            raise Refused(Code.SPEC_MISSING, "the specification is not here; upload it first")
        asked = self._asked(request, spec)
        standing, block = self._standing(), self._promises.block
        refusal = self._refuse() or self._policy.refuse(asked, standing)
        if refusal is not None:
            raise refusal
        assert standing is not None  # or it was refused
        if block is None:
            raise Refused(Code.AGENT_NOT_READY, "this agent has just started; try again soon")
        rate = self._policy.rate(spec, asked.term)
        self._check_funds(requester, rate, standing, block)
        images = self._images.names(spec, requester)
        try:
            with self._promises.lock:
                known = self._live(requester, request)
                if known is None:
                    known = self._sign(requester, request, asked, rate, images, standing)
                return known
        except RunnerError:
            raise Refused(Code.AGENT_NOT_READY, "its runs cannot be read now; try later") from None

    def _asked(self, request: QuoteRequest, spec: LeaseSpec) -> Asked:
        notice = request.notice or min(self._settings.notice_seconds, request.term)
        return Asked(
            spec=spec,
            term=request.term,
            notice=max(notice, spec.notice_seconds),
            ready_within=request.ready_within or self._settings.ready_seconds,
        )

    def _live(self, requester: str, request: QuoteRequest) -> SignedLeaseQuote | None:
        """The quote for this that can still be used, as far as is known here."""
        wanted = _said(request)
        for row in self._mine(requester):
            if row.asked == wanted and row.quote.expires > self._now():
                return SignedLeaseQuote(row.quote, row.signature, row.images)
        return None

    def _mine(self, requester: str) -> list[QuoteRow]:
        """The quotes of an account that nobody has seen used."""
        return [
            row
            for row in self._promises.quotes()
            if row.quote.requester == requester and row.quote.nonce not in self._spent
        ]

    def _check_funds(self, requester: str, rate: int, standing: Standing, block: BlockRef) -> None:
        """Who cannot pay the least deposit for it, and for all its other quotes, gets none."""
        least, held = standing.grace + 1, self._funds.of(requester, block)

        def needs(mine: list[QuoteRow]) -> int:
            return least * (rate + sum(row.quote.rate for row in mine))

        mine = self._mine(requester)
        if len(mine) >= _PER_ACCOUNT or held < needs(mine):
            # It may have used them since the last cycle.
            mine = [row for row in mine if not self._spent.look(row.quote.nonce)]
        if len(mine) >= _PER_ACCOUNT:
            raise Refused(Code.SLOTS_TAKEN, "you have other quotes; use one, or wait for its end")
        needed = needs(mine)
        if held < needed:
            raise Refused(
                Code.FUNDS_MISSING,
                f"you need {self._policy.show(needed)} for the least deposit of your quotes",
                needed=str(needed),
            )

    def _sign(
        self,
        requester: str,
        request: QuoteRequest,
        asked: Asked,
        rate: int,
        images: Mapping[str, str],
        standing: Standing,
    ) -> SignedLeaseQuote:
        refusal = self._policy.refuse(asked, standing)
        if refusal is not None:
            raise refusal
        chosen = self._stock.choose(asked.spec)
        if chosen is None:
            raise taken(Resource.DEVICES)
        now, left = self._now(), self._promises.capacity.left_to_offer(Resource.COLLATERAL)
        quote = messages.LeaseQuote(
            operator=self._key.address,
            requester=requester,
            spec=request.spec,
            rate=rate,
            collateral=min(self._policy.collateral(rate, standing), left),
            ready_within=asked.ready_within,
            term=asked.term,
            notice=asked.notice,
            expires=now + self._settings.quote_seconds,
            nonce=self._next_nonce(standing.consent),
        )
        row = QuoteRow(
            quote=quote,
            asked=_said(request),
            signature=messages.sign(self._domain, quote, self._key.account),
            images=dict(images),
            devices=uuids(chosen),
            state=LIVE,
            created_at=now,
        )
        # Written before anybody has it, so that no restart forgets what is promised.
        found = self._promises.offer(row, asked.spec)
        if not found:
            raise taken(*found.short[:1] or (Resource.COLLATERAL,))
        return SignedLeaseQuote(quote, row.signature, row.images)

    def _next_nonce(self, consent: int) -> int:
        """One after the other from a random start: 256 nonces share a word on chain, which makes
        hiring cheaper, and a lost database starts elsewhere. Each consent has numbers of its own.
        """
        core = self._store.core
        last = core.meta(_LAST_NONCE)
        if last is None or int(last) >> 128 != consent:
            nonce = messages.quote_nonce(consent, secrets.randbits(112) << 16)
        else:
            nonce = int(last) + 1
        core.set_meta(_LAST_NONCE, str(nonce))
        return nonce


def uuids(chosen: Chosen) -> dict[str, tuple[str, ...]]:
    """The GPUs of a lease by name."""
    return {name: tuple(one.uuid for one in each) for name, each in chosen.items()}


def _said(request: QuoteRequest) -> str:
    return json.dumps(request.to_json(), sort_keys=True)
