# SPDX-License-Identifier: Apache-2.0
"""`open`: the first block of a boundary opens a window if chance has it so, without memory."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.pog import format as pog
from tests.contracts import headers, proofs
from tests.contracts.actions import event, go_to, now, pass_time
from tests.contracts.deploy import Contract, Parameters, Suite, deploy_suite, deployer_of
from tests.contracts.proofs import BEACON, DRAW, present, word_of

pytestmark = pytest.mark.invariant("I-14")

ARB_SYS = "0x" + "64".rjust(40, "0")
PAST = "benchmark: boundary is past"
TOO_EARLY = "randomness: block is too early"
NOT_FIRST = "randomness: not the first block"
LOSES = "benchmark: boundary does not win"
TOO_SOON = "benchmark: window too early"
NO_HASH = "randomness: no hash of the block"
QUARTER = 250_000
MILLION = 1_000_000
WORD = word_of(BEACON)


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Every boundary wins."""
    return deploy_suite(with_benchmark=True)


@pytest.fixture(scope="module")
def rare() -> Suite:
    """One boundary in four wins."""
    return deploy_suite(Parameters(chance_ppm=QUARTER), with_benchmark=True)


@pytest.fixture
def boundary(suite: Suite) -> int:
    """The next one, which is now."""
    proofs.next_epoch(suite)
    return now()


def lot(word: bytes) -> int:
    """What decides, in millionths."""
    return int.from_bytes(pog.keccak(b"lottery" + word), "big") % MILLION


def word_with(wanted: Any) -> bytes:
    """The first of a row of words whose lot is as wanted."""
    return next(w for w in map(pog.word, range(1, 10_000)) if wanted(lot(w)))


WINS = word_with(lambda found: found < QUARTER)
LOSER = word_with(lambda found: found >= QUARTER)


def mined(time: int, *, word: bytes = WORD, seconds: int = 1) -> headers.Block:
    """A block at a time whose parent is `seconds` older; the next one is at the same time."""
    go_to(time)
    block = headers.mine(word, seconds=seconds)
    go_to(time)
    return block


# ------------------------------------------------------------------------ open


def test_open__stores_beacon_and_the_blocks_time(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int, stranger: str
) -> None:
    block = mined(boundary + 7, seconds=8)
    pass_time(60)
    assert benchmark.epoch_of(1) == (bytes(32), 0, 0, bytes(32), 0)
    with boa.env.prank(stranger):
        present(suite, block)
    assert event(benchmark, "Opened") == {
        "epoch": 1,
        "beacon": BEACON,
        "opened_at": boundary + 7,
        "number": block.number,
    }
    end = boundary + 7 + p.length
    assert benchmark.epoch_of(1) == (BEACON, boundary + 7, 0, bytes(32), end)
    assert benchmark.current_epoch() == 1
    assert benchmark.next_window_from() == boundary + 7 + p.spacing


def test_open__beacon_is_a_hash_of_its_own(
    suite: Suite, benchmark: Contract, boundary: int
) -> None:
    """Not the block's word, nor what decided the lottery."""
    present(suite, mined(boundary))
    beacon = benchmark.epoch_of(1).beacon
    assert beacon == pog.keccak(b"beacon" + WORD)
    assert beacon not in (WORD, pog.keccak(b"lottery" + WORD), pog.keccak(b"draw" + WORD))


def test_open__presented_late__gains_nothing(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int
) -> None:
    """The window ends by the block's time, whoever keeps it back as long as can be."""
    block = mined(boundary)
    provider = proofs.prover(suite)
    go_to(boundary + p.open_period + 1)
    with boa.reverts(PAST):
        present(suite, block)
    go_to(boundary + p.open_period)
    present(suite, block)
    go_to(boundary + p.window)
    with boa.reverts("benchmark: not in the window"):
        proofs.commit(suite, provider, 1, DRAW)
    go_to(boundary + p.window - 1)
    proofs.commit(suite, provider, 1, DRAW)


def test_open__boundary_that_nobody_presents__is_lost(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int
) -> None:
    block = mined(boundary)
    for time in (boundary + p.open_period + 1, boundary + p.slot - 1):
        go_to(time)
        with boa.reverts(PAST):
            present(suite, block)
    # The next boundary is now the one that can be presented, and this block is not its.
    go_to(boundary + p.slot)
    with boa.reverts(TOO_EARLY):
        present(suite, block)
    present(suite, mined(boundary + p.slot))
    assert benchmark.epoch_of(1).opened_at == boundary + p.slot


def test_open__block_before_the_boundary__reverts(suite: Suite, boundary: int) -> None:
    block = mined(boundary - 1)
    go_to(boundary)
    with boa.reverts(TOO_EARLY):
        present(suite, block)


def test_open__second_block_after_the_boundary__reverts(suite: Suite, boundary: int) -> None:
    """Else there would be a choice among the blocks of OPEN_PERIOD."""
    for late, seconds in ((1, 1), (12, 12), (12, 1)):
        block = mined(boundary + late, seconds=seconds)
        with boa.reverts(NOT_FIRST):
            present(suite, block)
    present(suite, mined(boundary + 12, seconds=13))


def test_open__block_after_several_boundaries(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int
) -> None:
    """The chain stood still: its next block is the first one of the newest boundary, once."""
    block = mined(boundary + 3 * p.slot + 9, seconds=5 * p.slot)
    present(suite, block)
    assert benchmark.epoch_of(1).opened_at == boundary + 3 * p.slot + 9
    with boa.reverts(TOO_SOON):
        present(suite, block)


def test_open__block_that_comes_too_late__reverts(
    suite: Suite, p: Parameters, boundary: int
) -> None:
    """So late that its boundary is past when it is there."""
    block = mined(boundary + p.open_period + 1, seconds=p.slot)
    with boa.reverts(PAST):
        present(suite, block)


def test_open__wrong_headers__revert(suite: Suite, benchmark: Contract, boundary: int) -> None:
    block = mined(boundary)
    number, header, parent = block.number, block.header, block.parent
    forged = headers.build(number, boundary, word_of(DRAW), parent_hash=headers.hash_of(parent))
    for other in (forged, parent, b"", header[:-1]):
        with boa.reverts("header: not of that block"):
            benchmark.open(number, other, parent)
    older = headers.build(number - 1, boundary - 100, WORD)
    for other in (older, header, b"", parent[:-1]):
        with boa.reverts("header: not of the parent"):
            benchmark.open(number, header, other)
    for unknown in (number + 1, number + 2, 2**256 - 1):
        with boa.reverts(NO_HASH):
            benchmark.open(unknown, header, parent)
    with boa.reverts("header: not of that block"):
        benchmark.open(number - 1, header, parent)
    benchmark.open(number, header, parent)


def test_open__hash_out_of_reach__reverts(suite: Suite, boundary: int) -> None:
    block = mined(boundary)
    headers.go_to_block(block.number + 257)
    with boa.reverts(NO_HASH):
        present(suite, block)
    headers.keep(block.number, block.header)
    present(suite, block)


def test_open__before_genesis() -> None:
    """A deployment whose first boundary is yet to come; genesis is that boundary."""
    genesis = now() + 1_000
    suite = deploy_suite(Parameters(genesis=genesis), with_benchmark=True)
    block = mined(genesis - 1)
    with boa.reverts("benchmark: before genesis"):
        present(suite, block)
    go_to(genesis)
    with boa.reverts(TOO_EARLY):
        present(suite, block)
    assert suite.benchmark.next_window_from() == genesis
    present(suite, mined(genesis))
    assert suite.benchmark.epoch_of(1).opened_at == genesis


def test_challenge__needs_an_opened_epoch(suite: Suite, benchmark: Contract, stranger: str) -> None:
    for epoch in (0, 1, 2**256 - 1):
        with boa.reverts("benchmark: epoch is not open"):
            benchmark.challenge(stranger, epoch)
    epoch = proofs.open_epoch(suite)
    here = pog.challenge(1, str(benchmark.address), epoch, BEACON, stranger, proofs.shape_of(suite))
    assert benchmark.challenge(stranger, epoch) == here
    assert benchmark.challenge(suite.owner, epoch) != here


# --------------------------------------------------------------------- spacing


def test_spacing__exact(suite: Suite, benchmark: Contract, p: Parameters, boundary: int) -> None:
    """By the blocks' times, so a block that came late moves the next window."""
    present(suite, mined(boundary + 5, seconds=6))
    next_one = boundary + p.spacing
    assert benchmark.next_window_from() == next_one + 5
    early = mined(next_one + 4, seconds=5)
    with boa.reverts(TOO_SOON):
        present(suite, early)
    with boa.env.anchor():
        present(suite, mined(next_one + 5, seconds=6))
        assert benchmark.current_epoch() == 2
    present(suite, mined(next_one + p.slot))
    assert benchmark.epoch_of(2).opened_at == next_one + p.slot


def test_spacing__no_boundary_between(suite: Suite, p: Parameters, boundary: int) -> None:
    present(suite, mined(boundary))
    for number in range(1, p.spacing // p.slot):
        block = mined(boundary + number * p.slot)
        with boa.reverts(TOO_SOON):
            present(suite, block)
    present(suite, mined(boundary + p.spacing))


def test_spacing__epochs_never_overlap(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int
) -> None:
    """SPACING is at least LENGTH: when a window opens, the epoch before it has ended."""
    present(suite, mined(boundary))
    present(suite, mined(boundary + p.spacing))
    assert benchmark.epoch_of(1).ends_at <= benchmark.epoch_of(2).opened_at


def test_epochs__are_numbered_as_they_open(
    suite: Suite, benchmark: Contract, p: Parameters, boundary: int
) -> None:
    """A boundary that is lost counts for nothing."""
    for number in (1, 2, 3):
        assert proofs.open_epoch(suite) == number
        assert benchmark.current_epoch() == number
        pass_time(2 * p.spacing)
    assert benchmark.epoch_of(4).opened_at == 0


# --------------------------------------------------------------------- lottery


def test_lottery__chance_is_exact(suite: Suite) -> None:
    """The lot must be below the chance."""
    found = lot(WORD)
    for chance, wins in ((found, False), (found + 1, True)):
        other = deploy_suite(Parameters(chance_ppm=chance), with_benchmark=True)
        proofs.next_epoch(other)
        block = mined(now())
        assert other.benchmark.wins(WORD) == wins
        if wins:
            present(other, block)
        else:
            with boa.reverts(LOSES):
                present(other, block)


@given(word=st.binary(min_size=32, max_size=32))
def test_lottery__is_a_tagged_hash_of_the_word(rare: Suite, word: Any) -> None:
    assert rare.benchmark.wins(word) == (lot(word) < QUARTER)


def test_lottery__wins_as_often_as_the_chance_says(rare: Suite) -> None:
    """Within four standard deviations of a quarter."""
    count = sum(rare.benchmark.wins(pog.keccak(pog.word(n))) for n in range(600))
    assert abs(count - 150) < 4 * (600 * 0.25 * 0.75) ** 0.5


def test_lottery__has_no_memory(rare: Suite) -> None:
    """A word wins or loses whatever came before: windows, lost boundaries, a long silence."""
    benchmark, p = rare.benchmark, rare.parameters

    def outcome(word: bytes) -> bool:
        """Whether a boundary with this word opens a window, tried and undone."""
        with boa.env.anchor():
            proofs.next_epoch(rare)
            block = mined(now(), word=word)
            try:
                present(rare, block)
            except boa.BoaError:
                return False
            return True

    words = [WINS, LOSER, *map(pog.word, range(50, 56))]
    expected = [lot(word) < QUARTER for word in words]
    assert [outcome(word) for word in words] == expected
    for _ in range(3):  # losers in a row
        proofs.next_epoch(rare)
        block = mined(now(), word=LOSER)
        with boa.reverts(LOSES):
            present(rare, block)
        pass_time(p.slot)
    assert [outcome(word) for word in words] == expected
    pass_time(100 * p.slot)
    assert [outcome(word) for word in words] == expected
    proofs.next_epoch(rare)
    present(rare, mined(now(), word=WINS))
    assert [outcome(word) for word in words] == expected
    assert benchmark.current_epoch() == 1


def test_lottery__a_loser_changes_nothing(rare: Suite) -> None:
    proofs.next_epoch(rare)
    block = mined(now(), word=LOSER)
    with boa.reverts(LOSES):
        present(rare, block)
    assert rare.benchmark.current_epoch() == 0
    assert rare.benchmark.next_window_from() == rare.benchmark.GENESIS()


# --------------------------------------------------------------------- sources


def test_source__block_hash() -> None:
    """Where prevrandao is constant, the hash of the boundary's block decides all."""
    suite = deploy_suite(Parameters(randomness=1), with_benchmark=True)
    proofs.next_epoch(suite)
    block = mined(now())
    present(suite, block)
    assert suite.benchmark.epoch_of(1).beacon == pog.keccak(b"beacon" + block.hash)


def test_source__arbitrum() -> None:
    """Blocks by ArbSys's numbers, which BLOCKHASH does not know there."""
    suite = deploy_suite(Parameters(randomness=2), with_benchmark=True)
    sys = deployer_of("mocks/ArbSys").deploy(override_address=ARB_SYS)
    proofs.next_epoch(suite)
    block = headers.block(250_000_000, now(), WORD)
    sys.set_block(block.number + 1, block.hash)
    present(suite, block)
    assert event(suite.benchmark, "Opened")["number"] == block.number
    assert suite.benchmark.epoch_of(1).beacon == pog.keccak(b"beacon" + block.hash)
