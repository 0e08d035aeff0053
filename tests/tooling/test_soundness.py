# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/soundness.md are fresh, and its formulas say what the page says of them."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import absence, cheating, picker, soundness
from benchmarks.absence import History, Rules, measure
from benchmarks.cheating import Field

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "proof_of_gpu_v2.json"


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


# -------------------------------------------------------------------------- cheating


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
                gain = cheating.change(work, claim, samples, cost, bond)
                # With two samples a claim of nothing passes with 2^-16, four times the truth.
                assert gain < max(0, away) + 4 * 2**-15


def test_passes__as_often_as_random_samples_miss_what_is_false() -> None:
    draw = random.Random(3)
    tries = 20_000
    passed = sum(
        all(draw.random() >= 0.1 or draw.randrange(256) == 0 for _ in range(8))
        for _ in range(tries)
    )
    expected = cheating.passes(0.1, 8)
    # Four standard deviations.
    assert abs(passed / tries - expected) < 4 * (expected * (1 - expected) / tries) ** 0.5


def test_worth_of_bits__falls_with_the_bond_and_with_the_samples() -> None:
    values = [cheating.worth_of_bits(1, 8, bond)[1] for bond in (0, 1, 10)]
    assert values == sorted(values, reverse=True)
    assert cheating.worth_of_bits(4, 16, 1)[1] < cheating.worth_of_bits(4, 8, 1)[1]


def test_grinding__figures_of_the_format() -> None:
    assert "| 28 | 128.00 x | 11.31 x | 3.36 x |" in soundness.grinding()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99, None])
@pytest.mark.parametrize("backed", [0.5, 1.0, 1e9])
@pytest.mark.parametrize("identities", [1, 2, 3])
def test_best_gain__anything_false__loses(
    share: float | None, backed: float, identities: int
) -> None:
    assert cheating.best_gain(identities, 8, Field(share, backed)) < 0


def test_best_gain__a_single_sample__does_not_hold() -> None:
    """The search is able to find what pays: with one sample, 8 bits and no bond a claim does."""
    linear = Field(None, 1e9)
    assert cheating.best_gain(1, 1, linear, costs=(0,), bonds=(0,)) > 0


def test_expected__one_identity__as_the_formula() -> None:
    work, claim = np.array([[1.0], [0.5]]), np.array([[1.25], [1.0]])
    reward, failed, done = cheating.expected(work, claim, 8, Field(None, 1e9))
    for row, (d, m) in enumerate(((1, 1.25), (0.5, 1))):
        profit = reward[row] - 0.5 * done[row] - 2 * failed[row]
        assert profit - 0.5 == pytest.approx(cheating.change(d, m, 8, 0.5, 2))


def test_expected__two_identities__as_drawn() -> None:
    """A split of 60 % of the scores, one half inflated; against dice."""
    field, samples = Field(0.6, 1e9), 2
    work, claim = np.array([[0.5, 0.5]]), np.array([[0.5, 1.0]])
    reward, failed, _ = cheating.expected(work, claim, samples, field)
    draw, tries, paid, bonds = random.Random(5), 40_000, 0.0, 0
    for _ in range(tries):
        passed = all(draw.random() >= 0.5 or draw.randrange(256) == 0 for _ in range(samples))
        paid += float(field.reward(np.array([1.5 if passed else 0.5]))[0])
        bonds += not passed
    assert paid / tries == pytest.approx(float(reward[0]), rel=0.02)
    assert bonds / tries == pytest.approx(float(failed[0]), rel=0.02)


def test_shape_costs__half_the_depth_and_half_the_bytes__the_same_part_for_hashing() -> None:
    before, now = cheating.shape_costs(16_384, 65_280, 2), cheating.shape_costs(32_768, 32_640, 1)
    assert now.hashing / now.product == pytest.approx(before.hashing / before.product)
    assert now.making / now.product == pytest.approx(before.making / before.product / 2)
    assert now.gas < 0.6 * before.gas


# --------------------------------------------------------------------------- absence

RULES = Rules(slot=600, chance_ppm=20_000, spacing=7_200, window=1_800)


@pytest.fixture(scope="module")
def seen() -> History:
    return History(RULES, 8_000, b"test")


def test_history__spacing_and_mean(seen: History) -> None:
    gaps = np.diff(seen.opened) * RULES.slot
    assert gaps.min() >= RULES.spacing
    assert gaps.mean() == pytest.approx(RULES.mean, rel=0.03)
    # Without memory: among gaps that last longer, as many last so much longer again.
    over = [int((gaps > RULES.spacing + hours * 3_600).sum()) for hours in (0, 5, 10, 15)]
    ratios = [after / before for before, after in itertools.pairwise(over)]
    assert max(ratios) - min(ratios) < 0.05


@pytest.mark.parametrize(
    "plan",
    [
        absence.at_hours(0, 24),
        absence.at_hours(6, 9),
        absence.since_last(5),
        absence.since_last(2, 4),
        absence.after_lost(20),
        absence.after_gaps(0, 6),
        absence.each(5),
        absence.by_coin(0.3, b"coin"),
    ],
)
def test_measure__epochs_at_most_presence_and_dead_time(seen: History, plan: absence.Plan) -> None:
    got = measure(seen, plan, (RULES.spacing,))
    # Three standard deviations of a share of that many epochs.
    assert got.excess < 3 * (0.25 / got.epochs) ** 0.5
    # Each epoch pays the same, so rewards are as epochs (the first one may have less).
    assert got.rewards[0] == pytest.approx(got.scored, rel=1e-3)


def test_measure__an_epoch_that_pays_all_since_the_last__waiting_gains(seen: History) -> None:
    """Why the plans pay no more than SPACING."""
    got = measure(seen, absence.since_last(8), (RULES.spacing, 7 * 86_400))
    assert got.rewards[1] > got.rewards[0] + 0.1


def test_measure__a_rule_with_memory__is_found_out() -> None:
    """The measure is able to see a bad rule: windows that come at the same hour every day."""
    daily = History(Rules(slot=600, chance_ppm=10**6, spacing=86_400, window=1_800), 400, b"test")
    hour = float(daily.hour[daily.opened[5]])
    got = measure(daily, absence.at_hours(hour, hour + 0.5))
    assert got.scored > 0.99
    assert got.present < 0.05


def test_search__best_of_one_half__holds_to_the_bound_on_the_other(seen: History) -> None:
    found = list(absence.search(seen, 30, seed=2, most=0.6))
    assert len(found) == 3
    for _, trained, tested in found:
        assert trained.present <= 0.6
        assert tested.excess < 3 * (0.25 / tested.epochs) ** 0.5


# ---------------------------------------------------------------------------- picker


def test_sample_rounds__as_the_vectors_of_the_format() -> None:
    for vector in json.loads(VECTORS.read_text()):
        words = [bytes.fromhex(vector[key]) for key in ("draw", "commitment", "challenge")]
        rounds, wanted = int(vector["rounds"]), [opening["t"] for opening in vector["openings"]]
        asked = picker.sample_rounds(words[0], rounds, words[1], words[2], len(wanted))
        assert [t for t, _ in asked] == wanted


def test_simulate__a_named_block__as_often_as_without_a_choice() -> None:
    chance = cheating.passes(1 - picker.TRUE_ROUNDS / picker.CLAIMED, 8)
    epochs, few = 150, (2_400, 1_000_000, 480)
    for way, wanted in (
        (picker.callers_block(1), chance),
        (picker.callers_block(6), 1 - (1 - chance) ** 6),
        (picker.named_block(1, 40), chance),
        (picker.named_block(500, 40), chance),
    ):
        passed = picker.simulate(way, epochs, 8, *few)
        spread = (epochs * wanted * (1 - wanted)) ** 0.5
        assert abs(passed - epochs * wanted) < 3 * spread


def test_open_window__about_one_in_so_many_boundaries() -> None:
    numbers = [picker.open_window(picker.Chain(epoch), 480, 50_000) for epoch in range(200)]
    assert sum(numbers) / 200 / 480 == pytest.approx(19, rel=0.25)


def test_shipped__plans_pay_a_window_what_spacing_accrues() -> None:
    for path in sorted(soundness.PLANS.glob("*.yaml")):
        plan = soundness.plan_of(path.stem)
        assert plan["max_accrual"] <= plan["spacing"]
        if path.stem != "local":
            assert soundness.rules_of(plan).mean == pytest.approx(86_400, rel=0.001)
