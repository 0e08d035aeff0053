# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of saving, of pruning, of fetching and of resuming, one after the other.

The steps are what Python itself reports of files (its audit events): opening, renaming, linking,
removing. A child dies right before one of them. Then what is promised is looked at, with no help of
the child.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.checkpoints import Writer, resume
from teraproof.storage.layout import OBJECTS, Destination
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Source
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import fetch, open_store
from teraproof.storage.uris import parse
from tests.storage.s3 import Place

LIMITS = Limits(tries=1)
_STEPS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

OLD = {"weights": b"old" * 50_000, "log": b"epoch 1\n", "deep/same": b"same"}
NEW = {"weights": b"new" * 50_000, "log": b"epoch 2\n", "deep/same": b"same", "more": b"more"}


def dies(work: Callable[[], object], step: int) -> bool:
    """Do the work in a child that is killed before this step; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event not in _STEPS:
                return
            if event == "open" and not int(str(arguments[2] or 0)) & _WRITES:
                return
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def steps() -> Iterator[int]:
    yield from range(1_000)
    raise AssertionError("the work has no end")


def put(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def destination(folder: Path) -> Destination:
    return Destination(open_store(parse(f"file://{folder}"), Reach.own(), LIMITS), LIMITS)


def save(here: Path, keep: int) -> None:
    writer = Writer(destination(here / "there"), here / "source", here / "state", keep)
    try:
        writer.save()
    finally:
        writer.close()


def test_killed_at_each_step_of_saving__old_or_new_and_nothing_is_left_over(
    tmp_path: Path,
) -> None:
    keep = 1  # so that each step of removing the old one is among them
    first = tmp_path / "first"
    put(first / "source", OLD)
    save(first, keep)
    seen = set()
    for step in steps():
        here = tmp_path / f"killed-{step}"
        shutil.copytree(first, here)
        put(here / "source", NEW)
        killed = dies(lambda here=here: save(here, keep), step)  # type: ignore[misc]
        to = destination(here / "there")
        resume(to, here / "elsewhere")
        found = tree(here / "elsewhere")
        assert found in (OLD, NEW), "half of a checkpoint"
        seen.add("old" if found == OLD else "new")
        save(here, keep)
        resume(to, here / "again")
        assert tree(here / "again") == NEW
        listed = to.listed()
        named = {entry.sha256 for each in listed for entry in to.files(each)}
        assert set(to.store.keys(OBJECTS)) == named and len(listed) == keep
        assert len({each.name for each in listed}) == len(listed)
        if not killed:
            break
        shutil.rmtree(here)
    assert seen == {"old", "new"} and step > 20


def test_killed_at_each_step_of_resuming__nothing_or_all_of_it(tmp_path: Path) -> None:
    put(tmp_path / "source", NEW)
    save(tmp_path, 1)
    for step in steps():
        here = tmp_path / f"killed-{step}"
        here.mkdir()
        target = here / "elsewhere"
        killed = dies(lambda target=target: resume(destination(tmp_path / "there"), target), step)  # type: ignore[misc]
        if target.exists():
            assert tree(target) == NEW
        else:
            resume(destination(tmp_path / "there"), target)
            assert tree(target) == NEW
        if not killed:
            break
    assert step > 10


def test_killed_at_each_step_of_fetching__nothing_or_all_of_it(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "source").write_bytes(data)
    named = Source.of_file(tmp_path / "source").named
    store = open_store(parse(f"file://{tmp_path}/source"), Reach.own(), LIMITS)
    for step in steps():
        target = tmp_path / f"got-{step}"
        killed = dies(lambda target=target: fetch(store, "", named, target, LIMITS), step)  # type: ignore[misc]
        assert not target.exists() or target.read_bytes() == data
        fetch(store, "", named, target, LIMITS)
        assert target.read_bytes() == data
        if not killed:
            break


def test_killed_at_each_request_to_s3__old_or_new(s3: Place, tmp_path: Path) -> None:
    """The same with a store on the other side of a socket: the child dies before a request."""
    store, left = s3.open(), [-1]

    def count(**_: object) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    store._client.meta.events.register_first("before-send.s3", count)
    to = Destination(store, LIMITS)

    def work(state: str) -> None:
        writer = Writer(to, tmp_path / "source", tmp_path / state, 1)
        try:
            writer.save()
        finally:
            writer.close()

    seen = set()
    for step in steps():
        state = f"run-{step}"
        store.uri = parse(f"{s3.uri}/{state}")
        put(tmp_path / "source", OLD)
        work(state)
        put(tmp_path / "source", NEW)
        store.close()  # the child has connections of its own
        child = os.fork()
        if child == 0:
            left[0] = step
            try:
                work(state)
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        resume(to, tmp_path / f"elsewhere-{step}")
        found = tree(tmp_path / f"elsewhere-{step}")
        assert found in (OLD, NEW)
        seen.add("old" if found == OLD else "new")
        work(state)
        named = {entry.sha256 for each in to.listed() for entry in to.files(each)}
        assert set(store.keys(OBJECTS)) == named and len(to.listed()) == 1
        if not killed:
            break
    assert seen == {"old", "new"} and step > 8


def test_state_is_lost__another_writer_goes_on_from_what_is_there(tmp_path: Path) -> None:
    put(tmp_path / "source", OLD)
    save(tmp_path, 2)
    shutil.rmtree(tmp_path / "state")
    put(tmp_path / "source", NEW)
    save(tmp_path, 2)
    resume(destination(tmp_path / "there"), tmp_path / "elsewhere")
    assert tree(tmp_path / "elsewhere") == NEW
    with pytest.raises(LocalError) as caught:
        resume(destination(tmp_path / "there"), tmp_path / "other", "9.9")
    assert caught.value.code == Code.CHECKPOINT_MISSING
