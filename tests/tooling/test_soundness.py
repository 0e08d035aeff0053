# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/soundness.md are fresh, and its formulas say what the page says of them."""

from __future__ import annotations

import random

import pytest

from benchmarks import soundness


def test_page__tables_and_figure_are_fresh() -> None:
    assert soundness.outdated() == [], "run make soundness"


def test_written__a_table_that_nobody_computes__says_its_name() -> None:
    with pytest.raises(ValueError, match="'nowhere'"):
        soundness.written("<!-- table: nowhere -->\n<!-- end -->\n")


def test_written__only_between_the_marks() -> None:
    page = "before\n<!-- table: delays -->\nold\n<!-- end -->\nafter\n"
    new = soundness.written(page)
    assert new.startswith("before\n<!-- table: delays -->\n\n| DRAW_DELAY")
    assert new.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in new
    assert soundness.written(new) == new


@pytest.mark.parametrize("samples", [2, 8, 16])
@pytest.mark.parametrize("bond", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("cost", [0.0, 0.5, 1.5])
def test_change__no_mix_of_less_work_and_a_larger_claim_pays(
    samples: int, bond: float, cost: float
) -> None:
    away = -(1 - cost)
    for tenths in range(11):
        for claim in (0.1, 0.3, 0.7, 0.9, 1, 1.01, 1.5, 4):
            work = tenths / 10
            if work < claim:
                gain = soundness.change(work, claim, samples, cost, bond)
                assert gain < max(0, away) + 2**-15


def test_passes__as_often_as_random_samples_miss_what_is_false() -> None:
    draw = random.Random(3)
    tries = 20_000
    passed = sum(all(draw.random() >= 0.1 for _ in range(8)) for _ in range(tries))
    expected = soundness.passes(0.1, 8)
    # Four standard deviations.
    assert abs(passed / tries - expected) < 4 * (expected * (1 - expected) / tries) ** 0.5


def test_worth_of_bits__falls_with_the_bond_and_with_the_samples() -> None:
    values = [soundness.worth_of_bits(1, 8, bond)[1] for bond in (0, 1, 10)]
    assert values == sorted(values, reverse=True)
    assert soundness.worth_of_bits(4, 16, 1)[1] < soundness.worth_of_bits(4, 8, 1)[1]


def test_grinding__figures_of_the_format() -> None:
    assert "| 28 | 128.00 x | 11.31 x | 3.36 x |" in soundness.grinding()
