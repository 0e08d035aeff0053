# SPDX-License-Identifier: Apache-2.0
"""When what of an epoch is due."""

from __future__ import annotations

from itertools import pairwise

import pytest

from provider_agent.benchmark.format import Shape
from provider_agent.benchmark.schedule import Rules, Stage, stagger

RULES = Rules(
    shape=Shape(256, 1),
    samples=4,
    bond=10**18,
    genesis=1_000,
    epoch=2_000,
    open_period=100,
    window=300,
    draw_delay=20,
    draw_period=60,
    fault_period=500,
)
A, B = "0x" + "0a" * 20, "0x" + "0b" * 20
OPENED = 5_040  # in epoch 2, which begins at 5,000


@pytest.mark.parametrize(
    ("now", "epoch"), [(999, None), (1_000, 0), (2_999, 0), (3_000, 1), (7_000, 3)]
)
def test_number(now: int, epoch: int | None) -> None:
    assert RULES.number(now) == epoch


# Each bound as Benchmark.vy has it: see `open`, `commit`, `draw` and `open_samples`.
@pytest.mark.parametrize(
    ("opened_at", "drawn_at", "now", "stage"),
    [
        (0, 0, 5_000, Stage.UNOPENED),
        (0, 0, 5_099, Stage.UNOPENED),
        (0, 0, 5_100, Stage.SKIPPED),
        (OPENED, 0, OPENED, Stage.WINDOW),
        (OPENED, 0, OPENED + 299, Stage.WINDOW),
        (OPENED, 0, OPENED + 300, Stage.DELAY),
        (OPENED, 0, OPENED + 319, Stage.DELAY),
        (OPENED, 0, OPENED + 320, Stage.DRAW),
        (OPENED, 0, OPENED + 380, Stage.DRAW),
        (OPENED, 0, OPENED + 381, Stage.VOID),
        (OPENED, OPENED + 330, OPENED + 331, Stage.SAMPLES),
        (OPENED, OPENED + 330, 6_999, Stage.SAMPLES),
        (OPENED, OPENED + 330, 7_000, Stage.OVER),
        (0, 0, 7_000, Stage.OVER),
    ],
)
def test_stage(opened_at: int, drawn_at: int, now: int, stage: Stage) -> None:
    assert RULES.stage(2, opened_at, drawn_at, now) is stage


@pytest.mark.parametrize(
    ("rounds", "verified", "drawn_at", "now", "binds"),
    [
        (0, 0, 0, OPENED + 1, False),
        (9, 0, 0, OPENED + 380, True),
        (9, 0, 0, OPENED + 381, False),  # void
        (9, 4, OPENED + 330, OPENED + 331, False),  # verified
        (9, 3, OPENED + 330, 7_499, True),
        (9, 3, OPENED + 330, 7_500, False),  # too old to be reported
    ],
)
def test_binds(rounds: int, verified: int, drawn_at: int, now: int, binds: bool) -> None:
    assert RULES.binds(2, rounds, verified, OPENED, drawn_at, now) is binds


def test_commit_times__default_behavior() -> None:
    times = RULES.commit_times(OPENED, commits=4, lead=48)
    assert times[0] == OPENED + 300 // 8
    assert times[-1] == OPENED + 300 - 48
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) - min(gaps) <= 1
    assert RULES.commit_times(OPENED, commits=1, lead=48) == [OPENED + 252]


def test_commit_times__lead_longer_than_the_window__still_inside() -> None:
    times = RULES.commit_times(OPENED, commits=8, lead=1_000)
    assert times == sorted(times)
    assert times[0] >= OPENED and times[-1] == OPENED + 150


def test_stagger__spreads_providers_and_epochs() -> None:
    waits = {(p, e): stagger(p, e, "open", 600) for p in (A, B) for e in range(200)}
    assert all(0 <= wait <= 100 for wait in waits.values())
    assert len(set(waits.values())) > 80
    firsts = sum(waits[A, epoch] < waits[B, epoch] for epoch in range(200))
    assert 50 < firsts < 150  # nobody is always the one who pays
    assert stagger(A, 7, "open", 600) == stagger(A.upper().replace("X", "x"), 7, "open", 600)
    assert stagger(A, 7, "open", 5) == 0
    assert max(stagger(A, epoch, "fail", 10**6) for epoch in range(500)) <= 300


def test_score__of_parts__is_no_more_than_of_the_whole() -> None:
    for parts in ([1, 1, 1], [3, 4], [1_000, 17, 5, 1]):
        assert sum(RULES.score(part) for part in parts) <= RULES.score(sum(parts))
    assert RULES.score(0) == 0
