# SPDX-License-Identifier: Apache-2.0
"""What is done after a job's last process: its cost is bounded, and is a part of the plan."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent import durable
from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.modules.jobs.results import Results
from provider_agent.runners import outputs, probe, process
from provider_agent.runners.base import Phase, Reason, RunState
from provider_agent.runners.live import Live
from tests.agent.api_rig import wait_until
from tests.agent.duty_rig import Rig, assigned
from tests.agent.test_policy import make_policy, make_spec
from tests.support import runs

GOOD = RunState(Phase.EXITED, Reason.EXITED, 0, 10, 20)


class Disk:
    """Counts how often the disk has to answer, and may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = self.systems = 0
        self.fails = False
        real = os.fsync

        def fsync(handle: int) -> None:
            self.files += 1
            self._answer()
            real(handle)

        def syncfs(handle: int) -> int:
            self.systems += 1
            self._answer()
            return 0

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(durable, "_LIBC", SimpleNamespace(syncfs=syncfs))

    def _answer(self) -> None:
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    @property
    def answers(self) -> int:
        return self.files + self.systems


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def made(place: Path, shape: str, number: int) -> Path:
    """A job's directory with a number of outputs."""
    out = place / "work" / "out"
    out.mkdir(parents=True)
    for n in range(number):
        if shape == "files":
            (out / f"{n}").write_bytes(b"x")
        elif shape == "directories":
            (out / f"{n}").mkdir()
        else:
            (out / f"{n}").mkdir()
            (out / f"{n}" / "file").write_bytes(b"x")
    return place / "work"


def delivered(place: Path, work: Path) -> None:
    outputs.collect(work, ["out"], place / "outputs", 1 << 20)
    log = place / "log"
    log.write_bytes(b"")
    Results(place / "results").keep(b"\x05" * 32, GOOD, place / "outputs", log, b"receipt")


# ---------------------------------------------------------------------- the disk


@pytest.mark.parametrize("shape", ["files", "directories", "both"])
def test_many_outputs__the_disk_is_asked_no_oftener(tmp_path: Path, disk: Disk, shape: str) -> None:
    asked = []
    for number in (100, 1_500):
        before = disk.answers
        place = tmp_path / f"{number}"
        delivered(place, made(place, shape, number))
        asked.append(disk.answers - before)
    assert asked[0] == asked[1] < 10


def test_few_outputs__each_is_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    """Other jobs' bytes are not waited for."""
    delivered(tmp_path, made(tmp_path, "files", 5))
    assert disk.systems == 0 and disk.files >= 2 * 5


@pytest.mark.parametrize("number", [3, 500])
def test_disk_that_fails__nothing_is_delivered(tmp_path: Path, disk: Disk, number: int) -> None:
    work = made(tmp_path, "files", number)
    disk.fails = True
    with pytest.raises(OSError, match="Input/output"):
        outputs.collect(work, ["out"], tmp_path / "outputs", 1 << 20)
    assert not (tmp_path / "outputs").exists()
    disk.fails = False
    outputs.collect(work, ["out"], tmp_path / "outputs", 1 << 20)
    disk.fails = True
    results = Results(tmp_path / "results")
    with pytest.raises(RunnerError, match="cannot be kept"):
        results.keep(b"\x05" * 32, GOOD, tmp_path / "outputs", tmp_path / "log", b"receipt")
    assert results.get(b"\x05" * 32) is None


def test_sync_tree__really(tmp_path: Path) -> None:
    """The calls themselves, on this machine's file system."""
    for number in (3, 3 * durable.FEW):
        durable.sync_tree(made(tmp_path / f"{number}", "both", number))
    with pytest.raises(OSError, match="No such file"):
        durable.sync_tree(tmp_path / "away")


# ---------------------------------------------------------------------- deleting


def filled(runner: process.ProcessRunner, tmp_path: Path, number: int) -> Path:
    """An ended run that has left a number of files, nested and flat."""
    run = runs.python_run(tmp_path, "run", "")
    runner.start(run)
    runs.wait(runner, "run")
    directory = tmp_path / "data" / "runs" / "run"
    for n in range(number):
        place = directory / "outputs" / f"{n % 7}" / f"{n % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}").write_bytes(b"")
    return directory


@pytest.mark.sandbox
def test_remove__much__gone_at_once_and_deleted_by_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_AT_ONCE", 20)
    runner = runs.make_runner(tmp_path / "data", "none")
    directory = filled(runner, tmp_path, 300)
    may_go_on = threading.Event()
    real = outputs.remove_tree

    def remove_tree(path: Path, most: int | None = None) -> bool:
        if most is None:
            assert may_go_on.wait(30)
        return real(path, most)

    monkeypatch.setattr(process, "remove_tree", remove_tree)
    runner.remove("run")
    assert not directory.exists() and runner.list() == ()
    assert os.listdir(directory.parent) != []
    may_go_on.set()
    wait_until(lambda: os.listdir(directory.parent) == [], 20)


@pytest.mark.sandbox
def test_remove__little__all_gone_when_it_returns(tmp_path: Path) -> None:
    runner = runs.make_runner(tmp_path / "data", "none")
    directory = filled(runner, tmp_path, 50)
    runner.remove("run")
    assert os.listdir(directory.parent) == []


@pytest.mark.sandbox
def test_remove__agent_dies_on_the_way__next_one_deletes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runs.make_runner(tmp_path / "data", "none")
    directory = filled(runner, tmp_path, 300)
    with monkeypatch.context() as patch:
        patch.setattr(process, "_AT_ONCE", 20)
        # The thread dies with the agent.
        patch.setattr(threading, "Thread", lambda **_: SimpleNamespace(start=int))
        runner.remove("run")
    assert os.listdir(directory.parent) != []
    runs.make_runner(tmp_path / "data", "none")
    wait_until(lambda: os.listdir(directory.parent) == [], 20)


@pytest.mark.parametrize("most", [1, 7, 40])
def test_remove_tree__cut_short__goes_on_from_there(tmp_path: Path, most: int) -> None:
    top = tmp_path / "top"
    deep = top / "/".join(["d"] * 30)
    deep.mkdir(parents=True)
    for n in range(50):
        (top / f"{n}").write_bytes(b"")
        (deep / f"{n}").write_bytes(b"")
    (top / "d").chmod(0)
    assert not outputs.remove_tree(top, most)
    assert top.exists()
    assert outputs.remove_tree(top)
    assert not top.exists()


# ---------------------------------------------------------------------- the plan


def test_plan__holds_what_failed_gpus_may_take() -> None:
    policy = make_policy()
    without, with_one, with_all = (
        policy.busy_seconds(make_spec(resources={"gpus": gpus})) for gpus in (0, 1, 8)
    )
    assert with_one == with_all >= without + probe.SECONDS


def test_plan__holds_what_many_outputs_may_take() -> None:
    policy = make_policy(runner={"disk_mb_per_second": 10**6})
    small, large = (make_spec(resources={"disk_mb": size}) for size in (1, 400))
    assert policy.busy_seconds(large) > policy.busy_seconds(small) > small.timeout_seconds
    # Where the number of files ends, so does what they cost.
    huge = make_spec(resources={"disk_mb": 4_000})
    assert policy.busy_seconds(huge) == policy.busy_seconds(large)


def test_gpus_of_a_failed_run__tried_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for all the others to have begun."""
    gpus = tuple(Device("cuda", n, "GPU", f"GPU-{n}", 1 << 30) for n in range(6))
    run = replace(runs.python_run(tmp_path, "run", ""), devices=gpus)
    together = threading.Barrier(6, timeout=30)

    def tried(live: Live, device: Device) -> str:
        together.wait()
        return "lost" if device.index in (1, 4) else ""

    monkeypatch.setattr(probe, "_try", tried)
    found = probe.broken(cast(Live, SimpleNamespace(request=run)))
    assert found == {"GPU-1": "lost", "GPU-4": "lost"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, gpus=8, runner={"gpus": 1}, agent={"slots": 2})
    yield made
    made.duty.close()
    made.store.close()


def test_drivers_that_hang__jobs_begin_and_end_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hang(device: Device) -> str:
        assert answers.wait(60)
        return ""

    monkeypatch.setattr(rig.runner, "probe", hang)
    rig.fleet.suspect([f"GPU-{n}" for n in range(8)], "lost")
    rig.next_block(3_600)
    try:
        for _ in range(2):
            _look(rig, monkeypatch)
        terms: Any = assigned(rig)
        rig.cycle(2)
        run = rig.runner.started[0].run_id
        rig.runner.end(run)
        rig.cycle(2)
        assert rig.intents() == [("attest", "planned")]
        assert rig.status(terms)["outcome"] == "succeeded"
    finally:
        answers.set()


def _look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the devices, with no patience for them."""
    with monkeypatch.context() as patch:
        patch.setattr("provider_agent.core.background._PATIENCE", 0.01)
        rig.duty._worker.probe_suspects()
