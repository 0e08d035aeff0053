# SPDX-License-Identifier: Apache-2.0
"""`open` and `draw`: in their periods, once; an epoch without a draw is void. The randomness."""

import boa
import pytest

from tests.contracts import proofs
from tests.contracts.actions import event, go_to, now, pass_time
from tests.contracts.deploy import (
    TPF,
    Parameters,
    Suite,
    deploy_benchmark,
    deploy_suite,
    deployer_of,
)
from tests.contracts.proofs import BEACON, DRAW

NOT_THE_TIME = "benchmark: not the time to open the epoch"
NOT_OPEN = "benchmark: epoch is not open"
ARB_SYS = "0x" + "64".rjust(40, "0")


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(with_benchmark=True)


@pytest.fixture
def epoch(suite) -> int:
    """The second epoch, at its first second."""
    return proofs.next_epoch(suite)


def test_epochs__follow_each_other_from_genesis(suite, benchmark, p):
    genesis = benchmark.GENESIS()
    for number in (0, 1, 7):
        start = genesis + number * p.epoch
        assert benchmark.epoch_start(number) == start
        go_to(start)
        assert benchmark.current_epoch() == number
        go_to(start + p.epoch - 1)
        assert benchmark.current_epoch() == number


def test_epochs__before_genesis__none_is_current(suite, p):
    """A deployment whose first epoch is yet to come."""
    later = deploy_benchmark(suite.staking, Parameters(genesis=now() + 100))
    assert later.GENESIS() == now() + 100
    with boa.reverts("benchmark: before genesis"):
        later.current_epoch()
    with boa.reverts(NOT_THE_TIME):
        later.open(0)
    assert later.score(suite.owner) == 0
    proofs.random_is(BEACON)
    pass_time(100)
    later.open(0)


# ------------------------------------------------------------------------ open


def test_open__stores_beacon_and_time(suite, benchmark, epoch, stranger):
    pass_time(7)
    proofs.random_is(BEACON)
    assert benchmark.epoch_of(epoch) == (bytes(32), 0, bytes(32), 0)
    benchmark.open(epoch, sender=stranger)
    expected = {"epoch": epoch, "beacon": BEACON, "opened_at": now()}
    assert event(benchmark, "Opened") == expected
    assert benchmark.epoch_of(epoch) == (BEACON, now(), bytes(32), 0)


def test_open__first_and_last_second(suite, benchmark, p, epoch):
    proofs.random_is(BEACON)
    start = benchmark.epoch_start(epoch)
    go_to(start - 1)
    with boa.reverts(NOT_THE_TIME):
        benchmark.open(epoch)
    go_to(start + p.open_period)
    with boa.reverts(NOT_THE_TIME):
        benchmark.open(epoch)
    for second in (start, start + p.open_period - 1):
        with boa.env.anchor():
            go_to(second)
            benchmark.open(epoch)


def test_open__another_epoch_than_the_current__reverts(benchmark, epoch):
    proofs.random_is(BEACON)
    for other in (epoch - 1, epoch + 1, epoch + 1_000, 2**128):
        with boa.reverts(NOT_THE_TIME):
            benchmark.open(other)
    # Its beginning does not fit a word.
    with boa.reverts():
        benchmark.open(2**256 - 1)


def test_open__twice__reverts(benchmark, epoch, stranger):
    proofs.random_is(BEACON)
    benchmark.open(epoch)
    proofs.random_is(DRAW)
    pass_time(1)
    with boa.reverts("benchmark: epoch is open"):
        benchmark.open(epoch, sender=stranger)
    assert benchmark.epoch_of(epoch)[0] == BEACON


def test_challenge__needs_an_open_epoch(suite, benchmark, epoch, stranger):
    with boa.reverts(NOT_OPEN):
        benchmark.challenge(stranger, epoch)
    proofs.open_epoch(suite)
    here = proofs.pog.challenge(
        1, str(benchmark.address), epoch, BEACON, stranger, proofs.shape_of(suite)
    )
    assert benchmark.challenge(stranger, epoch) == here
    assert benchmark.challenge(suite.owner, epoch) != here


# ------------------------------------------------------------------------ draw


def test_draw__stores_word_and_time(suite, benchmark, epoch, stranger):
    proofs.open_epoch(suite)
    opened_at = now()
    go_to(proofs.first_draw(suite, epoch))
    proofs.random_is(DRAW)
    benchmark.draw(epoch, sender=stranger)
    assert event(benchmark, "Drawn") == {"epoch": epoch, "draw": DRAW}
    assert benchmark.epoch_of(epoch) == (BEACON, opened_at, DRAW, now())


def test_draw__first_and_last_second(suite, benchmark, p, epoch):
    pass_time(17)
    proofs.open_epoch(suite)
    first = now() + p.window + p.draw_delay
    assert first == proofs.first_draw(suite, epoch)
    for early in (now(), first - p.draw_delay, first - 1):
        go_to(early)
        with boa.reverts("benchmark: too early to draw"):
            benchmark.draw(epoch)
    for late in (first + p.draw_period + 1, benchmark.epoch_start(epoch + 1), first + 10**9):
        go_to(late)
        with boa.reverts("benchmark: too late to draw"):
            benchmark.draw(epoch)
    for second in (first, first + p.draw_period):
        with boa.env.anchor():
            go_to(second)
            benchmark.draw(epoch)


def test_draw__twice__reverts(suite, benchmark, epoch, stranger):
    """One draw for all: nobody tries again with the next block."""
    proofs.open_epoch(suite)
    proofs.draw_epoch(suite)
    proofs.random_is(BEACON)
    for seconds in (0, 1, 10**6):
        pass_time(seconds)
        with boa.reverts("benchmark: already drawn"):
            benchmark.draw(epoch, sender=stranger)
    assert benchmark.epoch_of(epoch)[2] == DRAW


def test_draw__not_open__reverts(benchmark, epoch):
    for other in (epoch, epoch - 1, epoch + 1, 2**256 - 1):
        with boa.reverts(NOT_OPEN):
            benchmark.draw(other)


# ------------------------------------------------------------------------ void


def test_void_epoch__bond_returns_and_costs_nothing(suite, benchmark, p, epoch):
    """Nobody drew: the same epoch cannot be drawn later, and the proof binds nothing any more."""
    staking, provider = suite.staking, proofs.prover(suite)
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider)
    go_to(proofs.first_draw(suite, epoch) + p.draw_period)
    assert benchmark.is_open(provider.owner)
    with boa.reverts("benchmark: a proof is open"):
        benchmark.release_bond(provider.owner, sender=provider.owner)
    pass_time(1)
    assert not benchmark.is_open(provider.owner)
    with boa.reverts("benchmark: not drawn"):
        benchmark.open_samples(provider.owner, done.openings(DRAW, p.samples))
    go_to(benchmark.epoch_start(epoch + 1))
    with boa.reverts("benchmark: no proof to fail"):
        benchmark.fail(provider.owner)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert staking.lock_of(benchmark.address, provider.owner, bytes(32)) == (0, 0)
    assert staking.pool(provider.owner)[:2] == (5_000 * TPF, 0)
    assert benchmark.share_of(provider.owner, epoch) == (0, 0, 0, 0)


def test_void_epoch__earlier_score_stays(suite, benchmark, p, epoch):
    provider = proofs.prover(suite)
    proofs.scored(suite, provider)
    points = benchmark.score(provider.owner)
    proofs.next_epoch(suite)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    pass_time(p.epoch - 1)
    assert benchmark.score(provider.owner) == points > 0


def test_void_epoch__next_one_takes_commits_again(suite, benchmark, epoch):
    provider = proofs.prover(suite)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    proofs.next_epoch(suite)
    proofs.scored(suite, provider)
    assert benchmark.score(provider.owner) > 0


# ------------------------------------------------------------------ randomness


def source(suite: Suite, number: int):
    """A Benchmark that takes its randomness from another source."""
    benchmark = deploy_benchmark(suite.staking, Parameters(randomness=number))
    assert benchmark.RANDOMNESS() == number
    return benchmark


def test_randomness__prevrandao(suite):
    benchmark = source(suite, 0)
    proofs.random_is(bytes(32))
    with boa.reverts("randomness: none in this block"):
        benchmark.open(0)
    proofs.random_is(BEACON)
    benchmark.open(0)
    assert benchmark.epoch_of(0)[0] == BEACON


def test_randomness__hash_of_the_previous_block(suite, p):
    benchmark = source(suite, 1)
    proofs.random_is(DRAW)
    boa.env.evm.patch.block_number = 1_000
    boa.env.evm.patch.prev_hashes = [BEACON, DRAW]
    benchmark.open(0)
    assert benchmark.epoch_of(0)[0] == BEACON
    pass_time(p.window + p.draw_delay)
    word = proofs.pog.keccak(b"another block")
    boa.env.evm.patch.prev_hashes = [word, BEACON]
    benchmark.draw(0)
    assert benchmark.epoch_of(0)[2] == word


def test_randomness__no_hash__reverts(suite):
    benchmark = source(suite, 1)
    boa.env.evm.patch.block_number = 1_000
    boa.env.evm.patch.prev_hashes = [bytes(32)]
    with boa.reverts("randomness: none in this block"):
        benchmark.open(0)


def test_randomness__arbitrum(suite, p):
    """Block numbers of the chain itself, which BLOCKHASH does not know there."""
    benchmark = source(suite, 2)
    with boa.reverts():  # no ArbSys on this chain
        benchmark.open(0)
    sys = deployer_of("mocks/ArbSys").deploy(override_address=ARB_SYS)
    boa.env.evm.patch.prev_hashes = [DRAW]
    proofs.random_is(DRAW)
    sys.set_block(250_000_000, BEACON)
    benchmark.open(0)
    assert benchmark.epoch_of(0)[0] == BEACON
    pass_time(p.window + p.draw_delay)
    sys.set_block(250_001_000, bytes(32))
    with boa.reverts("randomness: none in this block"):
        benchmark.draw(0)
    sys.set_block(250_001_001, DRAW)
    benchmark.draw(0)
    assert benchmark.epoch_of(0)[2] == DRAW


def test_randomness__unknown_source__reverts(suite):
    with boa.reverts("randomness: unknown source"):
        deploy_benchmark(suite.staking, Parameters(randomness=3))
