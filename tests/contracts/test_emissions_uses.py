# SPDX-License-Identifier: Apache-2.0
"""Uses, their weights by epoch, and what their contracts may share out (I-8, I-11)."""

import random

import boa
import pytest

from tests.contracts.actions import event, register
from tests.contracts.deploy import TPF, ZERO_ADDRESS, Parameters, address_of, deployer_of
from tests.contracts.epochs import deploy_by_hand

NOT_OWNER = "ownable: caller is not the owner"


@pytest.fixture(scope="module")
def world():
    return deploy_by_hand(Parameters(halving_epochs=100))


@pytest.fixture(scope="module")
def suite(world):
    return world[0]


@pytest.fixture
def emissions(world):
    return world[1]


@pytest.fixture
def numbers(world):
    return world[2]


@pytest.fixture
def distributor(suite, emissions):
    """The contract of use 1, with half of the emission from epoch 1 on."""
    contract = deployer_of("mocks/Distributor").deploy(emissions.address)
    emissions.add_use(contract.address, sender=suite.owner)
    emissions.set_weights([5_000, 5_000], sender=suite.owner)
    return contract


# --------------------------------------------------------------------- weights


def test_set_weights__from_the_next_epoch_on(suite, emissions, numbers):
    numbers.go_to(5)
    emissions.set_weights([6_000], sender=suite.owner)
    assert event(emissions, "WeightsChanged") == {"from_epoch": 6, "weights": [6_000]}
    assert [emissions.weights_at(epoch) for epoch in (0, 4, 5)] == [[8_000]] * 3
    assert [emissions.weights_at(epoch) for epoch in (6, 7, 10**9)] == [[6_000]] * 3
    assert emissions.part_of(0, 5) == 8_000 * TPF
    assert emissions.part_of(0, 6) == 6_000 * TPF


def test_set_weights__again_in_the_same_epoch__replaces(suite, emissions, numbers):
    numbers.go_to(5)
    for weights in ([6_000], [1], [7_000]):
        emissions.set_weights(weights, sender=suite.owner)
    assert emissions.weights_at(5) == [8_000]
    assert emissions.weights_at(6) == [7_000]
    numbers.go_to(6)
    emissions.set_weights([], sender=suite.owner)
    assert [emissions.weights_at(epoch) for epoch in (5, 6, 7)] == [[8_000], [7_000], [0]]


def test_set_weights__many_checkpoints__as_a_plain_table(suite, emissions, numbers):
    """Each epoch finds its weights by bisection, however many changes there were."""
    repeats = random.Random(7)
    emissions.add_use(address_of("use one"), sender=suite.owner)
    table, epoch = {0: [8_000, 0]}, 0
    for _ in range(40):
        epoch += repeats.choice([0, 1, 1, 2, 7])
        numbers.go_to(epoch)
        weights = [repeats.randrange(5_001), repeats.randrange(5_001)]
        emissions.set_weights(weights, sender=suite.owner)
        table[epoch + 1] = weights
        assert emissions.weights_at(epoch + 1) == weights
    for probe in range(epoch + 4):
        assert emissions.weights_at(probe) == table[max(first for first in table if first <= probe)]


@pytest.mark.parametrize("changes", range(1, 6))
def test_weights_at__few_checkpoints(suite, emissions, numbers, changes):
    for epoch in range(changes):
        numbers.go_to(10 * epoch)
        emissions.set_weights([epoch], sender=suite.owner)
    assert emissions.weights_at(0) == [8_000]
    for epoch in range(changes):
        first = 10 * epoch + 1
        assert emissions.weights_at(first) == emissions.weights_at(first + 9) == [epoch]
        assert emissions.weights_at(first - 1) == ([epoch - 1] if epoch else [8_000])


def test_set_weights__past_rewards_stay(suite, emissions, numbers):
    """I-11: an epoch is paid by the weights that it had."""
    provider = register(suite)
    numbers.set_share(provider.owner, 3, 1, 1, 1, 1)
    numbers.go_to(3)
    emissions.set_weights([0], sender=suite.owner)
    numbers.go_to(9)
    emissions.set_weights([0], sender=suite.owner)
    assert emissions.claim(provider.owner, [3]) == 8_000 * TPF


def test_set_weights__twelve_uses(suite, emissions):
    for n in range(1, 12):
        assert emissions.add_use(address_of(f"use {n}"), sender=suite.owner) == n
    weights = [800 + n for n in range(12)]
    emissions.set_weights(weights, sender=suite.owner)
    assert emissions.weights_at(1) == weights
    assert [emissions.part_of(use, 1) for use in range(12)] == [TPF * w for w in weights]
    assert emissions.weights_at(0) == [8_000, *[0] * 11]


def test_set_weights__hundred_percent_for_the_last_use(suite, emissions):
    for n in range(1, 12):
        emissions.add_use(address_of(f"use {n}"), sender=suite.owner)
    emissions.set_weights([*[0] * 11, 10_000], sender=suite.owner)
    assert emissions.part_of(11, 1) == 10_000 * TPF
    assert emissions.part_of(0, 1) == 0


@pytest.mark.parametrize("weights", [[10_001], [10_000, 1], [0, 10_001], [2**256 - 1], [5_001] * 2])
def test_set_weights__above_100_percent__reverts(suite, emissions, weights):
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts("emissions: weights above 100 %"):
        emissions.set_weights(weights, sender=suite.owner)


def test_set_weights__overflowing_sum__reverts(suite, emissions):
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts():
        emissions.set_weights([1, 2**256 - 1], sender=suite.owner)


def test_set_weights__of_no_use__reverts(suite, emissions):
    with boa.reverts("emissions: weight of no use"):
        emissions.set_weights([1, 1], sender=suite.owner)
    emissions.set_weights([1], sender=suite.owner)


@pytest.mark.parametrize("sender", ["guardian", "deployer", "treasury"])
def test_set_weights__not_the_owner__reverts(suite, emissions, sender):
    with boa.reverts(NOT_OWNER):
        emissions.set_weights([0], sender=getattr(suite, sender))


# ------------------------------------------------------------------------ uses


def test_add_use(suite, emissions):
    assert emissions.add_use(address_of("use one"), sender=suite.owner) == 1
    assert event(emissions, "UseAdded") == {"number": 1, "distributor": address_of("use one")}
    assert emissions.add_use(address_of("use two"), sender=suite.owner) == 2
    assert emissions.use_count() == 3
    assert [emissions.distributor_of(n) for n in range(4)] == [
        emissions.address,
        address_of("use one"),
        address_of("use two"),
        ZERO_ADDRESS,
    ]
    # Without weight it gets nothing.
    assert emissions.weights_at(1) == [8_000, 0, 0]
    assert emissions.part_of(1, 1) == 0


def test_add_use__zero_or_twice__reverts(suite, emissions):
    with boa.reverts("emissions: zero distributor"):
        emissions.add_use(ZERO_ADDRESS, sender=suite.owner)
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts("emissions: use exists"):
        emissions.add_use(address_of("use one"), sender=suite.owner)


def test_add_use__thirteenth__reverts(suite, emissions):
    for n in range(1, 12):
        emissions.add_use(address_of(f"use {n}"), sender=suite.owner)
    with boa.reverts("emissions: too many uses"):
        emissions.add_use(address_of("use 12"), sender=suite.owner)


def test_add_use__not_the_owner__reverts(emissions, stranger):
    with boa.reverts(NOT_OWNER):
        emissions.add_use(stranger, sender=stranger)


# ------------------------------------------------------------------ distribute


def test_distribute(suite, emissions, numbers, token, staking, distributor):
    provider = register(suite)
    numbers.go_to(2)
    supply = token.totalSupply()
    distributor.share_out(1, [provider.owner], [100 * TPF])
    (log,) = [log for log in distributor.get_logs() if type(log).__name__ == "Distributed"]
    assert (log.use, log.provider, log.epoch, log.amount) == (1, provider.owner, 1, 100 * TPF)
    assert staking.credit_of(provider.payout) == 10 * TPF
    assert staking.pool(provider.owner)[0] == 1_090 * TPF
    assert token.totalSupply() == supply + 100 * TPF
    assert (emissions.minted(), emissions.distributed(1, 1)) == (100 * TPF, 100 * TPF)
    assert token.balanceOf(emissions.address) == 0


def test_distribute__up_to_its_part(suite, emissions, numbers, distributor):
    one, two = register(suite), register(suite, "two")
    numbers.go_to(2)
    distributor.share_out(1, [one.owner, two.owner], [4_999 * TPF, TPF - 1])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(1, [one.owner], [2])
    distributor.share_out(1, [one.owner], [1])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(1, [one.owner], [1])
    assert emissions.minted() == emissions.part_of(1, 1) == 5_000 * TPF


def test_distribute__each_epoch_has_its_part(suite, emissions, numbers, distributor):
    provider = register(suite)
    numbers.go_to(101)
    distributor.share_out(99, [provider.owner], [5_000 * TPF])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(100, [provider.owner], [2_500 * TPF + 1])
    distributor.share_out(100, [provider.owner], [2_500 * TPF])
    assert emissions.distributed(1, 99) == 2 * emissions.distributed(1, 100) == 5_000 * TPF


def test_distribute__beside_capacity(suite, emissions, numbers, distributor):
    """Both parts of an epoch together are its emission (I-8)."""
    provider = register(suite)
    numbers.set_share(provider.owner, 1, 1, 1, 1, 1)
    numbers.go_to(2)
    distributor.share_out(1, [provider.owner], [5_000 * TPF])
    assert emissions.claim(provider.owner, [1]) == 5_000 * TPF
    assert emissions.minted() == emissions.emission(1)


def test_distribute__two_uses(suite, emissions, numbers, distributor):
    provider = register(suite)
    second = deployer_of("mocks/Distributor").deploy(emissions.address)
    emissions.add_use(second.address, sender=suite.owner)
    emissions.set_weights([5_000, 3_000, 2_000], sender=suite.owner)
    numbers.go_to(2)
    second.share_out(1, [provider.owner], [2_000 * TPF])
    distributor.share_out(1, [provider.owner], [3_000 * TPF])
    assert [emissions.distributed(use, 1) for use in range(3)] == [0, 3_000 * TPF, 2_000 * TPF]
    with boa.reverts("emissions: above the use's part"):
        second.share_out(1, [provider.owner], [1])


def test_distribute__commission_at_the_end_of_the_epoch(suite, staking, numbers, distributor):
    """Epochs set by hand end long ago: before a raise that came since."""
    provider = register(suite)
    staking.set_commission(10_000, sender=provider.owner)
    boa.env.time_travel(seconds=suite.parameters.commission_delay)
    numbers.go_to(2)
    distributor.share_out(1, [provider.owner], [100 * TPF])
    assert staking.credit_of(provider.payout) == 10 * TPF


@pytest.mark.parametrize("epoch", [2, 3, 2**255])
def test_distribute__epoch_has_not_ended__reverts(suite, numbers, distributor, epoch):
    provider = register(suite)
    numbers.go_to(2)
    with boa.reverts("emissions: epoch has not ended"):
        distributor.share_out(epoch, [provider.owner], [1])


def test_distribute__zero_amount__reverts(suite, numbers, distributor):
    provider = register(suite)
    numbers.go_to(2)
    with boa.reverts("emissions: zero amount"):
        distributor.share_out(1, [provider.owner], [0])


def test_distribute__overflowing_amount__reverts(suite, numbers, distributor):
    provider = register(suite)
    numbers.go_to(2)
    distributor.share_out(1, [provider.owner], [1])
    with boa.reverts():
        distributor.share_out(1, [provider.owner], [2**256 - 1])


def test_distribute__unknown_provider__reverts(emissions, numbers, distributor, stranger):
    numbers.go_to(2)
    with boa.reverts("staking: not registered"):
        distributor.share_out(1, [stranger], [1])
    assert emissions.minted() == emissions.distributed(1, 1) == 0


@pytest.mark.parametrize("sender", ["owner", "deployer", "faucet"])
def test_distribute__no_distributor__reverts(suite, emissions, numbers, distributor, sender):
    """Not even the owner; and number 0, capacity, is paid by `claim` alone."""
    provider = register(suite)
    numbers.go_to(2)
    for caller in (getattr(suite, sender), emissions.address):
        with boa.reverts("emissions: caller is no distributor"):
            emissions.distribute(provider.owner, 1, 1, sender=caller)


def test_distribute__before_it_had_weight__reverts(suite, emissions, numbers, distributor):
    provider = register(suite)
    numbers.go_to(2)
    assert emissions.part_of(1, 0) == 0
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(0, [provider.owner], [1])
