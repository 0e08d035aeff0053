# SPDX-License-Identifier: Apache-2.0
"""Whether the agent follows the chain: what a module needs before it promises anything."""

from __future__ import annotations

from provider_agent.core.clock import ChainClock, Drift
from provider_agent.core.health import Check
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.rpc.types import BlockRef

STALE = 30.0  # seconds without a look at the chain after which nothing is promised


class Following:
    """The chain's clock, and how far the machine's is from it. Told by the loop, asked from any
    thread.
    """

    def __init__(self, clock: ChainClock, drift: Drift, stale: float = STALE) -> None:
        self.clock, self._drift, self._stale = clock, drift, stale

    @classmethod
    def within(cls, margin: float, stale: float = STALE) -> Following:
        """With clocks that may differ by `margin` seconds."""
        return cls(ChainClock(), Drift(margin), stale)

    def see(self, head: BlockRef) -> None:
        """Take the newest block."""
        self._drift.see(head)

    def refuse(self) -> Refused | None:
        """Why nothing is promised now; None when nothing is in the way."""
        if self._drift.is_off:
            return _not_ready("this provider's clock is wrong; try later")
        if self.clock.age() > self._stale:
            return _not_ready("this provider has not seen the chain for a while; try later")
        return None

    def check(self) -> Check:
        """For the readiness report."""
        return self._drift.check()


def _not_ready(line: str) -> Refused:
    return Refused(Code.AGENT_NOT_READY, line)
