# SPDX-License-Identifier: Apache-2.0
"""Challenges all leases that a tenant has of one provider, at one time and by the same nonces.

Each step begins for all of them at once, when all have ended the one before. So a device that
stands behind two leases does the work of both in the time of one, and holds the memory of both.
Time is the tenant's: from sending a nonce until the whole answer is there. Nothing is taken off.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from teraproof.acceptance import checks, messages
from teraproof.acceptance.checks import Answers, Promise, Reason, Verdict
from teraproof.acceptance.format import Lease, Work
from teraproof.acceptance.messages import Openings, Step
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

Call = Callable[[], Mapping[str, Any]]


class Examinee(Protocol):
    """The provider's side of one lease."""

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """The whole answer to a step, at the latest after `work.seconds`. LocalError without."""
        ...


@dataclass(frozen=True)
class Subject:
    """A lease to be challenged: what it promised, what it has to do, and who answers for it."""

    lease: Lease
    work: Work
    promise: Promise
    examinee: Examinee


@dataclass(frozen=True)
class Timed:
    """An answer or why there is none, and the seconds that it took."""

    answer: Mapping[str, Any] | LocalError
    seconds: float


Together = Callable[[Sequence[Call]], list[Timed]]


def timed(call: Call, clock: Callable[[], float] = time.monotonic) -> Timed:
    """A call and its seconds."""
    began = clock()
    try:
        answer: Mapping[str, Any] | LocalError = call()
    except LocalError as error:
        answer = error
    return Timed(answer, clock() - began)


def together(calls: Sequence[Call]) -> list[Timed]:
    """All calls at one time, in a thread each."""
    with ThreadPoolExecutor(len(calls), "challenge") as pool:
        return list(pool.map(timed, calls))


@dataclass
class _Course:
    """A lease's challenge under way."""

    subject: Subject
    verdict: Verdict | None = None
    filled: tuple[int, ...] = ()
    commitments: tuple[bytes, ...] = ()
    sweeps: tuple[tuple[bytes, ...], ...] = ()
    openings: tuple[Openings, ...] = ()
    seconds: dict[Step, float] = field(default_factory=dict)

    def take(self, step: Step, timed: Timed) -> None:
        """The answer to a step; a bad one ends the course."""
        self.seconds[step] = timed.seconds
        try:
            if isinstance(timed.answer, LocalError):
                raise timed.answer
            self._read(step, timed.answer)
        except LocalError as error:
            invalid = error.code is Code.ANSWER_INVALID
            reason = Reason.MALFORMED if invalid else Reason.NO_ANSWER
            self.verdict = Verdict(reason, f"{step}: {error}")
            return
        work, promise = self.subject.work, self.subject.promise
        if step is Step.FILL:
            self.verdict = checks.short(work, promise, self.filled)
        elif step is Step.WORK:
            self.verdict = checks.slow(work, promise, timed.seconds)
        elif step is Step.SWEEP:
            self.verdict = checks.slow_memory(work, promise, self.filled, timed.seconds)

    def _read(self, step: Step, answer: Mapping[str, Any]) -> None:
        work = self.subject.work
        if step is Step.FILL:
            self.filled = messages.filled(answer, work)
        elif step is Step.WORK:
            self.commitments = messages.commitments(answer, work)
        elif step is Step.SWEEP:
            self.sweeps = messages.sweeps(answer, work, self.filled)
        else:
            self.openings = messages.openings(answer, work, self.filled)

    def judged(self, nonces: tuple[bytes, bytes, bytes, bytes]) -> Verdict:
        """The verdict, when all steps are over."""
        if self.verdict is not None:
            return self.verdict
        answers = Answers(
            nonces,
            self.filled,
            self.commitments,
            self.sweeps,
            self.openings,
            self.seconds[Step.WORK],
            self.seconds[Step.SWEEP],
        )
        return checks.judge(self.subject.lease, self.subject.work, self.subject.promise, answers)


def examine(
    subjects: Sequence[Subject],
    *,
    nonce: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    together: Together = together,
) -> list[Verdict]:
    """Challenge leases of one provider at one time; a verdict for each, in their order.

    Args:
        subjects: one for each lease.
        nonce: gives 32 bytes that nobody can foresee; asked once for each step.
        together: makes calls at one time, and measures them.
    """
    courses = [_Course(subject) for subject in subjects]
    nonces = []
    for step in Step:
        going = [course for course in courses if course.verdict is None]
        nonces.append(nonce())
        if not going:
            continue
        calls = [_call(course.subject, step, nonces[-1]) for course in going]
        for course, found in zip(going, together(calls), strict=True):
            course.take(step, found)
    first, second, third, fourth = nonces
    return [course.judged((first, second, third, fourth)) for course in courses]


def _call(subject: Subject, step: Step, nonce: bytes) -> Call:
    return lambda: subject.examinee.step(step, nonce, subject.work)
