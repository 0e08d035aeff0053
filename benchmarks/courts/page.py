# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/courts-economics.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.courts import attacks, checks, voters
from benchmarks.courts.attacks import Bribe
from benchmarks.courts.checks import Form
from benchmarks.courts.conduct import STRATEGIES, Strategy
from benchmarks.courts.disputes import (
    best,
    expected,
    prize,
    restrained,
    search,
    simulated,
    wrong_in_one_round,
)
from benchmarks.courts.positions import table as positions
from benchmarks.courts.rules import MONEY, SHIPPED, WORLD, Party, Rules, World
from benchmarks.pages import table

RUNS = 100_000
SEED = 20_261_129
PARTS = (0.1, 0.2, 0.3, 0.4)
FORCE = Strategy(appeals=True)


def _percent(value: float) -> str:
    if 0 < value < 0.0005:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.1f} %"


def _prices(value: float) -> str:
    return f"{value:+.2f}"


def _thousandths(value: float) -> str:
    return f"{value:+.3f}".replace("-0.000", "+0.000")


def _pair(formula: float, drawn: float, show: Callable[[float], str]) -> list[str]:
    return [show(formula), show(drawn)]


def world_of(colluding: float) -> World:
    return replace(WORLD, colluding=colluding)


# ------------------------------------------------------------------- wrong rulings, buying one


def sizes() -> str:
    """The chance that a panel is turned, by its size."""
    rows = [
        [str(size)]
        + [_percent(wrong_in_one_round(size, s)) for s in (0.05, 0.1, 0.2, 0.3, 1 / 3, 0.4)]
        + [f"{size * SHIPPED.fee:.1f}"]
        for size in (1, 3, 5, 7, 9, 11, 15, 21)
    ]
    head = ["panel", *(f"s = {100 * s:.0f} %" for s in (0.05, 0.1, 0.2, 0.3, 1 / 3, 0.4))]
    return table([*head, "fees, in prices"], rows)


def wrong() -> str:
    """The chance of a wrong end, and what the coalition pays for one."""
    rows = []
    for s in PARTS:
        for liar in Party:
            world = world_of(s)
            exact = expected(SHIPPED, world, liar, FORCE)
            found = simulated(SHIPPED, world, liar, FORCE, RUNS, SEED)
            rows.append(
                [f"{100 * s:.0f} %", "provider" if liar is Party.PROVIDER else "tenant"]
                + _pair(exact.wrong, found.wrong, _percent)
                + _pair(exact.money, found.money, _prices)
                + [f"{exact.price():,.1f}", f"{prize(SHIPPED, liar, WORLD.collateral):.1f}"]
            )
    head = ["s", "liar", "wrong end, formula", "simulation", "money, formula", "simulation"]
    return table([*head, "price of a wrong end", "its worth at C = 3"], rows)


def strategies() -> str:
    """What each strategy brings at s = 20 % and at a third."""
    rows = []
    for s in (0.2, 0.3):
        for liar in Party:
            gain = prize(SHIPPED, liar, WORLD.collateral)
            for strategy in STRATEGIES:
                exact = expected(SHIPPED, world_of(s), liar, strategy)
                found = simulated(SHIPPED, world_of(s), liar, strategy, RUNS, SEED)
                rows.append(
                    [f"{100 * s:.0f} %", "provider" if liar is Party.PROVIDER else "tenant"]
                    + ["yes" if strategy.silences else "no", "yes" if strategy.appeals else "no"]
                    + _pair(exact.wrong, found.wrong, _percent)
                    + _pair(exact.profit(gain), found.profit(gain), _prices)
                )
    head = ["s", "liar", "breaks quorums", "appeals", "wrong end, formula", "simulation"]
    return table([*head, "profit of a dispute, formula", "simulation"], rows)


def profit_of(liar: Party, collateral: float, rules: Rules = SHIPPED) -> Callable[[float], float]:
    """The best profit of a dispute for a coalition, by its part of the seats."""

    def value(s: float) -> float:
        world = replace(WORLD, colluding=s, collateral=collateral)
        return best(rules, world, liar)[1].profit(prize(rules, liar, collateral))

    return value


def least_part(liar: Party, collateral: float, rules: Rules = SHIPPED) -> float:
    """The part of the seats from which a lie (provider), or a false claim (tenant), pays."""
    lost = collateral + 1 - rules.protocol_fee - WORLD.saved if liar is Party.PROVIDER else 0.0
    profit = profit_of(liar, collateral, rules)
    low, high = 0.0, 0.6
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if profit(middle) > lost else (middle, high)
    return high


def searched() -> str:
    """The best of any behaviour of a coalition's jurors, against the strategies and just votes."""
    rows = []
    for s in (0.1, 0.2, 0.3):
        for liar in Party:
            world, gain = world_of(s), prize(SHIPPED, liar, WORLD.collateral)
            found = search(SHIPPED, world, liar)
            rows.append(
                [f"{100 * s:.0f} %", "provider" if liar is Party.PROVIDER else "tenant"]
                + [_prices(best(SHIPPED, world, liar)[1].profit(gain))]
                + [_prices(restrained(SHIPPED, world, liar).profit(gain))]
                + [_prices(found.profit(gain)), _percent(found.wrong)]
            )
    head = ["s", "liar", "best of the four", "votes justly", "best found", "its wrong ends"]
    return table(head, rows)


def parts() -> str:
    """From which part of the seats on a coalition gains, by the collateral."""
    rows = [
        [f"{collateral:g}"] + [f"{100 * least_part(liar, collateral):.0f} %" for liar in Party]
        for collateral in (0.0, 0.5, 1.0, 3.0, 10.0, 30.0)
    ]
    return table(["collateral, in prices", "a provider that lies", "a tenant that lies"], rows)


# ---------------------------------------------------------------------------------- voters


def voting() -> str:
    """What a place brings, by how the juror votes."""
    rows = []
    settings = [voters.Setting(right) for right in (0.15, 0.5, 0.85)]
    crowd = voters.Setting(0.5, alike=0.5, appealed=0.5)
    for voter in (voters.HONEST, *voters.EXACT, *voters.COMPARED):
        row = [voter.name]
        for setting in (*settings, crowd):
            row += _pair(
                voters.profit(SHIPPED, WORLD, voter, setting),
                voters.simulated(SHIPPED, WORLD, voter, setting, RUNS // 2, SEED),
                _thousandths,
            )
        rows.append(row)
    head = ["how it votes"]
    for name in ("15 % right", "50 % right", "85 % right", "50 %, half vote alike"):
        head += [name, "sim."]
    return table(head, rows, left=1)


def absence() -> str:
    """What a place brings a juror that runs the job but is sometimes away."""
    rows = [
        [f"{100 * away:g} %"]
        + _pair(
            attacks.juror(SHIPPED, WORLD, away),
            attacks.juror_drawn(SHIPPED, WORLD, away, RUNS, SEED),
            _thousandths,
        )
        for away in (0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
    ]
    return table(["away", "a place, formula", "simulation"], rows)


# --------------------------------------------------------------------------------- attacks


def bribes() -> str:
    """Offering bribes to every juror, of whom a part takes them."""
    rows = []
    for kind, name, liar in (
        (Bribe.SILENCE, "silence", Party.PROVIDER),
        (Bribe.FALSE, "RIGHT, fines made good", Party.PROVIDER),
        (Bribe.WITHHELD, "WITHHELD", Party.TENANT),
    ):
        gain = prize(SHIPPED, liar, WORLD.collateral)
        row = [name]
        for takers in (0.2, 1 / 3, 0.5):
            row += _pair(
                attacks.bribery(SHIPPED, WORLD, kind, takers, gain),
                attacks.bribery_drawn(SHIPPED, WORLD, kind, takers, gain, RUNS // 2, SEED),
                _prices,
            )
        needed = attacks.takers_needed(SHIPPED, WORLD, kind, gain)
        rows.append([*row, "never" if needed > 1 else f"{100 * needed:.0f} %"])
    head = ["what is bought", "20 % take", "sim.", "33 % take", "sim.", "50 % take", "sim."]
    return table([*head, "pays from"], rows, left=1)


def full_seats() -> str:
    """Disputes without end that keep jurors busy."""
    rows = []
    for seats in (40, 100, 300):
        disputes = seats // 3
        busy = attacks.busy_part(seats, disputes, SHIPPED.panel)
        drawn = attacks.without_quorum_drawn(SHIPPED, seats, disputes, 4_000, SEED)
        full, cost = attacks.fill(SHIPPED, MONEY, seats, 0.9)
        rows.append(
            [f"{seats:,}", str(disputes)]
            + _pair(busy, drawn[0], _percent)
            + _pair(attacks.without_quorum(SHIPPED, busy), drawn[1], _percent)
            + [_percent(full), f"{cost:,.0f} USD"]
            + [f"{(seats - MONEY.panel_min) * MONEY.price_per_seat:,.0f} USD"]
        )
    head = ["seats", "disputes at once", "busy, formula", "simulation", "no quorum, formula"]
    head += ["simulation", "busy for 90 %", "cost of that", "dearest order"]
    return table(head, rows)


def busy() -> str:
    """Jurors that are kept busy and say WITHHELD."""
    rows = []
    for disputes in (5, 9, 12, 16):
        part = attacks.busy_part(30, disputes, SHIPPED.panel)
        rows.append(
            [str(disputes), _percent(part)]
            + _pair(
                attacks.busy_turns(SHIPPED, part),
                attacks.busy_turns_drawn(SHIPPED, 30, disputes, 20_000, SEED),
                _percent,
            )
            + [_prices(attacks.keep_busy(SHIPPED, 30, part, WORLD.collateral))]
        )
    head = ["own disputes", "of 30 seats busy", "appeal turned, formula", "simulation"]
    return table([*head, "profit of the tenant"], rows)


def order() -> str:
    """Draws in an order of somebody's choice, where busy jurors are left out."""
    rows = [
        [str(pending)]
        + _pair(
            attacks.reordered(SHIPPED.panel, 0.2, 100, pending),
            attacks.reordered_drawn(SHIPPED.panel, 0.2, 100, pending, 20_000, SEED),
            _percent,
        )
        for pending in (0, 5, 10, 20, 40)
    ]
    return table(["own disputes waiting", "panel turned, formula", "simulation"], rows)


def friends() -> str:
    """Bytes that only friends are served, under both ways to count."""
    rows = []
    for size in (SHIPPED.panel, SHIPPED.redraw_panel, SHIPPED.appeal_panel):
        row = [str(size)]
        for of_all in (False, True):
            row += _pair(
                attacks.served_to_friends(size, 0.2, of_all),
                attacks.served_to_friends_drawn(size, 0.2, of_all, RUNS, SEED),
                _percent,
            )
        rows.append(row)
    head = ["panel", "half of those that ran", "sim.", "half of all votes", "sim."]
    return table(head, rows)


def appeals() -> str:
    """What an appeal that it wins brings an honest provider, by the side that pays the jurors."""
    parts_ = (0.0, SHIPPED.late_part, 1.0)
    rows = [
        [f"{collateral:g}"]
        + [_prices(attacks.appeal_gain(SHIPPED, collateral, part)) for part in parts_]
        for collateral in (0.0, 0.5, 1.0, 2.0, 3.0)
    ]
    head = ["collateral, in prices", "who appeals pays", "half each, after WITHHELD"]
    return table([*head, "who loses pays first"], rows)


def late() -> str:
    """A provider that serves nobody at first, and all jurors in its appeal."""
    rows = []
    for part, name in ((1.0, "who loses"), (0.5, "each half"), (0.0, "who appeals")):
        rules = replace(SHIPPED, late_part=part)
        exact = attacks.served_late(rules, 1 - WORLD.absent)
        found = attacks.served_late_drawn(rules, WORLD.absent, RUNS, SEED)
        row = [name]
        for formula, drawn in zip(exact, found, strict=True):
            row += _pair(formula, drawn, _prices)
        row.append(_prices(attacks.appeal_gain(rules, 1.0, part)))
        row += [
            f"{100 * least_part(Party.TENANT, collateral, rules):.0f} %"
            for collateral in (1.0, 3.0)
        ]
        rows.append(row)
    head = ["the appeal is paid by", "provider, formula", "sim.", "tenant, formula", "sim."]
    head += ["honest one robbed, C = 1", "false WITHHELD pays, C = 1", "C = 3"]
    return table(head, rows, left=1)


def long_jobs() -> str:
    """What a place in a cheap job costs a juror, by how long it may run."""
    rows = []
    for hours in (1.0, 8.0, 48.0):
        before, after = attacks.long_and_cheap(MONEY, SHIPPED, 0.01, hours, 0.10)
        fee = MONEY.fee(0.01, hours, SHIPPED)
        rows.append([f"{hours:g} h", f"{-before:+.2f} USD", f"{fee:.2f} USD", f"{-after:+.2f} USD"])
    return table(["may run", "juror, fee by price alone", "fee now", "juror now"], rows)


def self_dealt() -> str:
    """A dispute with itself, by the part of the seats."""
    rows = [
        [f"{100 * s:.0f} %"]
        + _pair(
            attacks.self_dealt(SHIPPED, s),
            attacks.self_dealt_drawn(SHIPPED, s, RUNS, SEED),
            _prices,
        )
        for s in (0.0, 0.2, 0.5, 0.9, 1.0)
    ]
    return table(["own part of the seats", "formula", "simulation"], rows)


def league() -> str:
    """Jurors in league, without a party, that make an honest provider appeal."""
    rows = []
    for s in (0.2, 0.25, 0.3, 1 / 3, 0.4):
        formula = attacks.dragged_on(SHIPPED, s)
        drawn = attacks.dragged_on_drawn(SHIPPED, s, 5 * RUNS, SEED)
        rows.append(
            [f"{100 * s:.0f} %", _thousandths(SHIPPED.panel * s * SHIPPED.fee)]
            + _pair(formula[0], drawn[0], _thousandths)
            + _pair(-formula[1], -drawn[1], _thousandths)
        )
    head = ["part of the seats", "just votes bring", "this brings more", "sim."]
    return table([*head, "the provider", "sim."], rows)


# ----------------------------------------------------------------------------- spot checks

_FORMS = (
    ("a: sealed", Form()),
    ("a: sealed, bounty of half of C", Form(bounty=1.5)),
    ("b: a second check of every other", Form(second=0.5)),
    ("b: a second check of each", Form(second=1.0)),
    ("c: 8 % decoys", Form(decoys=0.08)),
    ("e: tenants check 3 % themselves", Form(tenants=0.03)),
)


def fees() -> str:
    """What a fee pays for, and the collateral that makes lying lose, if every check is a run."""
    rows = []
    for fee in (0.01, 0.02, 0.03, 0.05, 0.07, 0.1):
        plain, decoys = checks.rate(Form(), fee), checks.rate(Form(decoys=0.08), fee)
        rows.append(
            [f"{100 * fee:g} %", _percent(plain)]
            + [f"{checks.collateral_needed(saved, plain):.1f}" for saved in (0.2, 0.5, 0.7, 1.0)]
            + [f"{checks.collateral_needed(0.7, decoys):.1f}"]
        )
    head = ["fee", "jobs checked", "C, c = 0.2", "C, c = 0.5", "C, c = 0.7", "C, c = 1"]
    return table([*head, "with decoys, c = 0.7"], rows)


def forms() -> str:
    """Where lying and looking balance, where a lying provider gives its seal away."""
    rows = []
    for name, form in _FORMS:
        world = replace(WORLD, collateral=10.0)
        checked = checks.rate(form, 0.05)
        at = checks.balance(world, form, checked)
        exact = checks.changes(world, form, checked, at)
        drawn = checks.changes_drawn(world, form, checked, at, RUNS * 2, SEED)
        rows.append(
            [name, _percent(checked), f"{100 * at.lies:.0f} %", f"{100 * at.runs:.0f} %"]
            + _pair(
                exact.lie,
                drawn.lie,
                lambda value: f"{value + 0.0:+.3f}".replace("-0.000", "+0.000"),
            )
            + _pair(exact.look_away, drawn.look_away, _thousandths)
        )
    head = ["form", "jobs checked", "lies", "checks that run", "a lie gains", "sim."]
    return table([*head, "to agree unseen gains", "sim."], rows, left=1)


def tenants() -> str:
    """How many of its jobs a tenant must check itself."""
    rows = []
    for collateral in (0.5, 1.0, 3.0, 5.0, 10.0, 20.0):
        world = replace(WORLD, collateral=collateral)
        q = checks.tenants_rate(world)
        rows.append(
            [f"{collateral:g}", _percent(q)]
            + _pair(
                checks.lying_gains(world, min(1.0, 1.1 * q)),
                checks.lying_gains_drawn(world, min(1.0, 1.1 * q), RUNS * 2, SEED),
                _thousandths,
            )
            + [_percent(q * WORLD.run), _percent(q)]
        )
    head = ["collateral, in prices", "jobs to check, q", "a lie gains at 1.1 q", "sim."]
    return table([*head, "cost on its own machine", "cost as second jobs"], rows)


# ------------------------------------------------------------------------------- soundness


def soundness() -> str:
    """Role x deviation -> loss."""
    rows = [
        [
            entry.role,
            entry.deviation,
            f"{entry.loss:.2f}" if entry.loss >= 0.1 else f"{entry.loss:.3f}",
        ]
        for entry in positions(SHIPPED, MONEY, WORLD)
    ]
    return table(["role", "does", "loses, in prices"], rows, left=2)


TABLES: dict[str, Callable[[], str]] = {
    "sizes": sizes,
    "wrong": wrong,
    "strategies": strategies,
    "searched": searched,
    "parts": parts,
    "voting": voting,
    "absence": absence,
    "bribes": bribes,
    "full-seats": full_seats,
    "busy": busy,
    "order": order,
    "friends": friends,
    "appeals": appeals,
    "late": late,
    "long-jobs": long_jobs,
    "self-dealt": self_dealt,
    "league": league,
    "fees": fees,
    "forms": forms,
    "tenants": tenants,
    "soundness": soundness,
}

QUICK = ("sizes", "absence", "friends", "appeals", "long-jobs", "fees", "forms", "soundness")
"""Tables that are computed within a second, together."""
