# SPDX-License-Identifier: Apache-2.0
"""A jury that came to nothing: who of the others asks for a larger one, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.juries import REDRAW as SECOND_JURY
from provider_agent.modules.disputes.juries import turn
from teraproof.contracts.disputes import REDRAW as REDRAW_CALL
from teraproof.courts.docket import Phase
from teraproof.protocol.dispute import Case
from tests.agent.disputes.court import REDRAW
from tests.agent.disputes.duty_rig import NOW, Rig
from tests.agent.duty_parts import OPERATOR, OWNER, TENANT

UNTIL = NOW + REDRAW


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A provider with seats."""
    return Rig(tmp_path)


def my_turn(rig: Rig) -> int:
    """When it is this provider's turn, in the half of the time that is anyone's."""
    me = Provider(OWNER, True, 0, 0, 0, bytes(32))
    return UNTIL - REDRAW // 2 + turn(rig.case, me, SECOND_JURY, REDRAW // 4)


def failed(rig: Rig, *leaves: int, revealed: dict[int, int] | None = None) -> None:
    committed = dict.fromkeys(revealed or {}, 0)
    rig.sit(*leaves, stage=3 if leaves else 5, committed=committed, revealed=revealed or {})
    rig.stand(Phase.FAILED, UNTIL)


def test_nobody_could_be_drawn__asked_again_in_its_turn__once(rig: Rig) -> None:
    failed(rig)
    rig.cycle(UNTIL - REDRAW // 2 - 1)
    rig.cycle(my_turn(rig) - 1)
    assert rig.intents() == {}, "the time of the tenant, and of others"
    rig.cycle(my_turn(rig))
    rig.cycle(my_turn(rig) + 1)
    assert set(rig.intents()) == {"redraw"}
    assert Case.from_abi(REDRAW_CALL.decode_input(rig.intents()["redraw"])[0]) == rig.case


def test_voted_in_vain__a_second_jury_pays_the_vote(rig: Rig) -> None:
    failed(rig, 1, 2, 3, revealed={0: 1})
    rig.cycle(UNTIL - 1)
    assert "redraw" in rig.intents()


def test_was_silent__nothing_to_gain(rig: Rig) -> None:
    failed(rig, 1, 2, 3, revealed={1: 1})
    rig.cycle(UNTIL - 1)
    assert rig.intents() == {}


def test_accused__it_wins_if_nobody_asks(tmp_path: Path) -> None:
    rig = Rig(tmp_path, who=TENANT)
    failed(rig)
    rig.cycle(UNTIL - 1)
    assert rig.intents() == {}


def test_no_seats__somebody_elses_gas(rig: Rig) -> None:
    rig.seats.held.clear()
    failed(rig)
    rig.cycle(UNTIL - 1)
    assert rig.intents() == {}


def test_requester_itself__at_once(rig: Rig) -> None:
    rig.reopen(replace(rig.case, requester=OPERATOR.address))
    failed(rig)
    rig.cycle(NOW + 1)
    assert "redraw" in rig.intents()


def test_time_is_over__nothing_is_sent(rig: Rig) -> None:
    failed(rig)
    rig.cycle(UNTIL + 1)
    assert rig.intents() == {}
