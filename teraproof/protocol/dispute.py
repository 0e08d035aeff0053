# SPDX-License-Identifier: Apache-2.0
"""What a dispute is about, and what an operator has said of a job, as the contracts take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.errors import LocalError
from teraproof.protocol.digests import Origin
from teraproof.protocol.terms import address, uint, word

#: The most that a requester may say of its dispute, in one file.
EVIDENCE_BYTES = 1 << 20


@dataclass(frozen=True)
class Case:
    """What a dispute is about (`Case` of Disputes.vy); the event `Opened` carries it."""

    job: bytes
    provider: str
    """Who attested the result: its owner address."""
    requester: str
    operator: str
    """The provider's when the dispute was opened."""
    principal: str
    """Whose operator the requester was then: an owner address; zero for none."""
    capability: bytes
    """Whose jurors decide."""
    result: bytes
    """What was attested: the digest of the first seal."""
    price: int
    """Payment token units."""
    duration: int
    """Seconds that the job may run."""

    def __post_init__(self) -> None:
        for name in ("job", "capability", "result"):
            word(f"case.{name}", getattr(self, name))
        for name in ("provider", "requester", "operator", "principal"):
            object.__setattr__(self, name, address(f"case.{name}", getattr(self, name)))
        uint("case.price", self.price, 256)
        uint("case.duration", self.duration, 256)

    @property
    def origin(self) -> Origin:
        """Which job the result is of, and whose."""
        return Origin(self.job, self.provider)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The nine values in the contract's order."""
        return (
            self.job,
            self.provider,
            self.requester,
            self.operator,
            self.principal,
            self.capability,
            self.result,
            self.price,
            self.duration,
        )

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> Case:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 9:
            raise LocalError(f"case: expected 9 values, got {len(values)}")
        return cls(*values)


@dataclass(frozen=True)
class Statement:
    """What an operator says of a job (`Statement` of Jobs.vy): its Attestation without the job."""

    spec: bytes
    result: bytes
    receipt: bytes
    started: int
    """Unix seconds."""
    finished: int
    """Unix seconds."""

    def __post_init__(self) -> None:
        for name in ("spec", "result", "receipt"):
            word(f"statement.{name}", getattr(self, name))
        uint("statement.started", self.started, 64)
        uint("statement.finished", self.finished, 64)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The five values in the contract's order."""
        return self.spec, self.result, self.receipt, self.started, self.finished

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> Statement:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 5:
            raise LocalError(f"statement: expected 5 values, got {len(values)}")
        return cls(*values)
