# SPDX-License-Identifier: Apache-2.0
"""The schedule: halvings, its sum, its bounds at deployment, and the token's cap above it (I-8)."""

import boa
import pytest

from tests.contracts.actions import register
from tests.contracts.deploy import TPF, ZERO_ADDRESS, Parameters, address_of, deployer_of
from tests.contracts.epochs import deploy_by_hand

P = Parameters(initial_emission=1_000 * TPF + 7, halving_epochs=3)


@pytest.fixture(scope="module")
def world():
    return deploy_by_hand(P)


@pytest.fixture(scope="module")
def suite(world):
    return world[0]


@pytest.fixture
def emissions(world):
    return world[1]


@pytest.mark.parametrize("halvings", [0, 1, 2, 3, 60, 69, 70, 255, 256, 257, 10**6])
def test_emission__halved(emissions, halvings):
    wanted = P.initial_emission // 2**halvings if halvings < 300 else 0
    for epoch in range(3 * halvings, 3 * halvings + 3):
        assert emissions.emission(epoch) == wanted


def test_emission__any_epoch(emissions):
    assert emissions.emission(2**256 - 1) == 0


def test_scheduled__sum_of_the_emissions(emissions):
    total = 0
    for epoch in range(40):
        total += emissions.emission(epoch)
        assert emissions.scheduled(epoch) == total


@pytest.mark.parametrize("epoch", [3 * 70, 3 * 129, 10**9, 2**256 - 2])
def test_scheduled__comes_to_an_end_below_twice_the_first_period(emissions, epoch):
    total = sum(3 * (P.initial_emission // 2**halvings) for halvings in range(200))
    assert emissions.scheduled(epoch) == total < 2 * 3 * P.initial_emission


def test_scheduled__last_number__reverts(emissions):
    with boa.reverts():
        emissions.scheduled(2**256 - 1)


def test_scheduled__largest_emission():
    """Every halving of the largest number that a cap of 96 bits allows counts."""
    most = 2**95 - 1
    _, emissions, _ = deploy_by_hand(
        Parameters(cap=2**96 - 1, genesis_supply=1, initial_emission=most, halving_epochs=1)
    )
    assert emissions.scheduled(500) == sum(most >> n for n in range(95))
    assert emissions.scheduled(94) == sum(most >> n for n in range(95))
    assert emissions.emission(94) == 1
    assert emissions.emission(95) == 0


def test_part_of__rounds_down(emissions):
    assert emissions.part_of(0, 0) == P.initial_emission * 8 // 10 == 800 * TPF + 5
    assert emissions.part_of(0, 3) == P.initial_emission // 2 * 8 // 10


# ----------------------------------------------------------------- constructor


def deploy(world, **changes):
    """Deploy Emissions with some arguments changed, by name of the constructor's parameter."""
    suite, _, numbers = world
    arguments = {
        "token": suite.token.address,
        "staking": suite.staking.address,
        "benchmark": numbers.address,
        "owner": suite.owner,
        "initial_emission": P.initial_emission,
        "halving_epochs": P.halving_epochs,
        "stake_cap_bps": P.stake_cap_bps,
        "capacity_bps": P.capacity_bps,
    } | changes
    return deployer_of("Emissions").deploy(*arguments.values())


LEFT = P.cap - P.genesis_supply


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"token": ZERO_ADDRESS}, "emissions: zero token"),
        ({"staking": ZERO_ADDRESS}, "emissions: zero staking"),
        ({"benchmark": ZERO_ADDRESS}, "emissions: zero benchmark"),
        ({"owner": ZERO_ADDRESS}, "emissions: zero owner"),
        ({"halving_epochs": 0}, "emissions: halving out of bounds"),
        ({"halving_epochs": 2**32, "initial_emission": 0}, "emissions: halving out of bounds"),
        ({"initial_emission": LEFT // 6 + 1}, "emissions: schedule above the cap"),
        ({"initial_emission": LEFT, "halving_epochs": 1}, "emissions: schedule above the cap"),
        ({"stake_cap_bps": 9_999}, "emissions: stake cap out of bounds"),
        ({"stake_cap_bps": 1_000_001}, "emissions: stake cap out of bounds"),
        ({"capacity_bps": 10_001}, "emissions: weights above 100 %"),
    ],
)
def test_constructor__out_of_bounds__reverts(world, changes, reason):
    with boa.reverts(reason):
        deploy(world, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"halving_epochs": 1},
        {"halving_epochs": 2**32 - 1, "initial_emission": 0},
        {"initial_emission": LEFT // 6},
        {"initial_emission": LEFT // 2, "halving_epochs": 1},
        {"stake_cap_bps": 10_000},
        {"stake_cap_bps": 1_000_000},
        {"capacity_bps": 0},
        {"capacity_bps": 10_000},
    ],
)
def test_constructor__at_the_bounds(world, changes):
    deploy(world, **changes)


def test_constructor__parameters(world):
    suite, emissions, numbers = world
    assert (emissions.TOKEN(), emissions.STAKING()) == (suite.token.address, suite.staking.address)
    assert (emissions.BENCHMARK(), emissions.owner()) == (numbers.address, suite.owner)
    assert emissions.INITIAL_EMISSION() == P.initial_emission
    assert (emissions.HALVING_EPOCHS(), emissions.STAKE_CAP_BPS()) == (3, 20_000)
    assert emissions.weights_at(0) == emissions.weights_at(10**6) == [8_000]
    assert (emissions.use_count(), emissions.distributor_of(0)) == (1, emissions.address)
    (changed,) = [log for log in deploy(world).get_logs() if type(log).__name__ == "WeightsChanged"]
    assert (changed.from_epoch, changed.weights) == (0, [8_000])


# -------------------------------------------------------------------- the token


def test_mint__emissions_that_are_not_the_minter__reverts(world):
    """Beside the one minter another Emissions pays nothing out."""
    suite, _, numbers = world
    second = deploy(world)
    provider = register(suite)
    numbers.go_to(1)
    numbers.set_share(provider.owner, 0, 1, 1, 1, 1)
    with boa.reverts("token: caller is not the minter"):
        second.claim(provider.owner, [0])


@pytest.mark.parametrize("sender", ["owner", "deployer"])
def test_set_minter__once_for_ever(suite, emissions, sender):
    assert suite.token.minter() == emissions.address
    with boa.reverts("token: minter is set"):
        suite.token.set_minter(address_of("usurper"), sender=getattr(suite, sender))


def test_minted__whole_schedule__within_the_cap():
    """Every epoch claimed in full mints the schedule; the cap has room for it to the wei."""
    initial, genesis = 1_000, 10**24
    p = Parameters(
        cap=genesis + 4 * initial,
        genesis_supply=genesis,
        initial_emission=initial,
        halving_epochs=2,
        capacity_bps=10_000,
    )
    suite, emissions, numbers = deploy_by_hand(p)
    provider = register(suite)
    end = 2 * 11
    for epoch in range(end):
        numbers.set_share(provider.owner, epoch, 1, 1, 1, 1)
        numbers.go_to(epoch + 1)
        # Down to a single wei.
        if emissions.emission(epoch):
            emissions.claim(provider.owner, [epoch])
            assert emissions.claimed(provider.owner, epoch)
        assert emissions.minted() == emissions.scheduled(epoch)
        assert suite.token.balanceOf(emissions.address) == 0
    assert suite.token.total_minted() == genesis + emissions.scheduled(end) <= p.cap
