# SPDX-License-Identifier: Apache-2.0
"""Epochs with the real agent: proof, score and rewards, and what can go wrong on the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from provider_agent.benchmark.schedule import Stage
from provider_agent.protocol.terms import Status
from tests.agent_e2e.world import TPF, World
from tests.agent_proofs.epochs import Epochs, epochs, prover

WAIT = 240.0  # seconds for what takes an epoch; time on the chain waits for the agents


@pytest.fixture
def walking() -> Iterator[Epochs]:
    with epochs() as made:
        yield made


def scored(walking: Epochs, world: World, after: int = -1) -> int:
    """Wait for a score; the epoch it was proven in."""

    def look() -> int | None:
        epoch = walking.epoch
        return epoch if epoch > after and walking.score_in(world, epoch) else None

    found: int = world.until(look, "score", WAIT)
    return found


def test_epoch__is_proven_scored_and_rewarded(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()

        epoch = scored(walking, world)

        proof = walking.proof(world)
        assert walking.score_in(world, epoch) == walking.rules.score(proof.rounds)
        assert world.benchmark.read("score", world.owner.address) > 0
        # The bond is locked, nothing else.
        assert world.staking.read("pool", world.owner.address)[1] == walking.rules.bond
        before = world.staking.read("pool", world.owner.address)[0]
        read = world.emissions.read
        world.until(lambda: read("claimed", world.owner.address, epoch), "claim", WAIT)
        # The only provider: the whole emission, into its pool and 10 % of it to the owner.
        pool = world.staking.read("pool", world.owner.address)[0]
        commission = world.staking.read("credit_of", world.owner.address)
        assert read("reward_of", world.owner.address, epoch) == 1_000 * TPF
        assert (pool - before, commission) == (900 * TPF, 100 * TPF)
        shown = httpx.get(
            f"http://127.0.0.1:{world.api_port}/v1/provider", trust_env=False, verify=False
        ).json()
        assert shown["proof"]["device"] == "cpu" and shown["proof"]["epoch"] >= epoch
        assert shown["contracts"]["benchmark"].lower() == world.benchmark.address.lower()
        said = world.status()
        assert (
            "Proof: epoch" in said and "mega operations a second" in said and "TPF to claim" in said
        )
        assert world.stop_agent() == 0
        assert world.left_processes() == []
        sent = world.deployment.sent_by(world.operator.address)
        assert all(good for _, good in sent), sent


def test_job_runs_in_the_window__proof_waits_for_it(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        directory = world.job_directory("nap", "import os, time; time.sleep(8); os.mkdir('out')")
        spec = world.spec(directory, timeout_seconds=60)
        world.until(lambda: walking.stage() is Stage.WINDOW, "window", WAIT)

        job = world.post(spec, directory, duration=100_000)
        world.until(job.try_upload, "upload", WAIT)

        world.until(lambda: "paused while a job runs" in world.log(), "the line in the log", WAIT)
        job.wait(Status.ATTESTED, seconds=WAIT)
        scored(walking, world)


def test_agent_is_late__window_is_missed__next_epoch_is_proven(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path / "other") as other, prover(walking, tmp_path / "late") as late:
        walking.waits_for.append(other)
        other.start_agent()
        other.until(lambda: walking.stage() is Stage.SAMPLES, "a drawn epoch", WAIT)
        missed = walking.epoch
        late.start_agent()
        late.until(lambda: "the window was missed" in late.log(), "the line in the log", WAIT)
        walking.waits_for.append(late)

        epoch = scored(walking, late, after=missed)

        assert walking.score_in(late, missed) == 0
        assert epoch > missed


def test_nobody_draws__epoch_is_void__next_one_is_proven(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        world.until(lambda: walking.has_committed(world, walking.epoch), "commit", WAIT)
        void = walking.epoch
        world.kill_agent()
        world.until(lambda: not world.left_processes(), "end of the worker")
        walking.waits_for.clear()
        world.until(lambda: walking.stage() is Stage.VOID or walking.epoch > void, "end", WAIT)
        assert walking.record(void).drawn_at == 0
        walking.waits_for.append(world)
        world.start_agent()

        scored(walking, world, after=void)

        assert walking.score_in(world, void) == 0
        assert world.staking.read("pool", world.owner.address)[0] == 10**6 * TPF


def test_disk_is_lost_after_the_commit__proof_is_computed_again(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        world.until(lambda: walking.has_committed(world, walking.epoch), "commit", WAIT)
        epoch = walking.epoch
        world.kill_agent()
        shutil.rmtree(tmp_path / "agent" / "data" / "proofs")
        world.start_agent()

        assert scored(walking, world) == epoch


def test_proof_is_not_opened__another_agent_reports_it(walking: Epochs, tmp_path: Path) -> None:
    with (
        prover(walking, tmp_path / "gone") as gone,
        prover(walking, tmp_path / "other") as other,
    ):
        walking.waits_for += [gone, other]
        gone.start_agent()
        other.start_agent()
        both = (gone, other)
        gone.until(
            lambda: all(walking.has_committed(world, walking.epoch) for world in both),
            "two commits",
            WAIT,
        )
        epoch = walking.epoch
        gone.kill_agent()
        walking.waits_for.remove(gone)
        before = gone.staking.read("pool", gone.owner.address)[0]

        other.until(lambda: walking.proof(gone).rounds == 0, "report", WAIT)

        assert walking.score_in(other, epoch) > 0
        assert walking.score_in(gone, epoch) == 0
        slashed = before - gone.staking.read("pool", gone.owner.address)[0]
        assert slashed == walking.rules.bond
        assert gone.benchmark.read("score", gone.owner.address) == 0


def test_two_agents_on_one_machine__both_are_scored(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path / "one") as one, prover(walking, tmp_path / "two") as two:
        walking.waits_for += [one, two]
        one.start_agent()
        two.start_agent()
        one.until(
            lambda: all(walking.score_in(world, walking.epoch) for world in (one, two)),
            "two scores in an epoch",
            WAIT,
        )
        scores, stakes = walking.benchmark.read("share_of", one.owner.address, walking.epoch)[2:]
        assert scores == sum(walking.score_in(world, walking.epoch) for world in (one, two))
        assert stakes == 2 * 10**6 * TPF
