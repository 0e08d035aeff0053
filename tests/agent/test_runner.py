# SPDX-License-Identifier: Apache-2.0
"""The life of a run: started once, found again, stopped, lost, removed; real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, linux, sandbox
from provider_agent.runners.base import MIB, Limits, Phase, Reason, RunRequest, RunState, Usage
from provider_agent.runners.process import ProcessRunner
from tests.support import runs

ROOT = Path(__file__).resolve().parents[2]
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


def test_input__missing__refused_and_nothing_left(runner: ProcessRunner, tmp_path: Path) -> None:
    run = replace(runs.python_run(tmp_path, "run", ""), inputs={"a/b": tmp_path / "missing"})
    with pytest.raises(RunnerError, match="input a/b cannot be copied"):
        runner.start(run)
    assert runner.list() == ()
    assert os.listdir(tmp_path / "data" / "runs") == []


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


ORDINARY = 54321
# What an agent of an ordinary user does: its own check, then jobs that go round its limits.
ORDINARY_AGENT = """
import os, sys, time
from pathlib import Path
from provider_agent.runners.base import *
from provider_agent.runners.process import ProcessRunner
runner = ProcessRunner(Path(sys.argv[1]) / "data", unlimited=sys.argv[2] == "accepted")
print(runner.check())
bomb = "import os, time\\nwhile True:\\n  try: os.fork()\\n  except OSError: pass"
hide = "import os, time\\nos.mkdir('d')\\nf = [open(f'd/{n}', 'wb') for n in range(64)]\\n"
hide += "os.chmod('d', 0)\\nfor x in f: x.write(bytes(1 << 20)); x.flush()\\ntime.sleep(60)"
both = "import time\\nopen('a', 'wb').write(bytes(20 << 20))\\n"
both += "k = b'x' * (300 << 20)\\ntime.sleep(60)"
many = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC))"
good = "print(open('in/put').read()); open('/tmp/x', 'w'); open('out', 'w').write('made')"
stored = Path(sys.argv[1]) / "stored"
stored.write_text("given")
limits = Limits(20, 1, 256 * MIB, 24 * MIB, MIB, 24)
programs = {"bomb": bomb, "hide": hide, "both": both, "many": many, "good": good}
for name, source in programs.items():
    runner.start(RunRequest(
        name, ("python3", "-c", source), limits, inputs={"in/put": stored},
        outputs=("out",) if name == "good" else ("in",),
    ))
    while (state := runner.poll(name)).phase in (Phase.PENDING, Phase.RUNNING): time.sleep(0.02)
    said = runner.log(name).read_text().strip() if name in ("many", "good") else ""
    print(name, state.reason.value, said)
    if name == "good": print((runner.outputs(name) / "out").read_text())
    runner.remove(name)
print(os.listdir(Path(sys.argv[1]) / "data" / "runs"))
"""
# Joins the groups whose `cgroup.procs` are named, becomes the user, and is the program.
BECOME = """
import os, sys
for place in sys.argv[2].split(":"):
    if place: open(place, "w").write(str(os.getpid()))
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextmanager
def handed_over(user: int) -> Iterator[list[Path]]:
    """Control groups (version 1) that belong to an ordinary user, as systemd hands them over."""
    made: list[Path] = []
    own = dict(
        line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()
    )
    try:
        for controller in ("memory", "pids", "cpu", "cpuacct"):
            place = Path("/sys/fs/cgroup") / controller / own[controller].lstrip("/")
            group = place / f"ordinary-{os.getpid()}"
            group.mkdir()
            made.append(group)
            for path in (group, group / "cgroup.procs"):
                os.chown(path, user, user)
        yield made
    finally:
        for group in made:
            group.rmdir()


def run_as_ordinary(accepted: bool, groups: list[Path]) -> subprocess.CompletedProcess[str]:
    runs.need_bubblewrap()
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    if python is None or not ordinary_can_run(python):
        pytest.skip("no Python 3.11 that an ordinary user can run")
    data = Path(f"/var/tmp/ordinary-{os.getpid()}")
    data.mkdir(mode=0o755)
    os.chown(data, ORDINARY, ORDINARY)
    procs = ":".join(str(group / "cgroup.procs") for group in groups)
    word = "accepted" if accepted else "strict"
    try:
        return subprocess.run(
            [python, "-c", BECOME, str(ORDINARY), procs, python, "-c", ORDINARY_AGENT, data, word],
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    finally:
        shutil.rmtree(data)


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


def check_ordinary(said: subprocess.CompletedProcess[str], how: str) -> None:
    assert said.returncode == 0, said.stderr
    lines = [line.strip() for line in said.stdout.splitlines()]
    assert "the agent's own user" in lines[0] and how in lines[0]
    assert lines[1:] == [
        "bomb pids",
        "hide disk",
        "both memory",
        "many exited (40, 40)",
        "good exited given",
        "made",
        "[]",
    ]


@only_root
def test_ordinary_user__with_a_control_group__held_by_the_kernel() -> None:
    if cgroup.version() != 1:
        pytest.skip("handing over a control group is tested where this machine has version 1")
    with handed_over(ORDINARY) as groups:
        check_ordinary(run_as_ordinary(False, groups), "file system in memory")


@only_root
def test_ordinary_user__no_control_group__watched_where_the_owner_accepts_it() -> None:
    check_ordinary(run_as_ordinary(True, []), "only watched")


@only_root
def test_ordinary_user__no_control_group__strangers_work_refused() -> None:
    said = run_as_ordinary(False, [])
    assert said.returncode == 1
    assert said.stdout == ""  # no job was begun
    assert "runner.allow_unlimited" in said.stderr


def ordinary_can_run(python: str) -> bool:
    """Whether an ordinary user can import the package with this Python."""
    tried = subprocess.run(
        [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11)); import provider_agent"],
        cwd="/",
        env={"PYTHONPATH": str(ROOT)},
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
        check=False,
    )
    return tried.returncode == 0 and os.access(ROOT, os.X_OK)
