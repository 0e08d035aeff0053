# SPDX-License-Identifier: Apache-2.0
"""What makes the rounds of a proof: the interface, and the choice of a device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape
from teraproof.protocol.errors import Code

DEVICES = "cpu, numpy, cuda, cuda:0, cuda:0,1, or torch:cuda, torch:xpu, torch:mps, torch:cpu"
PATTERN = r"^(cpu|numpy|cuda(:[0-9]+(,[0-9]+)*)?|torch:(cpu|mps|(cuda|xpu)(:[0-9]+)?))$"
"""What such a name looks like."""
_TORCH = re.compile(r"torch:(cpu|mps|(?:cuda|xpu)(?::\d+)?)")
_CUDA = re.compile(r"cuda(?::(\d+(?:,\d+)*))?")


@dataclass(frozen=True)
class Timings:
    """Seconds that the parts of all rounds so far took; parts may have run at the same time."""

    product: float = 0.0
    generation: float = 0.0
    hashing: float = 0.0

    def plus(self, product: float, generation: float, hashing: float) -> Timings:
        """These and some more seconds."""
        return Timings(self.product + product, self.generation + generation, self.hashing + hashing)


class Engine(Protocol):
    """Makes the rounds of one challenge at a time. Every engine makes the same bytes."""

    @property
    def device(self) -> str:
        """What computes, for people: a name and what makes it fast."""

    def prepare(self, challenge: bytes, shape: Shape) -> None:
        """Make A for a challenge (32 bytes) and keep it; must come before the other calls.

        EngineError when the device has no room for the shape.
        """

    def roots(self, done: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the roots of round len(done), len(done) + 1, ... without end.

        `done` holds the roots of all earlier rounds. The consumer stops by dropping or closing the
        iterator; work on a round not yet yielded is then lost.
        """

    def open(self, t: int, root_two_before: bytes, i: int, j: int) -> tuple[bytes, list[bytes]]:
        """The leaf (512 bytes) that holds row i, column j of round t, and its path upwards.

        The round is computed again; ask for entries of one round one after the other.
        """

    def timings(self) -> Timings:
        """Where the time went since `prepare`."""

    def close(self) -> None:
        """Give memory and threads back. The engine cannot be used afterwards."""


def check_memory(needed: int) -> None:
    """EngineError when the machine has not that many bytes of memory at all."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise EngineError(
            f"this size needs {needed / 2**30:.1f} GiB of memory and the machine has "
            f"{present / 2**30:.1f}; choose a smaller one"
        )


def make_engine(device: str) -> Engine:
    """The engine for a device.

    Args:
        device: `cpu` (the fast one), `numpy` (the plain reference), `cuda` (the first
            GPU), `cuda:1` or `cuda:0,1` (GPUs by number); `torch:` and a device of
            PyTorch, for those that CUDA does not drive.

    Raises EngineError when the name is unknown or the device cannot be used here.
    """
    if device == "numpy":
        return _engine("reference", "ReferenceEngine")
    if device == "cpu":
        return _engine("cpu", "CpuEngine")
    torch = _TORCH.fullmatch(device)
    if torch is not None:
        return _engine("torch.engine", "TorchEngine", torch[1])
    match = _CUDA.fullmatch(device)
    if match is None:
        raise EngineError(f"device {device!r} is unknown; use {DEVICES}", Code.INPUT_INVALID)
    numbers = tuple(int(number) for number in match[1].split(",")) if match[1] else (0,)
    if len(set(numbers)) != len(numbers):
        raise EngineError(f"device {device!r} names a GPU twice", Code.INPUT_INVALID)
    return _engine("cuda.engine", "CudaEngine", numbers)


def _engine(module: str, name: str, *arguments: object) -> Engine:
    """Load an engine only when it is asked for: its libraries are heavy or may be missing."""
    try:
        loaded = import_module(f"provider_agent.prover.{module}")
    except ImportError as error:
        hint = (
            "pip install '.[cuda]' in the checkout" if module == "cuda.engine" else "install NumPy"
        )
        raise EngineError(f"this device needs {error.name}, which is missing: {hint}") from None
    return cast(Engine, getattr(loaded, name)(*arguments))
