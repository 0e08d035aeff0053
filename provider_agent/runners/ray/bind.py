# SPDX-License-Identifier: Apache-2.0
"""Which GPUs of a machine a lease gets.

A lease on a fleet may ask for a GPU without a UUID: any one of that name with that much memory. The
machine that it was placed on chooses, among those that NVML shows there and that no other lease
has. What was chosen is on its disk before anything is made, and stays until the lease is gone.

<place>/<lease>.json   the lease as it runs, with its GPUs, and the digest of what was asked for
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from provider_agent import durable
from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.base import check_run_id
from provider_agent.runners.lease import Lease, Service
from provider_agent.runners.lease_json import digest, from_json, to_json


class Bindings:
    """See the module. `look` gives the usable GPUs of this machine."""

    def __init__(self, place: Path, look: Callable[[], Sequence[Device]]) -> None:
        self._place, self._look = place, look
        self._lock = threading.Lock()

    def devices(self) -> tuple[tuple[Device, ...], tuple[Device, ...]]:
        """The GPUs of this machine: all, and those that no lease has."""
        here = tuple(self._look())
        with self._lock:
            held = self._held("")
        return here, tuple(device for device in here if device.uuid not in held)

    def bound(self, lease: Lease) -> Lease:
        """The lease with GPUs of this machine, always the same ones. Raises RunnerError."""
        with self._lock:
            kept = self._find(lease.lease_id)
            if kept is not None:
                if kept[1] != digest(lease):
                    raise RunnerError(
                        f"lease {lease.lease_id} is there, and asks for something else"
                    )
                return kept[0]
            made = self.choose(lease)
            self._write(made, digest(lease))
            return made

    def choose(self, lease: Lease) -> Lease:
        """As `bound`, but nothing is kept."""
        if not any(service.devices for service in lease.services):
            return lease
        held = self._held(lease.lease_id)
        free = [device for device in self._look() if device.uuid not in held]
        services = []
        for service in lease.services:
            given = tuple(_take(free, wanted, service) for wanted in service.devices)
            services.append(replace(service, devices=given))
        return replace(lease, services=tuple(services))

    def ids(self) -> set[str]:
        """The leases for which something is kept."""
        return {path.stem for path in self._place.glob("*.json")}

    def forget(self, lease_id: str) -> None:
        """A lease is gone: its GPUs are free."""
        (self._place / f"{check_run_id(lease_id)}.json").unlink(missing_ok=True)

    def _held(self, but: str) -> set[str]:
        """The UUIDs of the GPUs that leases have, but for one lease."""
        kept = (self._find(lease_id) for lease_id in self.ids() - {but})
        return {
            device.uuid
            for found in kept
            if found is not None
            for service in found[0].services
            for device in service.devices
        }

    def _find(self, lease_id: str) -> tuple[Lease, str] | None:
        try:
            text = (self._place / f"{check_run_id(lease_id)}.json").read_text()
        except FileNotFoundError:
            return None
        value = json.loads(text)
        return from_json(value["lease"]), str(value["asked"])

    def _write(self, lease: Lease, asked: str) -> None:
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._place / f"{check_run_id(lease.lease_id)}.new"
        made.touch(mode=0o600)  # variables of tenants are secrets
        made.write_text(json.dumps({"asked": asked, "lease": to_json(lease)}))
        durable.sync(made)
        made.replace(made.with_name(f"{lease.lease_id}.json"))
        durable.sync_directory(self._place)


def _take(free: list[Device], wanted: Device, service: Service) -> Device:
    """One of the free GPUs that does; it is not free any more."""
    for device in free:
        fits = (
            device.uuid == wanted.uuid
            if wanted.uuid
            else device.name == (wanted.name or device.name)
            and device.memory_bytes >= wanted.memory_bytes
        )
        if fits:
            free.remove(device)
            return device
    what = wanted.uuid or wanted.name or "GPU"
    raise RunnerError(f"{service.name}: no {what} is free on this machine")
