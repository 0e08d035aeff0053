# SPDX-License-Identifier: Apache-2.0
"""The rewards duty: what it claims, when, and that nothing is claimed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from eth_abi.abi import decode

from provider_agent.chain.contracts import Abi, EmissionsContract
from provider_agent.chain.rpc import BlockRef
from provider_agent.chain.sender import Sender
from provider_agent.duties.attempts import Attempts
from provider_agent.duties.rewards import RewardsDuty
from provider_agent.errors import ChainError
from provider_agent.settings import RewardsSettings
from provider_agent.store import Intent, IntentState, Store
from tests.agent.duty_rig import OTHER, OWNER, TPF, WritingSender
from tests.agent.proof_rig import RULES, PlainBenchmark

EMISSIONS = "0x" + "0e" * 20


class PlainEmissions(EmissionsContract):
    """What the contract answers; calldata is the real one."""

    def __init__(self) -> None:
        self.address = EMISSIONS
        self.abi = Abi.of("Emissions")
        self.rewards: dict[tuple[str, int], int] = {}
        self.paid: set[tuple[str, int]] = set()
        self.reads = 0
        self.fails: Exception | None = None

    def reward_of(self, provider: str, epoch: int, block: Any) -> int:
        self.reads += 1
        if self.fails is not None:
            raise self.fails
        return self.rewards.get((provider, epoch), 0)

    def claimed(self, provider: str, epoch: int, block: Any) -> bool:
        return (provider, epoch) in self.paid


class Rig:
    """A duty over a real store."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = RewardsSettings(**settings)
        self.emissions = PlainEmissions()
        self.number = 100
        self.epoch = 0
        self.store = Store(folder / "agent.sqlite")
        self.restart()

    def restart(self) -> None:
        """A new process over the same files."""
        sender = cast(Sender, WritingSender(self.store))
        self.duty = RewardsDuty(
            settings=self.settings,
            store=self.store,
            benchmark=PlainBenchmark(),
            emissions=self.emissions,
            attempts=Attempts(self.store, sender, "rewards", EMISSIONS, pause=0),
        )

    def earn(self, *epochs: int, amount: int = 10 * TPF, owner: str = OWNER) -> None:
        for epoch in epochs:
            self.emissions.rewards[owner, epoch] = amount

    def cycle(self, epoch: int | None = None, owner: str | None = OWNER, times: int = 1) -> None:
        self.epoch = self.epoch if epoch is None else epoch
        for _ in range(times):
            self.number += 1
            time = RULES.start(self.epoch) + 5
            block = BlockRef(self.number, self.number.to_bytes(32, "big"), time)
            self.duty.reconcile(block, owner)

    def claims(self) -> list[list[int]]:
        """The epochs of all claims, oldest first."""
        found = sorted(self.store.intents_in(*IntentState), key=lambda intent: intent.id)
        return [self.epochs(intent) for intent in found]

    def epochs(self, intent: Intent) -> list[int]:
        function = self.emissions.abi.function("claim", 2)
        provider, epochs = decode(function.inputs, intent.data[4:])
        assert provider.lower() == OWNER.lower()
        return list(epochs)

    def end(self, state: IntentState, *, paid: bool = True) -> None:
        """What becomes of the last claim."""
        intent = max(self.store.intents_in(*IntentState), key=lambda intent: intent.id)
        self.store._update("intents", "id", intent.id, {"state": state})
        if paid:
            self.emissions.paid |= {(OWNER, epoch) for epoch in self.epochs(intent)}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_epoch_has_ended__claimed_once(rig: Rig) -> None:
    rig.earn(2)
    rig.cycle(epoch=2, times=2)
    assert rig.claims() == []  # not before its end
    rig.cycle(epoch=3, times=3)
    assert rig.claims() == [[2]]
    assert rig.duty.unclaimed == 10 * TPF
    rig.restart()
    rig.cycle(times=2)
    rig.end(IntentState.FINAL)
    rig.cycle(times=2)
    rig.restart()
    rig.cycle(times=2)
    assert rig.claims() == [[2]] and rig.duty.unclaimed == 0


def test_many_epochs__in_one_claim(rig: Rig) -> None:
    rig.earn(0, 3, 4, 9)
    rig.cycle(epoch=10)
    assert rig.claims() == [[0, 3, 4, 9]]


def test_more_epochs_than_fit__several_claims(rig: Rig) -> None:
    rig.earn(*range(100))
    rig.cycle(epoch=100, times=10)
    seen = list[int]()
    while len(seen) < 100:
        assert all(len(epochs) <= 64 for epochs in rig.claims())
        rig.end(IntentState.FINAL)
        seen = [epoch for epochs in rig.claims() for epoch in epochs]
        rig.cycle(times=5)
    assert sorted(seen) == list(range(100))


def test_too_little__waits_until_it_is_worth_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, min_claim="25")
    rig.earn(0, 1, 2)
    rig.cycle(epoch=1, times=2)
    rig.cycle(epoch=2, times=2)
    assert rig.claims() == []
    rig.cycle(epoch=3, times=2)
    assert rig.claims() == [[0, 1, 2]]


def test_claim_every_few_epochs(tmp_path: Path) -> None:
    rig = Rig(tmp_path, claim_every_epochs=3)
    rig.earn(0, 1, 2)
    rig.cycle(epoch=1)
    rig.cycle(epoch=2)
    assert rig.claims() == []
    rig.cycle(epoch=3)
    assert rig.claims() == [[0, 1, 2]]


def test_somebody_else_claims_for_us__claim_reverts__no_more_tries(rig: Rig) -> None:
    rig.earn(0)
    rig.cycle(epoch=1)
    rig.end(IntentState.REVERTED)
    rig.cycle(times=3)
    assert rig.claims() == [[0]] and rig.duty.unclaimed == 0


def test_claim_comes_to_nothing__tried_again(rig: Rig) -> None:
    rig.earn(0)
    rig.cycle(epoch=1)
    rig.end(IntentState.ABANDONED, paid=False)
    rig.cycle(times=2)
    assert rig.claims() == [[0], [0]]


def test_claim_is_final__pinned_block_is_behind__waits_for_it(rig: Rig) -> None:
    rig.earn(0)
    rig.cycle(epoch=1)
    rig.end(IntentState.FINAL, paid=False)
    rig.cycle(times=3)
    assert rig.claims() == [[0]]
    rig.emissions.paid.add((OWNER, 0))
    rig.cycle()
    assert rig.duty.unclaimed == 0


def test_old_epochs__are_read_once(rig: Rig) -> None:
    rig.cycle(epoch=200, times=10)
    assert rig.emissions.reads == 200
    rig.restart()
    rig.cycle(times=10)
    assert rig.emissions.reads == 200
    rig.cycle(epoch=201, times=3)
    assert rig.emissions.reads == 201


def test_another_provider_now__its_own_rewards(rig: Rig) -> None:
    rig.earn(0, owner=OTHER, amount=TPF // 2)
    rig.cycle(epoch=1)
    assert rig.duty.unclaimed == 0
    rig.cycle(owner=OTHER)
    assert rig.duty.unclaimed == TPF // 2
    rig.cycle(owner=None)


def test_chain_error__is_raised__other_faults_stay_here(rig: Rig) -> None:
    rig.emissions.fails = ChainError("no endpoint")
    with pytest.raises(ChainError):
        rig.cycle(epoch=1)
    rig.emissions.fails = ZeroDivisionError()
    rig.cycle(epoch=1)
