# SPDX-License-Identifier: Apache-2.0
"""What locks a provider's own stake: orders, the bond of a proof, seats of a juror, leases.

Staking knows who made a lock, and nothing of what it is for: the deployment tells by the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_time, show_tpf
from teraproof.contracts.staking import Locked, Unlocked
from teraproof.errors import counted
from teraproof.market.market import Market


@dataclass(frozen=True)
class Held:
    """A lock that is there now."""

    manager: str
    """The contract that made it."""
    amount: int
    """TPF wei."""
    expires_at: int
    """The last second of its life."""

    def to_json(self) -> dict[str, Any]:
        """For documents; the amount is TPF wei as text."""
        return {
            "manager": self.manager,
            "amount": str(self.amount),
            "expires_at": self.expires_at,
        }


def of_provider(market: Market, provider: str) -> list[Held]:
    """The locks of a provider's own stake now."""
    there: dict[tuple[str, bytes], None] = {}
    for event in market.staking.find_any(
        (Locked, Unlocked), market.registry.start_block, provider=provider
    ):
        if isinstance(event, Locked):
            there[event.manager, event.id] = None
        elif isinstance(event, Unlocked):
            there.pop((event.manager, event.id), None)
    found = []
    for manager, name in there:
        lock = market.staking.lock_of(manager, provider, name, "latest")
        if lock.amount:
            found.append(Held(manager, lock.amount, lock.expires_at))
    return found


def told(market: Market, held: Sequence[Held]) -> list[str]:
    """A line for each contract that has locked something: how much, and what sets it free."""
    names = {one.address: name for name, one in market.registry.contracts.items()}
    by_manager: dict[str, list[Held]] = {}
    for lock in held:
        by_manager.setdefault(lock.manager, []).append(lock)
    return [
        _line(market, names.get(manager, manager), locks) for manager, locks in by_manager.items()
    ]


def _line(market: Market, name: str, locks: Sequence[Held]) -> str:
    shown, number = show_tpf(sum(lock.amount for lock in locks)), len(locks)
    until = show_time(max(lock.expires_at for lock in locks), market.now())
    if name == "Jobs":
        return f"{shown} by {counted(number, 'order')}, free when their jobs end (job list)"
    if name == "Leases":
        return f"{shown} by {counted(number, 'lease')}, free when they end"
    if name == "Benchmark":
        return (
            f"{shown} as the bond of a proof, until {until}; proof release-bond frees it when no "
            "proof is open"
        )
    if name == "Disputes":
        return (
            f"{shown} behind the seats of a juror, until {until}: juror resign gives them up, "
            "juror leave frees the stake (juror status says when)"
        )
    return f"{shown} by {name}, until {until}"
