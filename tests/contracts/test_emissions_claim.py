# SPDX-License-Identifier: Apache-2.0
"""`claim` after real proofs: what is paid, when, into which pool, and what pays nothing (I-7)."""

import boa
import pytest

from tests.contracts import proofs
from tests.contracts.actions import event, events, go_to, now, pass_time
from tests.contracts.deploy import DAY, TPF, Parameters, address_of, deploy_suite
from tests.contracts.epochs import live

# 80 % of 10,000 TPF go to capacity.
PART = 8_000 * TPF
NOTHING = "emissions: nothing to claim"


@pytest.fixture(scope="module")
def suite():
    return deploy_suite(Parameters(samples=1), with_benchmark=True)


@pytest.fixture
def emissions(suite):
    return suite.emissions


@pytest.fixture
def prover(suite):
    return proofs.prover(suite)


def test_claim__one_epoch(suite, emissions, token, staking, prover, stranger):
    epoch = live(suite, {prover: 1})
    supply, pool = token.totalSupply(), staking.pool(prover.owner)[0]
    assert emissions.reward_of(prover.owner, epoch) == PART
    assert not emissions.claimed(prover.owner, epoch)
    assert emissions.claim(prover.owner, [epoch], sender=stranger) == PART
    assert event(emissions, "Claimed") == {
        "provider": prover.owner,
        "epoch": epoch,
        "amount": PART,
    }
    # 10 % commission.
    assert staking.credit_of(prover.payout) == PART // 10
    assert staking.pool(prover.owner)[0] == pool + PART - PART // 10
    assert token.totalSupply() == supply + PART
    assert emissions.minted() == PART
    assert token.balanceOf(emissions.address) == 0
    assert token.balanceOf(stranger) == 0
    assert emissions.claimed(prover.owner, epoch)
    assert emissions.reward_of(prover.owner, epoch) == PART


def test_claim__pays_rewarded_by_emissions(suite, emissions, prover, stranger):
    epoch = live(suite, {prover: 1})
    emissions.claim(prover.owner, [epoch], sender=stranger)
    (rewarded,) = [log for log in events(emissions) if type(log).__name__ == "Rewarded"]
    assert (rewarded.provider, rewarded.manager) == (prover.owner, emissions.address)
    assert (rewarded.to_pool, rewarded.commission) == (PART - PART // 10, PART // 10)


def test_claim__by_score(suite, emissions, prover):
    other = proofs.prover(suite, "other")
    epoch = live(suite, {prover: 1, other: 3})
    assert emissions.claim(prover.owner, [epoch]) == PART // 4
    assert emissions.claim(other.owner, [epoch]) == PART * 3 // 4


def test_claim__capped_by_stake(suite, emissions, prover):
    """Half the score, a sixth of the stake: twice that sixth is paid, and the rest never."""
    small = proofs.prover(suite, "small", stake=1_000 * TPF)
    epoch = live(suite, {prover: 1, small: 1})
    assert emissions.claim(small.owner, [epoch]) == PART // 3
    assert emissions.claim(prover.owner, [epoch]) == PART // 2
    assert emissions.minted() == PART // 3 + PART // 2


def test_claim__twice__reverts(suite, emissions, prover):
    epoch = live(suite, {prover: 1})
    emissions.claim(prover.owner, [epoch])
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner, [epoch])
    assert emissions.minted() == PART


def test_claim__a_second_epoch_after_the_first(suite, emissions, prover):
    first, second = live(suite, {prover: 1}), live(suite, {prover: 1})
    assert emissions.claim(prover.owner, [first]) == PART
    # What has been paid is passed over.
    assert emissions.claim(prover.owner, [first, second]) == PART
    assert [log.epoch for log in events(emissions, "Claimed")] == [second]


def test_claim__duplicates__paid_once(suite, emissions, prover):
    epoch = live(suite, {prover: 1})
    assert emissions.claim(prover.owner, [epoch, epoch, epoch]) == PART
    assert len(events(emissions, "Claimed")) == 1
    assert emissions.minted() == PART


def test_claim__at_the_end_of_the_epoch(suite, emissions, benchmark, prover):
    epoch = live(suite, {prover: 1})
    last = benchmark.epoch_start(epoch + 1) - 1
    with boa.env.anchor():
        boa.env.evm.patch.timestamp = last
        with boa.reverts("emissions: epoch has not ended"):
            emissions.claim(prover.owner, [epoch])
    assert now() == last + 1
    assert emissions.claim(prover.owner, [epoch]) == PART


@pytest.mark.parametrize("ahead", [0, 1, 2**255])
def test_claim__one_has_not_ended__reverts_whole(suite, emissions, prover, ahead):
    epoch = live(suite, {prover: 1})
    with boa.reverts("emissions: epoch has not ended"):
        emissions.claim(prover.owner, [epoch, epoch + 1 + ahead])
    assert not emissions.claimed(prover.owner, epoch)


def test_claim__no_epochs__reverts(suite, emissions, prover):
    live(suite, {prover: 1})
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner, [])


def test_claim__unknown_provider__reverts(suite, emissions, prover, stranger):
    epoch = live(suite, {prover: 1})
    with boa.reverts(NOTHING):
        emissions.claim(stranger, [epoch])


def test_claim__who_did_not_prove__reverts(suite, emissions, prover):
    absent = proofs.prover(suite, "absent")
    epoch = live(suite, {prover: 1})
    with boa.reverts(NOTHING):
        emissions.claim(absent.owner, [epoch])


def test_claim__epochs_without_a_score__mint_nothing(suite, emissions, benchmark, token, prover):
    """Never opened; opened and not drawn; drawn and not shown."""
    supply = token.totalSupply()
    epochs = [0, proofs.next_epoch(suite)]
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    epochs.append(proofs.next_epoch(suite))
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    proofs.draw_epoch(suite)
    proofs.next_epoch(suite)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner, epochs)
    benchmark.fail(prover.owner)
    with boa.reverts(NOTHING):
        emissions.claim(prover.owner, epochs)
    assert emissions.minted() == 0
    assert token.totalSupply() == supply - suite.parameters.bond


def test_claim__void_epochs_between(suite, emissions, prover):
    first = live(suite, {prover: 1})
    proofs.next_epoch(suite)
    third = live(suite, {prover: 1})
    assert third == first + 2
    assert emissions.claim(prover.owner, [third, first + 1, first]) == 2 * PART


def test_claim__many_halvings_later(suite, emissions, prover):
    """The amount is that of its epoch, whenever it is claimed."""
    epoch = live(suite, {prover: 1})
    pass_time(100 * suite.parameters.halving_epochs * suite.parameters.epoch)
    assert emissions.emission(suite.benchmark.current_epoch()) == 0
    assert emissions.claim(prover.owner, [epoch]) == PART


def test_claim__over_two_halvings(suite, emissions, token, prover):
    """Proven in each of nine epochs and claimed at the end: the capacity's part of the schedule."""
    epochs = [live(suite, {prover: 1}) for _ in range(9)]
    supply = token.totalSupply()
    paid = emissions.claim(prover.owner, epochs[::-1])
    assert [log.amount for log in events(emissions, "Claimed")][::-1] == [
        *[PART] * 4,
        *[PART // 2] * 4,
        PART // 4,
    ]
    assert paid == emissions.minted() == emissions.scheduled(8) * 8 // 10
    assert token.totalSupply() == supply + paid


def test_claim__failure_later__keeps_what_was_earned(suite, emissions, benchmark, prover):
    earned = live(suite, {prover: 1})
    proofs.open_epoch(suite)
    proofs.committed(suite, prover, 1)
    proofs.draw_epoch(suite)
    lost = proofs.next_epoch(suite) - 1
    benchmark.fail(prover.owner)
    assert emissions.claim(prover.owner, [earned, lost]) == PART


# ------------------------------------------------------------------- commission


def test_claim__commission_at_the_end_of_the_epoch(suite, emissions, staking, prover):
    """A raise that came into force after the epoch does not reach back."""
    staking.set_commission(5_000, sender=prover.owner)
    epoch = live(suite, {prover: 1})
    pass_time(suite.parameters.commission_delay + DAY)
    assert staking.commission_at(prover.owner, now()) == 5_000
    emissions.claim(prover.owner, [epoch])
    assert staking.credit_of(prover.payout) == PART // 10


@pytest.mark.parametrize(("early", "bps"), [(0, 5_000), (1, 1_000)])
def test_claim__commission_in_force_from_the_end_on(suite, emissions, staking, prover, early, bps):
    """In force in the very second in which the epoch ends, or a second too late."""
    p = suite.parameters
    ahead = p.commission_delay // p.epoch
    go_to(suite.benchmark.epoch_start(1) + early)
    staking.set_commission(5_000, sender=prover.owner)
    go_to(suite.benchmark.epoch_start(ahead))
    epoch = live(suite, {prover: 1})
    assert epoch == ahead
    pass_time(DAY)
    paid = emissions.claim(prover.owner, [epoch])
    assert staking.credit_of(prover.payout) == paid * bps // 10_000


def test_claim__commission_epoch_by_epoch(suite, emissions, staking, prover):
    """One call over a raise: each epoch pays what was in force at its own end."""
    first = live(suite, {prover: 1})
    staking.set_commission(10_000, sender=prover.owner)
    pass_time(suite.parameters.commission_delay)
    second = live(suite, {prover: 1})
    emissions.claim(prover.owner, [second, first])
    paid = emissions.reward_of(prover.owner, second)
    assert paid < PART
    assert staking.credit_of(prover.payout) == PART // 10 + paid


def test_claim__pool_with_dust_shares__credited_whole(suite, emissions, staking, prover):
    epoch = live(suite, {prover: 1})
    pass_time(suite.parameters.bond_life)
    staking.release(suite.benchmark.address, prover.owner, bytes(32))
    held = staking.shares_of(prover.owner, prover.owner)
    staking.undelegate(prover.owner, held - 10**5, sender=prover.owner)
    emissions.claim(prover.owner, [epoch])
    assert staking.credit_of(prover.payout) == PART


def test_claim__stake_that_left_before_the_score__earns_less(suite, emissions, staking, prover):
    """The smaller of the stake at the commit and at the last sample counts."""
    rival = proofs.prover(suite, "rival", stake=10_000 * TPF)
    epoch = proofs.open_epoch(suite)
    works = {who: proofs.committed(suite, who, 1) for who in (prover, rival)}
    shares = staking.shares_of(prover.owner, prover.owner)
    staking.undelegate(prover.owner, shares * 4 // 5, sender=prover.owner)
    proofs.draw_epoch(suite)
    for who, work in works.items():
        proofs.show(suite, who, work)
    proofs.next_epoch(suite)
    assert suite.benchmark.share_of(prover.owner, epoch)[1] == 1_000 * TPF
    assert emissions.claim(prover.owner, [epoch]) == PART * 2 // 11


# ---------------------------------------------------------------------- wiring


def test_claim__no_manager_any_more__reverts(suite, emissions, staking, prover):
    epoch = live(suite, {prover: 1})
    staking.remove_manager(emissions.address, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        emissions.claim(prover.owner, [epoch])
    assert emissions.minted() == 0
    assert not emissions.claimed(prover.owner, epoch)


def test_claim__before_genesis__reverts():
    later = deploy_suite(Parameters(genesis=now() + DAY), with_benchmark=True)
    with boa.reverts("benchmark: before genesis"):
        later.emissions.claim(address_of("provider"), [0])
