# SPDX-License-Identifier: Apache-2.0
"""Takes in what the disk has and the database does not: a lost database costs no running job.

Runs, results and specifications are files. Jobs and their state are read again from the chain, and
so is the next nonce. Sessions and quotes are gone; a job hired by such a quote is found on chain.
"""

from __future__ import annotations

import logging

from provider_agent.modules.jobs.book import RunName
from provider_agent.modules.jobs.repository import JobsRepository, RunRow, RunStage
from provider_agent.modules.jobs.results import Result
from provider_agent.runners.base import Phase, Reason, Runner
from teraproof.errors import LocalError, counted
from teraproof.protocol.receipt import Receipt

log = logging.getLogger(__name__)


def adopt(store: JobsRepository, runner: Runner) -> None:
    """Take in what an earlier agent left in this data directory, before the first cycle."""
    runs = 0
    for run_id in runner.list():
        name = RunName.read(run_id)
        if name is None or store.run(run_id) is not None:
            continue
        try:
            phase = runner.poll(run_id).phase
        except LocalError as error:
            log.warning("run %s is not taken in: %s", run_id, error)
            continue
        with store.transaction():
            store.add_run(run_id, name.job_id)
            if phase is not Phase.PENDING:
                store.set_run_state(run_id, RunStage.RUNNING)
        runs += 1
    # A specification is on the disk before it is on record: an agent may have died between.
    specs = store.adopt_specs()
    if runs or specs:
        log.warning(
            "found on the disk and not in the database, taken in: %s, %s",
            counted(runs, "run"),
            counted(specs, "specification"),
        )


def adopt_result(
    store: JobsRepository, job_id: bytes, result: Result, attempt: int = 1
) -> RunRow | None:
    """The run that a result on the disk came from, on record again as that attempt; None for an
    unfit receipt.
    """
    try:
        receipt = Receipt.parse(result.receipt)
    except LocalError as error:
        log.warning("the result of job %s is not taken in: %s", job_id.hex(), error)
        return None
    run_id = str(RunName(job_id, attempt, 0))
    with store.transaction():
        store.add_run(run_id, job_id)
        store.set_run_state(run_id, RunStage.RUNNING)
        store.set_run_state(
            run_id,
            RunStage.EXITED,
            exit_code=receipt.exit_code,
            reason=receipt.reason or Reason.EXITED.value,
            started=receipt.started,
            finished=receipt.finished,
        )
        return store.set_run_state(
            run_id,
            RunStage.COLLECTED,
            result=result.result_digest,
            receipt=result.receipt_digest,
        )
