# SPDX-License-Identifier: Apache-2.0
"""What the jobs duty reads from the chain, each thing once a block."""

from __future__ import annotations

import time

from provider_agent.modules.jobs.policy import Standing
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.staking import StakingContract
from teraproof.deals import free_score, lockable
from teraproof.protocol import allow_list
from teraproof.rpc.types import BlockRef

_ZERO_ADDRESS = "0x" + "00" * 20
_STANDING_AGE = 5.0  # seconds for which the provider's entry may be old while nothing depends on it


class ChainView:
    """State words of jobs and the provider's standing at the pinned block.

    With `benchmark`, where this provider proves its speed, jobs leave room for its bond.
    """

    def __init__(
        self,
        jobs: JobsContract,
        staking: StakingContract,
        operator: str,
        benchmark: BenchmarkContract | None = None,
    ) -> None:
        self._jobs, self._staking, self._operator = jobs, staking, operator
        self._benchmark = benchmark
        self._bond: int | None = None  # what the contract fixes for ever
        self._words: dict[bytes, int] = {}
        self._words_at = b""
        self._standing: Standing | None = None
        self._standing_at: tuple[bytes, float] = (b"", 0.0)  # block hash, monotonic time
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

    def standing(self, block: BlockRef, *, idle: bool) -> Standing | None:
        """The provider's standing, None when the operator works for nobody. While the duty is
        `idle` an answer some seconds old will do, unless it was that there is no stake yet.
        """
        now = time.monotonic()
        at, looked = self._standing_at
        fresh = at == block.hash
        has_stake = self._standing is not None and self._standing.active_stake > 0
        young = idle and has_stake and now - looked < _STANDING_AGE
        if not fresh and not young:
            self._standing = self._read(block)
            self._standing_at = (block.hash, now)
        return self._standing

    def _read(self, block: BlockRef) -> Standing | None:
        owner = self._staking.provider_of(self._operator, block)
        if owner == _ZERO_ADDRESS:
            return None
        pool = self._staking.pool(owner, block)
        limits = self._staking.lock_limits(owner, block)
        own = self._staking.owner_assets(owner, block)
        if self._fixed is None:
            has_scores = self._jobs.scores(block) != _ZERO_ADDRESS
            self._fixed = (self._jobs.open_margin(block), has_scores)
        open_margin, has_scores = self._fixed
        score = free_score(self._jobs, owner, block) if has_scores else 0
        return Standing(
            owner=owner,
            payout=self._staking.payout_of(owner, block),
            operator_is_ours=self._staking.operator_of(owner, block) == self._operator,
            active_stake=pool.active,
            available=max(
                0, lockable(own, limits.total, pool.locked) - self._bond_to_come(owner, block)
            ),
            per_order=limits.per_order,
            open_margin=open_margin,
            has_scores=has_scores,
            orders_paused=self._jobs.paused_until(block) > block.timestamp,
            paused_seconds=self._jobs.paused_seconds(block),
            consent=self._staking.consent_nonce(self._operator, block) - 1,
            only_member_root=allow_list.leaf(owner),
            free_score=score,
        )

    def _bond_to_come(self, owner: str, block: BlockRef) -> int:
        """TPF wei that the bond of the next proof needs beside what is locked already."""
        if self._benchmark is None:
            return 0
        if self._bond is None:
            self._bond = self._benchmark.bond(block)
        locked = self._benchmark.proof_of(owner, block).bond_until > block.timestamp
        return 0 if locked else self._bond
