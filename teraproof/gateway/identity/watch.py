# SPDX-License-Identifier: Apache-2.0
"""A decision in sequence: yes-or-no observations, an alarm, and the two error rates of it.

Each observation is a hit or not. An honest host gives a hit with probability at most `honest`,
whatever came before. The factor of a hit is `faulty / honest`, that of a miss
`(1 - faulty) / (1 - honest)`: its mean is at most 1 for an honest host, so the product from any
start is a supermartingale. By Ville's inequality it ever reaches `1 / level` with probability at
most `level`. Starting again whenever the product falls below 1 is Page's CUSUM (Page 1954,
Continuous inspection schemes). There are n starts in n observations, so

    P(alarm of an honest host within n observations) <= n * level.

A host that turns faulty later is found as fast as one that was from the start. The product of a
host with hit rate p grows by `drift(p)` per observation in the mean, and passes the threshold by
one hit at most. By Wald's identity (Wald 1945, Sequential tests of statistical hypotheses)

    E(observations until the alarm) <= (ln(1 / level) + ln(faulty / honest)) / drift(p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """What is watched.

    Args:
        honest: the largest probability of a hit at an honest host, between 0 and `faulty`.
        faulty: the probability of a hit that the rule finds fastest, below 1.
        level: the probability of a false alarm per observation, at most.

    Raises:
        ValueError: the numbers are not in this order, or not probabilities.
    """

    honest: float
    faulty: float
    level: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.honest < self.faulty < 1:
            raise ValueError("a rule needs 0 < honest < faulty < 1")
        if not 0 < self.level < 1:
            raise ValueError("a rule needs a level between 0 and 1")

    @property
    def threshold(self) -> float:
        """The logarithm of the product at which the alarm is raised."""
        return -math.log(self.level)

    @property
    def hit(self) -> float:
        """What a hit adds to the logarithm."""
        return math.log(self.faulty / self.honest)

    @property
    def miss(self) -> float:
        """What a miss takes from the logarithm, as a positive number."""
        return -math.log((1 - self.faulty) / (1 - self.honest))

    def drift(self, rate: float) -> float:
        """What an observation adds in the mean, at a host with this hit rate."""
        return rate * self.hit - (1 - rate) * self.miss

    def false_alarm(self, observations: int) -> float:
        """A bound of the probability of an alarm of an honest host within these observations."""
        return min(1.0, observations * self.level)

    def mean_until(self, rate: float) -> float:
        """A bound of the mean number of observations until the alarm; infinite without drift."""
        drift = self.drift(rate)
        return (self.threshold + self.hit) / drift if drift > 0 else math.inf

    def power(self, rate: float, observations: int) -> float:
        """The probability of an alarm within these observations, at least, at this hit rate.

        The CUSUM is never below the plain sum, and that is above the threshold when there are
        enough hits: a tail of the binomial distribution.
        """
        needed = math.ceil((self.threshold + observations * self.miss) / (self.hit + self.miss))
        return binomial_tail(observations, rate, needed)

    def enough(self, rate: float, power: float = 0.99, longest: int = 100_000) -> int:
        """The fewest observations with at least this power; ValueError above `longest`."""
        for observations in range(1, longest + 1):
            if self.power(rate, observations) >= power:
                return observations
            if observations >= 1000 and self.drift(rate) <= 0:
                break
        raise ValueError(f"a hit rate of {rate} is not found within {longest} observations")


@dataclass
class Watch:
    """The state of one rule at one host, or at one pair of hosts."""

    rule: Rule
    seen: int = 0
    hits: int = 0
    height: float = 0.0
    peak: float = field(default=0.0)

    def observe(self, hit: bool) -> None:
        """Takes one observation. After the alarm nothing changes it but a new watch."""
        self.seen += 1
        self.hits += hit
        step = self.rule.hit if hit else -self.rule.miss
        self.height = max(0.0, self.height + step)
        self.peak = max(self.peak, self.height)

    @property
    def alarm(self) -> bool:
        """Whether the threshold was reached, now or before."""
        return self.peak >= self.rule.threshold


def binomial_tail(trials: int, rate: float, least: int) -> float:
    """The probability of at least `least` hits in `trials` with this rate."""
    if least <= 0:
        return 1.0
    if least > trials or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(trials - hits + 1)
        + hits * math.log(rate)
        + (trials - hits) * math.log1p(-rate)
        for hits in range(least, trials + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))
