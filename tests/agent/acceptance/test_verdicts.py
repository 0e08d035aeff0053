# SPDX-License-Identifier: Apache-2.0
"""Who passes an acceptance challenge and who does not: real answers, and time as the test says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
from eth_utils.crypto import keccak

from provider_agent.prover import proof
from provider_agent.prover.acceptance.memory import HostMemory
from provider_agent.prover.acceptance.respondent import Respondent
from provider_agent.prover.cpu import CpuEngine
from provider_agent.prover.reference import ReferenceEngine
from teraproof.acceptance import format as fmt
from teraproof.acceptance.checks import Promise, Reason
from teraproof.acceptance.examiner import Subject, Timed, examine
from teraproof.acceptance.format import BLOCK_BYTES, Work
from teraproof.acceptance.messages import Step
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import Shape
from tests.agent.acceptance.rig import (
    BLOCKS,
    NONCES,
    PROMISE,
    SHAPE,
    WORK,
    Clock,
    HalfMemory,
    Lasting,
    Provider,
    Silent,
    challenged,
    judged,
    lease,
)
from tests.agent.acceptance.test_format import slow_block, slow_root
from tests.support import budget

MANY = budget.of(20, 100)


# ---------------------------------------------------------------------- honest


@pytest.mark.slow
def test_honest__passes_each_time(engine: Any) -> None:
    work = replace(WORK, rounds=3, blocks=20, sweeps=2)
    promise = replace(PROMISE, memory=20 * BLOCK_BYTES)
    passed = [
        challenged(Provider(engine, lease(n), work), lease(n), work, promise).passed
        for n in range(MANY)
    ]
    assert passed == [True] * MANY


@pytest.mark.parametrize(
    "work",
    [
        Work(SHAPE, rounds=1, devices=1, blocks=1, sweeps=1, seconds=60),
        Work(SHAPE, rounds=2, devices=2, blocks=513, sweeps=2, seconds=60),
        Work(Shape(512, 2), rounds=5, devices=1, blocks=0, sweeps=1, seconds=60),
    ],
)
def test_honest__any_size__passes(engine: Any, work: Work) -> None:
    verdict = challenged(
        Provider(engine, lease(), work), work=work, promise=replace(PROMISE, memory=0)
    )
    assert verdict.passed, verdict.line


def test_honest__without_memory__none_is_asked_for(engine: Any) -> None:
    work, promise = replace(WORK, blocks=0), replace(PROMISE, memory=0)
    answers = dict[Step, Mapping[str, Any]]()

    class Kept(Provider):
        def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
            answers[step] = super().step(step, nonce, work)
            return answers[step]

    assert challenged(Kept(engine, lease(), work), work=work, promise=promise).passed
    assert answers[Step.SWEEP] == {"sweeps": [[]]}


def test_steps__in_another_order__refused(engine: Any) -> None:
    one = Respondent(lease(), WORK, 0, engine, HostMemory)
    early: Callable[[bytes], object]
    for early in (one.work, one.sweep, one.open):
        with pytest.raises(BenchmarkError, match="order"):
            early(NONCES[0])
    one.fill(NONCES[0])
    one.work(NONCES[1])
    for early in (one.fill, one.work, one.open):
        with pytest.raises(BenchmarkError, match="order"):
            early(NONCES[2])
    one.sweep(NONCES[2])
    with pytest.raises(BenchmarkError, match="order"):
        one.sweep(NONCES[2])


# ---------------------------------------------------------------------- cheats


class HalfTheRounds(Respondent):
    """Does the first half of the rounds, and makes up the roots of the others."""

    def _rounds(self, count: int) -> tuple[bytes, ...]:
        done = super()._rounds(max(1, count // 2))
        return done + tuple(bytes([n]) * 32 for n in range(count - len(done)))


class HalfTheProducts(CpuEngine):
    """Multiplies half of the rows; the others are zeros."""

    def _product(self, columns: Any) -> tuple[Any, float]:
        leaves, seconds = super()._product(columns)
        leaves[len(leaves) // 2 :] = 0
        return leaves, seconds


@dataclass
class Replayed:
    """Gives the answers of an earlier challenge, to some steps."""

    kept: Mapping[Step, Mapping[str, Any]]
    honest: Provider
    steps: Sequence[Step]

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        found = self.honest.step(step, nonce, work)
        return self.kept[step] if step in self.steps else found


def test_recorded__is_right(honest: dict[Step, dict[str, Any]]) -> None:
    assert judged(honest).passed


@pytest.fixture
def brazen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers that do not look at their own openings before they send them."""
    monkeypatch.setattr(proof, "verify", lambda *_: None)


def test_recorded__is_what_a_second_computation_gives(honest: dict[Step, dict[str, Any]]) -> None:
    """Rounds by NumPy's integers, the memory and its sweeps permutation by permutation."""
    base = keccak(
        keccak(b"TERAPROOF-ACCEPTANCE-1")
        + (31_337).to_bytes(32, "big")
        + bytes(12)
        + bytes.fromhex("0a" * 20)
        + bytes(12)
        + bytes.fromhex("0b" * 20)
        + (7).to_bytes(32, "big")
        + (1).to_bytes(32, "big")
        + bytes(32)
        + NONCES[0]
    )
    numbers = b"".join(n.to_bytes(32, "big") for n in (256, 1, 4))
    reference = ReferenceEngine()
    reference.prepare(keccak(base + b"P" + NONCES[1] + numbers), SHAPE)
    roots = list(islice(reference.roots(()), 4))
    commitment = keccak(keccak(roots[0] + roots[1]) + keccak(roots[2] + roots[3]))
    assert honest[Step.WORK] == {"commitments": [commitment.hex()]}

    seed, key = keccak(base + b"M"), keccak(base + b"S" + NONCES[2] + commitment)
    kept = [slow_block(seed, index) for index in range(8)]
    blocks = kept + [fmt.block(seed, index) for index in range(8, BLOCKS)]
    for answered in honest[Step.SWEEP]["sweeps"][0]:
        factors = hashlib.shake_128(key).digest(5376)
        digests = [
            sum(x * y for x, y in zip(words(block), words(factors), strict=True)) % 2**64
            for block in blocks
        ]
        root = slow_root(digests)
        assert answered == root.hex()
        key = keccak(key + root)


def words(data: bytes) -> list[int]:
    """Of 64 bits, the least significant byte first."""
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


def test_half_of_the_rounds__its_own_check_finds_it(engine: Any) -> None:
    cheater = Provider(engine, lease(), respondent=HalfTheRounds)
    assert challenged(cheater).reason is Reason.NO_ANSWER


@pytest.mark.usefixtures("brazen")
def test_half_of_the_rounds__wrong_entry(engine: Any) -> None:
    cheater = Provider(engine, lease(), respondent=HalfTheRounds)
    assert challenged(cheater).reason is Reason.WRONG_ENTRY


@pytest.mark.usefixtures("brazen")
def test_half_of_each_product__wrong_entry() -> None:
    one = Lasting(HalfTheProducts())
    assert challenged(Provider(one, lease())).reason is Reason.WRONG_ENTRY
    one._engine.close()


def test_half_of_the_memory__wrong_digest(engine: Any) -> None:
    verdict = challenged(Provider(engine, lease(), memory=HalfMemory))
    assert verdict.reason is Reason.WRONG_DIGEST
    assert verdict.device == 0


def test_less_memory_and_honest_about_it__short_by_that_much(engine: Any) -> None:
    class Small(HostMemory):
        def room(self) -> int:
            return BLOCKS // 2

    verdict = challenged(Provider(engine, lease(), memory=Small))
    assert verdict.reason is Reason.MEMORY_SHORT
    # Once the tenant works, what is free is enough.
    free = replace(PROMISE, memory=BLOCKS // 2 * BLOCK_BYTES)
    assert challenged(Provider(engine, lease(), memory=Small), promise=free).passed


def test_one_device_answers_for_another__fails(engine: Any) -> None:
    work, promise = replace(WORK, devices=2, blocks=40), replace(PROMISE, memory=0)

    def doubled(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda answer: {name: [answer[name][0]] * 2}

    class One:
        """Does the work of the first device alone."""

        def __init__(self) -> None:
            self.honest = Provider(engine, lease(), work)

        def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
            answer = dict(self.honest.step(step, nonce, work))
            (name,) = answer
            return doubled(name)(answer)

    verdict = challenged(One(), work=work, promise=promise)
    assert verdict.reason is Reason.WRONG_ENTRY and verdict.device == 1


def test_answers_of_one_lease_for_another__fail(
    engine: Any, honest: dict[Step, dict[str, Any]]
) -> None:
    assert judged(honest, number=8).reason is Reason.WRONG_ENTRY


@pytest.mark.parametrize("steps", [list(Step), [Step.WORK, Step.OPEN], [Step.OPEN]])
def test_replay__of_an_earlier_challenge__fails(
    engine: Any, honest: dict[Step, dict[str, Any]], steps: list[Step]
) -> None:
    verdict = challenged(Replayed(honest, Provider(engine, lease()), steps))
    assert verdict.reason is Reason.WRONG_ENTRY


def test_memory_read_with_the_key_of_an_earlier_challenge__wrong_digest(
    engine: Any, honest: dict[Step, dict[str, Any]]
) -> None:
    class Early(Respondent):
        def sweep(self, nonce: bytes) -> list[bytes]:
            return super().sweep(NONCES[2])

    found = challenged(Provider(engine, lease(), respondent=Early))
    assert found.reason is Reason.WRONG_DIGEST


@pytest.mark.parametrize("step", Step)
def test_no_answer__said_with_its_step(engine: Any, step: Step) -> None:
    verdict = challenged(Silent(Provider(engine, lease()), step))
    assert verdict.reason is Reason.NO_ANSWER
    assert verdict.line.startswith(f"{step}: ")


def late(step: int, seconds: float) -> Clock:
    """A clock on which one of the steps takes that long."""
    steps = iter(range(4))
    return Clock(lambda found: [seconds if next(steps) == step else 0.001] * len(found))


def test_late_rounds__too_slow_by_that_much(engine: Any) -> None:
    limit = PROMISE.work_seconds(WORK)
    assert challenged(Provider(engine, lease()), clock=late(1, limit)).passed
    verdict = challenged(Provider(engine, lease()), clock=late(1, 1.5 * limit))
    assert verdict.reason is Reason.TOO_SLOW and "1.50 times" in verdict.line
    assert verdict.score == pytest.approx(PROMISE.score * PROMISE.tolerance / 1.5, rel=1e-6)


def test_late_sweeps__memory_is_slow(engine: Any) -> None:
    limit = PROMISE.sweep_seconds(WORK, BLOCKS)
    assert challenged(Provider(engine, lease()), clock=late(2, limit)).passed
    verdict = challenged(Provider(engine, lease()), clock=late(2, 3 * limit))
    assert verdict.reason is Reason.MEMORY_SLOW and "3.00 times" in verdict.line


@pytest.mark.parametrize("step", [0, 3])
def test_late_fill_or_opening__no_matter(engine: Any, step: int) -> None:
    assert challenged(Provider(engine, lease()), clock=late(step, 1e6)).passed


# ---------------------------------------------------------------------- one card, two leases


@dataclass(frozen=True)
class Card:
    """What a card does, in a model of time: operations, bytes read and filled per second."""

    rate: float
    bandwidth: float
    filling: float
    memory: int

    def seconds(self, step: int, leases: int, work: Work) -> float:
        """Of a step for that many leases at once, each of which needs its answer."""
        if step == 1:
            return leases * work.shape.operations * work.rounds / self.rate
        if step == 2:
            wanted = leases * work.blocks * BLOCK_BYTES
            missing = max(0, wanted - self.memory)
            once = (wanted - missing) / self.bandwidth + missing / self.filling
            return work.sweeps * once
        return 0.0


# It reads its memory in a hundredth of the time in which it fills it.
CARD = Card(rate=1e9, bandwidth=1e8, filling=1e6, memory=BLOCKS * BLOCK_BYTES)
SOLD = Promise(10**9, BLOCKS * BLOCK_BYTES, bandwidth=5 * 10**7, tolerance=0.8)


def verdicts(engine: Any, cards: Sequence[Card], promise: Promise = SOLD) -> list[Reason]:
    """Of leases that stand on these cards, challenged at one time; a card may come twice."""
    steps = iter(range(4))

    def seconds(found: Sequence[Timed]) -> list[float]:
        step = next(steps)
        return [card.seconds(step, cards.count(card), WORK) for card in cards[: len(found)]]

    subjects = [
        Subject(lease(n), WORK, promise, Provider(engine, lease(n))) for n in range(len(cards))
    ]
    return [one.reason for one in examine(subjects, together=Clock(seconds))]


def test_two_leases__a_card_each__both_pass(engine: Any) -> None:
    other = replace(CARD, rate=1.1e9)
    assert verdicts(engine, [CARD, other]) == [Reason.PASSED] * 2


def test_two_leases__one_card__both_too_slow(engine: Any) -> None:
    assert verdicts(engine, [CARD, CARD]) == [Reason.TOO_SLOW] * 2


def test_two_leases__half_of_a_cards_speed_each__its_memory_is_not_there_twice(
    engine: Any,
) -> None:
    half = replace(SOLD, score=SOLD.score // 2)
    assert verdicts(engine, [CARD, CARD], half) == [Reason.MEMORY_SLOW] * 2
    fair = replace(CARD, memory=2 * CARD.memory)
    assert verdicts(engine, [fair, fair], replace(half, bandwidth=10**7)) == [Reason.PASSED] * 2


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (replace(CARD, rate=0.5e9), Reason.TOO_SLOW),
        (replace(CARD, memory=CARD.memory // 2), Reason.MEMORY_SLOW),
        (replace(CARD, bandwidth=1e7), Reason.MEMORY_SLOW),
        (replace(CARD, rate=0.85e9), Reason.PASSED),
    ],
    ids=["half the speed", "half the memory", "memory of the host", "within the tolerance"],
)
def test_promises_more_than_it_has__fails(engine: Any, card: Card, reason: Reason) -> None:
    assert verdicts(engine, [card]) == [reason]


def test_one_lease_fails__the_others_are_judged(engine: Any) -> None:
    subjects = [
        Subject(lease(0), WORK, PROMISE, Silent(Provider(engine, lease(0)), Step.WORK)),
        Subject(lease(1), WORK, PROMISE, Provider(engine, lease(1))),
    ]
    found = examine(subjects, together=Clock())
    assert [one.reason for one in found] == [Reason.NO_ANSWER, Reason.PASSED]


def test_nonces__one_for_each_step_and_for_all_leases(engine: Any) -> None:
    seen: dict[Step, set[bytes]] = {step: set() for step in Step}

    class Kept(Provider):
        def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
            seen[step].add(nonce)
            return super().step(step, nonce, work)

    subjects = [Subject(lease(n), WORK, PROMISE, Kept(engine, lease(n))) for n in range(2)]
    assert all(one.passed for one in examine(subjects, together=Clock()))
    assert [len(found) for found in seen.values()] == [1, 1, 1, 1]
    assert len(set.union(*seen.values())) == 4
