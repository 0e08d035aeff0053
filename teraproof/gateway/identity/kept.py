# SPDX-License-Identifier: Apache-2.0
"""Evidence as JSON values and back. ValueError for what is not evidence."""

from __future__ import annotations

import math
from typing import Any

from teraproof.gateway.identity.compare import RULES, Kind
from teraproof.gateway.identity.lineup import ALONE, DISTANCES, Evidence, Pair
from teraproof.gateway.identity.validity import Validity
from teraproof.gateway.identity.watch import Rule, Watch


def evidence_to_json(found: Evidence) -> dict[str, Any]:
    """What a host has shown by itself."""
    return {
        "requests": found.requests,
        "canaries": found.canaries,
        "tokens": _watch_to_json(found.tokens),
        "ends": _watch_to_json(found.ends),
        "validity": [found.validity.valid, found.validity.broken],
    }


def evidence_from_json(value: Any) -> Evidence:
    """The inverse."""
    try:
        valid, broken = map(_count, value["validity"])
        return Evidence(
            requests=_count(value["requests"]),
            canaries=_count(value["canaries"]),
            tokens=_watch(ALONE, value["tokens"]),
            ends=_watch(ALONE, value["ends"]),
            validity=Validity(valid, broken),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no evidence ({error})") from None


def pair_to_json(pair: Pair) -> dict[str, Any]:
    """The comparisons of two hosts."""
    return {
        "watches": [
            [kind.value, host, _watch_to_json(watch)]
            for (kind, host), watch in pair.watches.items()
        ],
        "distances": pair.distances,
    }


def pair_from_json(value: Any) -> Pair:
    """The inverse."""
    try:
        watches = {
            (Kind(kind), str(host)): _watch(RULES[Kind(kind)], said)
            for kind, host, said in value["watches"]
        }
        distances = [_number(each) for each in value["distances"]][-DISTANCES:]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no comparisons ({error})") from None
    return Pair(watches, distances)


def _watch_to_json(watch: Watch) -> list[float]:
    return [watch.seen, watch.hits, watch.height, watch.peak]


def _watch(rule: Rule, value: Any) -> Watch:
    seen, hits, height, peak = value
    return Watch(rule, _count(seen), _count(hits), _number(height), _number(peak))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a count")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)
