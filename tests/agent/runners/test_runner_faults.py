# SPDX-License-Identifier: Apache-2.0
"""Whose fault it is: a job that cannot run is a result, a full disk of the provider never is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners import disk, inputs, linux, outputs, sandbox, supervisor, usage, watch
from provider_agent.runners.base import MIB, Phase, Reason, RunRequest, RunState
from provider_agent.runners.process import ProcessRunner
from tests.support import runs


@pytest.fixture(params=["bubblewrap", "none"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessRunner]:
    if request.param == "bubblewrap":
        runs.need_bubblewrap()
    made = runs.make_runner(tmp_path / "data", request.param)
    yield made
    for run_id in made.list():
        made.remove(run_id)


def work(tmp_path: Path) -> Path:
    return runs.inside(tmp_path / "data")


def full(*arguments: object, **options: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --------------------------------------------------------------------- commands (C1)


@pytest.mark.parametrize(
    ("command", "env", "code"),
    [
        (("no-such-program",), {}, 127),
        (("/no/such/program",), {}, 127),
        (("--help",), {}, 127),
        (("a\nbwrap: Can't do it",), {}, 127),
        (("true",), {"PATH": "/nowhere"}, 127),
        (("/usr",), {}, 126),
        (("./job.py",), {}, 126),
        (("./job.py/x",), {}, 126),
    ],
)
def test_command__cannot_be_executed__is_a_result(
    runner: ProcessRunner, tmp_path: Path, command: tuple[str, ...], env: dict[str, str], code: int
) -> None:
    runner.start(replace(runs.python_run(tmp_path, "run", "", env=env), command=command))
    state = runs.wait(runner, "run")
    assert (state.phase, state.reason, state.exit_code) == (Phase.EXITED, Reason.EXITED, code)
    assert not state.provider_fault and not state.succeeded
    assert "cannot be executed" in state.detail and state.detail.isascii()
    assert runner.log("run").read_bytes()  # the tenant reads there what was wrong


def test_command__as_long_as_a_specification_allows__runs(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    command = ("/usr/bin/true", *["\u4e2d" * 8_000] * 42)  # just under 1 MiB
    runner.start(replace(runs.python_run(tmp_path, "run", ""), command=command))
    assert runs.wait(runner, "run").succeeded


def test_command__longer_than_the_machine_takes__is_a_result(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    command = ("/usr/bin/true", "x" * (3 << 20))
    runner.start(replace(runs.python_run(tmp_path, "run", ""), command=command))
    state = runs.wait(runner, "run")
    assert (state.reason, state.exit_code) == (Reason.EXITED, 126)


def test_walls__do_not_come_up__provider_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.need_bubblewrap()
    # A bubblewrap that fails before the command, with words that only resemble the other case.
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text('#!/bin/sh\necho "bwrap: Can\'t mount bwrap: execvp proc" >&2\nexit 1\n')
    broken.chmod(0o755)
    runner = runs.make_runner(tmp_path / "data")
    run = replace(runs.python_run(tmp_path, "run", ""), runtime=None)
    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "SEARCH_PATH", f"{broken.parent}:/usr/bin:/bin")
        patch.setattr(ProcessRunner, "_launch", lambda self, directory: None)
        runner.start(run)
    directory = tmp_path / "data" / "runs" / "run"
    if os.fork() == 0:
        sandbox.SEARCH_PATH = f"{broken.parent}:/usr/bin:/bin"
        os._exit(supervisor.main([str(directory)]))
    state = runs.wait(runner, "run")
    assert state.reason is Reason.SANDBOX_FAILED and state.provider_fault
    runner.remove("run")


def test_provider_fault__of_each_reason() -> None:
    ours = {reason for reason in Reason if RunState(Phase.EXITED, reason).provider_fault}
    assert ours == {Reason.SANDBOX_FAILED, Reason.KILLED, Reason.MACHINE, Reason.DEVICE}
    assert RunState(Phase.LOST).provider_fault
    assert not RunState(Phase.RUNNING).provider_fault


# --------------------------------------------------------------------- directories


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user to be kept out")
def test_tree_size__directory_closed_by_an_ordinary_job__measured() -> None:
    place = Path(f"/var/tmp/closed-{os.getpid()}")  # the test's own is closed to a second user
    place.mkdir()
    try:
        (place / "f").write_bytes(bytes(100_000))
        os.chown(place, 54321, 54321)
        os.chmod(place, 0)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(54321)
            os.setuid(54321)
            os._exit(0 if usage.tree_size(place).size > 100_000 else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        shutil.rmtree(place)


def test_tree_size__several_names__bytes_counted_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(MIB))
    for number in range(9):
        os.link(tmp_path / "f", tmp_path / str(number))
    assert MIB <= usage.tree_size(tmp_path).size < MIB + 20 * 4096


# --------------------------------------------------------------------- a full disk (M4)


def prepared(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> ProcessRunner:
    """A run in a plain directory that waits for its supervisor, which the test then is."""
    with monkeypatch.context() as patch:
        patch.setattr(disk, "choose", lambda sandboxed, grouped: disk.DIRECTORY)
        runner = ProcessRunner(tmp_path / "data", sandbox_kind="none", unlimited=True)
        patch.setattr(ProcessRunner, "_launch", lambda self, directory: None)
        limits = replace(runs.LIMITS, disk_bytes=256 * MIB)
        runner.start(runs.python_run(tmp_path, "run", source, outputs=("out",), limits=limits))
    return runner


def supervise(tmp_path: Path, what_is_full: str, runner: ProcessRunner) -> RunState:
    """Runs it under a supervisor in which a call behaves as on a full disk."""
    if os.fork() == 0:
        if what_is_full == "reserve":
            watch.disk_is_short = lambda path, wanted=0: True
        elif what_is_full == "reserve, by the job's second file":
            # Not before: a look between the two files would find a job within its limit.
            second = tmp_path / "data" / "runs" / "run" / "work" / "b"
            watch.disk_is_short = lambda path, wanted=0: (
                second.exists() and second.stat().st_size > 0
            )
        elif what_is_full == "collector":
            outputs.os.write = full  # type: ignore[attr-defined] # the module's own name for it
        os._exit(supervisor.main([str(tmp_path / "data" / "runs" / "run")]))
    state = runs.wait(runner, "run")
    runner.remove("run")
    return state


@pytest.mark.parametrize(
    "source",
    [
        'open("f", "wb").write(bytes(80 << 20))\nimport time; time.sleep(60)',
        'raise OSError(28, "No space left on device")',
    ],
    ids=["uses much", "fails"],
)
def test_disk_of_the_provider__nearly_full__provider_fault(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = supervise(tmp_path, "reserve", prepared(tmp_path, source, monkeypatch))
    assert state.reason is Reason.MACHINE and state.provider_fault
    assert "nearly full" in state.detail


def test_disk_of_the_provider__nearly_full__own_limit_crossed__own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os\nfor n in 'ab':\n    f = os.open(n, os.O_CREAT | os.O_WRONLY)\n"
    source += "    os.posix_fallocate(f, 0, 200 << 20)\nimport time; time.sleep(30)"
    runner = prepared(tmp_path, source, monkeypatch)
    state = supervise(tmp_path, "reserve, by the job's second file", runner)
    assert state.reason is Reason.DISK and not state.provider_fault


def test_disk_of_the_provider__nearly_full__job_that_needs_little_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'open("out", "w").write("x")'
    assert supervise(tmp_path, "reserve", prepared(tmp_path, source, monkeypatch)).succeeded


def test_disk_of_the_provider__full_while_collecting__provider_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'open("out", "w").write("x")'
    state = supervise(tmp_path, "collector", prepared(tmp_path, source, monkeypatch))
    assert state.reason is Reason.MACHINE and state.provider_fault
    assert "no space left" in state.detail


@pytest.mark.parametrize("call", ["posix_fallocate", "mkdir", "disk_is_short"])
def test_start__no_room__one_line_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    runner = runs.make_runner(tmp_path / "data", "none")
    if call == "posix_fallocate" and runner.containment.disk != disk.IMAGE:
        pytest.skip("nothing is allocated here")
    run = runs.python_run(tmp_path, "run", "print()")
    with monkeypatch.context() as patch:
        if call == "posix_fallocate":
            patch.setattr(os, call, full)
        elif call == "mkdir":
            patch.setattr(Path, call, full)
        else:
            patch.setattr(watch, call, lambda path, wanted=0: True)
        with pytest.raises(RunnerError, match=r"run run cannot be prepared: .*make room") as caught:
            runner.start(run)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "data" / "runs") == []
    runner.start(run)
    assert runs.wait(runner, "run").succeeded
    runner.remove("run")


def test_inputs__cannot_be_copied__the_fault_of_the_machine(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.python_run(tmp_path, "run", "print()")
    with monkeypatch.context() as patch:
        patch.setattr(ProcessRunner, "_launch", lambda self, directory: None)
        runner.start(run)
    if os.fork() == 0:
        inputs.os.fchmod = full  # type: ignore[attr-defined] # the module's own name
        os._exit(supervisor.main([str(tmp_path / "data" / "runs" / "run")]))
    state = runs.wait(runner, "run")
    assert state.reason is Reason.MACHINE and state.provider_fault
    assert "disk is full" in state.detail


def test_remove__no_room_for_a_mark__ended_and_gone(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.start(runs.python_run(tmp_path, "run", 'open("b", "w")\nimport time; time.sleep(60)'))
    runs.wait_for(work(tmp_path) / "b")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", full)
        runner.remove("run")
    assert os.listdir(tmp_path / "data" / "runs") == []


# --------------------------------------------------------------------- copies of inputs (C8)


def many_paths(tmp_path: Path, source: str, size: int) -> tuple[RunRequest, Path]:
    stored = tmp_path / "stored"
    stored.write_bytes(b"x" * size)
    run = runs.python_run(tmp_path, "run", source)
    return replace(run, inputs={**run.inputs, **{f"d{n}/f": stored for n in range(40)}}), stored


def test_inputs__one_large_file_at_many_paths__takes_its_room_once(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    before = shutil.disk_usage(tmp_path).free
    source = """
import os
print(len(open("d39/f").read()), len({os.stat(f"d{n}/f").st_ino for n in range(40)}))
"""
    run, stored = many_paths(tmp_path, source, 4 * MIB)
    runner.start(run)
    assert runs.wait(runner, "run").succeeded
    length, inodes = runner.log("run").read_text().split()
    assert length == str(4 * MIB)
    # One copy with many names, or (where blocks can be shared) copies that take no room.
    assert inodes == "1" or before - shutil.disk_usage(tmp_path).free < 80 * MIB
    assert stored.stat().st_nlink == 1


def test_inputs__job_writes_to_all__stored_file_and_other_paths_stay(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    source = """
import os
for n in range(20):
    try:
        open(f"d{n}/f", "wb").write(b"y")
    except PermissionError:
        os.unlink(f"d{n}/f"); open(f"d{n}/f", "wb").write(b"y")
print({open(f"d{n}/f").read(1) for n in range(20, 40)})
"""
    run, stored = many_paths(tmp_path, source, 100_000)
    mode = stored.stat().st_mode
    runner.start(run)
    assert runs.wait(runner, "run").succeeded
    if runner._sandbox != "none" or os.geteuid() != 0:  # root writes through any mode
        assert runner.log("run").read_text() == "{'x'}\n"
    assert stored.read_bytes() == b"x" * 100_000
    assert stored.stat().st_mode == mode


def test_inputs__job_deletes_the_names__no_more_disk_for_it(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    source = """
import os, time
for n in range(1, 40): os.unlink(f"d{n}/f")
for n in range(60): open(str(n), "wb").write(bytes(1 << 20))
time.sleep(60)
"""
    run, _ = many_paths(tmp_path, source, 4 * MIB)
    if _shares_blocks(tmp_path):
        pytest.skip("each path has blocks of its own here, which deleting gives back")
    runner.start(run)
    assert runs.wait(runner, "run").reason is Reason.DISK


def _shares_blocks(place: Path) -> bool:
    with open(place / "one", "wb+") as one, open(place / "two", "wb") as two:
        one.write(b"x" * 4096)
        one.flush()
        return linux.clone_file(one.fileno(), two.fileno())


def test_inputs__small_file_at_many_paths__each_is_its_own(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    source = 'open("d0/f", "wb").write(b"y")\nprint(open("d1/f").read())'
    run, _ = many_paths(tmp_path, source, 1)
    runner.start(run)
    assert runs.wait(runner, "run").succeeded
    assert runner.log("run").read_text() == "x\n"
