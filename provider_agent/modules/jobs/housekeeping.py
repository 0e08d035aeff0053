# SPDX-License-Identifier: Apache-2.0
"""Deletes what nobody needs any more, and moves what has ended out of the way.

What ended stays in the database until no reorg can undo it and an hour has passed, then in the
history until `keep_seconds` after its end, as long as its result. A thread of its own does the
moving, a little at a time: no cycle waits for it.

A job that has not ended keeps its specification, its inputs and its result: somebody may have to
run it again. What no row tells of is deleted only by an agent that has read all events: after a
lost database the rows come back with them.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable

from provider_agent.core.capacity import UNWANTED
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.jobs.book import CONTRACT, JobBook, decode_terms
from provider_agent.modules.jobs.promises import Promises
from provider_agent.modules.jobs.repository import JobRow
from provider_agent.modules.jobs.results import Results
from provider_agent.store.errors import explain
from teraproof.errors import LocalError
from teraproof.protocol.terms import Status, address

log = logging.getLogger(__name__)

_RESTS = 3600  # seconds that an ended row stays where it was
_QUOTES_REST = 86_400  # seconds from a quote's expiry to its deletion
_ORDERS = 16  # of an account that are looked at for what they pay
_SPECS = 32  # of an account that a round reads, to see which of its old files are needed
_PAGE = 500  # old jobs that a round looks at
_BATCH = 50  # jobs moved in one transaction: others wait for it
_BREATH, _PAUSE = 0.05, 30.0  # seconds after a full batch, and after one that was not full
_SWEEP_EVERY = 86_400.0


class Housekeeper:
    """See the module. `depth` is how many blocks back the chain may change; `knows_all` tells
    whether all events have been read, so that what seems to be nobody's is.
    """

    def __init__(
        self,
        book: JobBook,
        promises: Promises,
        results: Results,
        inputs: InputStorage,
        keep_seconds: int,
        depth: int = 0,
        clock: Callable[[], float] = time.time,
        knows_all: Callable[[], bool] = lambda: True,
    ) -> None:
        self._knows_all = knows_all
        self._book, self._promises = book, promises
        self._results, self._inputs = results, inputs
        self._keep_seconds, self._depth, self._clock = keep_seconds, depth, clock
        self._seen: tuple[int, str] | None = None  # block number and owner of the last cycle
        self._swept_at: float | None = None
        self._pruned = (0, b"")  # the last of the old jobs that the last round looked at
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="history", daemon=True)

    # ------------------------------------------------------------------ in the cycle

    def prune(self, open_margin: int, paused: int = 0) -> None:
        """One round. `open_margin` is the contract's, in seconds, and `paused` for how long its
        orders were paused in total.
        """
        if not self._knows_all():
            return
        store = self._book.store
        before = int(self._clock()) - self._keep_seconds
        # Under the lock no quote can be signed for inputs that are about to go.
        with self._promises.lock:
            old = store.rested(before, self._pruned, _PAGE)
            self._pruned = (old[-1].updated_at, old[-1].job_id) if len(old) == _PAGE else (0, b"")
            store.retire(
                [job.job_id for job in old if self._is_over(job, open_margin)], self._deep()
            )
            needed: dict[str, set[str] | None] = {}

            def keep(account: str, name: str) -> bool:
                if account not in needed:
                    needed[account] = self._needed(account)
                known = needed[account]
                return known is None or name in known

            self._inputs.prune(self._keep_seconds, keep)
            self.value(self._inputs.accounts(), open_margin, paused)
            store.prune_specs({quote.spec for quote in self._promises.quotes}, before)

    def value(self, accounts: Iterable[str], open_margin: int, paused: int = 0) -> None:
        """See what the orders of accounts are worth now: what they have sent is worth no more."""
        here = [one for one in accounts if self._inputs.knows(one)]
        self._inputs.value({one.lower(): self._worth(one, open_margin, paused) for one in here})

    def _worth(self, account: str, open_margin: int, paused: int) -> int:
        """What the best of an account's open orders pays; nothing for a quote or work of ours."""
        named, now = address("account", account), self._clock()
        for job in self._book.store.best_orders(named, _ORDERS):
            terms = decode_terms(job.terms)
            if now <= terms.open_until(open_margin, terms.paused_since(paused)):
                return terms.order.max_price
        if any(quote.requester == named for quote in self._promises.quotes):
            return 0
        owner = None if self._seen is None else self._seen[1]
        mine = [] if owner is None else self._book.store.jobs_by(owner, Status.ASSIGNED)
        return 0 if any(job.requester == named for job in mine) else UNWANTED

    def _needed(self, account: str) -> set[str] | None:
        """The inputs of all that an account has ordered, or has a quote for; None when these are
        too many to be read through. They give way to whatever is worth more all the same.
        """
        named = address("account", account)
        wanted = {quote.spec for quote in self._promises.quotes if quote.requester == named}
        wanted.update(self._book.store.live_specs(named, _SPECS + 1))
        if len(wanted) > _SPECS:
            return None
        specs = [self._book.spec_named(digest) for digest in wanted]
        return {entry.sha256 for spec in specs if spec for entry in spec.inputs}

    def _is_over(self, job: JobRow, open_margin: int) -> bool:
        if Status(job.status) not in (Status.OPEN, Status.NONE):
            return False
        limit = self._clock() - self._keep_seconds
        return decode_terms(job.terms).open_until(open_margin) < limit

    def see(self, block: int, owner: str) -> None:
        """The block of this cycle, and whose jobs are ours."""
        self._seen = (block, owner)

    def _deep(self) -> int:
        return 0 if self._seen is None else self._seen[0] - self._depth

    # ------------------------------------------------------------------ outside the cycle

    def start(self) -> None:
        """Begin to move what has ended."""
        self._thread.start()

    def close(self) -> None:
        """Stop that."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _live(self) -> None:
        pause = _BREATH
        while not self._ended.wait(pause):
            try:
                pause = _BREATH if self.move() else _PAUSE
            except (sqlite3.Error, OSError, LocalError) as error:
                said = (
                    explain(self._book.store.path, error)
                    if not isinstance(error, LocalError)
                    else error
                )
                log.warning("ended jobs stay where they are: %s", said)
                pause = _PAUSE
            except Exception:
                log.exception("ended jobs stay where they are")
                pause = _PAUSE

    def move(self) -> bool:
        """Move some of what has ended; whether there may be more."""
        if self._seen is None or not self._knows_all():
            return False
        store, now, deep = self._book.store, int(self._clock()), self._deep()
        owner, rests = self._seen[1], int(self._clock()) - _RESTS
        moved = store.end_jobs(deep, rests, _BATCH)
        if moved < _BATCH // 2:  # some of a batch may have to stay
            moved = max(
                store.core.end_intents(deep, rests, _BATCH, apart=CONTRACT),
                store.forget_others(owner, rests, _BATCH),
            )
        gone = store.forget_ended(now - self._keep_seconds, _BATCH)
        for job_id in gone:
            self._results.forget(job_id)
        if moved >= _BATCH // 2 or len(gone) == _BATCH:
            return True
        store.forget_quotes(now - _QUOTES_REST)
        store.core.give_back_room()
        self._sweep(now - self._keep_seconds)
        return False

    def _sweep(self, before: int) -> None:
        """Results that no row tells of any more, once per day: a database may have been lost."""
        if self._swept_at is not None and time.monotonic() - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = time.monotonic()
        for job_id in self._results.older_than(before):
            job = self._book.store.job(job_id)
            if job is None or (job.settled_at is not None and job.settled_at < before):
                with contextlib.suppress(OSError):
                    self._results.forget(job_id)
