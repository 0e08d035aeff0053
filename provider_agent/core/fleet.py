# SPDX-License-Identifier: Apache-2.0
"""The GPUs of this machine as they are now: looked at again in each cycle.

A GPU that NVML no longer answers for, whose device files are gone, or that has failed a probe after
a run, is off the offer. The others go on. One that failed a probe comes back when it passes one,
also after a start of the agent: what is known of it is kept.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from provider_agent import devices
from provider_agent.core.health import Check
from provider_agent.devices import Device, Survey
from teraproof.errors import counted

log = logging.getLogger(__name__)

_LOOK_EVERY = 2.0  # seconds between two looks, at least
_PROBE_EVERY = 300.0  # seconds between two probes of a GPU that has failed one
_SUSPECTS = "devices.suspects"  # in the memory: reasons by UUID


@dataclass(frozen=True)
class _Suspect:
    reason: str
    probe_at: float


class Memory(Protocol):
    """Where something is kept beyond the process, by name: the store."""

    def meta(self, key: str) -> str | None:
        """What is kept, or None."""
        ...

    def set_meta(self, key: str, value: str) -> None:
        """Keep something."""
        ...


class Fleet:
    """See the module. `look` is for the loop's thread, the rest for any.

    `promised` is how many GPUs the settings promise; 0 on a machine that sells none. Without a
    `memory` nothing is kept.
    """

    def __init__(
        self,
        promised: int,
        survey: Callable[[], Survey] | None = None,
        exists: Callable[[str], bool] = os.path.exists,
        clock: Callable[[], float] = time.monotonic,
        memory: Memory | None = None,
    ) -> None:
        self._promised, self._survey = promised, survey or devices.survey
        self._exists, self._clock, self._memory = exists, clock, memory
        self._suspects = self._remembered()
        self._seen = Survey(())
        self._looked_at = float("-inf")
        self._apart: dict[str, Callable[[], Collection[str]]] = {}
        self._names: dict[str, str] = {}  # of all GPUs that were ever here, by UUID
        self._read()

    def look(self, *, promises: bool = False) -> None:
        """Read the devices again, unless that was just done. `promises`: one is about to be
        promised, so they are read in any case.
        """
        if not promises and self._clock() - self._looked_at < _LOOK_EVERY:
            return
        before = self._seen.faults
        self._read()
        for fault in set(self._seen.faults) - set(before):
            log.warning("devices: %s", fault)
        if before and not self._seen.faults:
            log.warning("devices: all of them answer again")

    def _read(self) -> None:
        self._looked_at = self._clock()
        found = self._survey()
        here, faults = [], list(found.faults)
        for device in found.devices:
            missing = devices.missing_nodes(device, self._exists)
            if missing:
                faults.append(f"GPU {device.index}: {missing[0]} is missing")
            else:
                here.append(device)
        uuids = {device.uuid for device in found.devices}
        gone = [self._names[uuid] for uuid in self._names.keys() - uuids]
        faults += [f"{name} is gone" for name in sorted(gone) if not found.faults]
        self._names |= {device.uuid: f"{device.name} {device.uuid}" for device in found.devices}
        self._seen = Survey(tuple(here), tuple(faults))

    @property
    def usable(self) -> tuple[Device, ...]:
        """The GPUs that a job can be given, in NVML's order."""
        suspects = self._suspects
        return tuple(device for device in self._seen.devices if device.uuid not in suspects)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why there are not more, one line each."""
        suspects = dict(self._suspects)
        here = [device.uuid for device in self._seen.devices if device.uuid in suspects]
        return (*self._seen.faults, *(f"{uuid}: {suspects[uuid].reason}" for uuid in here))

    def free(self, held: Sequence[Device], by: str = "") -> tuple[Device, ...]:
        """The usable GPUs that are not among the given devices of runs, nor held by a module other
        than `by`.
        """
        taken = {device.uuid for device in held}
        for name, held_by in self._apart.items():
            if name != by:
                taken.update(held_by())
        return tuple(device for device in self.usable if device.uuid not in taken)

    def hold(self, by: str, held: Callable[[], Collection[str]]) -> None:
        """Have the GPUs that a module holds now, by their UUIDs, be free for no other. `held` is
        asked from any thread.
        """
        self._apart[by] = held

    def suspect(self, uuids: Sequence[str], reason: str) -> None:
        """Take GPUs off the offer: a run on them failed, and so did a probe."""
        for uuid in uuids:
            log.warning("devices: %s is off the offer: %s", uuid, reason)
            again = self._clock() + _PROBE_EVERY
            self._suspects = {**self._suspects, uuid: _Suspect(reason, again)}
        self._remember()

    def to_probe(self) -> tuple[Device, ...]:
        """The GPUs that are off the offer and may be tried again now."""
        now = self._clock()
        due = {uuid for uuid, one in self._suspects.items() if one.probe_at <= now}
        return tuple(device for device in self._seen.devices if device.uuid in due)

    def probed(self, device: Device, reason: str) -> None:
        """What a probe has found; "" puts the GPU on the offer again."""
        if reason:
            later = replace(self._suspects[device.uuid], probe_at=self._clock() + _PROBE_EVERY)
            self._suspects = {**self._suspects, device.uuid: later}
            return
        log.warning("devices: %s passes a probe: it is on the offer again", device.uuid)
        rest = {uuid: one for uuid, one in self._suspects.items() if uuid != device.uuid}
        self._suspects = rest
        self._remember()

    def _remembered(self) -> dict[str, _Suspect]:
        """Tried as soon as there is time for it."""
        kept = None if self._memory is None else self._memory.meta(_SUSPECTS)
        try:
            found = json.loads(kept or "{}")
            return {str(uuid): _Suspect(str(why), self._clock()) for uuid, why in found.items()}
        except (ValueError, AttributeError):
            log.warning("devices: which GPUs had failed a probe cannot be read")
            return {}

    def _remember(self) -> None:
        if self._memory is not None:
            reasons = {uuid: one.reason for uuid, one in self._suspects.items()}
            self._memory.set_meta(_SUSPECTS, json.dumps(reasons, sort_keys=True))

    def check(self) -> Check:
        """Whether all GPUs that are promised can be used; for the readiness report."""
        there = len(self.usable)
        if there >= self._promised:
            return Check("devices", True, counted(there, "GPU"))
        words = "; ".join(self.faults) or "the others are not there"
        return Check("devices", False, f"{there} of {counted(self._promised, 'GPU')}: {words}")
