# SPDX-License-Identifier: Apache-2.0
"""What of a lease specification this data plane does not carry: refused by name, before a quote."""

from __future__ import annotations

from collections.abc import Iterator

from provider_agent.dataplane.plane import PlaneSettings
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec, Port


def refusal(spec: LeaseSpec, settings: PlaneSettings) -> Refused | None:
    """Why a lease's public ports cannot be opened here; None where all of them can.

    `http_options` and `accept` are kept as they are, so there is nothing to refuse of them but
    names where none are offered.
    """
    for where, port in _public(spec):
        if port.protocol != "tcp":
            return _unfit(f"{where} is UDP, which is not carried to the public; use TCP")
        if port.hosts and settings.names_port is None:
            return _unfit(f"{where} has `accept`, and the provider offers no names; leave it out")
        if settings.outer is None and not port.hosts:
            return _unfit(f"{where} is public, and the provider offers no public ports")
    wanted = sum(1 for _ in _public(spec))
    if settings.outer is not None and wanted > settings.outer[1] - settings.outer[0] + 1:
        return _unfit(f"the lease has {wanted} public ports, more than the provider offers")
    return None


def _public(spec: LeaseSpec) -> Iterator[tuple[str, Port]]:
    for service in spec.services:
        for port in service.ports:
            if port.public:
                yield f"{service.name}: port {port.as_port}", port


def _unfit(line: str) -> Refused:
    return Refused(Code.LEASE_UNFIT, line)
