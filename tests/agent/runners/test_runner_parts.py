# SPDX-License-Identifier: Apache-2.0
"""The parts of the runner that need no run: collecting, measuring, groups, the filter."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from provider_agent.runners import outputs, seccomp, usage


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "a" / "b").mkdir(parents=True)
    (made / "a" / "b" / "c").write_bytes(b"12345")
    (made / "a" / "d").write_bytes(b"123")
    return made


def test_collect__paths_kept(work: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert outputs.collect(work, ["a/b", "a/d"], target, 8) == outputs.Collected(8, (), 0)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*")) == [
        "a",
        "a/b",
        "a/b/c",
        "a/d",
    ]


def test_collect__one_byte_too_many__named_and_the_rest_kept(work: Path, tmp_path: Path) -> None:
    found = outputs.collect(work, ["a"], tmp_path / "out", 7)
    assert found.copied == 5 and found.unfit == (
        outputs.Unfit("a/d", "makes the outputs larger than 7 bytes"),
    )
    assert (tmp_path / "out" / "a" / "b" / "c").exists()
    assert not (tmp_path / "out" / "a" / "d").exists()


def test_collect__after_a_crash__starts_anew(work: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part" / "half").mkdir(parents=True)
    outputs.collect(work, ["a"], tmp_path / "out", 100)
    assert os.listdir(tmp_path / "out") == ["a"]


def test_collect__too_many_files__the_first_ones_kept(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MAX_FILES", 3)
    found = outputs.collect(work, ["a"], tmp_path / "out", 100)
    assert [unfit.path for unfit in found.unfit] == ["a/d"]
    assert (tmp_path / "out" / "a" / "b" / "c").exists()


def test_collect__a_part_is_missing__the_other_kept(work: Path, tmp_path: Path) -> None:
    found = outputs.collect(work, ["model", "a/d"], tmp_path / "out", 100)
    assert found.unfit == (outputs.Unfit("model", "is missing"),)
    assert (tmp_path / "out" / "a" / "d").read_bytes() == b"123"


def test_collect__link_on_the_way__not_followed(work: Path, tmp_path: Path) -> None:
    (work / "link").symlink_to(work / "a")
    found = outputs.collect(work, ["link/d"], tmp_path / "out", 100)
    assert [unfit.path for unfit in found.unfit] == ["link/d"]


def test_collect__this_machine_fails__nothing_appears(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.os, "write", full)  # type: ignore[attr-defined] # its own name
        with pytest.raises(OSError, match="No space"):
            outputs.collect(work, ["a"], tmp_path / "out", 100)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_remove_tree__link__not_followed(work: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(work)
    outputs.remove_tree(link)
    assert not link.is_symlink() and (work / "a").is_dir()
    (work / "inner").symlink_to(tmp_path)
    outputs.remove_tree(work)
    assert not work.exists() and tmp_path.is_dir()
    outputs.remove_tree(work)


def test_tree_size__counts_entries_and_blocks(work: Path) -> None:
    found = usage.tree_size(work)
    assert found.size >= 4 * 4096 and not found.unbounded
    with open(work / "sparse", "wb") as file:
        file.truncate(1 << 40)
    assert usage.tree_size(work).size < found.size + (1 << 16)


def test_read_process__odd_name__understood(tmp_path: Path) -> None:
    own = usage.read_process(os.getpid())
    assert own is not None and own.parent == os.getppid() and own.rss > 1 << 20
    assert usage.read_process(1 << 22) is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_seccomp__every_jump_lands(machine: str) -> None:
    program = seccomp.program(machine)
    assert program is not None
    code = list(struct.iter_unpack("=HBBI", program))
    assert len(code) < 4096
    for place, (kind, if_true, if_false, _) in enumerate(code):
        if kind in (0x15, 0x35, 0x45):
            assert place + 1 + max(if_true, if_false) < len(code)
    assert code[-1][0] == 0x06  # a return


def test_seccomp__unknown_machine__none() -> None:
    assert seccomp.program("pdp11") is None
