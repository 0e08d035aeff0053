# SPDX-License-Identifier: Apache-2.0
"""What the alerts of a juror rest on: what is due and when, what was burned, when terms end."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.core.metrics import PREFIX, Metrics
from provider_agent.modules.disputes.metrics import DisputesMetrics
from provider_agent.modules.disputes.seats import Seats
from teraproof.contracts.disputes import Fined
from teraproof.courts.docket import Phase
from tests.agent.disputes import test_seats
from tests.agent.disputes.court import COMMIT, JURORS, PERIOD, REVEAL, Seat
from tests.agent.disputes.duty_rig import CAPABILITY, LOG, NOW, Rig
from tests.agent.duty_parts import OWNER, TPF

SINCE = NOW - 10  # when the rig's juries were drawn


class Shown:
    """The gauges of an agent."""

    def __init__(self, rig: Rig, seats: Seats) -> None:
        metrics = Metrics()
        DisputesMetrics(metrics).show(seats, rig.duty)
        self._metrics = metrics

    def __getitem__(self, name: str) -> float:
        found = self._metrics.registry.get_sample_value(f"{PREFIX}_{name}")
        assert found is not None
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def shown(rig: Rig) -> tuple[float, float]:
    """When a vote is due, and when one is to be shown."""
    found = Shown(rig, rig.seats)
    return found["juror_commit_due_timestamp"], found["juror_reveal_due_timestamp"]


def test_vote_is_missing__due_at_half_of_the_time__then_to_be_shown(rig: Rig) -> None:
    assert shown(rig) == (0, 0)
    rig.sit(1, 2)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert shown(rig) == (SINCE + (COMMIT + 10) // 2, 0)
    rig.sit(1, 2, committed={0: 1})
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert shown(rig) == (0, 0), "it has voted"
    rig.sit(1, 2, committed={0: 1, 1: 1}, stage=3)
    rig.stand(Phase.REVEALING, NOW + REVEAL)
    rig.cycle()
    assert shown(rig) == (0, NOW + REVEAL // 2)
    rig.sit(1, 2, committed={0: 1, 1: 1}, revealed={0: 1}, stage=3)
    rig.stand(Phase.REVEALING, NOW + REVEAL)
    rig.cycle()
    assert shown(rig) == (0, 0), "it has shown it"


def test_jury_of_others__nothing_is_due(rig: Rig) -> None:
    rig.sit(2, 3)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert shown(rig) == (0, 0)


def test_fined__what_was_burned_of_ours_alone(rig: Rig) -> None:
    ours = [Fined(LOG, OWNER, CAPABILITY, amount, 0) for amount in (TPF, 2 * TPF)]
    rig.duty.consume([*ours, Fined(LOG, JURORS[0].address, CAPABILITY, 9 * TPF, 0)], [])
    rig.cycle()
    assert Shown(rig, rig.seats)["juror_fined_tpf"] == 3


@pytest.mark.parametrize("seats, ends", [(3, (test_seats.LAST + 1) * PERIOD), (0, 0)])
def test_term__ends_after_its_last_period(tmp_path: Path, seats: int, ends: int) -> None:
    (tmp_path / "seats").mkdir()
    juror = test_seats.Rig(tmp_path / "seats", 3, Seat(OWNER, seats, test_seats.LAST))
    juror.cycle()
    found = Shown(Rig(tmp_path), juror.seats)
    assert (found["juror_term_ends_timestamp"], found["juror_seats"]) == (ends, seats)
