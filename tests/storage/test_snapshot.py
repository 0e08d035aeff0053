# SPDX-License-Identifier: Apache-2.0
"""A snapshot is what was there at one moment, whatever writes meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.snapshot import Snapshot, Snapshots

# Writes a counter to `a`, then to `b`, each under another name first; and rewrites `c` in place,
# which is whole only now and then.
_WRITER = """
import os, sys, time
os.chdir(sys.argv[1])
number = 0
while True:
    number += 1
    text = f"{number:08d}" * 20_000
    for name in "ab":
        with open(f"../{name}.new", "w") as file:
            file.write(text)
        os.replace(f"../{name}.new", name)
    with open("c", "r+") as file:
        file.write(text)
    time.sleep(0.4)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "one").write_bytes(b"one")
    (folder / "deep" / "two").write_bytes(b"two")
    (folder / "empty").write_bytes(b"")
    return folder


def snapshots(source: Path, most: int = 1 << 30) -> Snapshots:
    return Snapshots(source, source.parent / "stage", most)


def contents(made: Snapshots, taken: Snapshot) -> dict[str, bytes]:
    return {entry.path: made.copy(entry.sha256).read_bytes() for entry in taken.files}


def test_files__as_they_are_with_their_digests(source: Path) -> None:
    made = snapshots(source)
    taken = made.take(set())
    assert contents(made, taken) == {"one": b"one", "deep/two": b"two", "empty": b""}
    assert [entry.path for entry in taken.files] == ["deep/two", "empty", "one"]


def test_held_and_unchanged__are_not_copied_again(source: Path) -> None:
    made = snapshots(source)
    first = made.take(set())
    held = {entry.sha256 for entry in first.files}
    made.drop()
    assert made.take(held) == Snapshot(first.files, frozenset())
    copies = list((source.parent / "stage" / "objects").iterdir())
    assert copies == []
    (source / "one").write_bytes(b"new")
    assert len(made.take(held).staged) == 1
    later = snapshots(source).take(held)
    assert len(later.staged) == 1, "another process knows the same"


def test_held_no_longer__is_copied_although_unchanged(source: Path) -> None:
    made = snapshots(source)
    made.take(set())
    made.drop()
    assert len(made.take(set()).staged) == 3


def test_same_size_and_time__a_change_is_seen_all_the_same(source: Path) -> None:
    made = snapshots(source)
    first = made.take(set())
    times = (source / "one").stat()
    (source / "one").write_bytes(b"two")
    os.utime(source / "one", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert made.take({entry.sha256 for entry in first.files}).files != first.files


def test_a_program_that_writes_on__every_snapshot_is_one_moment(source: Path) -> None:
    for name in "abc":
        (source / name).write_text("00000000" * 20_000)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(source)])
    made = snapshots(source)
    seen: set[int] = set()
    try:
        while len(seen) < 4:
            try:
                found = contents(made, made.take(set()))
            except LocalError as error:
                assert error.code == Code.SNAPSHOT_UNSTABLE
                continue
            texts = {found[name].decode() for name in "abc"}
            for text in texts:
                assert text == text[:8] * 20_000, "half of a file"
            a, b, c = (int(found[name][:8]) for name in "abc")
            assert a >= b >= c >= a - 1, "they are written in this order"
            seen.add(a)
            made.drop()
    finally:
        writer.kill()
        writer.wait()


def test_never_still__is_said(source: Path) -> None:
    made = Snapshots(source, source.parent / "stage", 1 << 30, lambda _: (source / "one").touch())
    (source / "one").touch()
    with pytest.raises(LocalError) as caught:
        made.take(set())
    assert caught.value.code == Code.SNAPSHOT_UNSTABLE and caught.value.retryable


def test_too_large__nothing_is_copied(source: Path) -> None:
    with pytest.raises(LocalError) as caught:
        snapshots(source, most=5).take(set())
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert list((source.parent / "stage" / "objects").iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "dangling"])
def test_links_and_special_files__are_refused_and_not_followed(kind: str, source: Path) -> None:
    place = source / "deep" / "odd"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"link": "/etc/passwd", "folder": "/etc", "dangling": "nowhere"}[kind])
    with pytest.raises(LocalError) as caught:
        snapshots(source).take(set())
    assert caught.value.code == Code.PATH_UNFIT


def test_inside__a_path_that_the_owner_of_the_files_names(source: Path) -> None:
    made = Snapshots(source, source.parent / "stage", 1 << 30, inside="deep")
    assert contents(made, made.take(set())) == {"two": b"two"}


@pytest.mark.parametrize("inside", ["deep/state", "deep/link/state", "one", "nothing/state"])
def test_inside__never_leads_out(inside: str, source: Path) -> None:
    """Who writes the files also names the path, and may put a link on it."""
    outside = source.parent / "outside"
    (outside / "state").mkdir(parents=True)
    (outside / "state" / "secret").write_bytes(b"the machine's")
    (source / "deep" / "link").symlink_to(outside)
    (source / "deep" / "state").symlink_to(outside / "state")
    with pytest.raises(LocalError) as caught:
        Snapshots(source, source.parent / "stage", 1 << 30, inside=inside).take(set())
    assert caught.value.code == Code.PATH_UNFIT


@pytest.mark.parametrize("inside", ["..", "deep/../..", "/etc", "deep//x", "a\0b"])
def test_inside__that_is_not_clean__is_refused(inside: str, source: Path) -> None:
    with pytest.raises(LocalError) as caught:
        Snapshots(source, source.parent / "stage", 1 << 30, inside=inside)
    assert caught.value.code == Code.PATH_UNFIT


def test_replaced_by_a_link_while_it_is_copied__what_was_opened_is_copied(source: Path) -> None:
    outside = source.parent / "outside"
    outside.mkdir()
    (outside / "two").write_bytes(b"the machine's")
    made = Snapshots(source, source.parent / "stage", 1 << 30, inside="deep")
    real = made._copy

    def swap(top: int, path: str) -> tuple[tuple[int, int, int, int, int], str]:
        if not (source / "deep").is_symlink():
            (source / "deep").rename(source / "moved")
            (source / "deep").symlink_to(outside)
        return real(top, path)

    made._copy = swap  # type: ignore[method-assign]
    assert contents(made, made.take(set())) == {"two": b"two"}


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "x" * 200 + "/" + "y" * 200])
def test_names_that_no_manifest_has__are_refused(name: str, source: Path) -> None:
    deep = source / "/".join([name] * (1 if "/" not in name else 4))
    deep.parent.mkdir(parents=True, exist_ok=True)
    deep.write_bytes(b"x")
    with pytest.raises(LocalError) as caught:
        snapshots(source).take(set())
    assert caught.value.code == Code.PATH_UNFIT


def test_damaged_index__costs_a_copy_and_no_more(source: Path) -> None:
    first = snapshots(source).take(set())
    for damage in (b"", b"[]", b'{"one": 1}', b'{"one": [[1], "x"]}', b"[" * 5000):
        (source.parent / "stage" / "index.json").write_bytes(damage)
        assert snapshots(source).take(set()).files == first.files


def test_no_directory__is_said(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        snapshots(tmp_path / "nothing").take(set())
    assert caught.value.code == Code.INPUT_INVALID
