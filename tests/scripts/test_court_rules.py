# SPDX-License-Identifier: Apache-2.0
"""The demo's own statement of the court's rules, and its plots: cases worked out by hand."""

from __future__ import annotations

import pytest

from scripts.market.court_cast import PROVIDER, TENANT, Plot
from scripts.market.court_rules import Sizes, finds, jury_finds, settle
from teraproof.courts.docket import Place, Round, Stage
from teraproof.courts.votes import Ruling, Vote

R, W, X = Vote.RIGHT, Vote.WRONG, Vote.WITHHELD
TENANT_IS, PROVIDER_IS = "tenant", "provider"
# A fee of 10, a price of 30 with a market fee of 3; a fine is 1 or 2.
SIZES = Sizes((3, 5, 9), 10, 1, 1, 2, 30, 3)


def jury(number: int, *votes: tuple[Vote | None, int] | tuple[Vote | None, int, bytes]) -> Round:
    """A jury: kind, votes and, of a WRONG vote, what came out instead."""
    places = tuple(
        Place(
            number=place,
            leaf=100 * number + place,
            votes=vote[1],
            juror=f"juror {number}.{place}",
            has_committed=vote[0] is not None,
            vote=vote[0],
            kept=vote[2] if len(vote) > 2 else b"truth",
        )
        for place, vote in enumerate(votes)
    )
    return Round(number, Stage.REVEALED, 0, 0, places)


@pytest.mark.parametrize(
    ("votes", "ruling"),
    [
        ([(R, 3)], Ruling.RIGHT),
        ([(R, 2), (W, 1)], Ruling.RIGHT),
        ([(R, 1), (None, 2)], Ruling.NONE),
        ([(R, 1)], Ruling.NONE),  # two votes are vacant
        ([(W, 2), (None, 1)], Ruling.WRONG),
        ([(W, 1), (W, 1, b"other"), (R, 1)], Ruling.UNDECIDED),
        ([(W, 1), (W, 1, b"other")], Ruling.UNDECIDED),
        ([(X, 2), (R, 1)], Ruling.WITHHELD),
        ([(X, 1), (W, 1), (R, 1)], Ruling.WITHHELD),
        ([(X, 1), (R, 1)], Ruling.UNDECIDED),
        ([(X, 1), (R, 2)], Ruling.RIGHT),
    ],
)
def test_one_jury__finds(votes: list[tuple[Vote | None, int]], ruling: Ruling) -> None:
    assert jury_finds(jury(0, *votes), 3).ruling is ruling


@pytest.mark.parametrize(
    ("appeal", "ruling"),
    [
        ([(R, 5)], Ruling.RIGHT),
        ([(R, 4)], Ruling.WRONG),  # five votes of nine did not speak
        ([(W, 2), (W, 2, b"other"), (R, 3)], Ruling.WRONG),  # undecided: the first stays
        ([(X, 6)], Ruling.WITHHELD),
    ],
)
def test_appeal__that_decides_nothing__leaves_what_was_appealed(
    appeal: list[tuple[Vote | None, int]], ruling: Ruling
) -> None:
    rounds = [jury(0, (W, 3)), jury(2, *appeal)]
    assert finds(rounds, SIZES).ruling is ruling


def test_wrong__the_tenant_gets_price_and_bond_less_the_fees_of_those_who_agreed() -> None:
    found = settle([jury(0, (W, 1), (None, 1), (W, 1))], SIZES, TENANT_IS, PROVIDER_IS)
    bond = 30 + 6 * 10
    assert found.paid == {
        TENANT_IS: 30 + bond - 20,
        PROVIDER_IS: 0,
        "juror 0.0": 10,
        "juror 0.2": 10,
    }
    assert found.fined == {"juror 0.1": 2}


def test_appeal__its_loser_pays_all_jurors_first() -> None:
    """90 of the appeal's bond cover the 120 of both juries but for 30."""
    rounds = [jury(0, (W, 3)), jury(2, (W, 9))]
    found = settle(rounds, SIZES, TENANT_IS, PROVIDER_IS)
    assert found.paid[TENANT_IS] == 30 + 90 - 30 and found.paid[PROVIDER_IS] == 0
    turned = settle([jury(0, (W, 3)), jury(2, (R, 9))], SIZES, TENANT_IS, PROVIDER_IS)
    assert turned.paid[TENANT_IS] == 90 - 90
    assert turned.paid[PROVIDER_IS] == 90 + 30 - 3
    assert turned.fined == {"juror 0.0": 3}


def test_appeal__that_turns_withheld__each_side_pays_half() -> None:
    rounds = [jury(0, (X, 2), (R, 1)), jury(2, (R, 8), (None, 1))]
    found = settle(rounds, SIZES, TENANT_IS, PROVIDER_IS)
    # Nine votes of 10; bonds of 90 (30 and six fees) and of 90 (nine fees); a price of 27.
    assert (found.paid[TENANT_IS], found.paid[PROVIDER_IS]) == (90 - 45, 90 - 45 + 27)
    lost = settle([jury(0, (X, 3)), jury(2, (W, 9))], SIZES, TENANT_IS, PROVIDER_IS)
    assert (lost.paid[TENANT_IS], lost.paid[PROVIDER_IS]) == (90 + 30, 0)


def test_no_quorum_twice__nobody_is_fined_for_a_vote() -> None:
    rounds = [jury(0, (W, 1), (None, 2)), jury(1, (W, 2), (None, 3))]
    found = settle(rounds, SIZES, TENANT_IS, PROVIDER_IS)
    assert found.found.ruling is Ruling.NONE
    assert found.paid["juror 0.0"] == 1 and found.paid["juror 1.0"] == 2
    assert found.fined == {"juror 0.1": 4, "juror 1.1": 6}
    assert found.paid[TENANT_IS] == 90 - 3 and found.paid[PROVIDER_IS] == 27


@pytest.mark.parametrize(
    "rounds",
    [
        [jury(0, (R, 2), (W, 1))],
        [jury(0, (X, 2), (R, 1))],
        [jury(0, (W, 1), (W, 1, b"other"), (R, 1))],
        [jury(0, (None, 3)), jury(1, (R, 5)), jury(2, (R, 4), (X, 2), (None, 3))],
    ],
)
def test_all_money_goes_somewhere(rounds: list[Round]) -> None:
    found = settle(rounds, SIZES, TENANT_IS, PROVIDER_IS)
    appealed = 90 if rounds[-1].number == 2 else 0
    fee = 0 if found.found.ruling.is_for_requester else 3
    assert found.paid.total() == 30 + 90 + appealed - fee


def test_plot__follows_from_its_seed_and_both_liars_come_up() -> None:
    plots = [Plot.of(seed) for seed in range(10)]
    assert plots == [Plot.of(seed) for seed in range(10)]
    assert {plot.liar for plot in plots} == {PROVIDER, TENANT}
    assert {plot.appeal for plot in plots} == {True, False}
    chosen = Plot.of(3, TENANT, False)
    assert (chosen.liar, chosen.appeal) == (TENANT, False)
    assert chosen.place == Plot.of(3).place
