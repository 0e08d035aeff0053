# SPDX-License-Identifier: Apache-2.0
"""Which machine a lease was put on. A lease never moves: what is written here is why.

<place>/<lease>.json   the lease as it was asked for, and its machine; on the disk before that
                       machine is asked for anything
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

from provider_agent import durable
from provider_agent.runners.base import check_run_id
from provider_agent.runners.lease import Lease
from provider_agent.runners.lease_json import from_json, to_json


@dataclass(frozen=True)
class Placed:
    """A lease and its machine."""

    lease: Lease
    machine: str


class Book:
    """See the module. Any thread. No other process writes there."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._known: dict[str, Placed] | None = None

    def write(self, lease: Lease, machine: str) -> Placed:
        """Keeps where a lease is."""
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._place / f"{check_run_id(lease.lease_id)}.new"
        made.touch(mode=0o600)  # variables of tenants are secrets
        made.write_text(json.dumps({"machine": machine, "lease": to_json(lease)}))
        durable.sync(made)
        with self._lock:
            known = self._read()
            made.replace(self._path(lease.lease_id))
            durable.sync_directory(self._place)
            known[lease.lease_id] = Placed(lease, machine)
            return known[lease.lease_id]

    def find(self, lease_id: str) -> Placed | None:
        """Where a lease is; None where nothing is kept."""
        with self._lock:
            return self._read().get(lease_id)

    def all(self) -> dict[str, Placed]:
        """All leases, by their ids."""
        with self._lock:
            return dict(self._read())

    def remove(self, lease_id: str) -> None:
        """Nothing of a lease is left anywhere."""
        with self._lock:
            self._path(lease_id).unlink(missing_ok=True)
            self._read().pop(lease_id, None)

    def _read(self) -> dict[str, Placed]:
        if self._known is None:
            self._known = {}
            for path in self._place.glob("*.json"):
                value = json.loads(path.read_text())
                self._known[path.stem] = Placed(from_json(value["lease"]), str(value["machine"]))
        return self._known

    def _path(self, lease_id: str) -> Path:
        return self._place / f"{check_run_id(lease_id)}.json"
