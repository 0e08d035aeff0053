# SPDX-License-Identifier: Apache-2.0
"""What is kept of jobs, as frozen dataclasses, and the edges along which runs move."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

OVER = (4, 5, 6, 7, 9)  # of a job: settled, cancelled, expired, refused, refunded


class RunStage(StrEnum):
    """Where the run of a job stands, as the agent has recorded it."""

    PLANNED = "planned"  # the row exists, the runner may or may not have been asked
    RUNNING = "running"  # the supervisor was started
    EXITED = "exited"  # ended by itself or by a limit; exit_code and reason are set
    COLLECTED = "collected"  # outputs moved to results, digests are set
    FAILED = "failed"  # no result will come of it
    REMOVED = "removed"  # nothing of it is left on the disk


RUN_EDGES: dict[RunStage, tuple[RunStage, ...]] = {
    RunStage.PLANNED: (RunStage.RUNNING, RunStage.FAILED, RunStage.REMOVED),
    RunStage.RUNNING: (RunStage.EXITED, RunStage.FAILED, RunStage.REMOVED),
    RunStage.EXITED: (RunStage.COLLECTED, RunStage.FAILED, RunStage.REMOVED),
    RunStage.COLLECTED: (RunStage.FAILED, RunStage.REMOVED),
    RunStage.FAILED: (RunStage.REMOVED,),
    RunStage.REMOVED: (),
}


@dataclass(frozen=True, slots=True)
class JobRow:
    """What is known about a job. `terms` is the ABI encoding; the chain has the last word on all
    of `status`, `provider`, `assigned_at`, `attested_at` and `paused` (seconds that orders were
    paused between the post and the assignment).
    """

    job_id: bytes
    terms: bytes
    requester: str
    spec: bytes
    status: int
    provider: str | None
    price: int | None
    assigned_at: int | None
    attested_at: int | None
    paused: int | None
    result: bytes | None
    receipt: bytes | None
    started: int | None
    finished: int | None
    state_block: int | None
    note: str
    settled_at: int | None
    updated_at: int


class JobUpdate(TypedDict, total=False):
    """Columns of a job that `update_job` may set."""

    status: int
    provider: str | None
    price: int | None
    assigned_at: int | None
    attested_at: int | None
    paused: int | None
    result: bytes | None
    receipt: bytes | None
    started: int | None
    finished: int | None
    state_block: int | None
    note: str
    settled_at: int | None


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """A price this agent has signed; `digest` is the EIP-712 struct hash."""

    digest: bytes
    nonce: int
    spec: bytes
    requester: str
    price: int
    collateral: int
    duration: int
    expires: int
    signature: bytes
    created_at: int
    judged: int = 0


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """What the settings with the digest `rules` say of a specification; `details` is JSON, and
    `code` is empty where nothing is against it.
    """

    digest: bytes
    rules: bytes
    least: int
    code: str
    line: str
    details: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of a job."""

    run_id: str
    job_id: bytes
    state: RunStage
    exit_code: int | None
    reason: str
    started: int | None
    finished: int | None
    result: bytes | None
    receipt: bytes | None
    created_at: int
    updated_at: int


class RunUpdate(TypedDict, total=False):
    """Columns of a run that go with a change of its state."""

    exit_code: int | None
    reason: str
    started: int | None
    finished: int | None
    result: bytes | None
    receipt: bytes | None
