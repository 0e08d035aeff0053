# SPDX-License-Identifier: Apache-2.0
"""The life of a run: started once, found again, stopped, lost, removed; real processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners import linux
from provider_agent.runners.base import MIB, Phase, Reason
from provider_agent.runners.process import ProcessRunner
from tests.support import runs

Factory = Callable[..., ProcessRunner]

# Leaves a mark per execution, then waits until it may end.
PATIENT = """
import os, time
open("began", "a").write("x")
while not os.path.exists("end"): time.sleep(0.01)
print("done")
"""


@pytest.fixture(params=["bubblewrap", "none"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    if chosen == "bubblewrap":
        runs.need_bubblewrap()
    return chosen


@pytest.fixture
def runner(tmp_path: Path, kind: str) -> Iterator[ProcessRunner]:
    made = runs.make_runner(tmp_path / "data", kind)
    yield made
    for run_id in made.list():
        made.remove(run_id)


def work(tmp_path: Path, run_id: str = "run") -> Path:
    return runs.inside(tmp_path / "data", run_id)


def let_end(tmp_path: Path, run_id: str = "run") -> None:
    runs.wait_for(work(tmp_path, run_id))  # it may not have been mounted yet
    (work(tmp_path, run_id) / "end").touch()


def test_run__good_job__outputs_log_and_usage(runner: ProcessRunner, tmp_path: Path) -> None:
    source = 'import os\nos.mkdir("out")\nopen("out/a", "w").write("x")\nprint("hello")\n'
    source += "sum(range(5_000_000))\n"
    run = runs.python_run(tmp_path, "run", source, outputs=("out",))
    before = int(time.time())
    runner.start(run)
    state = runs.wait(runner, "run")
    assert state.succeeded and state.reason is Reason.EXITED and state.exit_code == 0
    assert runner.log("run").read_text() == "hello\n"
    assert (runner.outputs("run") / "out" / "a").read_text() == "x"
    assert state.started is not None and state.finished is not None
    assert before <= state.started <= state.finished <= time.time()
    assert state.usage.cpu_ms > 20
    assert MIB < state.usage.peak_memory_bytes < 256 * MIB
    assert (state.usage.gpu_ms, state.usage.energy_mj) == (0, None)
    assert dict(state.sandbox) == runner.containment.to_json(), "what kept it apart is said"


def test_run__fails__exit_code_and_no_outputs(runner: ProcessRunner, tmp_path: Path) -> None:
    runner.start(runs.python_run(tmp_path, "run", "raise SystemExit(7)", outputs=("out",)))
    state = runs.wait(runner, "run")
    assert (state.reason, state.exit_code, state.succeeded) == (Reason.EXITED, 7, False)
    with pytest.raises(RunnerError, match="has no outputs"):
        runner.outputs("run")


def test_start__again__runs_once(runner: ProcessRunner, tmp_path: Path) -> None:
    run = runs.python_run(tmp_path, "run", PATIENT, outputs=("began",))
    runner.start(run)
    runs.wait_for(work(tmp_path) / "began")
    runner.start(run)
    assert runner.poll("run").phase is Phase.RUNNING
    let_end(tmp_path)
    assert runs.wait(runner, "run").succeeded
    runner.start(run)
    assert runner.poll("run").succeeded
    assert (runner.outputs("run") / "began").read_text() == "x"


def test_start__other_request_with_the_same_id__refused(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    run = runs.python_run(tmp_path, "run", "")
    runner.start(run)
    with pytest.raises(RunnerError, match="another request"):
        runner.start(replace(run, outputs=("out",)))


def test_start__from_many_processes_at_once__runs_once(tmp_path: Path, kind: str) -> None:
    run = runs.python_run(tmp_path, "run", PATIENT, outputs=("began",))
    context = multiprocessing.get_context("fork")

    def start() -> None:
        runs.make_runner(tmp_path / "data", kind).start(run)

    starters = [context.Process(target=start) for _ in range(6)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
        assert starter.exitcode == 0
    runner = runs.make_runner(tmp_path / "data", kind)
    let_end(tmp_path)
    assert runs.wait(runner, "run").succeeded
    assert (runner.outputs("run") / "began").read_text() == "x"
    assert os.listdir(tmp_path / "data" / "runs") == ["run"]
    runner.remove("run")


def test_start__killed_before_the_supervisor__begins_on_the_next_start(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.python_run(tmp_path, "run", "")
    with monkeypatch.context() as patch:
        patch.setattr(ProcessRunner, "_launch", lambda self, directory: None)
        runner.start(run)
    assert runner.poll("run").phase is Phase.PENDING
    runner.start(run)
    assert runs.wait(runner, "run").succeeded


def test_start__killed_while_preparing__leaves_nothing_after_the_next_agent(
    tmp_path: Path, kind: str
) -> None:
    data = tmp_path / "data"
    run = runs.python_run(tmp_path, "run", "")
    child = os.fork()
    if child == 0:
        # Killed with the new directory half built.
        made = runs.make_runner(data, kind)
        made._choose_cpus = lambda run: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,method-assign,return-value] # the test's crash point
        made.start(run)
    os.waitpid(child, 0)
    assert [name[:5] for name in os.listdir(data / "runs")] == [".new-"]
    runner = runs.make_runner(data, kind)
    assert os.listdir(data / "runs") == []
    runner.start(run)
    assert runs.wait(runner, "run").succeeded
    runner.remove("run")


def test_agent_killed__run_goes_on_and_is_found_again(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    run = runs.python_run(tmp_path, "run", PATIENT)
    child = os.fork()
    if child == 0:
        runs.make_runner(data, kind).start(run)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    runner = runs.make_runner(data, kind)
    assert runner.list() == ("run",)
    runs.wait_for(work(tmp_path) / "began")
    assert runner.poll("run").phase is Phase.RUNNING
    let_end(tmp_path)
    assert runs.wait(runner, "run").succeeded
    runner.remove("run")


def test_supervisor_killed__lost_and_nothing_left(runner: ProcessRunner, tmp_path: Path) -> None:
    marker = f"LOST_{time.monotonic_ns()}"
    source = "import os\nif os.fork() == 0: os.setsid(); os.fork()\n" + PATIENT
    runner.start(runs.python_run(tmp_path, "run", source, env={"MARKER": marker}))
    runs.wait_for(work(tmp_path) / "began")
    os.kill(runs.supervisor_pid(tmp_path / "data", "run"), signal.SIGKILL)
    assert runs.wait(runner, "run").phase is Phase.LOST
    # LOST is said only when the lock is free, and the sandbox holds it as long as it lives.
    end = time.monotonic() + 2
    while runs.marked(marker) and time.monotonic() < end:
        time.sleep(0.02)
    assert runs.marked(marker) == []
    runner.start(runs.python_run(tmp_path, "run", source, env={"MARKER": marker}))
    assert runner.poll("run").phase is Phase.LOST  # a lost run is not run again by itself


@pytest.mark.parametrize("then", ["poll", "stop", "remove"])
def test_supervisor_killed_while_the_sandbox_is_set_up__no_process_keeps_the_run(
    tmp_path: Path, then: str
) -> None:
    """Bubblewrap's first process can be left waiting for a parent that is dead, with the lock."""
    runs.need_bubblewrap()
    runner = runs.make_runner(tmp_path / "data")
    runner.start(runs.python_run(tmp_path, "run", PATIENT))
    runs.wait_for(work(tmp_path) / "began")
    os.kill(runs.supervisor_pid(tmp_path / "data", "run"), signal.SIGKILL)
    lock = os.open(tmp_path / "data" / "runs" / "run" / "lock", os.O_RDWR)
    end = time.monotonic() + 10
    while not linux.take_lock(lock):
        assert time.monotonic() < end
        time.sleep(0.01)
    shutil.copy("/bin/sleep", tmp_path / "bwrap")
    orphan = subprocess.Popen([tmp_path / "bwrap", "600"], pass_fds=[lock])
    os.close(lock)
    try:
        if then == "poll":
            assert runs.wait(runner, "run").phase is Phase.LOST
        else:
            getattr(runner, then)("run")
        assert orphan.wait(timeout=10) == -signal.SIGKILL
    finally:
        orphan.kill()
        runner.remove("run")


def runner_kind(runner: ProcessRunner) -> str:
    return runner._sandbox


def test_reboot__lost(runner: ProcessRunner, tmp_path: Path) -> None:
    run = runs.python_run(tmp_path, "run", PATIENT)
    runner.start(run)
    runs.wait_for(work(tmp_path) / "began")
    copy = tmp_path / "after" / "runs"
    shutil.copytree(tmp_path / "data" / "runs", copy)  # the disk as a power cut finds it
    after = runs.make_runner(tmp_path / "after", runner_kind(runner))
    assert after.poll("run").phase is Phase.LOST
    after.remove("run")
    assert runner.poll("run").phase is Phase.RUNNING


def test_stop__whole_tree_gone(runner: ProcessRunner, tmp_path: Path) -> None:
    marker = f"STOP_{time.monotonic_ns()}"
    source = "import os\nif os.fork() == 0: os.setsid(); os.fork()\n" + PATIENT
    runner.start(runs.python_run(tmp_path, "run", source, env={"MARKER": marker}))
    runs.wait_for(work(tmp_path) / "began")
    assert runs.marked(marker)
    runner.stop("run")
    assert runs.marked(marker) == []
    state = runner.poll("run")
    assert (state.phase, state.reason, state.exit_code) == (Phase.EXITED, Reason.KILLED, None)
    runner.stop("run")
    runner.stop("never-there")


def test_stop__before_it_began__never_begins(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.python_run(tmp_path, "run", PATIENT)
    with monkeypatch.context() as patch:
        patch.setattr(ProcessRunner, "_launch", lambda self, directory: None)
        runner.start(run)
    runner.stop("run")
    runner.start(run)
    assert runner.poll("run").reason is Reason.KILLED
    assert not (work(tmp_path) / "began").exists()


def test_stop__supervisor_hangs__killed(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_agent.runners.process._STOP_SECONDS", 0.3)
    runner.start(runs.python_run(tmp_path, "run", PATIENT))
    runs.wait_for(work(tmp_path) / "began")
    os.kill(runs.supervisor_pid(tmp_path / "data", "run"), signal.SIGSTOP)
    runner.stop("run")
    assert runner.poll("run").phase is Phase.LOST


def test_remove__running__gone(runner: ProcessRunner, tmp_path: Path) -> None:
    runner.start(runs.python_run(tmp_path, "run", PATIENT))
    runner.remove("run")
    assert runner.list() == ()
    with pytest.raises(RunnerError, match="there is no run"):
        runner.poll("run")
    runner.remove("run")


def test_limits__hold_without_a_sandbox(tmp_path: Path) -> None:
    runner = runs.make_runner(tmp_path / "data", "none")
    sources = {
        Reason.TIMEOUT: "import time; time.sleep(60)",
        Reason.MEMORY: "import time\nkept = [bytes(b'x') * (200 << 20), b'x' * (100 << 20)]\n"
        "time.sleep(60)",
        Reason.DISK: "for n in range(40): open(str(n), 'wb').write(bytes(1 << 20))\n"
        "import time; time.sleep(60)",
        Reason.OUTPUT: "while True: print('x' * 1000)",
        Reason.PIDS: "import os, time\nfor _ in range(40):\n    if os.fork() == 0: break\n"
        "time.sleep(60)",
    }
    for reason, source in sources.items():
        limits = replace(runs.LIMITS, timeout_seconds=1 if reason is Reason.TIMEOUT else 20)
        runner.start(runs.python_run(tmp_path, reason.value, source, limits=limits))
    for reason in sources:
        assert runs.wait(runner, reason.value).reason is reason
        runner.remove(reason.value)


def test_input__missing__refused_and_nothing_left(runner: ProcessRunner, tmp_path: Path) -> None:
    run = replace(runs.python_run(tmp_path, "run", ""), inputs={"a/b": tmp_path / "missing"})
    with pytest.raises(RunnerError, match="input a/b cannot be copied"):
        runner.start(run)
    assert runner.list() == ()
    assert os.listdir(tmp_path / "data" / "runs") == []


def test_outputs_too_large__every_containment_says_the_same(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    """What is said goes into the result, which other machines must come to as well."""
    source = "for name in ('a', 'b'):\n    open(name, 'wb').truncate(20 << 20)\n"
    run = runs.python_run(tmp_path, "run", source, outputs=("a", "b"))
    runner.start(run)
    state = runs.wait(runner, "run")
    limit = run.limits.disk_bytes + len(source)
    assert state.unfit == (("b", f"makes the outputs larger than {limit} bytes"),)
