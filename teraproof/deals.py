# SPDX-License-Identifier: Apache-2.0
"""What follows from the terms of a deal and from what the contracts say of it, each thing once."""

from __future__ import annotations

from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.jobs import (
    Accepted,
    Attested,
    Cancelled,
    Disputed,
    Expired,
    JobsContract,
    Posted,
    Refunded,
    Refused,
    Settled,
)
from teraproof.protocol.digests import Origin
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import Record, Terms
from teraproof.rpc.types import Block

#: Something that happened to a job.
JobEvent = (
    Posted | Accepted | Attested | Settled | Expired | Refused | Cancelled | Disputed | Refunded
)
JOB_EVENTS: tuple[type[Event], ...] = (
    Posted,
    Accepted,
    Attested,
    Settled,
    Expired,
    Refused,
    Cancelled,
    Disputed,
    Refunded,
)


def attestation_of(terms: Terms, attested: Attested) -> Attestation:
    """What an operator has vouched for, as the chain tells it."""
    return Attestation(
        job=attested.job,
        spec=terms.order.spec,
        result=attested.result,
        receipt=attested.receipt,
        started=attested.started,
        finished=attested.finished,
    )


def origin_of(attested: Attested) -> Origin:
    """Which job a result is of, and whose."""
    return Origin(attested.job, attested.provider)


def record_of(terms: Terms, attested: Attested) -> Record:
    """What the state word of an attested job is the digest of."""
    return Record(
        provider=attested.provider,
        assigned_at=attested.assigned_at,
        attested_at=attested.attested_at,
        paused=attested.paused,
        attestation=attestation_of(terms, attested).struct_hash(),
    )


def free_score(jobs: JobsContract, provider: str, block: Block) -> int:
    """Proven score that no open work of a provider holds, in integer operations per second; for a
    market that has a source of scores.
    """
    source = BenchmarkContract(jobs.rpc, jobs.scores(block))
    return left_of(source.score(provider, block), jobs.reserved_score(provider, block))


def left_of(score: int, reserved: int) -> int:
    """What is left of a score: open work may hold more than what is proven now."""
    return max(0, score - reserved)


def lockable(own: int, limit: int, locked: int) -> int:
    """TPF wei that an owner's stake can still put up as collateral: `own` is what its own active
    shares are worth, `limit` the most that it allows to be locked, `locked` what is.
    """
    return max(0, min(own, limit) - locked)
