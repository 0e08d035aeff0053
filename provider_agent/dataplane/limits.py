# SPDX-License-Identifier: Apache-2.0
"""What strangers and tenants can cost the data plane; seconds and bytes."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

from provider_agent.http.descriptors import RESERVED
from provider_agent.http.limits import ApiLimits


@dataclass(frozen=True)
class PlaneLimits:
    """Each is a bound in one place. A stream holds at most about 1 MiB of memory."""

    opening_seconds: float = 10
    """From the connection to the end of the proof; for the public: of the TLS handshake."""
    connections: int = 512
    """Of tenants, at the tenants' door."""
    connections_per_address: int = 64
    """Of one IPv4 address or IPv6 /64; a /56 has twice as much, a /48 four times."""
    new_connections_per_second: int = 50
    """Of one address, on average."""
    keys_per_minute: int = 60
    """Proofs of one address by keys that are not known yet: each costs 15 ms, or asks a node."""
    proofs_per_minute: int = 1_200
    """Of one address by session keys that are known: each costs 7 ms of one thread."""
    idle_seconds: float = 90
    """Without a frame of the tenant; its program sends one every 20 seconds."""
    connect_seconds: float = 10
    """For a container to take a connection."""
    streams_per_lease: int = 64
    programs_per_lease: int = 16
    """Logs and shells: each holds two threads."""
    programs: int = 128
    public_connections: int = 256
    """At one public port."""
    public_per_address: int = 32
    public_places: int = 4_096
    """Connections at all public ports together."""
    public_idle_seconds: float = 300
    """In which no byte moves either way; HTTP has limits of its own."""
    bytes_per_second: int = 0
    """Of one lease, both ways and all its streams together; 0 for no bound."""
    sweep_seconds: float = 2
    """After which a lease that has ended has no stream any more."""


def fitting(limits: PlaneLimits, files: int) -> PlaneLimits:
    """`limits` with no more connections than `files` open files leave room for, next to what the
    agent and its API need. Each connection has two: its own, and that to a container.
    """
    if files == resource.RLIM_INFINITY:
        return limits
    left = max(8, (files - RESERVED - 2 * ApiLimits().connections) // 2)
    most = min(limits.connections, max(4, left // 3))
    return replace(
        limits,
        connections=most,
        connections_per_address=min(most, limits.connections_per_address),
        public_places=min(limits.public_places, left - most),
    )
