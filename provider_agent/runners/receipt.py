# SPDX-License-Identifier: Apache-2.0
"""The receipt of a run: what it used, signed by the operator.

The receipt travels with the result; its digest (sha256 of the RFC 8785 JSON) goes on chain in the
attestation. The signature is EIP-191 `personal_sign` over the 32 bytes of the digest. All numbers
are integers, so that no two programs write them differently.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import rfc8785
from eth_account import Account
from eth_account.messages import encode_defunct

from provider_agent.errors import AuthError, RunnerError
from provider_agent.runners.base import Phase, RunRequest, RunState

VERSION = 1
_LARGEST = (1 << 53) - 1  # JSON numbers are doubles in RFC 8785
_FIELDS = {
    "version": int,
    "job": str,
    "cpu_ms": int,
    "gpu_ms": int,
    "peak_memory_bytes": int,
    "energy_mj": int,
    "exit_code": int,
    "started": int,
    "finished": int,
    "devices": list,
}


@dataclass(frozen=True)
class Receipt:
    """What one run of a job used. `job` is the job id as 0x and 64 lower-case hex digits.

    CPU and GPU time in milliseconds (GPU time: held, times devices), memory in bytes, energy of the
    GPUs in millijoules or None where they do not count it, times in unix seconds.
    """

    job: str
    cpu_ms: int
    gpu_ms: int
    peak_memory_bytes: int
    energy_mj: int | None
    exit_code: int
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
        if self.finished < self.started:
            raise RunnerError("a receipt finishes before it starts")

    @classmethod
    def of_run(cls, job: bytes, run: RunRequest, state: RunState) -> Receipt:
        """The receipt of a run that ended by itself. Raises RunnerError for any other."""
        if (
            state.phase is not Phase.EXITED
            or state.exit_code is None
            or state.started is None
            or state.finished is None
        ):
            raise RunnerError(f"run {run.run_id} has no exit code, so there is no receipt for it")
        return cls(
            job="0x" + job.hex(),
            cpu_ms=state.usage.cpu_ms,
            gpu_ms=state.usage.gpu_ms,
            peak_memory_bytes=state.usage.peak_memory_bytes,
            energy_mj=state.usage.energy_mj,
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
            if type(value[name]) is not kind and not (name == "energy_mj" and value[name] is None):
                raise RunnerError(f"receipt field {name} is not of type {kind.__name__}")
        if not all(isinstance(name, str) for name in value["devices"]):
            raise RunnerError("receipt field devices is not a list of names")
        receipt = cls(**{**value, "devices": tuple(value["devices"])})
        if receipt.canonical() != data:
            raise RunnerError("the receipt is not in canonical form (RFC 8785)")
        return receipt


def sign(receipt: Receipt, private_key: bytes) -> bytes:
    """The operator's signature of a receipt: 65 bytes."""
    message = encode_defunct(primitive=receipt.digest())
    return bytes(Account.sign_message(message, private_key).signature)


def signer(receipt: Receipt, signature: bytes) -> str:
    """The address that signed a receipt, with checksum. Raises AuthError for a bad signature."""
    try:
        message = encode_defunct(primitive=receipt.digest())
        return str(Account.recover_message(message, signature=signature))
    except Exception as error:  # eth-account and its back ends raise many kinds for bad bytes
        raise AuthError("the receipt's signature is not valid") from error
