# SPDX-License-Identifier: Apache-2.0
"""Deletes what nobody needs any more: old results, inputs and specifications without a job."""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_agent.api.storage import InputStorage
from provider_agent.duties.book import JobBook, decode_terms
from provider_agent.duties.promises import Promises
from provider_agent.duties.results import Results
from provider_agent.protocol.terms import Status
from provider_agent.store import JobRow


class Housekeeper:
    """See the module. `keep_seconds` is how long things stay after their job has ended."""

    def __init__(
        self,
        book: JobBook,
        promises: Promises,
        results: Results,
        inputs: InputStorage,
        keep_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._promises = book, promises
        self._results, self._inputs = results, inputs
        self._keep_seconds, self._clock = keep_seconds, clock

    def prune(self, open_margin: int) -> None:
        """One round. `open_margin` is the contract's, in seconds."""
        # Under the lock no quote can be signed for inputs that are about to go.
        with self._promises.lock:
            wanted = {(quote.requester.lower(), quote.spec) for quote in self._promises.quotes}
            for job in self._book.store.jobs():
                if self._is_over(job, open_margin):
                    self._results.remove(job.job_id)
                    if not self._book.store.intents_of(job.job_id.hex()):
                        self._book.store.drop_job(job.job_id)
                else:
                    wanted.add((job.requester.lower(), job.spec))
            needed = set()
            for account, digest in wanted:
                spec = self._book.spec_named(digest)
                needed |= {(account, entry.sha256) for entry in spec.inputs} if spec else set()
            self._inputs.prune(self._keep_seconds, lambda account, name: (account, name) in needed)
            self._book.store.prune_specs(
                {digest for _, digest in wanted}, int(self._clock()) - self._keep_seconds
            )

    def _is_over(self, job: JobRow, open_margin: int) -> bool:
        limit = self._clock() - self._keep_seconds
        if Status(job.status) in (Status.OPEN, Status.NONE):
            return decode_terms(job.terms).open_until(open_margin) < limit
        return job.settled_at is not None and job.settled_at < limit
