# SPDX-License-Identifier: Apache-2.0
"""What the routes of leases are wired to. Everything here is called from worker threads, several at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from provider_agent.http.limits import ApiLimits
from provider_agent.prover.acceptance.desk import Desk, Place
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.lease_wire import (
    LeaseReport,
    QuoteRequest,
    RegistryLogins,
    SignedLeaseQuote,
)


class SpecDesk(Protocol):
    """Where lease specifications are kept, by the sha256 of their canonical bytes."""

    def has(self, digest: bytes) -> bool:
        """Whether a specification is here."""
        ...

    def take(self, account: str, digest: bytes, data: bytes) -> bool:
        """Keep a specification that `account` has sent; whether it is new. Refused tells why not:
        it is malformed, this provider would never take it, or there is no room.
        """
        ...


class LeaseQuotes(Protocol):
    """Makes and signs quotes."""

    def issue(self, requester: str, request: QuoteRequest) -> SignedLeaseQuote:
        """A quote for this requester. Refused tells why not."""
        ...


class LeaseDirectory(Protocol):
    """The leases that this agent knows."""

    def report(self, lease: bytes) -> LeaseReport | None:
        """How a lease stands; None for one that was never seen."""
        ...

    def log_in(self, lease: bytes, logins: RegistryLogins) -> None:
        """Use these credentials for the images of a lease. Refused for services that it has not,
        and for a lease that is not ours.
        """
        ...

    def save(self, lease: bytes, save: int) -> AskedSave:
        """Have the checkpoint of a lease be saved now; how far that is. `save` is the number of an
        earlier request, or 0. Refused where nothing is saved.
        """
        ...


@dataclass(frozen=True)
class LeasesApi:
    """Everything that the routes need."""

    offer: Callable[[], dict[str, Any]]
    specs: SpecDesk
    quotes: LeaseQuotes
    leases: LeaseDirectory
    desk: Desk
    place_of: Callable[[bytes], Place | None]
    limits: ApiLimits = field(default_factory=ApiLimits)
