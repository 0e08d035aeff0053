# SPDX-License-Identifier: Apache-2.0
"""Copies on their way never take more room than the directory itself may have."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage import snapshot
from teraproof.storage.snapshot import Snapshots

MOST = 3 << 18
NAMES = ("a", "b", "deep/c", "deep/d")


class Tenant:
    """Writes to its directory between any two reads of it, and looks at the copies then."""

    def __init__(self, home: Path, seed: int) -> None:
        self.source, self.stage = home / "source", home / "stage"
        (self.source / "deep").mkdir(parents=True)
        self.dice, self.highest, self.changes = random.Random(seed), 0, 0
        self.is_awake = False
        for name in NAMES:
            self.replace(name)

    def staged(self) -> int:
        """Bytes of copies, whole and begun."""
        found = [*self.stage.glob("objects/*"), *self.stage.glob("copy-*")]
        return sum(path.stat().st_size for path in found)

    def size(self) -> int:
        """Mostly small enough for all of them together."""
        return self.dice.choice((0, 7, MOST // 5, MOST // 4, MOST // 4, MOST))

    def replace(self, name: str) -> None:
        """As careful programs do."""
        made = self.source.parent / "new"
        made.write_bytes(self.dice.randbytes(self.size()))
        made.replace(self.source / name)

    def rewrite(self, name: str) -> None:
        """In place, of the same size."""
        with (self.source / name).open("r+b") as file:
            file.write(self.dice.randbytes(8))

    def resize(self, name: str) -> None:
        """In place, longer or shorter."""
        os.truncate(self.source / name, self.size())

    def remove(self, name: str) -> None:
        """It may come back."""
        (self.source / name).unlink()

    def link(self, name: str) -> None:
        """A second name of the same file."""
        os.link(self.source / name, self.source / f"{name}-{self.dice.randrange(3)}")

    def exchange(self, name: str) -> None:
        """Two files take each other's place."""
        other, aside = self.dice.choice(NAMES), self.source.parent / "aside"
        (self.source / name).rename(aside)
        with suppress(FileNotFoundError):
            (self.source / other).rename(self.source / name)
        aside.rename(self.source / other)

    def act(self) -> None:
        """One change, or none."""
        self.highest = max(self.highest, self.staged())
        if not self.is_awake or self.dice.random() < 0.6:
            return
        self.changes += 1
        change = self.dice.choice(
            (self.replace, self.rewrite, self.resize, self.remove, self.link, self.exchange)
        )
        name = self.dice.choice(NAMES)
        with suppress(FileNotFoundError, FileExistsError):
            change(name)


def between_reads(patch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have `act` be done after each read, look and move of the code under test."""
    for name in ("read", "fstat", "fsync", "scandir"):
        real = getattr(os, name)

        def wrapped(*given: object, _real: Callable[..., object] = real) -> object:
            found = _real(*given)
            with pytest.MonkeyPatch.context() as inner:
                for each, plain in reals.items():
                    inner.setattr(os, each, plain)
                act()
            return found

        reals[name] = real
        patch.setattr(os, name, wrapped)


reals: dict[str, Callable[..., object]] = {}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_changes_between_two_reads__copies_stay_within_the_bound(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant(tmp_path, seed)
    monkeypatch.setattr(snapshot, "_SETTLED_SECONDS", 0)
    between_reads(monkeypatch, tenant.act)
    made, outcomes = None, set[str]()
    for number in range(12):
        if made is None or tenant.dice.random() < 0.3:  # its agent was killed meanwhile
            made = Snapshots(tenant.source, tenant.stage, MOST, lambda _: None)
        tenant.is_awake = number % 3 != 2
        try:
            taken = made.take(frozenset())
        except LocalError as error:
            assert error.code in (Code.SNAPSHOT_UNSTABLE, Code.LIMIT_EXCEEDED)
            assert tenant.staged() == 0, "what has failed leaves nothing"
            outcomes.add(error.code.name)
            tenant.is_awake = False
            for name in NAMES:  # so that it fits again
                with suppress(FileNotFoundError):
                    os.truncate(tenant.source / name, MOST // 5)
            for extra in tenant.source.rglob("*-*"):
                extra.unlink()
        else:
            outcomes.add("taken")
            if tenant.dice.random() < 0.5:  # else its store has refused them
                made.drop(taken.staged)
                made.drop()
    assert tenant.changes > 10 and "taken" in outcomes and len(outcomes) > 1
    assert 0 < tenant.highest <= MOST


def test_one_file_changes_in_each_try__what_holds_still_is_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read = tmp_path / "source", list[int]()
    source.mkdir()
    (source / "a").write_bytes(b"a" * 5000)
    (source / "z").write_bytes(b"z" * 10)
    monkeypatch.setattr(snapshot, "_SETTLED_SECONDS", 0)
    real = os.read

    def count(handle: int, size: int) -> bytes:
        read.append(size)
        if size == 10:
            (source / "new").write_bytes(b"z" * 10)
            (source / "new").replace(source / "z")
        return real(handle, size)

    monkeypatch.setattr(os, "read", count)
    with pytest.raises(LocalError) as caught:
        Snapshots(source, tmp_path / "stage", 6000, lambda _: None).take(frozenset())
    assert caught.value.code == Code.SNAPSHOT_UNSTABLE
    assert read.count(5000) == 1 < read.count(10)
    assert list((tmp_path / "stage" / "objects").iterdir()) == []


def test_killed_while_it_copies__the_next_one_begins_with_an_empty_stage(tmp_path: Path) -> None:
    source, stage = tmp_path / "source", tmp_path / "stage"
    source.mkdir()
    (stage / "objects").mkdir(parents=True)
    (stage / "copy-0123").write_bytes(b"half of one")
    (stage / "objects" / ("ab" * 32)).write_bytes(b"of an earlier try")
    assert Snapshots(source, stage, 10).take(frozenset()).files == ()
    assert sorted(path.name for path in stage.iterdir()) == ["index.json", "objects"]
    assert list((stage / "objects").iterdir()) == []


def test_long_names_of_small_files__what_is_remembered_of_them_is_bounded(tmp_path: Path) -> None:
    source, stage = tmp_path / "source", tmp_path / "stage"
    deep = source / "/".join(["x" * 240] * 3)
    deep.mkdir(parents=True)
    for number in range(3000):
        (deep / f"{number:0200}").touch()
    taken = Snapshots(source, stage, 10).take(frozenset())
    assert len(taken.files) == 3000
    assert not (stage / "index.json").exists(), "it would take more than 2 MiB"


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_more_names_than_a_checkpoint_has__are_not_read_to_their_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hard links take no room of a volume, so nothing else bounds them."""
    source, seen = tmp_path / "source", list[str]()
    source.mkdir()
    (source / "0").touch()
    for number in range(1, 50):
        if kind == "files":
            os.link(source / "0", source / f"{number}")
        else:
            (source / f"{number}").mkdir()
    monkeypatch.setattr(snapshot, "MAX_FILES", 5)
    real = os.scandir

    @contextmanager
    def scandir(place: int | Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        def entries() -> Iterator[os.DirEntry[str]]:
            for each in listing:
                seen.extend([each.name] if each.name.isdigit() else [])
                yield each

        with real(place) as listing:
            yield entries()

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(LocalError) as caught:
        Snapshots(source, tmp_path / "stage", 10).take(frozenset())
    assert caught.value.code == Code.PATH_UNFIT and len(seen) == 6
