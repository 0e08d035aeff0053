# SPDX-License-Identifier: Apache-2.0
"""The formulas of acceptance challenges, against cheaters that are played out."""

from __future__ import annotations

import random

import pytest

from benchmarks.acceptance_model import CARDS, Card, cards, missing, sold, speed
from benchmarks.cheating import passes
from teraproof.acceptance.checks import Promise
from teraproof.acceptance.format import BLOCK_BYTES, Work
from teraproof.pog.format import Shape

WORK = Work(Shape(256, 1), rounds=10, devices=1, blocks=100, sweeps=7, seconds=60)
SIZE = WORK.blocks * BLOCK_BYTES


def swept(card: Card, linked: float, filled: float) -> float:
    """Seconds of all sweeps, where these parts come over the link and are filled again.

    The device reads and fills, and the link brings what it brings, all at once.
    """
    parts = (
        (1 - linked - filled) * SIZE / card.bandwidth,
        linked * SIZE / card.link,
        filled * SIZE / card.filling,
    )
    return WORK.sweeps * max(parts)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("asked", [0.3, 0.5, 0.9])
def test_missing__the_most_that_passes_is_that_of_the_formula(card: Card, asked: float) -> None:
    bandwidth = int(asked * card.bandwidth)
    limit = Promise(1, SIZE, bandwidth).sweep_seconds(WORK, WORK.blocks)
    steps = 100
    most = max(
        (linked + filled) / steps
        for linked in range(steps)
        for filled in range(steps - linked)
        if swept(card, linked / steps, filled / steps) <= limit
    )
    assert most == pytest.approx(missing(card.filling, card.link, bandwidth), abs=2.1 / steps)


def test_false_part__as_often_as_random_entries_miss_it() -> None:
    draw, tries = random.Random(7), 20_000
    for part in (0.01, 0.046, 0.1):
        passed = sum(
            all(draw.random() > part or draw.random() < 2**-8 for _ in range(64))
            for _ in range(tries)
        )
        assert passed / tries == pytest.approx(passes(part, 64), abs=0.012)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("skew", [0.0, 1.0, 4.0])
def test_sold__a_card_of_that_speed_just_passes(times: int, skew: float) -> None:
    """Leases come one after the other within the skew; the card does the earliest deadline first,
    and has until the last one for all of it.
    """
    need = sold(times, 0.8, 10, skew)
    assert need * (10 + skew) == pytest.approx(times * 0.8 * 10)
    assert sold(times, 0.8, 10, 0) == pytest.approx(0.8 * times)


def test_speed__what_is_left_out_is_not_done() -> None:
    assert speed(0.8, 0) == 0.8
    assert speed(0.8, 0.5) == pytest.approx(0.4)


def test_cards__a_row_for_each() -> None:
    table = cards()
    assert all(f"| {card.name} |" in table for card in CARDS)
