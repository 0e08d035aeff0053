# SPDX-License-Identifier: Apache-2.0
"""An opening that differs from the right one in anything is refused, with the reason that fits."""

from __future__ import annotations

from dataclasses import dataclass

import boa
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teraproof.pog.format import Sample, keccak
from teraproof.pog.merkle import RoundTree
from tests.contracts import proofs
from tests.contracts.actions import Provider
from tests.contracts.deploy import Parameters, Suite, deploy_suite
from tests.contracts.proofs import Work

ROUNDS = 6
LEAF, LEAF_PATH, ROOT_PATH = 16, 7, 3  # words of them: 256 x 256, six rounds
LENGTH = "benchmark: wrong length"
WRONG_LEAF = "benchmark: wrong leaf path"
WRONG_EARLIER = "benchmark: wrong earlier path"
NO_EARLIER = "benchmark: wrong earlier root"
WRONG_ROOT = "benchmark: wrong root path"
WRONG_VALUE = "benchmark: wrong value"
# Why the opening of another proof is refused: whichever comes first for the sample asked for.
OTHER_PROOF = (NO_EARLIER, LENGTH, WRONG_LEAF)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(Parameters(samples=2), with_benchmark=True)


@pytest.fixture(scope="module")
def provider(suite: Suite) -> Provider:
    return proofs.prover(suite)


@pytest.fixture(scope="module")
def done(suite: Suite, provider: Provider) -> Work:
    """Six rounds, committed and not yet drawn."""
    proofs.open_epoch(suite)
    return proofs.committed(suite, provider, ROUNDS)


@dataclass(frozen=True)
class Asked:
    """A drawn proof: what the first sample asks for, and its right opening."""

    suite: Suite
    provider: Provider
    done: Work
    sample: Sample
    opening: list[bytes]
    earlier: int
    """Words of the earlier root's own path."""

    def refusal(self, opening: list[bytes]) -> str:
        return proofs.refusal(self.suite, self.provider, opening)


def ask(suite: Suite, provider: Provider, done: Work, t: int) -> Asked:
    """Draw so that the first sample lies in round t."""
    draw = proofs.draw_where(done, 1, lambda samples: samples[0].t == t)
    proofs.draw_epoch(suite, draw)
    (sample,) = done.samples(draw, 1)
    earlier = (t ^ (t - 2)).bit_length() if t >= 2 else 0
    opening = done.opening(sample).words()
    assert len(opening) == 2 + LEAF + LEAF_PATH + earlier + ROOT_PATH
    return Asked(suite, provider, done, sample, opening, earlier)


@pytest.fixture(params=[1, 3, 4], ids=lambda t: f"t{t}")
def asked(suite: Suite, provider: Provider, done: Work, request: pytest.FixtureRequest) -> Asked:
    """No earlier root; one that meets the root two levels up; one that meets it at the top."""
    return ask(suite, provider, done, request.param)


def expected_refusal(asked: Asked, word: int) -> str:
    """Why an opening with another word at a place is refused."""
    first_path = 2 + LEAF
    earlier_path = first_path + LEAF_PATH
    root_path = earlier_path + asked.earlier
    if word == 0:
        return WRONG_EARLIER if asked.earlier else NO_EARLIER
    if word < earlier_path:
        return WRONG_LEAF
    # Below the node where both paths meet, the path of root(t) must lead there.
    return WRONG_EARLIER if word < root_path + asked.earlier else WRONG_ROOT


def flipped(opening: list[bytes], word: int, bit: int) -> list[bytes]:
    value = int.from_bytes(opening[word], "big") ^ 1 << bit
    return [*opening[:word], value.to_bytes(32, "big"), *opening[word + 1 :]]


def test_open_sample__the_right_opening(asked: Asked) -> None:
    assert asked.suite.benchmark.open_sample(asked.provider.owner, asked.opening) == 1


def test_open_sample__a_flipped_bit_in_every_word(asked: Asked) -> None:
    """The lowest, the highest and two more bits of each word of every field."""
    for word in range(len(asked.opening)):
        for bit in (0, 255, 37 * word % 256, (101 * word + 128) % 256):
            found = asked.refusal(flipped(asked.opening, word, bit))
            assert found == expected_refusal(asked, word), (word, bit)


def test_open_sample__every_bit_of_both_roots_and_of_the_value(
    suite: Suite, provider: Provider, done: Work
) -> None:
    asked = ask(suite, provider, done, 3)
    for word in (0, 1, 2 + (asked.done.shape.leaf_place(asked.sample.i, asked.sample.j) >> 5)):
        for bit in range(256):
            found = asked.refusal(flipped(asked.opening, word, bit))
            assert found == expected_refusal(asked, word), (word, bit)


# The draw that the fixture makes holds for all examples.
ONE_DRAW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_DRAW
@given(st.data())
def test_open_sample__any_flipped_bit(asked: Asked, data: st.DataObject) -> None:
    word = data.draw(st.integers(0, len(asked.opening) - 1))
    bit = data.draw(st.integers(0, 255))
    assert asked.refusal(flipped(asked.opening, word, bit)) == expected_refusal(asked, word)


@ONE_DRAW
@given(st.data())
def test_open_sample__any_other_word(asked: Asked, data: st.DataObject) -> None:
    word = data.draw(st.integers(0, len(asked.opening) - 1))
    old = asked.opening[word]
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda new: new != old))
    opening = [*asked.opening[:word], other, *asked.opening[word + 1 :]]
    assert asked.refusal(opening) == expected_refusal(asked, word)


# --------------------------------------------------------------------- lengths


def test_open_sample__one_word_too_few_or_too_many(asked: Asked) -> None:
    first_path = 2 + LEAF
    earlier_path = first_path + LEAF_PATH
    root_path = earlier_path + asked.earlier
    for place in (first_path, earlier_path, root_path, len(asked.opening) - 1):
        shorter = asked.opening[:place] + asked.opening[place + 1 :]
        assert asked.refusal(shorter) == LENGTH
        longer = [*asked.opening[:place], bytes(32), *asked.opening[place:]]
        assert asked.refusal(longer) == LENGTH
    assert asked.refusal([*asked.opening, bytes(32)]) == LENGTH


def test_open_sample__any_other_length(asked: Asked) -> None:
    """89 words is what the largest proof of the format needs."""
    for length in (1, 2, 17, 18, 88, 89):
        opening = (asked.opening + [bytes(32)] * 89)[:length]
        assert asked.refusal(opening) == LENGTH
    # No word at all, and more than any opening has: refused before there is a reason to give.
    assert asked.refusal([]) == ""
    assert asked.refusal(asked.opening + [bytes(32)] * (90 - len(asked.opening))) == ""


def test_open_sample__a_node_does_not_pass_for_a_leaf(asked: Asked) -> None:
    """Second preimage: the two hashes below a node in place of the leaf, one level up."""
    pair = [asked.opening[2], asked.opening[3]]
    opening = asked.opening[:2] + pair + asked.opening[2 + LEAF + 1 :]
    assert asked.refusal(opening) == LENGTH
    padded = asked.opening[:2] + pair + [bytes(32)] * 14 + asked.opening[2 + LEAF :]
    assert asked.refusal(padded) == WRONG_LEAF


def test_open_sample__paths_swapped(suite: Suite, provider: Provider, done: Work) -> None:
    asked = ask(suite, provider, done, 4)
    fixed, leaf_path = asked.opening[: 2 + LEAF], asked.opening[2 + LEAF :][:LEAF_PATH]
    earlier, path = asked.opening[-6:-3], asked.opening[-3:]
    assert asked.refusal([*fixed, *leaf_path, *path, *earlier]) == WRONG_EARLIER
    assert asked.refusal([*fixed, *earlier, *leaf_path, *path]) == WRONG_LEAF
    assert asked.refusal([*fixed, *leaf_path[::-1], *earlier, *path]) == WRONG_LEAF
    assert asked.refusal([*fixed, *leaf_path, *earlier, *path[::-1]]) == WRONG_EARLIER


def test_open_sample__roots_swapped(suite: Suite, provider: Provider, done: Work) -> None:
    asked = ask(suite, provider, done, 4)
    swapped = [asked.opening[1], asked.opening[0], *asked.opening[2:]]
    assert asked.refusal(swapped) == WRONG_LEAF


def test_open_sample__earlier_root_of_another_round(
    suite: Suite, provider: Provider, done: Work
) -> None:
    """The root of round t-1 in place of t-2, with its own right path."""
    asked = ask(suite, provider, done, 3)
    tree = RoundTree(done.roots)
    place = 2 + LEAF + LEAF_PATH
    opening = [
        done.roots[2],
        *asked.opening[1:place],
        *tree.path(2)[:2],
        *asked.opening[place + 2 :],
    ]
    assert asked.refusal(opening) == WRONG_EARLIER


def test_open_sample__earlier_root_where_there_is_none(
    suite: Suite, provider: Provider, done: Work
) -> None:
    asked = ask(suite, provider, done, 1)
    assert asked.refusal([done.roots[0], *asked.opening[1:]]) == NO_EARLIER
    place = 2 + LEAF + LEAF_PATH
    with_path = [*asked.opening[:place], done.roots[0], *asked.opening[place:]]
    assert asked.refusal(with_path) == LENGTH


# ---------------------------------------------------------- right, but not here


@pytest.fixture
def twice(suite: Suite, provider: Provider, done: Work) -> list[list[bytes]]:
    """A draw whose two samples lie in one round, in two rows; their openings."""
    draw = proofs.draw_where(done, 2, lambda s: s[0].t == s[1].t and s[0].i != s[1].i)
    proofs.draw_epoch(suite, draw)
    return done.openings(draw, 2)


def test_open_samples__in_another_order(
    suite: Suite, provider: Provider, twice: list[list[bytes]]
) -> None:
    for wrong in ([twice[1]], twice[::-1], [twice[0], twice[0]], [twice[1], twice[1]]):
        with boa.reverts(WRONG_LEAF):
            suite.benchmark.open_samples(provider.owner, wrong)
    assert suite.benchmark.proof_of(provider.owner).verified == 0
    suite.benchmark.open_samples(provider.owner, twice)


def test_open_sample__the_same_one_twice(
    suite: Suite, provider: Provider, twice: list[list[bytes]]
) -> None:
    suite.benchmark.open_sample(provider.owner, twice[0])
    assert proofs.refusal(suite, provider, twice[0]) == WRONG_LEAF
    assert suite.benchmark.proof_of(provider.owner).verified == 1


def test_open_samples__a_bad_one_at_the_end__none_counts(
    suite: Suite, provider: Provider, twice: list[list[bytes]]
) -> None:
    bad = flipped(twice[1], 5, 5)
    with boa.reverts(WRONG_LEAF):
        suite.benchmark.open_samples(provider.owner, [twice[0], bad])
    assert suite.benchmark.proof_of(provider.owner).verified == 0


def test_open_sample__of_another_provider(suite: Suite, provider: Provider, done: Work) -> None:
    other = proofs.prover(suite, "other provider")
    own = proofs.committed(suite, other, ROUNDS)
    proofs.draw_epoch(suite)
    theirs, ours = (work.openings(proofs.DRAW, 1)[0] for work in (done, own))
    assert proofs.refusal(suite, other, theirs) in OTHER_PROOF
    suite.benchmark.open_sample(other.owner, ours)
    suite.benchmark.open_sample(provider.owner, theirs)


def test_open_sample__of_an_old_epoch(suite: Suite, provider: Provider, done: Work) -> None:
    proofs.draw_epoch(suite)
    old = done.openings(proofs.DRAW, 2)
    suite.benchmark.open_samples(provider.owner, old)
    proofs.open_epoch(suite, proofs.beacon_of(keccak(b"another beacon")))
    new = proofs.committed(suite, provider, ROUNDS)
    assert new.roots != done.roots
    proofs.draw_epoch(suite)
    assert proofs.refusal(suite, provider, old[0]) in OTHER_PROOF
    suite.benchmark.open_samples(provider.owner, new.openings(proofs.DRAW, 2))


# ------------------------------------------------------------------- the value


@pytest.mark.parametrize("bit", range(8))
def test_open_sample__every_bit_of_the_value_is_compared(suite: Suite, bit: int) -> None:
    """Honest trees over products with one bit wrong in every entry."""
    cheat = proofs.prover(suite, "cheat")
    proofs.open_epoch(suite)
    done = proofs.committed(suite, cheat, 1, lambda t, values: values ^ 1 << bit)
    proofs.draw_epoch(suite)
    (opening, _) = done.openings(proofs.DRAW, 2)
    assert proofs.refusal(suite, cheat, opening) == WRONG_VALUE


def test_open_sample__value_at_the_right_column(suite: Suite) -> None:
    """A product whose columns are shifted by one has every right value, in the wrong place."""
    cheat = proofs.prover(suite, "cheat")
    proofs.open_epoch(suite)
    done = proofs.committed(suite, cheat, 1, lambda t, values: np.roll(values, 1, axis=1))
    proofs.draw_epoch(suite)
    assert proofs.refusal(suite, cheat, done.openings(proofs.DRAW, 1)[0]) == WRONG_VALUE
