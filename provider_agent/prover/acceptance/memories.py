# SPDX-License-Identifier: Apache-2.0
"""The memory that belongs to an engine's device."""

from __future__ import annotations

from provider_agent.prover.acceptance.memory import HostMemory, Memory
from teraproof.pog.errors import EngineError


def open_memory(device: str) -> Memory:
    """The memory of a device, named as `make_engine` takes it, one device at a time.

    EngineError where its memory cannot be filled.
    """
    if device in ("cpu", "numpy", "torch:cpu"):
        return HostMemory()
    raise EngineError(f"the memory of {device} cannot be filled")
