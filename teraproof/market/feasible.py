# SPDX-License-Identifier: Apache-2.0
"""Who would take a job, at what price, and why not: asked before any money moves.

What the chain says of a provider is joined with what its agent publishes. An agent may still
decide otherwise; a quote binds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from teraproof.amounts import show_rate, show_seconds, show_tpf
from teraproof.client.listing import Asked, Listing, ask_all
from teraproof.errors import CommandError, Refused, counted
from teraproof.market.jury import Bench, bench_of
from teraproof.market.market import Market
from teraproof.market.providers import Provider
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import LEAST_CAPABILITY, Judged, Order
from teraproof.storage.reach import Reach


@dataclass(frozen=True)
class Verdict:
    """What a provider would do. `price` is payment token units that it asks, None if unknown."""

    provider: Provider
    asked: Asked
    price: int | None
    refusals: tuple[Refused, ...]
    takes_from: int | None = None
    """Payment token units from which it takes the order: more than it asks where it puts up so
    much collateral only at a higher price. None without an order, or where it takes none.
    """

    @property
    def least(self) -> int | None:
        """Payment token units below which it would not take it."""
        return self.price if self.takes_from is None else self.takes_from

    @property
    def takes_it(self) -> bool:
        """Whether nothing is known against it."""
        return not self.refusals


def judge(
    market: Market,
    provider: Provider,
    asked: Asked,
    spec: JobSpec,
    order: Order | None = None,
    min_score: int = 0,
    judged: int = Judged.TRUSTED,
    bench: Bench | None = None,
) -> Verdict:
    """One provider's verdict on a specification, and on an order for it if there is one yet; else
    `judged` says how its result would be judged. `bench` are the jurors, where a court judges it.
    """
    found: list[Refused] = []
    price = takes_from = None
    listing = asked.listing
    if listing is None:
        found.append(Refused(Code.AGENT_UNREACHABLE, asked.trouble))
    elif listing.chain_id != market.chain.chain_id or listing.jobs != market.jobs.address:
        found.append(Refused(Code.ANSWER_INVALID, "its agent works for another market"))
    elif listing.owner != provider.owner:
        found.append(Refused(Code.NOT_REGISTERED, "its agent works for another provider"))
    else:
        unit = 10**market.decimals
        price = listing.price(spec, unit)
        found += listing.refuse_spec(spec)
        if order is not None:
            if order.max_price < price:
                line = f"asks {market.show_price(price)}"
                found.append(Refused(Code.PRICE_TOO_LOW, line, least=str(price)))
            best = max(price, order.max_price)
            needed = listing.price_for(order.collateral, unit, order.judged)
            if needed is None or needed > best:
                most = listing.collateral(best, unit, order.judged)
                line = f"puts up at most {show_tpf(most)} at that price"
                found.append(Refused(Code.COLLATERAL_OVER_PRICE, line))
            else:
                takes_from = max(price, needed)
        found += _by_judge(listing, judged if order is None else order.judged)
        if not listing.free_slots:
            which = "its slot is" if listing.slots == 1 else f"its {listing.slots} slots are"
            line = f"{which} taken, or kept for a quote: try again in a minute"
            found.append(Refused(Code.SLOTS_TAKEN, line))
    at = order.max_price if order is not None else price
    without = None if bench is None or at is None else bench.refusal(provider.owner, at)
    if without is not None:
        found.append(without)
    if spec.allow and provider.owner not in spec.allow:
        found.append(Refused(Code.NOT_LISTED, "is not on the list of --allow"))
    if order is not None:
        found += _by_chain(provider, order)
    if provider.free_score < max(min_score, 0 if order is None else order.min_score):
        line = f"has {show_rate(provider.free_score)} free"
        found.append(Refused(Code.SCORE_MISSING, line))
    return Verdict(provider, asked, price, tuple(found), takes_from)


def _by_judge(listing: Listing, judged: int) -> list[Refused]:
    """Whether a provider takes orders that are judged in this way, by what it says."""
    if judged == Judged.REFUSABLE and listing.accepts_refusable is False:
        line = "takes no job that may be refused (its setting `jobs.accept_refusable`)"
        return [Refused(Code.NOT_REFUSABLE, line)]
    if judged > LEAST_CAPABILITY and listing.accepts_judged == "no":
        line = "takes no order that jurors may judge (its setting `jobs.accept_judged`)"
        return [Refused(Code.COURT_REFUSED, line)]
    return []


def _by_chain(provider: Provider, order: Order) -> list[Refused]:
    """What the chain alone tells."""
    found = []
    if provider.active < order.min_stake:
        line = f"has {show_tpf(provider.active)} staked"
        found.append(Refused(Code.STAKE_MISSING, line))
    if provider.lockable < order.collateral:
        line = f"can put up {show_tpf(provider.lockable)} now"
        found.append(Refused(Code.COLLATERAL_TAKEN, line))
    return found


def ask_providers(
    market: Market,
    ui: Ui,
    known: Sequence[Provider],
    spec: JobSpec,
    order: Order | None = None,
    *,
    min_score: int = 0,
    judged: int = Judged.TRUSTED,
    asking: Callable[[Mapping[str, str], Reach], Mapping[str, Asked]] = ask_all,
) -> list[Verdict]:
    """All providers' verdicts: those that would take it first, the cheapest of them first.

    `min_score` and `judged` are for a job without an order: operations per second that must be
    free, and how its result would be judged.
    """
    urls = {one.owner: one.endpoint for one in known if one.endpoint is not None}
    ui.doing(f"asking {counted(len(urls), 'agent')}")
    answers = asking(urls, market.reach)
    bench = bench_of(market, judged if order is None else order.judged)
    verdicts = [
        judge(
            market,
            one,
            answers.get(one.owner) or Asked("", None, "announces no endpoint"),
            spec,
            order,
            min_score,
            judged,
            bench,
        )
        for one in known
    ]
    return sorted(verdicts, key=lambda v: (not v.takes_it, v.least is None, v.least or 0))


def show(market: Market, ui: Ui, verdicts: Sequence[Verdict], order: Order | None = None) -> None:
    """The table; with an order also when its price will be high enough for each."""
    rows = [
        (
            verdict.provider.owner,
            _taken(market, verdict, order),
            "" if verdict.price is None else market.show_price(verdict.price),
            "; ".join(str(refusal) for refusal in verdict.refusals),
        )
        for verdict in verdicts
    ]
    ui.table("Who would take it", ("provider", "takes it", "price", "why not"), rows)
    codes = {one.code for verdict in verdicts for one in verdict.refusals}
    if Code.COURT_REFUSED in codes:
        ui.note("for jurors, ask a provider to name your address in its `jobs.accept_judged`")
    if Code.NOT_REFUSABLE in codes:
        ui.note("for a job that you may refuse, ask a provider to set `jobs.accept_refusable`")


def _taken(market: Market, verdict: Verdict, order: Order | None) -> str:
    least = verdict.takes_from
    if not verdict.takes_it:
        return "no"
    if least is None or order is None or least <= order.start_price:
        return "yes"
    shown = f"yes, from {market.show_price(least)}"
    if least > order.max_price or not order.auction:
        return shown
    # The inverse of `Terms.price_at`, which rounds down.
    rise, climb = least - order.start_price, order.max_price - order.start_price
    return f"{shown} (in {show_seconds(-(-rise * order.auction // climb))})"


def lowest_price(verdicts: Sequence[Verdict]) -> int | None:
    """From which price on some provider would take it; None where nobody would."""
    return min((v.least for v in verdicts if v.takes_it and v.least is not None), default=None)


def require(verdicts: Sequence[Verdict], instead: str = "change the job") -> None:
    """CommandError (NOBODY_TAKES_IT) when no provider would take it; `instead` says what to do.
    NO_JURY when some would, and not enough jurors are left without their own seats.
    """
    if any(verdict.takes_it for verdict in verdicts):
        return
    code = Code.NOBODY_TAKES_IT
    what = "no provider would take the job now" if verdicts else "no provider is registered"
    unjudged = [v for v in verdicts if {one.code for one in v.refusals} == {Code.NO_JURY}]
    if unjudged:
        code = Code.NO_JURY
        what = "no jury can be found for a provider that would take the job"
        instead = (
            f"{unjudged[0].refusals[0]}; wait for jurors, lower the price, or choose --judged "
            "trusted or refusable"
        )
    elif any(all(one.code.retryable for one in verdict.refusals) for verdict in verdicts):
        instead = f"try again in a minute, or {instead}"
    raise CommandError(
        f"{what}; nothing was sent: {instead}",
        code,
        providers=[to_json(verdict) for verdict in verdicts],
    )


def to_json(verdict: Verdict) -> dict[str, object]:
    """For documents; the price is payment token units as text."""
    return {
        "provider": verdict.provider.owner,
        "endpoint": verdict.provider.endpoint,
        "takes_it": verdict.takes_it,
        "price": None if verdict.price is None else str(verdict.price),
        "takes_from": None if verdict.takes_from is None else str(verdict.takes_from),
        "refusals": [
            {"code": refusal.code.value, "message": str(refusal)} for refusal in verdict.refusals
        ],
    }
