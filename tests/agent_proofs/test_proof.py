# SPDX-License-Identifier: Apache-2.0
"""Epochs with the real agent: proof, score and rewards."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from teraproof.pog.schedule import Stage
from teraproof.protocol.terms import Status
from tests.agent_e2e.chain import TPF, ProofTerms
from tests.agent_proofs.epochs import (
    WAIT,
    Epochs,
    committed,
    epochs,
    in_stage,
    pool,
    prover,
    scored,
)


def blocks_since(walking: Epochs, time: int) -> int:
    """How many blocks are not before a time."""
    count, number = 0, walking.anvil.number()
    while int(walking.anvil.block(number - count)["timestamp"], 16) >= time:
        count += 1
    return count


def test_epoch__is_proven_scored_and_rewarded(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        benchmark, emissions = world.benchmark, world.emissions
        assert benchmark is not None and emissions is not None
        walking.waits_for.append(world)
        world.start_agent()

        # The first window opens at the genesis, before which nothing has accrued.
        epoch = scored(walking, world, after=1)

        proof = walking.proof(world)
        score = walking.rules.score(proof.rounds)
        assert walking.score_in(world, epoch) == score
        assert benchmark.read("score", world.owner.address) == score
        assert benchmark.read("proven", world.owner.address)[:2] == (score, epoch)
        # The bond is locked, nothing else.
        assert world.staking.read("pool", world.owner.address)[1] == walking.rules.bond
        world.until(lambda: walking.is_settled(world, epoch), "claim", WAIT)
        # The only provider: all that was minted, into its pool and 10 % of it to the owner.
        with walking.held():
            read = emissions.read
            minted, paid = read("minted"), pool(world) - 10**6 * TPF
            commission = world.staking.read("credit_of", world.owner.address)
            ended = range(1, walking.epoch + walking.proof(world).settled)
        assert minted == sum(read("emission", number) for number in ended) > 0
        assert paid + commission == minted
        assert commission == pytest.approx(minted / 10)
        shown = httpx.get(
            f"http://127.0.0.1:{world.api_port}/v1/provider", trust_env=False, verify=False
        ).json()
        assert shown["proof"]["device"] == "cpu" and shown["proof"]["epoch"] >= epoch
        assert shown["contracts"]["benchmark"].lower() == benchmark.address.lower()
        said = world.status()
        assert "Proof: epoch" in said and "TPF to claim" in said
        assert "TOPS backed by stake, of" in said and "TOPS proven" in said
        assert world.stop_agent() == 0
        assert world.left_processes() == []
        sent = world.deployment.sent_by(world.operator.address)
        assert all(good for _, good in sent), sent


def test_value_is_the_hash__epoch_is_proven(tmp_path: Path) -> None:
    with epochs(ProofTerms(source=1)) as walking, prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        scored(walking, world)


def test_chance_opens_windows__only_those_are_proven(tmp_path: Path) -> None:
    terms = ProofTerms(slot=150, open_period=100, window=240, chance_ppm=400_000)
    with epochs(terms) as walking, prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        first = scored(walking, world)
        second = scored(walking, world, after=first)
        assert (first, second) == (1, 2)
        opened = [walking.record(epoch).opened_at for epoch in (first, second)]
        assert all((at - walking.rules.genesis) % 150 == 0 for at in opened)
        sent = world.deployment.sent_by(world.operator.address)
        assert sent["open", True] == walking.epoch and ("open", False) not in sent


def test_job_runs_in_the_window__proof_waits_for_it(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        directory = world.job_directory("nap", "import os, time; time.sleep(8); os.mkdir('out')")
        spec = world.spec(directory, timeout_seconds=60)
        in_stage(walking, world, Stage.WINDOW)

        job = world.post(spec, directory, duration=100_000)
        world.until(job.try_upload, "upload", WAIT)

        world.until(lambda: "paused while a job runs" in world.log(), "the line in the log", WAIT)
        job.wait(Status.ATTESTED, seconds=WAIT)
        scored(walking, world)


def test_disk_is_lost_after_the_commit__proof_is_computed_again(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        epoch = committed(walking, world)
        world.kill_agent()
        shutil.rmtree(tmp_path / "agent" / "data" / "proofs")
        world.start_agent()

        assert scored(walking, world) == epoch


def test_winning_block_leaves_the_chain__only_what_is_on_chain_is_proven(
    walking: Epochs, tmp_path: Path
) -> None:
    """The block of a boundary is replaced while its rounds are under way."""
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        first = scored(walking, world)

        def is_ahead() -> bool:
            return f"proof of epoch {first + 1}: proving; the window is not" in world.log()

        world.until(is_ahead, "rounds ahead of the chain", WAIT)
        with walking.held():
            assert walking.epoch in (first, first + 1)
            lost = walking.record(first + 1).beacon
            boundary = walking.rules.boundary(walking.now)
            assert boundary is not None
            world.anvil.drop_all_transactions()
            world.anvil.reorg(blocks_since(walking, boundary))
            assert walking.epoch == first

        assert scored(walking, world, after=first) == first + 1
        assert walking.record(first + 1).beacon != lost
        assert pool(world) >= 10**6 * TPF
