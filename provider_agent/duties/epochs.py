# SPDX-License-Identifier: Apache-2.0
"""What the benchmark duty reads from the chain, once a block, and what it shows of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from provider_agent.benchmark.schedule import Rules, Stage
from provider_agent.chain.contracts import BenchmarkContract, EpochRecord, ProofRecord
from provider_agent.chain.rpc import BlockRef
from provider_agent.duties.policy import Standing


@dataclass(frozen=True)
class Facts:
    """The epoch at `now`, the time of the newest block, as the pinned block knows it."""

    now: int
    epoch: int
    stage: Stage
    owner: str
    record: EpochRecord
    proof: ProofRecord
    score: int
    """The proven rate that counts at the pinned block, integer operations a second."""
    earlier: EpochRecord | None
    """The epoch of an earlier proof of ours that was never opened."""

    @property
    def ours(self) -> bool:
        """Whether we have committed to a proof in this epoch."""
        return self.proof.epoch == self.epoch and self.proof.rounds > 0


@dataclass(frozen=True)
class ProofReport:
    """What the agent shows of its proofs; `score` is in integer operations a second."""

    device: str
    epoch: int | None = None
    stage: str = ""
    rounds: int = 0
    committed_rounds: int = 0
    verified: int = 0
    samples: int = 0
    score: int = 0
    paused: bool = False
    note: str = ""

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> ProofReport:
        """The inverse of `to_text`."""
        return cls(**json.loads(text))

    def to_json(self) -> dict[str, Any]:
        """For `/v1/provider`; the score is text, because it may be larger than JavaScript's."""
        return {**asdict(self), "score": str(self.score)}


class EpochView:
    """Reads of the Benchmark contract at the pinned block."""

    def __init__(self, contract: BenchmarkContract) -> None:
        self._contract = contract
        self._rules: Rules | None = None
        self._read: tuple[bytes, int, str] | None = None
        self._found: tuple[EpochRecord, ProofRecord, int, EpochRecord | None]

    def rules(self, block: BlockRef) -> Rules:
        """What the contract fixes for ever."""
        if self._rules is None:
            self._rules = self._contract.rules(block)
        return self._rules

    def facts(self, block: BlockRef, now: int, owner: str) -> Facts | None:
        """The current epoch for a provider; None before the first."""
        rules = self.rules(block)
        epoch = rules.number(now)
        if epoch is None:
            return None
        if self._read != (block.hash, epoch, owner):
            record = self._contract.epoch_of(epoch, block)
            proof = self._contract.proof_of(owner, block)
            left = proof.rounds > 0 and proof.epoch != epoch and proof.verified < rules.samples
            earlier = self._contract.epoch_of(proof.epoch, block) if left else None
            score = self._contract.score(owner, block)
            self._found = record, proof, score, earlier
            self._read = (block.hash, epoch, owner)
        record, proof, score, earlier = self._found
        stage = rules.stage(epoch, record.opened_at, record.drawn_at, now)
        return Facts(now, epoch, stage, owner, record, proof, score, earlier)


def unfit(facts: Facts, rules: Rules, standing: Standing) -> str:
    """Why nothing can be committed in this epoch, or ""."""
    tpf = f"{rules.bond / 10**18:g} TPF"
    proof, earlier = facts.proof, facts.earlier
    if earlier is not None and rules.binds(
        proof.epoch, proof.rounds, proof.verified, earlier.opened_at, earlier.drawn_at, facts.now
    ):
        return (
            f"the proof of epoch {proof.epoch} was not opened: its bond of {tpf} can be slashed "
            f"for {rules.fault_until(proof.epoch) - facts.now} s more, and nothing be committed"
        )
    if standing.active_stake < rules.bond:
        return f"the stake is below the bond of {tpf}: delegate more"
    if proof.bond_until >= rules.end(facts.epoch) + rules.fault_period:
        return ""  # locked, and long enough
    if standing.per_order < rules.bond:
        return f"the owner's limit for one order is below the bond of {tpf}: raise it"
    # A commit that renews the bond unlocks the old one first.
    free = standing.available + (rules.bond if proof.bond_until else 0)
    if free < rules.bond:
        return (
            f"the owner's own free stake, within its limits, is below the bond of {tpf}: "
            "delegate more or raise max_locked"
        )
    return ""
