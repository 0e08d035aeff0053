# SPDX-License-Identifier: Apache-2.0
"""Which machine a lease was put on. A lease never moves: what is written here is why.

<place>/<lease>.json   the lease as it was asked for, and its machine; on the disk before that
                       machine is asked for anything
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from provider_agent import durable
from provider_agent.runners.base import check_run_id
from provider_agent.runners.lease import Lease, from_json, to_json


@dataclass(frozen=True)
class Placed:
    """A lease and its machine, and whether it was ever to be prepared there."""

    lease: Lease
    machine: str
    prepared: bool


class Book:
    """See the module."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def write(self, lease: Lease, machine: str, *, prepared: bool) -> Placed:
        """Keeps where a lease is."""
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._place / f"{check_run_id(lease.lease_id)}.new"
        made.touch(mode=0o600)  # variables of tenants are secrets
        value = {"machine": machine, "prepared": prepared, "lease": to_json(lease)}
        made.write_text(json.dumps(value))
        durable.sync(made)
        made.replace(self._path(lease.lease_id))
        durable.sync_directory(self._place)
        return Placed(lease, machine, prepared)

    def find(self, lease_id: str) -> Placed | None:
        """Where a lease is; None where nothing is kept."""
        try:
            value = json.loads(self._path(lease_id).read_text())
        except FileNotFoundError:
            return None
        return Placed(from_json(value["lease"]), str(value["machine"]), bool(value["prepared"]))

    def all(self) -> dict[str, str]:
        """The machine of each lease."""
        kept = {path.stem: self.find(path.stem) for path in self._place.glob("*.json")}
        return {lease_id: placed.machine for lease_id, placed in kept.items() if placed}

    def remove(self, lease_id: str) -> None:
        """Nothing of a lease is left anywhere."""
        self._path(lease_id).unlink(missing_ok=True)

    def _path(self, lease_id: str) -> Path:
        return self._place / f"{check_run_id(lease_id)}.json"
