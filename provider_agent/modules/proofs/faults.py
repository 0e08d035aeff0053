# SPDX-License-Identifier: Apache-2.0
"""Reports proofs of others that were committed and not opened. Reporting is unpaid; a delay of its
own for each provider spreads the work across agents.
"""

from __future__ import annotations

from provider_agent.core.attempts import UNDECIDED, Attempts
from provider_agent.modules.proofs.repository import ProofsRepository
from teraproof.contracts.benchmark import BenchmarkContract, EpochRecord
from teraproof.pog.schedule import Rules
from teraproof.rpc.types import BlockRef

_AT_ONCE = 8  # proofs looked at in one cycle


class Faults:
    """See the module."""

    def __init__(
        self, proofs: ProofsRepository, contract: BenchmarkContract, attempts: Attempts
    ) -> None:
        self._proofs, self._contract, self._attempts = proofs, contract, attempts
        self._epochs: dict[int, EpochRecord] = {}  # those that have ended: nothing changes there

    def report(self, rules: Rules, owner: str, epoch: int, block: BlockRef) -> None:
        """Look at the proofs of epochs up to `epoch`, the newest, and report those that were not
        opened.
        """
        looked, now = 0, block.timestamp
        for old, provider in self._proofs.proofs_before(epoch + 1):
            if looked == _AT_ONCE:
                return
            record = self._ended(old, block)
            if record is None:
                continue
            drawn, late = any(record.draw), now > rules.fault_until(record.ends_at)
            if provider == owner or not drawn or late:
                self._proofs.drop_proof(old, provider)
                continue
            if now < record.ends_at + rules.fault_delay(owner, old, provider):
                continue
            name, action = str(old), f"fail-{provider}"
            if any(intent.state in UNDECIDED for intent in self._attempts.made(name, action)):
                continue
            looked += 1
            proof = self._contract.proof_of(provider, block)
            if proof.epoch == old and proof.rounds > 0 and proof.verified < rules.samples:
                data = self._contract.fail(provider)
                until = rules.fault_until(record.ends_at)
                self._attempts.begin(name, action, data, deadline=until)
            else:
                self._proofs.drop_proof(old, provider)

    def _ended(self, epoch: int, block: BlockRef) -> EpochRecord | None:
        """An epoch that has ended at a block; None for one that has not."""
        if epoch not in self._epochs:
            record = self._contract.epoch_of(epoch, block)
            if block.timestamp < record.ends_at:
                return None
            self._epochs = {epoch: record}  # they come in order: one is enough
        return self._epochs[epoch]
