# SPDX-License-Identifier: Apache-2.0
"""What the runner refuses before a run begins, and what it hands to the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners import linux, sandbox
from provider_agent.runners.base import Limits, Phase, Reason, RunRequest, RunState, Usage
from provider_agent.runners.process import ProcessRunner
from tests.support import runs


def test_opt_out__said_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs.make_runner(tmp_path, "none")
    assert "WITHOUT a sandbox" in caplog.text


def test_check__bubblewrap__one_line(tmp_path: Path) -> None:
    runs.need_bubblewrap()
    line = runs.make_runner(tmp_path).check()
    assert line.startswith("bubblewrap") and "\n" not in line
    assert ProcessRunner(tmp_path).list() == ()


def test_check__bubblewrap_missing__says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(RunnerError, match=r"apt-get install bubblewrap"):
        runs.make_runner(tmp_path).check()


def test_start__bubblewrap_missing__refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SEARCH_PATH", str(tmp_path))
    runner = runs.make_runner(tmp_path / "data")
    with pytest.raises(RunnerError, match="bubblewrap is not installed"):
        runner.start(runs.python_run(tmp_path, "run", ""))
    assert runner.list() == ()


def test_sandbox_kind__unknown__refused(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match='use "bubblewrap" or "none"'):
        ProcessRunner(tmp_path, sandbox_kind="docker")


def test_runtime__holds_the_keys__refused(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    (runtime / "bin").mkdir(parents=True)
    (runtime / "bin" / "python").symlink_to(sys.executable)
    key = runtime / "operator.key"
    key.touch()
    runner = runs.make_runner(tmp_path / "data", private=[key])
    run = replace(runs.python_run(tmp_path, "run", ""), runtime=runtime)
    with pytest.raises(RunnerError, match="lies in it"):
        runner.start(run)


def test_runtime__is_a_home_or_has_no_python__refused(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="home directory"):
        sandbox.check_private([Path("/root").parent], [])
    with pytest.raises(RunnerError, match="no bin/python"):
        sandbox.runtime_binds(tmp_path)


@pytest.mark.parametrize("run_id", ["", "..", ".x", "a/b", "A", "x" * 101, "a\n"])
def test_request__bad_id__refused(run_id: str) -> None:
    with pytest.raises(RunnerError, match="is not a run id"):
        RunRequest(run_id, ("true",), runs.LIMITS)


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a\nb", "a/" * 32 + "a"]
)
def test_request__bad_path__refused(path: str) -> None:
    with pytest.raises(RunnerError, match="path"):
        RunRequest("run", ("true",), runs.LIMITS, outputs=(path,))


def test_request__bad_command_or_variable__refused() -> None:
    with pytest.raises(RunnerError, match="has no command"):
        RunRequest("run", (), runs.LIMITS)
    with pytest.raises(RunnerError, match="zero byte"):
        RunRequest("run", ("a\0b",), runs.LIMITS)
    with pytest.raises(RunnerError, match="not a name for a variable"):
        RunRequest("run", ("true",), runs.LIMITS, env={"A=B": "x"})
    with pytest.raises(RunnerError, match="cpus is 0"):
        Limits(1, 0, 1, 1, 1, 1)


def test_request_and_state__json_round_trip() -> None:
    gpu = Device("cuda", 1, "GPU", "GPU-1", 1, "1", "/dev/nvidia3", 0, "0000:65:00.0", ("/c",))
    run = RunRequest(
        "run", ("a",), runs.LIMITS, Path("/r"), {"B": "c"}, {"i": Path("/i")}, ("o",), (gpu,), True
    )
    assert RunRequest.from_json(run.to_json()) == run
    state = RunState(
        *(Phase.EXITED, Reason.DISK, None, 1, 2, Usage(1, 2, 3, 4), "why"),
        unfit=(("out/x", "is a pipe"),),
        broken=("GPU-1",),
    )
    assert RunState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_devices__only_the_given_gpus_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_nodes", lambda device: [])
    cap = "/dev/nvidia-caps/nvidia-cap20"
    gpu = Device("cuda", 1, "GPU", "GPU-1", 1, "1", "/dev/nvidia3", bus="0000:65:00.0", caps=(cap,))
    run = RunRequest(
        "run", ("a",), runs.LIMITS, devices=(gpu,), env={"CUDA_VISIBLE_DEVICES": "all"}
    )
    arguments = sandbox.device_nodes(run.devices)
    assert arguments[:3] == ["--dev-bind", "/dev/nvidia3", "/dev/nvidia3"]
    assert {node for node in arguments if node.startswith("/dev/")} == {
        *("/dev/nvidia3", cap),
        *("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
    }
    # What the driver reads of the machine goes with them, and only to be read.
    read = [arguments[n + 1] for n, word in enumerate(arguments) if word == "--ro-bind-try"]
    assert {"/proc/driver/nvidia", "/sys/bus/pci", "/sys/bus/pci/devices/0000:65:00.0"} <= set(read)
    assert sandbox.environment(run, "/tmp")["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    cpu = replace(run, devices=(Device("cpu", 0, "CPU", "cpu", 1),))
    assert sandbox.device_nodes(cpu.devices) == []
    assert sandbox.environment(cpu, "/tmp")["CUDA_VISIBLE_DEVICES"] == ""


def test_devices__file_missing__said_before_the_job_begins(tmp_path: Path) -> None:
    gpu = Device("cuda", 1, "GPU", "GPU-1", 1, "1", str(tmp_path / "nvidia3"))
    runner = runs.make_runner(tmp_path / "data")
    runs.need_bubblewrap()
    runner.start(replace(runs.python_run(tmp_path, "run", "print()"), devices=(gpu,)))
    state = runs.wait(runner, "run")
    assert state.reason is Reason.SANDBOX_FAILED and state.provider_fault
    assert "nvidia3 is missing" in state.detail and "load the driver" in state.detail
    runner.remove("run")


def test_environment__threads_follow_the_limit() -> None:
    run = RunRequest("run", ("a",), replace(runs.LIMITS, cpus=3), env={"MKL_NUM_THREADS": "1"})
    made = sandbox.environment(run, "/job")
    assert (made["OMP_NUM_THREADS"], made["MKL_NUM_THREADS"]) == ("3", "1")


def test_run_uid__root_agent__a_user_that_owns_nothing() -> None:
    uid = sandbox.run_uid("run")
    if os.geteuid() != 0:
        assert uid is None
        return
    assert uid is not None and uid >= 60_000
    assert uid == sandbox.run_uid("run") != sandbox.run_uid("other")


def test_lock__held_by_a_child__seen_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not linux.is_locked(path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert linux.take_lock(fd) and linux.is_locked(path)
    other = os.open(path, os.O_RDWR)
    assert not linux.take_lock(other)
    child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=[fd])
    os.close(fd)
    assert linux.is_locked(path)
    child.kill()
    child.wait()
    assert not linux.is_locked(path)
    os.close(other)
