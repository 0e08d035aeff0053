# SPDX-License-Identifier: Apache-2.0
"""Jobs on GPUs that fail, vanish and come back: whose fault it is, and what is still offered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.jobs.views import offer
from provider_agent.runners.base import Reason
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Outcome
from teraproof.protocol.terms import Terms
from tests.agent.duty_rig import Rig


def make(folder: Path, gpus: int, slots: int) -> Rig:
    return Rig(folder, gpus=gpus, runner={"gpus": 1}, agent={"slots": slots})


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = make(tmp_path, gpus=2, slots=2)
    yield made
    made.duty.close()
    made.store.close()


def gpu_spec(rig: Rig, gpus: int = 1) -> Any:
    return rig.spec(resources={"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": gpus})


def running(rig: Rig, gpus: int = 1) -> Terms:
    """A job that was hired and runs."""
    spec = gpu_spec(rig, gpus)
    rig.upload(spec)
    terms = rig.post(spec)
    rig.assign(terms)
    rig.cycle(2)
    return terms


def used(rig: Rig) -> list[str]:
    """The GPUs of all runs, in the order of their starts."""
    return [device.uuid for run in rig.runner.started for device in run.devices]


def test_two_jobs__each_has_a_gpu_of_its_own(rig: Rig) -> None:
    running(rig)
    running(rig)
    assert sorted(used(rig)) == ["GPU-0", "GPU-1"]


def test_probe_fails_after_the_run__not_attested_and_done_again_on_another(rig: Rig) -> None:
    terms = running(rig)
    rig.runner.blame_device(rig.runner.started[0].run_id)
    rig.cycle(3)
    assert rig.intents() == []  # nothing is attested
    assert used(rig) == ["GPU-0", "GPU-1"]
    check = rig.fleet.check()
    assert not check.ok and "cuInit: error 999" in check.detail
    rig.runner.end(rig.runner.started[1].run_id)
    rig.cycle(2)
    assert rig.intents() == [("attest", "planned")]
    assert rig.status(terms)["outcome"] == Outcome.SUCCEEDED


def test_agent_starts_again_after_a_failed_probe__the_gpu_stays_off_the_offer(rig: Rig) -> None:
    running(rig)
    rig.runner.blame_device(rig.runner.started[0].run_id)
    rig.cycle(2)
    rig.restart()
    rig.cycle(2)
    running(rig)
    assert used(rig)[1:] == ["GPU-1"]
    rig.duty._worker.probe_suspects()
    assert rig.runner.probed == ["GPU-0"]
    rig.cycle(2)
    assert used(rig)[1:] == ["GPU-1", "GPU-0"], "it has passed: the job that waited has it"


def test_probe_passes_after_the_run__failure_is_attested(rig: Rig) -> None:
    terms = running(rig)
    rig.runner.end(rig.runner.started[0].run_id, Reason.EXITED, 1)
    rig.cycle(2)
    assert rig.intents() == [("attest", "planned")]
    assert rig.status(terms)["outcome"] == Outcome.FAILED
    assert rig.fleet.check().ok


def test_gpu_is_lost__off_the_offer_and_the_other_goes_on(rig: Rig) -> None:
    rig.lost.add(0)
    rig.next_block()
    rig.fleet.look()
    running(rig)
    assert used(rig) == ["GPU-1"]
    shown = offer(rig.settings, rig.promises.shown, len(rig.fleet.usable))
    assert (shown["slots"]["total"], shown["limits"]["gpus"]) == (1, 1)
    assert "GPU is lost" in rig.fleet.check().detail


def test_all_gpus_are_lost__jobs_wait_and_are_not_blamed(rig: Rig) -> None:
    rig.lost |= {0, 1}
    rig.next_block()
    rig.fleet.look()
    terms = running(rig)
    assert rig.runner.started == [] and rig.intents() == []
    assert rig.blocked(terms) is Code.DEVICES_TAKEN
    shown = offer(rig.settings, rig.promises.shown, len(rig.fleet.usable))
    assert (shown["slots"]["total"], shown["limits"]["gpus"]) == (0, 0)
    rig.lost.clear()
    rig.next_block()
    rig.fleet.look()
    rig.cycle(2)
    assert len(rig.runner.started) == 1


def test_gpu_is_lost_just_before_the_acceptance__not_taken(tmp_path: Path) -> None:
    """The look of this cycle was too early; whoever promises a GPU looks once more."""
    rig = make(tmp_path, gpus=1, slots=1)
    try:
        spec = gpu_spec(rig)
        rig.upload(spec)
        rig.fleet.look()
        rig.lost.add(0)
        terms = rig.post(spec)
        rig.cycle(2)
        assert rig.intents() == [] and rig.blocked(terms) is not None
        rig.lost.clear()
        rig.next_block()
        rig.fleet.look()
        rig.cycle(2)
        assert rig.intents() == [("accept", "planned")]
    finally:
        rig.duty.close()
        rig.store.close()


def test_more_gpus_than_are_free__never_a_part_of_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, gpus=3, runner={"gpus": 2}, agent={"slots": 2})
    try:
        running(rig, gpus=2)
        terms = running(rig, gpus=2)
        assert [len(run.devices) for run in rig.runner.started] == [2]
        assert rig.blocked(terms) is Code.DEVICES_TAKEN
    finally:
        rig.duty.close()
        rig.store.close()


def test_agent_starts_again_while_a_gpu_is_lost__the_run_goes_on(rig: Rig) -> None:
    running(rig)
    first = rig.runner.started[0]
    rig.lost.add(0)
    rig.restart()
    rig.cycle(2)
    # Its request is what it was begun with, whatever GPUs there are now.
    assert rig.runner.list() == (first.run_id,) and used(rig) == ["GPU-0"]
    rig.runner.end(first.run_id)
    rig.cycle(2)
    assert rig.intents() == [("attest", "planned")]
