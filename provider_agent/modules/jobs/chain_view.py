# SPDX-License-Identifier: Apache-2.0
"""What the jobs duty reads from the chain, and for how long it is good.

A state word is good until there is news of its job, as long as the chain goes on from the block at
which it was read. Whether orders are paused is read once per minute: the contract refuses, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from provider_agent.core.capacity import Capacity, Resource
from provider_agent.core.head import goes_on
from provider_agent.core.standing import BY_HAND, Provider
from provider_agent.modules.jobs.policy import Standing
from teraproof.contracts.jobs import JobsContract
from teraproof.deals import free_score
from teraproof.rpc.errors import Transport
from teraproof.rpc.types import BlockRef

_ZERO_ADDRESS = "0x" + "00" * 20
_MODULE = "jobs"
_MOST_WORDS = 100_000
AT_ONCE = 64  # words that the contract gives in one reading


class _Pause(NamedTuple):
    """Whether and for how long orders were paused, unix seconds and seconds."""

    until: int
    seconds: int


class ChainView:
    """State words of jobs, and the provider's standing in their market, at the pinned block.

    Jobs leave alone the collateral that other modules hold in the ledger.
    """

    def __init__(
        self,
        jobs: JobsContract,
        capacity: Capacity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._capacity, self._clock = jobs, capacity, clock
        self._block: BlockRef | None = None
        self._words: dict[bytes, int] = {}
        self._sure: set[bytes] = set()  # whose words two endpoints have said
        #: Jobs of which endpoints say different things: to be looked at again.
        self.doubted: set[bytes] = set()
        self._score: tuple[Provider, int] | None = None
        self._pause: _Pause | None = None
        self._paused_at = 0.0  # when that was read
        self._fixed: tuple[int, bool] | None = None  # what a contract never changes

    def begin(self, block: BlockRef) -> None:
        """Look at this block from now on. Raises ChainError."""
        last = self._block
        if last is not None and not goes_on(self._jobs.rpc, last, block):
            self._words.clear()
            self._sure.clear()
            self._score = self._pause = None
        self._block = block

    def word(self, job_id: bytes, block: BlockRef) -> int:
        """The state word of a job, as known or as read at this block. Raises ChainError."""
        self.read([job_id], block)
        return self._words[job_id]

    def sure(self, job_id: bytes, block: BlockRef) -> int | None:
        """The same, as two endpoints have it; None when no two say the same. Raises ChainError."""
        self.read_surely([job_id], block)
        if job_id in self._sure:
            return self._words[job_id]
        self.doubted.add(job_id)
        self.forget(job_id)
        return None

    def read_surely(self, job_ids: Sequence[bytes], block: BlockRef) -> None:
        """Read words again as two endpoints have them, at most `AT_ONCE` in one request. Nothing is
        known of any where they differ in one. Raises ChainError.
        """
        unsure = [job_id for job_id in dict.fromkeys(job_ids) if job_id not in self._sure]
        if not unsure:
            return
        try:
            with self._jobs.rpc.agreed():
                words = self._jobs.states(unsure, block)
        except Transport as error:
            if not error.reached:
                raise
            return
        self._words.update(zip(unsure, words, strict=True))
        self._sure.update(unsure)

    def read(self, job_ids: Sequence[bytes], block: BlockRef) -> None:
        """Know the state words of at most `AT_ONCE` jobs; one request for all that are not known.
        Raises ChainError.
        """
        unknown = [job_id for job_id in dict.fromkeys(job_ids) if job_id not in self._words]
        if not unknown:
            return
        if len(self._words) >= _MOST_WORDS:
            self._words.clear()
            self._sure.clear()
            unknown = list(dict.fromkeys(job_ids))
        words = self._jobs.states(unknown, block)
        self._words.update(zip(unknown, words, strict=True))

    def forget(self, job_id: bytes) -> None:
        """Read a job's word again when it is wanted next: there is news, or it has ended."""
        self._words.pop(job_id, None)
        self._sure.discard(job_id)

    def time_of(self, number: int) -> int:
        """The unix time of a block."""
        return self._jobs.rpc.block(number).timestamp

    def standing(self, block: BlockRef, provider: Provider | None) -> Standing | None:
        """The provider's standing; its score is read again whenever its entry was. None without an
        entry. Raises ChainError.
        """
        if provider is None:
            return None
        jobs = self._jobs
        if self._fixed is None:
            has_scores = jobs.scores(block) != _ZERO_ADDRESS
            self._fixed = (jobs.open_margin(block), has_scores)
        open_margin, has_scores = self._fixed
        if self._score is None or self._score[0] is not provider:
            score = free_score(jobs, provider.owner, block) if has_scores else 0
            self._score = (provider, score)
        pause, now = self._pause, self._clock()
        if pause is None or now - self._paused_at >= BY_HAND:
            pause = _Pause(jobs.paused_until(block), jobs.paused_seconds(block))
            self._pause, self._paused_at = pause, now
        found = Standing(
            **asdict(provider),
            open_margin=open_margin,
            has_scores=has_scores,
            orders_paused=pause.until > block.timestamp,
            paused_seconds=pause.seconds,
            free_score=self._score[1],
        )
        held = self._capacity.held_by_others(_MODULE, Resource.COLLATERAL)
        return replace(found, available=max(0, found.available - held))
