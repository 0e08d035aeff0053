# SPDX-License-Identifier: Apache-2.0
"""`commit`: who, when, how many rounds; and the bond, which the first locks and a later renews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.pog import format as pog
from tests.contracts import headers, proofs
from tests.contracts.actions import (
    Provider,
    consent,
    delegate,
    event,
    events,
    give_tpf,
    go_to,
    now,
    pass_time,
)
from tests.contracts.deploy import (
    DAY,
    LOCK,
    REWARD,
    SLASH,
    TPF,
    Contract,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_suite,
)
from tests.contracts.proofs import BEACON, Work

BOND = 1_000 * TPF
BOND_ID = bytes(32)
ROOT = pog.keccak(b"a commitment")
OTHER_ROOT = pog.keccak(b"another commitment")
NO_WINDOW = "benchmark: not in the window"
NOT_MORE = "benchmark: not more rounds"
UNSETTLED = "benchmark: not yet settled"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(
        managers={address_of("manager"): LOCK | SLASH | REWARD}, with_benchmark=True
    )


@pytest.fixture
def provider(suite: Suite) -> Provider:
    return proofs.prover(suite)


@pytest.fixture
def epoch(suite: Suite) -> int:
    """The first epoch, just opened."""
    return proofs.open_epoch(suite)


@pytest.fixture
def bond(suite: Suite) -> Callable[..., Any]:
    """The bond of a provider in Staking: amount and last second."""

    def read(provider: Provider) -> Any:
        return suite.staking.lock_of(suite.benchmark.address, provider.owner, BOND_ID)

    return read


@pytest.fixture
def end(suite: Suite, epoch: int) -> int:
    """The first second after the window."""
    return proofs.window_end(suite, epoch)


def test_commit__stores_the_proof_and_locks_the_bond(
    suite: Suite,
    benchmark: Contract,
    p: Parameters,
    provider: Provider,
    epoch: int,
    bond: Callable[..., Any],
) -> None:
    pass_time(10)
    proofs.commit(suite, provider, 5, ROOT)
    until = now() + p.bond_life
    assert event(benchmark, "Committed") == {
        "epoch": epoch,
        "provider": provider.owner,
        "rounds": 5,
        "commitment": ROOT,
        "stake": 5_000 * TPF,
    }
    assert event(benchmark, "BondLocked") == {"provider": provider.owner, "until": until}
    proof = benchmark.proof_of(provider.owner)
    assert (proof.epoch, proof.rounds, proof.commitment) == (epoch, 5, ROOT)
    assert (proof.verified, proof.stake, proof.bond_until) == (0, 5_000 * TPF, until)
    assert not proof.settled
    assert suite.staking.is_unsettled(provider.owner)
    assert benchmark.is_open(provider.owner)
    assert benchmark.BOND_ID() == BOND_ID
    assert bond(provider) == (BOND, until)
    assert suite.staking.pool(provider.owner)[:2] == (5_000 * TPF, BOND)


def test_commit__stake_counts_delegators(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, delegator: str
) -> None:
    delegate(suite, provider.owner, delegator, 7 * TPF)
    proofs.commit(suite, provider, 1, ROOT)
    assert benchmark.proof_of(provider.owner).stake == 5_007 * TPF


# ------------------------------------------------------------------------ when


def test_commit__epoch_not_open__reverts(
    benchmark: Contract, provider: Provider, epoch: int
) -> None:
    for other in (epoch - 1, epoch + 1, 2**256 - 1):
        with boa.reverts(NO_WINDOW):
            benchmark.commit(other, 1, ROOT, sender=provider.operator.address)


def test_commit__window__exact(suite: Suite, provider: Provider, end: int) -> None:
    go_to(end)
    with boa.reverts(NO_WINDOW):
        proofs.commit(suite, provider, 1, ROOT)
    go_to(end - 1)
    proofs.commit(suite, provider, 1, ROOT)


def test_commit__after_the_draw__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, epoch: int
) -> None:
    """Samples that are known could be prepared."""
    other = proofs.prover(suite, "other provider")
    proofs.commit(suite, other, 1, ROOT)
    proofs.draw_epoch(suite)
    for seconds in (0, p.draw_period, p.length):
        pass_time(seconds)
        for caller in (provider, other):
            with boa.reverts(NO_WINDOW):
                proofs.commit(suite, caller, 2, ROOT)
    proofs.open_epoch(suite)
    with boa.reverts(NO_WINDOW):
        benchmark.commit(epoch, 2, ROOT, sender=provider.operator.address)


# ------------------------------------------------------------------------- who


def test_commit__unknown_operator__reverts(
    benchmark: Contract, provider: Provider, epoch: int, stranger: str
) -> None:
    for caller in (stranger, provider.owner, provider.payout, benchmark.address):
        with boa.reverts("benchmark: unknown operator"):
            benchmark.commit(epoch, 1, ROOT, sender=caller)


def test_commit__after_a_change_of_the_operator(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int
) -> None:
    """The proof is the owner's: a new key goes on where the old one was."""
    proofs.commit(suite, provider, 1, ROOT)
    key = account_of("new operator")
    suite.staking.set_operator(
        key.address, *consent(suite.staking, provider.owner, key), sender=provider.owner
    )
    with boa.reverts("benchmark: unknown operator"):
        proofs.commit(suite, provider, 2, ROOT)
    renewed = replace(provider, operator=key)
    with boa.reverts(NOT_MORE):
        proofs.commit(suite, renewed, 1, ROOT)
    proofs.commit(suite, renewed, 2, OTHER_ROOT)
    assert benchmark.proof_of(provider.owner).commitment == OTHER_ROOT


# ---------------------------------------------------------------------- rounds


@pytest.mark.parametrize("rounds", [0, 2**24 + 1, 2**32, 2**32 + 1, 2**256 - 1])
def test_commit__rounds_out_of_bounds__reverts(
    suite: Suite, provider: Provider, epoch: int, rounds: int
) -> None:
    with boa.reverts("benchmark: rounds out of bounds"):
        proofs.commit(suite, provider, rounds, ROOT)


@pytest.mark.parametrize("rounds", [1, 2**24])
def test_commit__rounds_at_their_bounds(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, rounds: int
) -> None:
    proofs.commit(suite, provider, rounds, ROOT)
    assert benchmark.proof_of(provider.owner).rounds == rounds


def test_commit__again_with_more_rounds__replaces(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, bond: Callable[..., Any]
) -> None:
    proofs.commit(suite, provider, 3, ROOT)
    locked = bond(provider)
    shares = suite.staking.shares_of(provider.owner, provider.owner)
    suite.staking.undelegate(provider.owner, shares // 5, sender=provider.owner)
    pass_time(100)
    proofs.commit(suite, provider, 4, OTHER_ROOT)
    assert events(benchmark, "BondLocked") == []
    assert bond(provider) == locked
    proof = benchmark.proof_of(provider.owner)
    assert (proof.epoch, proof.rounds, proof.commitment) == (epoch, 4, OTHER_ROOT)
    assert (proof.stake, proof.bond_until) == (4_000 * TPF, locked[1])


def test_commit__again_with_as_many_or_fewer__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int
) -> None:
    proofs.commit(suite, provider, 3, ROOT)
    for rounds in (3, 2, 1):
        with boa.reverts(NOT_MORE):
            proofs.commit(suite, provider, rounds, OTHER_ROOT)
    assert benchmark.proof_of(provider.owner).commitment == ROOT


def test_commit__the_replacement_is_what_is_opened(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, epoch: int
) -> None:
    done = proofs.prove(suite, provider, 3)
    proofs.commit_work(suite, provider, done.first(2))
    proofs.commit_work(suite, provider, done)
    proofs.draw_epoch(suite)
    with boa.reverts():
        proofs.show(suite, provider, done.first(2))
    proofs.show(suite, provider, done)
    points = pog.score(proofs.shape_of(suite), 3, p.window)
    assert benchmark.score(provider.owner) == points


def test_commit__next_epoch__fewer_rounds_are_fine(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int
) -> None:
    done = proofs.committed(suite, provider, 3)
    proofs.draw_epoch(suite)
    proofs.show(suite, provider, done)
    proofs.open_epoch(suite)
    proofs.commit(suite, provider, 1, OTHER_ROOT)
    proof = benchmark.proof_of(provider.owner)
    assert (proof.epoch, proof.rounds, proof.verified) == (epoch + 1, 1, 0)


# -------------------------------------------------------------- earlier proofs


def test_commit__earlier_proof_open__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, epoch: int
) -> None:
    """A cheat that was drawn and not opened blocks the next epoch until it is paid for."""
    proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    proofs.open_epoch(suite)
    with boa.reverts(UNSETTLED):
        proofs.commit(suite, provider, 1, ROOT)
    benchmark.fail(provider.owner)
    proofs.commit(suite, provider, 1, ROOT)
    assert event(benchmark, "BondLocked")["until"] == now() + p.bond_life


def test_commit__earlier_proof_too_old_to_fail(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, epoch: int
) -> None:
    proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    end = proofs.end_of(suite) + p.fault_period
    go_to(end - 1)
    assert benchmark.is_open(provider.owner)
    go_to(end)
    assert not benchmark.is_open(provider.owner)
    proofs.open_epoch(suite)
    proofs.commit(suite, provider, 1, ROOT)
    assert event(benchmark, "Settled") == {"epoch": epoch, "provider": provider.owner}
    assert suite.staking.is_unsettled(provider.owner)


def test_commit__earlier_epoch_is_claimed_first(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int
) -> None:
    """Its reward is in the pool before the stake of the new epoch is read."""
    proofs.scored(suite, provider)
    earlier = benchmark.current_epoch()
    proofs.open_epoch(suite)
    due = suite.emissions.reward_of(provider.owner, earlier)
    proofs.commit(suite, provider, 1, ROOT)
    claimed = event(suite.benchmark, "Claimed")
    assert claimed == {"epoch": earlier, "provider": provider.owner, "amount": due}
    stake = suite.staking.pool(provider.owner)[0]
    assert event(benchmark, "Committed")["stake"] == stake > 5_000 * TPF
    assert benchmark.proof_of(provider.owner).stake == stake
    assert suite.staking.is_unsettled(provider.owner)


def test_commit__earlier_reward_is_shared_by_the_commission_of_then(
    suite: Suite, benchmark: Contract, epoch: int
) -> None:
    """`hold` notes the commission in force: the old one must be used up before."""
    provider = proofs.prover(suite, commission_bps=2_000)
    proofs.scored(suite, provider)
    earlier = benchmark.current_epoch()
    assert suite.emissions.reward_of(provider.owner, earlier) > 0
    suite.staking.set_commission(0, sender=provider.owner)
    proofs.open_epoch(suite)
    due = suite.emissions.reward_of(provider.owner, earlier)
    proofs.commit(suite, provider, 1, ROOT)
    assert suite.staking.credit_of(provider.payout) == pytest.approx(due // 5, rel=1e-6)


# ----------------------------------------------------------------------- stake


def test_commit__stake_below_the_bond__reverts(suite: Suite, epoch: int) -> None:
    poor = proofs.prover(suite, "poor", stake=BOND - 1)
    with boa.reverts("benchmark: stake below the bond"):
        proofs.commit(suite, poor, 1, ROOT)
    delegate(suite, poor.owner, poor.owner, 1)
    proofs.commit(suite, poor, 1, ROOT)


def test_commit__own_stake_too_low__reverts(suite: Suite, epoch: int, delegator: str) -> None:
    """Delegators do not bond for the owner."""
    poor = proofs.prover(suite, "poor", stake=BOND - 1)
    delegate(suite, poor.owner, delegator, BOND)
    with boa.reverts("staking: own stake too low"):
        proofs.commit(suite, poor, 1, ROOT)


def test_commit__own_stake_locked_elsewhere__reverts(
    suite: Suite, epoch: int, manager: str
) -> None:
    busy = proofs.prover(suite, "busy", stake=BOND, in_all=2 * BOND)
    suite.staking.lock(busy.operator.address, b"\x01" * 32, 1, now() + DAY, 0, sender=manager)
    with boa.reverts("staking: own stake too low"):
        proofs.commit(suite, busy, 1, ROOT)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"per_order": BOND - 1}, "staking: above the owner's limit per order"),
        ({"in_all": BOND - 1}, "staking: above the owner's limit in all"),
    ],
)
def test_commit__above_the_owners_limits__reverts(
    suite: Suite, benchmark: Contract, epoch: int, limits: Any, reason: str
) -> None:
    careful = proofs.prover(suite, "careful", **limits)
    with boa.reverts(reason):
        proofs.commit(suite, careful, 1, ROOT)
    assert not benchmark.is_open(careful.owner)


def test_commit__slashed_below_the_bond_since__reverts(
    suite: Suite, provider: Provider, epoch: int, manager: str
) -> None:
    proofs.commit(suite, provider, 1, ROOT)
    suite.staking.slash(provider.owner, bytes(32), 4_000 * TPF + 1, sender=manager)
    with boa.reverts("benchmark: stake below the bond"):
        proofs.commit(suite, provider, 2, ROOT)


def test_commit__the_bond_keeps_the_owner_in(suite: Suite, provider: Provider, epoch: int) -> None:
    proofs.commit(suite, provider, 1, ROOT)
    staking = suite.staking
    shares = staking.shares_of(provider.owner, provider.owner)
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, shares, sender=provider.owner)
    staking.undelegate(provider.owner, shares * 4 // 5, sender=provider.owner)


# -------------------------------------------------------------------- the bond


def test_bond__stands_while_it_lasts_long_enough(p: Parameters) -> None:
    """One bond serves many epochs, renewed when it would end before a fault can be reported."""
    # So long that the last opening for which it lasts is 30 seconds after a boundary.
    p = replace(p, bond_life=30 * DAY + 449)
    suite = deploy_suite(p, with_benchmark=True)
    benchmark, provider = suite.benchmark, proofs.prover(suite)
    proofs.open_epoch(suite)
    proofs.show(suite, provider, commit_and_draw(suite, provider))
    until = benchmark.proof_of(provider.owner).bond_until
    last = until - p.length - p.fault_period
    assert (last - benchmark.GENESIS()) % p.slot == 30

    def opened(time: int) -> None:
        go_to(time)
        block = headers.mine(proofs.word_of(BEACON), seconds=60)
        go_to(time)
        proofs.present(suite, block)

    with boa.env.anchor():
        opened(last)
        proofs.commit(suite, provider, 1, ROOT)
        assert benchmark.proof_of(provider.owner).bond_until == until
    opened(last + 1)
    proofs.commit(suite, provider, 1, ROOT)
    until = now() + p.bond_life
    assert event(benchmark, "BondLocked")["until"] == until
    lock = suite.staking.lock_of(benchmark.address, provider.owner, BOND_ID)
    assert lock == (BOND, until)
    assert suite.staking.pool(provider.owner)[1] == BOND


def commit_and_draw(suite: Suite, provider: Provider) -> Work:
    done = proofs.committed(suite, provider, 1)
    proofs.draw_epoch(suite)
    return done


def test_bond__renewed_after_anyone_released_it(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, epoch: int, stranger: str
) -> None:
    proofs.show(suite, provider, commit_and_draw(suite, provider))
    pass_time(p.bond_life + 1)
    suite.staking.release(benchmark.address, provider.owner, BOND_ID, sender=stranger)
    assert suite.staking.pool(provider.owner)[1] == 0
    proofs.open_epoch(suite)
    proofs.commit(suite, provider, 1, ROOT)
    assert event(benchmark, "BondLocked")["until"] == now() + p.bond_life
    assert suite.staking.pool(provider.owner)[1] == BOND


def test_bond__lasts_until_a_fault_can_no_longer_be_told(p: Parameters) -> None:
    """The earliest commit of an epoch, with a bond as short as the constructor allows."""
    short = replace(p, bond_life=p.length + p.fault_period)
    other = deploy_suite(short, with_benchmark=True)
    early = proofs.prover(other, "early")
    epoch = proofs.open_epoch(other)
    go_to(other.benchmark.epoch_of(epoch).opened_at)
    proofs.commit(other, early, 1, ROOT)
    until = other.benchmark.proof_of(early.owner).bond_until
    assert until == proofs.end_of(other) + p.fault_period


def test_bond__not_renewed_by_a_replacement(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, bond: Callable[..., Any]
) -> None:
    proofs.commit(suite, provider, 1, ROOT)
    locked = bond(provider)
    pass_time(298)
    proofs.commit(suite, provider, 2, ROOT)
    assert bond(provider) == locked


def test_bond__own_stake_gone_when_it_must_be_renewed__reverts(
    suite: Suite, p: Parameters, provider: Provider, epoch: int
) -> None:
    proofs.show(suite, provider, commit_and_draw(suite, provider))
    pass_time(p.bond_life + 1)
    staking = suite.staking
    staking.release(suite.benchmark.address, provider.owner, BOND_ID)
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares * 9 // 10, sender=provider.owner)
    give_tpf(suite, address_of("delegator"), BOND)
    staking.settle(provider.owner)
    staking.delegate(provider.owner, BOND, sender=address_of("delegator"))
    proofs.open_epoch(suite, BEACON)
    with boa.reverts("staking: own stake too low"):
        proofs.commit(suite, provider, 1, ROOT)
