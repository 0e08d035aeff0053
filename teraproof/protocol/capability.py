# SPDX-License-Identifier: Apache-2.0
"""Capabilities: what a juror must be able to run, in one number.

    capability = keccak256("kind|runtime|hardware")         as a uint256

`kind` and `runtime` are those of the specification. `hardware` is `cpu` for a job without GPUs,
else the class of GPU that it ran on, and from two GPUs on their number: `nvidia-h100`,
`nvidia-h100x8`. An order that a court decides names one, and jurors register theirs. Two parties
that write a class in two ways name two capabilities, so `gpu_class` is the one writer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eth_utils.crypto import keccak

from teraproof.errors import WrongInput
from teraproof.protocol.jobspec import JobSpec

CPU = "cpu"
#: What a job may be, by the schema of specifications.
KINDS = ("batch", "finetune", "inference", "train")

_RUNTIME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HARDWARE = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
# Makers' and families' words, and the size of the memory: cards that differ in these alone compute
# alike. What is left tells the chip and its form: `pcie`, `sxm4`, `nvl`, `ti`, `mig-1g.10gb`.
_DROPPED = re.compile(r"nvidia|tesla|geforce|graphics|gpu|generation|device|[0-9]+gb|hbm[0-9]*e?")
_PARTED = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True)
class Capability:
    """A kind of job, a runtime and a class of hardware. WrongInput where a part is malformed."""

    kind: str
    runtime: str
    hardware: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise WrongInput(f"capability: the kind is one of {', '.join(KINDS)}")
        if not _RUNTIME.fullmatch(self.runtime):
            raise WrongInput(f"capability: {self.runtime!a} is not a name of a runtime")
        if not _HARDWARE.fullmatch(self.hardware):
            raise WrongInput(
                f"capability: {self.hardware!a} is not a class of hardware; give cpu, or a GPU's "
                "such as nvidia-h100"
            )

    @classmethod
    def parse(cls, text: str) -> Capability:
        """The inverse of `str`. WrongInput for anything else."""
        parts = text.split("|")
        if len(parts) != 3:
            raise WrongInput(
                f"capability {text!a}: give kind, runtime and hardware, in quotes, such as "
                "'batch|python-ml|cpu'"
            )
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.kind}|{self.runtime}|{self.hardware}"

    def number(self) -> int:
        """The uint256 that names it on chain."""
        return int.from_bytes(capability(self.kind, self.runtime, self.hardware), "big")


@dataclass(frozen=True)
class Bounds:
    """The most that a judged order may ask for: what each juror of its capability must have."""

    cpus: int
    memory_mb: int
    disk_mb: int
    input_mb: int


#: Without GPUs; and what each GPU adds.
_CPU, _GPU = Bounds(2, 4_096, 8_192, 2_048), Bounds(8, 65_536, 131_072, 65_536)


def bounds(gpus: int) -> Bounds:
    """The bounds of judged orders on a number of GPUs."""
    return Bounds(
        *(getattr(_CPU, name) + gpus * getattr(_GPU, name) for name in Bounds.__annotations__)
    )


def beyond(spec: JobSpec) -> str | None:
    """What a judged order must not be, one line; None for one that jurors can run again."""
    if not spec.deterministic:
        return "its specification does not say that it is deterministic"
    if spec.network:
        return "it uses the network"
    wanted, most = spec.resources, bounds(spec.resources.gpus)
    asked = Bounds(wanted.cpus, wanted.memory_mb, wanted.disk_mb, -(-spec.input_bytes() // 2**20))
    for name in Bounds.__annotations__:
        if getattr(asked, name) > getattr(most, name):
            return f"{name} {getattr(asked, name)} is above the {getattr(most, name)} of a juror"
    return None


def capability(kind: str, runtime: str, hardware: str) -> bytes:
    """The 32 bytes that name a capability; `Capability` says which parts are fit."""
    return bytes(keccak(text=f"{kind}|{runtime}|{hardware}"))


def of_job(spec: JobSpec, gpu: str | None = None) -> Capability:
    """What a juror of this job must have. `gpu` is the class of GPU it runs on, as `gpu_class`
    writes it; WrongInput where the job needs GPUs and none is given.
    """
    if spec.resources.gpus == 0:
        return Capability(spec.kind, spec.runtime, CPU)
    if gpu is None:
        raise WrongInput("the job runs on GPUs: name their class, such as nvidia-h100")
    return Capability(spec.kind, spec.runtime, hardware_of(gpu, spec.resources.gpus))


def hardware_of(gpu: str, number: int) -> str:
    """The hardware of a job on this number of GPUs of a class; `cpu` for none."""
    if number == 0:
        return CPU
    return gpu if number == 1 else f"{gpu}x{number}"


def gpu_class(name: str) -> str | None:
    """The class of a GPU by the name that its driver gives (NVML's for NVIDIA); None for a name
    that says nothing.

    "NVIDIA H100 80GB HBM3" is `nvidia-h100`, "NVIDIA A100-SXM4-40GB" is `nvidia-a100-sxm4`.
    """
    words = [word for word in _PARTED.split(name.lower()) if word and not _DROPPED.fullmatch(word)]
    found = "-".join(["nvidia", *words])
    return found if words and _HARDWARE.fullmatch(found) else None
