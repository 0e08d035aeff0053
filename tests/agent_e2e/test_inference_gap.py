# SPDX-License-Identifier: Apache-2.0
"""The agent, or its node, was away for longer than a withdrawal takes. Nothing is served on a
channel before it was looked at again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.inference import duty
from provider_agent.modules.inference.cashier import BLIND
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import Fault, PaymentUnfit
from teraproof.rpc.errors import ChainError
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.channel_rig import DAY, ChannelRig, Payer, channel_rig


@pytest.fixture
def rig(market: Deployment, tmp_path: Path) -> Iterator[ChannelRig]:
    """An agent that puts claims off for years."""
    with channel_rig(market, tmp_path, coin_price="1000", claim_hours=10**6) as made:
        made.cycle(2)
        yield made


def asks(rig: ChannelRig, payer: Payer, cost: int = USD) -> Fault | None:
    """Open a request at the counter, and end it; why it was not opened."""
    cashier: Any = rig.module._front._routes._cashier
    paid = Payment(Kind.VOUCHER, payer.config, payer.voucher(payer.row.charged + cost))
    try:
        asyncio.run(cashier.open(paid, cost))
    except PaymentUnfit as error:
        return error.fault
    rig.book.abandon(payer.channel)
    return None


def leave(rig: ChannelRig, payer: Payer) -> None:
    """Take out all that is not claimed, from beginning to end."""
    payer.call("initiateWithdraw", 10 * USD)
    rig.anvil.increase_time(DAY)
    payer.call("finalizeWithdraw")


def is_deaf(rig: ChannelRig) -> None:
    """No event reaches it: what it knows, it has looked at."""
    rig.module.consume = lambda events, again: None  # type: ignore[method-assign]


@pytest.mark.parametrize("told", [True, False], ids=["events seen", "events lost"])
def test_withdrawal_that_began_and_ended_while_the_agent_was_down(
    rig: ChannelRig, told: bool
) -> None:
    gone, stayed = rig.payer().open(10 * USD), rig.payer().open(10 * USD)
    stayed.serve(USD)
    assert asks(rig, gone) is None
    rig.cycle(2)
    rig.stop()
    leave(rig, gone)
    rig.start()
    if not told:
        is_deaf(rig)
    assert rig.side.floor == BLIND
    assert [asks(rig, one) for one in (gone, stayed)] == [Fault.STATE_UNAVAILABLE] * 2
    rig.cycle()
    assert gone.row.balance == 0
    assert (asks(rig, gone), asks(rig, stayed)) == (Fault.EXCEEDS_BALANCE, None)


def test_withdrawal_that_began_while_it_was_down__is_known_before_anything_is_served(
    rig: ChannelRig,
) -> None:
    payer = rig.payer().open(10 * USD)
    payer.serve(USD)
    rig.cycle(2)
    rig.stop()
    payer.call("initiateWithdraw", 10 * USD)
    rig.anvil.increase_time(DAY // 2)
    rig.start()
    is_deaf(rig)
    assert asks(rig, payer) is Fault.STATE_UNAVAILABLE
    rig.cycle()
    assert asks(rig, payer) is Fault.EXCEEDS_BALANCE
    rig.until(lambda: payer.on_chain()[1] == USD, "what it owes is claimed")


def test_more_channels_than_a_cycle_looks_at__each_waits_for_its_own_look(
    rig: ChannelRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the agent stops in the middle of it."""
    payers = [rig.payer().open(10 * USD) for _ in range(5)]
    rig.cycle(2)
    rig.stop()
    for payer in payers[:4]:
        payer.call("initiateWithdraw", 10 * USD)
    rig.anvil.increase_time(DAY)
    for payer in payers[:4]:
        payer.call("finalizeWithdraw")
    monkeypatch.setattr(duty, "_AFTER_GAP", 2)

    def at_work() -> None:
        rig.start()
        rig.side._duty._every = 10**9
        rig.side._duty._round = rig.side._duty._clock()
        is_deaf(rig)

    at_work()
    rig.cycle()
    found = [asks(rig, payer) for payer in payers]
    assert found.count(Fault.STATE_UNAVAILABLE) == 3, found
    rig.stop()
    at_work()
    rig.cycle()
    found = [asks(rig, payer) for payer in payers]
    assert Fault.STATE_UNAVAILABLE in found, "after a start in the middle it begins again"
    assert None not in found[:4], found
    rig.cycle(2)
    found = [asks(rig, payer) for payer in payers]
    assert found == [Fault.EXCEEDS_BALANCE] * 4 + [None]


def test_node_was_away_while_the_agent_ran__the_same(rig: ChannelRig) -> None:
    payer, stayed = rig.payer().open(10 * USD), rig.payer().open(10 * USD)
    rig.cycle(2)
    is_deaf(rig)
    rig.side._duty._every = 10**9
    rig.side._duty._round = rig.side._duty._clock()
    rig.side._seen -= DAY  # nothing was seen
    leave(rig, payer)
    assert asks(rig, payer) is Fault.STATE_UNAVAILABLE
    rig.cycle()
    assert (asks(rig, payer), asks(rig, stayed)) == (Fault.EXCEEDS_BALANCE, None)


def test_short_stop__is_served_with_the_first_look_at_the_chain(rig: ChannelRig) -> None:
    payer = rig.payer().open(10 * USD)
    rig.anvil.increase_time(120)
    rig.cycle(2)
    rig.stop()
    rig.start()
    assert asks(rig, payer) is Fault.STATE_UNAVAILABLE
    rig.cycle()
    assert rig.side.floor == 0 and asks(rig, payer) is None


def test_node_fails_at_the_first_look__the_next_one_looks_at_all(
    rig: ChannelRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the agent starts again in between, and the gap is short by then."""
    payers = [rig.payer().open(10 * USD) for _ in range(3)]
    rig.cycle(2)
    rig.stop()
    leave(rig, payers[0])
    rig.start()
    is_deaf(rig)
    at_work = rig.side._duty
    at_work._every, at_work._round = 10**9, at_work._clock()
    read, failed = at_work._view.read, list[bool]()

    def fails_once(*asked: Any) -> Any:
        if not failed:
            failed.append(True)
            raise ChainError("the node is away")
        return read(*asked)

    monkeypatch.setattr(at_work._view, "read", fails_once)
    with contextlib.suppress(ChainError):
        rig.cycle()
    assert failed and at_work._has_gap
    rig.cycle()
    assert not at_work._has_gap and payers[0].row.balance == 0
    assert [asks(rig, payer) for payer in payers] == [Fault.EXCEEDS_BALANCE, None, None]
