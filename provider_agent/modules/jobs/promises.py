# SPDX-License-Identifier: Apache-2.0
"""What this provider has promised, so that it never promises more than it can keep.

A promise is a job of ours without a result, an acceptance on its way, or a live quote: a tenant may
use it at any moment and in any order. Therefore, while a quote lives, jobs and quotes together
never exceed the slots; without quotes some jobs a slot may be accepted ahead, if their deadlines
bear the wait. Whoever makes a promise holds `lock` from the look to the deed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from provider_agent.modules.jobs.book import ACTIVE_RUNS, JobBook, decode_terms
from provider_agent.modules.jobs.policy import Load, Policy
from provider_agent.modules.jobs.results import Results
from provider_agent.settings import AgentSettings
from provider_agent.store import JobRow, QuoteRow
from teraproof.contracts.jobs import JobsContract
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import Status
from teraproof.rpc.types import BlockRef


class Promises:
    """See the module. `update` is called once a cycle, the rest from any thread under `lock`."""

    def __init__(
        self,
        agent: AgentSettings,
        book: JobBook,
        policy: Policy,
        results: Results,
        jobs: JobsContract,
        operator: str,
    ) -> None:
        self.lock = threading.RLock()
        self._agent, self._book, self._policy = agent, book, policy
        self._results, self._jobs, self._operator = results, jobs, operator
        self._quotes: list[QuoteRow] = []
        self._used: dict[bytes, QuoteRow] = {}
        self._owner: str | None = None
        self._block: BlockRef | None = None
        #: What was promised at the end of the last cycle, for everybody who asks.
        self.shown = Load(agent.slots, 0, 0)

    def update(self, block: BlockRef, owner: str | None) -> None:
        """Look which quotes can still be used after this block. Raises ChainError."""
        with self.lock:
            self._owner = owner
            live = []
            for quote in self._book.store.live_quotes(block.timestamp):
                if quote.digest in self._used:
                    continue
                # The chain is asked: anybody can post a job that looks like a hired one.
                if self._jobs.quote_used(self._operator, quote.nonce, block):
                    self._used[quote.digest] = quote
                else:
                    live.append(quote)
            self._quotes = live
            self._block = block

    def added(self, quote: QuoteRow) -> None:
        """A quote was signed."""
        self._quotes.append(quote)
        self.show()

    def show(self) -> None:
        """Compute `shown` anew; strangers' requests only read it."""
        with self.lock:
            self.shown = self.load()

    @property
    def block(self) -> BlockRef | None:
        """The block of the last update; promises are right as of it."""
        return self._block

    @property
    def quotes(self) -> list[QuoteRow]:
        """The quotes that can still be used."""
        return list(self._quotes)

    @property
    def used(self) -> list[QuoteRow]:
        """The quotes that tenants have hired by, as far as it was seen since the start."""
        return list(self._used.values())

    def load(self) -> Load:
        """All that is promised."""
        load = Load(self._agent.slots, 0, 0)
        for spec in self._specs():
            if spec is None:
                load = load.with_job(0, 0)
            else:
                load = load.with_job(self._policy.busy_seconds(spec), self._policy.disk_bytes(spec))
        return load

    def has_room(self, load: Load) -> bool:
        """Whether one more job may be accepted."""
        ahead = 0 if self._quotes else self._agent.accept_ahead
        return load.committed < load.slots * (1 + ahead)

    def collateral_on_the_way(self) -> int:
        """TPF wei that acceptances and live quotes will lock and the chain does not show yet."""
        accepting = sum(decode_terms(job.terms).order.collateral for job in self._book.accepting())
        return accepting + sum(quote.collateral for quote in self._quotes)

    def _specs(self) -> Iterator[JobSpec | None]:
        for job in self._jobs_to_run():
            yield self._book.spec(job)
        for quote in self._quotes:
            yield self._book.spec_named(quote.spec)

    def _jobs_to_run(self) -> list[JobRow]:
        store = self._book.store
        found: dict[bytes, JobRow] = {}
        for run in store.runs_in(*ACTIVE_RUNS):
            job = store.job(run.job_id)
            if job is not None:
                found[run.job_id] = job
        waiting = self._book.accepting()
        if self._owner is not None and self._block is not None:
            now = self._block.timestamp
            mine = store.jobs_by(self._owner, Status.ASSIGNED)
            waiting += [job for job in mine if self._book.can_be_delivered(job, now)]
        for job in waiting:
            if self._results.get(job.job_id) is None:
                found[job.job_id] = job
        return list(found.values())
