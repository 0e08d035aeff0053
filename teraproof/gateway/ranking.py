# SPDX-License-Identifier: Apache-2.0
"""Which hosts may serve a request, and in which order they are tried. Pure.

Without a `sort` the first is the host with the lowest expected price of a good answer: its price
for this request, divided by the share of requests that it answers, and by the share of answers
that are as they should. Of two that cost the same the faster one goes first. A host that was not
measured counts as fast, so each is tried once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.preferences import Preferences
from teraproof.protocol.errors import one_line
from teraproof.protocol.inference import PER, Model

#: Fields of a request that say something about the request itself, and not about the answer.
_OURS = frozenset(
    ("model", "models", "provider", "messages", "prompt", "input", "stream", "user", "usage")
)
_PLAIN = frozenset(("stream_options", "metadata", "store", "n", "max_tokens"))
_MOST_REASONS = 4  # that one line names
_BYTES_OF_TOKEN = 4  # about what a token of prose takes; for estimates of prices alone
_USUAL_COMPLETION = 256  # tokens of an answer whose length nobody limits


@dataclass(frozen=True)
class Candidate:
    """A host and the model that it would serve."""

    host: Host
    model: Model


@dataclass(frozen=True)
class Wish:
    """What is to be served: `kind` as in `protocol.inference.PATHS`, tokens as estimates."""

    kind: str
    prompt_tokens: int
    completion_tokens: int
    parameters: frozenset[str]
    """Of the request, that a host may know or not."""

    @classmethod
    def of(cls, kind: str, body: Mapping[str, Any], size: int) -> Wish:
        """From a request's body with its size in bytes."""
        limit = completion_limit(body)
        completion = _USUAL_COMPLETION if limit is None else min(limit, _USUAL_COMPLETION)
        return cls(
            kind=kind,
            prompt_tokens=max(1, size // _BYTES_OF_TOKEN),
            completion_tokens=0 if kind == "embeddings" else completion,
            parameters=frozenset(body) - _OURS - _PLAIN,
        )


def completion_limit(body: Mapping[str, Any]) -> int | None:
    """Tokens that a request allows its answer, by any of the names that the API has for it."""
    found = [
        value
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")
        if isinstance(value := body.get(name), int) and not isinstance(value, bool) and value > 0
    ]
    return min(found) if found else None


@dataclass(frozen=True)
class Search:
    """Hosts for one request. `only` and `ignore` are those of gateway.toml, as `sort` is: a request
    can narrow them and not widen them.
    """

    hosts: Hosts
    wish: Wish
    wanted: Preferences
    decimals: int
    only: Sequence[str] = ()
    ignore: Sequence[str] = ()

    def candidates(self, sort: str | None = None) -> list[Candidate]:
        """Who is tried, first to last. Hosts that are out for now come last, as the last resort."""
        hosts, wanted = self.hosts, self.wanted
        found: list[Candidate] = []
        for name in wanted.models:
            able = [one for one in self._offering(name) if not self.bar(one)]
            found += _ordered(hosts, able, self.wish, wanted, sort)
        found.sort(key=lambda one: hosts.is_out(one.host.owner))
        # Without fallbacks a host may be named alone, or a list of them that is tried in its order.
        return found if wanted.allow_fallbacks or wanted.order else found[:1]

    def reasons(self) -> str:
        """Why no host of any of the models may serve a request: each reason with how many hosts
        have it, the most frequent first. "" where nobody serves the models at all.
        """
        counts = Counter(
            self.bar(one) for name in self.wanted.models for one in self._offering(name)
        )
        ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        said = [f"{count} {why}" for why, count in ranked[:_MOST_REASONS]]
        more = len(ranked) - len(said)
        return "; ".join(said + ([f"{more} more reasons"] if more else []))

    def bar(self, one: Candidate) -> str:
        """Why a host may not serve the request: the first reason, said of hosts that are counted;
        "" where there is none.
        """
        owner, model, wish, wanted = one.host.owner, one.model, self.wish, self.wanted
        if wish.kind not in model.kinds:
            return f"with {', '.join(model.kinds)}, and no {wish.kind}"
        if owner in self.ignore or (self.only and owner not in self.only):
            return "left out by gateway.toml"
        if owner in wanted.ignore:
            return "left out by provider.ignore"
        if wanted.only and owner not in wanted.only:
            return "not named by provider.only"
        if wanted.order and not wanted.allow_fallbacks and owner not in wanted.order:
            return "not named by provider.order, and without provider.allow_fallbacks"
        if wanted.require_parameters and (lacks := sorted(wish.parameters - set(model.parameters))):
            return f"without the parameter {one_line(lacks[0], 60)}"
        quantization = model.quantization.lower() or "unknown"
        if wanted.quantizations and quantization not in wanted.quantizations:
            return f"with the quantization {one_line(quantization, 60)}"
        unit, most, prices = Decimal(10) ** self.decimals, wanted.max_price, model.prices
        for name in ("prompt", "completion", "request"):
            limit, price = getattr(most, name), getattr(prices, name)
            if limit is not None and price > limit * unit:
                return f"above provider.max_price.{name}"
        if self.hosts.quality.share(owner, model.name) <= 0:
            return "with answers that differ from those of others"
        return ""

    def _offering(self, name: str) -> Iterator[Candidate]:
        return (Candidate(host, model) for host, model in self.hosts.offering(name))


def _ordered(
    hosts: Hosts, able: Sequence[Candidate], wish: Wish, wanted: Preferences, sort: str | None
) -> list[Candidate]:
    if len(able) < 2:
        return [*able]
    by = wanted.sort or sort

    def key(one: Candidate) -> tuple[Any, ...]:
        seen = hosts.seen(one.host.owner, one.model.name)
        price = expected_price(one.model, wish)
        latency = 0.0 if seen.latency is None else seen.latency
        if by == "price":
            rank: tuple[Any, ...] = (price, latency)
        elif by == "latency":
            rank = (latency, price)
        elif by == "throughput":
            rank = (seen.throughput is not None, -(seen.throughput or 0.0), price)
        else:
            share = hosts.quality.share(one.host.owner, one.model.name)
            rank = (price / (seen.reliability * share), latency)
        return (_named(one, wanted), _slow(hosts, one, wanted), *rank, one.host.owner)

    return sorted(able, key=key)


def _named(one: Candidate, wanted: Preferences) -> int:
    """Its place in `order`; behind all of them when it is not there."""
    owner = one.host.owner
    return wanted.order.index(owner) if owner in wanted.order else len(wanted.order)


def _slow(hosts: Hosts, one: Candidate, wanted: Preferences) -> bool:
    """Whether it was measured, and is not as is preferred."""
    seen = hosts.seen(one.host.owner, one.model.name)
    least, most = wanted.min_throughput, wanted.max_latency
    below = least is not None and seen.throughput is not None and seen.throughput < least
    late = most is not None and seen.latency is not None and seen.latency > most
    return below or late


def expected_price(model: Model, wish: Wish) -> float:
    """Units of the token that a request is expected to cost there."""
    tokens = (
        wish.prompt_tokens * model.prices.prompt + wish.completion_tokens * model.prices.completion
    )
    return tokens / PER + model.prices.request
