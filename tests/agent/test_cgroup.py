# SPDX-License-Identifier: Apache-2.0
"""Control groups: version 1 and 2 as trees of plain files, and this machine's own where it may."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, containment, disk
from provider_agent.runners.base import MIB

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A stand-in for /proc/self/cgroup."""
    return tmp_path / "own"


def tree_v2(top: Path, own: Path, enabled: str = "memory pids cpu") -> Path:
    """A service with a part of the tree handed to it; the directory in which groups are made."""
    service = top / "system.slice" / "agent.service"
    (service / "agent").mkdir(parents=True)
    (top / "cgroup.controllers").write_text("memory pids cpu io")
    for directory in (top, service):
        (directory / "cgroup.subtree_control").write_text(enabled)
    own.write_text("0::/system.slice/agent.service/agent\n")
    return service


def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's mark, which plain files cannot carry here."""
    monkeypatch.setattr(cgroup, "_is_ours", lambda directory: True)


def test_version_2__handed_over__limits_written_and_figures_read(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tree_v2(tmp_path / "top", own)
    handed_over(monkeypatch)
    group = cgroup.create("run", 64 * MIB, 8, 2, tmp_path / "top", own)
    assert group is not None and group.paths == (service / "run",)
    written = {path.name: path.read_text() for path in (service / "run").iterdir()}
    assert written["memory.max"] == str(64 * MIB) and written["memory.swap.max"] == "0"
    assert (written["pids.max"], written["cpu.max"]) == ("8", "200000 100000")
    assert int(written["cpu.weight"]) * 5 <= 100 * 2, "two processors, and the agent first"
    assert not group.ran_out_of_memory() and not group.hit_pids_limit()
    assert (group.tasks(), group.memory(), group.peak_memory(), group.cpu_ms()) == (0, 0, 0, 0)
    for name, text in {
        "memory.events": "low 0\noom 1\noom_kill 1\n",
        "pids.events": "max 3\n",
        "memory.current": "5\n",
        "memory.peak": "9\n",
        "cpu.stat": "usage_usec 2500\nuser_usec 1\n",
        "pids.current": "4\n",
    }.items():
        (service / "run" / name).write_text(text)
    assert group.ran_out_of_memory() and not group.starved() and group.hit_pids_limit()
    assert (group.tasks(), group.memory(), group.peak_memory(), group.cpu_ms()) == (4, 5, 9, 2)
    # Killed below its own limit: the machine had no memory, or the service above it.
    (service / "run" / "memory.events").write_text("low 0\noom 0\noom_kill 1\n")
    assert group.starved() and not group.ran_out_of_memory()
    group.add(123)
    assert (service / "run" / "cgroup.procs").read_text() == "123"


@pytest.mark.parametrize(
    ("given", "made"), [("memory pids cpu io", True), ("memory pids", True), ("pids cpu", False)]
)
def test_version_2__handed_over_and_not_passed_on__the_agent_does_it(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, given: str, made: bool
) -> None:
    service = tree_v2(tmp_path, own, enabled="")
    (service / "cgroup.controllers").write_text(given)
    handed_over(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    group = cgroup.create("run", MIB, 8, 1, tmp_path, own)
    assert (group is not None) is made
    enabled = (service / "cgroup.subtree_control").read_text()
    assert ("+memory +pids" in enabled) is made


def test_version_2__handed_over_with_us_in_it__we_move_aside(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, service = tmp_path / "top", tmp_path / "top" / "system.slice" / "agent.service"
    (service / "agent").mkdir(parents=True)
    (top / "cgroup.controllers").write_text("memory pids")
    (service / "cgroup.type").write_text("domain")
    (service / "cgroup.procs").write_text("41\n42\n")
    (service / "cgroup.subtree_control").write_text("")
    own.write_text("0::/system.slice/agent.service\n")
    monkeypatch.setattr(cgroup, "_is_ours", lambda directory: directory == service)
    group = cgroup.create("run", MIB, 8, 1, top, own)
    assert group is not None and group.paths == (service / "run",)
    # Each process was written there; a plain file keeps the last.
    assert (service / "agent" / "cgroup.procs").read_text() == "42"


def test_version_2__top_of_the_tree__nobody_is_moved(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    (tmp_path / "cgroup.procs").write_text("1\n")
    own.write_text("0::/\n")
    monkeypatch.setattr(cgroup, "_is_ours", lambda directory: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cgroup.version(tmp_path, own) == 0
    assert not (tmp_path / "agent").exists()


def test_version_2__not_handed_over__none_for_an_ordinary_user(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree_v2(tmp_path, own)
    monkeypatch.setattr(cgroup, "_is_ours", lambda directory: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cgroup.version(tmp_path, own) == 0
    assert cgroup.create("run", MIB, 8, 1, tmp_path, own) is None


def test_version_2__not_handed_over__root_makes_a_branch(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree_v2(tmp_path, own)
    monkeypatch.setattr(cgroup, "_is_ours", lambda directory: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # The kernel makes this file with the directory.
    (tmp_path / "teraproof").mkdir()
    (tmp_path / "teraproof" / "cgroup.subtree_control").write_text("memory pids")
    group = cgroup.create("run", MIB, 8, 1, tmp_path, own)
    assert group is not None and group.paths == (tmp_path / "teraproof" / "run",)


@pytest.mark.parametrize("enabled", ["", "memory", "pids cpu"])
def test_version_2__without_memory_or_pids__none(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, enabled: str
) -> None:
    tree_v2(tmp_path, own, enabled)
    handed_over(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cgroup.create("run", MIB, 8, 1, tmp_path, own) is None


def tree_v1(top: Path, own: Path, controllers: tuple[str, ...] = CONTROLLERS) -> None:
    lines = []
    for number, controller in enumerate(controllers):
        place = top / controller / "mine"
        place.mkdir(parents=True)
        (place / "cgroup.procs").touch()
        lines.append(f"{number}:{controller}:/mine")
    own.write_text("\n".join([*lines, "0::/"]) + "\n")


def test_version_1__below_our_own_group__limits_written(tmp_path: Path, own: Path) -> None:
    tree_v1(tmp_path, own)
    assert cgroup.version(tmp_path, own) == 1
    group = cgroup.create("run", 64 * MIB, 8, 2, tmp_path, own)
    assert group is not None
    assert group.paths == tuple(tmp_path / name / "mine" / "run" for name in CONTROLLERS)
    memory, pids, cpu, cpuacct = group.paths
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(64 * MIB)
    assert (pids / "pids.max").read_text() == "8"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "200000"
    assert int((cpu / "cpu.shares").read_text()) * 5 <= 1024 * 2
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (cpuacct / "cpuacct.usage").write_text("7000000\n")
    assert group.starved() and not group.ran_out_of_memory()
    (memory / "memory.max_usage_in_bytes").write_text(f"{64 * MIB}\n")
    assert group.ran_out_of_memory() and not group.starved() and group.cpu_ms() == 7


@pytest.mark.parametrize("missing", ["memory", "pids"])
def test_version_1__without_memory_or_pids__none(tmp_path: Path, own: Path, missing: str) -> None:
    tree_v1(tmp_path, own, tuple(name for name in CONTROLLERS if name != missing))
    assert cgroup.version(tmp_path, own) == 0


def test_no_control_groups__none(tmp_path: Path, own: Path) -> None:
    assert cgroup.version(tmp_path, own) == 0  # no such file
    own.write_text("0::/\n")
    assert cgroup.create("run", MIB, 8, 1, tmp_path, own) is None


def test_this_machine__group_of_its_own__counts_kills_and_goes() -> None:
    group = cgroup.create(f"test-{os.getpid()}", 32 * MIB, 8, 1)
    if group is None:
        pytest.skip("this machine does not let us make control groups")
    program = "import time; print(flush=True); k = bytearray(64 << 20); time.sleep(60)"
    child = subprocess.Popen(
        ["/bin/sh", "-c", 'read x; exec python3 -c "$0"', program], stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    try:
        group.add(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.wait(timeout=60) == -signal.SIGKILL
        assert group.ran_out_of_memory()
        assert 0 < group.peak_memory() <= 32 * MIB
    finally:
        child.stdin.close()
        child.kill()
        child.wait()
        group.end()
    assert not any(path.exists() for path in group.paths)


def test_end__something_lives_in_it__killed() -> None:
    group = cgroup.create(f"test-{os.getpid()}-end", 32 * MIB, 8, 1)
    if group is None:
        pytest.skip("this machine does not let us make control groups")
    child = subprocess.Popen(["/bin/sleep", "60"])
    group.add(child.pid)
    cgroup.remove(group.paths)  # takes away only what is empty
    assert all(path.exists() for path in group.paths) and child.poll() is None
    end = time.monotonic() + 30
    group.end()
    assert child.wait(timeout=max(1, end - time.monotonic())) == -signal.SIGKILL
    group.end()
    assert not any(path.exists() for path in group.paths)


@pytest.mark.parametrize("groups", [0, 1, 2])
@pytest.mark.parametrize("kind", [disk.IMAGE, disk.MEMORY, disk.DIRECTORY])
def test_containment__holds_only_with_both(groups: int, kind: str) -> None:
    found = containment.Containment("bubblewrap", groups, kind)
    assert found.holds == (groups > 0 and kind != disk.DIRECTORY)
    if found.holds:
        found.refuse()
        return
    with pytest.raises(RunnerError, match=r"docs/operations\.md") as caught:
        found.refuse()
    assert ("memory" in str(caught.value)) == (groups == 0)
    assert 'sandbox = "none"' not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor does not let"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0", "Ubuntu 24.04"),
    ],
)
def test_advice__by_what_the_kernel_says(
    tmp_path: Path, setting: str, value: str, said: str
) -> None:
    (tmp_path / setting).parent.mkdir(parents=True)
    (tmp_path / setting).write_text(value + "\n")
    line = containment.advice(tmp_path)
    assert said in line
    if "AppArmor" in line:
        assert line.index("profile") < line.index("kernel.apparmor_restrict_unprivileged_userns")
    assert "none" not in line
