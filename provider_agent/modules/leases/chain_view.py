# SPDX-License-Identifier: Apache-2.0
"""What the leases duty reads from the chain, all of it at the pinned block.

What ends a lease here is read again as two endpoints have it: one that lies closes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from provider_agent.core.capacity import Capacity, Resource
from provider_agent.core.head import goes_on
from provider_agent.core.standing import BY_HAND, Provider
from provider_agent.modules.leases.stock import MODULE
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.staking import StakingContract
from teraproof.deals import left_of
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.types import BlockRef

AT_ONCE = 64  # words that the contract gives in one reading


@dataclass(frozen=True, kw_only=True)
class Standing(Provider):
    """The provider at one block, with what the market of leases has for it. Seconds."""

    number: int
    """Of the provider in the contract; 0 before its first lease."""
    open_margin: int
    max_gap: int
    abandon: int
    max_suspension: int
    grace: int
    """Of leases that are opened now."""
    longest: int
    """Time to be ready and term together, at most: no collateral can be locked for longer."""
    has_scores: bool
    orders_paused: bool
    paused_seconds: int
    free_score: int = 0


@dataclass(frozen=True)
class Pulse:
    """What was heard of the provider: when last (unix seconds, 0 for never), and how many live
    seconds there are at the block.
    """

    last: int
    live: int


class _Fixed(NamedTuple):
    open_margin: int
    max_gap: int
    abandon: int
    max_suspension: int
    longest: int
    has_scores: bool


class _Set(NamedTuple):
    """What others set by hand."""

    paused_until: int
    paused_seconds: int
    grace: int


class LeaseView:
    """See the module. Used by the loop's thread."""

    def __init__(
        self,
        leases: LeasesContract,
        capacity: Capacity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._capacity, self._clock = leases, capacity, clock
        self._block: BlockRef | None = None
        self._words: dict[bytes, int] = {}
        self._marks: dict[bytes, int] = {}
        self._pulse: Pulse | None = None
        self._fixed: _Fixed | None = None
        self._set: _Set | None = None
        self._set_at = 0.0
        self._number: tuple[str, int] | None = None
        self._score: tuple[Provider, int] | None = None

    def begin(self, block: BlockRef) -> None:
        """Look at this block from now on. Raises ChainError."""
        last = self._block
        if last is None or last.hash != block.hash:
            self._words, self._marks, self._pulse = {}, {}, None
            if last is not None and not goes_on(self._leases.rpc, last, block):
                self._number = self._score = self._set = None
        self._block = block

    @property
    def block(self) -> BlockRef:
        """The block that is looked at."""
        assert self._block is not None  # `begin` was called
        return self._block

    def read(self, leases: Sequence[bytes]) -> None:
        """Know the words of these leases; a request for every `AT_ONCE`. Raises ChainError."""
        unknown = [one for one in dict.fromkeys(leases) if one not in self._words]
        for start in range(0, len(unknown), AT_ONCE):
            part = unknown[start : start + AT_ONCE]
            self._words.update(zip(part, self._leases.states(part, self.block), strict=True))

    def word(self, lease: bytes) -> int:
        """The state word of a lease. Raises ChainError."""
        self.read([lease])
        return self._words[lease]

    def sure(self, lease: bytes) -> int:
        """The same, read again as two endpoints have it. Raises ChainError."""
        with self._leases.rpc.agreed():
            self._words[lease] = self._leases.state(lease, self.block)
        return self._words[lease]

    def marks(self, lease: bytes) -> int:
        """The second word of a lease. Raises ChainError."""
        if lease not in self._marks:
            self._marks[lease] = self._leases.marks(lease, self.block)
        return self._marks[lease]

    def pulse(self, owner: str) -> Pulse:
        """What was heard of the provider. Raises ChainError."""
        if self._pulse is None:
            self._pulse = Pulse(
                last=self._leases.last_heartbeat(owner, self.block),
                live=self._leases.live_seconds(owner, self.block),
            )
        return self._pulse

    def standing(self, provider: Provider | None, *, news: bool = True) -> Standing | None:
        """The provider's standing; None without an entry. Raises ChainError.

        Without `news` of a lease, a provider that had no number has none.
        """
        if provider is None:
            return None
        leases, block, now = self._leases, self.block, self._clock()
        if self._fixed is None:
            self._fixed = _Fixed(
                open_margin=leases.open_margin(block),
                max_gap=leases.max_gap(block),
                abandon=leases.abandon(block),
                max_suspension=leases.max_suspension(block),
                longest=self._longest(block),
                has_scores=leases.scores(block) != ZERO_ADDRESS,
            )
        known = self._set
        if known is None or now - self._set_at >= BY_HAND:
            known = _Set(
                leases.paused_until(block),
                leases.paused_seconds(block),
                leases.challenge_window(block),
            )
            self._set, self._set_at = known, now
        number = self._number
        if number is None or number[0] != provider.owner or (news and not number[1]):
            number = (provider.owner, leases.number_of(provider.owner, block))
            self._number = number
        if self._score is None or self._score[0] is not provider:
            self._score = (provider, self._free_score(provider.owner, block))
        found = Standing(
            **asdict(provider),
            **self._fixed._asdict(),
            number=number[1],
            grace=known.grace,
            orders_paused=known.paused_until > block.timestamp,
            paused_seconds=known.paused_seconds,
            free_score=self._score[1],
        )
        held = self._capacity.held_by_others(MODULE, Resource.COLLATERAL)
        return replace(found, available=max(0, found.available - held))

    def _longest(self, block: BlockRef) -> int:
        staking = StakingContract(self._leases.rpc, self._leases.staking(block))
        return staking.max_lock(block) - self._leases.lock_margin(block)

    def _free_score(self, owner: str, block: BlockRef) -> int:
        """What no lease has reserved, less what jobs have."""
        assert self._fixed is not None  # read before
        jobs = self._leases.jobs(block)
        if not self._fixed.has_scores or jobs == ZERO_ADDRESS:
            return 0
        reserved = JobsContract(self._leases.rpc, jobs).reserved_score(owner, block)
        return left_of(self._leases.score(owner, block), reserved)
