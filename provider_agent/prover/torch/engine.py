# SPDX-License-Identifier: Apache-2.0
"""The engine for whatever PyTorch drives: the device multiplies, the CPU does the rest.

It runs where no kernels of ours do: AMD (ROCm), Intel (XPU), Apple (MPS), and a CUDA card without
CuPy. What is slow: entries and hashes are made by NumPy on the host, and every round's entries and
sums cross the bus. A fast GPU waits for the host most of the time, so a proof shows far less than
the card can multiply; `bench` tells how much less. On NVIDIA cards `cuda` is the engine to use.
"""

from __future__ import annotations

from provider_agent.prover.cpu import CpuEngine
from provider_agent.prover.products import torch_ways
from provider_agent.prover.products.base import Way
from provider_agent.prover.products.choose import Chosen, choose

_TRIAL, _CPU_TRIAL = (2048, 2048, 7680), (256, 256, 1920)


class TorchEngine(CpuEngine):
    """Products on a device of PyTorch, everything else on the CPU; an `Engine`."""

    def __init__(self, device: str) -> None:
        """`device` as PyTorch names it. EngineError without it, or where nothing is exact."""
        self._torch = torch_ways.load()
        self._device = device
        super().__init__()

    def _choose(self) -> Chosen[Way]:
        trial = _CPU_TRIAL if self._device == "cpu" else _TRIAL
        return choose(torch_ways.ways(self._torch, self._device), trial)

    def _name(self) -> str:
        return f"torch:{self._device}, {torch_ways.name_of(self._torch, self._device)}"
