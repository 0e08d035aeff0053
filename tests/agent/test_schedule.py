# SPDX-License-Identifier: Apache-2.0
"""When what of an epoch is due."""

from __future__ import annotations

import pytest

from teraproof.contracts.benchmark import EpochRecord
from teraproof.pog.format import Shape
from teraproof.pog.schedule import Rules, Stage, stagger

RULES = Rules(
    shape=Shape(256, 1),
    samples=4,
    bond=10**18,
    genesis=1_000,
    slot=600,
    chance_ppm=250_000,
    spacing=2_000,
    open_period=100,
    window=300,
    draw_period=60,
    draw_delay=4,
    reach=50,
    opening_period=500,
    fault_period=500,
    source=0,
)
A, B = "0x" + "0a" * 20, "0x" + "0b" * 20
OPENED = 5_203  # the block of the boundary at 5,200
END = OPENED + 910
NO, DRAW = bytes(32), b"\x01" * 32


def record(opened_at: int = OPENED, target: int = 0, draw: bytes = NO) -> EpochRecord:
    return EpochRecord(NO, opened_at, target, draw, opened_at + 910 if opened_at else 0)


@pytest.mark.parametrize(
    ("now", "boundary", "following"),
    [
        (999, None, 1_000),
        (1_000, 1_000, 1_600),
        (1_599, 1_000, 1_600),
        (1_600, 1_600, 2_200),
        (5_203, 5_200, 5_800),
    ],
)
def test_boundary(now: int, boundary: int | None, following: int) -> None:
    assert RULES.boundary(now) == boundary
    assert RULES.next_boundary(now) == following


def test_next_window_from() -> None:
    assert RULES.next_window_from(0) == 1_000
    assert RULES.next_window_from(OPENED) == OPENED + 2_000
    assert RULES.opened_until(5_200) == 5_300


def test_wins__by_chance() -> None:
    assert RULES.wins(0) and RULES.wins(249_999)
    assert not RULES.wins(250_000)


# Each bound as pog/clock.vy has it: see `commit`, `close`, `draw` and `open_samples`.
@pytest.mark.parametrize(
    ("epoch", "now", "stage"),
    [
        (record(0), 5_000, Stage.NONE),
        (record(), OPENED, Stage.WINDOW),
        (record(), OPENED + 299, Stage.WINDOW),
        (record(), OPENED + 300, Stage.CLOSE),
        (record(), OPENED + 360, Stage.CLOSE),
        (record(), OPENED + 361, Stage.VOID),
        (record(target=9), OPENED + 310, Stage.DRAW),
        (record(target=9), OPENED + 410, Stage.DRAW),
        (record(target=9), OPENED + 411, Stage.VOID),
        (record(target=9, draw=DRAW), OPENED + 310, Stage.SAMPLES),
        (record(target=9, draw=DRAW), END - 1, Stage.SAMPLES),
        (record(target=9, draw=DRAW), END, Stage.OVER),
        (record(), END - 1, Stage.VOID),
        (record(), END, Stage.OVER),
    ],
)
def test_stage(epoch: EpochRecord, now: int, stage: Stage) -> None:
    assert RULES.stage(epoch, now) is stage


@pytest.mark.parametrize(
    ("rounds", "verified", "epoch", "now", "binds"),
    [
        (0, 0, record(), OPENED + 1, False),
        (9, 0, record(), OPENED + 360, True),
        (9, 0, record(), OPENED + 361, False),  # void
        (9, 0, record(target=9), OPENED + 410, True),
        (9, 0, record(target=9), OPENED + 411, False),  # void
        (9, 4, record(target=9, draw=DRAW), OPENED + 331, False),  # verified
        (9, 3, record(target=9, draw=DRAW), END + 499, True),
        (9, 3, record(target=9, draw=DRAW), END + 500, False),  # too old to be reported
    ],
)
def test_binds(rounds: int, verified: int, epoch: EpochRecord, now: int, binds: bool) -> None:
    assert RULES.binds(epoch, rounds, verified, now) is binds


@pytest.mark.parametrize(
    ("passed", "block_seconds", "slot"),
    [
        (0, 12, ""),
        (37, 12, ""),
        (38, 12, "1"),
        (149, 12, "1"),
        (150, 12, "2"),
        (239, 12, "2"),
        (251, 12, "2"),  # blocks to come: 263, 275, 287, 299
        (252, 12, "last-3"),  # blocks to come: 264, 276, 288; 300 is too late
        (264, 12, "last-2"),
        (276, 12, "last-1"),
        (287, 12, "last-1"),  # 299
        (288, 12, ""),
        (275, 12.7, "last-1"),  # a block was missed, so the measure is high
        (276, 11.95, "last-1"),  # it is low
        (292, 2, "last-3"),
        (296, 2, "last-1"),
        (298, 2, ""),
        (299, 0.25, "last-3"),
        (299.8, 0.25, ""),
    ],
)
def test_commit_slot(passed: float, block_seconds: float, slot: str) -> None:
    assert RULES.commit_slot(OPENED, OPENED + passed, block_seconds, last=3) == slot


def test_stagger__spreads_providers_and_epochs() -> None:
    waits = {(p, e): stagger(p, e, "open", 100) for p in (A, B) for e in range(200)}
    assert all(0 <= wait <= 100 for wait in waits.values())
    assert len(set(waits.values())) > 80
    firsts = sum(waits[A, epoch] < waits[B, epoch] for epoch in range(200))
    assert 50 < firsts < 150  # nobody is always the one who pays
    assert stagger(A, 7, "open", 100) == stagger(A.upper().replace("X", "x"), 7, "open", 100)
    assert stagger(A, 7, "open", 0) == 0


def test_delays__never_too_late() -> None:
    for number in range(200):
        # Before the first commit, and long before it is too late.
        assert RULES.open_delay(A, number) <= 300 // 16
        assert RULES.close_delay(A, number) <= 60 // 6
        assert RULES.read_delay(A, number) <= 50 // 6
        assert RULES.fault_delay(A, number, B) <= 500 // 6


def test_score__of_parts__is_no_more_than_of_the_whole() -> None:
    for parts in ([1, 1, 1], [3, 4], [1_000, 17, 5, 1]):
        assert sum(RULES.score(part) for part in parts) <= RULES.score(sum(parts))
    assert RULES.score(0) == 0
