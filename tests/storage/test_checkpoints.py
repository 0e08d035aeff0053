# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: only complete ones are seen, nothing is sent twice, the last ones stay."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.checkpoints import Saved, Writer, resume
from teraproof.storage.layout import MANIFESTS, OBJECTS, WRITERS, Destination
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Source, Store
from teraproof.storage.transfer import send

LIMITS = Limits(tries=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 1000)
    (folder / "deep" / "same").write_bytes(b"same")
    (folder / "same").write_bytes(b"same")
    return folder


def writer(store: Store, source: Path, state: str = "state", keep: int = 2) -> Writer:
    return Writer(Destination(store, LIMITS), source, source.parent / state, keep)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def objects_are_those_of_the_manifests(store: Store) -> None:
    destination = Destination(store, LIMITS)
    named = {entry.sha256 for each in destination.listed() for entry in destination.files(each)}
    assert set(store.keys(OBJECTS)) == named


def refused(code: Code, call: Callable[[], object]) -> LocalError:
    with pytest.raises(LocalError) as caught:
        call()
    assert caught.value.code == code and "\n" not in str(caught.value)
    return caught.value


def test_save_and_resume__the_same_files_elsewhere(
    store: Store, source: Path, tmp_path: Path
) -> None:
    saved = writer(store, source).save()
    assert (saved.new, saved.files, saved.sent_objects, saved.sent_bytes) == (True, 3, 2, 1004)
    checkpoint, files = resume(Destination(store, LIMITS), tmp_path / "elsewhere")
    assert checkpoint == saved.checkpoint and len(files) == 3
    assert tree(tmp_path / "elsewhere") == tree(source)
    twins = [tmp_path / "elsewhere" / name for name in ("same", "deep/same")]
    assert not twins[0].samefile(twins[1]), "one of them may be written to"
    assert not (tmp_path / "elsewhere.partial").exists()


def test_only_what_has_changed__is_sent(store: Store, source: Path) -> None:
    made = writer(store, source)
    first = made.save()
    again = made.save()
    assert not again.new and again.checkpoint == first.checkpoint
    (source / "more").write_bytes(b"more")
    (source / "deep" / "same").unlink()
    second = made.save()
    assert second.new and second.sent_bytes == 4 and second.checkpoint > first.checkpoint
    made.close()
    later = writer(store, source)
    assert not later.save().new, "another process goes on"
    (source / "weights").write_bytes(b"v" * 10)
    assert later.save().sent_bytes == 10


def test_the_last_ones_stay__with_all_that_they_name_and_no_more(
    store: Store, source: Path, tmp_path: Path
) -> None:
    made = writer(store, source, keep=2)
    for number in range(5):
        (source / "weights").write_bytes(b"%d" % number)
        (source / f"only-{number}").write_bytes(b"only %d" % number)
        made.save()
        (source / f"only-{number}").unlink()
        objects_are_those_of_the_manifests(store)
    assert len(list(store.keys(MANIFESTS))) == 2
    older = Destination(store, LIMITS).listed()[0]
    resume(Destination(store, LIMITS), tmp_path / "older", str(older))
    assert (tmp_path / "older" / "only-3").read_bytes() == b"only 3"


def test_nothing_there__is_said(store: Store, tmp_path: Path) -> None:
    to = Destination(store, LIMITS)
    refused(Code.CHECKPOINT_MISSING, lambda: resume(to, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_objects_without_a_manifest__are_nothing(
    store: Store, source: Path, tmp_path: Path
) -> None:
    send(store, OBJECTS + Source.of_bytes(b"x").named.sha256, Source.of_bytes(b"x"), LIMITS)
    send(store, MANIFESTS + "000001-000000009-half", Source.of_bytes(b"{"), LIMITS)
    to = Destination(store, LIMITS)
    refused(Code.CHECKPOINT_MISSING, lambda: resume(to, tmp_path / "new"))


def test_a_directory_that_is_there__is_left_alone(
    store: Store, source: Path, tmp_path: Path
) -> None:
    writer(store, source).save()
    refused(Code.INPUT_INVALID, lambda: resume(Destination(store, LIMITS), source))
    assert tree(source)["weights"] == b"w" * 1000


@pytest.mark.parametrize("damage", ["object", "missing", "manifest"])
def test_damage__is_found_and_nothing_appears(
    damage: str, store: Store, source: Path, tmp_path: Path
) -> None:
    made = writer(store, source)
    made.save()
    (source / "weights").write_bytes(b"v" * 1000)
    made.save()
    to = Destination(store, LIMITS)
    newest = to.listed()[-1]
    key = OBJECTS + Source.of_bytes(b"v" * 1000).named.sha256
    if damage == "object":
        send(store, key, Source.of_bytes(b"u" * 1000), LIMITS)
    elif damage == "missing":
        store.delete(key)
    else:
        send(store, MANIFESTS + newest.name, Source.of_bytes(b"[]"), LIMITS)
    code = Code.DIGEST_MISMATCH if damage == "object" else Code.CHECKPOINT_DAMAGED
    refused(code, lambda: resume(to, tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    resume(to, tmp_path / "new", str(to.listed()[0]))
    assert (tmp_path / "new" / "weights").read_bytes() == b"w" * 1000


def test_damaged_manifest__the_writer_goes_on_and_removes_nothing_that_it_may_name(
    store: Store, source: Path, tmp_path: Path
) -> None:
    made = writer(store, source, keep=2)
    made.save()
    before = set(store.keys(OBJECTS))
    newest = Destination(store, LIMITS).listed()[-1]
    send(store, MANIFESTS + newest.name, Source.of_bytes(b"[]"), LIMITS)
    made.close()
    made = writer(store, source, keep=2)
    (source / "weights").write_bytes(b"new")
    assert made.save().new
    assert before <= set(store.keys(OBJECTS))
    resume(Destination(store, LIMITS), tmp_path / "new")
    assert tree(tmp_path / "new") == tree(source)


def test_a_later_writer__takes_over_and_the_earlier_one_changes_nothing(
    store: Store, source: Path, tmp_path: Path
) -> None:
    first = writer(store, source, "here")
    first.save()
    there = tmp_path / "there"
    resume(Destination(store, LIMITS), there)
    second = writer(store, there, "state-there")
    (there / "weights").write_bytes(b"there")
    (source / "weights").write_bytes(b"here")
    before = sorted(store.keys(MANIFESTS)), sorted(store.keys(OBJECTS))
    refused(Code.CHECKPOINTS_TAKEN, first.save)
    assert (sorted(store.keys(MANIFESTS)), sorted(store.keys(OBJECTS))) == before
    saved = second.save()
    resume(Destination(store, LIMITS), tmp_path / "third")
    assert (tmp_path / "third" / "weights").read_bytes() == b"there"
    assert saved.checkpoint == Destination(store, LIMITS).listed()[-1]
    assert len(list(store.keys(WRITERS))) == 1, "old claims go"


def test_claim__a_store_whose_lists_are_old__gives_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = Destination(store, LIMITS)
    assert [destination.claim(), destination.claim()] == [1, 2]
    monkeypatch.setattr(Destination, "writers", lambda _: [1])
    refused(Code.STORE_REFUSED, destination.claim)


@pytest.mark.parametrize("name", [f"{WRITERS}999999", f"{MANIFESTS}999999-000000001-{'ab' * 32}"])
def test_claim__no_number_is_left__refused(store: Store, name: str) -> None:
    send(store, name, Source.of_bytes(b"a stranger's"), LIMITS)
    refused(Code.STORE_REFUSED, Destination(store, LIMITS).claim)


def test_numbers__none_is_left__nothing_is_written_that_nobody_finds(
    store: Store, source: Path
) -> None:
    made = writer(store, source)
    send(
        store,
        f"{MANIFESTS}{made._epoch:06d}-999999999-{'ab' * 32}",
        Source.of_bytes(b"a stranger's"),
        LIMITS,
    )
    before = sorted(store.keys(MANIFESTS))
    refused(Code.STORE_REFUSED, made.save)
    assert sorted(store.keys(MANIFESTS)) == before


def test_more_names_than_anybody_reads__refused(store: Store) -> None:
    for number in range(5):
        send(store, f"{OBJECTS}{number}", Source.of_bytes(b"x"), LIMITS)
    assert len(list(store.keys(OBJECTS))) == 5
    few = Limits(tries=1, most_names=4)
    for part in (store, getattr(store, "_web", store)):
        for place in ("limits", "_limits"):
            if hasattr(part, place):
                setattr(part, place, few)
    refused(Code.LIMIT_EXCEEDED, lambda: list(store.keys(OBJECTS)))


def test_a_writer_that_was_overtaken_while_it_sent__adds_no_checkpoint(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writer(store, source)
    taken = made._snapshots.take

    def take(held: set[str]) -> object:
        writer(store, source, "other")
        return taken(held)

    monkeypatch.setattr(made._snapshots, "take", take)
    refused(Code.CHECKPOINTS_TAKEN, made.save)
    assert list(store.keys(MANIFESTS)) == []


def test_one_state__is_one_writers(store: Store, source: Path) -> None:
    made = writer(store, source)
    refused(Code.COMMAND_RUNNING, lambda: writer(store, source))
    made.close()
    writer(store, source).close()


def test_resume__goes_on_with_what_an_earlier_call_has_got(
    store: Store, source: Path, tmp_path: Path
) -> None:
    writer(store, source).save()
    partial = tmp_path / "new.partial" / "files"
    (partial / "deep").mkdir(parents=True)
    (partial / "same").write_bytes(b"same")
    (partial / "stale").write_bytes(b"of another checkpoint")
    (partial / "weights").write_bytes(b"damaged")
    resume(Destination(store, LIMITS), tmp_path / "new")
    assert tree(tmp_path / "new") == tree(source)


def test_too_large__is_refused_before_anything_is_fetched(
    store: Store, source: Path, tmp_path: Path
) -> None:
    writer(store, source).save()
    small = Destination(store, Limits(most_bytes=100))
    refused(Code.LIMIT_EXCEEDED, lambda: resume(small, tmp_path / "new"))
    assert not (tmp_path / "new.partial").exists()


def test_run__saves_at_intervals_and_once_more_at_the_end(store: Store, source: Path) -> None:
    stop, told = threading.Event(), list[Saved | LocalError]()

    def note(found: Saved | LocalError) -> None:
        told.append(found)
        if len(told) == 2:
            (source / "last").write_bytes(b"written after the last interval")
            stop.set()

    writer(store, source).run(0.1, stop, note)
    assert [isinstance(each, Saved) and each.new for each in told] == [True, False, True]


def test_run__what_passes_is_told_and_tried_again(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, told = threading.Event(), list[Saved | LocalError]()
    made = writer(store, source)
    real, left = made.save, [1]

    def save() -> Saved:
        if left.pop() if left else 0:
            raise LocalError("away", Code.STORE_UNREACHABLE)
        return real()

    monkeypatch.setattr(made, "save", save)

    def note(found: Saved | LocalError) -> None:
        told.append(found)
        if len(told) > 1:
            stop.set()

    made.run(0.01, stop, note)
    assert isinstance(told[0], LocalError) and isinstance(told[1], Saved)
    monkeypatch.setattr(made, "save", lambda: (_ for _ in ()).throw(LocalError("no")))
    with pytest.raises(LocalError, match="no"):
        made.run(0.01, threading.Event(), told.append)


def test_http__cannot_hold_checkpoints(source: Path, tmp_path: Path) -> None:
    from teraproof.storage.reach import Reach
    from teraproof.storage.transfer import open_store
    from teraproof.storage.uris import parse

    made = open_store(parse("https://example.org/run"), Reach.own(), LIMITS)
    refused(Code.URI_REFUSED, lambda: writer(made, source))
