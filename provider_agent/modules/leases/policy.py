# SPDX-License-Identifier: Apache-2.0
"""Which leases are taken, and on what terms: the settings against what is asked for.

`teraproof.protocol.lease_match` reckons, as it does for tenants. What is added here is what only
the provider knows: its shortest term, how many leases it wants, how much collateral it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from provider_agent.core.capacity import Resource
from provider_agent.core.pay import Pay
from provider_agent.modules.leases.chain_view import Standing
from provider_agent.modules.leases.prices import PriceDesk, table
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import Stock
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_match import Candidate, LeaseRequest, refusals
from teraproof.protocol.lease_offer import LeaseOffer
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.protocol.pricing import most_collateral

_DAY = 86_400
_MOST_RATE = 2**80 - 1
_TAKEN = {
    Resource.DEVICES: (Code.DEVICES_TAKEN, "its GPUs are promised now"),
    Resource.MEMORY: (Code.MEMORY_TAKEN, "its memory is promised now"),
    Resource.CPU: (Code.CORES_TAKEN, "its cores are promised now"),
    Resource.DISK: (Code.DISK_TAKEN, "its disk is promised now"),
    Resource.INODES: (Code.DISK_TAKEN, "its disk is promised now"),
    Resource.COLLATERAL: (Code.COLLATERAL_TAKEN, "its stake is promised now"),
    Resource.GAS: (Code.AGENT_NOT_READY, "this provider is short of gas money; try later"),
}
#: What passes by itself: a specification that is refused for it alone may be sent.
_PASSES = {code for code, _ in _TAKEN.values()} | {
    Code.STAKE_MISSING,
    Code.SCORE_MISSING,
    Code.COLLATERAL_TAKEN,
}


def taken(resource: Resource) -> Refused:
    """What a tenant hears when the ledger has too little of something."""
    code, line = _TAKEN.get(resource, (Code.SLOTS_TAKEN, "it is busy now"))
    return Refused(code, line)


@dataclass(frozen=True)
class Asked:
    """What an order or a request for a quote asks for. Seconds; `max_rate` units per second;
    collateral and stake TPF wei, score operations per second.
    """

    spec: LeaseSpec
    term: int
    notice: int
    ready_within: int
    max_rate: int = _MOST_RATE
    collateral: int = 0
    min_stake: int = 0
    min_score: int = 0


class Policy:
    """See the module. Asked from any thread. `promised` is how many leases and quotes there are,
    `checkpoints` whether they are saved here.
    """

    def __init__(
        self,
        settings: LeasesSettings,
        stock: Stock,
        pay: Pay,
        promised: Callable[[], int],
        *,
        checkpoints: bool = False,
    ) -> None:
        self._settings, self._stock, self._pay = settings, stock, pay
        self._promised, self._checkpoints = promised, checkpoints
        self._prices, self._desk = table(settings), PriceDesk(settings, pay.unit)

    def offer(self) -> LeaseOffer:
        """What is published."""
        settings, (first, *others) = self._settings, self._stock.machines()
        return LeaseOffer(
            total=first.total,
            free=first.free,
            prices=self._prices,
            arch=self._stock.arch,
            classes=settings.classes,
            attributes=settings.said,
            outbound=settings.outbound,
            public_ports=settings.public_ports,
            free_ports=self._stock.free_ports(),
            public_names=settings.names_port is not None,
            checkpoints=self._checkpoints,
            most_containers=settings.max_containers,
            most_notice=settings.notice_seconds,
            most_term=settings.max_seconds,
            ready_seconds=settings.ready_seconds,
            others=tuple(others),
        )

    def rate(self, spec: LeaseSpec, seconds: int) -> int:
        """Units of the payment token per second. Refused where there is no price."""
        return self._desk.rate(self.offer(), spec, seconds)

    def show(self, units: int) -> str:
        """An amount of the payment token, for people."""
        return self._pay.show(units)

    def collateral(self, rate: int, standing: Standing) -> int:
        """The most collateral that a lease at this rate may lock, in TPF wei."""
        settings = self._settings
        most = most_collateral(
            settings.collateral_per_token, settings.max_collateral, rate * _DAY, self._pay.unit
        )
        return min(most, standing.per_order)

    def refuse_spec(self, spec: LeaseSpec) -> Refused | None:
        """Why this machine would never run a specification; None when it may some day."""
        settings = self._settings
        if not self._stock.is_known:
            line = "this provider has just started and does not see its machines yet; try again"
            return Refused(Code.AGENT_NOT_READY, line)
        asked = Asked(spec, settings.min_seconds, 0, settings.ready_seconds)
        for refusal in refusals(_request(asked), self._candidate(None), self._pay.unit):
            if refusal.code not in _PASSES:
                return refusal
        return None

    def refuse(self, asked: Asked, standing: Standing | None) -> Refused | None:
        """Why such a lease is not taken now; None when it is."""
        if standing is None or not standing.operator_is_ours:
            line = "this provider is not registered on chain yet; try later"
            return Refused(Code.NOT_REGISTERED, line)
        if standing.orders_paused:
            return Refused(Code.ORDERS_PAUSED, "new orders are paused; try later")
        least = max(self._settings.min_seconds, standing.grace + 1, asked.notice)
        if asked.term < least:
            line = f"{asked.term} s are too short; rent for {least} s or more"
            return Refused(Code.DURATION_TOO_SHORT, line, least=least)
        if asked.ready_within + asked.term > standing.longest:
            most = standing.longest - asked.ready_within
            line = f"{asked.term} s are too long; no collateral can be locked beyond {most} s"
            return Refused(Code.LIMIT_EXCEEDED, line, field="term", limit=most)
        if self._promised() >= self._settings.max_leases:
            return Refused(Code.SLOTS_TAKEN, "it has as many leases as it wants; try later")
        return next(refusals(_request(asked), self._candidate(standing), self._pay.unit), None)

    def refuse_collateral(self, asked: Asked, rate: int, standing: Standing) -> Refused | None:
        """Why an order's collateral is too much at a rate."""
        if asked.collateral > self.collateral(rate, standing):
            line = "asks for more collateral than this provider gives at that price"
            return Refused(Code.COLLATERAL_OVER_PRICE, line)
        return None

    def _candidate(self, standing: Standing | None) -> Candidate:
        # Without a standing only what never fits counts.
        return Candidate(
            owner="" if standing is None else standing.owner,
            stake=0 if standing is None else standing.active_stake,
            free_score=0 if standing is None else standing.free_score,
            lockable=0 if standing is None else standing.available,
            most_collateral=0 if standing is None else standing.per_order,
            offer=self.offer(),
        )


def _request(asked: Asked) -> LeaseRequest:
    return LeaseRequest(
        spec=asked.spec,
        max_rate=asked.max_rate,
        ready_within=asked.ready_within,
        term=asked.term,
        notice=asked.notice,
        collateral=asked.collateral,
        min_stake=asked.min_stake,
        min_score=asked.min_score,
    )
