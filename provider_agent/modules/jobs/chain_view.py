# SPDX-License-Identifier: Apache-2.0
"""What the jobs duty reads from the chain, each thing once per block."""

from __future__ import annotations

from dataclasses import asdict, replace

from provider_agent.core.capacity import Capacity, Resource
from provider_agent.core.standing import Provider
from provider_agent.modules.jobs.policy import Standing
from teraproof.contracts.jobs import JobsContract
from teraproof.deals import free_score
from teraproof.rpc.types import BlockRef

_ZERO_ADDRESS = "0x" + "00" * 20
_MODULE = "jobs"


class ChainView:
    """State words of jobs, and the provider's standing in their market, at the pinned block.

    Jobs leave alone the collateral that other modules hold in the ledger.
    """

    def __init__(self, jobs: JobsContract, capacity: Capacity) -> None:
        self._jobs, self._capacity = jobs, capacity
        self._words: dict[bytes, int] = {}
        self._words_at = b""
        self._standing: tuple[Provider, Standing] | None = None
        self._fixed: tuple[int, bool] | None = None  # what a contract never changes

    def word(self, job_id: bytes, block: BlockRef) -> int:
        """The state word of a job."""
        if self._words_at != block.hash:
            self._words.clear()
            self._words_at = block.hash
        if job_id not in self._words:
            self._words[job_id] = self._jobs.state(job_id, block)
        return self._words[job_id]

    def time_of(self, number: int) -> int:
        """The unix time of a block."""
        return self._jobs.rpc.block(number).timestamp

    def standing(self, block: BlockRef, provider: Provider | None) -> Standing | None:
        """The provider's standing; read again whenever its entry was. None without an entry."""
        if provider is None:
            return None
        if self._standing is None or self._standing[0] is not provider:
            self._standing = provider, self._read(block, provider)
        found = self._standing[1]
        left = max(0, found.available - self._capacity.held_by_others(_MODULE, Resource.COLLATERAL))
        return replace(found, available=left)

    def _read(self, block: BlockRef, provider: Provider) -> Standing:
        jobs = self._jobs
        if self._fixed is None:
            has_scores = jobs.scores(block) != _ZERO_ADDRESS
            self._fixed = (jobs.open_margin(block), has_scores)
        open_margin, has_scores = self._fixed
        return Standing(
            **asdict(provider),
            open_margin=open_margin,
            has_scores=has_scores,
            orders_paused=jobs.paused_until(block) > block.timestamp,
            paused_seconds=jobs.paused_seconds(block),
            free_score=free_score(jobs, provider.owner, block) if has_scores else 0,
        )
