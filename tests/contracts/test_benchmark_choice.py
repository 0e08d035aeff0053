# SPDX-License-Identifier: Apache-2.0
"""I-14: once its block is named, no call changes a beacon, lottery or draw, nor who makes it when.

A naming call knows nothing of its block.
"""

from __future__ import annotations

from typing import Any

import boa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.pog import format as pog
from tests.contracts import headers, proofs
from tests.contracts.actions import Provider, go_to, now, pass_time
from tests.contracts.deploy import (
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_suite,
    deployer_of,
)
from tests.contracts.proofs import BEACON, DRAW, word_of

pytestmark = pytest.mark.invariant("I-14")

DONE, CLAIMED, SAMPLES = 5, 6, 4
NO_HASH = "randomness: no hash of the block"
LIKED = "picker: not this draw"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(Parameters(samples=SAMPLES), with_benchmark=True)


@pytest.fixture
def opened(suite: Suite) -> int:
    return proofs.open_epoch(suite)


@pytest.fixture
def picker(suite: Suite) -> Contract:
    return deployer_of("mocks/Picker").deploy(suite.benchmark.address)


@pytest.fixture
def cheat(suite: Suite, opened: int) -> Provider:
    """A provider that claims six rounds and has done five."""
    provider = proofs.prover(suite, "cheat")
    done = proofs.prove(suite, provider, DONE)
    proofs.commit(suite, provider, CLAIMED, done.commitment)
    return provider


def asks_for(suite: Suite, provider: Provider, draw: bytes) -> list[int]:
    """The rounds that a draw asks a proof for."""
    proof = suite.benchmark.proof_of(provider.owner)
    challenge = suite.benchmark.challenge(provider.owner, proof.epoch)
    arguments = (draw, proof.rounds, proof.commitment, challenge, proofs.shape_of(suite))
    return [sample.t for sample in pog.samples(*arguments, SAMPLES)]


def draws_that(suite: Suite, provider: Provider, liked: bool) -> bytes:
    """A draw that asks for nothing the cheat has not done, or for something."""
    rows = (proofs.draw_of(pog.keccak(pog.word(n))) for n in range(1_000))
    return next(d for d in rows if (max(asks_for(suite, provider, d)) < DONE) == liked)


# ------------------------------------------------------------------ the reading


@given(
    wait=st.integers(0, 120 + 600),
    blocks=st.integers(1, 8_191),
    caller=st.sampled_from(["a reader", "cheat", "deployer"]),
    before=st.integers(0, 3),
)
def test_draw__is_the_same_whoever_reads_it_and_when(
    suite: Suite, wait: Any, blocks: Any, caller: Any, before: Any
) -> None:
    """Any second and block in which it can be read; whatever is mined or tried before."""
    with boa.env.anchor():
        epoch = proofs.open_epoch(suite)
        proofs.close_epoch(suite)
        target = proofs.make_target(suite)
        headers.keep(target.number, target.header)
        for number in range(before):
            child = headers.mine(pog.keccak(pog.word(number)))
            with boa.reverts("header: not of that block"):
                suite.benchmark.draw(epoch, child.header)
        boa.env.evm.patch.prevrandao = pog.keccak(pog.word(blocks))
        headers.go_to_block(target.number + max(blocks, before + 1))
        go_to(max(now(), proofs.window_end(suite, epoch) + wait))
        suite.benchmark.draw(epoch, target.header, sender=address_of(caller))
        assert suite.benchmark.epoch_of(epoch).draw == DRAW


@given(wait=st.integers(0, 120), first=st.booleans())
def test_draw__of_two_readers_either_is_first(suite: Suite, wait: Any, first: Any) -> None:
    """Both send the same header; one succeeds, and it does not matter which."""
    with boa.env.anchor():
        epoch = proofs.open_epoch(suite)
        proofs.close_epoch(suite)
        target = proofs.make_target(suite)
        pass_time(wait)
        readers = [address_of("one"), address_of("another")]
        suite.benchmark.draw(epoch, target.header, sender=readers[first])
        with boa.reverts("benchmark: already drawn"):
            suite.benchmark.draw(epoch, target.header, sender=readers[not first])
        assert suite.benchmark.epoch_of(epoch).draw == DRAW


def test_draw__not_reading_it__changes_nothing_but_for_all(
    suite: Suite, cheat: Provider, opened: int
) -> None:
    """The only other outcome is none, for everybody, and only if nobody at all reads."""
    p = suite.parameters
    proofs.close_epoch(suite)
    target = proofs.make_target(suite, draws_that(suite, cheat, liked=False))
    go_to(proofs.window_end(suite, opened) + p.draw_period + p.reach)
    # The cheat did not; anybody else still can, in the last second.
    suite.benchmark.draw(opened, target.header, sender=address_of("somebody else"))
    assert max(asks_for(suite, cheat, suite.benchmark.epoch_of(opened).draw)) >= DONE


@given(late=st.integers(0, 120), blocks=st.integers(1, 256))
def test_open__beacon_is_the_same_whoever_presents_it_and_when(
    suite: Suite, late: Any, blocks: Any
) -> None:
    with boa.env.anchor():
        epoch = proofs.next_epoch(suite)
        boundary = now()
        block = headers.mine(word_of(BEACON))
        boa.env.evm.patch.prevrandao = pog.keccak(pog.word(late))
        headers.go_to_block(block.number + blocks)
        go_to(boundary + late)
        proofs.present(suite, block)
        found = suite.benchmark.epoch_of(epoch)
        assert (found.beacon, found.opened_at) == (BEACON, boundary)


# ------------------------------------------------------------------- the naming


@given(wait=st.integers(0, 120), delay=st.integers(0, 50))
def test_close__names_a_block_of_which_nothing_is_known(
    suite: Suite, wait: Any, delay: Any
) -> None:
    """Whenever it comes: neither the block nor the one before it is there."""
    with boa.env.anchor():
        epoch = proofs.open_epoch(suite)
        go_to(proofs.window_end(suite, epoch) + wait)
        headers.go_to_block(headers.block_number() + delay)
        suite.benchmark.close(epoch)
        target = suite.benchmark.epoch_of(epoch).target
        assert target == headers.block_number() + suite.parameters.draw_delay
        assert target - 1 > headers.block_number()


def test_close__the_present_block_has_no_part_in_the_draw(suite: Suite, opened: int) -> None:
    """Two worlds that differ in everything up to the naming call, and not in the named block."""
    for number in range(3):
        with boa.env.anchor():
            for _ in range(number):
                headers.mine(pog.keccak(pog.word(number)))
            boa.env.evm.patch.prevrandao = pog.keccak(pog.word(number))
            proofs.close_epoch(suite)
            target = proofs.make_target(suite)
            suite.benchmark.draw(opened, target.header)
            assert suite.benchmark.epoch_of(opened).draw == DRAW


# ------------------------------------------------------------------- the picker


@pytest.mark.parametrize("liked", [False, True])
def test_picker__gains_nothing(
    suite: Suite, picker: Contract, cheat: Provider, opened: int, liked: bool
) -> None:
    """It tries every block in which the draw can be read: each shows it the same samples."""
    proofs.close_epoch(suite)
    target = proofs.make_target(suite, draws_that(suite, cheat, liked))
    outcomes = set()
    for blocks in range(1, 257, 5):
        with boa.env.anchor():
            headers.go_to_block(target.number + blocks)
            boa.env.evm.patch.prevrandao = pog.keccak(pog.word(blocks))
            try:
                picker.draw(cheat.owner, target.header, DONE)
                outcomes.add(True)
            except boa.BoaError:
                outcomes.add(False)
    assert outcomes == {liked}


def test_picker__that_passes_over_a_draw__is_overtaken(
    suite: Suite, picker: Contract, cheat: Provider, opened: int
) -> None:
    """Its refusal keeps nobody else from drawing the same."""
    draw = draws_that(suite, cheat, liked=False)
    proofs.close_epoch(suite)
    target = proofs.make_target(suite, draw)
    with boa.reverts(LIKED):
        picker.draw(cheat.owner, target.header, DONE)
    suite.benchmark.draw(opened, target.header)
    assert suite.benchmark.epoch_of(opened).draw == draw


def test_picker__cannot_choose_the_block(
    suite: Suite, picker: Contract, cheat: Provider, opened: int
) -> None:
    """Whatever block it would name is not to be read in that call; nor is another one read."""
    go_to(proofs.window_end(suite, opened))
    past = headers.mine(word_of(draws_that(suite, cheat, liked=True)))
    for _ in range(4):
        with boa.reverts(NO_HASH):
            picker.close_and_draw(cheat.owner, past.header, DONE)
        past = headers.mine(past.prevrandao)
    assert suite.benchmark.epoch_of(opened).target == 0


def test_picker__passes_as_often_as_everybody(
    suite: Suite, picker: Contract, cheat: Provider, opened: int
) -> None:
    """Over many blocks that might have been named: (5/6)^4, within four standard deviations."""
    proofs.close_epoch(suite)
    trials, passed = 120, 0
    for number in range(trials):
        with boa.env.anchor():
            draw = proofs.draw_of(pog.keccak(b"picked" + pog.word(number)))
            target = proofs.make_target(suite, draw)
            foretold = max(asks_for(suite, cheat, draw)) < DONE
            if foretold:
                picker.draw(cheat.owner, target.header, DONE)
            else:
                with boa.reverts(LIKED):
                    picker.draw(cheat.owner, target.header, DONE)
            passed += foretold
    chance = (DONE / CLAIMED) ** SAMPLES
    assert abs(passed - trials * chance) <= 4 * (trials * chance * (1 - chance)) ** 0.5
