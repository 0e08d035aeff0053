# SPDX-License-Identifier: Apache-2.0
"""Whose lease is whose: what the data plane asks of the part of the agent that runs leases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from teraproof.protocol.leasespec import LeaseSpec


class Phase(Enum):
    """How far a lease is."""

    GRACE = "grace"  # the tenant has not confirmed, and grace goes on: no door here is open
    CONFIRMED = "confirmed"
    ENDED = "ended"


@dataclass(frozen=True)
class Holding:
    """A lease and its tenant. `lease` is its id on chain, `lease_id` that of the runner."""

    lease: bytes
    lease_id: str
    requester: str
    """The tenant's address, EIP-55."""
    phase: Phase
    spec: LeaseSpec


class Leaseholders(Protocol):
    """Called from several threads, for each stream and every other second: it answers from what
    the agent knows already.
    """

    def find(self, lease: bytes) -> Holding | None:
        """The lease of this id; None where the agent does not have it. What it raises refuses a
        new stream, and ends none.
        """
        ...

    def holdings(self) -> Collection[Holding]:
        """All leases that have not ended, in whatever phase: the streams and outer ports of all
        others are given up. What it raises changes nothing.
        """
        ...

    def are_all_known(self) -> bool:
        """Whether `holdings` has every lease that goes on. Until then the agent may have lost the
        rows of some: nothing that their tenants have said is forgotten. Asked before `holdings`.
        """
        ...
