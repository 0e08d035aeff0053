# SPDX-License-Identifier: Apache-2.0
"""Runs for the tests of the runners: requests, waiting, and a look for what is left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from provider_agent.runners import sandbox, usage
from provider_agent.runners.base import MIB, Limits, Phase, RunRequest, RunState
from provider_agent.runners.process import ProcessRunner
from provider_agent.runners.state import Saved

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
