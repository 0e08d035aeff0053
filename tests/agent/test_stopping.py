# SPDX-License-Identifier: Apache-2.0
"""A run that is stopped ends soon, whatever its supervisor is at: bringing inputs, watching,
collecting, or trying GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.runners import inputs, outputs, probe, supervisor
from provider_agent.runners.base import Phase, Reason, RunRequest
from provider_agent.runners.live import Live
from provider_agent.runners.state import STOP, Saved
from tests.support import runs

pytestmark = pytest.mark.sandbox

GPU = Device("cuda", 0, "GPU", "GPU-0", 1 << 30, node="/dev/null")


def supervised(tmp_path: Path, run: RunRequest, stop_at: Callable[[Path], None]) -> Saved:
    """What a supervisor makes of a run; in a process of its own, for it takes leave of children."""
    runner = runs.make_runner(tmp_path / "data", "none")
    runner._launch = lambda directory: None  # type: ignore[method-assign] # the test does it
    runner.start(run)
    directory = tmp_path / "data" / "runs" / run.run_id
    child = os.fork()
    if child == 0:
        try:
            stop_at(directory)
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            supervisor.supervise(Live(directory, lock))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return Saved.read(directory)


def told(saved: Saved) -> tuple[Phase, Reason | None]:
    return saved.state.phase, saved.state.reason


def test_while_inputs_come(tmp_path: Path) -> None:
    """The second of two inputs never comes."""
    run = runs.python_run(tmp_path, "run", "")
    (tmp_path / "more").write_bytes(b"x")
    run = replace(run, inputs={**run.inputs, "more": tmp_path / "more"})

    def stop_at(directory: Path) -> None:
        real = os.fchmod

        def fchmod(handle: int, mode: int) -> None:
            real(handle, mode)
            (directory / STOP).touch()

        inputs.os.fchmod = fchmod  # type: ignore[attr-defined] # its own name

    saved = supervised(tmp_path, run, stop_at)
    assert told(saved) == (Phase.EXITED, Reason.KILLED)
    assert not (tmp_path / "data" / "runs" / "run" / "work" / "more").exists()


def test_while_outputs_are_collected(tmp_path: Path) -> None:
    source = "import os\nos.mkdir('out')\nfor n in range(300): open(f'out/{n}', 'w').close()"
    run = runs.python_run(tmp_path, "run", source, outputs=("out",))

    def stop_at(directory: Path) -> None:
        real = outputs._names

        def names(directory: int) -> list[str]:
            (tmp_path / "data" / "runs" / "run" / STOP).touch()
            return real(directory)

        outputs._names = names

    saved = supervised(tmp_path, run, stop_at)
    assert told(saved) == (Phase.EXITED, Reason.KILLED)
    assert saved.state.provider_fault, "never attested"
    left = os.listdir(tmp_path / "data" / "runs" / "run")
    assert not [name for name in left if name.startswith("outputs")]


def test_while_a_gpu_is_tried(tmp_path: Path) -> None:
    """Its driver would be waited for a minute."""
    run = replace(runs.python_run(tmp_path, "run", "raise SystemExit(1)"), devices=(GPU,))

    def stop_at(directory: Path) -> None:
        real = probe._run

        def hang(argv: list[str], environment: dict[str, str], fds: list[int], live: Live) -> str:
            (directory / STOP).touch()
            return real(["/usr/bin/sleep", "600"], environment, fds, live)

        probe._run = hang

    saved = supervised(tmp_path, run, stop_at)
    assert told(saved) == (Phase.EXITED, Reason.KILLED)


def test_not_stopped__all_of_it_is_done(tmp_path: Path) -> None:
    source = "import os\nos.mkdir('out')\nfor n in range(300): open(f'out/{n}', 'w').close()"
    run = runs.python_run(tmp_path, "run", source, outputs=("out",))
    saved = supervised(tmp_path, run, lambda directory: None)
    assert saved.state.succeeded
    assert len(os.listdir(tmp_path / "data" / "runs" / "run" / "outputs" / "out")) == 300
