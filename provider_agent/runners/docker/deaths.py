# SPDX-License-Identifier: Apache-2.0
"""How often the containers of leases have died, and when they are started again.

The first time at once, then after pauses that double: what dies at each start costs little. A
container that has run for a while begins from the start again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from provider_agent.runners.lease import ContainerState, Status

_FIRST, _LONGEST = 2.0, 300.0  # seconds
_STEADY = 600.0  # seconds of running after which earlier deaths count no more
_DEAD = (Status.EXITED, Status.OOM)


@dataclass
class _Record:
    deaths: int = 0
    in_a_row: int = 0
    finished: float | None = None
    due: float = 0.0

    def wait(self, now: float) -> None:
        """The pause before the next start."""
        self.in_a_row += 1
        pause = _FIRST * 2 ** min(self.in_a_row - 2, 10) if self.in_a_row > 1 else 0.0
        self.due = now + min(pause, _LONGEST)


class Deaths:
    """See the module. Forgotten when the agent ends: then all are started again at once."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str, int], _Record] = {}
        self._lock = threading.Lock()

    def see(self, lease_id: str, state: ContainerState, now: float) -> ContainerState:
        """The state of a container that does not run, with its deaths; a new one is counted."""
        with self._lock:
            record = self._records.setdefault((lease_id, state.service, state.number), _Record())
            if state.status in _DEAD and state.finished != record.finished:
                record.deaths += 1
                ran = (state.finished or 0.0) - (state.started or 0.0)
                record.in_a_row = 0 if ran > _STEADY else record.in_a_row
                record.finished = state.finished
                record.wait(now)
            return replace(state, deaths=record.deaths)

    def refused(self, lease_id: str, state: ContainerState, now: float) -> None:
        """The engine could not start it: no death, and a pause all the same."""
        with self._lock:
            self._records.setdefault((lease_id, state.service, state.number), _Record()).wait(now)

    def is_due(self, lease_id: str, state: ContainerState, now: float) -> bool:
        """Whether a container that does not run may be started now."""
        with self._lock:
            record = self._records.get((lease_id, state.service, state.number))
            return record is None or now >= record.due

    def count(self, lease_id: str, service: str, number: int) -> int:
        """How often a container was found dead."""
        with self._lock:
            record = self._records.get((lease_id, service, number))
            return 0 if record is None else record.deaths

    def forget(self, lease_id: str) -> None:
        """Its lease is gone."""
        with self._lock:
            for key in [key for key in self._records if key[0] == lease_id]:
                del self._records[key]
