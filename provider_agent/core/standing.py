# SPDX-License-Identifier: Apache-2.0
"""The provider as the chain has it, read once per cycle for every module."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from teraproof.contracts.staking import StakingContract
from teraproof.deals import lockable
from teraproof.protocol import allow_list
from teraproof.rpc.types import BlockRef

_ZERO_ADDRESS = "0x" + "00" * 20
_AGE = 5.0  # seconds for which the entry may be old while nothing depends on it


@dataclass(frozen=True)
class Provider:
    """The provider on chain at one block. Amounts are TPF wei."""

    owner: str
    payout: str
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


class Standing:
    """Reads the provider for the loop; any thread may ask for what was read last."""

    def __init__(
        self,
        staking: StakingContract,
        operator: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._staking, self._operator, self._clock = staking, operator, clock
        self._at: tuple[bytes, float] = (b"", 0.0)  # block hash, and when it was read
        #: The provider at the last pinned block; None before the first look, or when the operator
        #: works for nobody.
        self.provider: Provider | None = None

    def look(self, block: BlockRef, *, idle: bool = False) -> Provider | None:
        """The provider at a block, None when the operator works for nobody. Raises ChainError.

        While the modules are `idle` an answer some seconds old will do, unless it was that there is
        no stake yet.
        """
        now = self._clock()
        at, looked = self._at
        has_stake = self.provider is not None and self.provider.active_stake > 0
        young = idle and has_stake and now - looked < _AGE
        if at != block.hash and not young:
            self.provider = self._read(block)
            self._at = (block.hash, now)
        return self.provider

    def _read(self, block: BlockRef) -> Provider | None:
        staking = self._staking
        owner = staking.provider_of(self._operator, block)
        if owner == _ZERO_ADDRESS:
            return None
        pool = staking.pool(owner, block)
        limits = staking.lock_limits(owner, block)
        own = staking.owner_assets(owner, block)
        return Provider(
            owner=owner,
            payout=staking.payout_of(owner, block),
            operator_is_ours=staking.operator_of(owner, block) == self._operator,
            active_stake=pool.active,
            available=lockable(own, limits.total, pool.locked),
            per_order=limits.per_order,
            consent=staking.consent_nonce(self._operator, block) - 1,
            only_member_root=allow_list.leaf(owner),
        )
