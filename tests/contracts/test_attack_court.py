# SPDX-License-Identifier: Apache-2.0
"""The court's part of `make attack` finds faults that are planted in the court, and nothing else.

Also: what a lie and a needless dispute cost, to the unit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack import scenes
from tests.attack.court_moves import CourtMove
from tests.attack.courthouse import JUROR, PROVIDER, SIZES, TENANT, build, courthouse
from tests.attack.play import Play
from tests.attack.scenes import COURTS, Court
from tests.attack.search import work
from tests.attack.wealth import played
from tests.contracts import revm
from tests.contracts.deploy import USD
from tests.contracts.plant import EVERY, SEED, check_found, plant
from tests.contracts.stateful.world import STARTED
from tests.support import budget

SAYS = CourtMove("lie")
QUARRELS = CourtMove("dispute")

# The moment; contract, file, line, what is planted in its place, what the search says of it.
PLANTED = {
    "RIGHT needs half of those that are not WITHHELD": (
        "lie",
        "Disputes",
        "courts/votes.vy",
        "    if 2 * right > revealed:\n",
        "    if 2 * right > revealed - withheld:\n",
        "an honest jury, and a wrong end",
    ),
    "the bond of a tenant's appeal is paid back twice": (
        "quarrel",
        "Disputes",
        "Disputes.vy",
        "            of_requester += docket.APPEAL_PANEL * fee\n",
        "            of_requester += 2 * docket.APPEAL_PANEL * fee\n",
        "Jobs holds",
    ),
    "anybody commits in a juror's place": (
        "quarrel",
        "Disputes",
        "courts/juries.vy",
        "        msg.sender == staticcall jurors.STAKING.operator_of(juror)\n",
        "        msg.sender != empty(address)\n",
        "an honest juror loses",
    ),
    "an appeal need not convince": (
        "lie",
        "Disputes",
        "courts/standing.vy",
        "    if found.kind != votes.NO_RULING and not (\n"
        "        round == 2 and found.kind == votes.UNDECIDED\n"
        "    ):\n",
        "    if round == 2 or found.kind != votes.NO_RULING:\n",
        "an honest jury, and a wrong end",
    ),
}


@pytest.mark.parametrize("name", budget.every(EVERY, [*PLANTED]))
def test_search__finds_what_is_planted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, contract, file, line, fault, says = PLANTED[name]
    plant(contract, file, line, fault, tmp_path, monkeypatch)
    made = build(revm.Revm(STARTED))
    monkeypatch.setattr(scenes, "courthouse", lambda: made)
    check_found(moment, says)


@pytest.mark.parametrize("name", COURTS)
def test_search__finds_nothing_else(name: str) -> None:
    share = work(name, range(50), SEED)
    assert (share.tries, share.found) == (50, "")
    assert share.prices < 0, "the hostile lose on average"


@pytest.mark.parametrize("name", COURTS)
def test_court__is_as_before_after_a_strategy(name: str) -> None:
    at = Court(name)
    before = at.room.wealth(), at.room.chain.now
    at.judge([SAYS, QUARRELS])
    assert (at.room.wealth(), at.room.chain.now) == before


def test_lie__costs_price_and_collateral__and_the_tenant_pays_three_fees_of_it() -> None:
    play, usd, tpf = played(Court("lie"), SAYS)
    assert usd[PROVIDER] == 0 and tpf[PROVIDER] == -play.collateral
    fee = play.price * SIZES.juror_fee_bps // 10_000
    assert usd[TENANT] == -3 * fee
    assert tpf[TENANT] == play.collateral * SIZES.victim_bps // 10_000
    assert sum(usd[who] for who in JUROR) == 3 * fee


def test_quarrel__costs_the_tenant_the_fees__and_the_provider_nothing() -> None:
    play, usd, tpf = played(Court("quarrel"), QUARRELS)
    paid = play.price - play.price * SIZES.fee_bps // 10_000
    assert usd[PROVIDER] == paid and tpf[PROVIDER] == 0
    fee = play.price * SIZES.juror_fee_bps // 10_000
    assert usd[TENANT] == -play.price - 3 * fee


def test_honest_job__ends_without_a_court() -> None:
    play, usd, _ = played(Court("quarrel"))
    assert not play.juries and usd[TENANT] == -10 * USD
    assert usd[PROVIDER] == 10 * USD * (10_000 - SIZES.fee_bps) // 10_000


def test_jury_of_friends__is_luck_and_no_fault() -> None:
    """Bought seats are what the court's economics leave open: it must not pay on average."""
    everybody = CourtMove("vote", how="agree", round=3, who=99)
    at = Court("lie")
    friends = frozenset(range(len(JUROR)))

    def all_in_league(play: Play) -> None:
        play.friends = friends

    judged = at.judge([SAYS, all_in_league, everybody])  # type: ignore[list-item]
    assert judged.is_luck and not judged.fault and judged.gain > 0


def test_liar__convicted_in_a_court_of_its_friends__leaves_the_tenant_its_price_and_no_more() -> (
    None
):
    """Before such a jury the tenant has its bond at stake; what is proven gives the rest back."""
    found = Court("lie").judge(
        [
            CourtMove("case", number=279366037525685),
            SAYS,
            CourtMove("appeal", number=10),
            CourtMove("vote", how="win", round=2, who=99),
            CourtMove("two results", how="specification", moment="disputed"),
        ]
    )
    assert found.is_luck and not found.fault


def test_page__counts_seats_in_league_to_a_third_at_most() -> None:
    from tests.attack.court_moves import MOST_SEATS
    from tests.attack.courthouse import NEWCOMERS, SEATS

    assert 3 * (MOST_SEATS + len(NEWCOMERS)) <= sum(SEATS) + len(NEWCOMERS)
    assert courthouse().p.panel_min <= sum(SEATS)
