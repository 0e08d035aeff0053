# SPDX-License-Identifier: Apache-2.0
"""The runner of an agent that is not root: limits by a control group of its own, or watched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provider_agent.runners import cgroup
from tests.support import runs

ROOT = Path(__file__).resolve().parents[3]


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
