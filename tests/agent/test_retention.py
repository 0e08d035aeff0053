# SPDX-License-Identifier: Apache-2.0
"""What a juror needs is there until nobody can dispute any more: specification, inputs, result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.modules.jobs.housekeeping import Housekeeper
from provider_agent.store import IntentState
from teraproof.protocol.capability import Capability
from teraproof.protocol.terms import Judged, Status, Terms
from tests.agent.duty_parts import OWNER, TENANT
from tests.agent.duty_rig import Rig, attested

COURT = Capability("batch", "python-ml", "cpu").number()
LONG = 400 * 24 * 3600  # seconds: more than anything is kept


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.duty.close()


def delivered(rig: Rig, judged: int) -> Terms:
    """A job of ours whose attestation is on chain, and seen there."""
    terms = attested(rig, judged=judged)
    rig.cycle(2)
    return terms


def is_here(rig: Rig, terms: Terms) -> tuple[bool, bool, bool]:
    """Whether specification, inputs and result are."""
    spec = rig.book.spec_named(terms.order.spec)
    inputs = spec is not None and not rig.book.missing_inputs(TENANT, spec)
    return spec is not None, inputs, rig.machine.results.get(terms.job_id()) is not None


def all_gets_old(rig: Rig) -> None:
    """Nothing is touched for more than a year, and the agent keeps house."""
    rig.now += LONG
    for path in (*rig.folder.rglob("*"),):
        if path.is_file() and path.suffix == "" and path.exists():
            os.utime(path, (1, 1))
    rig.housekeeper.see(rig.block.number, OWNER)
    rig.housekeeper.prune(600)
    while rig.housekeeper.move():
        pass
    rig.housekeeper.prune(600)


def a_paid_order_needs_the_room(rig: Rig) -> None:
    rig.capacity.drop(("files", TENANT.lower()))


@pytest.mark.parametrize("judged", [Judged.TRUSTED, Judged.REFUSABLE, COURT])
def test_job_that_has_not_ended__all_of_it_stays(rig: Rig, judged: int) -> None:
    terms = delivered(rig, judged)
    all_gets_old(rig)
    assert is_here(rig, terms) == (True, True, True)


@pytest.mark.parametrize(("judged", "stays"), [(Judged.TRUSTED, False), (COURT, True)])
def test_delivered_job__room_is_short__inputs_stay_where_a_court_may_want_them(
    rig: Rig, judged: int, stays: bool
) -> None:
    terms = delivered(rig, judged)
    a_paid_order_needs_the_room(rig)
    assert is_here(rig, terms) == (True, stays, True)


def test_delivered_job_of_a_court__agent_starts_again__inputs_stay(rig: Rig) -> None:
    terms = delivered(rig, COURT)
    rig.restart()
    rig.cycle()
    a_paid_order_needs_the_room(rig)
    assert is_here(rig, terms) == (True, True, True)


def test_job_of_a_court_that_has_ended__makes_room(rig: Rig) -> None:
    terms = delivered(rig, COURT)
    rig.chain.words[terms.job_id()] = Status.SETTLED
    rig.next_block(4000)
    rig.cycle(2)
    rig.duty._looked_everywhere = None
    rig.cycle(2)
    a_paid_order_needs_the_room(rig)
    assert is_here(rig, terms) == (True, False, True)
    rig.set_intent(
        terms,
        "attest",
        *(IntentState.SIGNED, IntentState.SENT, IntentState.MINED, IntentState.FINAL),
    )
    all_gets_old(rig)
    all_gets_old(rig)
    assert is_here(rig, terms) == (False, False, False)


def test_database_lost__nothing_is_deleted_before_the_events_are_read(rig: Rig) -> None:
    """Until then everything of an assigned job looks like nobody's."""
    terms = delivered(rig, COURT)
    rig.records.drop_job(terms.job_id())
    known = [False]
    keeper = Housekeeper(
        rig.book,
        rig.promises,
        rig.machine.results,
        rig.inputs,
        3600,
        clock=lambda: rig.now + LONG,
        knows_all=lambda: known[0],
    )

    def keep_house() -> tuple[bool, bool, bool]:
        for path in rig.folder.rglob("*"):
            os.utime(path, (1, 1))
        keeper.see(rig.block.number, OWNER)
        keeper.prune(600)
        keeper.move()
        return is_here(rig, terms)

    assert keep_house() == (True, True, True)
    known[0] = True
    assert keep_house()[1:] == (False, False)
