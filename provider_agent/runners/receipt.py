# SPDX-License-Identifier: Apache-2.0
"""The receipt of a run: how it ended and what it used.

The receipt travels with the result. The operator's EIP-712 Attestation signs its digest (sha256 of
the RFC 8785 JSON) together with the result's, and the chain keeps both. All numbers are integers,
so that no two programs write them differently.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import rfc8785

from provider_agent.errors import RunnerError
from provider_agent.runners.base import Phase, Reason, RunRequest, RunState

VERSION = 1
_LARGEST = (1 << 53) - 1  # JSON numbers are doubles in RFC 8785
_FIELDS = {
    "version": int,
    "job": str,
    "cpu_ms": int,
    "gpu_ms": int,
    "peak_memory_bytes": int,
    "energy_mj": int,
    "reason": str,
    "exit_code": int,
    "started": int,
    "finished": int,
    "devices": list,
}

_NULLABLE = ("energy_mj", "exit_code")


@dataclass(frozen=True)
class Receipt:
    """What one run of a job used. `job` is the job id as 0x and 64 lower-case hex digits.

    CPU and GPU time in milliseconds (GPU time: held, times devices), memory in bytes, energy of the
    GPUs in millijoules or None where they do not count it, times in unix seconds. `reason` is how
    the run ended (a value of `Reason`), `exit_code` None where a limit ended it.
    """

    job: str
    cpu_ms: int
    gpu_ms: int
    peak_memory_bytes: int
    energy_mj: int | None
    reason: str
    exit_code: int | None
    started: int
    finished: int
    devices: tuple[str, ...]
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise RunnerError(f"receipt version {self.version} is unknown; this agent knows 1")
        if len(self.job) != 66 or not self.job.startswith("0x") or self.job != self.job.lower():
            raise RunnerError("a receipt names its job by 0x and 64 lower-case hex digits")
        try:
            bytes.fromhex(self.job[2:])
        except ValueError:
            raise RunnerError("a receipt names its job by 0x and 64 hex digits") from None
        for name, value in asdict(self).items():
            if isinstance(value, int) and not 0 <= value <= _LARGEST:
                raise RunnerError(f"receipt field {name} is {value}, outside 0 .. 2^53 - 1")
        if self.reason not in {reason.value for reason in Reason}:
            raise RunnerError(
                f"receipt field reason is {self.reason!r}, which is none that we know"
            )
        if self.finished < self.started:
            raise RunnerError("a receipt finishes before it starts")

    @classmethod
    def of_run(cls, job: bytes, run: RunRequest, state: RunState) -> Receipt:
        """The receipt of a run that has ended. Raises RunnerError for one that has not."""
        if (
            state.phase is not Phase.EXITED
            or state.reason is None
            or state.started is None
            or state.finished is None
        ):
            raise RunnerError(f"run {run.run_id} has not ended, so there is no receipt for it")
        return cls(
            job="0x" + job.hex(),
            cpu_ms=state.usage.cpu_ms,
            gpu_ms=state.usage.gpu_ms,
            peak_memory_bytes=state.usage.peak_memory_bytes,
            energy_mj=state.usage.energy_mj,
            reason=state.reason.value,
            exit_code=state.exit_code,
            started=state.started,
            # The clock may have been set back during the run.
            finished=max(state.started, state.finished),
            devices=tuple(device.name for device in run.devices),
        )

    def canonical(self) -> bytes:
        """RFC 8785 JSON."""
        value = asdict(self)
        value["devices"] = list(self.devices)
        return rfc8785.dumps(value)

    def digest(self) -> bytes:
        """sha256 of `canonical()`: 32 bytes."""
        return hashlib.sha256(self.canonical()).digest()

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Reads a receipt. Raises RunnerError unless it is one, in canonical form."""
        try:
            value: Any = json.loads(data)
        except ValueError:
            raise RunnerError("the receipt is not JSON") from None
        if not isinstance(value, dict) or set(value) != set(_FIELDS):
            raise RunnerError(f"a receipt has the fields {', '.join(_FIELDS)}")
        for name, kind in _FIELDS.items():
            if type(value[name]) is not kind and not (name in _NULLABLE and value[name] is None):
                raise RunnerError(f"receipt field {name} is not of type {kind.__name__}")
        if not all(isinstance(name, str) for name in value["devices"]):
            raise RunnerError("receipt field devices is not a list of names")
        receipt = cls(**{**value, "devices": tuple(value["devices"])})
        if receipt.canonical() != data:
            raise RunnerError("the receipt is not in canonical form (RFC 8785)")
        return receipt
