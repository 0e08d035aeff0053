# SPDX-License-Identifier: Apache-2.0
"""Outputs that a job has made to harm whoever collects them: none is the machine's fault."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from provider_agent.runners import outputs


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A job's directory with one good output."""
    (tmp_path / "work" / "out").mkdir(parents=True)
    (tmp_path / "work" / "out" / "good").write_bytes(b"good")
    return tmp_path / "work"


def collect(work: Path, tmp_path: Path) -> outputs.Collected:
    found = outputs.collect(work, ["out"], tmp_path / "kept", 1 << 20)
    assert (tmp_path / "kept" / "out" / "good").read_bytes() == b"good"
    return found


def deep(parent: Path, name: str, levels: int) -> str:
    """Directories within each other, deeper than a path can name; the path to the last."""
    here = os.open(parent, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    return "/".join([name] * levels)


@pytest.mark.parametrize(
    "target",
    [
        "a" * 300,
        "/".join(["b"] * 2_000),
        "x/" * 2_000 + "y",
        "../" * 900 + "z",
        "/job/" + "c" * 256,
    ],
    ids=["long name", "long path", "slashes", "out of it", "absolute"],
)
def test_link__whatever_it_names__the_jobs_fault(work: Path, tmp_path: Path, target: str) -> None:
    (work / "out" / "link").symlink_to(target)
    found = collect(work, tmp_path)
    assert [unfit.path for unfit in found.unfit] == ["out/link"] and found.refused == 1


def test_link__into_a_depth_that_no_path_reaches__the_jobs_fault(
    work: Path, tmp_path: Path
) -> None:
    deep(work / "out", "d" * 200, 30)
    (work / "out" / "a").symlink_to("/".join(["d" * 200] * 10))
    (work / "out" / "b").symlink_to("a/" + "/".join(["d" * 200] * 15))
    found = collect(work, tmp_path)
    assert {"out/b"} <= {unfit.path for unfit in found.unfit}


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_error_of_what_the_job_made__the_machines_only_if_it_is_broken(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever the kernel says of the job's names, links and permissions."""
    (work / "out" / "other").write_bytes(b"")
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == "other":
            raise OSError(number, os.strerror(number))
        return real(path, **options)

    monkeypatch.setattr(outputs.os, "stat", stat)  # type: ignore[attr-defined] # its own name
    broken = {"EIO", "EUCLEAN", "ENOMEM", "EMFILE", "ENFILE", "EINTR"}
    if errno.errorcode[number] in broken:
        with pytest.raises(OSError, match=r"Errno"):
            outputs.collect(work, ["out"], tmp_path / "kept", 1 << 20)
        assert not (tmp_path / "kept").exists()
    else:
        assert [unfit.path for unfit in collect(work, tmp_path).unfit] == ["out/other"]


def test_more_looks_than_anybody_needs__ended_and_said(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links that multiply what is refused cost a bounded time, and a bounded list."""
    monkeypatch.setattr(outputs, "MAX_STEPS", 3_000)
    pipes = work / "out" / "pipes"
    pipes.mkdir()
    for number in range(150):
        os.mkfifo(pipes / f"{number}")
        (work / "out" / f"zlink-{number}").symlink_to("pipes")
    found = collect(work, tmp_path)
    assert len(found.unfit) == outputs.KEPT_UNFIT and 150 < found.refused <= 3_001


class Enough(Exception):
    """Somebody wants it to end."""


@pytest.mark.parametrize("made", ["files", "bytes", "links"])
def test_told_to_stop__ends_soon_and_leaves_nothing(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    """Whatever takes long: many files, many bytes, or many looks that keep nothing."""
    monkeypatch.setattr(outputs, "_CHUNK", 16)
    if made == "bytes":
        (work / "out" / "long").write_bytes(bytes(16 * 1_000))
    for number in range(0 if made == "bytes" else 1_000):
        if made == "files":
            (work / "out" / f"{number}").write_bytes(b"")
        else:
            (work / "out" / f"{number}").symlink_to("nowhere")
    asked = 0

    def go_on() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Enough

    with pytest.raises(Enough):
        outputs.collect(work, ["out"], tmp_path / "kept", 1 << 20, go_on)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_chain_of_long_links__ended_and_said(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MAX_STEPS", 20_000)
    (work / "out" / "l0").symlink_to("good")
    for number in range(1, 30):
        (work / "out" / f"l{number}").symlink_to("./" * 1_500 + f"l{number - 1}")
    for number in range(100):
        (work / "out" / f"user-{number}").symlink_to("l29")
    found = collect(work, tmp_path)
    assert found.refused >= 1
    assert "looks at files, directories and links" in found.unfit[-1].reason
