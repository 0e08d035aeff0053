# SPDX-License-Identifier: Apache-2.0
"""The fastest way of a device that is exact, found by trying all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

from provider_agent.prover.products.base import Way
from provider_agent.prover.products.blas import Float32Blas, Float64Blas
from provider_agent.prover.products.check import is_exact
from provider_agent.prover.products.torch_ways import load, ways
from teraproof.pog.errors import EngineError, brief

# The check needs a few sums that come close to 2^24, and one depth beyond.
_CHECKED = ((32, 64, 480), (64, 64, 3840), (64, 64, 7680))
_DEEP = (24, 24, 132_960)
_LEAST_RUNS, _MOST_RUNS, _RUN_SECONDS = 3, 12, 0.2

AnyWay = TypeVar("AnyWay", bound=Way)


@dataclass(frozen=True)
class Trial:
    """What became of one way: its rate in operations per second, or why it is not used."""

    name: str
    rate: float
    refused: str = ""


@dataclass(frozen=True)
class Chosen(Generic[AnyWay]):
    """The way to use, its rate in operations per second, and what was tried."""

    way: AnyWay
    rate: float
    trials: Sequence[Trial]


def choose(
    candidates: Sequence[AnyWay],
    size: tuple[int, int, int],
    clock: Callable[[], float] = perf_counter,
) -> Chosen[AnyWay]:
    """The fastest exact way.

    Args:
        candidates: ways of one device.
        size: rows, columns and depth of the product that is timed.
        clock: seconds.

    EngineError, with the reasons, when none is exact.
    """
    best: tuple[float, AnyWay] | None = None
    trials = []
    for way in candidates:
        trial = _try(way, size, clock)
        trials.append(trial)
        if not trial.refused and (best is None or trial.rate > best[0]):
            best = trial.rate, way
    if best is None:
        reasons = "; ".join(f"{trial.name}: {trial.refused}" for trial in trials)
        raise EngineError(f"the device has no exact product ({reasons})")
    return Chosen(best[1], best[0], trials)


def _try(way: Way, size: tuple[int, int, int], clock: Callable[[], float]) -> Trial:
    try:
        for shape in (*_CHECKED, _DEEP, size):
            if not is_exact(way, *shape):
                return Trial(way.name, 0.0, "its sums are wrong")
            way.release()
        return Trial(way.name, _rate(way, size, clock))
    # A library says in its own types that it lacks an operator; whatever it is, the way is out.
    except Exception as error:  # noqa: BLE001
        return Trial(way.name, 0.0, brief(error))
    finally:
        way.release()


def _rate(way: Way, size: tuple[int, int, int], clock: Callable[[], float]) -> float:
    """Operations per second, the best of some runs, with entries as in a proof."""
    rows, columns, depth = size
    noise = np.random.default_rng(1)
    left = way.operand(noise.integers(0, 128, (rows, depth), np.uint8))
    right = way.operand(noise.integers(0, 128, (columns, depth), np.uint8))
    times: list[float] = []
    # More runs where they are short: other programs may have a core in some of them.
    while len(times) < _LEAST_RUNS or (len(times) < _MOST_RUNS and sum(times) < _RUN_SECONDS):
        start = clock()
        way.run(left, right, 0, rows)
        times.append(clock() - start)
    return 2 * rows * columns * depth / max(min(times), 1e-9)


def cpu_ways() -> list[Way]:
    """The ways of this machine's CPU; PyTorch's where it is installed."""
    found: list[Way] = [Float32Blas(), Float64Blas()]
    with suppress(EngineError):  # BLAS is always there
        found += ways(load(), "cpu")
    return found
