# SPDX-License-Identifier: Apache-2.0
"""Registries of tenants' own that drip: whose leases wait for them, and whose never do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from provider_agent.errors import RunnerError
from provider_agent.modules.leases.machine import Machine
from provider_agent.runners.lease import (
    Arrival,
    ContainerState,
    ImageRoom,
    LeaseState,
    Status,
)
from teraproof.protocol.errors import Code


class Dripping:
    """A runner whose leases named `evil...` come from a registry that drips, until they are given
    up. All others are here. `stuck` have their images, and are still not made.
    """

    def __init__(self) -> None:
        self.coming: dict[str, threading.Event] = {}
        self.given_up: list[str] = []
        self.started: list[str] = []
        self.stuck: set[str] = set()
        self.closed = False

    def list(self) -> tuple[str, ...]:
        return tuple(sorted({*self.started, *self.coming}))

    def keep(self, wanted: object) -> dict[str, LeaseState]:
        runs = (ContainerState("web", 0, Status.RUNNING),)
        return {name: LeaseState(name, True, runs) for name in list(self.started)}

    def image_room(self) -> ImageRoom:
        return ImageRoom()

    def prepared(self, lease_id: str) -> None:
        return None

    def arrival(self, lease_id: str) -> Arrival | None:
        if lease_id in self.coming:
            return Arrival(1, int(lease_id in self.stuck), under_way=True)
        return None

    def give_up(self, lease_id: str) -> None:
        self.given_up.append(lease_id)
        self.coming[lease_id].set()

    def prepare(self, lease: str, credentials: object) -> None:
        if lease.startswith("evil"):
            gone = self.coming[lease] = threading.Event()
            while not (self.closed or gone.wait(0.05)):
                pass
            del self.coming[lease]
            raise RunnerError("it was given up", Code.IMAGE_GIVEN_UP)

    def start(self, lease_id: str) -> None:
        if lease_id in self.coming:
            raise RunnerError("prepare it first")
        self.started.append(lease_id)


class Market:
    """A machine whose leases belong to tenants: those of `tenants` have registries of their own."""

    def __init__(self, tenants: dict[str, str]) -> None:
        self.tenants, self.runner = tenants, Dripping()
        self.machine = Machine(self.runner)  # type: ignore[arg-type]
        self.over: set[str] = set()

    def cycle(self) -> None:
        names = [name for name in self.tenants if name not in self.over]
        self.machine.look(names, self.over)
        for name in names:
            self.machine.prepare(name, lambda name=name: name, self.tenants[name])  # type: ignore[misc]

    def until(self, holds: Callable[[], object]) -> None:
        for _ in range(1000):
            if holds():
                return
            self.cycle()
            time.sleep(0.01)  # the other threads' turn
        raise AssertionError("it never happens")


@contextmanager
def market(tenants: dict[str, str]) -> Iterator[Market]:
    made = Market(tenants)
    try:
        yield made
    finally:
        made.runner.closed = True
        made.machine.close()


def test_registries_that_drip__as_many_as_one_likes__an_image_that_is_here_is_started() -> None:
    evil = {f"evil{n}": f"tenant{n}" for n in range(100)}
    with market({**evil, "honest": ""}) as made:
        made.until(lambda: "honest" in made.runner.started)
        made.until(lambda: made.machine.is_up("honest"))
        made.until(lambda: all(made.machine.waits_for_tenant(name) for name in evil))
        assert not made.machine.waits_for_tenant("honest")


def test_registries_that_drip__all_of_one_tenant__those_of_another_are_asked() -> None:
    evil = {f"evil{n}": "one" for n in range(100)}
    with market({**evil, "private": "other"}) as made:
        made.until(lambda: "private" in made.runner.started)
        assert len(made.runner.coming) < 10
        made.until(lambda: all(made.machine.waits_for_tenant(name) for name in evil))


def test_images_have_come__what_is_late_now_is_not_its_tenants() -> None:
    with market({"evil": "one"}) as made:
        made.until(lambda: made.runner.coming)
        made.until(lambda: made.machine.waits_for_tenant("evil"))
        made.runner.stuck.add("evil")
        made.until(lambda: not made.machine.lacks_images("evil"))
        assert not made.machine.waits_for_tenant("evil")


def test_lease_has_ended__its_registry_is_given_up_and_the_next_of_its_tenant_is_asked() -> None:
    evil = {f"evil{n}": "one" for n in range(10)}
    with market(evil) as made:
        made.until(lambda: made.runner.coming)
        made.until(lambda: made.machine._queued)
        first = set(made.runner.coming)
        made.over |= first
        made.until(lambda: set(made.runner.coming) - first)
        made.until(lambda: not first & set(made.runner.coming))
        assert set(made.runner.given_up) >= first


def test_lease_has_ended__its_images_have_come__nothing_of_it_is_broken_off() -> None:
    with market({"evil": "one"}) as made:
        made.until(lambda: made.runner.coming)
        made.runner.stuck.add("evil")
        made.over.add("evil")
        made.until(lambda: "evil" not in made.machine._told)
        made.until(lambda: made.machine._keeping is None)
        assert made.runner.given_up == []
