# SPDX-License-Identifier: Apache-2.0
"""Leases as JSON: on the disk of a machine, and on the way to one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from provider_agent.devices import Device
from provider_agent.runners.lease import Lease, Port, Service, Volume


def to_json(lease: Lease) -> dict[str, Any]:
    """A lease as JSON values."""
    return {
        "lease_id": lease.lease_id,
        "outbound": lease.outbound,
        "copies": lease.copies,
        "services": [_service_to_json(service) for service in lease.services],
    }


def _service_to_json(service: Service) -> dict[str, Any]:
    value = dict(vars(service))
    value["env"] = dict(service.env)
    for name in ("ports", "volumes", "devices"):
        value[name] = [dict(vars(part)) for part in value[name]]
    return value


def from_json(value: Mapping[str, Any]) -> Lease:
    """The inverse of `to_json`."""
    services = []
    for one in value["services"]:
        fields = dict(one)
        for name in ("command", "args", "after"):
            fields[name] = tuple(fields[name])
        fields["ports"] = tuple(Port(**port) for port in fields["ports"])
        fields["volumes"] = tuple(Volume(**volume) for volume in fields["volumes"])
        fields["devices"] = tuple(
            Device(**{**device, "caps": tuple(device["caps"])}) for device in fields["devices"]
        )
        services.append(Service(**fields))
    # Leases of earlier versions say nothing of copies.
    return Lease(value["lease_id"], tuple(services), value["outbound"], int(value.get("copies", 0)))


def digest(lease: Lease) -> str:
    """Names what was asked for: two leases of one id are the same where this is."""
    return hashlib.sha256(json.dumps(to_json(lease), sort_keys=True).encode()).hexdigest()
