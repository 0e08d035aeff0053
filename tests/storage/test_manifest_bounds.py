# SPDX-License-Identifier: Apache-2.0
"""What strangers put at a destination costs no more than what we put there ourselves."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.digests import MAX_FILES, Entry
from teraproof.protocol.errors import Code
from teraproof.storage import checkpoints, layout
from teraproof.storage.checkpoints import Writer
from teraproof.storage.layout import MANIFESTS, OBJECTS, Checkpoint, Destination, decode, encode
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Source, Store
from teraproof.storage.transfer import send

LIMITS = Limits(tries=1)
ANY = Checkpoint(1, 1, "0" * 64)
NONE = hashlib.sha256(b"").hexdigest()
ROW = b'{"path":"a","sha256":"%s","size":0}' % NONE.encode()


def manifest(rows: bytes) -> bytes:
    return b'{"files":[' + rows + b'],"version":1}'


@pytest.mark.parametrize(
    "paths",
    [[], ["a"], ["a", "a-b", "b/c"], ['quoted "name"', "ü/日本", "\U0001f600"], ["x" * 255]],
)
def test_what_we_write__is_read_as_it_was(paths: list[str], store: Store) -> None:
    files = tuple(
        Entry(path, size, NONE)
        for size, path in enumerate(sorted(paths, key=lambda each: each.encode()))
    )
    assert decode(encode(files), ANY, store) == list(files)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        manifest(ROW) + b" ",
        manifest(ROW + b","),
        manifest(b"," + ROW),
        manifest(ROW + b"," + ROW),
        manifest(ROW + b" "),
        manifest(ROW + ROW.replace(b'"a"', b'"b"')),
        manifest(ROW.replace(b'"a"', b'"b"') + b"," + ROW),
        manifest(ROW + b"," + ROW.replace(b'"a"', b'"a/b"')),
        manifest(ROW + b"," + ROW.replace(b'"a"', b'"a-"') + b"," + ROW.replace(b"a", b"a/b", 1)),
        manifest(ROW.replace(b'"a"', b'"../a"')),
        manifest(ROW.replace(b'"a"', b'"\\u0062"')),
        manifest(ROW.replace(b'"a"', b'"\xff"')),
        manifest(ROW.replace(b'"a"', b'"' + b"a" * 5000 + b'"')),
        manifest(ROW.replace(b":0}", b":00}")),
        manifest(ROW.replace(b":0}", b":-1}")),
        manifest(ROW.replace(b":0}", b":9007199254740992}")),
        manifest(ROW.replace(b":0}", b":1e3}")),
        manifest(ROW.replace(NONE.encode(), NONE.upper().encode())),
        manifest(ROW).replace(b"1}", b"2}"),
        b'{"files":[],"files":[' + ROW + b'],"version":1}',
    ],
)
def test_what_we_do_not_write__is_damaged(data: bytes, store: Store) -> None:
    with pytest.raises(LocalError) as caught:
        decode(data, ANY, store)
    assert caught.value.code == Code.CHECKPOINT_DAMAGED


@pytest.mark.parametrize("row", [b"{}", b"[]", b"0", b'""', ROW, b'\\"', b"[", b'{"path":"a'])
def test_many_of_anything__takes_no_memory_to_refuse(row: bytes, store: Store) -> None:
    data = manifest(row + (b"," + row) * ((4 << 20) // len(row)))
    text = manifest(b'{"path":"' + row.replace(b'"', b'\\"') * ((4 << 20) // len(row)))
    tracemalloc.start()
    try:
        for each in (data, text):
            with pytest.raises(LocalError):
                decode(each, ANY, store)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_deep_paths__folders_are_not_kept(store: Store) -> None:
    files = tuple(Entry(f"{n:04}/" + "a/" * 30 + "b", 0, NONE) for n in range(5000))
    data = encode(files)
    tracemalloc.start()
    try:
        assert len(decode(data, ANY, store)) == len(files)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data)
    finally:
        tracemalloc.stop()


def test_as_many_files_as_may_be__fit_with_paths_of_usual_length() -> None:
    layout.check_rows((Entry("x" * 130, 1, NONE),) * MAX_FILES)
    with pytest.raises(LocalError) as caught:
        layout.check_rows((Entry("x" * 200, 1, NONE),) * MAX_FILES)
    assert caught.value.code == Code.LIMIT_EXCEEDED


def test_names_too_long_for_a_manifest__nothing_is_sent(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / ("x" * 200)).write_bytes(b"x")
    monkeypatch.setattr(layout, "MANIFEST_BYTES", 300)
    made = Writer(Destination(store, LIMITS), tmp_path / "source", tmp_path / "state")
    with pytest.raises(LocalError) as caught:
        made.save()
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert list(store.keys(OBJECTS)) == list(store.keys(MANIFESTS)) == []


def plant(store: Store, number: int, names: int) -> None:
    """A checkpoint that nobody saved, of objects that are not there."""
    data = encode(
        tuple(
            Entry(f"{n:06}", 1, hashlib.sha256(b"%d.%d" % (number, n)).hexdigest())
            for n in range(names)
        )
    )
    made = Checkpoint(1, number, hashlib.sha256(data).hexdigest())
    send(store, MANIFESTS + made.name, Source.of_bytes(data), LIMITS)


def test_planted_checkpoints__are_read_a_few_at_a_time_and_go(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1, 10):
        plant(store, number, 20)
    monkeypatch.setattr(checkpoints, "_OLD_AT_ONCE", 3)
    monkeypatch.setattr(checkpoints, "MAX_FILES", 30)
    made = Writer(Destination(store, LIMITS), source, tmp_path / "state", keep=2)
    made._most_noted = 50
    read, real = list[str](), Destination.files

    def files(self: Destination, checkpoint: Checkpoint) -> list[Entry]:
        read.append(checkpoint.name)
        return real(self, checkpoint)

    monkeypatch.setattr(Destination, "files", files)
    for number in range(8):
        (source / "one").write_bytes(b"%d" % number)
        read.clear()
        assert made.save().new
        assert len(read) <= 3 + 2 + 1
        assert sum(map(len, made._files.values())) <= 30
        journal = tmp_path / "state" / "journal"
        assert not journal.exists() or journal.stat().st_size <= 50 * 66
    assert len(list(store.keys(MANIFESTS))) == 2 == len(list(store.keys(OBJECTS)))


def test_more_new_files_than_are_remembered__refused_before_any_is_sent(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / f"{number}").write_bytes(b"%d" % number)
    made = Writer(Destination(store, LIMITS), source, tmp_path / "state")
    made._most_noted = 5
    with pytest.raises(LocalError) as caught:
        made.save()
    assert caught.value.code == Code.LIMIT_EXCEEDED and list(store.keys(OBJECTS)) == []
    (source / "0").unlink()
    assert made.save().new
