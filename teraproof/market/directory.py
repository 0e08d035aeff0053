# SPDX-License-Identifier: Apache-2.0
"""The providers of a market as tenants choose among them: what the chain says, and their agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_rate, show_tpf
from teraproof.client.listing import Asked, Device, Listing, ask_all
from teraproof.market import providers
from teraproof.market.market import Market
from teraproof.market.providers import Provider
from teraproof.market.ui import Ui
from teraproof.storage.reach import Reach

_GIB = 1 << 30
_ABSENT = Asked("", None, "announces no endpoint")


@dataclass(frozen=True)
class Listed:
    """A provider, and what its agent answered."""

    provider: Provider
    asked: Asked

    @property
    def listing(self) -> Listing | None:
        """What its agent offers; None when it does not answer, or works for somebody else."""
        found = self.asked.listing
        return found if found is not None and found.owner == self.provider.owner else None

    @property
    def online(self) -> str:
        """For people: "yes", or why not."""
        if self.listing is not None:
            return "yes"
        return self.asked.trouble or "its agent works for another provider"


def _least_first(one: Listed) -> tuple[bool, Any]:
    price = None if one.listing is None else one.listing.price_per_hour
    return price is None, price or 0


#: How a list may be sorted: what people want most comes first.
SORTS: Mapping[str, Callable[[Listed], Any]] = {
    "price": _least_first,
    "throughput": lambda one: -one.provider.free_score,
    "stake": lambda one: -one.provider.active,
    "commission": lambda one: one.provider.commission_bps,
}


def read(
    market: Market,
    ui: Ui,
    *,
    asking: Callable[[Mapping[str, str], Reach], Mapping[str, Asked]] = ask_all,
) -> list[Listed]:
    """All providers, with the answers of their agents."""
    ui.doing("reading the providers")
    known = providers.read_all(market)
    ui.doing("asking their agents")
    urls = {one.owner: one.endpoint for one in known if one.endpoint is not None}
    answers = asking(urls, market.reach)
    return [Listed(one, answers.get(one.owner, _ABSENT)) for one in known]


def chosen(
    listed: Sequence[Listed], *, sort: str = "price", gpu: str = "", runtime: str = ""
) -> list[Listed]:
    """Those with a GPU whose name holds `gpu` and with the runtime, as far as either is given."""
    found = [
        one
        for one in listed
        if (not gpu or any(gpu.lower() in d.name.lower() for d in _gpus(one)))
        and (not runtime or (one.listing is not None and runtime in one.listing.runtimes))
    ]
    return sorted(found, key=SORTS[sort])


def _gpus(one: Listed) -> tuple[Device, ...]:
    return () if one.listing is None else one.listing.gpus


def show(market: Market, listed: Sequence[Listed], ui: Ui) -> None:
    """Two tables: what is for sale, and what stands behind it."""
    offered = [(one.provider.owner, *_offer(market, one.listing), one.online) for one in listed]
    for_sale = ("provider", "per hour", "devices", "memory", "runtimes", "slots free", "online")
    ui.table("Providers", for_sale, offered)
    behind = [
        (
            one.provider.owner,
            show_rate(one.provider.score),
            show_rate(one.provider.free_score),
            show_tpf(one.provider.active),
            show_tpf(one.provider.lockable),
            f"{one.provider.commission_bps / 100:g} %",
        )
        for one in listed
    ]
    columns = ("provider", "throughput", "free", "stake", "collateral per job", "commission")
    ui.table("Throughput (INT8) and stake", columns, behind)


def _offer(market: Market, listing: Listing | None) -> tuple[str, ...]:
    if listing is None:
        return ("", "", "", "", "")
    return (
        f"{listing.price_per_hour:f} {market.symbol}",
        ", ".join(_counted([device.name for device in listing.devices])),
        f"{listing.limits['memory_mb']:,} MiB"
        + "".join(f", GPU {device.memory_bytes / _GIB:.0f} GiB" for device in listing.gpus[:1]),
        ", ".join(listing.runtimes),
        f"{listing.free_slots} of {listing.slots}",
    )


def _counted(names: Sequence[str]) -> list[str]:
    """Equal names once, with their number."""
    return [
        name if names.count(name) == 1 else f"{names.count(name)} x {name}"
        for name in dict.fromkeys(names)
    ]


def to_json(one: Listed) -> dict[str, Any]:
    """For documents: `providers.to_json`, and the offer; rates are whole tokens as text."""
    listing = one.listing
    offer = None
    if listing is not None:
        offer = {
            "price_per_hour": f"{listing.price_per_hour:f}",
            "min_price": f"{listing.min_price:f}",
            "runtimes": list(listing.runtimes),
            "max_seconds": listing.max_seconds,
            "limits": dict(listing.limits),
            "slots": listing.slots,
            "slots_free": listing.free_slots,
            "devices": [
                {"kind": d.kind, "name": d.name, "memory_bytes": d.memory_bytes}
                for d in listing.devices
            ],
            "sandbox": listing.sandbox,
        }
    return {
        **providers.to_json(one.provider),
        "online": listing is not None,
        "trouble": "" if listing is not None else one.online,
        "offer": offer,
    }
