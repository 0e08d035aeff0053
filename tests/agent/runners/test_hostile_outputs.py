# SPDX-License-Identifier: Apache-2.0
"""Jobs that leave odd things in their outputs, in the real sandbox; see `hostile`."""

from __future__ import annotations

import os

import pytest

from provider_agent.runners.base import Reason
from tests.agent.hostile import Machine

pytestmark = pytest.mark.sandbox


# What a program leaves in its outputs, and the path that must be named for it.
PLANTS = {
    "link to a file": ('os.symlink("/etc/passwd", "out/x")', "out/x"),
    "link to the host": ('os.symlink("../../../../operator.key", "out/x")', "out/x"),
    "link as the directory": ('os.rename("out", "o"); os.symlink("/etc", "out")', "out"),
    "link to another place": ('open("s", "w"); os.symlink("../s", "out/x")', "out/x"),
    "dangling link": ('os.symlink("nowhere", "out/x")', "out/x"),
    "links in a circle": ('os.symlink("y", "out/x"); os.symlink("x", "out/y")', "out/x"),
    "link to itself": ('os.symlink(".", "out/x")', "out/x"),
    "link through a file": ('os.symlink("good/x", "out/x")', "out/x"),
    "link by the kernel's own": ('os.symlink("/proc/self/root/etc", "out/x")', "out/x"),
    "pipe": ('os.mkfifo("out/x")', "out/x"),
    "link to a pipe": ('os.mkfifo("out/p"); os.symlink("p", "out/x")', "out/x"),
    "socket": ('import socket; socket.socket(socket.AF_UNIX).bind("out/x")', "out/x"),
    "line in a name": ('open("out/a\\nb", "w")', "out/a\\nb"),
    "terminal codes in a name": ('open("out/\\x1b[2J", "w")', "out/\\x1b[2J"),
    "name that is not text": ('open(b"out/\\xff\\xfe", "w")', "out/\\udcff\\udcfe"),
    "claims more than it may have": (
        'open("out/x", "wb").truncate(20 << 20); open("out/y", "wb").truncate(20 << 20)',
        "out/y",
    ),
    "too deep": ('os.makedirs("out/" + "d/" * 40)', "out/" + "/".join("d" * 32)),
    "nothing": ('os.unlink("out/good"); os.rmdir("out")', "out"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_outputs__unfit__named_and_the_rest_kept(machine: Machine, plant: str) -> None:
    program, path = PLANTS[plant]
    source = f'import os\nos.mkdir("out")\nopen("out/good", "w").write("good")\n{program}\n'
    state = machine.execute(source, outputs=("out",))
    assert (state.reason, state.exit_code) == (Reason.OUTPUTS, 0), state
    assert state.collected and not state.succeeded
    named = dict(state.unfit)
    assert path in named, named
    for text in (state.detail, *named, *named.values()):
        assert text.isascii() and text.isprintable() and text
    log = machine.runner.log("hostile").read_text()
    assert "is not kept: it" in log
    out = machine.runner.outputs("hostile") / "out"
    if "/" in path:
        assert (out / "good").read_text() == "good"
    kept = [item for item in out.rglob("*") if not item.is_dir()]
    assert all(item.is_file() and not item.is_symlink() for item in kept)
    assert "root:" not in "".join(item.read_text("latin-1") for item in kept)


# Results as training programs leave them, and what must be there in the end.
LINKED = {
    "last checkpoint": (
        """
os.makedirs("out/checkpoints")
open("out/checkpoints/epoch=3-step=400.ckpt", "w").write("weights")
os.symlink("epoch=3-step=400.ckpt", "out/checkpoints/last.ckpt")
""",
        {
            "out/checkpoints/epoch=3-step=400.ckpt": "weights",
            "out/checkpoints/last.ckpt": "weights",
        },
    ),
    "model cache": (
        """
os.makedirs("out/m/blobs"); os.makedirs("out/m/snapshots/abc")
open("out/m/blobs/dead", "w").write("blob")
os.symlink("../../blobs/dead", "out/m/snapshots/abc/model")
""",
        {"out/m/blobs/dead": "blob", "out/m/snapshots/abc/model": "blob"},
    ),
    "absolute, and through a directory": (
        """
os.makedirs("out/a/b"); open("out/a/b/f", "w").write("f")
os.symlink("/job/out/a", "out/l"); os.symlink("l/b/f", "out/k")
""",
        {"out/a/b/f": "f", "out/l/b/f": "f", "out/k": "f"},
    ),
    "a directory with links of its own": (
        """
os.makedirs("out/run1"); open("out/run1/f", "w").write("f"); os.symlink("f", "out/run1/g")
os.symlink("run1", "out/latest")
""",
        {"out/run1/f": "f", "out/run1/g": "f", "out/latest/f": "f", "out/latest/g": "f"},
    ),
    "link to a link": (
        'os.mkdir("out"); open("out/f", "w").write("f")\n'
        'os.symlink("f", "out/b"); os.symlink("b", "out/a")\n',
        {"out/f": "f", "out/a": "f", "out/b": "f"},
    ),
    "closed files": (
        'os.mkdir("out"); open("out/f", "w").write("f"); os.chmod("out/f", 0)\n'
        'os.mkdir("out/d"); open("out/d/g", "w").write("g"); os.chmod("out/d", 0)\n',
        {"out/f": "f", "out/d/g": "g"},
    ),
}


@pytest.mark.parametrize("kind", LINKED)
def test_outputs__links_that_stay_inside__kept(machine: Machine, kind: str) -> None:
    source, wanted = LINKED[kind]
    state = machine.execute("import os\n" + source, outputs=("out",))
    assert state.succeeded, state
    out = machine.runner.outputs("hostile")
    found = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}
    assert found == wanted
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_outputs__directories_linked_into_each_other__bounded(machine: Machine) -> None:
    # Each level has two links to the next one: 2^30 paths, where links are followed.
    state = machine.execute(
        """
import os
os.mkdir("out")
for n in range(30):
    os.mkdir(f"out/{n}")
    for name in "ab": os.symlink(f"../{n + 1}", f"out/{n}/{name}")
os.mkdir("out/30"); open("out/30/f", "w").write("f")
""",
        outputs=("out",),
    )
    assert state.reason is Reason.OUTPUTS
    assert sum(1 for _ in machine.runner.outputs("hostile").rglob("*")) <= 10_000


def test_outputs__hard_links_and_odd_modes__plain_copies(machine: Machine) -> None:
    state = machine.execute(
        """
import os
os.mkdir("out")
open("out/a", "w").write("same")
os.link("out/a", "out/b")
os.chmod("out/a", 0o4777)
open("outside", "w").write("not declared")
""",
        outputs=("out", "out/a"),
    )
    assert state.succeeded
    out = machine.runner.outputs("hostile")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "out",
        "out/a",
        "out/b",
    ]
    for name in ("a", "b"):
        status = (out / "out" / name).stat()
        assert (status.st_mode & 0o7777, status.st_nlink) == (0o644, 1)
        assert status.st_uid == os.geteuid()
        assert (out / "out" / name).read_text() == "same"


def test_left_over__closed_and_deep_directories__removed(machine: Machine) -> None:
    state = machine.execute("""
import os
os.makedirs("closed/inner"); open("closed/inner/x", "w"); os.symlink("/etc", "closed/link")
os.chmod("closed/inner", 0); os.chmod("closed", 0)
for _ in range(3000): os.mkdir("d"); os.chdir("d")
""")
    assert state.phase.value == "exited"  # and the fixture removes it
