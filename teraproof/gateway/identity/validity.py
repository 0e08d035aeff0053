# SPDX-License-Identifier: Apache-2.0
"""Ranks hosts by the schemas and tool calls that they break, on live traffic.

The rank is the mean of a Beta posterior: the valid answers of a host, with `PRIOR` answers at the
rate of its peers before them (Gelman et al., Bayesian Data Analysis, 2.4). So a new host starts
where its peers are, which neither rewards a new name nor shuts one out. Some models break schemas
by themselves, which all hosts of them do alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Answers that the peers' rate counts for.
PRIOR = 20.0
#: The peers' rate before anything was seen, as valid and broken answers.
FIRST = (19.0, 1.0)


@dataclass
class Validity:
    """Answers of one host whose request asked for a schema or for tools."""

    valid: int = 0
    broken: int = 0

    def observe(self, valid: bool) -> None:
        """Takes one answer."""
        if valid:
            self.valid += 1
        else:
            self.broken += 1

    def rank(self, peers: Validity) -> float:
        """The posterior mean of the rate of valid answers, from 0 to 1. `peers` leaves it out."""
        expected = peers.rate
        return (self.valid + PRIOR * expected) / (self.valid + self.broken + PRIOR)

    @property
    def rate(self) -> float:
        """The rate of valid answers, drawn towards `FIRST` while there are few."""
        valid, broken = FIRST
        return (self.valid + valid) / (self.valid + self.broken + valid + broken)

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval of the rate of valid answers (Wilson 1927); z = 1.96 for 95 %."""
        return wilson(self.valid, self.valid + self.broken, z)


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a rate; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate, square = hits / trials, z * z
    centre = rate + square / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    low, high = (centre - spread) / (1 + square / trials), (centre + spread) / (1 + square / trials)
    return max(0.0, low), min(1.0, high)


def falls_below(clean: float, broken: float, answers: int) -> float:
    """The probability that one host ranks below another, after as many answers of each.

    Both rank by one prior then, so the rank falls with each broken answer, and the host that broke
    more is below. The numbers of broken answers are binomial.

    Args:
        clean: the probability that the other host breaks one answer.
        broken: the same of this host.
        answers: how many each of the two has given.
    """
    good, bad = _binomial(answers, clean), _binomial(answers, broken)
    below, total = 0.0, 0.0
    for count in range(answers + 1):
        total += bad[count] * below  # the clean one has broken fewer than `count`
        below += good[count]
    return total


def answers_until_below(
    clean: float, broken: float, power: float = 0.99, longest: int = 5000
) -> int:
    """The fewest answers of each after which `falls_below` is at least `power`.

    Raises:
        ValueError: it takes more than `longest`.
    """
    low, high = 0, 1
    while falls_below(clean, broken, high) < power:
        low, high = high, 2 * high
        if low >= longest:
            raise ValueError(f"{longest} answers do not show a difference of this size")
    while high - low > 1:
        middle = (low + high) // 2
        if falls_below(clean, broken, middle) < power:
            low = middle
        else:
            high = middle
    return high


def _binomial(trials: int, rate: float) -> list[float]:
    if rate <= 0:
        return [1.0] + [0.0] * trials
    return [
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(trials - hits + 1)
            + hits * math.log(rate)
            + (trials - hits) * math.log1p(-rate)
        )
        for hits in range(trials + 1)
    ]
