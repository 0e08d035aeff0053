# SPDX-License-Identifier: Apache-2.0
"""How jobs end, in one word for everybody.

A job that failed by its own fault is attested and paid like one that succeeded: the chain keeps its
result's digest alone. A result without any outputs is one file of known bytes, so its digest shows
the failure to whoever has nothing but the chain. Where some outputs could be kept, the file lists
the others and lies next to the kept ones. Then only the receipt shows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from teraproof.protocol.digests import Entry, Origin, encode_manifest, result_digest
from teraproof.protocol.terms import Status

FAILURE = "failure.json"
DELIVERED = "delivered"
"""For people: there is a result with outputs. It takes the receipt to say more."""
_EXIT_CODES = (None, *range(256))


class Outcome(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"  # exit code 0, and the outputs are there
    FAILED = "failed"  # another exit code, a limit, or outputs that are missing
    TIMED_OUT = "timed_out"  # its own timeout ended it
    PROVIDER_FAULT = "provider_fault"  # no result will come, and the job is not to blame
    REFUSED = "refused"  # the requester refused the result
    REFUNDED = "refunded"  # jurors, or the operator's own signatures, were against the result
    EXPIRED = "expired"  # the deadline passed without a result
    CANCELLED = "cancelled"  # nobody took it


# Values of `runners.base.Reason`; a test compares them.
_FAILED = ("exited", "memory", "disk", "output", "pids", "outputs")
_PROVIDER = ("killed", "sandbox-failed", "machine", "device")
_TIMEOUT = "timeout"
#: Every reason for which a run ends.
REASONS = (*_FAILED, *_PROVIDER, _TIMEOUT)
_BY_STATUS = {
    Status.REFUSED: Outcome.REFUSED,
    Status.REFUNDED: Outcome.REFUNDED,
    Status.EXPIRED: Outcome.EXPIRED,
    Status.CANCELLED: Outcome.CANCELLED,
}


@dataclass(frozen=True)
class Ending:
    """How a run ended: its reason, and the exit code where it ended by itself."""

    reason: str
    exit_code: int | None

    @property
    def outcome(self) -> Outcome:
        """What that means for the job."""
        if self.reason == "exited" and self.exit_code == 0:
            return Outcome.SUCCEEDED
        if self.reason == _TIMEOUT:
            return Outcome.TIMED_OUT
        return Outcome.PROVIDER_FAULT if self.reason in _PROVIDER else Outcome.FAILED

    def __str__(self) -> str:
        """For people."""
        if self.outcome is Outcome.FAILED and self.reason == "exited":
            return f"failed (exit code {self.exit_code})"
        words = self.outcome.replace("_", " ")
        return f"{words} ({self.reason})" if self.outcome is Outcome.FAILED else words

    def failure(self, unfit: Sequence[tuple[str, str]] = (), salt: bytes | None = None) -> bytes:
        """The file in the result of a job that failed by its own fault (RFC 8785).

        `unfit` are outputs that are not kept: path and reason. `salt` is for an order that a court
        may judge: bytes that nobody knows who has not got the file, so that no juror can guess it.
        """
        value: dict[str, Any] = {"exit_code": self.exit_code, "reason": self.reason}
        if salt is not None:
            value["salt"] = salt.hex()
        if unfit:
            value["unfit"] = [{"path": path, "reason": reason} for path, reason in unfit]
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    def failure_manifest(self) -> bytes:
        """The manifest of a result that is this failure and nothing else."""
        data = self.failure()
        return encode_manifest([Entry(FAILURE, len(data), hashlib.sha256(data).hexdigest())])


def same_failure(ours: bytes, theirs: bytes) -> bool:
    """Whether two failure files say the same, whatever their salts are."""
    try:
        one, other = json.loads(ours), json.loads(theirs)
    except (ValueError, RecursionError):
        return False
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    return {**one, "salt": None} == {**other, "salt": None}


def by_status(status: Status) -> Outcome | None:
    """What the chain's status alone tells; None where the result must be looked at."""
    return _BY_STATUS.get(status)


@lru_cache(maxsize=4_096)
def of_result(digest: bytes, origin: Origin) -> Ending | None:
    """How the run ended whose result has this digest on chain, where that is a failure without
    outputs. None for any other: `DELIVERED`, and its receipt says how the run ended.
    """
    for listed, ending in _failures():
        if result_digest(listed, origin) == digest:
            return ending
    return None


@lru_cache(maxsize=1)
def _failures() -> list[tuple[bytes, Ending]]:
    endings = [
        Ending(reason, code)
        for reason in (*_FAILED, _TIMEOUT)
        for code in _EXIT_CODES
        if (reason, code) != ("exited", 0)
    ]
    return [(ending.failure_manifest(), ending) for ending in endings]
