# SPDX-License-Identifier: Apache-2.0
"""What is measured of our own jobs: how many are owed, and when the first one is due."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.core.metrics import Metrics
from provider_agent.modules.jobs.book import decode_terms
from provider_agent.modules.jobs.metrics import JobMetrics
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from teraproof.protocol.terms import Status
from tests.agent.duty_parts import OTHER, OWNER
from tests.agent.duty_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def shown(rig: Rig) -> dict[str, float]:
    metrics = Metrics()
    jobs = JobMetrics(metrics)
    store = rig.store
    jobs.set_own(
        Jobs(store).jobs_by(OWNER, Status.ASSIGNED),
        len(Jobs(store).jobs_by(OWNER, Status.EXPIRED)),
    )
    lines = metrics.exposition().decode().splitlines()
    pairs = [line.removeprefix("teraproof_agent_").split(" ") for line in lines if line[0] != "#"]
    return {name: float(value) for name, value in pairs if "{" not in name}


def test_owed_jobs__counted_with_the_first_deadline(rig: Rig) -> None:
    for number, duration in enumerate((900, 600)):
        rig.assign(rig.post(rig.spec(content=bytes([number])), duration=duration))
    rig.assign(rig.post(rig.spec(content=b"of others")), provider=OTHER)
    rig.cycle()
    deadlines = [
        decode_terms(job.terms).deadline(job.assigned_at or 0)
        for job in rig.records.jobs_by(OWNER, Status.ASSIGNED)
    ]
    found = shown(rig)
    assert (found["owed_jobs"], found["next_deadline_timestamp"]) == (2, min(deadlines))
    assert found["expired_jobs"] == 0


def test_nothing_owed__no_deadline(rig: Rig) -> None:
    rig.assign(rig.post(rig.spec()), provider=OTHER)
    rig.cycle()
    found = shown(rig)
    assert (found["owed_jobs"], found["next_deadline_timestamp"]) == (0, 0)


def test_expired_jobs__ours_alone(rig: Rig) -> None:
    for provider in (OWNER, OTHER):
        terms = rig.post(rig.spec(content=provider.encode()))
        rig.assign(terms, provider=provider)
        rig.cycle()
        rig.records.update_job(terms.job_id(), status=Status.EXPIRED)
    assert shown(rig)["expired_jobs"] == 1
