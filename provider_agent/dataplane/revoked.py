# SPDX-License-Identifier: Apache-2.0
"""Which session keys of a lease its tenant has taken back.

A session key says until when it is good, and never for longer than a bound. So what was signed
before a moment is known by its end: it ends within that bound of the moment. Everything that ends
so early is dead; a key that is signed later for the whole time is good.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from provider_agent import durable
from teraproof.protocol.dataplane import LONGEST_DELEGATION, SKEW

log = logging.getLogger(__name__)


class Revoked:
    """See the module. `place` is its file. Safe to use from several threads; `clock` gives unix
    seconds.
    """

    def __init__(self, place: Path, clock: Callable[[], float] = time.time) -> None:
        self._place, self._clock, self._lock = place, clock, threading.Lock()
        self._ends: dict[bytes, int] = {}  # by lease, the last end of a key that is dead
        self._seen: dict[bytes, int] = {}  # by lease, the last end of a key that was used
        self._turns: dict[bytes, int] = {}  # by lease, how often keys were taken back
        with contextlib.suppress(FileNotFoundError):
            try:
                found = json.loads(place.read_bytes())
                self._ends = {bytes.fromhex(lease): int(end) for lease, end in found.items()}
            except FileNotFoundError:
                raise
            except (OSError, ValueError, TypeError, AttributeError):
                # Who cannot say which keys are dead takes none that could be one of them.
                log.warning("data plane: %s cannot be read: older session keys are refused", place)
                self._before = int(clock()) + LONGEST_DELEGATION
                return
        self._before = 0

    def is_dead(self, lease: bytes, expires: int) -> bool:
        """Whether a key of the lease that is good until `expires` was taken back."""
        with self._lock:
            return expires <= max(self._before, self._ends.get(lease, 0))

    def turn(self, lease: bytes) -> int:
        """How often the keys of a lease were taken back, since the start."""
        with self._lock:
            return self._turns.get(lease, 0)

    def used(self, lease: bytes, expires: int, turn: int) -> bool:
        """A key was found good: its end may lie ahead, by as much as two clocks differ. False where
        keys were taken back since `turn`: then it counts as one of them.
        """
        with self._lock:
            if turn != self._turns.get(lease, 0):
                return False
            self._seen[lease] = max(expires, self._seen.get(lease, 0))
            return True

    def take_back(self, lease: bytes) -> None:
        """All keys of the lease that were signed until now are dead. Raises OSError where that is
        so only until the agent starts again.
        """
        with self._lock:
            ends = int(self._clock()) + LONGEST_DELEGATION
            self._turns[lease] = self._turns.get(lease, 0) + 1
            self._ends[lease] = max(ends, self._seen.get(lease, 0), self._ends.get(lease, 0))
            self._write()

    def keep_only(self, leases: Collection[bytes]) -> None:
        """Forget all other leases, and keys that have ended by themselves."""
        now = int(self._clock()) - SKEW
        with self._lock:
            self._seen = {one: end for one, end in self._seen.items() if one in leases}
            self._turns = {one: turn for one, turn in self._turns.items() if one in leases}
            kept = {one: end for one, end in self._ends.items() if one in leases and end >= now}
            if kept != self._ends:
                self._ends = kept
                try:
                    self._write()
                except OSError as error:
                    log.warning("data plane: %s: %s", self._place, error.strerror)

    def _write(self) -> None:
        fresh = self._place.with_name(f".{self._place.name}")
        self._place.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({lease.hex(): end for lease, end in self._ends.items()}))
        durable.sync(fresh)
        os.replace(fresh, self._place)
