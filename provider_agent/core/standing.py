# SPDX-License-Identifier: Apache-2.0
"""The provider as the chain has it, for every module.

What its owner sets by hand is read every two minutes; what is locked when a module has news, when a
transaction of ours was mined, and twice per minute. What is stale here is refused by the contract
when a call is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from provider_agent.core.head import goes_on
from teraproof.contracts.staking import StakingContract
from teraproof.deals import lockable
from teraproof.protocol import allow_list
from teraproof.rpc.types import BlockRef

_ZERO_ADDRESS = "0x" + "00" * 20
BY_HAND = 120.0  # seconds for which what the owner sets is good
_LOCKED = 30.0  # seconds for which stake and locks are good while no module has news


@dataclass(frozen=True)
class Provider:
    """The provider on chain at one block. Amounts are TPF wei."""

    owner: str
    operator_is_ours: bool
    active_stake: int
    available: int
    """Collateral that can still be locked: own unlocked stake within the owner's total limit."""
    per_order: int
    only_member_root: bytes
    """Root of an allow-list whose only member is this provider. Longer ones stand in the
    specification.
    """
    consent: int = 0
    """The nonce of the consent under which the operator works; quotes carry it."""


class _Entry(NamedTuple):
    """What the owner sets."""

    owner: str
    operator_is_ours: bool
    per_order: int
    limit: int
    own: int
    consent: int


class _Pool(NamedTuple):
    """What moves by itself."""

    active: int
    locked: int


class Standing:
    """Reads the provider for the loop; any thread may ask for what was read last."""

    def __init__(
        self,
        staking: StakingContract,
        operator: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._staking, self._operator, self._clock = staking, operator, clock
        self._block: BlockRef | None = None
        self._entry: _Entry | None = None
        self._pool: _Pool | None = None
        self._entry_at = self._pool_at = (b"", 0.0)  # block hash, and when it was read
        self._pool_number = 0  # of the block at which it was read
        #: The provider at the last pinned block; None before the first look, or when the operator
        #: works for nobody.
        self.provider: Provider | None = None

    def look(self, block: BlockRef, *, idle: bool = False, last_mined: int = 0) -> Provider | None:
        """The provider at a block, None when the operator works for nobody. Raises ChainError.

        While the modules are `idle` an answer some seconds old will do, unless it was that there is
        no stake yet, or is older than block `last_mined`, where a transaction of ours changed it.
        """
        last, entry, pool, now = self._block, self._entry, self._pool, self._clock()
        if last is not None and not goes_on(self._staking.rpc, last, block):
            entry = pool = None
        # A provider that waits for stake or an operator looks at each block.
        settled = entry is not None and entry.operator_is_ours and bool(pool and pool.active)
        news = False
        if entry is None or self._is_old(self._entry_at, block, BY_HAND if settled else 0.0):
            entry, news = self._read_entry(block), True
            self._entry_at = (block.hash, now)
        ours = self._pool_number < last_mined <= block.number
        lasts = _LOCKED if settled and idle and not ours else 0.0
        if entry is not None and (pool is None or self._is_old(self._pool_at, block, lasts)):
            pool, news = self._read_pool(entry.owner, block), True
            self._pool_at, self._pool_number = (block.hash, now), block.number
        if entry is None:
            pool = None
        self._block, self._entry, self._pool = block, entry, pool
        if news:
            self.provider = None if entry is None or pool is None else _provider(entry, pool)
        return self.provider

    def _is_old(self, at: tuple[bytes, float], block: BlockRef, seconds: float) -> bool:
        return at[0] != block.hash and self._clock() - at[1] >= seconds

    def _read_entry(self, block: BlockRef) -> _Entry | None:
        staking = self._staking
        owner = staking.provider_of(self._operator, block)
        if owner == _ZERO_ADDRESS:
            return None
        limits = staking.lock_limits(owner, block)
        return _Entry(
            owner=owner,
            operator_is_ours=staking.operator_of(owner, block) == self._operator,
            per_order=limits.per_order,
            limit=limits.total,
            own=staking.owner_assets(owner, block),
            consent=staking.consent_nonce(self._operator, block) - 1,
        )

    def _read_pool(self, owner: str, block: BlockRef) -> _Pool:
        pool = self._staking.pool(owner, block)
        return _Pool(pool.active, pool.locked)


def _provider(entry: _Entry, pool: _Pool) -> Provider:
    return Provider(
        owner=entry.owner,
        operator_is_ours=entry.operator_is_ours,
        active_stake=pool.active,
        available=lockable(entry.own, entry.limit, pool.locked),
        per_order=entry.per_order,
        consent=entry.consent,
        only_member_root=allow_list.leaf(entry.owner),
    )
