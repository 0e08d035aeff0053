# SPDX-License-Identifier: Apache-2.0
"""Provers that cheat: refused at once, or caught as often as the formula says and then poorer.

Who does a fraction 1 - f of the work passes with (1 - f)**SAMPLES. Off chain this is held against
thousands of draws; on chain each single draw must end as its samples foretell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, product
from math import sqrt
from typing import Any

import boa
import numpy as np
import pytest

from teraproof.pog import format as pog
from teraproof.pog.format import Sample, Shape
from tests.contracts import headers, proofs
from tests.contracts.actions import Provider, event, go_to
from tests.contracts.deploy import TPF, Contract, Parameters, Suite, deploy_suite
from tests.contracts.proofs import DRAW, Forge, Product, Work

pytestmark = pytest.mark.invariant("I-7")

BOND = 1_000 * TPF
SAMPLES = 4
LENGTH = "benchmark: wrong length"
WRONG_LEAF = "benchmark: wrong leaf path"
WRONG_ROOT = "benchmark: wrong root path"
WRONG_VALUE = "benchmark: wrong value"
NO_WINDOW = "benchmark: not in the window"
TRIALS = 4_000  # off chain
DRAWS = 40  # on chain


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(Parameters(samples=SAMPLES), with_benchmark=True)


@pytest.fixture
def cheat(suite: Suite) -> Provider:
    return proofs.prover(suite, "cheat")


@pytest.fixture
def opened(suite: Suite) -> int:
    return proofs.open_epoch(suite)


def draws() -> Iterator[bytes]:
    """A row of draws that is the same in every run."""
    return (proofs.draw_of(pog.keccak(pog.word(number))) for number in count())


def accepted(suite: Suite, provider: Provider, openings: list[list[bytes]]) -> bool:
    """Whether the contract takes these openings as the whole proof; changes nothing if not."""
    benchmark = suite.benchmark
    done = boa.env.execute_code(
        to_address=benchmark.address,
        sender=suite.owner,
        data=benchmark.open_samples.prepare_calldata(provider.owner, openings),
    )
    return not done.is_error


def assert_bond_is_lost(suite: Suite, provider: Provider) -> None:
    """The epoch ends with the proof unopened: anyone takes the bond and the score."""
    stake = suite.staking.pool(provider.owner)[0]
    go_to(proofs.end_of(suite))
    suite.benchmark.fail(provider.owner)
    assert event(suite.benchmark, "Failed")["slashed"] == BOND
    assert suite.staking.pool(provider.owner)[:2] == (stake - BOND, 0)
    assert suite.benchmark.score(provider.owner) == 0


def assert_caught(suite: Suite, provider: Provider, done: Work, reason: str) -> None:
    """The first sample that was not worked for is refused, and no other opening will do."""
    openings = done.openings(DRAW, SAMPLES)
    for opening in openings:
        number = suite.benchmark.proof_of(provider.owner).verified
        if number == SAMPLES or not accepted(suite, provider, [opening]):
            break
    assert proofs.refusal(suite, provider, openings[number]) == reason
    assert_bond_is_lost(suite, provider)


# ------------------------------------------------------ a fraction of the work


def passes(shape: Shape, rounds: int, samples: int, skipped: Any) -> int:
    """In how many of TRIALS draws no sample falls on skipped work."""
    commitment, challenge = pog.keccak(b"commitment"), pog.keccak(b"challenge")
    return sum(
        not any(
            skipped(sample)
            for sample in pog.samples(draw, rounds, commitment, challenge, shape, samples)
        )
        for draw in islice(draws(), TRIALS)
    )


def assert_predicted(count: int, trials: int, chance: float) -> None:
    """Within four standard deviations of what the formula says."""
    assert abs(count - trials * chance) <= 4 * sqrt(trials * chance * (1 - chance))


@pytest.mark.parametrize("samples", [4, 8, 16])
@pytest.mark.parametrize("rows", [8, 64, 128])
def test_skipped_rows__pass_as_predicted(samples: int, rows: int) -> None:
    """f = 1/32, 1/4, 1/2 of the rows of every round."""
    count = passes(Shape(256, 1), 100, samples, lambda sample: sample.i < rows)
    assert_predicted(count, TRIALS, (1 - rows / 256) ** samples)


@pytest.mark.parametrize("samples", [4, 16])
@pytest.mark.parametrize("done", [99, 75, 50])
def test_skipped_rounds__pass_as_predicted(samples: int, done: int) -> None:
    """Of 100 rounds that are claimed."""
    count = passes(Shape(256, 1), 100, samples, lambda sample: sample.t >= done)
    assert_predicted(count, TRIALS, (done / 100) ** samples)


def test_skipped_columns__pass_as_predicted() -> None:
    count = passes(Shape(1024, 1), 1, 8, lambda sample: sample.j % 4 == 0)
    assert_predicted(count, TRIALS, 0.75**8)


def test_samples__fall_everywhere_alike() -> None:
    """Rounds, rows and columns in four parts each: 64 cells, chi-squared with 63 degrees."""
    shape, rounds = Shape(512, 1), 12
    cells = dict.fromkeys(product(range(4), repeat=3), 0)
    commitment, challenge = pog.keccak(b"commitment"), pog.keccak(b"challenge")
    for draw in islice(draws(), 1_000):
        for sample in pog.samples(draw, rounds, commitment, challenge, shape, 8):
            cells[sample.t // 3, sample.i // 128, sample.j // 128] += 1
    expected = 8_000 / 64
    statistic = sum((count - expected) ** 2 / expected for count in cells.values())
    assert statistic < 63 + 4 * sqrt(2 * 63)


def without_rows(rows: int) -> Forge:
    def forge(t: int, values: Product) -> Product:
        forged = values.copy()
        forged[:rows] = 0
        return forged

    return forge


def without_rounds(*skipped: Any) -> Forge:
    return lambda t, values: np.zeros_like(values) if t in skipped else values


@pytest.mark.parametrize(
    ("forge", "fraction"),
    [(without_rows(64), 1 / 4), (without_rows(16), 1 / 16), (without_rounds(1), 1 / 3)],
    ids=["a quarter of the rows", "a sixteenth of the rows", "one round of three"],
)
def test_skipped_work__every_draw_ends_as_its_samples_foretell(
    suite: Suite, cheat: Provider, opened: int, forge: Any, fraction: int
) -> None:
    done = proofs.committed(suite, cheat, 3, forge)

    def shown_right(sample: Sample) -> bool:
        value = right_entry(done, sample)
        shown = done.opening(sample).leaf[done.shape.leaf_place(sample.i, sample.j)]
        return shown == value & 0xFF

    passed = 0
    for draw in islice(draws(), DRAWS):
        with boa.env.anchor():
            proofs.draw_epoch(suite, draw)
            samples = done.samples(draw, SAMPLES)
            openings = [done.opening(sample).words() for sample in samples]
            foretold = all(shown_right(sample) for sample in samples)
            assert accepted(suite, cheat, openings) == foretold
            passed += foretold
    assert_predicted(passed, DRAWS, (1 - fraction) ** SAMPLES)


def right_entry(done: Work, sample: Sample) -> int:
    """The right entry, from the seeds and the roots that were committed to."""
    seed_b = pog.seed_b(done.challenge, sample.t, pog.two_before(done.roots, sample.t))
    return int(proofs.product(pog.seed_a(done.challenge), seed_b, done.shape)[sample.i, sample.j])


def test_skipped_work__costs_the_bond_when_caught(
    suite: Suite, cheat: Provider, opened: int
) -> None:
    done = proofs.committed(suite, cheat, 3, without_rows(255))
    proofs.draw_epoch(suite)
    assert_caught(suite, cheat, done, WRONG_VALUE)


def test_skipped_work__that_passes_scores(
    suite: Suite, benchmark: Contract, cheat: Provider, opened: int
) -> None:
    """The other side of the formula: luck is possible, and its price is in the bond."""
    done = proofs.committed(suite, cheat, 2, without_rows(128))
    lucky = proofs.draw_where(done, SAMPLES, lambda samples: all(s.i >= 128 for s in samples))
    proofs.draw_epoch(suite, lucky)
    assert accepted(suite, cheat, done.openings(lucky, SAMPLES))
    assert benchmark.score(cheat.owner) > 0


def test_more_rounds_claimed_than_done(suite: Suite, cheat: Provider, opened: int) -> None:
    """Five rounds done, eight claimed: the commitment is the same, padding stands for the rest."""
    done = proofs.prove(suite, cheat, 5)
    proofs.commit(suite, cheat, 8, done.commitment)
    claimed = proofs.Work(
        done.challenge,
        done.shape,
        [*done.roots, *[bytes(32)] * 3],
        [*done.leaves, *done.leaves[:3]],
        [*done.trees, *done.trees[:3]],
    )
    assert claimed.commitment == done.commitment
    draw = proofs.draw_where(claimed, 1, lambda samples: samples[0].t >= 5)
    proofs.draw_epoch(suite, draw)
    # A root of zeros has no leaf below it.
    (opening,) = claimed.openings(draw, 1)
    assert proofs.refusal(suite, cheat, opening) == WRONG_LEAF
    assert_bond_is_lost(suite, cheat)


# ------------------------------------------------------------- other people's work


def test_old_commitment(suite: Suite, cheat: Provider) -> None:
    """Last epoch's work again."""
    old = proofs.scored(suite, cheat, 3)
    proofs.open_epoch(suite, proofs.beacon_of(pog.keccak(b"another beacon")))
    again = replace(old, challenge=proofs.challenge_of(suite, cheat))
    proofs.commit_work(suite, cheat, again)
    proofs.draw_epoch(suite)
    assert_caught(suite, cheat, again, WRONG_VALUE)


def test_commitment_of_another_provider(
    suite: Suite, benchmark: Contract, cheat: Provider, opened: int
) -> None:
    """Copied from the pool of pending transactions; the honest one loses nothing by it."""
    honest = proofs.prover(suite, "honest")
    done = proofs.prove(suite, honest, 3)
    copied = replace(done, challenge=proofs.challenge_of(suite, cheat))
    proofs.commit_work(suite, cheat, copied)
    proofs.commit_work(suite, honest, done)
    proofs.draw_epoch(suite)
    proofs.show(suite, honest, done)
    assert_caught(suite, cheat, copied, WRONG_VALUE)
    score, effective, total = benchmark.share_of(honest.owner, 1)
    assert score == effective == total > 0


def test_commitment_made_before_the_beacon(suite: Suite, cheat: Provider) -> None:
    """Work for a beacon that was guessed."""
    guessed = pog.challenge(
        1,
        str(suite.benchmark.address),
        1,
        pog.keccak(b"a guess"),
        cheat.owner,
        proofs.shape_of(suite),
    )
    done = proofs.work(guessed, proofs.shape_of(suite), 3)
    proofs.open_epoch(suite)
    claimed = replace(done, challenge=proofs.challenge_of(suite, cheat))
    proofs.commit_work(suite, cheat, claimed)
    proofs.draw_epoch(suite)
    assert_caught(suite, cheat, claimed, WRONG_VALUE)


# ---------------------------------------------------------------- other matrices


def toeplitz(t: int, values: Product) -> Any:
    """Entries that depend on i + j alone: the whole product costs n**2."""
    n = len(values)
    row = np.arange(2 * n) * 31 % 16_129 * 480
    return row[np.add.outer(np.arange(n), np.arange(n))]


def rank_one(t: int, values: Product) -> Product:
    return np.outer(np.arange(1, len(values) + 1), np.arange(1, len(values) + 1))


@pytest.mark.parametrize("forge", [toeplitz, rank_one], ids=["i + j", "rank one"])
def test_structured_matrices(suite: Suite, cheat: Provider, opened: int, forge: Any) -> None:
    done = proofs.committed(suite, cheat, 2, forge)
    proofs.draw_epoch(suite)
    assert_caught(suite, cheat, done, WRONG_VALUE)


def test_rounds_that_are_not_chained(suite: Suite, cheat: Provider, opened: int) -> None:
    """Every round from the seed of no earlier root: they could be done in any order."""
    honest = proofs.prove(suite, cheat, 4)
    seed_a = pog.seed_a(honest.challenge)

    def forge(t: int, values: Product) -> Product:
        return proofs.product(seed_a, pog.seed_b(honest.challenge, t, pog.ZERO), honest.shape)

    done = proofs.committed(suite, cheat, 4, forge)
    draw = proofs.draw_where(done, 1, lambda samples: samples[0].t == 3)
    proofs.draw_epoch(suite, draw)
    assert proofs.refusal(suite, cheat, done.openings(draw, 1)[0]) == WRONG_VALUE
    assert_bond_is_lost(suite, cheat)


def test_one_round_for_all(suite: Suite, cheat: Provider, opened: int) -> None:
    """The same product committed to again and again."""
    first = proofs.prove(suite, cheat, 1)
    repeated = replace(first, roots=first.roots * 4, leaves=first.leaves * 4, trees=first.trees * 4)
    proofs.commit_work(suite, cheat, repeated)
    draw = proofs.draw_where(repeated, 1, lambda samples: samples[0].t == 1)
    proofs.draw_epoch(suite, draw)
    assert proofs.refusal(suite, cheat, repeated.openings(draw, 1)[0]) == WRONG_VALUE
    assert_bond_is_lost(suite, cheat)


# -------------------------------------------------------------- other dimensions


@pytest.fixture(scope="module")
def large() -> Suite:
    """512 x 512, depth 960."""
    return deploy_suite(Parameters(n=512, blocks=2, samples=SAMPLES), with_benchmark=True)


def test_half_the_depth(large: Suite) -> None:
    cheat = proofs.prover(large, "cheat")
    proofs.open_epoch(large)
    done = proofs.work(proofs.challenge_of(large, cheat), Shape(512, 1), 2)
    proofs.commit_work(large, cheat, done)
    proofs.draw_epoch(large)
    assert_caught(large, cheat, done, WRONG_VALUE)


def test_smaller_matrices__paths_too_short(large: Suite) -> None:
    """256 x 256 where 512 x 512 is asked for: four times the rounds, two levels less."""
    cheat = proofs.prover(large, "cheat")
    proofs.open_epoch(large)
    done = proofs.work(proofs.challenge_of(large, cheat), Shape(256, 2), 8)
    proofs.commit_work(large, cheat, done)
    proofs.draw_epoch(large)
    assert proofs.refusal(large, cheat, done.openings(DRAW, 1)[0]) == LENGTH
    assert_bond_is_lost(large, cheat)


def test_smaller_matrices__tiled_to_the_right_size(large: Suite) -> None:
    """A quarter of the work is right: the first 256 rows and columns are the same."""
    cheat = proofs.prover(large, "cheat")
    proofs.open_epoch(large)
    done = proofs.prove(large, cheat, 1, lambda t, values: np.tile(values[:256, :256], (2, 2)))
    proofs.commit_work(large, cheat, done)
    outside = proofs.draw_where(done, 1, lambda s: s[0].i >= 256 or s[0].j >= 256)
    inside = proofs.draw_where(done, SAMPLES, lambda s: all(max(x.i, x.j) < 256 for x in s))
    with boa.env.anchor():
        proofs.draw_epoch(large, inside)
        assert accepted(large, cheat, done.openings(inside, SAMPLES))
    proofs.draw_epoch(large, outside)
    assert proofs.refusal(large, cheat, done.openings(outside, 1)[0]) == WRONG_VALUE
    assert_bond_is_lost(large, cheat)


def test_scores_of_other_dimensions_are_of_their_own_contract(large: Suite, suite: Suite) -> None:
    """The challenge binds N, BLOCKS and the contract: no proof serves two of them."""
    shape = Shape(512, 2)
    owner = suite.owner
    for other in (Shape(256, 2), Shape(512, 1)):
        arguments = (1, str(large.benchmark.address), 0, DRAW, owner)
        assert pog.challenge(*arguments, shape) != pog.challenge(*arguments, other)
    for s in (large, suite):
        assert proofs.open_epoch(s) == 1
    assert large.benchmark.challenge(owner, 1) != suite.benchmark.challenge(owner, 1)


@pytest.mark.parametrize("claimed", [2, 5, 8, 9])
def test_false_path_lengths(suite: Suite, cheat: Provider, opened: int, claimed: int) -> None:
    """A commitment over four rounds, claimed as fewer or more: no path fits the claim."""
    done = proofs.prove(suite, cheat, 4)
    proofs.commit(suite, cheat, claimed, done.commitment)

    def first_sample(draw: bytes) -> Sample:
        arguments = (draw, claimed, done.commitment, done.challenge, done.shape)
        return pog.samples(*arguments, 1)[0]

    draw = next(draw for draw in draws() if first_sample(draw).t < 2)
    proofs.draw_epoch(suite, draw)
    right = done.opening(first_sample(draw))
    for length in range(6):
        path = (right.root_path + (bytes(32),) * 6)[:length]
        fits = length == pog.round_path(claimed)
        refusal = proofs.refusal(suite, cheat, replace(right, root_path=path).words())
        assert refusal == (WRONG_ROOT if fits else LENGTH)
    assert_bond_is_lost(suite, cheat)


def test_fewer_rounds_claimed_than_done(
    suite: Suite, benchmark: Contract, cheat: Provider, opened: int
) -> None:
    """Three claimed of four in the tree: nothing is gained, the score is that of three."""
    done = proofs.prove(suite, cheat, 4)
    proofs.commit(suite, cheat, 3, done.commitment)
    proofs.draw_epoch(suite)
    samples = pog.samples(DRAW, 3, done.commitment, done.challenge, done.shape, SAMPLES)
    assert accepted(suite, cheat, [done.opening(sample).words() for sample in samples])
    three = pog.score(done.shape, 3, suite.parameters.window)
    assert benchmark.score(cheat.owner) == three


# ------------------------------------------------------------------------ timing


def test_late_commit(suite: Suite, benchmark: Contract, cheat: Provider, opened: int) -> None:
    """One second late is too late, and so is any time after the draw."""
    done = proofs.prove(suite, cheat, 3)
    go_to(proofs.window_end(suite, opened))
    with boa.reverts(NO_WINDOW):
        proofs.commit_work(suite, cheat, done)
    proofs.draw_epoch(suite)
    with boa.reverts(NO_WINDOW):
        proofs.commit_work(suite, cheat, done)
    assert not benchmark.is_open(cheat.owner)


def test_replacement_after_the_draw(
    suite: Suite, benchmark: Contract, cheat: Provider, opened: int
) -> None:
    """Who knows the samples would commit to just those."""
    done = proofs.prove(suite, cheat, 3, without_rows(255))
    proofs.commit_work(suite, cheat, done.first(2))
    proofs.draw_epoch(suite)
    with boa.reverts(NO_WINDOW):
        proofs.commit_work(suite, cheat, done)
    assert_caught(suite, cheat, done.first(2), WRONG_VALUE)


def test_second_draw(suite: Suite, benchmark: Contract, cheat: Provider, opened: int) -> None:
    """There is no other draw for a cheat who dislikes the first: not later, not in a void epoch."""
    done = proofs.committed(suite, cheat, 3, without_rows(200))
    proofs.draw_epoch(suite)
    lucky = proofs.draw_where(done, SAMPLES, lambda samples: all(s.i >= 200 for s in samples))
    block = headers.mine(proofs.word_of(lucky))
    with boa.reverts("benchmark: already drawn"):
        benchmark.draw(opened, block.header)
    assert not accepted(suite, cheat, done.openings(lucky, SAMPLES))
    assert_bond_is_lost(suite, cheat)


def test_missed_draw__no_second_chance(
    suite: Suite, benchmark: Contract, cheat: Provider, opened: int
) -> None:
    """A named block that nobody has read in time is not replaced by another one."""
    proofs.committed(suite, cheat, 3, without_rows(200))
    proofs.close_epoch(suite)
    block = proofs.make_target(suite)
    p = suite.parameters
    go_to(proofs.window_end(suite, opened) + p.draw_period + p.reach + 1)
    with boa.reverts("benchmark: too late to draw"):
        benchmark.draw(opened, block.header)
    with boa.reverts("benchmark: already closed"):
        benchmark.close(opened)
    go_to(proofs.end_of(suite))
    with boa.reverts("benchmark: no proof to fail"):
        benchmark.fail(cheat.owner)
