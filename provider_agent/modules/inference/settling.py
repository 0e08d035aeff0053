# SPDX-License-Identifier: Apache-2.0
"""Has the contract pay out what was claimed, when that is worth its gas. Anyone may call it too."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from provider_agent.core.attempts import Attempts
from provider_agent.modules.inference.chain_view import ChannelView
from provider_agent.modules.inference.gas import SETTLE_GAS, Costs
from teraproof.contracts.channels import ChannelsContract
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

#: The action of a transaction that pays out; what was paid before it follows.
SETTLE = "settle"


class Settling:
    """See the module. Used by the loop's thread. `every` are the seconds between two looks."""

    def __init__(
        self,
        *,
        view: ChannelView,
        channels: ChannelsContract,
        token: str,
        attempts: Attempts,
        costs: Costs,
        every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._channels, self._token = view, channels, token
        self._attempts, self._costs, self._clock = attempts, costs, clock
        self._every, self._looked = every, -every
        self._since: dict[str, float] = {}  # when something was due first, by receiver
        #: Units that were claimed and not paid out, at the last look.
        self.due = 0

    def reconcile(self, block: BlockRef, receivers: Iterable[str]) -> None:
        """Have paid out what is due to each of them, if it is time. Raises ChainError."""
        now = self._clock()
        if now - self._looked < self._every:
            return
        self._looked = now
        due = 0
        for receiver in receivers:
            claimed, settled = self._view.due(receiver, block)
            due += claimed - settled
            if claimed <= settled:
                self._since.pop(receiver, None)
                continue
            waited = now - self._since.setdefault(receiver, now)
            if self._costs.can_send and self._costs.is_worth_it(
                claimed - settled, SETTLE_GAS, waited
            ):
                # Named by what was paid before it: however often it is asked for, one is sent.
                self._attempts.begin(
                    f"{receiver}-{settled}", SETTLE, self._channels.settle(receiver, self._token)
                )
        self.due = due
