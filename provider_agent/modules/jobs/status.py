# SPDX-License-Identifier: Apache-2.0
"""Jobs as `status` shows them."""

from __future__ import annotations

from provider_agent.core.module import Table, short_id
from provider_agent.core.pay import Pay
from provider_agent.modules.jobs.book import decode_terms, origin_of
from provider_agent.modules.jobs.repository import JobRow, JobsRepository, RunStage
from teraproof.amounts import show_date
from teraproof.protocol.outcome import DELIVERED, Ending, by_status, of_result
from teraproof.protocol.terms import Status

NAME = "jobs"
_SHOWN_ENDED = 20  # jobs, besides those that have not ended
_COLUMNS = ("job", "status", "outcome", "pay", "deadline", "runs", "note")


def _price(units: int | None, pay: Pay | None) -> str:
    """A price in whole tokens; units where the agent has not noted yet what token it is."""
    if units is None or pay is None:
        return "-" if units is None else str(units)
    return pay.show(units)


def jobs_table(jobs: JobsRepository) -> Table:
    """The jobs that have not ended, after the last ones that have."""
    pay = Pay.kept(jobs.core, NAME)
    ended = jobs.ended_jobs(_SHOWN_ENDED)
    rows = []
    for job in [*reversed(ended), *jobs.jobs()]:
        deadline = "-"
        if job.assigned_at is not None:
            ends = decode_terms(job.terms).deadline(job.assigned_at)
            deadline = show_date(ends)
        runs = ", ".join(run.state.value for run in jobs.runs_of(job.job_id)) or "-"
        rows.append(
            (
                short_id(job.job_id),
                Status(job.status).name.lower(),
                _outcome(jobs, job),
                _price(job.price, pay),
                deadline,
                runs,
                job.note,
            )
        )
    return Table("Jobs", _COLUMNS, rows)


def _outcome(jobs: JobsRepository, job: JobRow) -> str:
    """How a job ended: by our own run of it, else by what the chain keeps."""
    ended = by_status(Status(job.status))
    if ended is not None:
        return ended.value
    if job.result is None:
        return "-"
    for run in jobs.runs_of(job.job_id):
        if run.state is RunStage.COLLECTED and run.result == job.result:
            return str(Ending(run.reason, run.exit_code))
    return str(of_result(job.result, origin_of(job)) or DELIVERED)
