# SPDX-License-Identifier: Apache-2.0
"""What the API may show of jobs and of the provider, read from the store and the disk."""

from __future__ import annotations

import threading
from functools import lru_cache, partial
from typing import Any

from provider_agent.core.capacity import BY_TURNS, Amounts, Capacity, Kind, Load, on_disk
from provider_agent.core.settings import Settings
from provider_agent.http.uploads import Permit
from provider_agent.modules.jobs.book import JobBook, decode_terms
from provider_agent.modules.jobs.documents import JobView
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.executor import Machine
from provider_agent.modules.jobs.policy import Policy, Standing, taken
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.repository import JobRow, RunRow, RunStage
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.verdicts import Verdicts
from provider_agent.tx.keys import OperatorKey
from teraproof.errors import Refused
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.outcome import Ending, Outcome, by_status
from teraproof.protocol.receipt import Receipt
from teraproof.protocol.terms import Status

# No result will come of it.
_HOPELESS = (Code.ATTEMPTS_EXHAUSTED, Code.TIME_EXHAUSTED, Code.DEADLINE_MISSED)
_ORDERS = 64  # of an account, that one upload has us look at
_ALIKE = 4  # of them, with one specification
_SEARCHED = 16 << 20  # bytes of specifications that one upload has us search for its name
_EXPLAINED = 8  # of those that are not taken, how many are read to find the reason
_UNKNOWN = Refused(Code.SPEC_MISSING, "its specification is not here")
_SOON = 3600  # seconds
_SIGNATURES = 256  # of attestations, kept in memory
_SHOWN = (RunStage.PLANNED, RunStage.RUNNING, RunStage.EXITED)


class JobViews:
    """Jobs for their requesters. Called from the API's threads.

    The operator's signed Attestation is part of what they get: with it anybody can relay the
    result to the chain, should the agent be unable to.
    """

    def __init__(
        self, book: JobBook, machine: Machine, key: OperatorKey, domain: messages.Domain
    ) -> None:
        self._book, self._store, self._machine = book, book.store, machine
        # Tenants ask often, and signing takes more than all the rest.
        sign = partial(messages.sign, domain, account=key.account)
        self._signed = lru_cache(_SIGNATURES)(sign)

    def job(self, job_id: bytes) -> JobView | None:
        """The job, or None when this agent does not know it."""
        row = self._store.job(job_id)
        if row is None:
            return None
        result = self._machine.results.get(job_id)
        if result is not None:
            return JobView(
                requester=row.requester,
                status=self._status(row, result.receipt),
                manifest=result.manifest_file,
                results=result.files,
                receipt=result.receipt,
                log=result.log,
            )
        log = None
        for run in self._store.runs_of(job_id):
            if run.state in _SHOWN and run.run_id in self._machine.runner.list():
                log = self._machine.runner.log(run.run_id)
        return JobView(requester=row.requester, status=self._status(row), log=log)

    def _status(self, row: JobRow, receipt: bytes | None = None) -> dict[str, Any]:
        terms = decode_terms(row.terms)
        runs = self._store.runs_of(row.job_id)
        assigned = row.assigned_at
        return {
            "job": "0x" + row.job_id.hex(),
            "status": Status(row.status).name.lower(),
            "provider": row.provider,
            "note": row.note,
            "blocked_by": self._blocked_by(row),
            "outcome": self._outcome(row, runs, receipt),
            "deadline": None if assigned is None else terms.deadline(assigned),
            "result": None if row.result is None else "0x" + row.result.hex(),
            "attestation": self._attestation(row, runs),
            "runs": [
                {
                    "state": run.state.value,
                    "exit_code": run.exit_code,
                    "reason": run.reason,
                    "started": run.started,
                    "finished": run.finished,
                }
                for run in runs
            ],
        }

    def _blocked_by(self, row: JobRow) -> Code | None:
        live = Status(row.status) in (Status.OPEN, Status.ASSIGNED)
        return self._book.blocked_by(row.job_id) if live else None

    def _outcome(self, row: JobRow, runs: list[RunRow], receipt: bytes | None) -> Outcome | None:
        """How the job ended as far as this agent knows; None while it goes on."""
        ended = by_status(Status(row.status))
        if ended is not None:
            return ended
        if receipt is not None:
            signed = Receipt.parse(receipt)
            return Ending(signed.reason, signed.exit_code).outcome
        for run in runs:
            if run.state is RunStage.COLLECTED:
                return Ending(run.reason, run.exit_code).outcome
        return Outcome.PROVIDER_FAULT if self._blocked_by(row) in _HOPELESS else None

    def _attestation(self, row: JobRow, runs: list[RunRow]) -> dict[str, Any] | None:
        said = self._machine.results.said.of(row.job_id)
        if said is None or all(run.state is not RunStage.COLLECTED for run in runs):
            return None
        # What is kept, and nothing that a run may have given since.
        attestation = said.statement
        signature = self._signed(attestation)
        return {
            "result": "0x" + attestation.result.hex(),
            "receipt": "0x" + attestation.receipt.hex(),
            "started": attestation.started,
            "finished": attestation.finished,
            "signature": "0x" + signature.hex(),
        }


class UploadRule:
    """Who may send which inputs: requesters with an order that we would take, or have taken, and
    holders of quotes. A price that is reached within an hour will do.
    """

    def __init__(
        self, book: JobBook, duty: JobsDuty, desk: QuoteDesk, policy: Policy, capacity: Capacity
    ) -> None:
        self._book, self._duty, self._desk = book, duty, desk
        self._policy, self._capacity = policy, capacity
        self._verdicts = Verdicts(book, policy)
        # Reading what strangers have ordered is work for the processor: one at a time.
        self._lock = threading.Lock()

    def __call__(self, account: str, sha256: str, size: int) -> Permit | None:
        """The permit for `account` to upload the file with this digest and size (bytes) now; None
        when no order or quote of theirs names it.

        Refused, with the reason, when one does, and we would not take it.
        """
        with self._lock:
            return self._permit(account, sha256, size)

    def _permit(self, account: str, sha256: str, size: int) -> Permit | None:
        standing = self._duty.standing
        unfit: list[tuple[JobRow, Refused]] = []
        for job in [] if standing is None else self._orders(account, standing.owner, sha256):
            assert standing is not None  # there are orders
            if Status(job.status) is Status.ASSIGNED:
                if self._naming(job.spec, sha256, size) is not None:
                    return Permit(worth=None)
                continue
            # What costs least to find out comes first: the accounts are strangers'.
            why = self._refuse(job, standing)
            if why is not None:
                unfit.append((job, why))
            elif self._naming(job.spec, sha256, size) is not None:
                return Permit(worth=decode_terms(job.terms).order.max_price)
        refusal: Refused | None = None
        for digest in self._desk.specs_of(account):
            spec = self._naming(digest, sha256, size)
            why = None if spec is None else self._policy.refuse_spec(spec)
            if spec is not None and why is None:
                return Permit(worth=0)
            refusal = refusal or why
        for job, why in unfit[:_EXPLAINED]:
            # The reason of the order that pays best.
            if refusal is None and self._naming(job.spec, sha256, size) is not None:
                refusal = why
        if refusal is None:
            return None
        raise Refused(
            refusal.code, f"this provider would not take the job: {refusal}", **refusal.details
        )

    def _orders(self, account: str, owner: str, sha256: str) -> list[JobRow]:
        """The orders of an account that may name a file, and have not ended: ours, then those that
        pay best. Of all that it has ordered so much is searched, what came last first.
        """
        store, name, left = self._book.store, sha256.encode(), _SEARCHED
        mine = store.jobs_by(owner, Status.ASSIGNED)
        found: list[JobRow] = []
        for digest, size in store.ordered_specs(account):
            left -= size
            if left < 0 or len(found) >= _ORDERS:
                break
            if name in (store.spec(digest) or b""):
                found += store.orders_of(account, digest, _ALIKE)
        found.sort(key=lambda job: decode_terms(job.terms).order.max_price, reverse=True)
        return [*(job for job in mine if job.requester == account), *found[:_ORDERS]]

    def _naming(self, digest: bytes, sha256: str, size: int) -> JobSpec | None:
        """The specification, if it is here and names this input."""
        spec = self._book.spec_named(digest)
        if spec is None:
            return None
        named = any((entry.sha256, entry.size) == (sha256, size) for entry in spec.inputs)
        return spec if named else None

    def _refuse(self, job: JobRow, standing: Standing) -> Refused | None:
        """Why an open order would not be taken within the hour."""
        terms, now = decode_terms(job.terms), self._duty.now
        paused = terms.paused_since(standing.paused_seconds)
        until = terms.open_until(standing.open_margin, paused)
        then = now if now > until else min(now + _SOON, until)
        refusal = self._policy.refuse_terms(terms, then, standing)
        if refusal is not None:
            return refusal
        verdict = self._verdicts.of(job.spec)
        if verdict is None:
            return _UNKNOWN
        refusal = verdict.refusal or self._policy.refuse_price(terms, verdict.least, then, standing)
        spec = self._book.spec(job)
        if refusal is not None or spec is None:
            return refusal or _UNKNOWN
        refusal = self._policy.refuse_list(terms.order, spec, standing)
        if refusal is not None:
            return refusal
        needs = self._policy.needs(spec, terms.order.collateral)
        # Whatever is used by turns will be free again.
        short = [one for one in self._capacity.fit(needs, Kind.OWED).short if one not in BY_TURNS]
        return taken(short[0]) if short else None


def spec_fits(capacity: Capacity, size: int, named: bool) -> bool:
    """Whether the disk has room for a specification of `size` bytes. One that a job names gets
    whatever is not promised, others the share of strangers.
    """
    needs = Amounts(disk=on_disk(size), inodes=1)
    found = capacity.fit(needs, Kind.OWED if named else Kind.SPARE)
    return bool(found) and not found.drop


def offer(settings: Settings, load: Load, gpus: int) -> dict[str, Any]:
    """The part of `GET /v1/provider` that is about jobs, as JSON values; amounts of tokens are text
    in whole tokens. `gpus` is how many can be used now.
    """
    runner, jobs = settings.runner, settings.section(JobsSettings)
    slots = min(load.slots, gpus // runner.gpus) if runner.gpus else load.slots
    return {
        "runtimes": sorted(runner.runtimes),
        "price_per_hour": str(jobs.price_per_hour),
        "min_price": str(jobs.min_price),
        "max_collateral": str(jobs.max_collateral),
        "collateral_per_token": str(jobs.collateral_per_token),
        # What orders with jurors get: the setting, if it is less than the other.
        "judged_collateral_per_token": str(
            min(jobs.collateral_per_token, jobs.judged_collateral_per_token)
        ),
        "max_seconds": jobs.max_seconds,
        "limits": {
            "cpus": runner.cpus,
            "memory_mb": runner.memory_mb,
            "disk_mb": runner.disk_mb,
            "gpus": min(runner.gpus, gpus),
            "input_mb": runner.input_mb,
        },
        "accept_refusable": jobs.accept_refusable,
        "accept_judged": jobs.judged_for,
        "slots": {"total": slots, "promised": load.committed},
    }
