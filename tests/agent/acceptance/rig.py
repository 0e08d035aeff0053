# SPDX-License-Identifier: Apache-2.0
"""Providers, honest and not, that answer acceptance challenges in the test's own process.

Their answers are real: the CPU engine multiplies, and memory is filled and read. Time is what the
test says, since the machine of the tests says nothing of a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provider_agent.prover.acceptance.memory import HostMemory, Memory, Sweep
from provider_agent.prover.acceptance.respondent import Respondent
from provider_agent.prover.engine import Engine
from teraproof.acceptance import checks, messages
from teraproof.acceptance.checks import Answers, Promise, Verdict
from teraproof.acceptance.examiner import Call, Subject, Timed, examine
from teraproof.acceptance.format import BLOCK_BYTES, Lease, Work
from teraproof.acceptance.messages import Step
from teraproof.errors import LocalError
from teraproof.pog.format import Shape
from teraproof.protocol.errors import Code
from tests.agent.engines import quick_engine

SHAPE = Shape(256, 1)
BLOCKS = 60
WORK = Work(SHAPE, rounds=4, devices=1, blocks=BLOCKS, sweeps=3, seconds=60)
PROMISE = Promise(score=10**9, memory=BLOCKS * BLOCK_BYTES, bandwidth=10**6)
CONTRACT, PROVIDER = "0x" + "0a" * 20, "0x" + "0b" * 20


def lease(number: int = 7, provider: str = PROVIDER) -> Lease:
    """A lease by its number."""
    return Lease(31_337, CONTRACT, provider, number.to_bytes(32, "big"))


class Lasting:
    """An engine that many challenges use one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """It goes on."""


def lasting_engine() -> Any:
    """An engine for all tests of a file."""
    return Lasting(quick_engine())


class Provider:
    """Answers for a lease, with one respondent for each of its devices."""

    def __init__(
        self,
        engine: Any,
        lease: Lease,
        work: Work = WORK,
        memory: Callable[[], Memory] = HostMemory,
        respondent: type[Respondent] = Respondent,
    ) -> None:
        self.devices = [
            respondent(lease, work, device, engine, memory) for device in range(work.devices)
        ]

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """See `Examinee`."""
        if step is Step.FILL:
            return {"filled": [one.fill(nonce) for one in self.devices]}
        if step is Step.WORK:
            return {"commitments": [one.work(nonce).hex() for one in self.devices]}
        if step is Step.SWEEP:
            return {"sweeps": [[r.hex() for r in one.sweep(nonce)] for one in self.devices]}
        return {"openings": [one.open(nonce).to_json() for one in self.devices]}


class Silent:
    """A provider that does not answer one of the steps."""

    def __init__(self, honest: Provider, step: Step) -> None:
        self._honest, self._step = honest, step

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """See `Examinee`."""
        if step is self._step:
            raise LocalError("no connection to the agent", Code.AGENT_UNREACHABLE)
        return self._honest.step(step, nonce, work)


@dataclass
class Changed:
    """A provider whose answer to one step is changed on its way."""

    honest: Provider
    at: Step
    change: Callable[[dict[str, Any]], Any]

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """See `Examinee`."""
        answer = dict(self.honest.step(step, nonce, work))
        if step is not self.at:
            return answer
        changed: Mapping[str, Any] = self.change(answer)
        return changed


@dataclass
class HalfMemory(HostMemory):
    """Says that it has room, and keeps half of the blocks: the digests of the others are noise."""

    def __post_init__(self) -> None:
        super().__init__()

    def _swept(self, key: bytes) -> Sweep:
        right = super()._swept(key)
        half = len(right._digests) // 16 * 8
        return Sweep(right._digests[:half] + bytes(len(right._digests) - half))


@dataclass
class Clock:
    """Measures calls: each of a step takes the seconds that the test gives."""

    seconds: Callable[[Sequence[Timed]], Sequence[float]] = field(
        default=lambda found: [0.001] * len(found)
    )

    def __call__(self, calls: Sequence[Call]) -> list[Timed]:
        """See `Together`."""
        found = [_tried(call) for call in calls]
        took = self.seconds(found)
        return [Timed(one.answer, spent) for one, spent in zip(found, took, strict=True)]


def _tried(call: Call) -> Timed:
    try:
        return Timed(call(), 0.0)
    except LocalError as error:
        return Timed(error, 0.0)


def challenged(
    examinee: Any,
    of: Lease | None = None,
    work: Work = WORK,
    promise: Promise = PROMISE,
    clock: Clock | None = None,
) -> Verdict:
    """The verdict over one lease."""
    subject = Subject(of or lease(), work, promise, examinee)
    (verdict,) = examine([subject], together=clock or Clock())
    return verdict


NONCES = tuple(bytes([n]) * 32 for n in range(1, 5))
Recorded = dict[Step, dict[str, Any]]
"""The answers of one challenge, step by step."""


def recorded(
    engine: Any, number: int = 7, work: Work = WORK, nonces: Sequence[bytes] = NONCES
) -> Recorded:
    """The answers of an honest provider to these nonces."""
    provider = Provider(engine, lease(number), work)
    return {
        step: dict(provider.step(step, nonce, work))
        for step, nonce in zip(Step, nonces, strict=True)
    }


def answers_of(kept: Mapping[Step, Mapping[str, Any]], work: Work = WORK) -> Answers:
    """Answers as the tenant reads them."""
    filled = messages.filled(kept[Step.FILL], work)
    return Answers(
        NONCES,  # type: ignore[arg-type]  # four of them
        filled,
        messages.commitments(kept[Step.WORK], work),
        messages.sweeps(kept[Step.SWEEP], work, filled),
        messages.openings(kept[Step.OPEN], work, filled),
        0.001,
        0.001,
    )


def judged(kept: Mapping[Step, Mapping[str, Any]], number: int = 7) -> checks.Verdict:
    return checks.judge(lease(number), WORK, PROMISE, answers_of(kept))
