# SPDX-License-Identifier: Apache-2.0
"""Who may use a device: one proof at a time, whatever the number of agents on the machine.

Identities that share a device take turns. Each round is done under the device's lock, so all of
them together do no more rounds than one alone; a change of hands costs the round under way.
"""

from __future__ import annotations

import os
from pathlib import Path

from teraproof.locks import MachineLock


def names(device: str) -> list[str]:
    """What a device is made of, by names that mean the same to every process of the machine.

    CUDA counts from the GPUs that a process may see, so the name is what that list says.
    """
    kind, _, numbers = device.removeprefix("torch:").partition(":")
    if kind in ("xpu", "mps"):
        return [f"{kind}-{numbers or 0}"]
    if kind != "cuda":
        return ["cpu"]
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    found = []
    for number in (int(part) for part in (numbers or "0").split(",")):
        known = number < len(visible) and visible[number]
        found.append(f"cuda-{visible[number] if known else number}".replace("/", "_"))
    return sorted(set(found))


class Turn:
    """The right to use a device. Use as a context manager; it waits for its turn."""

    def __init__(self, device: str, directory: Path | None = None) -> None:
        self._parts = [
            (MachineLock(f"proof-{name}-next", directory), MachineLock(f"proof-{name}", directory))
            for name in names(device)
        ]

    def __enter__(self) -> Turn:
        # Always in the same order, so that nobody waits for somebody who waits for him.
        for queue, lock in self._parts:
            queue.take(wait=True)
            lock.take(wait=True)
            queue.release()
        return self

    def __exit__(self, *_: object) -> None:
        for _queue, lock in self._parts:
            lock.release()

    def is_free(self) -> bool:
        """Whether nobody uses the device or waits for it."""
        free = True
        for part in self._parts:
            for lock in part:
                free = lock.take() and free
                lock.release()
        return free

    def wanted(self) -> bool:
        """Whether somebody waits for the device that we have."""
        for queue, _lock in self._parts:
            if not queue.take():
                return True
            queue.release()
        return False
