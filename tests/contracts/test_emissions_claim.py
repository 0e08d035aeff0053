# SPDX-License-Identifier: Apache-2.0
"""`claim` after real proofs: what is paid, when, into which pool, and what pays nothing (I-7)."""

from __future__ import annotations

import boa
import pytest

from tests.contracts import proofs
from tests.contracts.actions import Provider, delegate, event, events, go_to, pass_time
from tests.contracts.deploy import DAY, TPF, Contract, Parameters, Suite, address_of, deploy_suite
from tests.contracts.epochs import live

pytestmark = pytest.mark.invariant("I-7")

# 80 % of 10,000 TPF go to capacity, in epochs that come a day after the one before.
PART = 8_000 * TPF
NOTHING = "benchmark: nothing to take"


def score(rounds: int) -> int:
    """Rounds of the tests' shape in a window of 300 s; 1,000 TPF back five of them."""
    return 2 * 256 * 256 * 480 * rounds // 300


ROUND = score(1)
P = Parameters(samples=1, ops_per_tpf=5 * ROUND // 1_000, target=ROUND)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(P, with_benchmark=True)


@pytest.fixture
def emissions(suite: Suite) -> Contract:
    return suite.emissions


@pytest.fixture
def prover(suite: Suite) -> Provider:
    return proofs.prover(suite)


def daily(suite: Suite, rounds: dict[Provider, int]) -> int:
    """An epoch a day after whatever was before, and over."""
    pass_time(DAY)
    return live(suite, rounds)


def test_claim__one_epoch(
    suite: Suite,
    emissions: Contract,
    token: Contract,
    staking: Contract,
    prover: Provider,
    stranger: str,
) -> None:
    epoch = daily(suite, {prover: 1})
    supply, pool = token.totalSupply(), staking.pool(prover.owner)[0]
    assert emissions.emission(epoch) == 10_000 * TPF
    assert emissions.reward_of(prover.owner, epoch) == PART
    assert not suite.benchmark.proof_of(prover.owner).settled
    assert emissions.claim(prover.owner, sender=stranger) == PART
    claimed = {"provider": prover.owner, "epoch": epoch, "amount": PART}
    assert event(emissions, "Claimed") == claimed
    # 10 % commission, and what virtual shares would have taken.
    credited, pooled = staking.credit_of(prover.payout), staking.pool(prover.owner)[0] - pool
    assert credited + pooled == PART
    assert 0 <= credited - PART // 10 <= PART // 10**6
    assert token.totalSupply() == supply + PART
    assert emissions.minted() == PART
    assert token.balanceOf(emissions.address) == token.balanceOf(stranger) == 0
    assert suite.benchmark.proof_of(prover.owner).settled
    assert emissions.reward_of(prover.owner, epoch) == 0


def test_claim__by_score(suite: Suite, emissions: Contract, prover: Provider) -> None:
    other = proofs.prover(suite, "other")
    daily(suite, {prover: 1, other: 3})
    assert emissions.claim(prover.owner) == PART // 4
    assert emissions.claim(other.owner) == PART * 3 // 4


def test_claim__epochs_close_to_each_other__pay_what_has_accrued(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    daily(suite, {prover: 1})
    emissions.claim(prover.owner)
    epoch = live(suite, {prover: 1})
    opened = [suite.benchmark.epoch_of(number).opened_at for number in (epoch - 1, epoch)]
    gap = opened[1] - opened[0]
    assert P.spacing <= gap < P.max_accrual
    assert emissions.claim(prover.owner) == gap * P.rate * 8 // 10


def test_claim__score_beyond_what_the_stake_backs__earns_nothing_more(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    """1,000 TPF back five rounds of nine; next to it one round of a provider with enough."""
    small = proofs.prover(suite, "small", stake=1_000 * TPF)
    epoch = daily(suite, {prover: 1, small: 9})
    backed = 1_000 * P.ops_per_tpf
    assert suite.benchmark.share_of(small.owner, epoch) == (score(9), backed, backed + ROUND)
    assert emissions.claim(small.owner) == PART * backed // (backed + ROUND)
    assert emissions.claim(prover.owner) == PART * ROUND // (backed + ROUND)


@pytest.mark.parametrize("stake", [5_000 * TPF, 10_000_000 * TPF])
def test_claim__much_stake_and_one_round__changes_nobodys_reward(
    suite: Suite, emissions: Contract, stake: int
) -> None:
    """The whale gets what its round is worth, and the others what theirs are."""
    honest = [proofs.prover(suite, f"honest {n}") for n in range(2)]
    whale = proofs.prover(suite, "whale", stake=stake)
    daily(suite, {**dict.fromkeys(honest, 3), whale: 1})
    assert [emissions.claim(who.owner) for who in honest] == [PART * 3 // 7] * 2
    assert emissions.claim(whale.owner) == PART // 7


def test_claim__alone_with_one_round__its_part_of_the_target(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    emissions.set_scale(P.ops_per_tpf, 2 * ROUND, sender=suite.owner)
    daily(suite, {prover: 1})
    assert emissions.claim(prover.owner) == PART
    # From here on two rounds are the target.
    epoch = daily(suite, {prover: 1})
    assert (emissions.target(epoch - 1), emissions.target(epoch)) == (ROUND, 2 * ROUND)
    assert emissions.claim(prover.owner) == PART // 2


@pytest.mark.invariant("I-11")
def test_claim__scale_changed_while_it_runs__the_scale_of_its_epoch(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    """I-11. Changed between boundary and opening, in the window, and after the end."""
    pass_time(DAY)
    proofs.next_epoch(suite)
    emissions.set_scale(2 * P.ops_per_tpf, 2 * ROUND, sender=suite.owner)
    proofs.open_epoch(suite)
    done = proofs.committed(suite, prover, 1)
    emissions.set_scale(P.ops_per_tpf, 2 * ROUND, sender=suite.owner)
    proofs.draw_epoch(suite)
    proofs.show(suite, prover, done)
    proofs.next_epoch(suite)
    emissions.set_weights([0], sender=suite.owner)
    assert emissions.claim(prover.owner) == PART


def test_claim__twice__reverts(suite: Suite, emissions: Contract, prover: Provider) -> None:
    daily(suite, {prover: 1})
    emissions.claim(prover.owner)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner)
    assert emissions.minted() == PART


def test_claim__at_the_end_of_the_epoch(
    suite: Suite, emissions: Contract, benchmark: Contract, prover: Provider
) -> None:
    pass_time(DAY)
    proofs.scored(suite, prover, 1)
    end = proofs.end_of(suite)
    with boa.env.anchor():
        go_to(end - 1)
        with boa.reverts("benchmark: epoch has not ended"):
            emissions.claim(prover.owner)
    go_to(end)
    assert emissions.claim(prover.owner) == PART


def test_claim__unknown_provider__reverts(
    suite: Suite, emissions: Contract, prover: Provider, stranger: str
) -> None:
    daily(suite, {prover: 1})
    with boa.reverts(NOTHING):
        emissions.claim(stranger)


def test_claim__who_did_not_prove__reverts(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    absent = proofs.prover(suite, "absent")
    daily(suite, {prover: 1})
    with boa.reverts(NOTHING):
        emissions.claim(absent.owner)


def test_claim__not_shown__reverts_and_nothing_is_minted(
    suite: Suite, emissions: Contract, token: Contract, prover: Provider
) -> None:
    """Committed and not drawn; then drawn and not shown, before and after it is reported."""
    supply = token.totalSupply()
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    proofs.next_epoch(suite)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    proofs.draw_epoch(suite)
    proofs.next_epoch(suite)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner)
    suite.benchmark.fail(prover.owner)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner)
    assert emissions.minted() == 0
    assert token.totalSupply() == supply - suite.parameters.bond


def test_claim__many_halvings_later(suite: Suite, emissions: Contract, prover: Provider) -> None:
    """The amount is that of its epoch, whenever it is claimed."""
    epoch = daily(suite, {prover: 1})
    pass_time(100 * P.halving)
    assert emissions.emission(epoch) == 10_000 * TPF
    assert emissions.claim(prover.owner) == PART


def test_claim__after_a_halving__half_of_it(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    go_to(emissions.START() + P.halving + DAY)
    live(suite, {prover: 1})
    assert emissions.claim(prover.owner) == PART // 2


def test_claim__by_the_next_commit(
    suite: Suite, emissions: Contract, staking: Contract, prover: Provider
) -> None:
    """A provider that proves again is paid on the way."""
    epoch = daily(suite, {prover: 1})
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    assert event(suite.benchmark, "Claimed")["epoch"] == epoch
    assert emissions.minted() == PART


@pytest.mark.invariant("I-13")
def test_claim__by_who_joins_or_leaves(
    suite: Suite, emissions: Contract, staking: Contract, prover: Provider
) -> None:
    """Staking has the epoch settled first, so who joins gets nothing of it (I-13)."""
    epoch = daily(suite, {prover: 1})
    joiner = address_of("joiner")
    delegate(suite, prover.owner, joiner, 1_000 * TPF)
    assert event(staking, "Claimed") == {
        "provider": prover.owner,
        "epoch": epoch,
        "amount": PART,
    }
    assert staking.assets_of(prover.owner, joiner) <= 1_000 * TPF
    daily(suite, {prover: 1})
    staking.undelegate(prover.owner, 1, sender=joiner)
    assert event(staking, "Claimed")["amount"] == PART
    assert emissions.minted() == 2 * PART


def test_claim__stake_that_left_since__earns_less(
    suite: Suite, emissions: Contract, staking: Contract, prover: Provider
) -> None:
    """What the stake of now backs counts; the sum stays as it was."""
    rival = proofs.prover(suite, "rival")
    pass_time(DAY)
    epoch = proofs.open_epoch(suite)
    works = {who: proofs.committed(suite, who, 5) for who in (prover, rival)}
    proofs.draw_epoch(suite)
    for who, work in works.items():
        proofs.show(suite, who, work)
    # The bond's lock keeps 1,000 TPF there.
    shares = staking.shares_of(prover.owner, prover.owner)
    staking.undelegate(prover.owner, shares * 4 // 5, sender=prover.owner)
    proofs.next_epoch(suite)
    total, backed = 2 * score(5), 1_000 * P.ops_per_tpf
    assert suite.benchmark.share_of(prover.owner, epoch) == (score(5), score(5), total)
    assert backed < score(5)
    assert emissions.reward_of(prover.owner, epoch) == PART * backed // total
    assert emissions.claim(prover.owner) == PART * backed // total
    assert emissions.claim(rival.owner) == PART // 2


def test_claim__commission_of_the_last_commit(
    suite: Suite, emissions: Contract, staking: Contract, prover: Provider
) -> None:
    """A raise that comes into force after it does not reach back."""
    staking.set_commission(5_000, sender=prover.owner)
    daily(suite, {prover: 1})
    pass_time(suite.parameters.commission_delay)
    assert staking.commission_of(prover.owner) == 5_000
    emissions.claim(prover.owner)
    assert 0 <= staking.credit_of(prover.payout) - PART // 10 <= PART // 10**6


def test_claim__failure_later__keeps_what_was_earned(
    suite: Suite, emissions: Contract, benchmark: Contract, prover: Provider
) -> None:
    daily(suite, {prover: 1})
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    assert emissions.minted() == PART
    proofs.draw_epoch(suite)
    proofs.next_epoch(suite)
    benchmark.fail(prover.owner)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner)
    assert emissions.minted() == PART


# ---------------------------------------------------------------------- wiring


def test_claim__no_manager_any_more__reverts(
    suite: Suite, emissions: Contract, staking: Contract, prover: Provider
) -> None:
    epoch = daily(suite, {prover: 1})
    staking.remove_manager(emissions.address, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        emissions.claim(prover.owner)
    assert emissions.minted() == 0
    assert emissions.reward_of(prover.owner, epoch) == PART


def test_take__not_by_emissions__reverts(
    suite: Suite, benchmark: Contract, prover: Provider, stranger: str
) -> None:
    daily(suite, {prover: 1})
    for sender in (stranger, suite.owner, prover.owner):
        with boa.reverts("benchmark: not the rewards"):
            benchmark.take(prover.owner, sender=sender)


def test_claim__pays_rewarded_by_emissions(
    suite: Suite, emissions: Contract, prover: Provider
) -> None:
    daily(suite, {prover: 1})
    emissions.claim(prover.owner)
    (rewarded,) = events(emissions, "Rewarded")
    assert (rewarded.provider, rewarded.manager) == (prover.owner, emissions.address)
    assert rewarded.to_pool + rewarded.to_payout == PART
