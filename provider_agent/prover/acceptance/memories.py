# SPDX-License-Identifier: Apache-2.0
"""The memory that belongs to an engine's device."""

from __future__ import annotations

from provider_agent.prover.acceptance.memory import HostMemory, Memory, NoMemory
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.cuda.memory import CudaMemory
from provider_agent.prover.engine import Engine
from teraproof.pog.errors import EngineError


def open_memory(engine: Engine, device: str) -> Memory:
    """The memory of an engine's device, whose name is the one that `make_engine` took.

    A device that PyTorch alone drives shows none. EngineError for an engine of several GPUs: each
    is a device of the lease by itself.
    """
    if isinstance(engine, CudaEngine):
        if len(engine.devices) != 1:
            raise EngineError(f"{device} is several GPUs; name each as a device of the lease")
        return CudaMemory(engine.devices[0])
    return HostMemory() if device in ("cpu", "numpy", "torch:cpu") else NoMemory()
