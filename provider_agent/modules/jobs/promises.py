# SPDX-License-Identifier: Apache-2.0
"""What this provider has promised, told to the ledger so that it never promises more than it has.

A promise is a job of ours without a result, an acceptance on its way, or a live quote: a tenant may
use it at any moment and in any order. So a quote is signed only for a slot that is free, and no job
begins in it while the quote lives. Jobs may be accepted ahead, if their deadlines bear the wait.
An order that pays and cannot wait has the quotes cancelled that are in its way.
Whoever makes a promise holds `lock` from the look to the deed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from provider_agent.core.attempts import Attempts
from provider_agent.core.capacity import (
    Amounts,
    Capacity,
    Fit,
    Hold,
    Key,
    Kind,
    Load,
    Resource,
)
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.book import ACTIVE_RUNS, JobBook, decode_terms
from provider_agent.modules.jobs.policy import Policy, Standing
from provider_agent.modules.jobs.repository import JobRow, QuoteRow
from provider_agent.modules.jobs.results import Results
from provider_agent.modules.jobs.turns import Turns
from provider_agent.store import IntentState
from teraproof.contracts.jobs import JobsContract
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import Status
from teraproof.rpc.types import BlockRef

_MODULE = "jobs"
_LATE = 3_600  # seconds after its expiry in which a quote that was used is still found
_GONE = 900  # seconds after its expiry until a quote that was not used is forgotten
_ASK_EVERY = 10  # seconds between two looks at a live quote without news
_OTHERS, _ENDED = 4, 8  # of those without news, and of those that have ended, in one update
_AWAITED = 60.0  # seconds for which no quotes are signed when an order waits for room
_SOON_OVER = 15  # seconds: a quote that ends sooner is not worth a cancellation
_CANCEL = "cancel_quote"
_UNKNOWN = Amounts(slots=1, gas=1)  # of a job whose specification is not here


class Promises:
    """See the module. `update` is called once per cycle, the rest from any thread under `lock`."""

    def __init__(
        self,
        capacity: Capacity,
        book: JobBook,
        policy: Policy,
        results: Results,
        inputs: InputStorage,
        jobs: JobsContract,
        operator: str,
        attempts: Attempts,
        turns: Turns,
        allocated: Callable[[str], int] = lambda run_id: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allocated, self._turns = allocated, turns
        self.lock = threading.RLock()
        self.capacity = capacity
        self._book, self._policy = book, policy
        self._results, self._inputs = results, inputs
        self._jobs, self._operator, self._attempts = jobs, operator, attempts
        self._clock = clock
        self._awaited_until = 0.0
        self._quotes: list[QuoteRow] = []
        self._used: dict[bytes, QuoteRow] = {}
        self._over: set[bytes] = set()
        self._recalled: set[bytes] = set()  # we have begun to cancel them
        self._asked: dict[bytes, int] = {}  # time of the block
        self._news: set[str] = set()  # accounts
        self._needed: dict[tuple[str, str], int] = {}
        self._to_defend: Collection[bytes] = ()
        self._block: BlockRef | None = None
        #: What was promised at the end of the last cycle, for everybody who asks.
        self.shown = capacity.load()

    def update(
        self, block: BlockRef, standing: Standing | None, to_defend: Collection[bytes] = ()
    ) -> None:
        """Tell the ledger what is promised after this block. Raises ChainError. `to_defend` are
        delivered jobs that a juror may have to run again: their inputs stay.
        """
        with self.lock:
            self._to_defend = to_defend
            self._block = block
            store, now = self._book.store, block.timestamp
            recent = store.live_quotes(now - _LATE)
            for quote in self._to_ask(recent, now):
                self._asked[quote.digest] = now
                # The chain is asked: anybody can post a job that looks like a hired one.
                if self._jobs.quote_used(self._operator, quote.nonce, block):
                    if self._is_cancelled(quote):
                        self._over.add(quote.digest)
                    else:
                        self._used[quote.digest] = quote
                        self._turns.paid(quote.requester)
                elif quote.expires < now:
                    self._over.add(quote.digest)  # looked at once more after its end
                    self._turns.wasted(quote.requester)
            self._news.clear()
            known = self._used.keys() | self._over
            self._quotes = [q for q in recent if q.digest not in known and q.expires >= now]
            gone = [q.digest for q in recent if q.digest in self._over and q.expires < now - _GONE]
            store.drop_quotes(gone)
            there = {quote.digest for quote in recent}.difference(gone)
            self._over &= there
            self._recalled &= there
            self._asked = {one: at for one, at in self._asked.items() if one in there}
            self._tell(standing)

    def news_of(self, requester: str) -> None:
        """A job of this account has become ours: it may have used a quote."""
        self._news.add(requester)

    def _to_ask(self, quotes: list[QuoteRow], now: int) -> list[QuoteRow]:
        """Of which quotes the chain is asked now: those with news, and a few of the others.

        Accounts cost nothing, and each may have a quote: requests must not grow with them.
        """
        news, ended, rest = list[QuoteRow](), list[QuoteRow](), list[QuoteRow]()
        for quote in quotes:
            if quote.digest in self._used or quote.digest in self._over:
                continue
            if quote.requester in self._news or quote.digest in self._recalled:
                news.append(quote)
            elif quote.expires < now:
                ended.append(quote)
            elif self._asked.get(quote.digest, quote.created_at) <= now - _ASK_EVERY:
                rest.append(quote)
        rest.sort(key=lambda quote: self._asked.get(quote.digest, quote.created_at))
        # Of the ended ones the last first: there are many only after a start.
        return [*news, *ended[-_ENDED:], *rest[:_OTHERS]]

    def _tell(self, standing: Standing | None) -> None:
        owed: dict[Key, Hold] = {}
        needed: dict[tuple[str, str], int] = {}
        accepting = {job.job_id for job in self._book.accepting()}
        for job in self._jobs_to_run(standing):
            spec = self._book.spec(job)
            # The chain shows the collateral of a job once it is assigned.
            locks = job.job_id in accepting
            collateral = decode_terms(job.terms).order.collateral if locks else 0
            owed[job.job_id] = self._begun(job, self._hold(Kind.OWED, spec, collateral))
            needed |= _inputs(job.requester, spec)
        for job_id in self._to_defend:
            disputable = self._book.store.job(job_id)
            if disputable is not None:
                needed |= _inputs(disputable.requester, self._book.spec(disputable))
        for job in self._to_deliver(standing):
            # Its work is done: the attestation has still to be paid for.
            owed.setdefault(job.job_id, Hold(Kind.OWED, Amounts(gas=1), by=_MODULE))
        for quote in self.unseen:
            spec = self._book.spec_named(quote.spec)
            owed[quote.digest] = self._hold(Kind.OWED, spec, 0)
            needed |= _inputs(quote.requester, spec)
        offered: dict[Key, Hold] = {}
        for quote in self._quotes:
            spec = self._book.spec_named(quote.spec)
            offered[quote.digest] = self._offer(quote, spec)
            needed |= _inputs(quote.requester, spec)
        with self.capacity.lock:
            self.capacity.restate(_MODULE, {**owed, **offered})
            self._need(needed)
            self.capacity.trim()

    def promise(self, job: JobRow, spec: JobSpec) -> Fit:
        """Reserve all that a job needs, and keep its inputs; whether that was possible."""
        collateral = decode_terms(job.terms).order.collateral
        hold = self._hold(Kind.OWED, spec, collateral)
        found = self._reserve(job.job_id, hold, job.requester, spec)
        if found:
            self._awaited_until = 0.0  # whoever waits still says so in the next cycle
        return found

    def offer(self, quote: QuoteRow, spec: JobSpec) -> Fit:
        """The same for a quote that is about to be signed."""
        return self._reserve(quote.digest, self._offer(quote, spec), quote.requester, spec)

    def added(self, quote: QuoteRow) -> None:
        """A quote was signed."""
        self._quotes.append(quote)
        self.show()

    def await_room(self, offers: Collection[Key] = ()) -> None:
        """An order that pays waits for room: no more quotes for a while, and the live ones that
        stand in its way are cancelled on chain where that is quicker than to wait for their end.
        """
        self._awaited_until = self._clock() + _AWAITED
        for quote in self._quotes:
            left = quote.expires - (0 if self._block is None else self._block.timestamp)
            if quote.digest in offers and left > self._policy.lag_seconds + _SOON_OVER:
                word, bit = divmod(quote.nonce, 256)
                data = self._jobs.cancel_quotes(word, 1 << bit)
                self._attempts.begin(quote.digest.hex(), _CANCEL, data, deadline=quote.expires)
                self._recalled.add(quote.digest)

    @property
    def is_awaited(self) -> bool:
        """Whether an order that pays waits for room."""
        return self._awaited_until > self._clock()

    def show(self) -> None:
        """Compute `shown` again; strangers' requests only read it."""
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

    @property
    def unseen(self) -> list[QuoteRow]:
        """The quotes that were used for jobs whose events have not been seen yet."""
        now = 0 if self._block is None else self._block.timestamp
        return [
            quote
            for quote in self._used.values()
            if quote.expires + quote.duration >= now and not self._book.has_job_of(quote)
        ]

    def load(self, *kinds: Kind) -> Load:
        """The jobs that are promised, or those that are OWED alone."""
        return self.capacity.load(*kinds)

    def _reserve(self, key: Key, hold: Hold, requester: str, spec: JobSpec) -> Fit:
        with self.capacity.lock:
            before = self._needed
            # Its own inputs are not to make room for it, nor may they just have done so for others.
            self._need({**before, **_inputs(requester, spec)})
            if self._book.missing_inputs(requester, spec):
                found = Fit((Resource.DISK,))
            else:
                found = self.capacity.reserve(key, hold)
            if not found:
                self._need(before)
            return found

    def _need(self, needed: dict[tuple[str, str], int]) -> None:
        self._needed = needed
        self._inputs.need(needed)

    def _hold(self, kind: Kind, spec: JobSpec | None, collateral: int) -> Hold:
        if spec is None:
            return Hold(kind, replace(_UNKNOWN, collateral=collateral), by=_MODULE)
        needs, seconds = self._policy.needs(spec, collateral), self._policy.busy_seconds(spec)
        return Hold(kind, needs, seconds, by=_MODULE)

    def _begun(self, job: JobRow, hold: Hold) -> Hold:
        """What a run has allocated is no longer free, and must not count twice."""
        run = self._book.latest_run(job.job_id)
        if run is None or run.state not in ACTIVE_RUNS:
            return hold
        there = min(hold.amounts.disk, self._allocated(run.run_id))
        return replace(hold, stored=Amounts(disk=there))

    def _offer(self, quote: QuoteRow, spec: JobSpec | None) -> Hold:
        """A quote may be used in its last second, and the job takes its time after that."""
        hold = self._hold(Kind.OFFERED, spec, quote.collateral)
        now = 0 if self._block is None else self._block.timestamp
        return replace(hold, seconds=hold.seconds + max(0, quote.expires - now))

    def _jobs_to_run(self, standing: Standing | None) -> list[JobRow]:
        store = self._book.store
        found: dict[bytes, JobRow] = {}
        for run in store.runs_in(*ACTIVE_RUNS):
            job = store.job(run.job_id)
            if job is not None:
                found[run.job_id] = job
        for job in [*self._book.accepting(), *self._to_deliver(standing)]:
            if self._results.get(job.job_id) is None:
                found[job.job_id] = job
        return list(found.values())

    def _is_cancelled(self, quote: QuoteRow) -> bool:
        """Whether a nonce that is used up was cancelled by us before anybody has hired by it."""
        made = self._attempts.made(quote.digest.hex(), _CANCEL)
        landed = any(one.state in (IntentState.MINED, IntentState.FINAL) for one in made)
        return landed and not self._book.has_job_of(quote)

    def _to_deliver(self, standing: Standing | None) -> list[JobRow]:
        if standing is None or self._block is None:
            return []
        mine = self._book.store.jobs_by(standing.owner, Status.ASSIGNED)
        return [job for job in mine if self._book.can_be_delivered(job, self._block.timestamp)]


def _inputs(account: str, spec: JobSpec | None) -> dict[tuple[str, str], int]:
    """The files that a job of an account needs, and their sizes."""
    if spec is None:
        return {}
    return {(account.lower(), entry.sha256): entry.size for entry in spec.inputs}
