# SPDX-License-Identifier: Apache-2.0
"""What the runner keeps on the disk of each lease.

<data_dir>/leases/<lease>/
    lease.json            what was asked for, written before anything is made
    started               there while its containers have to run
    <service>-<number>/   what one container writes (`storage`)
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from provider_agent import durable
from provider_agent.errors import RunnerError
from provider_agent.runners.base import check_run_id
from provider_agent.runners.docker.storage import Storage
from provider_agent.runners.lease import Lease, Service
from provider_agent.runners.lease_json import digest, from_json, to_json

_LEASE, _STARTED = "lease.json", "started"


class LeaseFiles:
    """See the module. `place` is the directory of all leases."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def of(self, lease_id: str) -> Path:
        """The directory of a lease."""
        return self.place / check_run_id(lease_id)

    def check(self, lease: Lease) -> bool:
        """Whether it is kept. Raises RunnerError where something else is, under its name."""
        kept = self.find(lease.lease_id)
        if kept is not None and digest(kept) != digest(lease):
            raise RunnerError(f"lease {lease.lease_id} is there, and asks for something else")
        return kept is not None

    def write(self, lease: Lease) -> bool:
        """Keeps what was asked for; whether it is new. Raises RunnerError as `check` does."""
        if self.check(lease):
            return False
        directory = self.of(lease.lease_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = directory / "lease.new"
        made.touch(mode=0o600)  # variables of tenants are secrets
        made.write_text(json.dumps(to_json(lease)))
        durable.sync(made)
        made.replace(directory / _LEASE)
        durable.sync_directory(directory)
        return True

    def find(self, lease_id: str) -> Lease | None:
        """What was asked for; None when nothing is kept."""
        try:
            return from_json(json.loads((self.of(lease_id) / _LEASE).read_text()))
        except FileNotFoundError:
            return None

    def read(self, lease_id: str) -> Lease:
        """What was asked for. Raises RunnerError when nothing is kept."""
        found = self.find(lease_id)
        if found is None:
            raise RunnerError(f"there is no lease {lease_id}; prepare it first")
        return found

    def want(self, lease_id: str, started: bool) -> None:
        """Keeps whether its containers have to run."""
        mark = self.of(lease_id) / _STARTED
        if started:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
        durable.sync_directory(mark.parent)

    def wanted(self, lease_id: str) -> bool:
        """Whether its containers have to run."""
        return (self.of(lease_id) / _STARTED).exists()

    def storage(self, lease_id: str, service: Service, number: int) -> Storage:
        """What one container writes to."""
        return Storage(self.of(lease_id) / f"{service.name}-{number}", service)

    def ids(self) -> set[str]:
        """The leases that have a directory."""
        return {path.name for path in self.place.glob("*/")}

    def images(self) -> set[str]:
        """The images that kept leases need."""
        kept = (self.find(lease_id) for lease_id in self.ids())
        return {service.image for lease in kept if lease is not None for service in lease.services}

    def remove(self, lease_id: str) -> None:
        """Unmounts and deletes all of a lease; its containers must be gone. Raises RunnerError."""
        directory = self.of(lease_id)
        for place in directory.glob("*/"):
            Storage.release(place)
        shutil.rmtree(directory, ignore_errors=True)
