# SPDX-License-Identifier: Apache-2.0
"""Uses, their weights by epoch, and what their contracts may share out (I-8, I-11)."""

from __future__ import annotations

import random
from typing import Any

import boa
import pytest

from tests.contracts.actions import event, now, pass_time, register
from tests.contracts.deploy import (
    TPF,
    ZERO_ADDRESS,
    Contract,
    Parameters,
    Suite,
    address_of,
    deployer_of,
)
from tests.contracts.epochs import deploy_by_hand, run_epoch

pytestmark = pytest.mark.invariant("I-8", "I-11")

NOT_OWNER = "ownable: caller is not the owner"


@pytest.fixture(scope="module")
def world() -> tuple[Suite, Contract, Contract]:
    return deploy_by_hand(Parameters(halving=1_000 * 86_400))


@pytest.fixture(scope="module")
def suite(world: tuple[Suite, Contract, Contract]) -> Suite:
    return world[0]


@pytest.fixture
def emissions(world: tuple[Suite, Contract, Contract]) -> Contract:
    return world[1]


@pytest.fixture
def by_hand(world: tuple[Suite, Contract, Contract]) -> Contract:
    return world[2]


@pytest.fixture
def distributor(suite: Suite, emissions: Contract) -> Contract:
    """The contract of use 1, with half of the emission from epoch 2 on."""
    contract = deployer_of("mocks/Distributor").deploy(emissions.address)
    emissions.add_use(contract.address, sender=suite.owner)
    emissions.set_weights([5_000, 5_000], sender=suite.owner)
    return contract


@pytest.fixture
def ended(by_hand: Contract, distributor: Contract) -> int:
    """Epochs 1 to 3, ended, of 10,000 TPF each."""
    for _ in range(3):
        run_epoch(by_hand)
    return 3


def go_to(by_hand: Contract, epoch: int) -> None:
    """Open epochs up to a number."""
    while by_hand.current_epoch() < epoch:
        run_epoch(by_hand, seconds=60, length=0)


# --------------------------------------------------------------------- weights


@pytest.mark.invariant("I-11")
def test_set_weights__for_epochs_that_have_not_begun(
    suite: Suite, emissions: Contract, by_hand: Contract
) -> None:
    """I-11. The next one may have begun: its block may be out, though nobody has shown it."""
    for _ in range(5):
        run_epoch(by_hand)
    emissions.set_weights([6_000], sender=suite.owner)
    assert event(emissions, "WeightsChanged") == {"from_epoch": 7, "weights": [6_000]}
    assert [emissions.weights_at(epoch) for epoch in (0, 4, 5, 6)] == [[8_000]] * 4
    assert [emissions.weights_at(epoch) for epoch in (7, 8, 10**9)] == [[6_000]] * 3
    run_epoch(by_hand)
    run_epoch(by_hand)
    assert emissions.part_of(0, 6) == 8_000 * TPF
    assert emissions.part_of(0, 7) == 6_000 * TPF


def test_set_weights__again_before_it_is_in_force__replaces(
    suite: Suite, emissions: Contract, by_hand: Contract
) -> None:
    go_to(by_hand, 5)
    for weights in ([6_000], [1], [7_000]):
        emissions.set_weights(weights, sender=suite.owner)
    assert emissions.weights_at(6) == [8_000]
    assert emissions.weights_at(7) == [7_000]
    go_to(by_hand, 6)
    emissions.set_weights([], sender=suite.owner)
    assert [emissions.weights_at(epoch) for epoch in (6, 7, 8)] == [[8_000], [7_000], [0]]


def test_set_weights__many_checkpoints__as_a_plain_table(
    suite: Suite, emissions: Contract, by_hand: Contract
) -> None:
    """Each epoch finds its weights by bisection, however many changes there were."""
    repeats = random.Random(7)
    emissions.add_use(address_of("use one"), sender=suite.owner)
    table, epoch = {0: [8_000, 0]}, 0
    for _ in range(40):
        epoch += repeats.choice([0, 1, 1, 2, 7])
        go_to(by_hand, epoch)
        weights = [repeats.randrange(5_001), repeats.randrange(5_001)]
        emissions.set_weights(weights, sender=suite.owner)
        table[epoch + 2] = weights
        assert emissions.weights_at(epoch + 2) == weights
    for probe in range(epoch + 5):
        assert emissions.weights_at(probe) == table[max(first for first in table if first <= probe)]


@pytest.mark.parametrize("changes", range(1, 6))
def test_weights_at__few_checkpoints(
    suite: Suite, emissions: Contract, by_hand: Contract, changes: int
) -> None:
    for n in range(changes):
        go_to(by_hand, 10 * n)
        emissions.set_weights([n], sender=suite.owner)
    assert emissions.weights_at(0) == emissions.weights_at(1) == [8_000]
    for n in range(changes):
        first = 10 * n + 2
        assert emissions.weights_at(first) == emissions.weights_at(first + 9) == [n]
        assert emissions.weights_at(first - 1) == ([n - 1] if n else [8_000])


@pytest.mark.invariant("I-11")
def test_set_weights__an_epoch_that_has_begun__is_paid_as_it_was(
    suite: Suite, emissions: Contract, by_hand: Contract
) -> None:
    """I-11: whenever it is claimed."""
    provider = register(suite)
    epoch = run_epoch(by_hand)
    emissions.set_weights([0], sender=suite.owner)
    by_hand.set_result(provider.owner, epoch, 1, 1, 10**27, 1)
    for _ in range(3):
        run_epoch(by_hand)
    emissions.set_weights([0], sender=suite.owner)
    assert emissions.part_of(0, 3) == emissions.part_of(0, 4) == 0
    assert emissions.claim(provider.owner) == 8_000 * TPF


def test_set_weights__twelve_uses(suite: Suite, emissions: Contract, by_hand: Contract) -> None:
    for n in range(1, 12):
        assert emissions.add_use(address_of(f"use {n}"), sender=suite.owner) == n
    weights = [800 + n for n in range(11)] + [1_145]
    assert sum(weights) == 10_000
    emissions.set_weights(weights, sender=suite.owner)
    assert emissions.weights_at(2) == weights
    run_epoch(by_hand)
    run_epoch(by_hand)
    assert [emissions.part_of(use, 2) for use in range(12)] == [TPF * w for w in weights]
    assert emissions.weights_at(0) == emissions.weights_at(1) == [8_000, *[0] * 11]


@pytest.mark.parametrize("use", [12, 13, 14, 16, 2**255, 2**256 - 1])
def test_part_of__no_use__zero(
    suite: Suite, emissions: Contract, by_hand: Contract, use: int
) -> None:
    for n in range(1, 12):
        emissions.add_use(address_of(f"use {n}"), sender=suite.owner)
    emissions.set_weights([*[0] * 11, 10_000], sender=suite.owner)
    run_epoch(by_hand)
    run_epoch(by_hand)
    assert emissions.part_of(11, 2) == 10_000 * TPF
    assert emissions.part_of(0, 2) == emissions.part_of(use, 2) == 0


@pytest.mark.parametrize("weights", [[10_001], [10_000, 1], [0, 10_001], [2**256 - 1], [5_001] * 2])
def test_set_weights__above_100_percent__reverts(
    suite: Suite, emissions: Contract, weights: Any
) -> None:
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts("emissions: weights above 100 %"):
        emissions.set_weights(weights, sender=suite.owner)


def test_set_weights__overflowing_sum__reverts(suite: Suite, emissions: Contract) -> None:
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts():
        emissions.set_weights([1, 2**256 - 1], sender=suite.owner)


def test_set_weights__of_no_use__reverts(suite: Suite, emissions: Contract) -> None:
    with boa.reverts("emissions: weight of no use"):
        emissions.set_weights([1, 1], sender=suite.owner)
    emissions.set_weights([1], sender=suite.owner)


@pytest.mark.parametrize("sender", ["guardian", "deployer", "treasury"])
def test_set_weights__not_the_owner__reverts(
    suite: Suite, emissions: Contract, sender: str
) -> None:
    with boa.reverts(NOT_OWNER):
        emissions.set_weights([0], sender=getattr(suite, sender))


# ------------------------------------------------------------------------ uses


def test_add_use(suite: Suite, emissions: Contract, by_hand: Contract) -> None:
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
    run_epoch(by_hand)
    assert emissions.part_of(1, 1) == 0


def test_add_use__zero_or_twice__reverts(suite: Suite, emissions: Contract) -> None:
    with boa.reverts("emissions: zero distributor"):
        emissions.add_use(ZERO_ADDRESS, sender=suite.owner)
    emissions.add_use(address_of("use one"), sender=suite.owner)
    with boa.reverts("emissions: use exists"):
        emissions.add_use(address_of("use one"), sender=suite.owner)


def test_add_use__thirteenth__reverts(suite: Suite, emissions: Contract) -> None:
    for n in range(1, 12):
        emissions.add_use(address_of(f"use {n}"), sender=suite.owner)
    with boa.reverts("emissions: too many uses"):
        emissions.add_use(address_of("use 12"), sender=suite.owner)


def test_add_use__not_the_owner__reverts(emissions: Contract, stranger: str) -> None:
    with boa.reverts(NOT_OWNER):
        emissions.add_use(stranger, sender=stranger)


# ------------------------------------------------------------------ distribute


def test_distribute__whole_to_the_payout_address(
    suite: Suite,
    emissions: Contract,
    token: Contract,
    staking: Contract,
    ended: int,
    distributor: Contract,
) -> None:
    """No stake has earned it, so no pool shares it."""
    provider = register(suite)
    supply = token.totalSupply()
    distributor.share_out(2, [provider.owner], [100 * TPF])
    (log,) = [log for log in distributor.get_logs() if type(log).__name__ == "Distributed"]
    assert (log.use, log.provider, log.epoch, log.amount) == (1, provider.owner, 2, 100 * TPF)
    assert staking.credit_of(provider.payout) == 100 * TPF
    assert staking.pool(provider.owner)[0] == 1_000 * TPF
    assert token.totalSupply() == supply + 100 * TPF
    assert (emissions.minted(), emissions.distributed(1, 2)) == (100 * TPF, 100 * TPF)
    assert token.balanceOf(emissions.address) == 0


def test_distribute__up_to_its_part(
    suite: Suite, emissions: Contract, ended: int, distributor: Contract
) -> None:
    one, two = register(suite), register(suite, "two")
    distributor.share_out(2, [one.owner, two.owner], [4_999 * TPF, TPF - 1])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(2, [one.owner], [2])
    distributor.share_out(2, [one.owner], [1])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(2, [one.owner], [1])
    assert emissions.minted() == emissions.part_of(1, 2) == 5_000 * TPF


def test_distribute__each_epoch_has_its_part(
    suite: Suite, emissions: Contract, by_hand: Contract, ended: int, distributor: Contract
) -> None:
    provider = register(suite)
    short = run_epoch(by_hand, seconds=1, length=100)
    distributor.share_out(3, [provider.owner], [5_000 * TPF])
    part = emissions.part_of(1, short)
    assert part == emissions.RATE() * (3_600 + 1) // 2
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(short, [provider.owner], [part + 1])
    distributor.share_out(short, [provider.owner], [part])
    assert (emissions.distributed(1, 3), emissions.distributed(1, short)) == (5_000 * TPF, part)


@pytest.mark.invariant("I-8")
def test_distribute__beside_capacity(
    suite: Suite, emissions: Contract, by_hand: Contract, ended: int, distributor: Contract
) -> None:
    """Both parts of an epoch together are its emission (I-8)."""
    provider = register(suite)
    by_hand.set_result(provider.owner, 3, 1, 1, 10**27, 1)
    distributor.share_out(3, [provider.owner], [5_000 * TPF])
    assert emissions.claim(provider.owner) == 5_000 * TPF
    assert emissions.minted() == emissions.emission(3)


@pytest.mark.parametrize("weights", [[3_333, 6_667], [1, 9_999], [6_666, 3_334]])
def test_parts__of_an_emission_that_does_not_divide__never_more_than_it(
    weights: list[int],
) -> None:
    """Each part is rounded down: together they are never above the schedule (I-8)."""
    suite, emissions, by_hand = deploy_by_hand(Parameters(rate=123_456_789_012_347))
    provider = register(suite)
    other = deployer_of("mocks/Distributor").deploy(emissions.address)
    emissions.add_use(other.address, sender=suite.owner)
    emissions.set_weights(weights, sender=suite.owner)
    for _ in range(3):
        run_epoch(by_hand, seconds=12_347)
    whole = emissions.emission(3)
    assert whole % 10_000 > 0
    by_hand.set_result(provider.owner, 3, 1, 1, 10**27, 1)
    assert emissions.claim(provider.owner) == whole * weights[0] // 10_000
    other.share_out(3, [provider.owner], [whole * weights[1] // 10_000])
    assert whole - 2 < emissions.minted() <= whole


def test_distribute__two_uses(
    suite: Suite, emissions: Contract, by_hand: Contract, distributor: Contract
) -> None:
    provider = register(suite)
    second = deployer_of("mocks/Distributor").deploy(emissions.address)
    emissions.add_use(second.address, sender=suite.owner)
    emissions.set_weights([5_000, 3_000, 2_000], sender=suite.owner)
    run_epoch(by_hand)
    epoch = run_epoch(by_hand)
    second.share_out(epoch, [provider.owner], [2_000 * TPF])
    distributor.share_out(epoch, [provider.owner], [3_000 * TPF])
    spent = [emissions.distributed(use, epoch) for use in range(3)]
    assert spent == [0, 3_000 * TPF, 2_000 * TPF]
    with boa.reverts("emissions: above the use's part"):
        second.share_out(epoch, [provider.owner], [1])


def test_distribute__at_the_end_of_the_epoch(
    suite: Suite, emissions: Contract, by_hand: Contract, ended: int, distributor: Contract
) -> None:
    provider = register(suite)
    epoch = by_hand.open_epoch(now(), now() + 100)
    with boa.env.anchor():
        pass_time(99)
        with boa.reverts("emissions: epoch has not ended"):
            distributor.share_out(epoch, [provider.owner], [1])
    pass_time(100)
    distributor.share_out(epoch, [provider.owner], [1])


@pytest.mark.parametrize("epoch", [0, 4, 5, 2**255, 2**256 - 1])
def test_distribute__epoch_was_not_opened__reverts(
    suite: Suite, ended: int, distributor: Contract, epoch: int
) -> None:
    provider = register(suite)
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(epoch, [provider.owner], [1])


def test_distribute__zero_amount__reverts(suite: Suite, ended: int, distributor: Contract) -> None:
    provider = register(suite)
    with boa.reverts("emissions: zero amount"):
        distributor.share_out(2, [provider.owner], [0])


def test_distribute__overflowing_amount__reverts(
    suite: Suite, ended: int, distributor: Contract
) -> None:
    provider = register(suite)
    distributor.share_out(2, [provider.owner], [1])
    with boa.reverts():
        distributor.share_out(2, [provider.owner], [2**256 - 1])


def test_distribute__unknown_provider__reverts(
    emissions: Contract, ended: int, distributor: Contract, stranger: str
) -> None:
    with boa.reverts("staking: not registered"):
        distributor.share_out(2, [stranger], [1])
    assert emissions.minted() == emissions.distributed(1, 2) == 0


@pytest.mark.parametrize("sender", ["owner", "deployer", "faucet"])
def test_distribute__no_distributor__reverts(
    suite: Suite, emissions: Contract, ended: int, distributor: Contract, sender: str
) -> None:
    """Not even the owner; and number 0, capacity, is paid by `claim` alone."""
    provider = register(suite)
    for caller in (getattr(suite, sender), emissions.address):
        with boa.reverts("emissions: caller is no distributor"):
            emissions.distribute(provider.owner, 2, 1, sender=caller)


def test_distribute__before_it_had_weight__reverts(
    suite: Suite, emissions: Contract, ended: int, distributor: Contract
) -> None:
    provider = register(suite)
    assert emissions.part_of(1, 1) == 0
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(1, [provider.owner], [1])


def test_distribute__weights_changed_since__the_part_of_its_epoch(
    suite: Suite, emissions: Contract, by_hand: Contract, ended: int, distributor: Contract
) -> None:
    provider = register(suite)
    emissions.set_weights([10_000], sender=suite.owner)
    run_epoch(by_hand)
    epoch = run_epoch(by_hand)
    distributor.share_out(3, [provider.owner], [5_000 * TPF])
    with boa.reverts("emissions: above the use's part"):
        distributor.share_out(epoch, [provider.owner], [1])
