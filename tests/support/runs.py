# SPDX-License-Identifier: Apache-2.0
"""Runs for the tests of the runners: requests, waiting, and a look for what is left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from provider_agent.runners import containment, disk, sandbox, usage
from provider_agent.runners.base import MIB, Limits, Phase, RunRequest, RunState
from provider_agent.runners.process import ProcessRunner
from provider_agent.runners.state import Plan, Saved

RUNTIME = Path(sys.prefix)
LIMITS = Limits(
    timeout_seconds=20,
    cpus=1,
    memory_bytes=256 * MIB,
    disk_bytes=24 * MIB,
    output_bytes=64 * 1024,
    pids=24,
)


def need_bubblewrap() -> None:
    """Skips on a person's machine without bubblewrap, fails in CI and as root."""
    if any(Path(part, "bwrap").exists() for part in sandbox.SEARCH_PATH.split(":")):
        return
    if os.environ.get("CI") == "true" or os.geteuid() == 0:
        pytest.fail("bubblewrap is missing; run apt-get install bubblewrap")
    pytest.skip("bubblewrap is not installed")


def make_runner(
    data_dir: Path, sandbox_kind: str = "bubblewrap", private: Sequence[Path] = ()
) -> ProcessRunner:
    """A runner on this machine, such as it is: where it cannot hold a job to its limits, tests do
    with the watch.
    """
    return ProcessRunner(
        data_dir,
        sandbox_kind=sandbox_kind,
        private=private,
        unlimited=bool(accepted(sandbox_kind)),
    )


def accepted(sandbox_kind: str = "bubblewrap") -> str:
    """What an agent's `runner.allow_unlimited` must say, for it to run jobs on this machine."""
    holds = containment.of_this_machine(sandbox_kind).holds
    return "" if holds else containment.ACCEPTED


def python_run(
    directory: Path,
    run_id: str,
    source: str,
    *,
    limits: Limits = LIMITS,
    outputs: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> RunRequest:
    """A run of a Python program, which becomes the input `job.py`."""
    program = directory / f"{run_id}.py"
    program.write_text(source)
    return RunRequest(
        run_id=run_id,
        command=("python", "job.py"),
        limits=limits,
        runtime=RUNTIME,
        env=env or {},
        inputs={"job.py": program},
        outputs=outputs,
    )


def wait(runner: ProcessRunner, run_id: str, seconds: float = 30) -> RunState:
    """The final state of a run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = runner.poll(run_id)
        if found.phase in (Phase.EXITED, Phase.LOST):
            return found
        time.sleep(0.02)
    raise AssertionError(f"run {run_id} is not over after {seconds} seconds")


def wait_for(path: Path, seconds: float = 10) -> None:
    """Returns when a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} does not appear"
        time.sleep(0.01)


def supervisor_pid(data_dir: Path, run_id: str) -> int:
    """The process that owns a run that has begun."""
    directory = data_dir / "runs" / run_id
    wait_for(directory / "state.json")
    return Saved.read(directory).supervisor_pid


def inside(data_dir: Path, run_id: str = "run") -> Path:
    """The job's directory of a run that has begun, as its supervisor sees it.

    A root agent's supervisor has mounted it for itself; without root only plain directories can be
    looked into.
    """
    directory = data_dir / "runs" / run_id
    if Plan.read(directory).disk == disk.DIRECTORY:
        return directory / "work"
    pid = supervisor_pid(data_dir, run_id)
    return Path(f"/proc/{pid}/root{directory}") / disk.PLACE / "work"


def wait_for_nothing_in(directory: Path, seconds: float = 60) -> None:
    """Returns when a directory is empty: what large runs leave goes in a thread of its own."""
    end = time.monotonic() + seconds
    while found := os.listdir(directory):
        assert time.monotonic() < end, found
        time.sleep(0.02)


def wait_for_no_loops(data_dir: Path, seconds: float = 10) -> None:
    """Returns when no loop device has a file below a directory; the kernel takes a moment."""
    end = time.monotonic() + seconds
    while found := loops_below(data_dir):
        assert time.monotonic() < end, found
        time.sleep(0.02)


def loops_below(data_dir: Path) -> list[str]:
    """The loop devices of this machine that have a file below a directory."""
    found = []
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            image = loop.read_text().strip()
            if image.startswith(str(data_dir)):
                found.append(f"{loop.parts[3]} {image}")
    return found


def marked(marker: str) -> list[int]:
    """Live processes of this machine with `marker` in their variables or command line."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        process = usage.read_process(int(name))
        if process is None or process.zombie:
            continue
        try:
            said = Path(f"/proc/{name}/environ").read_bytes()
            said += Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in said:
            found.append(int(name))
    return found
