# SPDX-License-Identifier: Apache-2.0
"""What is known about jobs on this machine: rows, specifications, inputs, runs, notes.

The parts of the duty share one book. It decides nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

from eth_abi.abi import decode

from provider_agent.core.attempts import CAME_TO_NOTHING, MAX_ATTEMPTS
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.repository import (
    JobRow,
    JobsRepository,
    QuoteRow,
    RunRow,
    RunStage,
)
from provider_agent.store import Intent
from teraproof.errors import SpecError
from teraproof.protocol import messages
from teraproof.protocol.digests import Origin
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec, parse_named
from teraproof.protocol.terms import ZERO_ADDRESS, Record, Status, Terms

log = logging.getLogger(__name__)

CONTRACT = "jobs"
FINAL = (
    Status.SETTLED,
    Status.CANCELLED,
    Status.EXPIRED,
    Status.REFUSED,
    Status.REFUNDED,
)
LIVE = tuple(status for status in Status if status not in FINAL)
#: Our work is done, and the job has not ended: its result may still be disputed.
DELIVERED = tuple(one for one in LIVE if one not in (Status.NONE, Status.OPEN, Status.ASSIGNED))
ACTIVE_RUNS = (RunStage.PLANNED, RunStage.RUNNING)
_MOST_BLOCKED = 10_000  # strangers post the jobs
_MOST_PARSED = 8 << 20  # bytes of specifications; parsed they take several times as much


@lru_cache(maxsize=4096)
def decode_terms(data: bytes) -> Terms:
    """Terms from their ABI encoding, as the store keeps them."""
    return Terms.from_abi(decode([Terms.ABI], data)[0])


class _Parsed:
    """Specifications that were parsed lately; strangers' bytes bound them, not a number of them."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[bytes, tuple[int, JobSpec]] = OrderedDict()
        self._lock = threading.Lock()

    def spec(self, body: bytes, digest: bytes) -> JobSpec:
        """Raises SpecError."""
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
                return found[1]
        spec = parse_named(body, digest)
        with self._lock:
            if digest not in self._kept:
                self._bytes += len(body)
            self._kept[digest] = (len(body), spec)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][0]
        return spec


def origin_of(job: JobRow) -> Origin:
    """Which job a result of a job that was taken is of, and whose."""
    return Origin(job.job_id, job.provider or ZERO_ADDRESS)


def attestation_of(job: JobRow, told: RunRow | JobRow) -> messages.Attestation:
    """What the operator says about a collected run, or has said of an attested job."""
    assert told.result is not None and told.receipt is not None  # set with COLLECTED, or Attested
    return messages.Attestation(
        job=job.job_id,
        spec=job.spec,
        result=told.result,
        receipt=told.receipt,
        started=told.started or 0,
        finished=told.finished or 0,
    )


def record_of(job: JobRow, attestation: messages.Attestation, attested_at: int) -> Record:
    """What the state word of the attested job is the digest of."""
    return Record(
        provider=job.provider or ZERO_ADDRESS,
        assigned_at=job.assigned_at or 0,
        attested_at=attested_at,
        paused=job.paused or 0,
        attestation=attestation.struct_hash(),
    )


@dataclass(frozen=True)
class RunName:
    """A run id: which job, which attempt, in which slot, and with how many seconds if fewer than
    the specification allows. It says all that a restart must know to ask for the same run again.
    """

    job_id: bytes
    attempt: int
    slot: int
    seconds: int | None = None

    def __str__(self) -> str:
        short = "" if self.seconds is None else f"-{self.seconds}"
        return f"{self.job_id.hex()}-{self.attempt}-{self.slot}{short}"

    @classmethod
    def parse(cls, run_id: str) -> RunName:
        """The inverse of `str`."""
        job, attempt, slot, *seconds = run_id.split("-")
        return cls(
            bytes.fromhex(job), int(attempt), int(slot), int(seconds[0]) if seconds else None
        )

    @classmethod
    def read(cls, run_id: str) -> RunName | None:
        """The same for an id that may be of no job, such as a trial of the sandbox."""
        try:
            name = cls.parse(run_id)
        except ValueError:
            return None
        return name if len(name.job_id) == 32 and str(name) == run_id else None


class JobBook:
    """See the module. Used from the duty's thread and read from the API's."""

    def __init__(self, store: JobsRepository, inputs: InputStorage) -> None:
        self.store = store
        self._inputs = inputs
        self._blocked: OrderedDict[bytes, Code] = OrderedDict()
        self._parsed = _Parsed(_MOST_PARSED)
        self._accepting: set[bytes] = set()  # at the last look
        self._accepting_lock = threading.Lock()
        self._matched: set[bytes] = set()  # quotes whose jobs are known

    def spec(self, job: JobRow) -> JobSpec | None:
        """The specification of a job, if it is here and valid."""
        return self.spec_named(job.spec)

    def spec_named(self, digest: bytes) -> JobSpec | None:
        """A specification by its digest, if it is here and valid."""
        body = self.store.spec(digest)
        if body is None:
            return None
        try:
            return self._parsed.spec(body, digest)
        except SpecError as error:
            log.warning("specification %s: %s", digest.hex(), error)
            return None

    def missing_inputs(self, requester: str, spec: JobSpec) -> int:
        """How many inputs of a specification its requester has not sent, or not in that size."""
        missing = 0
        for entry in spec.inputs:
            path = self._inputs.path(requester, entry.sha256)
            try:
                missing += path is None or path.stat().st_size != entry.size
            except FileNotFoundError:
                missing += 1
        return missing

    def inputs_version(self, requester: str) -> int:
        """A number that changes when inputs of an account come or go."""
        return self._inputs.version(requester)

    def note(self, job: JobRow, note: str, blocked_by: Code | None = None) -> None:
        """Where a job stands, for its requester and the log; the code of what holds it up."""
        if blocked_by is None:
            self._blocked.pop(job.job_id, None)
        else:
            self._blocked[job.job_id] = blocked_by
            self._blocked.move_to_end(job.job_id)
            if len(self._blocked) > _MOST_BLOCKED:
                self._blocked.popitem(last=False)
        known = self.store.job(job.job_id)
        if known is not None and known.note != note:
            log.info("job %s: %s", job.job_id.hex()[:12], note)
            self.store.update_job(job.job_id, note=note)

    def blocked_by(self, job_id: bytes) -> Code | None:
        """What the last note said; None when nothing holds the job up, and before the first look.

        Each look at a job says it again, so it is not kept in the file.
        """
        return self._blocked.get(job_id)

    # ------------------------------------------------------------------ runs

    def can_be_delivered(self, job: JobRow, now: int) -> bool:
        """Whether work for a job of ours can still be attested at `now`, unix seconds of the chain.

        One that cannot holds no slot and no room: nobody has to end it on chain, and till somebody
        does it must cost no other job its deadline.
        """
        if Status(job.status) is not Status.ASSIGNED or job.assigned_at is None:
            return False
        if now > decode_terms(job.terms).deadline(job.assigned_at):
            return False
        run = self.latest_run(job.job_id)
        if run is None or run.state not in (RunStage.FAILED, RunStage.REMOVED):
            return True
        return RunName.parse(run.run_id).attempt < MAX_ATTEMPTS

    def has_job_of(self, quote: QuoteRow) -> bool:
        """Whether the job that a quote was used for is known."""
        if quote.digest in self._matched:
            return True
        known = self.store.jobs_naming(quote.requester, quote.spec)
        number = int.from_bytes(quote.digest, "big")
        found = any(decode_terms(job.terms).order.nonce == number for job in known)
        if found:
            self._matched.add(quote.digest)
        return found

    def latest_run(self, job_id: bytes) -> RunRow | None:
        """The newest attempt to run a job."""
        runs = self.store.runs_of(job_id)
        return max(runs, key=lambda run: RunName.parse(run.run_id).attempt, default=None)

    # ------------------------------------------------------------------ intents

    def acceptance(self, job_id: bytes) -> Intent | None:
        """The acceptance that is on its way or has landed. A final one counts until the pinned
        block shows it.
        """
        standing = [
            intent
            for intent in self.store.core.intents_of(job_id.hex())
            if intent.key.action.startswith("accept") and intent.state not in CAME_TO_NOTHING
        ]
        return standing[-1] if standing else None

    def accepting(self) -> list[JobRow]:
        """Open jobs whose acceptance is on its way, or has landed and is not seen yet at the pinned
        block.
        """
        with self._accepting_lock:
            found = {job.job_id: job for job in self.store.accepting()}
            for job_id in self._accepting - found.keys():
                job = self.store.job(job_id)
                if job is None or Status(job.status) is not Status.OPEN:
                    continue
                if self.acceptance(job_id) is not None:
                    found[job_id] = job
            self._accepting = set(found)
        return list(found.values())
