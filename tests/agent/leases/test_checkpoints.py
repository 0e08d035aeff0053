# SPDX-License-Identifier: Apache-2.0
"""What a lease names is saved by its provider, and a new lease begins with it. Volumes are plain
directories here; tests/agent_e2e has them in containers.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from provider_agent.modules.leases import checkpoints
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from provider_agent.modules.leases.leash import Leash
from teraproof.errors import Refused, TeraproofError
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.reach import Reach
from teraproof.storage.uris import parse
from tests.agent.leases.saving import FIRST, SECOND, Machine, saved, soon, stored, write
from tests.support.codes import fails_as


@pytest.fixture(params=["here", "fleet"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two providers, whose leases run on their agents' machines, or on others."""
    kind: type[Machine] = Machine
    if request.param == "fleet":
        pytest.importorskip("cryptography")
        from tests.agent.leases.far_saving import FarMachine

        kind = FarMachine
    made = kind(tmp_path / "one"), kind(tmp_path / "two")
    yield made
    for each in made:
        each.close()


def test_saved_by_one__begun_with_by_another_that_may_write_it(
    machines: tuple[Machine, Machine], asked: LeaseSpec
) -> None:
    one, two = machines
    one.runs(FIRST, asked)
    write(one.volume(FIRST) / "run", "step 1")
    (one.volume(FIRST) / "run" / "deep").mkdir()
    write(one.volume(FIRST) / "run" / "deep", "weights", "w")
    write(one.volume(FIRST), "not asked for", "other")
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint")
    assert stored(asked)[-1] == one.work.kept(FIRST).checkpoint
    two.runs(SECOND, asked)
    place = two.volume(SECOND)
    assert (place / "run" / "state").read_text() == "step 1"
    assert (place / "run" / "deep" / "w").read_text() == "weights"
    assert not (place / "other").exists()
    for path in (place / "run", place / "run" / "deep"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777
    assert stat.S_IMODE((place / "run" / "state").stat().st_mode) == 0o666
    # Who was thought dead finds out, and adds nothing.
    write(one.volume(FIRST) / "run", "step 2")
    soon(lambda: one.work.kept(FIRST).trouble, "the first one hears it")
    write(place / "run", "step 3")
    soon(lambda: two.work.kept(SECOND).checkpoint.startswith("2."), "a checkpoint of the second")
    assert all(name.startswith("2.") for name in stored(asked)[1:])


def test_all_of_a_volume__comes_back_into_the_volume(
    machines: tuple[Machine, Machine], asked: LeaseSpec
) -> None:
    one, two = machines
    assert asked.checkpoints is not None
    asked = replace(asked, checkpoints=replace(asked.checkpoints, path="/data"))
    one.runs(FIRST, asked)
    write(one.volume(FIRST), "step 1")
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint")
    two.runs(SECOND, asked)
    assert [path.name for path in two.volume(SECOND).iterdir()] == ["state"]


def test_agent_starts_again__saves_on_and_touches_nothing(
    machines: tuple[Machine, Machine], asked: LeaseSpec
) -> None:
    one, _ = machines
    one.runs(FIRST, asked)
    write(one.volume(FIRST) / "run", "step 1")
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint")
    one.work.close()
    write(one.volume(FIRST) / "run", "step 2")
    again = one.agent()
    again.begin(FIRST, asked)
    assert (one.volume(FIRST) / "run" / "state").read_text() == "step 2"
    again.keep({FIRST: asked}, {FIRST})
    soon(lambda: again.kept(FIRST).checkpoint == "1.2", "the next one of the same writer")


def test_newest_is_damaged__an_earlier_one_never_nothing(
    machines: tuple[Machine, Machine], asked: LeaseSpec, tmp_path: Path
) -> None:
    one, two = machines
    one.runs(FIRST, asked)
    for step in ("1", "2"):
        write(one.volume(FIRST) / "run", f"step {step}", step)
        soon(partial(saved, one, f"1.{step}"), f"checkpoint {step}")
    one.work.close()
    first, second = sorted((tmp_path / "store" / "checkpoints").iterdir())
    second.write_text("{}")
    two.work.give(SECOND, {})
    two.work.begin(SECOND, asked)
    assert [path.name for path in (two.volume(SECOND) / "run").iterdir()] == ["1"]
    first.write_text("{}")
    third = "3" * 64
    two.work.give(third, {})
    with fails_as(Code.CHECKPOINT_DAMAGED):
        two.work.begin(third, asked)
    assert not any(two.volume(third).iterdir())


def test_store_not_opened_yet__waits_and_says_so(
    machines: tuple[Machine, Machine], asked: LeaseSpec
) -> None:
    one, _ = machines
    with pytest.raises(Refused) as caught:
        one.work.begin(FIRST, asked)
    assert caught.value.code is Code.LOGINS_MISSING
    one.work.begin(FIRST, replace(asked, checkpoints=None))


@pytest.mark.parametrize(
    "values",
    [
        {"key_id": "KEY"},
        {"password": "HUSH"},
        {"key_id": "KEY", "secret": "HU SH"},
        {"endpoint": "file:///etc"},
        {"endpoint": "http://user:HUSH@store.example"},
    ],
)
def test_what_opens_no_store__refused_without_its_secrets(
    machines: tuple[Machine, Machine], values: dict[str, str]
) -> None:
    with pytest.raises(TeraproofError) as caught:
        machines[0].work.give(FIRST, values)
    assert "HUSH" not in str(caught.value) and "HU SH" not in str(caught.value)
    assert not (machines[0].home / "agent" / "lease-checkpoints" / FIRST / "access.json").exists()


def test_store_inside_of_the_providers_network__not_reached(
    tmp_path: Path, asked: LeaseSpec
) -> None:
    here = Machine(tmp_path / "here", Reach.of_strangers(plain=True))
    assert asked.checkpoints is not None
    wanted = replace(asked.checkpoints, uri="s3://bucket/run")
    here.work.give(FIRST, {"endpoint": "http://127.0.0.1:9000"})
    with fails_as(Code.URI_REFUSED):
        here.work.begin(FIRST, replace(asked, checkpoints=wanted))
    with fails_as(Code.URI_REFUSED):
        here.work.begin(FIRST, asked)  # a file of the provider's


def test_link_out_of_the_volume__nothing_behind_it_is_saved(
    machines: tuple[Machine, Machine], asked: LeaseSpec, tmp_path: Path
) -> None:
    one, _ = machines
    one.runs(FIRST, asked)
    write(tmp_path / "secrets", "the provider's")
    (one.volume(FIRST) / "run").symlink_to(tmp_path / "secrets")
    soon(lambda: one.work.kept(FIRST).trouble, "it says why")
    (one.volume(FIRST) / "run").unlink()
    (one.volume(FIRST) / "run").mkdir()
    (one.volume(FIRST) / "run" / "state").symlink_to(tmp_path / "secrets" / "state")
    soon(lambda: "state" in one.work.kept(FIRST).trouble, "it says why")
    assert stored(asked) == []
    (one.volume(FIRST) / "run" / "state").unlink()
    write(one.volume(FIRST) / "run", "step 1")
    soon(lambda: one.work.kept(FIRST).checkpoint, "a checkpoint when the link is gone")
    assert one.work.kept(FIRST).trouble == ""


def test_lease_has_ended__what_opens_its_store_goes(
    machines: tuple[Machine, Machine], asked: LeaseSpec
) -> None:
    one, _ = machines
    place = one.home / "agent" / "lease-checkpoints"
    for lease in (FIRST, SECOND):
        one.work.give(lease, {})
        one.work.begin(lease, asked)
    one.work.keep({FIRST: asked, SECOND: asked}, {FIRST, SECOND})
    assert stat.S_IMODE((place / FIRST / "access.json").stat().st_mode) == 0o600
    one.work.forget(FIRST)
    assert not (place / FIRST).exists()
    one.work.keep({}, None)
    assert (place / SECOND).exists(), "nothing is known of what is ours"
    one.work.keep({}, set())
    assert not (place / SECOND).exists()


def test_store_that_takes_its_time__no_other_lease_waits_for_it(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, go_on, over = machines[0].work, threading.Event(), threading.Event()
    begin, begun = work.begin, []
    monkeypatch.setattr(checkpoints, "_MOMENT", 0.2)

    def slowly(name: str, spec: LeaseSpec) -> None:
        if name == FIRST:
            assert go_on.wait(60)
        begun.append(name)
        begin(name, spec)

    monkeypatch.setattr(work, "begin", slowly)
    for lease in (FIRST, SECOND):
        work.give(lease, {})
    for _ in range(2):  # asked again, it is still the same work
        with fails_as(Code.NOT_READY):
            work.prepare(FIRST, asked, over.set)
    monkeypatch.setattr(checkpoints, "_MOMENT", 60.0)
    work.prepare(SECOND, asked, over.set)
    assert begun == [SECOND] and not over.is_set()
    go_on.set()
    assert over.wait(60)
    work.prepare(FIRST, asked, over.set)
    assert begun == [SECOND, FIRST]
    third = "3" * 64
    with fails_as(Code.LOGINS_MISSING):  # what went wrong, and then it is tried again
        work.prepare(third, asked, over.set)
    work.give(third, {})
    work.prepare(third, asked, over.set)


def test_thread_that_dies__is_never_taken_for_a_beginning(
    machines: tuple[Machine, Machine], asked: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = machines[0].work
    monkeypatch.setattr(threading, "excepthook", lambda told: None)

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(work, "begin", bug)
    with fails_as(Code.NOT_READY):
        work.prepare(FIRST, asked, lambda: None)


def test_lease_ends_while_it_fetches__its_store_is_let_go(tmp_path: Path, asked: LeaseSpec) -> None:
    ended = threading.Event()
    leash = Leash(frozenset({"https"}), anywhere=True, ended=ended)
    assert list(leash.resolve("127.0.0.1", 443, 5.0)) == ["127.0.0.1"]
    ended.set()
    with fails_as(Code.URI_REFUSED):
        leash.resolve("127.0.0.1", 443, 5.0)
    with fails_as(Code.URI_REFUSED):
        leash.check(parse("https://store.example/a"))


def test_runner_without_volumes_here__offers_none(tmp_path: Path, asked: LeaseSpec) -> None:
    work = LeaseCheckpoints(object(), tmp_path, Reach.own(), wanted=True)
    assert not work.offered
    with fails_as(Code.CHECKPOINTS_NOT_OFFERED):
        work.begin(FIRST, asked)
