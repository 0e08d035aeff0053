# SPDX-License-Identifier: Apache-2.0
"""What the benchmark duty reads from the chain, once per block, and what it shows of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from provider_agent.core.standing import Provider
from teraproof.amounts import show_tpf
from teraproof.contracts.benchmark import BenchmarkContract, EpochRecord, ProofRecord, Proven
from teraproof.epochs import rules_of
from teraproof.pog.schedule import Rules, Stage
from teraproof.rpc.types import BlockRef

NO_EPOCH = EpochRecord(bytes(32), 0, 0, bytes(32), 0)
_KEPT = 64  # blocks whose newest epoch is remembered


@dataclass(frozen=True)
class Facts:
    """The newest epoch, as the newest block has it, and our proof, as the pinned block has it.

    What costs money if a reorg takes it back (a commit, an opening) waits for the pinned block;
    what costs nothing (rounds, naming and reading a block) does not.
    """

    now: int
    """Time of the newest block."""
    pinned_now: int
    """Time of the pinned block."""
    owner: str
    epoch: int
    """0 when there was none yet."""
    record: EpochRecord
    """At the newest block."""
    pinned: EpochRecord
    """The same epoch at the pinned block; zeros when it is not there, or has another beacon."""
    stage: Stage
    proof: ProofRecord
    score: int
    """What is proven and backed by stake at the pinned block, integer operations per second."""
    proven: Proven
    proven_in: EpochRecord
    """The epoch of our last proof at the pinned block; zeros when there is none."""

    @property
    def ours(self) -> bool:
        """Whether we have committed to a proof in this epoch."""
        is_here = self.pinned.opened_at > 0 and self.proof.epoch == self.epoch
        return is_here and self.proof.rounds > 0

    @property
    def is_pinned(self) -> bool:
        """Whether the pinned block has this epoch."""
        return self.pinned.opened_at > 0


@dataclass(frozen=True)
class ProofReport:
    """What the agent shows of its proofs. `score` is what stake backs of `proven`, both in integer
    operations per second; `proven_until` is the second until which they count.
    """

    device: str
    epoch: int | None = None
    stage: str = ""
    rounds: int = 0
    committed_rounds: int = 0
    verified: int = 0
    samples: int = 0
    score: int = 0
    proven: int = 0
    proven_until: int = 0
    paused: bool = False
    note: str = ""
    ends_at: int = 0
    """Unix seconds until which samples of the epoch can be opened; 0 without an epoch."""

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> ProofReport:
        """The inverse of `to_text`."""
        return cls(**json.loads(text))

    def to_json(self) -> dict[str, Any]:
        """For `/v1/provider`; rates are text, because they may be larger than JavaScript's."""
        return {**asdict(self), "score": str(self.score), "proven": str(self.proven)}


class EpochView:
    """Reads of the Benchmark contract at the newest and at the pinned block."""

    def __init__(self, contract: BenchmarkContract) -> None:
        self._contract = contract
        self._rules: Rules | None = None
        self._epochs: dict[bytes, tuple[int, EpochRecord]] = {}  # by the hash of the block
        self._proof_at: tuple[bytes, str] | None = None
        self._proof: tuple[ProofRecord, int, Proven, EpochRecord]

    def rules(self, block: BlockRef) -> Rules:
        """What the contract fixes permanently."""
        if self._rules is None:
            self._rules = rules_of(self._contract, block)
        return self._rules

    def facts(self, block: BlockRef, head: BlockRef, owner: str) -> Facts:
        """The newest epoch for a provider; `block` is the pinned one, `head` the newest."""
        rules = self.rules(block)
        if self._proof_at != (block.hash, owner):
            self._proof = self._read_proof(block, owner)
            self._proof_at = (block.hash, owner)
        epoch, record = self._epoch(head)
        pinned_epoch, pinned = self._epoch(block)
        if (pinned_epoch, pinned.beacon) != (epoch, record.beacon):
            pinned = NO_EPOCH
        proof, score, proven, proven_in = self._proof
        stage = rules.stage(record, head.timestamp)
        return Facts(
            now=head.timestamp,
            pinned_now=block.timestamp,
            owner=owner,
            epoch=epoch,
            record=record,
            pinned=pinned,
            stage=stage,
            proof=proof,
            score=score,
            proven=proven,
            proven_in=proven_in,
        )

    def over_before(self, block: BlockRef, first: int) -> int:
        """Epochs below this number are over for good, as two endpoints have it at the pinned block.
        They are asked only where one says that an epoch is over, `first` or a later one.
        """
        if self._epoch(block)[0] <= first:
            return first
        with self._contract.rpc.agreed():
            return self._contract.current_epoch(block)

    def _epoch(self, block: BlockRef) -> tuple[int, EpochRecord]:
        """The newest epoch at a block. What is pinned now was the newest block before."""
        if block.hash not in self._epochs:
            epoch = self._contract.current_epoch(block)
            record = self._contract.epoch_of(epoch, block) if epoch else NO_EPOCH
            while len(self._epochs) >= _KEPT:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[block.hash] = epoch, record
        return self._epochs[block.hash]

    def _read_proof(
        self, block: BlockRef, owner: str
    ) -> tuple[ProofRecord, int, Proven, EpochRecord]:
        proof = self._contract.proof_of(owner, block)
        record = self._contract.epoch_of(proof.epoch, block) if proof.rounds else NO_EPOCH
        score, proven = self._contract.score(owner, block), self._contract.proven(owner, block)
        return proof, score, proven, record


def unfit(facts: Facts, rules: Rules, provider: Provider) -> str:
    """Why nothing could be committed in a window that is open now, or ""."""
    tpf = show_tpf(rules.bond)
    proof, proven_in = facts.proof, facts.proven_in
    binds = rules.binds(proven_in, proof.rounds, proof.verified, facts.now)
    if binds and facts.now >= proven_in.ends_at:
        return (
            f"the proof of epoch {proof.epoch} was not opened: its bond of {tpf} can be slashed "
            f"for {rules.fault_until(proven_in.ends_at) - facts.now} s more, and nothing be "
            "committed"
        )
    if provider.active_stake < rules.bond:
        return f"the stake is below the bond of {tpf}: delegate more"
    opened_at = facts.record.opened_at if facts.stage is Stage.WINDOW else facts.now
    if proof.bond_until >= rules.ends_at(opened_at) + rules.fault_period:
        return ""  # locked, and long enough
    if provider.per_order < rules.bond:
        return f"the owner's limit for one order is below the bond of {tpf}: raise it"
    # A commit that renews the bond unlocks the old one first.
    free = provider.available + (rules.bond if proof.bond_until else 0)
    if free < rules.bond:
        return (
            f"the owner's own free stake, within its limits, is below the bond of {tpf}: "
            "delegate more or raise max_locked"
        )
    return ""
