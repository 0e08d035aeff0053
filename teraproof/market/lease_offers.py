# SPDX-License-Identifier: Apache-2.0
"""Who would take a lease, at what price, and why not: asked before any money moves.

What the chain says of a provider is joined with what its agent publishes, and matched by the same
rules as the agent's (`lease_match`). An agent may still decide otherwise; a quote binds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from teraproof.amounts import units
from teraproof.client.leases import AskedOffer, ask_all
from teraproof.contracts.leases import Accepted, Closed
from teraproof.errors import CommandError, Refused, WrongInput, counted
from teraproof.market import providers
from teraproof.market.lease_prices import decimal, hour_of, show_hour
from teraproof.market.leases import contract, unit_of
from teraproof.market.market import Market
from teraproof.market.providers import Provider
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.lease_match import Candidate, LeaseRequest, refusals
from teraproof.protocol.lease_offer import LeaseOffer
from teraproof.protocol.lease_terms import Ending
from teraproof.storage.reach import Reach

_GIB = 1 << 30
_ABSENT = AskedOffer("", None, "announces no endpoint")
_FAULTS = (Ending.NOT_READY, Ending.BY_PROVIDER, Ending.ABANDONED)
_WORD = 60
#: What a provider says of itself, by Akash's names of attributes.
REGION = ("region", "location-region")
BANDWIDTH = ("bandwidth", "network-speed-down")


@dataclass(frozen=True)
class Record:
    """How the leases of a provider have ended, by the chain alone."""

    taken: int = 0
    failed: int = 0
    """Not ready in time, left without notice, or silent for too long."""

    @property
    def reliability(self) -> Fraction | None:
        """The part that did not fail; None for a provider without any."""
        return Fraction(self.taken - self.failed, self.taken) if self.taken else None

    def __str__(self) -> str:
        """For people."""
        if not self.taken:
            return "no leases yet"
        return f"{float(self.reliability or 0):.0%} of {counted(self.taken, 'lease')}"


@dataclass(frozen=True)
class Filters:
    """What a tenant wants beyond its file. None is anything."""

    vram: int | None = None
    """Bytes of memory, of each GPU."""
    interconnect: str | None = None
    """How the GPUs are connected: `sxm` or `pcie`."""
    bandwidth: int | None = None
    """Megabits per second, as the provider says it."""
    region: str | None = None
    reliability: Fraction | None = None
    max_rate: int | None = None
    """Payment token units per second."""

    def refusals(self, offer: LeaseOffer, record: Record, rate: int | None) -> Iterator[Refused]:
        """What a provider lacks of it, in the order of the fields."""
        gpus = [gpu for one in offer.machines for gpu in offer.for_rent(one.total)]
        if self.vram is not None and not any((g.memory_bytes or 0) >= self.vram for g in gpus):
            line = f"has no GPU for rent with {self.vram / _GIB:g} GiB"
            yield Refused(Code.MACHINE_UNFIT, line, wanted="vram")
        if self.interconnect and not any(g.interface == self.interconnect for g in gpus):
            line = f"has no {self.interconnect} GPU for rent"
            yield Refused(Code.MACHINE_UNFIT, line, wanted="interconnect")
        if self.bandwidth is not None and _number(_said(offer, BANDWIDTH)) < self.bandwidth:
            said = one_line(_said(offer, BANDWIDTH), _WORD)
            shown = f"says a bandwidth of {said}" if said else "does not say its bandwidth"
            line = f"{shown}, and {self.bandwidth} Mbit/s are asked for"
            yield Refused(Code.ATTRIBUTE_MISSING, line, attribute=BANDWIDTH[0])
        if self.region and _said(offer, REGION).lower() != self.region.lower():
            said = one_line(_said(offer, REGION), _WORD)
            line = f"is in {said}" if said else "does not say where it is"
            yield Refused(Code.ATTRIBUTE_MISSING, line, attribute=REGION[0])
        if self.reliability is not None and (record.reliability or 0) < self.reliability:
            yield Refused(Code.NOT_LISTED, f"has delivered {record}, and more is asked for")
        if self.max_rate is not None and rate is not None and rate > self.max_rate:
            yield Refused(Code.PRICE_TOO_LOW, "asks more than --max-price", least=str(rate))


def _said(offer: LeaseOffer, names: Sequence[str]) -> str:
    return next((offer.attributes[name] for name in names if name in offer.attributes), "")


def _number(text: str) -> int:
    """A whole number that a stranger says; 0 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0


@dataclass(frozen=True)
class Verdict:
    """What a provider would do with an order, and why not."""

    provider: Provider
    asked: AskedOffer
    record: Record
    rate: int | None
    """Payment token units per second that it asks; None if that is not known."""
    refusals: tuple[Refused, ...]

    @property
    def takes_it(self) -> bool:
        """Whether nothing is known against it."""
        return not self.refusals

    @property
    def why_not(self) -> Refused | None:
        """The first reason."""
        return self.refusals[0] if self.refusals else None


def candidate(provider: Provider, offer: LeaseOffer | None) -> Candidate:
    """A provider as orders are matched with it."""
    return Candidate(
        owner=provider.owner,
        stake=provider.active,
        free_score=provider.free_score,
        lockable=provider.lockable,
        most_collateral=provider.max_lock_per_order,
        offer=offer,
    )


def records(market: Market) -> dict[str, Record]:
    """Owner -> how its leases have ended."""
    start, leases = market.registry.start_block, contract(market)
    taken: dict[str, int] = {}
    failed: dict[str, int] = {}
    for accepted in leases.find(Accepted, start):
        taken[accepted.provider] = taken.get(accepted.provider, 0) + 1
    for closed in leases.find(Closed, start):
        if closed.reason in _FAULTS:
            failed[closed.provider] = failed.get(closed.provider, 0) + 1
    return {owner: Record(count, failed.get(owner, 0)) for owner, count in taken.items()}


def judge(
    provider: Provider,
    asked: AskedOffer,
    record: Record,
    request: LeaseRequest,
    filters: Filters,
    unit: int,
) -> Verdict:
    """One provider's verdict: what the match says first, then what the filters do."""
    offer = asked.offer
    rate = None if offer is None else offer.rate(request.spec, unit)
    found = []
    for refused in refusals(request, candidate(provider, offer), unit):
        if refused.code is Code.AGENT_UNREACHABLE:
            refused = Refused(Code.AGENT_UNREACHABLE, f"its agent {asked.trouble}")
        elif refused.code is Code.PRICE_TOO_LOW and rate is not None:
            refused = Refused(refused.code, f"asks {show_hour(rate, unit)}", **refused.details)
        found.append(refused)
    if offer is not None:
        found += filters.refusals(offer, record, rate)
    return Verdict(provider, asked, record, rate, tuple(found))


def ask_providers(
    market: Market,
    ui: Ui,
    request: LeaseRequest,
    filters: Filters | None = None,
    *,
    known: Sequence[Provider] | None = None,
    asking: Callable[[Mapping[str, str], Reach], Mapping[str, AskedOffer]] = ask_all,
) -> list[Verdict]:
    """All providers' verdicts: those that would take it first, the cheapest of them first."""
    ui.doing("reading the providers")
    found = providers.read_all(market) if known is None else known
    history = records(market)
    urls = {one.owner: one.endpoint for one in found if one.endpoint is not None}
    ui.doing(f"asking {counted(len(urls), 'agent')}")
    answers = asking(urls, market.reach)
    unit = unit_of(market)
    verdicts = [
        judge(
            one,
            answers.get(one.owner, _ABSENT),
            history.get(one.owner, Record()),
            request,
            filters or Filters(),
            unit,
        )
        for one in found
    ]
    return sorted(verdicts, key=lambda v: (not v.takes_it, v.rate is None, v.rate or 0))


def lowest(verdicts: Sequence[Verdict]) -> int | None:
    """The lowest rate at which some provider takes it; None where nobody does."""
    return min((v.rate for v in verdicts if v.takes_it and v.rate is not None), default=None)


def show(market: Market, ui: Ui, verdicts: Sequence[Verdict]) -> None:
    """The table: prices, and for whoever does not take it the first reason."""
    unit = unit_of(market)
    rows = [
        (
            verdict.provider.owner,
            "yes" if verdict.takes_it else "no",
            "" if verdict.rate is None else show_hour(verdict.rate, unit),
            _gpus(verdict.asked.offer),
            str(verdict.record),
            "" if verdict.why_not is None else str(verdict.why_not),
        )
        for verdict in verdicts
    ]
    columns = ("provider", "takes it", "price", "GPUs free", "delivered", "why not")
    ui.table("Who would take it", columns, rows)


def _gpus(offer: LeaseOffer | None) -> str:
    if offer is None:
        return ""
    free = [gpu for one in offer.machines for gpu in offer.for_rent(one.free)]
    names = [one_line(str(gpu), _WORD) for gpu in free]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def require(verdicts: Sequence[Verdict], instead: str) -> None:
    """CommandError (NOBODY_TAKES_IT) when no provider would take it; `instead` says what to do."""
    if any(verdict.takes_it for verdict in verdicts):
        return
    what = "no provider would take the lease now" if verdicts else "no provider is registered"
    raise CommandError(
        f"{what}; nothing was sent: {instead}",
        Code.NOBODY_TAKES_IT,
        providers=[to_json(verdict) for verdict in verdicts],
    )


def to_json(verdict: Verdict, unit: int | None = None) -> dict[str, object]:
    """For documents: the rate in payment token units per second, as text, and with `unit` the price
    in dollars an hour.
    """
    rate, part = verdict.rate, verdict.record.reliability
    found: dict[str, object] = {
        "provider": verdict.provider.owner,
        "endpoint": verdict.provider.endpoint,
        "takes_it": verdict.takes_it,
        "rate": None if rate is None else str(rate),
        "leases": verdict.record.taken,
        "leases_failed": verdict.record.failed,
        "reliability": None if part is None else f"{float(part):.4f}",
        "refusals": [
            {"code": refusal.code.value, "message": str(refusal)} for refusal in verdict.refusals
        ],
    }
    if unit is not None:
        found["usd_per_hour"] = None if rate is None else decimal(hour_of(rate, unit))
    return found


def share(text: str, name: str) -> Fraction:
    """A part of all such as "95 %" or "0.95". WrongInput names `name`."""
    stripped = text.strip()
    percent = stripped.endswith("%")
    found = Fraction(units(stripped.removesuffix("%").strip(), 6, name), 10**6)
    part = found / 100 if percent else found
    if part > 1:
        raise WrongInput(f"{name}: {text} is more than all; write 95 % or 0.95")
    return part
