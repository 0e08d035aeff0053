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
    begins: tuple[float, ...] = ()
    """When each of them began, on the clock of the requests."""

    @classmethod
    def of(cls, probes: Iterable[Probe], begin: float, end: float, longest: float) -> Seen:
        """By the requests from `begin` to `end`, in their order. Where none was sent for more than
        `longest` seconds nobody has seen anything: that is an outage, too.
        """
        inside = [one for one in probes if begin <= one.at <= end]
        edges = [Probe(begin, bool(inside) and inside[0].answered), *inside]
        edges.append(Probe(end, edges[-1].answered))
        answered, silent = 0.0, 0.0
        outages, begins = list[float](), list[float]()
        for before, after in pairwise(edges):
            length = after.at - before.at
            if before.answered and after.answered and length <= longest:
                answered += length
                if silent:
                    outages.append(silent)
                    begins.append(before.at - silent)
                silent = 0.0
            else:
                silent += length
        if silent:
            outages.append(silent)
            begins.append(edges[-1].at - silent)
        return cls(answered, tuple(outages), tuple(begins))

    def most(self, allowance: float) -> float:
        """The most seconds that rent may have been paid for: those with answers, and of each outage
        at most `allowance` seconds.
        """
        return self.answered + sum(min(one, allowance) for one in self.outages)


@dataclass(frozen=True)
class Reading:
    """How many seconds of rent were due for a lease, as the chain had it at a time."""

    at: float
    due: int


def excess(readings: Sequence[Reading], begin: float, seconds: float, allowance: float) -> float:
    """By how many seconds the rent of one outage is above what is allowed for it; below 0 where
    less came to be due. Answered time between a reading and `begin` is allowed, too.
    """
    before = [one for one in readings if one.at <= begin] or list(readings[:1])
    until = [one for one in readings if one.at <= begin + seconds]
    if not before or not until:
        return -allowance
    allowed = min(seconds, allowance) + max(0.0, begin - before[-1].at)
    return until[-1].due - before[-1].due - allowed


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
