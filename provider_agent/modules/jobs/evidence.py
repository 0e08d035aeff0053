# SPDX-License-Identifier: Apache-2.0
"""What a drawn juror may read of a job, and until when.

To judge by the rule `exact` it needs the specification and the inputs: it runs the job, and the
digest on chain tells whether its own result is the attested one. The result itself is shown to
jurors only where the rule compares numbers, or where the job has failed, since the file that says
so has a salt: who can read the result need not run anything. Any other is shown to a juror that
shows its seal, which its own run has told it: so it sees whether the result is served at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.book import JobBook
from provider_agent.modules.jobs.documents import JobView
from provider_agent.modules.jobs.results import Result, Results
from teraproof.errors import Refused
from teraproof.protocol.comparison import NUMERIC
from teraproof.protocol.digests import Entry
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.outcome import FAILURE

#: (job, account) -> the last second, by the chain's time, in which the account may read the job's
#: evidence as a juror drawn for it; None for one that is not.
Drawn = Callable[[bytes, str], int | None]


@dataclass(frozen=True)
class Evidence:
    """What a juror may read of a job."""

    spec: bytes
    """Canonical bytes."""
    inputs: dict[str, Entry]
    """By sha256."""
    requester: str
    result: JobView | None
    """With manifest and files; None where the juror has not shown that it knows them."""


class EvidenceDirectory(Protocol):
    """Where the API looks evidence up."""

    def of(self, job_id: bytes, account: str, seal: str | None = None) -> Evidence:
        """Refused for all but jurors of the job, in their time. `seal` is what the account's own
        run has given, as hex digits.
        """
        ...

    def input(self, found: Evidence, entry: Entry) -> Path:
        """The file of an input. Refused where it is not here."""
        ...


class EvidenceDesk:
    """See the module. Called from the API's threads. `now` is the chain's time, unix seconds."""

    def __init__(
        self,
        book: JobBook,
        results: Results,
        inputs: InputStorage,
        now: Callable[[], int],
        drawn: Drawn,
    ) -> None:
        self._book, self._results, self._inputs = book, results, inputs
        self._now, self._drawn = now, drawn

    def of(self, job_id: bytes, account: str, seal: str | None = None) -> Evidence:
        """What an account may read of a job now. Refused with NOT_DRAWN, also for jobs that are not
        known: a stranger learns nothing from it.
        """
        until = self._drawn(job_id, account)
        if until is None:
            raise Refused(Code.NOT_DRAWN, "only a juror drawn for the job may see this")
        if not 0 < self._now() <= until:  # 0: the chain was not seen yet
            raise Refused(Code.NOT_DRAWN, "the time of the job's jurors is over")
        row = self._book.store.job(job_id)
        if row is None:
            raise Refused(Code.JOB_UNKNOWN, "this provider does not know the job")
        spec = self._book.spec_named(row.spec)
        if spec is None:
            raise Refused(Code.SPEC_MISSING, "its specification is not here")
        kept = self._results.get(job_id)
        shown = None
        if kept is not None and (_is_open(spec, kept) or _knows(kept, seal)):
            shown = JobView(row.requester, {}, manifest=kept.manifest_file, results=kept.files)
        inputs = {entry.sha256: entry for entry in spec.inputs}
        return Evidence(spec.canonical(), inputs, row.requester, shown)

    def input(self, found: Evidence, entry: Entry) -> Path:
        """The file of an input. Refused with INPUT_MISSING where it is not here."""
        file = self._inputs.path(found.requester, entry.sha256)
        if file is None:
            raise Refused(Code.INPUT_MISSING, "the input is not here any more")
        return file


def _is_open(spec: JobSpec, kept: Result) -> bool:
    """Whether a juror cannot judge by its own run alone."""
    numeric = spec.compare is not None and spec.compare.rule == NUMERIC
    return numeric or (kept.files / FAILURE).exists()


def _knows(kept: Result, seal: str | None) -> bool:
    """Whether a seal is that of the result."""
    return seal is not None and seal == kept.seal.hex()
