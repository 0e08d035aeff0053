# SPDX-License-Identifier: Apache-2.0
"""Signs quotes: binding prices for a specification whose inputs are already here.

A quote obliges the provider the moment a tenant hires by it, so it is signed only when every input
is on the disk and the slots suffice for all live quotes. A tenant without a job may upload inputs
for the specification that it asked a quote for: that is a reservation, short and counted.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from provider_agent.chain.keys import OperatorKey
from provider_agent.duties.jobs import JobsDuty
from provider_agent.duties.policy import Load, Policy
from provider_agent.errors import AgentError
from provider_agent.protocol import messages
from provider_agent.protocol.jobspec import JobSpec
from provider_agent.settings import Settings
from provider_agent.store import QuoteRow, Store

_RESERVATIONS = 32
_RESERVED_SECONDS = 900
_LAST_NONCE = "quotes.last_nonce"


class QuoteDesk:
    """Issues quotes to tenants that have signed in. Called from the API's threads."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        duty: JobsDuty,
        policy: Policy,
        key: OperatorKey,
        domain: messages.Domain,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store, self._duty = settings, store, duty
        self._policy, self._key, self._domain, self._clock = policy, key, domain, clock
        self._reserved: dict[str, float] = {}
        self._lock = threading.Lock()

    def may_upload(self, account: str) -> bool:
        """Whether an account holds a reservation or a live quote."""
        now = self._clock()
        with self._lock:
            if self._reserved.get(account, 0) > now:
                return True
        return any(quote.requester == account for quote in self._store.live_quotes(int(now)))

    def issue(self, requester: str, spec: JobSpec) -> tuple[messages.Quote, bytes]:
        """A quote for this requester and its signature. AgentError tells the tenant why not."""
        with self._lock:
            return self._issue(requester, spec)

    def _issue(self, requester: str, spec: JobSpec) -> tuple[messages.Quote, bytes]:
        standing = self._duty.standing
        if standing is None or not standing.operator_is_ours:
            raise AgentError("this provider is not registered on chain yet; try later")
        if standing.orders_paused:
            raise AgentError("new orders are paused; try later")
        refusal = self._policy.refuse_spec(spec)
        if refusal is not None:
            raise AgentError(refusal)
        missing = self._duty.missing_inputs(requester, spec)
        if missing:
            self._reserve(requester)
            raise AgentError(
                f"{missing} inputs are missing; upload them within "
                f"{_RESERVED_SECONDS // 60} minutes, then ask again"
            )
        now = int(self._clock())
        load = self._promised(now, requester, spec)
        collateral = min(self._policy.max_collateral, standing.per_order, standing.available)
        quote = messages.Quote(
            operator=self._key.address,
            requester=requester,
            spec=spec.digest(),
            price=self._policy.price(spec),
            collateral=collateral,
            duration=self._policy.seconds_needed(spec, load),
            expires=now + self._settings.jobs.quote_seconds,
            nonce=self._next_nonce(),
        )
        signature = messages.sign(self._domain, quote, self._key.account)
        self._store.put_quote(
            QuoteRow(
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
            )
        )
        return quote, signature

    def _next_nonce(self) -> int:
        """One after the other from a random start: 256 nonces share a word on chain, which makes
        hiring cheaper, and a lost database starts elsewhere.
        """
        last = self._store.meta(_LAST_NONCE)
        nonce = secrets.randbits(240) << 16 if last is None else int(last) + 1
        self._store.set_meta(_LAST_NONCE, str(nonce))
        return nonce

    def _reserve(self, requester: str) -> None:
        now = self._clock()
        self._reserved = {who: until for who, until in self._reserved.items() if until > now}
        if requester not in self._reserved and len(self._reserved) >= _RESERVATIONS:
            raise AgentError("too many tenants are uploading for a quote; try later")
        self._reserved[requester] = now + _RESERVED_SECONDS

    def _promised(self, now: int, requester: str, spec: JobSpec) -> Load:
        """What is promised when every live quote is used. One live quote an account."""
        load = self._duty.load()
        live = [quote for quote in self._store.live_quotes(now) if not self._used(quote)]
        if any(quote.requester == requester for quote in live):
            raise AgentError("you have a quote that is still good; use it or wait until it expires")
        if load.committed + len(live) >= load.slots * (1 + self._settings.agent.accept_ahead):
            raise AgentError("all slots are promised; try later or post the job")
        longest = max([load.longest_timeout, spec.timeout_seconds, *(q.duration for q in live)])
        return Load(load.slots, load.committed + len(live), longest)

    def _used(self, quote: QuoteRow) -> bool:
        """Whether a job was hired by the quote: its order's nonce is the quote's hash."""
        return self._duty.was_hired(quote.digest)
