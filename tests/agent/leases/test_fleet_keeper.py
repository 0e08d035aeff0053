# SPDX-License-Identifier: Apache-2.0
"""Machines of a fleet hear one by one what to keep: one that hangs holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.errors import RunnerError

pytest.importorskip("cryptography")

from provider_agent.runners.ray import keeper as keepers
from provider_agent.runners.ray.addresses import own_addresses
from provider_agent.runners.ray.keeper import Keeper
from provider_agent.runners.ray.machines import Aside


class Link:
    """A machine that answers, fails, or hangs until the test lets it go."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.fails = False
        self.told: list[list[str]] = []

    def ask(
        self, what: str, *, wanted: list[str], fleet: list[str], within: float
    ) -> dict[str, Any]:
        self.told.append(wanted)
        self.fleet = fleet
        self.answers.wait()
        if self.fails:
            raise RunnerError("it broke off")
        return {"states": wanted, "left": wanted}


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(keepers, "_PATIENCE", 0.2)
    made = Keeper()
    yield made
    made.close()


def settled(keeper: Keeper, links: dict[str, Any], wanted: list[str]) -> dict[str, keepers.Word]:
    """What is said once all have had time to say it."""
    for _ in range(50):
        said = keeper.keep(links, wanted, {})
        if all(name in said and said[name].is_new for name in links):
            return said
    raise AssertionError("they never answer")


def test_addresses_of_the_fleet__are_told_to_each_machine_again_and_again(keeper: Keeper) -> None:
    links: dict[str, Any] = {"a": Link(), "b": Link()}
    for fleet in ({"8.8.8.8", "8.8.4.4"}, {"8.8.8.8", "8.8.4.4", "9.9.9.9"}):
        keeper.keep(links, ["one"], {}, fleet)
        assert all(one.fleet == sorted(fleet) for one in links.values())


def test_own_addresses__all_that_the_kernel_knows_and_no_networks(tmp_path: Path) -> None:
    table = tmp_path / "fib_trie"
    table.write_text(
        "Local:\n"
        "     +-- 198.51.100.0/24 2 0 2\n"
        "           |-- 198.51.100.0\n"
        "              /24 link UNICAST\n"
        "           |-- 198.51.100.2\n"
        "              /32 host LOCAL\n"
        "        |-- 198.51.100.255\n"
        "           /32 link BROADCAST\n"
        "           |-- 203.0.113.9\n"
        "              /32 link UNICAST\n"
        "              /32 host LOCAL\n"
    )
    assert own_addresses(table) == ["198.51.100.2", "203.0.113.9"]
    assert own_addresses(tmp_path / "none") == []
    assert "127.0.0.1" in own_addresses()


def test_machine_hangs__the_others_are_kept_and_heard(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: dict[str, Any] = {"a": Link(), "b": Link()}
    settled(keeper, links, ["one"])
    links["b"].answers.clear()
    times = len(links["b"].told)
    for _ in range(3):
        said = keeper.keep(links, ["one", "two"], {"two": "a"})
        assert said["a"].wanted == {"one", "two"}
        assert not said["b"].is_new  # its last word is good for a moment
    assert len(links["b"].told) == times + 1
    assert keeper.late() == {"b": {"one"}}
    monkeypatch.setattr(keepers, "_GOOD", 0.0)
    assert "b" not in keeper.keep(links, ["one"], {})
    # It may still go by what it heard: nothing goes there of which it has not heard.
    assert keeper.knows("b", "one")
    assert not keeper.knows("b", "new")
    assert keeper.knows("a", "new")
    links["b"].answers.set()
    settled(keeper, links, ["one", "new"])
    assert settled(keeper, links, ["one", "new"])["b"].wanted == {"one", "new"}
    assert keeper.knows("b", "anything")


def test_machine_fails__what_it_said_before_counts_no_more(keeper: Keeper) -> None:
    links: dict[str, Any] = {"a": Link()}
    settled(keeper, links, ["one"])
    links["a"].fails = True
    for _ in range(50):
        if "a" not in keeper.keep(links, ["one"], {}):
            break
    assert "a" not in keeper.keep(links, ["one"], {})
    links["a"].fails = False
    assert settled(keeper, links, ["one"])


def test_lease_on_one_machine__is_not_wanted_on_the_others(keeper: Keeper) -> None:
    links: dict[str, Any] = {"a": Link(), "b": Link()}
    said = keeper.keep(links, ["here", "nowhere yet"], {"here": "a"})
    for _ in range(50):
        if len(said) == 2:
            break
        said = keeper.keep(links, ["here", "nowhere yet"], {"here": "a"})
    assert said["a"].wanted == {"here", "nowhere yet"}
    assert said["b"].wanted == {"nowhere yet"}


def test_ray_hangs__who_has_more_to_do_waits_for_a_moment_once() -> None:
    aside, goes_on, begun = Aside(), threading.Event(), list[int]()

    def hangs() -> None:
        begun.append(1)
        goes_on.wait()

    for _ in range(3):
        aside.run(hangs, 0.05)
    assert begun == [1]
    goes_on.set()
    done = threading.Event()
    while not done.is_set():
        aside.run(done.set, 1.0)
        time.sleep(0.01)

    def fails() -> None:
        raise RunnerError("Ray is away")

    with pytest.raises(RunnerError, match="away"):
        aside.run(fails, 5.0)
    aside.close()
