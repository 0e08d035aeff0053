# SPDX-License-Identifier: Apache-2.0
"""Trees of seats, held against plain lists of seats, one kept for each end of a period."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import go_to, now
from tests.contracts.deploy import Contract, deployer_of
from tests.contracts.revm import STATIC_SENDER, Revm
from tests.contracts.stateful.world import STARTED

pytestmark = pytest.mark.invariant("I-14")

PERIOD = 3_600
TREE = b"\x01" * 32
OTHER = b"\x02" * 32
MOST_SEATS = 2**24 - 1
MOST_LEAVES = 2**27 - 1


@pytest.fixture(scope="module")
def tree() -> Any:
    return deployer_of("mocks/SeatTree").deploy(PERIOD)


def go_to_period(number: int) -> None:
    """A moment in the middle of it."""
    go_to(number * PERIOD + PERIOD // 2)


def present() -> int:
    return now() // PERIOD


def next_period(periods: int = 1) -> None:
    go_to_period(present() + periods)


def expected(seats: Sequence[int]) -> list[int]:
    """Point by point, whose seat it is; leaves count from 1."""
    return [leaf for leaf, count in enumerate(seats, 1) for _ in range(count)]


class Model:
    """Lists of seats: as they are, and as they were when each period ended."""

    def __init__(self, contract: Any) -> None:
        self.contract = contract
        self.seats: list[int] = []
        self.ended: dict[int, list[int]] = {}

    def append(self, seats: int) -> None:
        self.seats.append(seats)
        assert self.contract.append(TREE, seats) == len(self.seats)

    def change(self, at: int, seats: int) -> None:
        leaf = at % len(self.seats)
        self.contract.change(TREE, leaf + 1, self.seats[leaf], seats)
        self.seats[leaf] = seats

    def wait(self, periods: int) -> None:
        for period in range(present(), present() + periods):
            self.ended[period] = list(self.seats)
        next_period(periods)

    def check(self) -> None:
        assert self.contract.seats(TREE) == sum(self.seats)
        for period in (present(), present() - 1):
            seats = self.ended.get(period - 1, [])
            assert self.contract.frozen(TREE, period) == (sum(seats), len(seats))
            points = list(range(sum(seats)))
            assert list(self.contract.find_all(TREE, period, points)) == expected(seats)


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 5)),
    st.tuples(st.just("change"), st.integers(0, 40), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)


@settings(max_examples=60, deadline=None)
@given(
    first=st.sampled_from((0, 1, 2, 3, 9, 14, 15, 16, 62, 63)), steps=st.lists(steps, max_size=30)
)
def test_tree__any_changes__reads_as_the_lists_of_two_periods(
    tree: Contract, first: Any, steps: Any
) -> None:
    """What was asked for in this period or the last one is drawn from what stood before."""
    model = Model(tree)
    for number in range(first):
        model.append(number % 4)
    for name, *values in steps:
        if name != "change" or model.seats:
            getattr(model, name)(*values)
        model.check()


def test_find__whatever_happens_after_the_period__the_same(tree: Contract) -> None:
    """Juror 2 leaves, 1 grows and 4 comes: a request made before all that finds as before."""
    for seats in (3, 1, 2):
        tree.append(TREE, seats)
    next_period()
    asked = present()
    before = [tree.find(TREE, asked, point) for point in range(6)]
    tree.change(TREE, 2, 1, 0)
    tree.append(TREE, 9)
    next_period()
    tree.change(TREE, 1, 3, 7)
    assert [tree.find(TREE, asked, point) for point in range(6)] == before == [1, 1, 1, 2, 3, 3]
    # A request of the next period finds what the one before has left.
    assert [tree.find(TREE, asked + 1, point) for point in range(14)] == [1] * 3 + [3] * 2 + [4] * 9


@pytest.mark.parametrize("leaves", [3, 15, 63, 255])
def test_tree__grows_by_a_level__what_was_asked_before_finds_as_before(
    tree: Contract, leaves: Any
) -> None:
    """With changes below the old top in the period of the growth, and in the next one."""
    model = Model(tree)
    for _ in range(leaves):
        model.append(1)
    model.wait(1)
    model.change(leaves - 1, 3)
    model.append(2)
    model.change(0, 0)
    model.check()
    model.wait(1)
    model.check()
    model.change(leaves, 5)
    model.change(1, 2)
    model.check()
    model.wait(1)
    model.check()


def test_find__changed_twice_in_a_period__only_the_last_counts(tree: Contract) -> None:
    tree.append(TREE, 1)
    next_period()
    tree.change(TREE, 1, 1, 5)
    tree.change(TREE, 1, 5, 2)
    assert tree.frozen(TREE, present()) == (1, 1)
    next_period()
    assert tree.frozen(TREE, present()) == (2, 1)


def test_frozen__kept_until_the_next_period_ends(tree: Contract) -> None:
    tree.append(TREE, 4)
    next_period()
    asked = present()
    go_to((asked + 2) * PERIOD - 1)
    assert tree.frozen(TREE, asked) == (4, 1)
    go_to((asked + 2) * PERIOD)
    with boa.reverts("tree: period is not kept"):
        tree.frozen(TREE, asked)


def test_frozen__of_a_period_to_come__reverts(tree: Contract) -> None:
    with boa.reverts("tree: period is not kept"):
        tree.frozen(TREE, present() + 1)


def test_trees__know_nothing_of_each_other(tree: Contract) -> None:
    tree.append(TREE, 4)
    tree.append(OTHER, 1)
    tree.append(OTHER, 1)
    next_period()
    assert tree.frozen(TREE, present()) == (4, 1)
    assert tree.frozen(OTHER, present()) == (2, 2)


def test_seats__most__exact(tree: Contract) -> None:
    tree.append(TREE, MOST_SEATS - 1)
    tree.append(TREE, 0)
    with boa.reverts("tree: too many seats"):
        tree.append(TREE, 2)
    with boa.reverts("tree: too many seats"):
        tree.change(TREE, 2, 0, 2)
    tree.change(TREE, 2, 0, 1)
    assert tree.seats(TREE) == MOST_SEATS
    next_period()
    assert tree.find(TREE, present(), MOST_SEATS - 1) == 2
    tree.change(TREE, 1, MOST_SEATS - 1, 0)
    assert tree.seats(TREE) == 1


def test_tree__all_seats_on_a_third_child__as_they_were_before_and_after(tree: Contract) -> None:
    """A node counts them in its uppermost bits, in three times next to each other."""
    start = present() // 2 * 2 + 2
    go_to_period(start)
    for seats in (0, MOST_SEATS, 0):
        tree.append(TREE, seats)
    # In an even period, so that no bit of its number hides another.
    go_to_period(start + 2)
    tree.change(TREE, 2, MOST_SEATS, 0)
    tree.change(TREE, 1, 0, 1)
    for asked in (start + 1, start + 2):
        assert tree.frozen(TREE, asked) == (MOST_SEATS, 3)
        assert [tree.find(TREE, asked, point) for point in (0, MOST_SEATS - 1)] == [2, 2]
    go_to_period(start + 3)
    assert tree.frozen(TREE, start + 3) == (1, 3)
    assert tree.find(TREE, start + 3, 0) == 1
    tree.change(TREE, 1, 1, 0)
    assert tree.frozen(TREE, start + 2) == (MOST_SEATS, 3)
    assert [tree.find(TREE, start + 2, point) for point in (0, MOST_SEATS - 1)] == [2, 2]


def test_leaves__most__exact() -> None:
    """Nobody can enlist so often: the sums are written as if it had been done."""
    chain = Revm(STARTED)
    tree = chain.deploy("mocks/SeatTree", PERIOD)
    address, slot = chain.slot("mocks/SeatTree", "sum_tree.nodes", TREE, bytes(32))
    chain.evm.insert_account_storage(address, slot, MOST_LEAVES - 1 << 40)
    assert tree.append(TREE, 3) == MOST_LEAVES
    period = chain.now // PERIOD + 1
    chain.now = period * PERIOD
    assert tree.frozen(TREE, period) == (3, MOST_LEAVES)
    assert [tree.find(TREE, period, point) for point in range(3)] == [MOST_LEAVES] * 3
    refused = chain.send("mocks/SeatTree", "append", (TREE, 1), STATIC_SENDER)
    assert refused.reason == "tree: too many leaves"
    assert tree.frozen(TREE, period) == (3, MOST_LEAVES)


def test_period__out_of_bounds__reverts() -> None:
    for period in (0, 30 * 86_400 + 1):
        with boa.reverts("tree: period out of bounds"):
            deployer_of("mocks/SeatTree").deploy(period)


def test_thousand_leaves__found_right_and_within_reach_of_the_gas(tree: Contract) -> None:
    """A draw among 1,000 jurors reads five nodes and the sums. What counts as cold is the machine's
    matter: the bounds are those of a transaction of its own.
    """
    chosen = random.Random(1)
    seats = [chosen.randrange(1, 50) for _ in range(1_000)]
    for count in seats:
        tree.append(TREE, count)
    next_period()
    owners = expected(seats)
    points = [chosen.randrange(len(owners)) for _ in range(500)]
    assert list(tree.find_all(TREE, present(), points)) == [owners[point] for point in points]
    tree.find(TREE, present(), points[0])
    assert tree._computation.get_gas_used() < 21_000
    tree.change(TREE, 1, seats[0], 0)
    # Five nodes and the root, 5,000 each, and a quarter for finding them: 37,582 with all cold.
    assert tree._computation.get_gas_used() < 38_000
