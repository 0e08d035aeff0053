# SPDX-License-Identifier: Apache-2.0
"""What a tenant, its store or its program does to checkpoints of others, and to the provider."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent import durable
from provider_agent.modules.leases import checkpoints
from provider_agent.modules.leases.module import LeasesModule
from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import Entry
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage import checkpoints as storage_checkpoints
from teraproof.storage.access import Access
from teraproof.storage.layout import Checkpoint, Destination
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Store
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store, send
from teraproof.storage.uris import Uri
from tests.agent.leases.saving import FIRST, SECOND, Machine, saved, soon, write
from tests.support.codes import fails_as

# ---------------------------------------------------------------------- what others' stores do


def elsewhere(asked: LeaseSpec, tmp_path: Path, name: str) -> LeaseSpec:
    """The same with a destination of its own."""
    assert asked.checkpoints is not None
    return replace(asked, checkpoints=replace(asked.checkpoints, uri=f"file://{tmp_path}/{name}"))


def test_store_that_takes_days__saves_of_others_go_on(
    machines: tuple[Machine, Machine],
    asked: LeaseSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, go_on, sending = machines[0], threading.Event(), threading.Event()
    monkeypatch.setattr(checkpoints, "_AT_ONCE", 1)

    def slowly(store: Store, *rest: Any, **more: Any) -> bool:
        if f"{store.uri}".endswith("slow"):
            sending.set()
            assert go_on.wait(60)
        return send(store, *rest, **more)

    monkeypatch.setattr(storage_checkpoints, "send", slowly)
    slow, work = elsewhere(asked, tmp_path, "slow"), one.agent()
    for lease, wanted in ((SECOND, slow), (FIRST, asked)):
        work.give(lease, {})
        work.begin(lease, wanted)
        write(one.volume(lease) / "run", lease)
    work.keep({SECOND: slow}, None)
    assert sending.wait(60)
    work.keep({SECOND: slow, FIRST: asked}, None)
    soon(lambda: work.kept(FIRST).checkpoint, "a checkpoint of the other one")
    assert not go_on.is_set() and not work.kept(SECOND).checkpoint
    go_on.set()
    soon(lambda: work.kept(SECOND).checkpoint, "its own, in the end")


def test_volumes_of_others_are_read__it_says_that_it_waits_and_ends_at_once(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    for name, value in (("_AT_ONCE", 1), ("_LONG_WAIT", 0.0), ("_MOMENT", 0.1)):
        monkeypatch.setattr(checkpoints, name, value)
    work = one.agent()
    with work.turn("another", threading.Event()):
        one.runs(FIRST, asked)
        write(one.volume(FIRST) / "run", "step 1")
        soon(lambda: "waits for others" in work.kept(FIRST).trouble, "it says so")
        saver = work._savers[FIRST]
        work.keep({}, None)
        saver.join(60)
        assert not saver.is_alive(), "it waits on for a lease that does not run"
        work.keep({FIRST: asked}, None)
    soon(lambda: work.kept(FIRST).checkpoint, "a checkpoint")
    assert work.kept(FIRST).trouble == ""


def test_credentials_change_while_it_runs__the_new_ones_are_used(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, good = machines[0], ["OLD"]

    def opened(uri: Uri, reach: Reach, limits: Limits, access: Access) -> Store:
        store = open_store(uri, reach, limits)
        keys = store.keys

        def asked_for(prefix: str) -> Iterator[str]:
            if access.key_id not in good:
                raise LocalError("status 403", Code.STORE_REFUSED)
            return keys(prefix)

        monkeypatch.setattr(store, "keys", asked_for)
        return store

    monkeypatch.setattr(checkpoints, "open_store", opened)
    one.work.give(FIRST, {"key_id": "OLD", "secret": "HUSH"})
    one.work.begin(FIRST, asked)
    one.work.keep({FIRST: asked}, {FIRST})
    write(one.volume(FIRST) / "run", "step 1")
    soon(partial(saved, one, "1.1"), "the first checkpoint")
    good[:] = ["NEW"]
    write(one.volume(FIRST) / "run", "step 2!")
    soon(lambda: one.work.kept(FIRST).trouble == "status 403", "it says why")
    one.work.give(FIRST, {"key_id": "NEW", "secret": "HUSH"})
    soon(partial(saved, one, "1.2"), "the next one, by the same writer")
    assert one.work.kept(FIRST).trouble == ""


def test_save_that_fails_in_a_way_nobody_thought_of__said_and_tried_again(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines

    def bug(*_: object) -> None:
        raise ZeroDivisionError("HUSH")

    one.runs(FIRST, asked)
    write(one.volume(FIRST) / "run", "step 1")
    with monkeypatch.context() as broken:
        broken.setattr(storage_checkpoints.Writer, "save", bug)
        soon(lambda: one.work.kept(FIRST).trouble, "the tenant hears it")
        assert "HUSH" not in one.work.kept(FIRST).trouble
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint")


def test_lease_ends_while_its_store_is_silent__nothing_goes_on(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, asks, cut = machines[0].work, threading.Event(), threading.Event()
    monkeypatch.setattr(checkpoints, "_MOMENT", 0.2)

    def opened(uri: Uri, reach: Reach, limits: Limits, access: Access) -> Store:
        store = open_store(uri, reach, limits)

        def silent(prefix: str) -> Iterator[str]:
            asks.set()
            assert cut.wait(60)
            reach.check(uri)  # as each next request and piece does
            raise AssertionError("it may still reach the store")

        monkeypatch.setattr(store, "keys", silent)
        monkeypatch.setattr(store, "cut_off", cut.set)
        return store

    monkeypatch.setattr(checkpoints, "open_store", opened)
    work.give(FIRST, {})
    with fails_as(Code.NOT_READY):
        work.prepare(FIRST, asked, lambda: None)
    assert asks.wait(60) and not cut.is_set()
    fetching = work._beginners[FIRST]
    monkeypatch.setattr(checkpoints, "_MOST_FETCH", 0.0)
    with pytest.raises(Refused):  # longer than anybody waits: that is the tenant's
        work.prepare(FIRST, asked, lambda: None)
    work.forget(FIRST)
    fetching.join(60)
    assert cut.is_set() and not fetching.is_alive()


# ---------------------------------------------------------------------- what lies in the volume


def saved_tree(one: Machine, asked: LeaseSpec) -> None:
    """A store with a checkpoint of `a`, `deep/w` and `z`."""
    one.runs(FIRST, asked)
    for folder, name in (("run", "a"), ("run/deep", "w"), ("run", "z")):
        write(one.volume(FIRST) / folder, f"of {name}", name)
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint")
    one.work.close()


@pytest.mark.parametrize("last", range(5))
def test_killed_while_files_are_moved__the_next_agent_ends_it(
    machines: tuple[Machine, Machine],
    asked: LeaseSpec,
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    one, two = machines
    saved_tree(one, asked)
    two.work.give(SECOND, {})
    left, rename, sync = [last], os.rename, durable.sync

    def dying(step: Callable[..., None]) -> Callable[..., None]:
        def once(*args: Any, **more: Any) -> None:
            if not left[0]:
                raise KeyboardInterrupt  # nothing here catches it, as nothing catches a kill
            left[0] -= 1
            step(*args, **more)

        return once

    with monkeypatch.context() as killed:
        killed.setattr(os, "rename", dying(rename))
        killed.setattr(durable, "sync", dying(sync))
        with suppress(KeyboardInterrupt):
            two.work.begin(SECOND, asked)
    two.agent().begin(SECOND, asked)
    place = two.volume(SECOND) / "run"
    assert (place / "deep" / "w").read_text() == "of w"
    assert sorted(path.name for path in place.iterdir()) == ["a", "deep", "z"]
    # Once more, as if the mark were lost: what is there is not overwritten.
    write(place, "a later step", "a")
    (two.volume(SECOND).parent / "begun").unlink()
    two.agent().begin(SECOND, asked)
    assert (place / "a").read_text() == "a later step"


@pytest.mark.parametrize("at", ["run", "run/deep"])
def test_link_in_a_used_volume__nothing_is_laid_behind_it(
    machines: tuple[Machine, Machine], asked: LeaseSpec, tmp_path: Path, at: str
) -> None:
    one, two = machines
    saved_tree(one, asked)
    host = tmp_path / "etc"
    host.mkdir(mode=0o700)
    link = two.volume(SECOND) / at
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(host)
    two.work.give(SECOND, {})
    with suppress(Refused):
        two.work.begin(SECOND, asked)
    assert not any(host.iterdir()) and stat.S_IMODE(host.stat().st_mode) == 0o700
    assert link.is_symlink()


def test_damaged_ones_without_end__few_are_looked_at_and_the_lease_is_refused(
    machines: tuple[Machine, Machine],
    asked: LeaseSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = machines
    saved_tree(one, asked)
    for number in range(2, 200):
        (tmp_path / "store" / "checkpoints" / f"000001-{number:09d}-{'0' * 64}").write_text("{}")
    read, looked = Destination.files, []

    def counted(self: Destination, checkpoint: Checkpoint) -> list[Entry]:
        looked.append(checkpoint)
        return read(self, checkpoint)

    monkeypatch.setattr(Destination, "files", counted)
    two.work.give(SECOND, {})
    with pytest.raises(Refused) as caught:  # what only its tenant can change ends a lease
        two.work.begin(SECOND, asked)
    assert caught.value.code is Code.CHECKPOINT_DAMAGED
    assert 0 < len(looked) < 10 and not any(two.volume(SECOND).iterdir())


def test_store_refuses__it_is_the_tenants_and_a_full_disk_is_not(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = machines[0].work
    work.give(FIRST, {})
    for code, theirs in (
        (Code.STORE_REFUSED, True),
        (Code.STORE_UNREACHABLE, True),
        (Code.DISK_FULL, False),
    ):

        def fails(*_: object, code: Code = code) -> None:
            raise LocalError("so it is", code)

        monkeypatch.setattr(work, "_writer", fails)
        with fails_as(code) as caught:
            work.begin(FIRST, asked)
        assert isinstance(caught.value, Refused) is theirs


@pytest.mark.parametrize("bounded", [True, False])
def test_volume_is_full__the_tenants_where_it_has_a_bound_of_its_own(
    machines: tuple[Machine, Machine],
    asked: LeaseSpec,
    monkeypatch: pytest.MonkeyPatch,
    bounded: bool,
) -> None:
    one, _ = machines

    def full(*_: object) -> None:
        raise LocalError("no space", Code.DISK_FULL)

    monkeypatch.setattr(checkpoints, "newest", full)
    if bounded:  # a file system that no test can mount: what is looked at is whose it is
        look, there = Path.stat, f"{one.volume(FIRST)}"

        def stat_of(path: Path, **more: Any) -> Any:
            found = look(path, **more)
            if f"{path}" != there:
                return found
            return SimpleNamespace(st_dev=-1, st_mode=found.st_mode)

        monkeypatch.setattr(Path, "stat", stat_of)
    one.work.give(FIRST, {})
    with fails_as(Code.LIMIT_EXCEEDED if bounded else Code.DISK_FULL) as caught:
        one.work.begin(FIRST, asked)
    assert isinstance(caught.value, Refused) is bounded


def test_specification_is_lost__nothing_starts_without_its_checkpoint(asked: LeaseSpec) -> None:
    begun: list[str] = []
    specs: dict[bytes, LeaseSpec] = {}
    module = SimpleNamespace(
        _records=SimpleNamespace(lease=lambda _: SimpleNamespace(spec=b"1")),
        _specs=SimpleNamespace(spec=specs.get),
        _checkpoints=SimpleNamespace(prepare=lambda name, *_: begun.append(name)),
    )
    with fails_as(Code.SPEC_MISSING):
        LeasesModule._before_start(cast(LeasesModule, module), FIRST)
    assert begun == []
    specs[b"1"] = asked
    LeasesModule._before_start(cast(LeasesModule, module), FIRST)
    assert begun == [FIRST]
