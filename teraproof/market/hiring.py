# SPDX-License-Identifier: Apache-2.0
"""Hiring a provider at its price: the tenant agrees first, then the provider binds itself.

A quote holds a slot for a minute. So it is asked for when the tenant has agreed to what the agent
publishes, and not before: whoever declines has held up nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from teraproof.amounts import show_seconds, show_tpf
from teraproof.client.listing import ask
from teraproof.errors import CommandError
from teraproof.market import feasible, jobs, providers, tenant
from teraproof.market.conditions import by_whom
from teraproof.market.feasible import Verdict
from teraproof.market.funds import Funds, Payment, agree
from teraproof.market.jobs import Placed
from teraproof.market.jury import bench_of
from teraproof.market.market import Market
from teraproof.market.packages import Package
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Quote

_PATIENCE = 3_600  # seconds beyond the job's own time after which a deadline is worth a question


@dataclass(frozen=True)
class Wanted:
    """What a provider is hired for."""

    package: Package
    min_score: int = 0
    """Proven throughput that it must have free, operations per second."""
    judged: int = 0
    """How an order says that its result is judged."""
    owner: str | None = None
    """The provider; None: the cheapest that would take the job."""
    endpoint: str | None = None
    """Where its agent is reached; None: as announced."""


@dataclass(frozen=True)
class Terms:
    """What a tenant has agreed to: payment token units, TPF wei, seconds."""

    owner: str
    url: str
    price: int
    collateral: int
    duration: int

    def covers(self, quote: Quote) -> bool:
        """Whether a quote is as good for the tenant, or better."""
        return (
            quote.price <= self.price
            and quote.collateral >= self.collateral
            and quote.duration <= self.duration
        )


@dataclass(frozen=True)
class Hired:
    """A job that a provider has to do."""

    placed: Placed
    quote: Quote
    url: str


def hire(market: Market, sender: Sender, ui: Ui, wanted: Wanted, funds: Funds) -> Hired:
    """Choose a provider, have the tenant agree to its terms, and hire it by its quote.

    The tenant is asked again when the quote is worse than what was agreed to. CommandError when
    nobody would take the job, and for what the provider refuses.
    """
    verdict = _choose(market, ui, wanted)
    terms = _terms(market, verdict, wanted)
    ui.table(
        f"Hire {terms.owner} for {sender.address}",
        ("what", "value"),
        [
            ("price", market.show_price(terms.price)),
            ("collateral", f"at least {show_tpf(terms.collateral)}"),
            ("time to deliver", f"at most {show_seconds(terms.duration)}"),
            ("judged", by_whom(wanted.judged)),
        ],
    )
    agreed = agree(market, sender, ui, Payment("hire", "in escrow", terms.price), funds)
    ui.doing(f"asking {terms.url} for a price")
    quote, signature = tenant.quote(
        market, sender.signer, wanted.package, terms.url, terms.owner, wanted.judged
    )
    good = terms.covers(quote)
    if not good:
        ui.note(f"{terms.url} binds itself to other terms than it publishes")
    placed = jobs.hire(market, sender, ui, quote, signature, funds, agreed=agreed if good else None)
    return Hired(placed, quote, terms.url)


def _choose(market: Market, ui: Ui, wanted: Wanted) -> Verdict:
    spec = wanted.package.spec
    if wanted.endpoint is not None:
        verdicts = [_at(market, ui, wanted.endpoint, wanted)]
    else:
        ui.doing("reading the providers")
        known = (
            providers.read_all(market)
            if wanted.owner is None
            else [providers.read(market, wanted.owner)]
        )
        verdicts = feasible.ask_providers(
            market, ui, known, spec, min_score=wanted.min_score, judged=wanted.judged
        )
    if verdicts:
        feasible.show(market, ui, verdicts)
    # A slot may be kept for a quote of ours: the agent gives the same again.
    held = next((verdict for verdict in verdicts if _is_held(verdict)), None)
    if held is None or any(verdict.takes_it for verdict in verdicts):
        feasible.require(verdicts)
        return verdicts[0]
    return held


def _is_held(verdict: Verdict) -> bool:
    return {one.code for one in verdict.refusals} == {Code.SLOTS_TAKEN}


def _at(market: Market, ui: Ui, url: str, wanted: Wanted) -> Verdict:
    """The verdict of the agent at a URL, whoever's it is."""
    ui.doing(f"asking {url}")
    asked = ask(url, market.reach)
    if asked.listing is None:
        raise CommandError(f"{url} {asked.trouble}", Code.AGENT_UNREACHABLE)
    owner = wanted.owner or asked.listing.owner
    if owner is None or not providers.is_registered(market, owner):
        raise CommandError(
            f"{url} quotes for no registered provider; nothing was sent", Code.NOT_REGISTERED
        )
    return feasible.judge(
        market,
        providers.read(market, owner, url),
        asked,
        wanted.package.spec,
        min_score=wanted.min_score,
        judged=wanted.judged,
        bench=bench_of(market, wanted.judged),
    )


def _terms(market: Market, verdict: Verdict, wanted: Wanted) -> Terms:
    listing, provider = verdict.asked.listing, verdict.provider
    url = wanted.endpoint or provider.endpoint
    assert listing is not None and verdict.price is not None and url is not None  # it answered
    most = listing.collateral(verdict.price, 10**market.decimals, wanted.judged)
    bound = market.benchmark.proof_of(provider.owner, "latest").bond_until
    kept = 0 if bound else market.benchmark.bond("latest")  # an agent keeps it for its next proof
    return Terms(
        owner=provider.owner,
        url=url,
        price=verdict.price,
        collateral=min(most, max(0, provider.lockable - kept)),
        duration=wanted.package.spec.timeout_seconds + _PATIENCE,
    )
