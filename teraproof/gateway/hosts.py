# SPDX-License-Identifier: Apache-2.0
"""The hosts that a gateway knows: what they offer, how they have done, and who is out for now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from teraproof.amounts import show_units
from teraproof.errors import LocalError
from teraproof.names import http_url
from teraproof.protocol.inference import InferenceOffer, Model
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.protocol.x402 import network
from teraproof.storage.reach import Reach
from teraproof.storage.uris import parse

_FIRST_PAUSE = 5.0  # seconds that a host is left out after its first failure
_LONGEST_PAUSE = 600.0
_WEIGHT = 0.2  # of the newest measurement
_FADES = 0.98  # what an earlier answer counts after one more
_PRIOR = 8.0  # answers that a new host is credited with
_MOST_HOSTS = 4_096
_MOST_MODELS = 256  # of one host
_MOST_MEASURED = 16_384  # hosts of models; more only where all of them are here
_MOST = 1e12  # of a number that was measured
_MOST_WORD = 256  # characters of a name
_MOST_TOKENS = 10**9  # of a context, an answer or a template


@dataclass(frozen=True)
class Demands:
    """What a host must say of itself before it is paid.

    `chain_id`, `channels` and `token` are where the market's money is. Delays are seconds, deposits
    units of the token; None: any.
    """

    chain_id: int
    channels: str
    token: str
    decimals: int
    max_withdraw_delay: int
    max_min_deposit: int | None = None


@dataclass(frozen=True)
class Host:
    """A provider of models: `owner` as the chain knows it, and the operator who signs for it."""

    owner: str
    operator: str
    offer: InferenceOffer

    @property
    def url(self) -> str:
        """Where its API is, without a slash at the end."""
        return self.offer.url.rstrip("/")

    def model(self, name: str) -> Model | None:
        """Its model of this name."""
        return next((one for one in self.offer.models if one.name == name), None)

    def check(self, demands: Demands) -> None:
        """LocalError when it cannot be paid, with the reason."""
        offer = self.offer
        http_url(offer.url, "url")
        place = Reach.of_strangers(plain=True).check(parse(offer.url))
        if place.query:
            raise LocalError("its url has a query")
        for name, said, wanted in (
            ("network", offer.network, network(demands.chain_id)),
            ("channels", offer.channels, demands.channels),
            ("token", offer.token, demands.token),
            ("decimals", offer.decimals, demands.decimals),
            ("receiver_authorizer", offer.authorizer, self.operator),
        ):
            if said != wanted:
                raise LocalError(f"its {name} is {said}, and the chain says {wanted}")
        if offer.receiver == ZERO_ADDRESS:
            raise LocalError("its receiver is the zero address")
        if not 900 <= offer.withdraw_delay <= demands.max_withdraw_delay:
            raise LocalError(
                f"it could keep a deposit for {offer.withdraw_delay} s, and at most "
                f"{demands.max_withdraw_delay} s are allowed (pay.max_withdraw_delay_seconds)"
            )
        most = demands.max_min_deposit
        if most is not None and offer.min_deposit > most:
            wanted, allowed = (
                show_units(units, demands.decimals) for units in (offer.min_deposit, most)
            )
            raise LocalError(
                f"it wants a deposit of {wanted} at least, and {allowed} are allowed "
                "(pay.max_min_deposit)"
            )
        if len(offer.models) > _MOST_MODELS:
            raise LocalError(f"it lists more than {_MOST_MODELS} models")
        words = [offer.token_name, offer.token_version]
        for model in offer.models:
            if max(model.context, model.max_completion, model.overhead) > _MOST_TOKENS:
                raise LocalError(f"a model of it has more than {_MOST_TOKENS:,} tokens")
            words += (model.name, model.quantization, *model.parameters)
        if not all(word.isprintable() and len(word) <= _MOST_WORD for word in words):
            raise LocalError("a name in its offer is too long, or cannot be shown")


@dataclass
class Measured:
    """What live traffic has shown of one host and model; None: nothing yet."""

    latency: float | None = None
    """Seconds from the request to the first content."""
    throughput: float | None = None
    """Tokens per second behind the first content."""
    good: float = 0.0
    total: float = 0.0

    def answered(self, latency: float, throughput: float | None) -> None:
        """An answer came whole."""
        self.latency = _blend(self.latency, latency)
        if throughput is not None:
            # What is kept must be read again: a host may bill any number of tokens.
            self.throughput = _blend(self.throughput, min(throughput, _MOST / 2))
        self._count(1.0)

    def failed(self) -> None:
        """No answer came, or a part of one."""
        self._count(0.0)

    @property
    def reliability(self) -> float:
        """The share of requests that it is expected to answer, above 0."""
        return (self.good + _PRIOR) / (self.total + _PRIOR)

    @classmethod
    def from_json(cls, value: Any) -> Measured:
        """From the four numbers. ValueError for anything else."""
        latency, throughput, good, total = value
        fits = all(
            isinstance(each, int | float) and not isinstance(each, bool) and 0 <= each < _MOST
            for each in (latency or 0, throughput or 0, good, total)
        )
        if not fits:
            raise ValueError("not what was measured")
        return cls(latency, throughput, good, total)

    def _count(self, good: float) -> None:
        self.good = self.good * _FADES + good
        self.total = self.total * _FADES + 1.0


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _bounded(
    found: dict[_Key, _Value], is_known: Callable[[_Key], bool], most: int
) -> dict[_Key, _Value]:
    """As it is, or if that is too much, with the newest of those that are not known now."""
    if len(found) <= most:
        return found
    others = [key for key in found if not is_known(key)]
    kept = {*others[len(found) - most :]}
    return {key: value for key, value in found.items() if is_known(key) or key in kept}


def _blend(before: float | None, now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)


@dataclass
class _Out:
    until: float = 0.0
    failures: int = 0


class Quality(Protocol):
    """What is known of how well a host serves a model, beyond whether it answers."""

    def share(self, owner: str, model: str) -> float:
        """The share of its answers that are expected to be as they should, 0 to 1. With 0 the host
        is not asked for this model.
        """
        ...


class Unexamined:
    """Nothing is known of anybody."""

    def share(self, owner: str, model: str) -> float:
        """All of them."""
        return 1.0


@dataclass
class Hosts:
    """All hosts, what was measured of them, and who is left out. For one thread."""

    clock: Callable[[], float] = time.monotonic
    quality: Quality = field(default_factory=Unexamined)
    #: Owner -> why it is not used any more, until a person says otherwise.
    dropped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known: Mapping[str, Host] = {}
        self._measured: dict[tuple[str, str], Measured] = {}
        self._out: dict[str, _Out] = {}

    def replace(self, hosts: Iterable[Host]) -> None:
        """These are all that there are now. What was learned of others stays: who goes away for a
        while does not come back clean.
        """
        self._known = {host.owner: host for host in list(hosts)[:_MOST_HOSTS]}
        self._out = _bounded(self._out, lambda owner: owner in self._known, _MOST_HOSTS)
        self._measured = _bounded(self._measured, lambda key: self._serves(*key), _MOST_MEASURED)

    def _serves(self, owner: str, model: str) -> bool:
        return owner in self._known and self._known[owner].model(model) is not None

    def every(self) -> list[Host]:
        """All that may be used, those that are out for now included."""
        return [host for host in self._known.values() if host.owner not in self.dropped]

    def host(self, owner: str) -> Host | None:
        """The host of this owner, also a dropped one."""
        return self._known.get(owner)

    def offering(self, model: str) -> list[tuple[Host, Model]]:
        """Who serves a model."""
        found = ((host, host.model(model)) for host in self.every())
        return [(host, one) for host, one in found if one is not None]

    def measured(self, owner: str, model: str) -> Measured:
        """What was measured so far, to be added to."""
        return self._measured.setdefault((owner, model), Measured())

    def seen(self, owner: str, model: str) -> Measured:
        """The same, where nothing changes by the question."""
        return self._measured.get((owner, model)) or Measured()

    def is_out(self, owner: str) -> bool:
        """Whether it is left out for now."""
        return self._out.get(owner, _Out()).until > self.clock()

    def out_for(self, owner: str) -> float:
        """Seconds for which it is left out, 0 if it is not."""
        return max(0.0, self._out.get(owner, _Out()).until - self.clock())

    def exclude(self, owner: str) -> float:
        """It failed: leave it out, each time twice as long. The seconds."""
        out = self._out.setdefault(owner, _Out())
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(out.failures, 16))
        out.failures += 1
        out.until = self.clock() + pause
        return pause

    # ------------------------------------------------------------------ for the store

    def paused(self, owner: str) -> tuple[int, int] | None:
        """How often it has failed in a row, and the seconds for which it is left out; None: it has
        not failed.
        """
        out = self._out.get(owner)
        return None if out is None else (out.failures, round(self.out_for(owner)))

    def remember(self, owner: str, model: str, measured: Measured) -> None:
        """What an earlier gateway has measured."""
        self._measured[owner, model] = measured

    def remember_failures(self, owner: str, failures: int, seconds: int) -> None:
        """What an earlier gateway has seen fail."""
        until = self.clock() + min(seconds, _LONGEST_PAUSE)
        self._out[owner] = _Out(until, failures)

    def forget(self, owner: str, model: str) -> None:
        """Begin again with a host."""
        self._measured.pop((owner, model), None)
        self._out.pop(owner, None)

    def readmit(self, owner: str) -> None:
        """It answered: its failures are forgotten."""
        self._out.pop(owner, None)
