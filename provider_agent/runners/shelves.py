# SPDX-License-Identifier: Apache-2.0
"""What a runner of leases offers where it has their files on the agent's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Shelves(Protocol):
    """A runner that has what its leases write on this machine."""

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        """Where the files of a volume are, of the first container of a service of a prepared lease.
        The tenant writes to them: follow no link. What lies next to it is on the same file system,
        and no container sees it. Raises RunnerError.
        """
