# SPDX-License-Identifier: Apache-2.0
"""Jobs that have paid come before quotes that may still be used, and those lose nothing by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.store import IntentState
from teraproof.protocol.messages import Quote
from teraproof.protocol.terms import Terms
from tests.agent.duty_parts import TENANT
from tests.agent.duty_rig import Rig
from tests.agent.test_quotes import accounts_with, desk_of

BRIEF, LONG = 60, 2_000  # seconds


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(tmp_path, agent=getattr(request, "param", {}))
    made.cycle()
    yield made
    made.duty.close()


def quoted(rig: Rig, number: int) -> list[Quote]:
    desk = desk_of(rig)
    return [desk.issue(account, spec)[0] for account, spec in accounts_with(rig, number)]


def paid(rig: Rig, *seconds: int, seen: int | None = None, duration: int = 50_000) -> list[Terms]:
    """Orders for work of a number of seconds, taken in this order. Their acceptances land. The
    chain shows all of them or, with `seen`, those from that number on.
    """
    orders = []
    for number, timeout in enumerate(seconds):
        spec = rig.spec(name=f"paid {number}", timeout_seconds=timeout)
        rig.upload(spec)
        orders.append(rig.post(spec, duration=duration, collateral=0))
        rig.cycle()
    assert rig.intents() == [("accept", "planned")] * len(orders)
    with rig.store.transaction() as db:
        db.execute("UPDATE intents SET nonce = id")  # in the order in which they were sent
    for terms in orders if seen is None else orders[seen:]:
        rig.assign(terms)
    rig.next_block(2)
    rig.cycle(2)
    return orders


def started(rig: Rig, orders: list[Terms]) -> list[int]:
    """Which of the orders have begun."""
    begun = {run.run_id.partition("-")[0] for run in rig.runner.started}
    return [n for n, terms in enumerate(orders) if terms.job_id().hex() in begun]


def hire(rig: Rig, quote: Quote, requester: str = TENANT) -> Terms:
    """The quote is used now, and the requester's job assigned."""
    spec = rig.book.spec_named(quote.spec)
    assert spec is not None
    rig.upload(spec, account=requester)
    terms = rig.post(
        spec,
        start_price=quote.price,
        max_price=quote.price,
        collateral=0,
        duration=quote.duration,
        auction=0,
        nonce=int.from_bytes(quote.struct_hash(), "big"),
        requester=requester,
    )
    rig.chain.used_quotes.add(quote.nonce)
    rig.assign(terms)
    return terms


def test_brief_order_and_unpaid_quote__the_order_begins_at_once(rig: Rig) -> None:
    quoted(rig, 1)
    assert started(rig, paid(rig, BRIEF)) == [0]


def test_long_order_and_unpaid_quote__the_order_waits_for_its_end_and_no_longer(rig: Rig) -> None:
    quoted(rig, 1)
    orders = paid(rig, LONG)
    assert started(rig, orders) == []
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle(2)
    assert started(rig, orders) == [0]


@pytest.mark.parametrize("rig", [{"slots": 4}], indirect=True)
@pytest.mark.parametrize(
    ("work", "begun"),
    [
        ([BRIEF] * 4, [0, 1, 2, 3]),
        ([LONG] * 4, [0, 1]),
        ([LONG, LONG, BRIEF, BRIEF], [0, 1, 2, 3]),
        # The second quote would find no slot within its time.
        ([LONG, LONG, BRIEF, LONG], [0, 1, 2]),
        ([BRIEF, BRIEF, LONG, LONG], [0, 1, 2, 3]),
        # Nobody is overtaken by an order that came later.
        ([LONG, LONG, LONG, BRIEF], [0, 1]),
    ],
)
def test_several_slots__each_quote_has_a_free_slot_or_a_brief_job(
    rig: Rig, work: list[int], begun: list[int]
) -> None:
    quoted(rig, 2)
    assert started(rig, paid(rig, *work)) == begun


@pytest.mark.parametrize("work", [1, 60, 400])
def test_hired_after_a_paid_job_began__it_is_next_and_has_its_time(rig: Rig, work: int) -> None:
    """Also when that job needs all the time that it may."""
    (quote,) = quoted(rig, 1)
    first, second = paid(rig, work, BRIEF)
    assert started(rig, [first, second]) == [0]
    hired = hire(rig, quote)
    spec = rig.book.spec_named(first.order.spec)
    assert spec is not None
    rig.next_block(rig.policy.busy_seconds(spec))
    rig.cycle(2)
    assert started(rig, [hired]) == [], "one slot"
    rig.runner.end(f"{first.job_id().hex()}-1-0")
    rig.cycle(4)
    assert started(rig, [hired, second]) == [0], "before what began to wait earlier"
    (run,) = rig.records.runs_of(hired.job_id())
    assert run.run_id == f"{hired.job_id().hex()}-1-0", "with all the time that it asked for"


def test_quote_of_before_an_upgrade__keeps_its_slot(rig: Rig) -> None:
    """It allows for nobody else's work before its own."""
    (quote,) = quoted(rig, 1)
    row = rig.records.quote(quote.struct_hash())
    assert row is not None
    with rig.store.transaction() as db:
        db.execute("UPDATE quotes SET duration = ?", (str(row.duration - 1),))
    rig.next_block(2)
    rig.cycle()
    assert rig.promises.quotes == [replace(row, duration=row.duration - 1)]
    orders = paid(rig, BRIEF)
    assert started(rig, orders) == []
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle(2)
    assert started(rig, orders) == [0]


@pytest.mark.parametrize("rig", [{"accept_ahead": 9}], indirect=True)
def test_many_seen_at_once__the_first_that_was_taken_begins(rig: Rig) -> None:
    """Each was promised with those before it in mind: a later one may take the time of this one."""
    orders = paid(rig, *[LONG] * 10)
    assert started(rig, orders) == [0]


def test_earlier_one_is_not_seen_yet__the_later_one_waits_while_it_has_time(rig: Rig) -> None:
    """Its transaction has the lower nonce, so it is ours."""
    needed = rig.policy.seconds_alone(rig.spec(timeout_seconds=BRIEF))
    orders = paid(rig, BRIEF, BRIEF, seen=1, duration=3 * needed)
    assert started(rig, orders) == []
    rig.assign(orders[0])
    rig.next_block(2)
    rig.cycle(2)
    assert started(rig, orders) == [0]


def test_earlier_one_is_never_seen__the_later_one_has_its_time(rig: Rig) -> None:
    needed = rig.policy.seconds_alone(rig.spec(timeout_seconds=BRIEF))
    orders = paid(rig, BRIEF, BRIEF, seen=1, duration=3 * needed)
    rig.next_block(3 * needed - needed - 10)
    rig.cycle(2)
    assert started(rig, orders) == []
    rig.next_block(10)
    rig.cycle(2)
    assert started(rig, orders) == [1]


@pytest.mark.parametrize("state", [IntentState.REVERTED, IntentState.ABANDONED])
def test_earlier_one_came_to_nothing__the_later_one_begins(rig: Rig, state: IntentState) -> None:
    first, second = paid(rig, BRIEF, BRIEF, seen=1)
    assert started(rig, [first, second]) == []
    (intent,) = rig.store.intents_of(first.job_id().hex())
    with rig.store.transaction() as db:
        db.execute("UPDATE intents SET state = ? WHERE id = ?", (state, intent.id))
    rig.next_block(2)
    rig.cycle(2)
    assert started(rig, [first, second]) == [1]


def test_hired_and_its_job_is_not_known__nobody_begins_in_its_slot(rig: Rig) -> None:
    """Events get lost; how long its tenant has waited is not known either."""
    (quote,) = quoted(rig, 1)
    rig.chain.used_quotes.add(quote.nonce)
    rig.next_block(12)
    rig.cycle()
    orders = paid(rig, BRIEF)
    assert started(rig, orders) == []
    hired = hire(rig, quote)
    rig.next_block(2)
    rig.cycle(2)
    assert started(rig, [hired, *orders]) == [0]
