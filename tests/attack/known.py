# SPDX-License-Identifier: Apache-2.0
"""The ways in which money was taken on the first edition, told again and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.contracts import test_money_cases as cases
from tests.contracts.deploy import TPF, USD
from tests.contracts.stateful.story import Measured, tell

UNITS = {"TPF": TPF, "USD": USD}


@dataclass(frozen=True)
class Fault:
    """A test that holds one, what it was, and what it moved then."""

    name: str
    case: Callable[..., None]
    was: str
    gain: str
    """Of the attacker beyond its due, on the first edition."""
    loss: str
    """Of all others below theirs."""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def test(self) -> str:
        return self.case.__name__


FAULTS = (
    Fault(
        "F1",
        cases.test_f1__a_pool_with_dear_shares_still_pays_its_delegators,
        "An owner made its shares dear. All rewards of its pool went to its payout address, at a"
        " commission of 0 %",
        "461,384 of 462,000 TPF",
        "461,384 TPF",
    ),
    Fault(
        "F1",
        cases.test_f1__rewards_of_a_pool_with_next_to_no_shares,
        "The same without a price ladder: one reward on next to no shares was enough",
        "all of 12,320 TPF",
        "all",
    ),
    Fault(
        "F2",
        cases.test_f2__garbage_gains_nothing_where_the_tenant_may_refuse,
        "A provider without stake attested rubbish and was paid",
        "990 of 1,000 USD",
        "1,000 USD",
    ),
    Fault(
        "F3",
        cases.test_f3__stake_that_comes_before_the_claim_gets_nothing,
        "A stranger delegated just before a claim and left just after it",
        "135,882 of 154,000 TPF",
        "108,706 TPF",
        {"amount": 4 * 10**24, "claimed": False},
    ),
    Fault(
        "Q2",
        cases.test_q2__an_operator_that_claims_late_gains_nothing,
        "An operator withheld its claims, brought stake of its own, then claimed",
        "1,509,354 of 1,540,000 TPF",
        "1,509,354 TPF",
    ),
    Fault(
        "P3",
        cases.test_p3__nobody_inherits_the_reward_of_an_owner_that_left,
        "The reward of an owner that had left was bought for 1,000,000 wei",
        "138,600 of 154,000 TPF",
        "138,600 TPF",
    ),
    Fault(
        "F4",
        cases.test_f4__much_stake_behind_one_round_takes_nothing_from_others,
        "Much stake behind one round switched off most of the others' rewards",
        "0 of 308,000 TPF",
        "272,110 TPF",
    ),
    Fault(
        "F5",
        cases.test_f5__nobody_pays_for_a_fault_before_its_time,
        "Who delegated after a fault paid for it",
        "990 of 1,000 TPF",
        "990 TPF",
    ),
    Fault(
        "F6",
        cases.test_f6__seizing_from_oneself_costs_and_touches_nobody_else,
        "A provider hired itself and let it expire: its stake left without UNBONDING",
        "-1,000 of 10,000 TPF",
        "0",
    ),
    Fault(
        "P14",
        cases.test_p14__the_provider_earns_no_bounty_on_itself,
        "A provider expired its own job and had the bounty back",
        "100 of 1,000 TPF",
        "0",
        {"insider": "owner"},
    ),
    Fault(
        "P10",
        cases.test_p10__a_raise_after_the_proof_does_not_reach_its_reward,
        "A commission raised after the proof was taken of its reward",
        "150,965 of 154,000 TPF",
        "150,965 TPF",
    ),
    Fault(
        "Q7",
        cases.test_q7__a_fault_survives_the_removal_of_benchmark,
        "Benchmark was removed before the report: no bond was slashed",
        "1,000 of 1,000 TPF",
        "0",
    ),
    Fault(
        "-",
        cases.test_pause__the_price_stands_still,
        "A pause let an auction run on to nearly its highest price",
        "29.97 of 30 USD",
        "29.97 USD",
    ),
    Fault(
        "Q4",
        cases.test_q4__a_score_does_not_outlive_its_stake,
        "A score outlived the stake behind it",
        "the whole score",
        "0",
    ),
    Fault(
        "P11",
        cases.test_p11__a_finished_job_holds_no_score,
        "A finished job of one unit held the provider's whole score",
        "the whole score",
        "the whole score",
    ),
    Fault(
        "P7",
        cases.test_p7__a_key_that_was_let_go_stays_let_go,
        "An old consent bound a key again, and its old quotes with it",
        "2 of 2 calls",
        "2 calls",
    ),
    Fault(
        "Q6",
        cases.test_q6__a_batch_whose_first_opening_somebody_sent_goes_on_with_the_rest,
        "A batch of openings failed because a stranger had sent its first one",
        "0",
        "one call more",
    ),
    Fault(
        "Q5",
        cases.test_q5__min_stake_is_a_filter,
        "The stake that an order asks for left in the block of the acceptance",
        "0",
        "0",
    ),
    Fault(
        "P13",
        cases.test_p13__a_quote_for_anyone_is_taken_once_by_the_first,
        "A quote without a requester was used by somebody else",
        "0",
        "0",
    ),
)


@dataclass(frozen=True)
class Told:
    """A fault and what became of it now."""

    fault: Fault
    measured: Measured | None
    error: str = ""
    """Why the test fails; empty if it holds."""

    def now(self) -> tuple[str, str]:
        """Gain and loss, in words."""
        if self.measured is None:
            return "?", "?"
        m = self.measured
        at_risk = amount(m.at_risk, m.unit)
        return f"{bare(m.gain, m.unit)} of {at_risk}", amount(m.loss, m.unit)


def bare(value: int, unit: str) -> str:
    """An amount without its unit, but that of what is too small for it."""
    one = UNITS.get(unit, 1)
    if value and abs(value) * 10**6 < one:
        return f"{value} wei"
    return f"{value / one:,.6f}".rstrip("0").rstrip(".") if one > 1 else f"{value:,}"


def amount(value: int, unit: str) -> str:
    text = bare(value, unit)
    return text if text == "0" or text.endswith("wei") else f"{text} {unit}"


def tell_all(faults: Iterable[Fault] = FAULTS) -> list[Told]:
    """Try every one of them again."""
    told = []
    for fault in faults:
        story, error = tell(), ""
        try:
            fault.case(story, **fault.arguments)
        except AssertionError as failure:
            error = str(failure).partition("\n")[0] or "its test fails"
        finally:
            measured = story.measured
            story.end()
        told.append(Told(fault, measured, error))
    return told


def show(told: Iterable[Told]) -> None:
    """The table for a terminal."""
    # What is not a terminal gets whole lines, too.
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(title="Known faults: first edition, and measured now", show_lines=True)
    for title in ("", "what it was", "gain then", "loss then", "gain now", "loss now", ""):
        table.add_column(title, ratio=3 if title.startswith("what") else None)
    for one in told:
        fault = one.fault
        verdict = f"[bold red]BACK[/]: {one.error}" if one.error else "held"
        table.add_row(fault.name, fault.was, fault.gain, fault.loss, *one.now(), verdict)
    console.print(table)


def lines(told: Iterable[Told]) -> list[str]:
    """The table for the page."""
    rows = [
        "| | What it was | Gain then | Loss then | Gain now | Loss now | Test |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for one in told:
        fault = one.fault
        now = one.now()
        cells = (fault.name, fault.was, fault.gain, fault.loss, *now, f"`{fault.test}`")
        rows.append(f"| {' | '.join(cells)} |")
    return rows
