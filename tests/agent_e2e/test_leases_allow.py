# SPDX-License-Identifier: Apache-2.0
"""Orders for some providers alone: the agent finds its place on the list, or says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account

from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.leasespec import checked
from tests.agent.leases.documents import spec
from tests.agent_e2e.lease_rig import LeaseRig


def others(number: int) -> list[str]:
    return [str(Account.create().address) for _ in range(number)]


def order(agent: LeaseRig, owners: list[str], *, listed: list[str] | None = None) -> None:
    """An order for these providers; its specification lists them, or `listed`."""
    said = allow_list.ordered(owners if listed is None else listed)
    one = agent.upload(checked(replace(spec(), allow=said)))
    agent.open(one, allow_root=allow_list.root(owners))
    agent.anvil.step(100)


@pytest.mark.parametrize("number", [1, 2, 5, 16])
def test_listed_with_others__takes_it(agent: LeaseRig, number: int) -> None:
    order(agent, [*others(number), agent.owner.address])
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    assert agent.sent("accept") == 1


def test_listed_alone__takes_it_without_a_list_in_the_specification(agent: LeaseRig) -> None:
    order(agent, [agent.owner.address], listed=[])
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")


def test_not_listed__left_and_said(agent: LeaseRig) -> None:
    order(agent, others(3))
    agent.cycle(4)
    row = agent.row()
    assert row is not None and row.code is Code.NOT_LISTED
    assert agent.sent("accept") == 0 and agent.runner.starts == []


@pytest.mark.parametrize("held", ["nothing", "another list", "a part"])
def test_list_that_the_specification_does_not_hold__left_and_said(
    agent: LeaseRig, held: str
) -> None:
    owners = [*others(2), agent.owner.address]
    listed = {"nothing": [], "another list": [agent.owner.address], "a part": owners[1:]}
    order(agent, owners, listed=listed[held])
    agent.cycle(4)
    row = agent.row()
    assert row is not None and row.code is Code.LIST_MISMATCH
    assert agent.sent("accept") == 0
