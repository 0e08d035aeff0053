# SPDX-License-Identifier: Apache-2.0
"""The suite with Benchmark and Emissions that all examples of the rewards start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from provider_agent.benchmark import format as pog
from provider_agent.benchmark import merkle
from provider_agent.benchmark.format import ZERO, Sample, Shape
from provider_agent.benchmark.opening import Opening, entry
from tests.contracts.deploy import DAY, TPF, Contract, Parameters, deployer_of
from tests.contracts.proofs import Product, Work, work
from tests.contracts.stateful.market import Market, build_market

HOUR = 3_600
INITIAL = 10_000 * TPF + 7
GENESIS_SUPPLY = 100_000_000 * TPF
# Six epochs are two halvings; a failure can be reported while the next two epochs run. The cap
# leaves the schedule not a wei.
PARAMETERS = Parameters(
    unbonding=2 * DAY,
    max_lock=20 * DAY,
    lock_margin=2 * DAY,
    commission_delay=12 * HOUR,
    samples=2,
    bond=1_000 * TPF,
    epoch=6 * HOUR,
    open_period=1_800,
    window=HOUR,
    draw_delay=24,
    draw_period=600,
    fault_period=9 * HOUR,
    bond_life=30 * HOUR,
    score_life=1,
    initial_emission=INITIAL,
    halving_epochs=2,
    cap=GENESIS_SUPPLY + 4 * INITIAL,
    genesis_supply=GENESIS_SUPPLY,
)
SHAPE = Shape(PARAMETERS.n, PARAMETERS.blocks)
# Proofs kept for the next example: a challenge depends on the epoch and the provider alone.
KEPT = 600

WRONG_VALUE = "benchmark: wrong value"
WRONG_LEAF = "benchmark: wrong leaf path"
WRONG_LENGTH = "benchmark: wrong length"


def build_rewards() -> tuple[Market, Contract]:
    """Deploy; the second one is the contract of a later use, which Emissions does not know yet."""
    market = build_market(PARAMETERS, proofs=True)
    emissions = market.suite.emissions
    assert emissions is not None
    return market, deployer_of("mocks/Distributor").deploy(emissions.address)


def spoil(values: Product) -> Product:
    """No value of it is right."""
    return values + 1


@lru_cache(maxsize=KEPT)
def rounds_of(challenge: bytes, plan: str) -> Work:
    """One round a letter: `p` is proven, `m` is made up."""
    return work(
        challenge, SHAPE, len(plan), lambda t, values: spoil(values) if plan[t] == "m" else values
    )


@dataclass(frozen=True)
class Claim:
    """What a provider has committed to: rounds, perhaps of another challenge, and how many."""

    challenge: bytes
    plan: str
    rounds: int
    """More than the plan has: padding is claimed as rounds."""

    @property
    def work(self) -> Work:
        return rounds_of(self.challenge, self.plan)

    @property
    def commitment(self) -> bytes:
        return self.work.commitment

    def opening(self, sample: Sample) -> list[bytes]:
        """The best that can be shown."""
        if sample.t < self.work.rounds:
            return self.work.opening(sample).words()
        first = self.work.opening(Sample(0, sample.i, sample.j))
        upper = merkle.levels([*self.work.roots, ZERO])
        return Opening(
            root_before=pog.two_before(self.work.roots, sample.t),
            root=ZERO,
            leaf=first.leaf,
            leaf_path=first.leaf_path,
            root_path=tuple(merkle.path(upper, sample.t)),
            path_before=tuple(merkle.path(upper, sample.t - 2)),
        ).words()

    def flaw(self, challenge: bytes, sample: Sample) -> str | None:
        """Why the contract must refuse that opening under a challenge."""
        if sample.t >= self.work.rounds:
            return WRONG_LEAF
        opening = self.work.opening(sample)
        shown = opening.leaf[SHAPE.leaf_place(sample.i, sample.j)]
        right = entry(challenge, SHAPE, sample, opening.root_before)
        return None if shown == right % 2**8 else WRONG_VALUE
