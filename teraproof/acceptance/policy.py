# SPDX-License-Identifier: Apache-2.0
"""How much a tenant asks of a lease's devices, and what follows from a verdict. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from teraproof.acceptance.checks import Promise, Reason, Verdict
from teraproof.acceptance.format import (
    BLOCK_BYTES,
    MAX_MEMORY_BLOCKS,
    MAX_ROUNDS,
    MAX_SECONDS,
    MAX_SWEEPS,
    NAME,
    Lease,
    Work,
)
from teraproof.pog.format import Shape, bytes32, keccak, word

SECONDS, SWEEP_SECONDS, PATIENCE = 10.0, 2.0, 120
"""The longest time for the rounds and for the sweeps, and how long any step is waited for."""
LEAST_ROUNDS = 3
"""So that a round hangs on an earlier one."""
TRIES = 2
"""Challenges in a row that may fail for a reason that a network can cause as well."""

# What a bad network or a loaded tenant can cause. Everything else is false in itself.
_DOUBTFUL = frozenset((Reason.NO_ANSWER, Reason.TOO_SLOW, Reason.MEMORY_SLOW))


class Decision(StrEnum):
    """What the tenant's tool does."""

    KEEP = "keep"  # the lease goes on; at `ready` it can be confirmed
    AGAIN = "again"  # challenge once more, with new nonces
    REJECT = "reject"  # within grace and not confirmed: no rent, full refund
    CLOSE = "close"  # later: the lease ends now


@dataclass(frozen=True)
class Standing:
    """Where a lease stands for its tenant: the seconds of grace that are left, whether it was
    confirmed, and the challenges that failed in a row before this one.
    """

    grace: float
    confirmed: bool
    failures: int = 0

    @property
    def rejectable(self) -> bool:
        """Whether `reject` is still possible."""
        return not self.confirmed and self.grace > 0


def plan(
    promise: Promise,
    devices: int,
    shape: Shape,
    *,
    seconds: float = SECONDS,
    sweep_seconds: float = SWEEP_SECONDS,
    patience: int = PATIENCE,
) -> Work:
    """The work that keeps devices of this promise busy for about that long.

    Args:
        promise: of the lease.
        devices: of the lease.
        shape: of the rounds; that of the market's `Benchmark`, so that the score means the same.
        seconds: the longest time for the rounds, at the promised score and its tolerance.
        sweep_seconds: the same for reading the memory, at the promised bandwidth.
        patience: seconds after which a step counts as unanswered.

    BenchmarkError where a bound of `Work` is passed.
    """
    rate = promise.score * promise.tolerance / max(1, devices)
    rounds = int(rate * seconds / shape.operations)
    blocks = -(-promise.memory // BLOCK_BYTES)
    sweeps = int(sweep_seconds * promise.bandwidth / (blocks * BLOCK_BYTES)) if blocks else 1
    return Work(
        shape,
        rounds=min(MAX_ROUNDS, max(LEAST_ROUNDS, rounds)),
        devices=devices,
        blocks=min(MAX_MEMORY_BLOCKS, blocks),
        sweeps=min(MAX_SWEEPS, max(1, sweeps)),
        seconds=min(MAX_SECONDS, patience),
    )


def is_due(value: bytes, lease: Lease, one_in: int) -> bool:
    """Whether a block says that all leases of this lease's provider are challenged now.

    Every tenant of the provider finds the same, so nobody has to agree with anybody; and the
    provider learns of it with its tenants.

    Args:
        value: of the block, 32 bytes that nobody could foresee, such as its hash.
        lease: of the tenant; only its chain, contract and provider count.
        one_in: blocks from one challenge to the next, on average.
    """
    drawn = keccak(
        keccak(NAME)
        + word(lease.chain_id)
        + word(int(lease.contract, 16))
        + word(int(lease.provider, 16))
        + b"T"
        + bytes32("value", value)
    )
    return int.from_bytes(drawn, "big") % one_in == 0


def decide(verdict: Verdict, standing: Standing) -> Decision:
    """What follows from a verdict.

    A false entry or digest, an answer of the wrong form, or memory that the provider itself says
    is missing: none can come from a network, so it ends the lease at once. Silence and slowness
    get a second try.
    """
    if verdict.passed:
        return Decision.KEEP
    if verdict.reason in _DOUBTFUL and standing.failures + 1 < TRIES:
        return Decision.AGAIN
    return Decision.REJECT if standing.rejectable else Decision.CLOSE
