# SPDX-License-Identifier: Apache-2.0
"""Nobody gains by leaving its part in a dispute; and two ways to compute that agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.courts import attacks, checks, page, voters
from benchmarks.courts.__main__ import PAGE, PLACE
from benchmarks.courts.attacks import Bribe
from benchmarks.courts.checks import Form
from benchmarks.courts.conduct import STRATEGIES, Strategy, conduct
from benchmarks.courts.disputes import (
    court,
    draws,
    expected,
    prize,
    search,
    simulated,
    wrong_by_tails,
)
from benchmarks.courts.figures import FIGURES
from benchmarks.courts.positions import table
from benchmarks.courts.rules import MONEY, SHIPPED, WORLD, Money, Party, Rules, Ruling, ruling

RUNS = 60_000
SEED = 9


def near(one: float, other: float, scale: float = 0.0) -> bool:
    """Within 5 %; figures around nothing are compared at the scale of what they are made of."""
    return abs(one - other) <= 0.05 * max(abs(one), abs(other), scale)


# ------------------------------------------------------------------------- soundness


def test_soundness__no_role_gains_by_any_deviation() -> None:
    gains = [entry for entry in table(SHIPPED, MONEY, WORLD) if entry.loss < 0]
    assert gains == []


def test_soundness__only_an_absent_jury_costs_nothing() -> None:
    free = [entry.deviation for entry in table(SHIPPED, MONEY, WORLD) if entry.loss < 0.01]
    assert free == ["disputes where no jury can be found"]


@pytest.mark.parametrize(
    ("rules", "money", "gainer"),
    [
        (Rules(small_fees=1), MONEY, "fetches and agrees"),
        (Rules(big_fees=20), MONEY, "does not enlist, as it misses 3 % of its calls"),
        (Rules(fee=0.15), MONEY, "always says WITHHELD"),
        (Rules(), replace(MONEY, fee_per_hour=0.05), "has lied, and fills all seats"),
        (Rules(), replace(MONEY, price_per_seat=20.0), "has lied, and fills all seats"),
        (Rules(), replace(MONEY, panel_min=3), "keeps jurors busy"),
    ],
)
def test_soundness__sizes_that_are_not_enough_are_seen(
    rules: Rules, money: Money, gainer: str
) -> None:
    gainers = [entry.deviation for entry in table(rules, money, WORLD) if entry.loss < 0]
    assert any(name.startswith(gainer) for name in gainers), gainers


# -------------------------------------------------------------------------- the ruling


@pytest.mark.parametrize(
    ("right", "wrong", "withheld", "strays", "size", "given"),
    [
        (2, 1, 0, 0, 3, Ruling.PROVIDER),
        (1, 2, 0, 0, 3, Ruling.TENANT),
        (0, 1, 2, 0, 3, Ruling.WITHHELD),
        (1, 0, 2, 0, 3, Ruling.WITHHELD),
        # Two of five that alone were served do not outvote three that were not.
        (2, 0, 3, 0, 5, Ruling.WITHHELD),
        (2, 1, 2, 0, 5, Ruling.WITHHELD),
        # Jurors that ran the job and do not agree with each other.
        (1, 1, 0, 1, 3, Ruling.UNDECIDED),
        (1, 1, 0, 0, 3, Ruling.UNDECIDED),
        (2, 0, 2, 0, 5, Ruling.UNDECIDED),
        # Half of the places is not enough.
        (1, 0, 0, 0, 3, Ruling.NO_QUORUM),
        (5, 0, 0, 0, 11, Ruling.NO_QUORUM),
        (6, 0, 0, 0, 11, Ruling.PROVIDER),
    ],
)
def test_ruling__of_a_panel(
    right: int, wrong: int, withheld: int, strays: int, size: int, given: Ruling
) -> None:
    votes = [np.array([count]) for count in (right, wrong, withheld)]
    assert ruling(votes[0], votes[1], votes[2], size, strays)[0] == given


# ------------------------------------------------------------------------------- money


@pytest.mark.parametrize("liar", Party)
@pytest.mark.parametrize("fee", [0.3, 20.0])
def test_conduct__every_unit_paid_is_somebodys(liar: Party, fee: float) -> None:
    rules = Rules(fee=fee)  # a least fee may be many prices
    for strategy in STRATEGIES:
        for panels in draws(rules, court(0.4, 90), 0.2, 5_000, SEED):
            ledger = conduct(rules, liar, strategy, panels)
            total = ledger.coalition + ledger.honest_party + ledger.honest_jurors + ledger.burned
            assert np.abs(total).max() < 1e-9
            # What the honest party has put up is enough for whatever it has to pay.
            appeal = rules.appeal_bond
            bonds = appeal + (0 if liar is Party.TENANT else rules.dispute_bond)
            assert (ledger.honest_party >= -bonds - 1e-9).all()


def test_conduct__a_tenant_that_is_right_never_pays_more_than_it_gets_back() -> None:
    alone = replace(WORLD, colluding=0.0, absent=0.0)
    end = expected(SHIPPED, alone, Party.PROVIDER, Strategy())
    assert end.wrong == 0
    assert end.honest_party + 1 > 0  # the price comes back


def test_conduct__an_honest_provider_that_is_robbed_gains_by_its_appeal() -> None:
    assert attacks.appeal_gain(SHIPPED, 0.0, 1.0) > 0
    assert attacks.appeal_gain(SHIPPED, 1.0, 0.0) < 0
    # Also where jurors that had no time have said WITHHELD, with a collateral of the price.
    assert attacks.appeal_gain(SHIPPED, 1.0, SHIPPED.late_part) > 0


def test_served_late__loses_the_price_and_more_though_it_wins() -> None:
    """A right result that was kept back until the appeal."""
    provider, tenant = attacks.served_late(SHIPPED)
    assert provider < 0
    # Its threat costs it as much as it costs the tenant, beyond the price that is at stake.
    assert tenant == pytest.approx(-1 - (1 - SHIPPED.protocol_fee - provider))
    # By the common rule it would have kept a half of the price.
    kept, threatened = attacks.served_late(replace(SHIPPED, late_part=1.0))
    assert kept > 0.4 and threatened < tenant - 1
    exact = attacks.served_late(SHIPPED, 1 - WORLD.absent)
    found = attacks.served_late_drawn(SHIPPED, WORLD.absent, RUNS, SEED)
    assert near(exact[0], found[0]) and near(exact[1], found[1])


def test_served_late__the_money_is_that_of_whole_disputes() -> None:
    """A coalition that says WITHHELD falsely pays its half, and the honest provider the other."""
    rules, world = replace(SHIPPED, late_part=0.5), replace(WORLD, colluding=0.45, absent=0.0)
    common = replace(rules, late_part=1.0)
    liar, strategy = Party.TENANT, Strategy()
    half, whole = (expected(one, world, liar, strategy) for one in (rules, common))
    assert half.wrong == whole.wrong
    assert half.money > whole.money and half.honest_party < whole.honest_party
    assert half.money + half.honest_party == pytest.approx(whole.money + whole.honest_party)


def test_search__whatever_its_friends_do__a_third_of_the_seats_gains_nothing_by_a_lie() -> None:
    # Smaller panels than the shipped ones: the search tries each panel that can be met.
    rules = Rules(redraw_panel=5, appeal_panel=9)
    world = replace(WORLD, colluding=1 / 3)
    tenant = search(rules, world, Party.TENANT)
    provider = search(rules, world, Party.PROVIDER)
    assert tenant.profit(prize(rules, Party.TENANT, 3.0)) < 0
    honest = 1 - rules.protocol_fee - world.saved
    assert provider.profit(prize(rules, Party.PROVIDER, 3.0)) - 3.0 < honest
    # It finds at least what was thought of.
    for liar, found in ((Party.TENANT, tenant), (Party.PROVIDER, provider)):
        gain = prize(rules, liar, 3.0)
        thought = [expected(rules, world, liar, strategy).profit(gain) for strategy in STRATEGIES]
        assert found.profit(gain) >= max(thought)


# ------------------------------------------------------------- formula and simulation


@pytest.mark.parametrize("s", [0.05, 0.2, 1 / 3, 0.45])
@pytest.mark.parametrize("liar", Party)
def test_expected__all_there_and_all_appealed__the_tail_of_the_appeal(
    s: float, liar: Party
) -> None:
    world = replace(WORLD, colluding=s, absent=0.0)
    end = expected(SHIPPED, world, liar, Strategy(appeals=True))
    assert end.wrong == pytest.approx(wrong_by_tails(SHIPPED, s))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("liar", Party)
def test_expected__as_drawn_juries_give_it(liar: Party, strategy: Strategy) -> None:
    world = replace(WORLD, colluding=0.4, absent=0.1)
    exact = expected(SHIPPED, world, liar, strategy)
    found = simulated(SHIPPED, world, liar, strategy, RUNS, SEED)
    assert near(exact.wrong, found.wrong)
    assert near(exact.money, found.money, SHIPPED.fee)
    assert near(exact.honest_party, found.honest_party, SHIPPED.fee)


def test_draws__neither_the_absent_nor_the_friends_are_miscounted() -> None:
    panels = next(draws(SHIPPED, court(0.25, 900), 0.1, 10_000, SEED))
    for panel, size in zip(panels, (3, 5, 11), strict=True):
        assert near(float(panel.colluding.mean()), size * 0.25)
        assert near(float(panel.honest.mean()), size * 0.75 * 0.9)


@pytest.mark.parametrize("voter", (voters.HONEST, *voters.EXACT, *voters.COMPARED))
@pytest.mark.parametrize("setting", [voters.Setting(0.8), voters.Setting(0.4, 0.6, 0.5)])
def test_voters__as_drawn_panels_give_it(voter: voters.Voter, setting: voters.Setting) -> None:
    exact = voters.profit(SHIPPED, WORLD, voter, setting)
    found = voters.simulated(SHIPPED, WORLD, voter, setting, RUNS, SEED)
    assert near(exact, found, SHIPPED.fee)


def test_voters__a_juror_that_runs_beats_all_others_whatever_part_is_right() -> None:
    for right in np.linspace(0.15, 0.85, 8):
        setting = voters.Setting(float(right))
        honest = voters.profit(SHIPPED, WORLD, voters.HONEST, setting)
        for voter in (*voters.EXACT, *voters.COMPARED):
            assert voters.profit(SHIPPED, WORLD, voter, setting) < honest, (voter.name, right)


def test_attacks__as_drawn() -> None:
    assert near(
        attacks.silence_for_all(SHIPPED, WORLD),
        attacks.silence_for_all_drawn(SHIPPED, WORLD, RUNS, SEED),
    )
    for kind, liar in zip(Bribe, (Party.PROVIDER, Party.PROVIDER, Party.TENANT), strict=True):
        gain = prize(SHIPPED, liar, WORLD.collateral)
        assert near(
            attacks.bribery(SHIPPED, WORLD, kind, 1 / 3, gain),
            attacks.bribery_drawn(SHIPPED, WORLD, kind, 1 / 3, gain, RUNS, SEED),
        )
    for all_votes in (False, True):
        assert near(
            attacks.served_to_friends(5, 0.3, all_votes),
            attacks.served_to_friends_drawn(5, 0.3, all_votes, RUNS, SEED),
        )
    busy = attacks.busy_part(100, 33, SHIPPED.panel)
    drawn_busy, drawn_failed = attacks.without_quorum_drawn(SHIPPED, 100, 33, 4_000, SEED)
    assert near(busy, drawn_busy)
    assert near(attacks.without_quorum(SHIPPED, busy), drawn_failed)
    busy = attacks.busy_part(30, 10, SHIPPED.panel)
    turned = attacks.busy_turns_drawn(SHIPPED, 30, 10, 20_000, SEED)
    # The part that is busy varies from try to try; its mean is what the formula takes.
    assert abs(attacks.busy_turns(SHIPPED, busy) - turned) < 0.05
    assert near(
        attacks.reordered(3, 0.2, 100, 20), attacks.reordered_drawn(3, 0.2, 100, 20, 15_000, SEED)
    )
    assert near(
        attacks.self_dealt(SHIPPED, 0.2), attacks.self_dealt_drawn(SHIPPED, 0.2, RUNS, SEED)
    )
    for part in (0.25, 1 / 3):
        formula = attacks.dragged_on(SHIPPED, part)
        drawn = attacks.dragged_on_drawn(SHIPPED, part, 10 * RUNS, SEED)
        assert near(formula[0], drawn[0]) and near(formula[1], drawn[1])
    assert near(
        attacks.juror(SHIPPED, WORLD, 0.02),
        attacks.juror_drawn(SHIPPED, WORLD, 0.02, 4 * RUNS, SEED),
        SHIPPED.fee,
    )


def test_league__of_jurors_alone__gains_nothing_below_a_fifth_of_the_seats() -> None:
    """What docs/courts-economics.md says of it: left open, and how much it is."""
    just = SHIPPED.panel * SHIPPED.fee
    assert attacks.dragged_on(SHIPPED, 0.18)[0] == 0
    assert attacks.dragged_on(SHIPPED, 0.2)[0] < 0.01 * 0.2 * just * 5
    assert 0.35 < attacks.dragged_on(SHIPPED, 1 / 3)[0] / (just / 3) < 0.45


@pytest.mark.parametrize("hours", [0.5, 8.0, 48.0])
def test_fee__the_hours_of_a_cheap_job__never_below_their_energy(hours: float) -> None:
    by_price_alone, now = attacks.long_and_cheap(MONEY, SHIPPED, 0.01, hours, 0.20)
    assert now < 0  # the juror earns
    assert hours < 8 or by_price_alone > 0  # it did not


@pytest.mark.parametrize("votes", [2, 3, 6])
@pytest.mark.parametrize("run", [0.05, 0.2, 0.3])
def test_undecided__votes_of_nothing_earn_no_more_than_one_shared_run(
    votes: int, run: float
) -> None:
    assert votes * SHIPPED.undecided_part * SHIPPED.fee <= votes * SHIPPED.fee - run + 1e-12
    assert attacks.undecided(SHIPPED) < 0  # and the tenant pays them


# ------------------------------------------------------------------------- spot checks


@pytest.mark.parametrize(
    "form",
    [Form(), Form(bounty=1.5), Form(second=0.5), Form(decoys=0.08), Form(tenants=0.03)],
)
def test_checks__where_they_balance_no_side_gains_by_changing(form: Form) -> None:
    world = replace(WORLD, collateral=10.0)
    checked = checks.rate(form, 0.05)
    at = checks.balance(world, form, checked)
    drawn = checks.changes_drawn(world, form, checked, at, 4 * RUNS, SEED)
    exact = checks.changes(world, form, checked, at)
    assert near(exact.lie, drawn.lie, world.saved)
    assert near(exact.look_away, drawn.look_away, form.pay)
    assert exact.lie <= 1e-9
    assert exact.look_away <= 1e-9


def test_checks__tenants_look_too__lies_end_only_where_no_check_is_needed() -> None:
    world = replace(WORLD, collateral=10.0)
    enough = checks.tenants_rate(world)
    some = [checks.balance(world, Form(tenants=part * enough), 0.15) for part in (0.0, 0.5, 0.9)]
    assert some[0].lies > some[1].lies > some[2].lies > 0.2
    assert some[0].runs > some[1].runs > some[2].runs > 0
    assert checks.balance(world, Form(tenants=enough), 0.0).lies == 0


def test_checks__a_seal_alone_never_ends_lying__decoys_would() -> None:
    world = replace(WORLD, collateral=10.0)
    assert checks.balance(world, Form(), 0.15).lies > 0.5
    assert checks.balance(world, Form(second=1.0), 0.15).lies > 0
    enough = Form(decoys=checks.decoys_needed(world, Form()) + 0.01)
    assert checks.balance(world, enough, 0.15).lies == 0


def test_checks__no_fee_pays_for_more_checks_than_it_takes_in() -> None:
    for fee in (0.01, 0.05, 0.1):
        for form in (Form(), Form(second=0.5), Form(decoys=0.08)):
            assert checks.rate(form, fee) * form.cost <= fee + 1e-12


# -------------------------------------------------------------------------------- page


def test_page__its_quick_tables_are_fresh() -> None:
    text = PAGE.read_text()
    stale = [name for name in page.QUICK if page.TABLES[name]() not in text]
    assert stale == [], "run make courts"


def test_page__has_every_table_and_figure() -> None:
    text = PAGE.read_text()
    assert [name for name in page.TABLES if f"<!-- table: {name} -->" not in text] == []
    for name in FIGURES:
        assert f"figures/{name}" in text
        assert (PLACE / name).is_file()
