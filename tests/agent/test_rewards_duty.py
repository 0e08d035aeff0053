# SPDX-License-Identifier: Apache-2.0
"""The rewards duty: what it claims, when, and that nothing is claimed twice."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from provider_agent.core.attempts import Attempts
from provider_agent.modules.rewards.duty import UNCLAIMED, RewardsDuty
from provider_agent.store import IntentState
from provider_agent.tx.sender import Sender
from teraproof.contracts.benchmark import ProofRecord
from teraproof.contracts.emissions import CLAIM, EmissionsContract
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OTHER, OWNER, TPF, WritingSender
from tests.agent.proof_rig import END, EPOCH, OPENED, RULES, PlainBenchmark
from tests.agent.proof_rig import Rig as ProofRig
from tests.agent.stores import fresh_store

EMISSIONS = "0x" + "0e" * 20
SCORED = ProofRecord(EPOCH, 9, bytes(32), RULES.samples, 1, 10**6, False)


class PlainEmissions(EmissionsContract):
    """What the contract answers; calldata is the real one."""

    def __init__(self) -> None:
        self.address = EMISSIONS
        self.reward = 10 * TPF
        self.fails: Exception | None = None

    def reward_of(self, provider: str, epoch: int, block: Any) -> int:
        if self.fails is not None:
            raise self.fails
        return self.reward


class Rig:
    """A duty over a real store; one epoch, in which we have scored."""

    def __init__(self, folder: Path) -> None:
        self.emissions, self.benchmark = PlainEmissions(), PlainBenchmark()
        self.benchmark.proofs[OWNER] = SCORED
        ProofRig.open_epoch(cast(ProofRig, self))
        ProofRig.draw_epoch(cast(ProofRig, self))
        self.number = 100
        self.store = fresh_store(folder / "agent.sqlite")
        self.restart()

    @property
    def contract(self) -> PlainBenchmark:
        return self.benchmark

    def close_epoch(self, epoch: int) -> int:
        return ProofRig.close_epoch(cast(ProofRig, self), epoch)

    def restart(self) -> None:
        """A new process over the same files."""
        sender = cast(Sender, WritingSender(self.store))
        self.duty = RewardsDuty(
            store=self.store,
            benchmark=self.benchmark,
            emissions=self.emissions,
            attempts=Attempts(self.store, sender, "rewards", EMISSIONS, pause=0),
        )

    def cycle(self, at: int = END, owner: str | None = OWNER, times: int = 1) -> None:
        for _ in range(times):
            self.number += 1
            block = BlockRef(self.number, self.number.to_bytes(32, "big"), at - 24)
            head = BlockRef(self.number + 2, bytes(32), at)
            self.duty.reconcile(block, head, owner)

    def claims(self) -> list[str]:
        """The actions of all claims, oldest first."""
        found = sorted(self.store.intents_in(*IntentState), key=lambda intent: intent.id)
        for intent in found:
            assert intent.data[:4] == CLAIM.selector
            assert CLAIM.decode_input(intent.data)[0].lower() == OWNER.lower()
        return [intent.key.action for intent in found]

    def end(self, state: IntentState, *, paid: bool = True) -> None:
        """What becomes of the last claim."""
        intent = max(self.store.intents_in(*IntentState), key=lambda intent: intent.id)
        self.store._update("intents", "id", intent.id, {"state": state})
        if paid:
            self.benchmark.proofs[OWNER] = SCORED._replace(settled=True)
            self.emissions.reward = 0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_epoch_has_ended__claimed_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.cycle(at=OPENED + 3_000, times=2)
    rig.cycle(at=END - 1, times=2)
    assert rig.claims() == []  # not before its end
    assert rig.duty.unclaimed == 10 * TPF == int(rig.store.meta(UNCLAIMED) or 0)
    rig.cycle(times=3)
    assert rig.claims() == [f"claim-{EPOCH}"]
    rig.restart()
    rig.cycle(times=2)
    rig.end(IntentState.FINAL)
    rig.cycle(times=2)
    assert f"reward of epoch {EPOCH}: 10 TPF" in caplog.text
    rig.restart()
    rig.cycle(times=2)
    assert rig.claims() == [f"claim-{EPOCH}"] and rig.duty.unclaimed == 0


def test_reward_is_nothing__claimed_all_the_same(rig: Rig) -> None:
    """Or stake that comes in would wait."""
    rig.emissions.reward = 0
    rig.cycle(times=2)
    assert rig.claims() == [f"claim-{EPOCH}"]


@pytest.mark.parametrize(
    "changes", [{"rounds": 0}, {"verified": RULES.samples - 1}, {"settled": True}]
)
def test_nothing_to_claim__nothing_is_sent(rig: Rig, changes: dict[str, int]) -> None:
    rig.benchmark.proofs[OWNER] = SCORED._replace(**changes)  # type: ignore[arg-type]
    rig.cycle(times=2)
    assert rig.claims() == [] and rig.duty.unclaimed == 0


def test_somebody_else_claims_for_us__claim_reverts__no_more_tries(rig: Rig) -> None:
    rig.cycle()
    rig.end(IntentState.REVERTED)
    rig.cycle(times=3)
    assert rig.claims() == [f"claim-{EPOCH}"] and rig.duty.unclaimed == 0


def test_claim_comes_to_nothing__tried_again(rig: Rig) -> None:
    rig.cycle()
    rig.end(IntentState.ABANDONED, paid=False)
    rig.cycle(times=2)
    assert rig.claims() == [f"claim-{EPOCH}", f"claim-{EPOCH}#2"]


def test_claim_is_final__pinned_block_is_behind__waits_for_it(rig: Rig) -> None:
    rig.cycle()
    rig.end(IntentState.FINAL, paid=False)
    rig.cycle(times=3)
    assert rig.claims() == [f"claim-{EPOCH}"]


def test_another_provider_now__its_own_rewards(rig: Rig) -> None:
    rig.cycle()
    rig.cycle(owner=OTHER)
    assert rig.duty.unclaimed == 0
    rig.cycle(owner=None)


@pytest.mark.parametrize("error", [ChainError("no endpoint"), ZeroDivisionError()])
def test_error__goes_up_to_the_one_place_that_decides(rig: Rig, error: Exception) -> None:
    rig.emissions.fails = error
    with pytest.raises(type(error)):
        rig.cycle()
