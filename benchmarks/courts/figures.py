# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/courts-economics.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.courts import checks, voters
from benchmarks.courts.chart import Curve, Panel, chart
from benchmarks.courts.checks import Form
from benchmarks.courts.disputes import expected, simulated, tail
from benchmarks.courts.page import FORCE, PARTS, RUNS, SEED, profit_of, world_of
from benchmarks.courts.rules import SHIPPED, WORLD, Party, Rules


def _end(rules: Rules, liar: Party) -> Callable[[float], float]:
    return lambda s: expected(rules, world_of(s), liar, FORCE).wrong


def chances() -> str:
    """The chance of a wrong end, and the best profit of a coalition."""
    parts_ = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    dots = [
        (s, simulated(SHIPPED, world_of(s), Party.PROVIDER, FORCE, RUNS, SEED).wrong) for s in PARTS
    ]
    ends = [Curve("first panel of 3 alone", lambda s: tail(3, 2, s))]
    for size in (7, 11, 15):
        ends.append(
            Curve(
                f"3, 5 and an appeal of {size}"
                + (" (shipped; dots: simulation)" if size == 11 else ""),
                _end(replace(SHIPPED, appeal_panel=size), Party.PROVIDER),
                dots if size == 11 else (),
            )
        )
    gains = [
        Curve(f"tenant, C = {collateral:g}", profit_of(Party.TENANT, collateral))
        for collateral in (1.0, 3.0, 10.0)
    ]
    gains += [
        Curve(
            f"provider, C = {collateral:g}",
            lambda s, c=collateral: profit_of(Party.PROVIDER, c)(s) - c,  # type: ignore[misc]
        )
        for collateral in (1.0, 3.0)
    ]
    return chart(
        "Wrong rulings and their worth by the part of the seats that collude",
        [
            Panel(
                "a wrong end, everybody appeals",
                "s, part of the seats that collude",
                parts_,
                (0, 0.1, 0.2, 0.3, 0.4, 0.5),
                ends,
                show_y=lambda tick: f"{100 * tick:g} %",
            ),
            Panel(
                "best profit of a lie that is disputed, in prices",
                "s, part of the seats that collude",
                parts_,
                (-4, -3, -2, -1, 0, 1, 2),
                gains,
            ),
        ],
    )


def juries() -> str:
    """What voters earn, and what spot checks need."""
    kinds = (voters.HONEST, voters.EXACT[0], voters.EXACT[3], voters.COMPARED[0])
    curves = [
        Curve(voter.name, lambda x, v=voter: voters.profit(SHIPPED, WORLD, v, voters.Setting(x)))  # type: ignore[misc]
        for voter in kinds
    ]
    crowd = [
        Curve(
            voter.name,
            lambda y, v=voter: voters.profit(SHIPPED, WORLD, v, voters.Setting(0.5, y, 0.5)),  # type: ignore[misc]
        )
        for voter in (kinds[0], kinds[1], kinds[2], voters.EXACT[2])
    ]
    needed = [
        Curve(
            f"c = {saved:g}",
            lambda fee, c=saved: checks.collateral_needed(c, checks.rate(Form(), fee)),  # type: ignore[misc]
        )
        for saved in (0.2, 0.5, 0.7, 1.0)
    ]
    return chart(
        "What voters earn, and the collateral that spot checks need",
        [
            Panel(
                "a place, in prices",
                "part of the disputed results that are right",
                (0.0, 0.25, 0.5, 0.75, 1.0),
                (-0.6, -0.4, -0.2, 0, 0.2, 0.4),
                curves,
            ),
            Panel(
                "the same, half are right, half is appealed",
                "part of the other jurors that vote alike",
                (0.0, 0.25, 0.5, 0.75, 1.0),
                (-0.6, -0.4, -0.2, 0, 0.2, 0.4),
                crowd,
            ),
            Panel(
                "spot checks: collateral needed, in prices",
                "fee of every job",
                (0.01, 0.03, 0.05, 0.07, 0.1),
                (0, 5, 10, 15, 20, 25, 30),
                needed,
            ),
        ],
    )


FIGURES: dict[str, Callable[[], str]] = {
    "courts-chances.svg": chances,
    "courts-voters.svg": juries,
}
