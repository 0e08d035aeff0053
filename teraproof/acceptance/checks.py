# SPDX-License-Identifier: Apache-2.0
"""The verdict over a finished acceptance challenge. Arithmetic alone: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import BLOCK_BYTES, Lease, Query, Seeds, Work
from teraproof.acceptance.messages import Digest, Openings
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import OpeningError
from teraproof.pog.opening import Opening, verify


class Reason(StrEnum):
    """What a challenge came to."""

    PASSED = "passed"
    NO_ANSWER = "no_answer"  # it did not answer, or not in this protocol
    MALFORMED = "malformed"  # an answer has not the form of its step
    TOO_SLOW = "too_slow"  # the rounds took longer than the promised score takes
    MEMORY_SHORT = "memory_short"  # less memory was filled than promised
    MEMORY_SLOW = "memory_slow"  # reading it took longer than from memory of the device
    WRONG_ENTRY = "wrong_entry"  # an entry of the rounds is false
    WRONG_DIGEST = "wrong_digest"  # a digest of the memory is false


@dataclass(frozen=True)
class Promise:
    """What the devices of a lease together, or each of them, must show.

    Args:
        score: integer operations per second of all devices together, as `Benchmark` counts them.
        memory: bytes that each device must have filled.
        bandwidth: bytes per second at which each device must read it.
        tolerance: the part of the score that is enough, up to 1.
    """

    score: int
    memory: int = 0
    bandwidth: int = 1
    tolerance: float = 0.8

    def work_seconds(self, work: Work) -> float:
        """The longest time from the second nonce to the commitments."""
        total = work.shape.operations * work.rounds * work.devices
        return total / (self.score * self.tolerance)

    def sweep_seconds(self, work: Work, blocks: int) -> float:
        """The longest time from the third nonce to the roots of sweeps over this many blocks."""
        return work.sweeps * blocks * BLOCK_BYTES / self.bandwidth


@dataclass(frozen=True)
class Answers:
    """A finished challenge: the four nonces, what each device answered, and the tenant's measured
    seconds from sending the second and the third nonce to the answers.
    """

    nonces: tuple[bytes, bytes, bytes, bytes]
    filled: tuple[int, ...]
    commitments: tuple[bytes, ...]
    sweeps: tuple[tuple[bytes, ...], ...]
    openings: tuple[Openings, ...]
    work_seconds: float
    sweep_seconds: float


@dataclass(frozen=True)
class Verdict:
    """A reason, one line for people, the device that it is about, and what was measured.

    `score` is in operations per second of all devices; 0 where it came to no commitment.
    """

    reason: Reason
    line: str
    device: int | None = None
    score: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return self.reason is Reason.PASSED


def judge(lease: Lease, work: Work, promise: Promise, answers: Answers) -> Verdict:
    """Whether the answers show what was promised, and if not, the first thing that is wrong."""
    score = shown(work, answers.work_seconds)
    found = (
        short(work, promise, answers.filled)
        or slow(work, promise, answers.work_seconds)
        or slow_memory(work, promise, answers.filled, answers.sweep_seconds)
    )
    if found is None:
        for device in range(work.devices):
            found = _false(lease, work, answers, device)
            if found is not None:
                break
    if found is not None:
        return Verdict(found.reason, found.line, found.device, score)
    return Verdict(Reason.PASSED, f"shown: {score / 1e12:.3g} INT8 TOPS", None, score)


def shown(work: Work, seconds: float) -> int:
    """Operations per second of all devices together, by the seconds that the rounds took."""
    total = work.shape.operations * work.rounds * work.devices
    return int(total / seconds) if seconds > 0 else 0


def short(work: Work, promise: Promise, filled: tuple[int, ...]) -> Verdict | None:
    """Whether a device has filled less memory than promised."""
    least = -(-promise.memory // BLOCK_BYTES)
    for device, blocks in enumerate(filled):
        if blocks < least:
            missing = (least - blocks) * BLOCK_BYTES
            return Verdict(
                Reason.MEMORY_SHORT,
                f"device {device} filled {missing / 2**30:.2f} GiB less than the "
                f"{promise.memory / 2**30:.2f} GiB promised",
                device,
            )
    return None


def slow(work: Work, promise: Promise, seconds: float) -> Verdict | None:
    """Whether the rounds took too long."""
    limit = promise.work_seconds(work)
    if seconds <= limit:
        return None
    return Verdict(
        Reason.TOO_SLOW,
        f"the rounds took {seconds:.2f} s, {seconds / limit:.2f} times the most that the promised "
        "score allows",
        score=shown(work, seconds),
    )


def slow_memory(
    work: Work, promise: Promise, filled: tuple[int, ...], seconds: float
) -> Verdict | None:
    """Whether reading the memory took too long."""
    limit = promise.sweep_seconds(work, max(filled))
    if not any(filled) or seconds <= limit:
        return None
    return Verdict(
        Reason.MEMORY_SLOW,
        f"reading the memory took {seconds:.2f} s, {seconds / limit:.2f} times the most that "
        "memory of the device takes",
    )


def _false(lease: Lease, work: Work, answers: Answers, device: int) -> Verdict | None:
    """The first thing that a device opened and that is not true."""
    first, second, third, fourth = answers.nonces
    seeds = Seeds(lease, work, device, first)
    commitment, roots = answers.commitments[device], answers.sweeps[device]
    challenge = seeds.proof(second)
    query = seeds.query(fourth, commitment, roots)
    opened, blocks = answers.openings[device], answers.filled[device]

    samples = fmt.entries(query, work, commitment, challenge)
    for sample, data in zip(samples, opened.entries, strict=True):
        try:
            opening = Opening.decode(data, work.shape, work.rounds)
            verify(opening, sample, challenge, work.shape, work.rounds, commitment)
        except OpeningError as error:
            return Verdict(Reason.WRONG_ENTRY, f"device {device}: {error}", device)

    keys = [seeds.first_key(third, commitment)]
    for root in roots:
        keys.append(fmt.next_key(keys[-1], root))
    memory = seeds.memory()
    for asked, digest in zip(fmt.queries(query, work.sweeps, blocks), opened.digests, strict=True):
        line = _wrong_digest(asked, digest, keys[asked.sweep], roots[asked.sweep], memory)
        if line is not None:
            return Verdict(Reason.WRONG_DIGEST, f"device {device}: {line}", device)
    return None


def _wrong_digest(
    asked: Query, opened: Digest, key: bytes, root: bytes, memory: bytes
) -> str | None:
    """What is wrong with an opened digest; None for a right one."""
    index, place = divmod(asked.block, fmt.DIGESTS_PER_LEAF)
    if merkle.climb(pog.keccak(opened.leaf), index, opened.path) != root:
        return f"the digest of block {asked.block} is not in the root of sweep {asked.sweep}"
    at = place * fmt.DIGEST_BYTES
    claimed = int.from_bytes(opened.leaf[at : at + fmt.DIGEST_BYTES], "little")
    if claimed != fmt.digest(fmt.block(memory, asked.block), fmt.coefficients(key)):
        return f"the digest of block {asked.block} in sweep {asked.sweep} is false"
    return None
