# SPDX-License-Identifier: Apache-2.0
"""What a run holds of the machine, and that all of it is given back: images, mounts, loop devices,
control groups; after every death of whoever should have done it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from provider_agent.runners import disk, linux, usage, watch
from provider_agent.runners.base import MIB, Phase, Reason
from provider_agent.runners.cgroup import Group
from provider_agent.runners.live import Live
from provider_agent.runners.process import ProcessRunner
from provider_agent.runners.state import GROUPS
from tests.support import runs

pytestmark = pytest.mark.sandbox

ENDLESS = 'open("began", "w")\nimport time; time.sleep(600)'


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[ProcessRunner]:
    runs.need_bubblewrap()
    made = runs.make_runner(tmp_path / "data")
    if made.containment.disk != disk.IMAGE:
        pytest.skip("this machine has no loop devices for us")
    yield made
    for run_id in made.list():
        made.remove(run_id)
    runs.wait_for_no_loops(tmp_path)


def image(tmp_path: Path) -> Path:
    return tmp_path / "data" / "runs" / "run" / disk.IMAGE_FILE


def groups(tmp_path: Path) -> list[Path]:
    """The run's directories in /sys/fs/cgroup."""
    try:
        said = (tmp_path / "data" / "runs" / "run" / GROUPS).read_bytes()
    except FileNotFoundError:  # not begun, or over
        return []
    return [path for path in map(Path, json.loads(said)["paths"]) if path.is_dir()]


def begun(runner: ProcessRunner, tmp_path: Path) -> int:
    """Starts an endless run; the pid of its supervisor."""
    runner.start(runs.python_run(tmp_path, "run", ENDLESS))
    runs.wait_for(runs.inside(tmp_path / "data") / "began")
    assert image(tmp_path).exists() and len(runs.loops_below(tmp_path)) == 1
    assert groups(tmp_path)
    return runs.supervisor_pid(tmp_path / "data", "run")


def check_given_back(tmp_path: Path, held: list[Path]) -> None:
    runs.wait_for_no_loops(tmp_path)
    assert not image(tmp_path).exists()
    assert not any(path.exists() for path in held)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_supervisor_killed__all_given_back(runner: ProcessRunner, tmp_path: Path) -> None:
    pid = begun(runner, tmp_path)
    held = groups(tmp_path)
    os.kill(pid, signal.SIGKILL)
    assert runs.wait(runner, "run").phase is Phase.LOST
    check_given_back(tmp_path, held)


def test_agent_killed__run_ends_without_it__all_given_back(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    source = """
import os, time
open("began", "w")
while not os.path.exists("end"): time.sleep(0.01)
open("out", "w").write("done")
"""
    run = runs.python_run(tmp_path, "run", source, outputs=("out",))
    child = os.fork()
    if child == 0:
        runner.start(run)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    runs.wait_for(runs.inside(tmp_path / "data") / "began")
    held = groups(tmp_path)
    (runs.inside(tmp_path / "data") / "end").touch()
    after = runs.make_runner(tmp_path / "data")  # adopts it
    assert runs.wait(after, "run").succeeded
    check_given_back(tmp_path, held)
    assert (after.outputs("run") / "out").read_text() == "done"


def test_both_killed__the_next_agent_gives_back(runner: ProcessRunner, tmp_path: Path) -> None:
    pid = begun(runner, tmp_path)
    held = groups(tmp_path)
    os.kill(pid, signal.SIGKILL)
    after = runs.make_runner(tmp_path / "data")
    assert runs.wait(after, "run").phase is Phase.LOST
    check_given_back(tmp_path, held)


def test_two_agents__runs_of_one_name__a_group_for_each(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    other, place = runs.make_runner(tmp_path / "other" / "data"), tmp_path / "other"
    begun(runner, tmp_path)
    begun(other, place)
    ours, theirs = groups(tmp_path), groups(place)
    assert not set(ours) & set(theirs)
    for mine, data in ((ours, tmp_path), (theirs, place)):
        supervisor = str(runs.supervisor_pid(data / "data", "run"))
        members = [(path / "cgroup.procs").read_text().split() for path in mine]
        assert all(members) and not any(supervisor in pids for pids in members)
    runner.remove("run")
    assert not any(path.exists() for path in ours)
    assert groups(place) == theirs and other.poll("run").phase is Phase.RUNNING
    assert all((path / "cgroup.procs").read_text() for path in theirs)
    other.remove("run")
    check_given_back(tmp_path, theirs)


@pytest.mark.parametrize("how", ["stop", "remove", "ends", "fails"])
def test_end_of_a_run__all_given_back(runner: ProcessRunner, tmp_path: Path, how: str) -> None:
    if how in ("stop", "remove"):
        begun(runner, tmp_path)
        held = groups(tmp_path)
        getattr(runner, how)("run")
    else:
        source = 'open("out", "w")' if how == "ends" else "raise SystemExit(1)"
        runner.start(runs.python_run(tmp_path, "run", source, outputs=("out",)))
        held = groups(tmp_path)
        assert runs.wait(runner, "run").succeeded is (how == "ends")
    check_given_back(tmp_path, held)


def test_loop_device_and_mount_left_over__taken_away_at_the_start(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    directory = tmp_path / "data" / "runs" / "run"
    (directory / disk.PLACE).mkdir(parents=True)
    disk.make_image(directory, disk.room_for(runs.LIMITS, ()))

    def start_of_an_agent() -> None:
        # In a mount table of its own: the test's machine sees no mount of it.
        linux.private_mounts()
        subprocess.run(["mount", "-o", "loop", image(tmp_path), directory / disk.PLACE], check=True)
        subprocess.run(["losetup", "-f", image(tmp_path)], check=True)
        assert len(runs.loops_below(tmp_path)) >= 1
        runs.make_runner(tmp_path / "data")
        assert str(directory) not in Path("/proc/self/mountinfo").read_text()

    process = multiprocessing.get_context("fork").Process(target=start_of_an_agent)
    process.start()
    process.join()
    assert process.exitcode == 0
    runs.wait_for_no_loops(tmp_path)


@pytest.mark.parametrize(
    ("size", "inputs"),
    # What is written is twice the size, so the large one comes with the worst inputs only.
    [*product((1, 24, 300), ((), (1,) * 500, (5 << 20, 3))), (3000, (1,) * 500)],
)
def test_image__holds_what_was_promised_and_little_more(
    tmp_path: Path, size: int, inputs: tuple[int, ...]
) -> None:
    if os.geteuid() != 0 or disk.choose(True, True) != disk.IMAGE:
        pytest.skip("this machine has no loop devices for us")
    if shutil.disk_usage(tmp_path).free < 2 * size * MIB:
        pytest.skip("no room for it")
    room = disk.room_for(replace(runs.LIMITS, disk_bytes=size * MIB), inputs)
    disk.make_image(tmp_path, room)
    assert (tmp_path / disk.IMAGE_FILE).stat().st_blocks * 512 >= room.image_bytes
    assert room.image_bytes < (size * MIB + sum(inputs)) * 1.2 + 12 * MIB

    def fill() -> None:
        linux.private_mounts()
        space = disk.mount(tmp_path, disk.IMAGE, room, None)
        found = os.statvfs(space.work)
        assert found.f_bavail * found.f_frsize >= room.data
        assert found.f_favail >= room.inodes
        space.settle()
        assert space.fault(size * MIB) == ""
        with open(space.work / "f", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * MIB)
        assert space.fault(size * MIB) == ""
        with open(space.work / "g", "wb") as file:
            left = os.statvfs(space.work)
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize * 9 // 10)
        assert space.fault(size * MIB) != ""

    process = multiprocessing.get_context("fork").Process(target=fill)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("inputs", [(), (1,) * 500, (5 << 20, 3)])
def test_taken__what_a_run_holds__by_kind(inputs: tuple[int, ...]) -> None:
    limits, room = runs.LIMITS, disk.room_for(runs.LIMITS, inputs)
    on_image = disk.taken(disk.IMAGE, limits, inputs)
    assert on_image == disk.Taken(limits.memory_bytes, room.image_bytes, 1)
    in_memory = disk.taken(disk.MEMORY, limits, inputs)
    assert (in_memory.disk, in_memory.inodes) == (0, 0)
    # What it may write and the inputs are memory, too.
    assert in_memory.memory >= limits.memory_bytes + limits.disk_bytes + sum(inputs)
    plain = disk.taken(disk.DIRECTORY, limits, inputs)
    assert plain.memory == limits.memory_bytes
    assert plain.disk >= limits.disk_bytes + sum(inputs)
    assert plain.inodes >= limits.inodes + len(inputs)


def test_watch__limits_held_by_the_kernel__looks_at_no_process_and_no_file_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the cost of this grows with what the job or the machine has")

    for name in ("descendants", "tree_size", "read_process", "nameless_files", "shared_fairly"):
        monkeypatch.setattr(usage, name, never)
    monkeypatch.setattr(os, "listdir", never)
    monkeypatch.setattr(os, "scandir", never)
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    space = disk.Space(tmp_path, tmp_path, disk.room_for(runs.LIMITS, ()), [top])
    space.settle()
    figures = {name: tmp_path / name for name in ("tasks", "memory", "oom_kill", "refused")}
    for name, path in figures.items():
        path.write_text("7\n" if name in ("tasks", "memory") else "x 0\n")
    files = {name: (path, "x" if name in ("oom_kill", "refused") else "")
             for name, path in figures.items()}  # fmt: skip
    live = SimpleNamespace(
        directory=tmp_path,
        limits=runs.LIMITS,
        group=Group((tmp_path,), files),
        space=space,
        inner=3,
        peak_memory=0,
        reap=lambda: True,
        go_on=lambda: None,
    )
    looking = watch.Watch(cast(Live, live))
    assert looking._look(0.0) is None
    assert live.peak_memory == 7
    figures["refused"].write_text("x 1\n")
    verdict = looking._look(1.0)
    assert verdict is not None and verdict.reason is Reason.PIDS
    space.close()
