# SPDX-License-Identifier: Apache-2.0
"""Whether anything else was at work while rates were measured: they mean little then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from provider_agent import devices

_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)  # idle, and idle while a disk is waited for
_TIMES = 8  # those after them are counted in the first two already
_CPU_NOTED, _GPU_NOTED, _DRIFT_NOTED = 0.1, 10, 0.1


class Others:
    """What other programs take of the CPUs from now on."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def share(self) -> float | None:
        """Part of all cores, 0 to 1; None where the system does not tell."""
        now, elapsed = _busy_seconds(), perf_counter() - self._start
        if now is None or self._busy is None or elapsed <= 0:
            return None
        others = now - self._busy - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / (elapsed * (os.cpu_count() or 1))))


def gpus_in_use(found: Sequence[devices.Device]) -> list[str]:
    """GPUs that somebody uses, by name and percent. To be asked before our own work begins."""
    told = []
    for device in found:
        used = devices.sample(device).utilisation_percent if device.kind == "cuda" else None
        if used is not None and used >= _GPU_NOTED:
            told.append(f"{device.kind}:{device.index} was {used} % in use before")
    return told


def notes(before: Sequence[str], others: float | None, drift: float | None) -> list[str]:
    """For people: why the figures may be too low. Empty where nothing speaks for that.

    `before` is what `gpus_in_use` said, `others` the part of the cores that other programs had,
    `drift` by which part the raw rates before and after the proof differ.
    """
    told = list(before)
    if others is not None and others >= _CPU_NOTED:
        told.append(f"other programs had {others:.0%} of the cores")
    if drift is not None and drift >= _DRIFT_NOTED:
        told.append(f"the raw rates before and after the proof differ by {drift:.0%}")
    return told


def _busy_seconds() -> float | None:
    try:
        first = _STAT.read_text("ascii").partition("\n")[0].split()
        times = [int(number) for number in first[1 : 1 + _TIMES]]
    except (OSError, ValueError):
        return None
    if first[:1] != ["cpu"] or len(times) < _IDLE.stop:
        return None
    return float(sum(times) - sum(times[_IDLE])) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system
