# SPDX-License-Identifier: Apache-2.0
"""The rewards duty: claims the provider's reward of its last epoch as soon as that has ended.

There is one such epoch at most: the next commit settles it if nobody has. Until then stake that
comes in waits outside the pool, so a claim is never put off, however little it brings. Anyone may
claim for a provider, so what is still open is read from the chain, never assumed.
"""

from __future__ import annotations

import logging

from provider_agent.core.attempts import Attempts
from provider_agent.store import Store
from teraproof.amounts import show_tpf
from teraproof.contracts.benchmark import BenchmarkContract, ProofRecord
from teraproof.contracts.emissions import EmissionsContract
from teraproof.epochs import rules_of
from teraproof.pog.schedule import Rules
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

CONTRACT = "rewards"
UNCLAIMED = "rewards.unclaimed"  # in the store's meta, TPF wei


class RewardsDuty:
    """See the module. Called from one thread."""

    def __init__(
        self,
        *,
        store: Store,
        benchmark: BenchmarkContract,
        emissions: EmissionsContract,
        attempts: Attempts,
    ) -> None:
        self._store, self._attempts = store, attempts
        self._benchmark, self._emissions = benchmark, emissions
        self._rules: Rules | None = None
        self._read: tuple[bytes, str] | None = None
        self._proof: ProofRecord | None = None  # scored and not yet settled
        self._ends_at = 0
        self._told: tuple[str, int, int] | None = None  # owner, epoch, TPF wei to come
        #: TPF wei of the last epoch, claimable when that has ended; at the last pinned block.
        self.unclaimed = 0

    def reconcile(self, block: BlockRef, head: BlockRef, owner: str | None) -> None:
        """Claim what has ended; `block` is pinned, `head` the newest. Raises ChainError."""
        if owner is None:
            return
        if self._read != (block.hash, owner):
            self._look(block, owner)
            self._read = (block.hash, owner)
        if self._proof is not None and head.timestamp >= self._ends_at:
            action = f"claim-{self._proof.epoch}"
            self._attempts.begin(owner, action, self._emissions.claim(owner))

    def _look(self, block: BlockRef, owner: str) -> None:
        """Read what is still to be claimed."""
        if self._rules is None:
            self._rules = rules_of(self._benchmark, block)
        proof = self._benchmark.proof_of(owner, block)
        open_ = proof.rounds > 0 and proof.verified == self._rules.samples and not proof.settled
        self.unclaimed, self._proof = 0, None
        if open_:
            self._ends_at = self._benchmark.epoch_of(proof.epoch, block).ends_at
            self.unclaimed = self._emissions.reward_of(owner, proof.epoch, block)
            self._proof = proof
        self._tell(owner, proof)
        if self._store.meta(UNCLAIMED) != str(self.unclaimed):
            self._store.set_meta(UNCLAIMED, str(self.unclaimed))

    def _tell(self, owner: str, proof: ProofRecord) -> None:
        """Log a reward once it is paid, whoever has claimed it."""
        told = self._told
        if told is not None and told[:2] == (owner, proof.epoch) and proof.settled:
            log.info("reward of epoch %s: %s", proof.epoch, show_tpf(told[2]))
        self._told = None if self._proof is None else (owner, proof.epoch, self.unclaimed)
