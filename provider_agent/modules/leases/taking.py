# SPDX-License-Identifier: Apache-2.0
"""Takes open orders: those that suit, whose specifications and images are here, once the rate that
they offer has reached ours.
"""

from __future__ import annotations

from collections.abc import Callable

from provider_agent.core.attempts import Attempts
from provider_agent.core.capacity import Resource
from provider_agent.errors import RunnerError
from provider_agent.modules.leases.chain_view import Standing
from provider_agent.modules.leases.images import ImageDesk
from provider_agent.modules.leases.policy import Asked, Policy, taken
from provider_agent.modules.leases.promises import ACCEPT, Promises
from provider_agent.modules.leases.quotes import uuids
from provider_agent.modules.leases.repository import LeaseRow, LeasesRepository
from provider_agent.modules.leases.specs import Specs
from provider_agent.modules.leases.stock import Stock
from teraproof.contracts.leases import LeasesContract
from teraproof.errors import Refused
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.protocol.terms import ZERO_WORD
from teraproof.rpc.types import BlockRef

_LOOKED_AT = 8  # orders of one cycle


class Taker:
    """See the module. Used by the loop's thread."""

    def __init__(
        self,
        *,
        store: LeasesRepository,
        specs: Specs,
        policy: Policy,
        stock: Stock,
        images: ImageDesk,
        promises: Promises,
        attempts: Attempts,
        leases: LeasesContract,
        refuse: Callable[[], Refused | None] = lambda: None,
    ) -> None:
        self._store, self._specs, self._policy, self._stock = store, specs, policy, stock
        self._images, self._promises, self._attempts = images, promises, attempts
        self._leases, self._refuse_all = leases, refuse

    def take(
        self, block: BlockRef, standing: Standing, is_open: Callable[[LeaseRow], bool]
    ) -> None:
        """Accept what can be accepted; `is_open` reads whether nobody has taken it yet."""
        if self._refuse_all() is not None:
            return
        accepting = self._promises.accepting()
        for row in self._store.takeable(_LOOKED_AT):
            if row.lease_id in accepting or not self._attempts.may_begin(row.name, ACCEPT):
                continue
            spec = self._specs.spec(row.spec)
            if spec is None:
                continue
            try:
                self._accept(row, spec, block, standing, is_open)
            except (Refused, RunnerError) as refusal:
                self._store.note(row, str(refusal), refusal.code)

    def _accept(
        self,
        row: LeaseRow,
        spec: LeaseSpec,
        block: BlockRef,
        standing: Standing,
        is_open: Callable[[LeaseRow], bool],
    ) -> None:
        terms, order = row.terms, row.terms.order
        paused = max(0, standing.paused_seconds - terms.paused)
        if block.timestamp > terms.open_until(standing.open_margin, paused):
            raise Refused(Code.NOT_OPEN, "no longer open")
        path = _path(order.allow_root, spec, standing)
        asked = Asked(
            spec=spec,
            term=order.term,
            notice=max(order.notice, spec.notice_seconds),
            ready_within=order.ready_within,
            max_rate=order.max_rate,
            collateral=order.collateral,
            min_stake=order.min_stake,
            min_score=order.min_score,
        )
        refusal = self._policy.refuse(asked, standing)
        if refusal is not None:
            raise refusal
        wanted = self._policy.rate(spec, order.term)
        elapsed = max(0, block.timestamp - terms.posted_at - paused)
        rate = terms.rate_after(elapsed)
        if rate < wanted:
            line = f"offers less than the {wanted} token units per second that it costs here"
            raise Refused(Code.PRICE_TOO_LOW, line, least=str(wanted))
        refusal = self._policy.refuse_collateral(asked, rate, standing)
        if refusal is not None:
            raise refusal
        images = self._images.names(spec, row.requester, patient=False)
        if not is_open(row):
            return
        with self._promises.lock:
            chosen = self._stock.choose(spec)
            if chosen is None:
                raise taken(Resource.DEVICES)
            devices = uuids(chosen)
            found = self._promises.promise(row, spec, devices)
            if not found:
                # Quotes that end soon may be in the way: it is looked at again.
                raise taken(*found.short[:1] or (Resource.SLOTS,))
            self._store.update(row.lease_id, images=images, devices=devices)
            self._store.note(row, "accepting")
            self._attempts.begin(
                row.name,
                ACCEPT,
                self._leases.accept(terms, path or None),
                deadline=terms.open_until(standing.open_margin, paused),
            )


def _path(root: bytes, spec: LeaseSpec, standing: Standing) -> list[bytes]:
    """What shows this provider's place on an order's allow-list; empty where nothing must. Refused
    where it is not on it, or the specification holds another list.
    """
    if root in (ZERO_WORD, standing.only_member_root):
        return []
    if allow_list.root(spec.allow) != root:
        line = "has an allow-list that its specification does not hold; send the complete one"
        raise Refused(Code.LIST_MISMATCH, line)
    if standing.owner not in spec.allow:
        raise Refused(Code.NOT_LISTED, "is for other providers only")
    return allow_list.proof(spec.allow, standing.owner)
