# SPDX-License-Identifier: Apache-2.0
"""What is noted of disputes says what is the matter, what to do, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.modules.disputes.bench import Finding
from provider_agent.modules.disputes.repository import DisputesRepository
from teraproof.amounts import show_date
from teraproof.courts.docket import Phase
from teraproof.courts.votes import Ruling, Vote
from tests.agent.disputes.court import COMMIT
from tests.agent.disputes.duty_rig import JOB, MANIFEST, NOW, Rig
from tests.agent.duty_parts import OPERATOR, TENANT


@pytest.mark.parametrize("most, credit", [(54, 1_000), (1_000, 54)])
def test_lost__too_dear_or_no_money__said_and_left_to_the_owner(
    tmp_path: Path, most: int, credit: int, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, who=TENANT, appeal_up_to=most)
    rig.jobs.credits = credit
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.sit(2)
    rig.stand(Phase.RULED, NOW + 300, Ruling.WITHHELD)
    rig.cycle()
    assert rig.intents() == {}
    (order,) = DisputesRepository(rig.store).disputed()
    assert "5.5 tUSD" in order.note and "\n" not in order.note
    assert show_date(NOW + 300) in order.note, "how long there is time"
    assert f"teraproof dispute appeal 0x{JOB.hex()}" in order.note, "what to do"
    assert (OPERATOR.address in order.note) is (most > credit), "where to send what is missing"
    assert [one.levelname for one in caplog.records if order.note in one.getMessage()] == [
        "WARNING"
    ]


@pytest.mark.parametrize("reason", ["", "waiting for a GPU"])
def test_notes__never_end_with_nothing(tmp_path: Path, reason: str) -> None:
    rig = Rig(tmp_path)
    rig.bench.reason = reason
    rig.sit(1)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    (order,) = DisputesRepository(rig.store).disputed()
    assert order.note.startswith("judging: ") and order.note.strip() != "judging:"
    assert reason in order.note
