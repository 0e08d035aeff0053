# SPDX-License-Identifier: Apache-2.0
"""`close` and `draw`: in their periods, once; an epoch without a draw is void."""

from __future__ import annotations

import boa
import pytest

from teraproof.pog import format as pog
from tests.contracts import headers, proofs
from tests.contracts.actions import event, go_to, now, pass_time
from tests.contracts.deploy import TPF, Contract, Parameters, Suite, deploy_suite, deployer_of
from tests.contracts.headers import HISTORY_REACH
from tests.contracts.proofs import BEACON, DRAW, word_of

pytestmark = pytest.mark.invariant("I-10")

ARB_SYS = "0x" + "64".rjust(40, "0")
NOT_NOW = "benchmark: not the time to close"
CLOSED = "benchmark: already closed"
NOT_CLOSED = "benchmark: epoch is not closed"
NO_HASH = "randomness: no hash of the block"
TOO_LATE = "benchmark: too late to draw"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(with_benchmark=True)


@pytest.fixture
def epoch(suite: Suite) -> int:
    """The first epoch, just opened."""
    return proofs.open_epoch(suite)


@pytest.fixture
def target(suite: Suite, epoch: int) -> headers.Block:
    """It is closed, and the named block is the newest."""
    proofs.close_epoch(suite)
    return proofs.make_target(suite)


def draw_until(suite: Suite, epoch: int) -> int:
    p = suite.parameters
    return proofs.window_end(suite, epoch) + p.draw_period + p.reach


# ----------------------------------------------------------------------- close


def test_close__names_a_block_to_come(
    suite: Suite, benchmark: Contract, p: Parameters, epoch: int, stranger: str
) -> None:
    go_to(proofs.window_end(suite, epoch))
    headers.go_to_block(1_000_000)
    benchmark.close(epoch, sender=stranger)
    assert event(benchmark, "Closed") == {"epoch": epoch, "target": 1_000_000 + p.draw_delay}
    found = benchmark.epoch_of(epoch)
    assert (found.beacon, found.target, found.draw) == (BEACON, 1_000_002, bytes(32))


@pytest.mark.parametrize("delay", [2, 32, 2**32])
def test_close__delay_is_in_blocks(delay: int) -> None:
    suite = deploy_suite(Parameters(draw_delay=delay), with_benchmark=True)
    proofs.open_epoch(suite)
    headers.go_to_block(77)
    assert proofs.close_epoch(suite) == 77 + delay


def test_close__first_and_last_second(
    suite: Suite, benchmark: Contract, p: Parameters, epoch: int
) -> None:
    end = proofs.window_end(suite, epoch)
    for second in (now(), end - 1, end + p.draw_period + 1, end + 10**9):
        go_to(second)
        with boa.reverts(NOT_NOW):
            benchmark.close(epoch)
    for second in (end, end + p.draw_period):
        with boa.env.anchor():
            go_to(second)
            benchmark.close(epoch)


def test_close__begins_where_commits_end(suite: Suite, benchmark: Contract, epoch: int) -> None:
    """No second belongs to both: nobody commits when the block is named."""
    provider = proofs.prover(suite)
    end = proofs.window_end(suite, epoch)
    go_to(end - 1)
    proofs.commit(suite, provider, 1, DRAW)
    with boa.reverts(NOT_NOW):
        benchmark.close(epoch)
    go_to(end)
    with boa.reverts("benchmark: not in the window"):
        proofs.commit(suite, provider, 2, DRAW)
    benchmark.close(epoch)


def test_close__twice__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, epoch: int, stranger: str
) -> None:
    """One block for all: nobody names another, whatever the first turns out to be."""
    first = proofs.close_epoch(suite)
    for seconds in (0, 1, p.draw_period - 1, 10**6):
        pass_time(seconds)
        with boa.reverts(CLOSED):
            benchmark.close(epoch, sender=stranger)
    assert benchmark.epoch_of(epoch).target == first


def test_close__not_open__reverts(benchmark: Contract, epoch: int) -> None:
    for other in (0, epoch + 1, 2**256 - 1):
        with boa.reverts(NOT_NOW):
            benchmark.close(other)


# ------------------------------------------------------------------------ draw


def test_draw__is_a_tagged_hash_of_the_named_block(
    suite: Suite, benchmark: Contract, epoch: int, target: headers.Block, stranger: str
) -> None:
    benchmark.draw(epoch, target.header, sender=stranger)
    assert event(benchmark, "Drawn") == {"epoch": epoch, "draw": DRAW}
    assert benchmark.epoch_of(epoch).draw == DRAW == pog.keccak(b"draw" + word_of(DRAW))


def test_draw__before_the_named_block__reverts(
    suite: Suite, benchmark: Contract, epoch: int
) -> None:
    number = proofs.close_epoch(suite)
    block = headers.block(number, now(), word_of(DRAW))
    headers.know(number, block.header)
    for present in (number - 2, number - 1, number):
        headers.go_to_block(present)
        with boa.reverts(NO_HASH):
            benchmark.draw(epoch, block.header)
    headers.go_to_block(number + 1)
    benchmark.draw(epoch, block.header)


def test_draw__last_second(
    suite: Suite, benchmark: Contract, epoch: int, target: headers.Block
) -> None:
    last = draw_until(suite, epoch)
    for late in (last + 1, last + 10**9):
        go_to(late)
        with boa.reverts(TOO_LATE):
            benchmark.draw(epoch, target.header)
    go_to(last)
    benchmark.draw(epoch, target.header)


def test_draw__another_header__reverts(
    suite: Suite, benchmark: Contract, epoch: int, target: headers.Block
) -> None:
    """Only the named block's: not its parent's, its child's, or one made up."""
    child = headers.mine(word_of(BEACON))
    forged = headers.build(target.number, target.timestamp, word_of(BEACON))
    for other in (target.parent, child.header, forged, target.header[:-1], b""):
        with boa.reverts("header: not of that block"):
            benchmark.draw(epoch, other)
    benchmark.draw(epoch, target.header)


def test_draw__block_without_randomness__reverts(
    suite: Suite, benchmark: Contract, epoch: int
) -> None:
    """Nothing is drawn by a zero; such a chain needs another source."""
    number = proofs.close_epoch(suite)
    headers.go_to_block(number)
    block = headers.mine(bytes(32))
    with boa.reverts("randomness: none in the block"):
        benchmark.draw(epoch, block.header)


def test_draw__twice__reverts(
    suite: Suite, benchmark: Contract, epoch: int, target: headers.Block, stranger: str
) -> None:
    benchmark.draw(epoch, target.header)
    for seconds in (0, 1, 10**6):
        pass_time(seconds)
        with boa.reverts("benchmark: already drawn"):
            benchmark.draw(epoch, target.header, sender=stranger)


def test_draw__not_closed__reverts(suite: Suite, benchmark: Contract, epoch: int) -> None:
    block = headers.mine(word_of(DRAW))
    go_to(proofs.window_end(suite, epoch))
    for other in (epoch, 0, epoch + 1, 2**256 - 1):
        with boa.reverts(NOT_CLOSED):
            benchmark.draw(other, block.header)


def test_draw__beyond_blockhash__by_the_history_contract(
    suite: Suite, benchmark: Contract, epoch: int, target: headers.Block
) -> None:
    headers.go_to_block(target.number + 257)
    with boa.reverts(NO_HASH):
        benchmark.draw(epoch, target.header)
    headers.keep(target.number, target.header)
    headers.go_to_block(target.number + HISTORY_REACH + 1)
    with boa.reverts(NO_HASH):
        benchmark.draw(epoch, target.header)
    headers.go_to_block(target.number + HISTORY_REACH)
    benchmark.draw(epoch, target.header)


# --------------------------------------------------------------------- sources


def test_source__block_hash__needs_no_header() -> None:
    suite = deploy_suite(Parameters(randomness=1), with_benchmark=True)
    epoch = proofs.open_epoch(suite)
    proofs.close_epoch(suite)
    block = proofs.make_target(suite)
    expected = pog.keccak(b"draw" + block.hash)
    for header in (b"", block.header):
        with boa.env.anchor():
            suite.benchmark.draw(epoch, header)
            assert suite.benchmark.epoch_of(epoch).draw == expected
    with boa.reverts("header: not of that block"):
        suite.benchmark.draw(epoch, block.parent)


def test_source__arbitrum__names_by_its_own_numbers(p: Parameters) -> None:
    """Not by `block.number`, which follows another chain there."""
    suite = deploy_suite(Parameters(randomness=2), with_benchmark=True)
    benchmark = suite.benchmark
    sys = deployer_of("mocks/ArbSys").deploy(override_address=ARB_SYS)
    proofs.next_epoch(suite)
    first = headers.block(250_000_000, now(), word_of(BEACON))
    sys.set_block(first.number + 1, first.hash)
    proofs.present(suite, first)
    go_to(proofs.window_end(suite, 1))
    sys.set_block(250_001_000, bytes(32))
    benchmark.close(1)
    assert benchmark.epoch_of(1).target == 250_001_000 + p.draw_delay
    block = headers.block(250_001_002, now(), word_of(DRAW))
    # The named block is the present one; then it is there, but its hash is not to be had.
    sys.set_block(250_001_002, bytes(32))
    with boa.reverts(NO_HASH):
        benchmark.draw(1, b"")
    sys.set_block(250_001_003, bytes(32))
    with boa.reverts(NO_HASH):
        benchmark.draw(1, b"")
    sys.set_block(250_001_003, block.hash)
    benchmark.draw(1, b"")
    assert benchmark.epoch_of(1).draw == pog.keccak(b"draw" + block.hash)


# ------------------------------------------------------------------------ void


@pytest.mark.parametrize("closed", [False, True], ids=["not closed", "closed"])
def test_void_epoch__bond_returns_and_costs_nothing(
    suite: Suite, benchmark: Contract, p: Parameters, epoch: int, closed: bool
) -> None:
    """Nobody drew: the epoch cannot be drawn later, and the proof binds nothing any more."""
    staking, provider = suite.staking, proofs.prover(suite)
    done = proofs.committed(suite, provider)
    last = proofs.window_end(suite, epoch) + p.draw_period
    if closed:
        proofs.close_epoch(suite)
        block = proofs.make_target(suite)
        last += p.reach
    go_to(last)
    assert benchmark.is_open(provider.owner)
    with boa.reverts("benchmark: a proof is open"):
        benchmark.release_bond(provider.owner, sender=provider.owner)
    with boa.reverts("benchmark: not yet settled"):
        benchmark.settle(provider.owner)
    pass_time(1)
    assert not benchmark.is_open(provider.owner)
    with boa.reverts(TOO_LATE if closed else NOT_CLOSED):
        benchmark.draw(epoch, block.header if closed else b"")
    with boa.reverts("benchmark: not drawn"):
        benchmark.open_samples(provider.owner, done.openings(DRAW, p.samples))
    with boa.env.anchor():
        go_to(proofs.end_of(suite))
        with boa.reverts("benchmark: no proof to fail"):
            benchmark.fail(provider.owner)
    assert staking.is_unsettled(provider.owner)
    benchmark.settle(provider.owner)
    assert not staking.is_unsettled(provider.owner)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert staking.lock_of(benchmark.address, provider.owner, bytes(32)) == (0, 0)
    assert staking.pool(provider.owner)[:2] == (5_000 * TPF, 0)
    assert benchmark.share_of(provider.owner, epoch) == (0, 0, 0)


def test_void_epoch__draw_that_is_out_of_reach(
    suite: Suite, benchmark: Contract, p: Parameters, epoch: int
) -> None:
    """The hash is gone before the time is: nobody can draw, and the epoch is void in time."""
    provider = proofs.prover(suite)
    proofs.committed(suite, provider)
    number = proofs.close_epoch(suite)
    block = proofs.make_target(suite)
    headers.go_to_block(number + 257)
    with boa.reverts(NO_HASH):
        benchmark.draw(epoch, block.header)
    assert benchmark.is_open(provider.owner)
    go_to(draw_until(suite, epoch) + 1)
    benchmark.settle(provider.owner)
    assert suite.staking.pool(provider.owner)[0] == 5_000 * TPF


def test_void_epoch__earlier_score_stays(suite: Suite, benchmark: Contract, p: Parameters) -> None:
    provider = proofs.prover(suite)
    proofs.scored(suite, provider)
    points = benchmark.score(provider.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    go_to(proofs.end_of(suite))
    benchmark.settle(provider.owner)
    assert benchmark.score(provider.owner) == points > 0
    assert benchmark.proven(provider.owner)[1] == 1


def test_void_epoch__next_one_takes_commits_again(
    suite: Suite, benchmark: Contract, epoch: int
) -> None:
    provider = proofs.prover(suite)
    proofs.committed(suite, provider)
    proofs.scored(suite, provider)
    assert benchmark.score(provider.owner) > 0
