# SPDX-License-Identifier: Apache-2.0
"""What a request says about hosts: the `provider` object and `models` of OpenRouter's API.

Each field is obeyed or refused by its name. A field that was quietly left out could cost its
author money, or send its text where it must not go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.terms import address

_SORTS = ("price", "latency", "throughput")
_MOST_NAMES = 64
_MOST_MODELS = 16
_DIGITS = 30
# A provider may keep what it reads, and nobody can check that: a promise would be a lie.
_UNKEPT = {
    "zdr": "no provider can prove that it keeps nothing; leave `provider.zdr` out",
    "enforce_distillable_text": "no provider states it; leave it out",
}
_KNOWN = frozenset(
    (
        "order",
        "only",
        "ignore",
        "allow_fallbacks",
        "require_parameters",
        "data_collection",
        "quantizations",
        "sort",
        "max_price",
        "preferred_min_throughput",
        "preferred_max_latency",
        *_UNKEPT,
    )
)


@dataclass(frozen=True)
class MaxPrice:
    """Highest prices: whole tokens for a million tokens of text, and for a request; None: any."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None


@dataclass(frozen=True)
class Preferences:
    """What one request wants of its host. Providers are owner addresses."""

    models: tuple[str, ...]
    """In the order in which they are tried; the first is the one that was asked for."""
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    quantizations: tuple[str, ...] = ()
    sort: str | None = None
    max_price: MaxPrice = field(default_factory=MaxPrice)
    min_throughput: float | None = None
    """Tokens per second that are preferred."""
    max_latency: float | None = None
    """Seconds to the first content that are preferred."""


def read(body: Mapping[str, Any], names: Mapping[str, str]) -> Preferences:
    """The preferences of a request's body. Refused names the field that cannot be honoured."""
    models = _models(body)
    _check_usage(body.get("usage"))
    said = body.get("provider")
    if said is None:
        return Preferences(models)
    if not isinstance(said, dict):
        raise _wrong("provider", "an object")
    for name in said:
        if name not in _KNOWN:
            raise _unfit(f"provider.{one_line(name, 60)}", "this field is not known here")
    for name, why in _UNKEPT.items():
        if said.get(name):
            raise _unfit(f"provider.{name}", why)
    if said.get("data_collection", "allow") != "allow":
        why = "no provider can prove that it keeps nothing; only `allow` can be honoured"
        raise _unfit("provider.data_collection", why)
    return Preferences(
        models=models,
        order=_providers(said, "order", names),
        only=_providers(said, "only", names),
        ignore=_providers(said, "ignore", names),
        allow_fallbacks=_flag(said, "allow_fallbacks", True),
        require_parameters=_flag(said, "require_parameters", False),
        quantizations=tuple(each.lower() for each in _texts(said, "quantizations")),
        sort=_sort(said),
        max_price=_max_price(said),
        min_throughput=_preferred(said, "preferred_min_throughput"),
        max_latency=_preferred(said, "preferred_max_latency"),
    )


def _check_usage(said: object) -> None:
    """Usage and its cost are always told, so whoever asks for them is obeyed."""
    if said is not None and said not in ({}, {"include": True}):
        raise _unfit("usage", "only include: true can be honoured; each answer tells its cost")


def _models(body: Mapping[str, Any]) -> tuple[str, ...]:
    first, more = body.get("model"), body.get("models")
    if more is None:
        more = []
    if not isinstance(more, list) or not all(isinstance(one, str) and one for one in more):
        raise _wrong("models", "a list of names")
    if first is None and more:
        first = more[0]
    if not isinstance(first, str) or not first:
        raise _wrong("model", "a model's name; GET /v1/models lists them")
    found = tuple(dict.fromkeys([first, *more]))
    if len(found) > _MOST_MODELS:
        raise _wrong("models", f"a list of at most {_MOST_MODELS} names")
    return found


def _providers(said: Mapping[str, Any], name: str, names: Mapping[str, str]) -> tuple[str, ...]:
    found = []
    for one in _texts(said, name):
        if one in names:
            found.append(names[one])
            continue
        try:
            found.append(address(f"provider.{name}", one))
        except LocalError:
            raise _unfit(
                f"provider.{name}",
                f"{one_line(one, 60)!r} is neither a provider's address nor a name of gateway.toml",
            ) from None
    return tuple(dict.fromkeys(found))


def _texts(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = said.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(f"provider.{name}", "a list of texts")
    if len(value) > _MOST_NAMES:
        raise _wrong(f"provider.{name}", f"a list of at most {_MOST_NAMES} texts")
    return tuple(value)


def _flag(said: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = said.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise _wrong(f"provider.{name}", "true or false")
    return value


def _sort(said: Mapping[str, Any]) -> str | None:
    value = said.get("sort")
    if isinstance(value, dict):
        if set(value) - {"by"}:
            raise _unfit("provider.sort", "of its object only `by` can be honoured")
        value = value.get("by")
    if value is not None and value not in _SORTS:
        raise _wrong("provider.sort", f"one of {', '.join(_SORTS)}")
    return value


def _max_price(said: Mapping[str, Any]) -> MaxPrice:
    value = said.get("max_price")
    if value is None:
        return MaxPrice()
    if not isinstance(value, dict):
        raise _wrong("provider.max_price", "an object")
    for name in value:
        if name not in ("prompt", "completion", "request"):
            raise _unfit(f"provider.max_price.{one_line(name, 60)}", "nothing is sold by it here")
    return MaxPrice(
        **{name: _decimal(f"provider.max_price.{name}", of) for name, of in value.items()}
    )


def _decimal(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(name, "a number")
    try:
        found = Decimal(str(value)[:_DIGITS])
    except InvalidOperation:
        raise _wrong(name, "a number") from None
    if not found.is_finite() or found < 0:
        raise _wrong(name, "a number of 0 or more")
    return found


def _preferred(said: Mapping[str, Any], name: str) -> float | None:
    """A number, or an object with the median alone: that is what is measured here."""
    value = said.get(name)
    if isinstance(value, dict):
        if set(value) - {"p50"}:
            raise _unfit(f"provider.{name}", "of its percentiles only `p50` can be honoured")
        value = value.get("p50")
    return None if value is None else float(_decimal(f"provider.{name}", value))


def _wrong(name: str, wanted: str) -> Refused:
    return Refused(Code.FIELD_INVALID, f"{name}: give {wanted}", field=name)


def _unfit(name: str, why: str) -> Refused:
    return Refused(Code.FIELD_INVALID, f"{name}: {why}", field=name)
