# SPDX-License-Identifier: Apache-2.0
"""Lease specifications for tests."""

from __future__ import annotations

from typing import Any

from teraproof.protocol.leasespec import (
    Gpu,
    LeaseSpec,
    Port,
    Resources,
    Service,
    Volume,
    checked,
)

MIB = 1 << 20
IMAGE = "registry.test/web:1"
PINNED = "registry.test/web@sha256:" + "1" * 64


def service(name: str = "web", **changes: Any) -> Service:
    """A small service; `gpus` and `volumes` are of its resources."""
    given: dict[str, Any] = {
        "cpu_millis": 500,
        "memory_bytes": 64 * MIB,
        "shm_bytes": 16 * MIB,
        "root_bytes": 16 * MIB,
    }
    for part in (*given, "gpus", "gpu_sorts", "volumes", "arch"):
        if part in changes:
            given[part] = changes.pop(part)
    if given.get("gpus") and "gpu_sorts" not in given:
        given["gpu_sorts"] = (Gpu("nvidia"),)
    values: dict[str, Any] = {"image": IMAGE, "ports": (Port(80, 80, "tcp", False),)}
    return Service(name=name, resources=Resources(**given), **{**values, **changes})


def spec(*services: Service, **changes: Any) -> LeaseSpec:
    """A specification of these services, or of a small one."""
    values: dict[str, Any] = {"name": "test", "outbound": False, **changes}
    return checked(LeaseSpec(services=services or (service(),), **values))


def volume(name: str = "data", **changes: Any) -> Volume:
    """A volume of 8 MiB at /data."""
    return Volume(**{"name": name, "bytes": 8 * MIB, "mount": "/data", **changes})
