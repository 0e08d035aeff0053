# SPDX-License-Identifier: Apache-2.0
"""What `provider-agent bench` measures: raw and proven rates of an engine, energy, memory.

The proven rate is the operations of whole rounds over the time from a new challenge to the last
root, A included: what a proof on chain would count. The raw rate is the product alone, on the same
device and by the same way, with entries of the same kind, right before and right after the proof.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np

from provider_agent import devices
from provider_agent.prover.cpu import CpuEngine
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.engine import Engine, Timings
from provider_agent.prover.products.choose import Chosen, Trial
from provider_agent.prover.proof import Proof
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak
from teraproof.pog.opening import verify

Tick = Callable[[float], None]
"""Called with the part that is done, 0 to 1."""

_CONTRACT_SAMPLES = 1
_COPY_BYTES, _GPU_COPY_BYTES = 256 << 20, 1 << 30
_FLOAT_SIDE = 8192
_REPEATS = 20
_FIFTHS, _LEAST_FIFTH = 5, 4


@runtime_checkable
class Raw(Protocol):
    """An engine whose products can be timed alone, made by the same way as in a proof."""

    def raw_product(self, seconds: float) -> tuple[int, float]:
        """Products alone for about that long: operations, seconds."""


@runtime_checkable
class Measured(Protocol):
    """An engine whose parts can be timed alone."""

    def stages(self, rounds: int) -> Timings:
        """Mean seconds of each part of a round that runs alone."""


@dataclass(frozen=True)
class Run:
    """A proof that was made for the clock."""

    proof: Proof
    seconds: float
    timings: Timings
    """Seconds of all rounds by part; parts may have overlapped."""
    marks: Sequence[float]
    """When each root was there, in seconds from the start."""

    @property
    def steady(self) -> float | None:
        """The lowest rate over any fifth of the rounds; None for fewer than 20 rounds."""
        fifth = len(self.marks) // _FIFTHS
        if fifth < _LEAST_FIFTH:
            return None
        longest = max(
            self.marks[end] - self.marks[end - fifth] for end in range(fifth, len(self.marks))
        )
        return self.proof.shape.operations * fifth / longest

    @property
    def rate(self) -> float:
        """Proven operations per second."""
        return self.proof.shape.operations * self.proof.rounds / self.seconds


@dataclass(frozen=True)
class Row:
    """One size of the table. Rates in operations per second, parts in seconds a round.

    `steady` is the lowest proven rate over a fifth of the rounds, None where they were few. `alone`
    says that the parts were timed alone; otherwise they are from the
    proven run itself, where they overlap. `joules` is what the GPUs took while proving, None where
    nobody counts; `checked` that an opening of the proof passed the check of the contract.
    """

    shape: Shape
    rounds: int
    seconds: float
    raw: float
    proven: float
    steady: float | None
    parts: Timings
    alone: bool
    joules: float | None
    checked: bool
    drift: float | None = None
    """By which part the raw rates before and after the proof differ."""

    @property
    def efficiency(self) -> float:
        """Proven over raw rate."""
        return self.proven / self.raw

    @property
    def joules_per_tera(self) -> float | None:
        """Energy of 10^12 proven operations."""
        if self.joules is None:
            return None
        return self.joules / (self.proven * self.seconds / 1e12)


def prove_for(engine: Engine, challenge: bytes, shape: Shape, seconds: float, tick: Tick) -> Run:
    """Make rounds for that long, at least one. The clock starts before A is made."""
    start = perf_counter()
    engine.prepare(challenge, shape)
    roots: list[bytes] = []
    marks: list[float] = []
    spent = 0.0
    rounds = engine.roots(roots)
    while not roots or spent < seconds:
        roots.append(next(rounds))
        spent = perf_counter() - start
        marks.append(spent)
        tick(min(1.0, spent / seconds) if seconds > 0 else 1.0)
    timings = engine.timings()
    del rounds  # ends the rounds that are under way
    return Run(Proof(challenge, shape, tuple(roots)), spent, timings, marks)


def passes(engine: Engine, proof: Proof) -> bool:
    """Whether an opening that nobody chose passes the contract's check; computes a round again."""
    draw = keccak(proof.commitment)
    (sample,) = proof.samples(draw, _CONTRACT_SAMPLES)
    (opening,) = proof.open(engine, [sample])
    verify(opening, sample, proof.challenge, proof.shape, proof.rounds, proof.commitment)
    return True


def row(engine: Engine, shape: Shape, seconds: float, tick: Tick) -> Row:
    """Measure one size: raw rate before and after the proof, the proof itself, its parts.

    The raw rate is the better of the two, so that a GPU that slows down as it warms up does not
    flatter the proof. EngineError when the device cannot hold the shape; OpeningError when the
    device makes wrong proofs.
    """
    warm, challenge = keccak(b"warm up"), keccak(os.urandom(32))
    engine.prepare(warm, shape)
    before = _raw(engine, shape, seconds / 6)
    energy = _energy(engine)
    run = prove_for(engine, challenge, shape, seconds, tick)
    used = _energy(engine)
    after = _raw(engine, shape, seconds / 6)
    raw = None if before is None or after is None else max(before, after)
    if isinstance(engine, Measured):
        parts, alone = engine.stages(2), True
    else:
        timings, rounds = run.timings, run.proof.rounds
        parts = Timings(
            timings.product / rounds, timings.generation / rounds, timings.hashing / rounds
        )
        alone = raw is None
    if raw is None:
        raw = shape.operations / parts.product
    return Row(
        shape=shape,
        rounds=run.proof.rounds,
        seconds=run.seconds,
        raw=raw,
        proven=run.rate,
        steady=run.steady,
        parts=parts,
        alone=alone,
        joules=None if energy is None or used is None else (used - energy) / 1000,
        checked=passes(engine, run.proof),
        drift=None if before is None or after is None else 1 - min(before, after) / raw,
    )


def _raw(engine: Engine, shape: Shape, seconds: float) -> float | None:
    """Operations per second of the product alone; None where only the run itself can tell."""
    if isinstance(engine, Raw):
        operations, took = engine.raw_product(seconds)
        return operations / took
    return None


@dataclass(frozen=True)
class Tried:
    """A way to multiply that was tried on a device, and whether it is the one in use."""

    device: str
    trial: Trial
    used: bool


def tried(engine: Engine) -> list[Tried]:
    """The ways that were tried, by device; none for the plain reference."""
    if isinstance(engine, CudaEngine):
        chosen: list[tuple[str, Chosen[Any]]] = [
            (gpu.name, one) for gpu, one in zip(engine.devices, engine.products, strict=True)
        ]
    elif isinstance(engine, CpuEngine):
        chosen = [(engine.multiplier, engine.products)]
    else:
        return []
    return [
        Tried(device, trial, trial.name == one.way.name)
        for device, one in chosen
        for trial in one.trials
    ]


def gpus_of(engine: Engine) -> list[devices.Device]:
    """What NVML says about the GPUs of an engine; those that it does not know are left out."""
    if not isinstance(engine, CudaEngine):
        return []
    found: list[devices.Device] = []
    known = devices.gpus()
    for gpu in engine.devices:
        matches = [device for device in known if device.uuid.startswith(gpu.uuid)]
        found += matches if len(matches) == 1 else []
    return found


def _energy(engine: Engine) -> int | None:
    """Millijoules that the engine's GPUs took so far; None where one of them does not count."""
    if not isinstance(engine, CudaEngine):
        return None
    found = gpus_of(engine)
    counted = [devices.sample(device).energy_mj for device in found]
    if len(found) < len(engine.devices):
        return None
    total = 0
    for one in counted:
        if one is None:
            return None
        total += one
    return total


def copy_rate() -> float:
    """Bytes per second, read and written, of copies within the machine's memory."""
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        np.copyto(target, source)
        best = min(best, perf_counter() - start)
    return 2 * _COPY_BYTES / best


@runtime_checkable
class Gpu(Protocol):
    """A GPU that can be asked for more than a proof needs."""

    def float_rate(self, kind: str, side: int, repeats: int) -> float:
        """Operations per second of square products of fp16 or bf16."""

    def bandwidth(self, size: int, repeats: int) -> float:
        """Bytes per second of copies within the device."""


@dataclass(frozen=True)
class Information:
    """Rates other than the proof's, of one device; None where the library has no such product."""

    bandwidth: float
    fp16: float | None = None
    bf16: float | None = None
    fp8: float | None = None


def information(engine: Engine) -> Information:
    """Of the first GPU, or of the machine's memory.

    fp8 is always None: cuBLAS offers it through another interface, which CuPy does not carry.
    """
    gpus: Sequence[object] = engine.devices if isinstance(engine, CudaEngine) else ()
    if not gpus or not isinstance(gpus[0], Gpu):
        return Information(copy_rate())
    rates: dict[str, float | None] = {}
    for kind in ("fp16", "bf16"):
        try:
            rates[kind] = gpus[0].float_rate(kind, _FLOAT_SIDE, _REPEATS)
        except EngineError:
            rates[kind] = None  # an old GPU has no bf16, a full one no room
    copies = gpus[0].bandwidth(_GPU_COPY_BYTES, _REPEATS)
    return Information(copies, rates["fp16"], rates["bf16"])
