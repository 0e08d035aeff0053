# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that its tenant asks for now: what it gets, and what it cannot cost others."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import pytest

from provider_agent.modules.leases import saver
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.checkpoints import Writer
from tests.agent.leases.saving import FIRST, Machine, soon, stored, write
from tests.support.codes import fails_as


@pytest.fixture
def seldom(asked: LeaseSpec) -> LeaseSpec:
    """Saved once per hour."""
    assert asked.checkpoints is not None
    return replace(asked, checkpoints=replace(asked.checkpoints, every_seconds=3_600))


def made(machine: Machine, save: int) -> AskedSave:
    """That save, once it is over."""
    soon(lambda: machine.work.ask(FIRST, save).done or machine.work.ask(FIRST, save).trouble, "it")
    return machine.work.ask(FIRST, save)


def test_asked_for__saved_long_before_its_time_with_all_that_was_written(
    machines: tuple[Machine, Machine], seldom: LeaseSpec
) -> None:
    one, _ = machines
    one.runs(FIRST, seldom)
    names = []
    for number in (1, 2):
        write(one.volume(FIRST) / "run", f"step {number}")
        first = one.work.ask(FIRST)
        assert first == replace(first, save=number, done=False, trouble="")
        found = made(one, number)
        assert found.done and found.trouble == ""
        names.append(found.checkpoint)
    assert stored(seldom) == names and len(set(names)) == 2
    assert made(one, 1).done, "an earlier one is there as well"


def test_asked_for_without_end__takes_a_tenth_of_the_time(
    machines: tuple[Machine, Machine], seldom: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule that holds for saves at intervals holds for those that a tenant asks for."""
    one, _ = machines
    saves: list[tuple[float, float]] = []
    save = Writer.save

    def timed(self: Writer) -> Any:
        began = time.monotonic()
        time.sleep(0.05)
        found = save(self)
        saves.append((began, time.monotonic()))
        return found

    monkeypatch.setattr(Writer, "save", timed)
    one.runs(FIRST, seldom)
    write(one.volume(FIRST) / "run", "step 1")
    for number in range(1, 4):
        one.work.ask(FIRST)
        made(one, number)
    assert len(saves) == 3
    for (began, ended), (following, _) in itertools.pairwise(saves):
        assert following - ended >= saver._REST * (ended - began) * 0.99


def test_its_store_refuses__says_why_and_tries_no_faster(
    machines: tuple[Machine, Machine], seldom: LeaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, tries = machines[0], [0]

    def refused(self: Writer) -> Any:
        tries[0] += 1
        raise LocalError("status 403", Code.STORE_REFUSED)

    monkeypatch.setattr(Writer, "save", refused)
    monkeypatch.setattr(saver, "_AFTER_FAULT", 3_600.0)
    one.runs(FIRST, seldom)
    one.work.ask(FIRST)
    found = made(one, 1)
    assert not found.done and "status 403" in found.trouble
    for _ in range(20):
        assert one.work.ask(FIRST).trouble == "", "the next one has not failed yet"
    assert tries == [1]


@pytest.mark.parametrize("wished", [5, 2**40])
def test_number_of_another_agent__is_the_next_save(
    machines: tuple[Machine, Machine], seldom: LeaseSpec, wished: int
) -> None:
    """The agent was started again: its saves are counted from one."""
    one, _ = machines
    one.runs(FIRST, seldom)
    write(one.volume(FIRST) / "run", "step 1")
    assert one.work.ask(FIRST, wished).save == 1
    assert made(one, 1).done


def test_lease_that_does_not_run__says_so_and_a_writer_elsewhere_ends_it(
    machines: tuple[Machine, Machine], seldom: LeaseSpec
) -> None:
    one, other = machines
    with fails_as(Code.AGENT_NOT_READY):
        one.work.ask(FIRST)
    one.runs(FIRST, seldom)
    write(one.volume(FIRST) / "run", "step 1")
    one.work.ask(FIRST)
    assert made(one, 1).done
    other.runs(FIRST, seldom)  # it takes the destination over
    one.work.ask(FIRST)
    found = made(one, 2)
    assert not found.done and found.trouble
    one.work.keep({}, None)
    with fails_as(Code.AGENT_NOT_READY):
        one.work.ask(FIRST)
