# SPDX-License-Identifier: Apache-2.0
"""What a stranger can cost the API."""

from __future__ import annotations

from dataclasses import dataclass

HEADER_BYTES = 16 << 10


@dataclass(frozen=True)
class ApiLimits:
    """What a stranger can cost; seconds and bytes."""

    header_seconds: float = 10
    """For the head of a request, and for an idle connection."""
    body_seconds: float = 10
    """For a small body, and how much later than at the least rate an upload may be."""
    upload_rate: int = 16 << 10
    """The least rate of a body over its whole length, bytes per second."""
    download_rate: int = 16 << 10
    """Slowest reader of an answer tolerated, bytes per second; one that reads nothing has
    `body_seconds`."""
    uploads: int = 32
    uploads_per_account: int = 4
    downloads: int = 32
    downloads_per_account: int = 8
    """Each holds the list of a result's files, which may have 10,000 entries."""
    connections: int = 256
    connections_per_address: int = 32
    """Of one IPv4 address or IPv6 /64; here and below a /56 has twice as much, a /48 four times."""
    new_connections_per_second: int = 100
    """Of one address, on average."""
    requests_per_address: int = 32
    """At once; behind a trusted proxy by the address that it forwards."""
    requests_per_second: int = 200
    """Of one address, on average; ten times as many at once."""
    auth_per_minute: int = 30
    auth_burst: int = 30
    specs_per_minute: int = 120
    """Specifications that an account may send; each costs a little time to check."""
    specs_per_account: int = 32
    """Specifications of an account that no job names yet; posting one costs money."""
    spec_bytes_per_account: int = 2 << 20
    unnamed_spec_bytes: int = 256 << 20
    """Of all accounts together; `spec_bytes` counts those that jobs name as well."""
    spec_bytes: int = 4 << 30
