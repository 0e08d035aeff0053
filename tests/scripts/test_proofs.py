# SPDX-License-Identifier: Apache-2.0
"""Epochs, proofs and rewards as people see them; the proofs are real, of a few rounds each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from provider_agent.prover.engine import make_engine
from provider_agent.prover.proof import Proof
from teraproof.client.listing import Asked
from teraproof.epochs import rules_of
from teraproof.errors import CommandError
from teraproof.market import (
    directory,
    entries,
    feasible,
    packages,
    proofs,
    providers,
    rewards,
    tenant,
)
from teraproof.market.market import Market
from teraproof.market.sending import Call
from teraproof.pog.schedule import Rules
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status
from tests.scripts.stage import TPF, Stage
from tests.support.anvil import ROOT

ROUNDS = 3
BOND = 50 * TPF


@dataclass
class Prover:
    """The operator's hands, and the epoch that it is in."""

    stage: Stage
    rules: Rules

    @property
    def owner(self) -> str:
        return self.stage.owner.address

    def go_to(self, time: int) -> None:
        """Move the chain to a second, with a block in it."""
        self.stage.anvil.increase_time(max(0, time - self.stage.market.now()))

    def begin(self) -> int:
        """Move to the next boundary, which always wins here, and open the window: the epoch."""
        newest = proofs.current(self.stage.market, self.rules).record
        earliest = self.rules.next_window_from(newest.opened_at)
        now = max(self.stage.market.now(), earliest)
        self.go_to(self.rules.next_boundary(now))
        proofs.open_epoch(self.stage.market, self.stage.stranger, self.stage.ui)
        return self.epoch().number

    def epoch(self) -> proofs.Epoch:
        """The newest epoch."""
        return proofs.current(self.stage.market, self.rules)

    def commit(self) -> Proof:
        """Do some rounds and commit to them."""
        market = self.stage.market
        epoch = self.epoch().number
        challenge = market.benchmark.challenge(self.owner, epoch, "latest")
        engine = make_engine("numpy")
        engine.prepare(challenge, self.rules.shape)
        roots = engine.roots([])
        proof = Proof(challenge, self.rules.shape, tuple(next(roots) for _ in range(ROUNDS)))
        self._call(self.stage.market.benchmark.commit(epoch, ROUNDS, proof.commitment))
        return proof

    def close(self) -> None:
        """Let the window go by, and name the block of the draw."""
        self.go_to(self.rules.window_end(self.epoch().record.opened_at))
        proofs.close(self.stage.market, self.stage.stranger, self.stage.ui)

    def draw(self) -> None:
        """Draw as soon as it is allowed."""
        self.close()
        for _ in range(self.rules.draw_delay):
            self.stage.anvil.mine()
        proofs.draw(self.stage.market, self.stage.stranger, self.stage.ui)

    def open(self, proof: Proof, most: int = 8) -> None:
        """Show samples, at most `most`."""
        record = self.epoch().record
        found = proof.openings(make_engine("numpy"), record.draw, self.rules.samples)
        words = [opening.words() for opening in found[:most]]
        self._call(self.stage.market.benchmark.open_samples(self.owner, words))

    def prove(self) -> None:
        """A whole epoch."""
        self.begin()
        proof = self.commit()
        self.draw()
        self.open(proof)

    def end(self) -> None:
        """Let the epoch end."""
        self.go_to(self.epoch().record.ends_at)

    def _call(self, data: bytes) -> None:
        self.stage.operate(Call("prove", self.stage.market.benchmark.address, data))


@pytest.fixture
def prover(running: Stage) -> Prover:
    return Prover(running, rules_of(running.market.benchmark, "latest"))


def shown(stage: Stage) -> str:
    """What was shown since the last look."""
    text = "\n".join(stage.ui.lines)
    stage.ui.lines.clear()
    return text


def test_proof__from_opening_to_claim__told_at_every_step(prover: Prover) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    prover.begin()
    assert "open a window: " in shown(stage)
    with pytest.raises(CommandError, match="no boundary that can be presented now has won"):
        proofs.open_epoch(market, stage.stranger, stage.ui)
    proofs.show(market, stage.ui)
    text = shown(stage)
    assert "256 x 960 x 256, 4 samples, window 6 s" in text
    assert "no provider has committed" in text

    proof = prover.commit()
    with pytest.raises(CommandError, match="cannot be drawn: commits until"):
        proofs.draw(market, stage.stranger, stage.ui)
    with pytest.raises(CommandError, match="cannot be closed: commits until"):
        proofs.close(market, stage.stranger, stage.ui)
    with pytest.raises(CommandError, match="cannot be settled yet: commits until"):
        proofs.settle(market, stage.stranger, stage.ui, owner)
    with pytest.raises(CommandError, match="the bond is bound by the proof of epoch"):
        proofs.release_bond(market, stage.owner, stage.ui, owner)
    prover.draw()
    prover.open(proof, most=2)
    proofs.show(market, stage.ui)
    assert f"{owner} | 3 | " in (text := shown(stage))
    assert "2 of 4 | open" in text
    assert "samples are opened until" in text

    found = proof.openings(make_engine("numpy"), _draw_of(prover), 4)[2:]
    data = market.benchmark.open_samples(owner, [opening.words() for opening in found])
    stage.operate(Call("open_samples", market.benchmark.address, data))
    score = prover.rules.score(ROUNDS)
    proofs.show(market, stage.ui)
    assert "4 of 4 | proven" in shown(stage)
    proofs.show_provider(market, stage.ui, owner)
    assert f"0x{proof.commitment.hex()}" in (text := shown(stage))
    assert "state | proven" in text
    assert providers.read(market, owner).score == score
    directory.show(
        market, directory.read(market, stage.ui, asking=lambda urls, reach: {}), stage.ui
    )
    assert "0.00006291 TOPS | 0.00006291 TOPS | " in shown(stage)

    rewards.show(market, stage.ui, owner)
    assert "1,000 TPF | the epoch is not over" in shown(stage)
    with pytest.raises(CommandError, match="no reward waits for"):
        rewards.claim(market, stage.stranger, stage.ui, owner)
    prover.end()
    before = market.staking.owner_assets(owner, "latest")
    claimed = rewards.claim(market, stage.stranger, stage.ui, owner)
    assert claimed.amount == 1_000 * TPF
    assert claimed.to_payout <= 1_000
    # The rest went to the payout address, but for rounding.
    gained = market.staking.owner_assets(owner, "latest") - before
    assert claimed.to_pool - 3 <= gained <= claimed.to_pool
    rewards.show(market, stage.ui, owner)
    assert "paid into the pool" in shown(stage)
    with pytest.raises(CommandError, match="no reward waits for"):
        rewards.claim(market, stage.stranger, stage.ui, owner)
    with pytest.raises(CommandError, match="has no unsettled epoch"):
        proofs.settle(market, stage.stranger, stage.ui, owner)
    rewards.show_emission(market, stage.ui)
    assert "minted | 1,000 TPF" in (text := shown(stage))
    assert "Weights: 0 | capacity | 100 % | 100 % | 1,000 TPF" in text

    locked = providers.read(market, owner).locked
    with pytest.raises(CommandError, match="is neither the owner nor the operator"):
        proofs.release_bond(market, stage.stranger, stage.ui, owner)
    proofs.release_bond(market, stage.owner, stage.ui, owner)
    assert locked - providers.read(market, owner).locked == BOND
    with pytest.raises(CommandError, match="has no bond locked"):
        proofs.release_bond(market, stage.owner, stage.ui, owner)


def _draw_of(prover: Prover) -> bytes:
    return prover.epoch().record.draw


def test_fail__not_opened__bond_is_burned_once(prover: Prover) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    with pytest.raises(CommandError, match="has no proof that could fail"):
        proofs.fail(market, stage.stranger, stage.ui, owner)
    prover.begin()
    prover.commit()
    prover.draw()
    with pytest.raises(CommandError, match="cannot be reported: samples are opened until"):
        proofs.fail(market, stage.stranger, stage.ui, owner)
    number = prover.epoch().number
    prover.end()
    proofs.show(market, stage.ui)
    assert f"{owner} has not opened its proof of epoch {number}" in shown(stage)
    proofs.show_provider(market, stage.ui, owner)
    assert "NOT OPENED: anyone can report it until" in shown(stage)
    proofs.fail(market, stage.stranger, stage.ui, owner)
    assert "50 TPF burned, its score is gone" in shown(stage)
    proofs.show(market, stage.ui, number)
    assert "failed, 50 TPF burned" in shown(stage)
    with pytest.raises(CommandError, match="has no proof that could fail"):
        proofs.fail(market, stage.stranger, stage.ui, owner)


def test_withdraw__in_the_window__nothing_is_left_to_open(prover: Prover) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    with pytest.raises(CommandError, match="has no proof that could be withdrawn"):
        proofs.withdraw(market, stage.owner, stage.ui)
    prover.begin()
    prover.commit()
    with pytest.raises(CommandError, match="is not a registered provider"):
        proofs.withdraw(market, stage.stranger, stage.ui)
    proofs.withdraw(market, stage.owner, stage.ui)
    proofs.show(market, stage.ui)
    assert "no provider has committed" in shown(stage)
    proofs.release_bond(market, stage.owner, stage.ui, owner)
    prover.commit()
    proofs.show(market, stage.ui)
    assert f"{owner} | 3 | " in shown(stage)
    prover.draw()
    with pytest.raises(CommandError, match="cannot be withdrawn: samples are opened until"):
        proofs.withdraw(market, stage.owner, stage.ui)


@pytest.mark.parametrize("closed", [False, True], ids=["not closed", "not drawn"])
def test_show__nobody_closed_or_drew__void_and_nothing_lost(prover: Prover, closed: bool) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    with pytest.raises(CommandError, match=r"there is no epoch 9: (no window|the newest epoch)"):
        proofs.show(market, stage.ui, 9)
    number = prover.begin()
    prover.commit()
    opened = prover.epoch().record.opened_at
    if closed:
        prover.close()
        with pytest.raises(CommandError, match="is not there yet, the newest is"):
            proofs.draw(market, stage.stranger, stage.ui)
        prover.go_to(prover.rules.draw_until(opened) + 1)
    else:
        prover.go_to(prover.rules.close_until(opened) + 1)
        with pytest.raises(CommandError, match="cannot be closed: void"):
            proofs.close(market, stage.stranger, stage.ui)
    with pytest.raises(CommandError, match="cannot be drawn: void: nobody closed or drew in time"):
        proofs.draw(market, stage.stranger, stage.ui)
    proofs.show(market, stage.ui)
    assert "| void" in shown(stage)
    prover.end()
    with pytest.raises(CommandError, match="cannot be reported: void"):
        proofs.fail(market, stage.stranger, stage.ui, owner)
    proofs.show(market, stage.ui)
    assert "has not opened" not in shown(stage)
    proofs.show(market, stage.ui, number)
    rewards.show(market, stage.ui, owner)
    assert "has no score yet" in shown(stage)
    proofs.settle(market, stage.stranger, stage.ui, owner)
    proofs.release_bond(market, stage.owner, stage.ui, owner)


def test_delegate__while_an_epoch_is_unsettled__waits_as_an_entry(prover: Prover) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    prover.prove()
    with pytest.raises(CommandError, match="has no entry with"):
        entries.take_back(market, stage.owner, stage.ui, owner)
    active = providers.read(market, owner).active
    providers.delegate(market, stage.owner, stage.ui, owner, 7 * TPF)
    assert "7 TPF wait as an entry until the provider's epoch is settled" in shown(stage)
    providers.show(market, providers.read(market, owner), stage.ui)
    assert "7 TPF, not active yet" in shown(stage)
    assert providers.read(market, owner).active == active
    entries.take_back(market, stage.owner, stage.ui, owner)
    providers.delegate(market, stage.owner, stage.ui, owner, 5 * TPF)
    prover.end()
    # Activation settles first: the reward of the epoch is paid to the stake that earned it.
    entries.activate(market, stage.stranger, stage.ui, owner, owner)
    gained = providers.read(market, owner).active - active
    assert 1_005 * TPF - 1_000 <= gained <= 1_005 * TPF


def missing(market: Market, owner: str, min_score: int) -> str | None:
    """What keeps a provider from being hired for want of proven throughput."""
    verdict = feasible.judge(
        market,
        providers.read(market, owner),
        Asked("http://agent", None, "is not asked"),
        packages.read(ROOT / "examples" / "finetune-digits").spec,
        min_score=min_score,
    )
    return next((str(one) for one in verdict.refusals if one.code is Code.SCORE_MISSING), None)


def test_min_score__proven_or_not__decides_who_can_take_the_job(prover: Prover) -> None:
    stage, owner, market = prover.stage, prover.owner, prover.stage.market
    score = prover.rules.score(ROUNDS)
    order = stage.order(min_score=score // 2 + 1)
    assert tenant.candidates(market, order) == {}
    assert missing(market, owner, score) == "has 0 TOPS free"
    prover.prove()
    assert missing(market, owner, score) is None
    assert list(tenant.candidates(market, order)) == [owner]
    placed = stage.post(min_score=order.min_score)
    assert "proven throughput needed | 0.00003146 TOPS" in shown(stage)
    stage.accept(placed)
    assert stage.find(placed).status is Status.ASSIGNED
    # Its running jobs never need more than it has proven.
    assert providers.read(market, owner).free_score == score - order.min_score
    assert tenant.candidates(market, replace(order, nonce=2)) == {}


def test_set_weights__proposed_and_carried_out__in_force_for_epochs_to_come(
    prover: Prover,
) -> None:
    stage, market = prover.stage, prover.stage.market
    with pytest.raises(CommandError, match="2 weights for 1 use; leave some out"):
        rewards.set_weights(market, stage.deployer, stage.ui, [5_000, 5_000])
    with pytest.raises(CommandError, match=r"the weights sum up to 100\.01 %"):
        rewards.set_weights(market, stage.deployer, stage.ui, [10_001])
    with pytest.raises(CommandError, match="may not propose to the timelock"):
        rewards.set_weights(market, stage.stranger, stage.ui, [8_000])
    rewards.set_weights(market, stage.deployer, stage.ui, [8_000])
    assert "carried out after 1 min" in shown(stage)
    with pytest.raises(CommandError, match="proposed, and can be carried out"):
        rewards.set_weights(market, stage.deployer, stage.ui, [8_000])
    stage.anvil.increase_time(61)
    rewards.set_weights(market, stage.stranger, stage.ui, [8_000])
    rewards.show_emission(market, stage.ui)
    assert "0 | capacity | 100 % | 80 % | " in shown(stage)
    # The same weights again are another proposal.
    rewards.set_weights(market, stage.deployer, stage.ui, [8_000])
    assert "Propose to set the weights to 80 %" in shown(stage)
