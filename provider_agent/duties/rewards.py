# SPDX-License-Identifier: Apache-2.0
"""The rewards duty: claims the provider's rewards of ended epochs, many in a call.

Epochs are looked at once, from the first one on: below a cursor in the store all are claimed or
empty. Anyone may claim for a provider, so what is still open is read from the chain, never assumed.
"""

from __future__ import annotations

import logging
import sqlite3

from provider_agent.benchmark.schedule import Rules
from provider_agent.chain.contracts import BenchmarkContract, EmissionsContract
from provider_agent.chain.rpc import BlockRef
from provider_agent.duties.attempts import UNDECIDED, Attempts
from provider_agent.errors import ChainError
from provider_agent.settings import RewardsSettings
from provider_agent.store import IntentState, Store

log = logging.getLogger(__name__)

CONTRACT = "rewards"
UNCLAIMED = "rewards.unclaimed"  # in the store's meta, TPF wei
_CURSOR = "rewards.cursor"
_LOOK_AT = 32  # epochs in one cycle
_MOST = 64  # epochs in one claim
_TPF = 10**18


class RewardsDuty:
    """See the module. Called from one thread."""

    def __init__(
        self,
        *,
        settings: RewardsSettings,
        store: Store,
        benchmark: BenchmarkContract,
        emissions: EmissionsContract,
        attempts: Attempts,
    ) -> None:
        self._settings, self._store, self._attempts = settings, store, attempts
        self._benchmark, self._emissions = benchmark, emissions
        self._rules: Rules | None = None
        self._owner = ""
        self._next = 0  # first epoch not looked at
        self._open: dict[int, int] = {}  # epoch -> reward not yet claimed, TPF wei
        self._claiming = False
        #: TPF wei that could be claimed at the last pinned block.
        self.unclaimed = 0

    def reconcile(self, block: BlockRef, owner: str | None) -> None:
        """Claim what is worth it at this block. Raises ChainError; other faults are logged."""
        if owner is None:
            return
        try:
            self._reconcile(block, owner)
        except (ChainError, sqlite3.Error):
            raise
        except Exception:
            # Rewards wait; jobs and proofs do not.
            log.exception("rewards were not reconciled")

    def _reconcile(self, block: BlockRef, owner: str) -> None:
        if self._rules is None:
            self._rules = self._benchmark.rules(block)
        current = self._rules.number(block.timestamp)
        if current is None:
            return
        if owner != self._owner:
            self._owner, self._open = owner, {}
            self._next = int(self._store.meta(f"{_CURSOR}.{owner}") or 0)
        made = self._attempts.made(owner)
        if made and made[-1].state in UNDECIDED:
            self._claiming = True
            return
        if self._claiming and made:
            # The pinned block may be behind the claim: look until it shows what came of it.
            gone = self._look_again(block, owner)
            self._claiming = bool(self._open) and not gone and made[-1].state is IntentState.FINAL
        self._look(block, owner, current)
        self._claim(owner, current)
        self._show()

    def _look(self, block: BlockRef, owner: str, current: int) -> None:
        """Read the rewards of epochs that have ended since the last look."""
        until = min(current, self._next + _LOOK_AT)
        for epoch in range(self._next, until):
            amount = self._emissions.reward_of(owner, epoch, block)
            if amount and not self._emissions.claimed(owner, epoch, block):
                self._open[epoch] = amount
        self._next = max(self._next, until)
        self._keep_cursor()

    def _look_again(self, block: BlockRef, owner: str) -> bool:
        """Whether a claim has left fewer epochs open than there were."""
        before = len(self._open)
        for epoch in list(self._open):
            if self._emissions.claimed(owner, epoch, block):
                log.info("rewards of epoch %s: %.6g TPF", epoch, self._open.pop(epoch) / _TPF)
        return len(self._open) < before

    def _claim(self, owner: str, current: int) -> None:
        if not self._open:
            return
        epochs = sorted(self._open)[:_MOST]
        amount = sum(self._open[epoch] for epoch in epochs)
        ripe = current - epochs[0] >= self._settings.claim_every_epochs
        if ripe and amount >= self._settings.min_claim * _TPF:
            action = f"claim-{epochs[0]}-{epochs[-1]}"
            self._attempts.begin(owner, action, self._emissions.claim(owner, epochs))
            self._claiming = True

    def _keep_cursor(self) -> None:
        """Below the cursor nothing is open; the epochs above are read again after a restart."""
        cursor = min([self._next, *self._open])
        name = f"{_CURSOR}.{self._owner}"
        if self._store.meta(name) != str(cursor):
            self._store.set_meta(name, str(cursor))

    def _show(self) -> None:
        self.unclaimed = sum(self._open.values())
        if self._store.meta(UNCLAIMED) != str(self.unclaimed):
            self._store.set_meta(UNCLAIMED, str(self.unclaimed))
