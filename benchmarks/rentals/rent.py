# SPDX-License-Identifier: Apache-2.0
"""What a service may have cost, by the answers that somebody outside the agent got from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Probe:
    """One request to a service: when it was sent, in seconds, and whether the service answered."""

    at: float
    answered: bool


@dataclass(frozen=True)
class Seen:
    """A service as it was seen from outside. Seconds."""

    answered: float
    """Between two answered requests, one right after the other."""
    outages: tuple[float, ...]
    """The rest, each from the last answer before to the first one after."""

    @classmethod
    def of(cls, probes: Iterable[Probe], begin: float, end: float, longest: float) -> Seen:
        """By the requests from `begin` to `end`, in their order. Where none was sent for more than
        `longest` seconds nobody has seen anything: that is an outage, too.
        """
        inside = [one for one in probes if begin <= one.at <= end]
        edges = [Probe(begin, bool(inside) and inside[0].answered), *inside]
        edges.append(Probe(end, edges[-1].answered))
        answered, outages, silent = 0.0, list[float](), 0.0
        for before, after in pairwise(edges):
            length = after.at - before.at
            if before.answered and after.answered and length <= longest:
                answered += length
                if silent:
                    outages.append(silent)
                silent = 0.0
            else:
                silent += length
        if silent:
            outages.append(silent)
        return cls(answered, tuple(outages))

    def most(self, allowance: float) -> float:
        """The most seconds that rent may have been paid for: those with answers, and of each outage
        at most `allowance` seconds.
        """
        return self.answered + sum(min(one, allowance) for one in self.outages)


def quantile(values: Iterable[float], part: float) -> float:
    """The least of the values that `part` of them (0 to 1) do not pass; at least one is needed."""
    found = sorted(values)
    return found[max(0, math.ceil(part * len(found)) - 1)]


def most_beats(seconds: float, period: float) -> int:
    """The most heartbeats, one a period, that any stretch of that many seconds can hold."""
    return int(seconds // period) + 1


def top_level(parents: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Of processes (own number, parent's), those whose parent is not among them."""
    numbers = {number for number, _ in parents}
    return (number for number, parent in parents if parent not in numbers)
