# SPDX-License-Identifier: Apache-2.0
"""Reports proofs of others that were committed and not opened. Whoever does it gains nothing by it
but honest scores, so agents take turns in looking first.
"""

from __future__ import annotations

from provider_agent.benchmark.schedule import Rules, stagger
from provider_agent.chain.contracts import BenchmarkContract
from provider_agent.chain.rpc import BlockRef
from provider_agent.duties.attempts import UNDECIDED, Attempts
from provider_agent.store import Store

_AT_ONCE = 8  # proofs looked at in one cycle


class Faults:
    """See the module."""

    def __init__(self, store: Store, contract: BenchmarkContract, attempts: Attempts) -> None:
        self._store, self._contract, self._attempts = store, contract, attempts

    def report(self, rules: Rules, owner: str, epoch: int, block: BlockRef) -> None:
        """Look at the proofs of epochs before `epoch`, and report those that were not opened."""
        looked = 0
        for old, provider in self._store.proofs_before(epoch):
            if looked == _AT_ONCE:
                return
            if provider == owner or block.timestamp > rules.fault_until(old):
                self._store.drop_proof(old, provider)
                continue
            delay = stagger(owner, old, f"fail {provider}", rules.fault_period)
            if block.timestamp < rules.end(old) + delay:
                continue
            name, action = str(old), f"fail-{provider}"
            if any(intent.state in UNDECIDED for intent in self._attempts.made(name, action)):
                continue
            looked += 1
            proof = self._contract.proof_of(provider, block)
            unopened = proof.epoch == old and proof.rounds > 0 and proof.verified < rules.samples
            if unopened and self._contract.epoch_of(old, block).drawn_at:
                data = self._contract.fail(provider)
                self._attempts.begin(name, action, data, deadline=rules.fault_until(old))
            else:
                self._store.drop_proof(old, provider)
