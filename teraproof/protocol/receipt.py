# SPDX-License-Identifier: Apache-2.0
"""The receipt of a run: how it ended, what it used, and what kept it apart.

The receipt travels with the result. The operator's EIP-712 Attestation signs its digest (sha256 of
the RFC 8785 JSON) together with the result's, and the chain keeps both. All numbers are integers,
so that no two programs write them differently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import rfc8785

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol import digests
from teraproof.protocol.outcome import REASONS

VERSION = 3
"""Since 2 the result that is attested with a receipt is sealed, and the receipt says what kept the
run apart. Since 3 the seal is of one job and provider alone (`digests.Origin`)."""
_VERSIONS = (1, 2, 3)
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
    "sandbox": dict,
    "provider": str,
}
_SINCE = {"sandbox": 2, "provider": 3}

_NULLABLE = ("energy_mj", "exit_code")


@dataclass(frozen=True)
class Receipt:
    """What one run of a job used. `job` is the job id as 0x and 64 lower-case hex digits,
    `provider` the owner address that it was run for, in lower case too; empty before version 3.

    CPU and GPU time in milliseconds (GPU time: held, times devices), memory in bytes, energy of the
    GPUs in millijoules or None where they do not count it, times in unix seconds. `reason` is how
    the run ended (one of `outcome.REASONS`), `exit_code` None where a limit ended it. `sandbox` is
    what kept it apart from the machine and to its limits, in the words of `GET /v1/provider`.
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
    sandbox: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise LocalError(f"receipt version {self.version} is unknown; this agent knows 1 to 3")
        if not _is_hex(self.job, 64):
            raise LocalError("a receipt names its job by 0x and 64 lower-case hex digits")
        if self.version >= _SINCE["provider"] and not _is_hex(self.provider, 40):
            raise LocalError("a receipt names its provider by 0x and 40 lower-case hex digits")
        for name, value in asdict(self).items():
            if isinstance(value, int) and not 0 <= value <= _LARGEST:
                raise LocalError(f"receipt field {name} is {value}, outside 0 .. 2^53 - 1")
        if self.reason not in REASONS:
            raise LocalError(f"receipt field reason is {self.reason!r}, which is none that we know")
        if self.finished < self.started:
            raise LocalError("a receipt finishes before it starts")

    def canonical(self) -> bytes:
        """RFC 8785 JSON."""
        value = asdict(self)
        value["devices"] = list(self.devices)
        return rfc8785.dumps({name: value[name] for name in _names(self.version)})

    def digest(self) -> bytes:
        """sha256 of `canonical()`: 32 bytes."""
        return hashlib.sha256(self.canonical()).digest()

    def seal(self, listed: bytes) -> bytes:
        """The seal of the result with this manifest that goes with the receipt, 32 bytes."""
        if self.version < _SINCE["provider"]:
            return digests.manifest_digest(listed)
        return digests.seal(listed, digests.Origin(bytes.fromhex(self.job[2:]), self.provider))

    def result_digest(self, listed: bytes) -> bytes:
        """What is attested with the receipt of the result with this manifest, 32 bytes: before
        version 2 the seal itself.
        """
        sealed = self.seal(listed)
        return sealed if self.version == 1 else digests.attested_as(sealed)

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Reads a receipt. Raises LocalError unless it is one, in canonical form."""
        try:
            value: Any = nesting.loads(data)
        except (ValueError, RecursionError):
            raise LocalError("the receipt is not JSON") from None
        names = _names(value.get("version")) if isinstance(value, dict) else ()
        if not isinstance(value, dict) or set(value) != set(names):
            raise LocalError(f"a receipt has the fields {', '.join(_FIELDS)}")
        for name in names:
            kind = _FIELDS[name]
            if type(value[name]) is not kind and not (name in _NULLABLE and value[name] is None):
                raise LocalError(f"receipt field {name} is not of type {kind.__name__}")
        if not all(isinstance(name, str) for name in value["devices"]):
            raise LocalError("receipt field devices is not a list of names")
        if not all(isinstance(word, str) for word in value.get("sandbox", {}).values()):
            raise LocalError("receipt field sandbox does not say in words what kept the run apart")
        receipt = cls(**{**value, "devices": tuple(value["devices"])})
        if receipt.canonical() != data:
            raise LocalError("the receipt is not in canonical form (RFC 8785)")
        return receipt


def _names(version: object) -> list[str]:
    """The fields of a receipt of a version."""
    known = version if type(version) is int else VERSION
    return [name for name in _FIELDS if _SINCE.get(name, 1) <= known]


def _is_hex(value: str, digits: int) -> bool:
    """Whether a string is 0x and that number of lower-case hex digits."""
    return re.fullmatch(rf"0x[0-9a-f]{{{digits}}}", value) is not None
