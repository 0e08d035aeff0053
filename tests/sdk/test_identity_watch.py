# SPDX-License-Identifier: Apache-2.0
"""The decision in sequence keeps both of its error rates."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.gateway.identity.compare import RULES
from teraproof.gateway.identity.watch import Rule, Watch, binomial_tail

COARSE = Rule(honest=0.2, faulty=0.6, level=0.05)
rates = st.floats(0.001, 0.998)


def alarm(rule: Rule, hits: tuple[bool, ...]) -> bool:
    watch = Watch(rule)
    for hit in hits:
        watch.observe(hit)
    return watch.alarm


@pytest.mark.parametrize("wrong", [(0.5, 0.5, 0.1), (0, 0.5, 0.1), (0.1, 1, 0.1), (0.1, 0.5, 0)])
def test_rule__numbers_out_of_order_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"^a rule needs"):
        Rule(*wrong)


@given(rates, rates, rates)
def test_factor__has_a_mean_of_at_most_one_at_an_honest_host(a: float, b: float, c: float) -> None:
    rate, honest, faulty = sorted((a, b, c))
    if not rate < honest < faulty:
        return
    rule = Rule(honest, faulty)
    assert rate * math.exp(rule.hit) + (1 - rate) * math.exp(-rule.miss) <= 1 + 1e-9


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("length", [1, 6, 12])
def test_honest_host__alarms_no_more_often_than_stated(rate: float, length: int) -> None:
    """Every sequence of hits and misses, with its probability."""
    total = sum(
        rate ** sum(hits) * (1 - rate) ** (length - sum(hits))
        for hits in product((False, True), repeat=length)
        if alarm(COARSE, hits)
    )
    assert total <= COARSE.false_alarm(length)


@pytest.mark.parametrize("rate", [0.5, 0.6, 0.9])
@pytest.mark.parametrize("length", [4, 8, 12])
def test_faulty_host__found_at_least_as_often_as_stated(rate: float, length: int) -> None:
    total = sum(
        rate ** sum(hits) * (1 - rate) ** (length - sum(hits))
        for hits in product((False, True), repeat=length)
        if alarm(COARSE, hits)
    )
    assert total >= COARSE.power(rate, length) - 1e-9


@pytest.mark.parametrize("kind", RULES)
def test_faulty_host__found_within_the_stated_mean(kind: object) -> None:
    rule = next(each for name, each in RULES.items() if name is kind)
    rng = random.Random(11)
    needed = []
    for _ in range(400):
        watch = Watch(rule)
        while not watch.alarm:
            watch.observe(rng.random() < rule.faulty)
        needed.append(watch.seen)
    assert sum(needed) / len(needed) <= rule.mean_until(rule.faulty)


def test_host_that_turns_faulty__found_as_soon_as_one_that_always_was() -> None:
    rule = RULES[next(iter(RULES))]
    watch = Watch(rule)
    for _ in range(5000):
        watch.observe(False)
    fresh = Watch(rule)
    while not fresh.alarm:
        watch.observe(True)
        fresh.observe(True)
    assert watch.alarm


def test_alarm__stays() -> None:
    watch = Watch(COARSE)
    for hit in [True] * 10 + [False] * 100:
        watch.observe(hit)
    assert watch.alarm and watch.height == 0


def test_rate_that_is_honest__is_never_enough() -> None:
    with pytest.raises(ValueError, match=r"^a hit rate of 0.2 is not found within"):
        COARSE.enough(0.2)
    assert COARSE.mean_until(0.2) == math.inf


@given(st.integers(0, 40), st.floats(0, 1), st.integers(-1, 42))
def test_binomial_tail__is_the_sum_of_its_terms(trials: int, rate: float, least: int) -> None:
    exact = sum(
        math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)
        for hits in range(max(least, 0), trials + 1)
    )
    assert binomial_tail(trials, rate, least) == pytest.approx(exact, abs=1e-9)
