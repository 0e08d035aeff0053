# SPDX-License-Identifier: Apache-2.0
"""The transaction sender against a real node: whatever goes wrong, each intent lands once."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.errors import KeyInUse
from provider_agent.store import IntentState
from provider_agent.tx.keys import OperatorKey
from teraproof.rpc.errors import ChainError
from tests.agent import counter
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.agent.tx.desk import CONFIRMATIONS, SEND, Desk, ticked

# ---------------------------------------------------------------------- the plain way


def test_submit__default_behavior(desk: Desk) -> None:
    key = desk.submit(1)
    assert desk.intent(key).state is IntentState.PLANNED
    desk.tick()
    assert desk.intent(key).state is IntentState.SENT
    desk.wait(key)
    desk.tick()
    assert desk.intent(key).state is IntentState.MINED
    desk.anvil.mine(CONFIRMATIONS - 1)
    desk.tick()
    assert desk.intent(key).state is IntentState.MINED
    desk.anvil.mine()
    desk.tick()
    final = desk.intent(key)
    assert final.state is IntentState.FINAL
    assert final.mined is not None
    assert final.mined.gas_used > 21_000
    assert desk.sender.last_mined == final.mined.block_number
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_submit__twice__is_one_intent(desk: Desk) -> None:
    assert desk.submit(1) == desk.submit(1)
    desk.settle()
    desk.submit(1)
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_submit__many__keeps_several_in_flight(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    for slot in range(1, 41):
        desk.submit(slot)
    desk.tick()
    assert desk.store.count_intents()[IntentState.SENT] == 16
    desk.settle()
    assert [desk.landed(slot) for slot in range(1, 41)] == [1] * 40
    assert desk.mined() == 40


def test_tick__call_would_revert__costs_nothing(desk: Desk) -> None:
    key = desk.submit(1, counter.REFUSE)
    desk.tick()
    intent = desk.intent(key)
    assert (intent.state, intent.reason) == (IntentState.REVERTED, counter.REASON)
    assert intent.nonce is None
    assert desk.mined() == 0


def test_tick__reverts_when_mined__reason_is_found(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    first = desk.submit(1, counter.COUNT)
    second = desk.submit(1, counter.ONCE)
    desk.settle()
    assert desk.intent(first).state is IntentState.FINAL
    reverted = desk.intent(second)
    assert (reverted.state, reverted.reason) == (IntentState.REVERTED, counter.REASON)
    assert (desk.landed(1), desk.mined()) == (1, 2)


def test_tick__no_gas_money__waits_and_says_so(desk: Desk) -> None:
    desk.anvil.set_balance(desk.key.address, 0)
    key = desk.submit(1)
    desk.tick()
    assert not desk.intent(key).done
    assert "too little gas money" in desk.sender.trouble
    desk.anvil.set_balance(desk.key.address, 10**18)
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- fees


def test_fees__stuck__replaced_by_at_least_an_eighth_more(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    raised = 20 * 10**9
    for _ in range(3):
        desk.anvil.set_next_base_fee(raised)
        desk.anvil.mine()
        desk.tick()
    assert desk.intent(key).state is IntentState.SENT
    desk.skew += 61.0
    desk.tick()
    cheap, dear = desk.store.transactions_of(desk.intent(key).id)
    assert cheap.nonce == dear.nonce
    assert dear.max_fee * 8 >= cheap.max_fee * 9
    assert dear.priority_fee * 8 >= cheap.priority_fee * 9
    assert dear.max_fee >= raised
    desk.settle()
    assert desk.intent(key).mined.tx_hash == dear.hash  # type: ignore[union-attr]  # it is FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_fees__stuck_at_the_cap__waits_and_says_so(desk: Desk) -> None:
    desk.options = {"max_fee": 3 * 10**9}
    desk.restart()
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    for _ in range(3):
        desk.anvil.set_next_base_fee(20 * 10**9)
        desk.anvil.mine()
        desk.tick()
    desk.skew += 61.0
    desk.tick()
    assert len(desk.store.transactions_of(desk.intent(key).id)) == 1
    assert "max_fee_gwei" in desk.sender.trouble
    # The node has dropped what it could not mine; the sender reminds it after a while.
    desk.skew += 20.0
    desk.anvil.set_next_base_fee(10**9)
    desk.anvil.mine()
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_fees__base_fee_above_cap__nothing_is_signed(desk: Desk) -> None:
    desk.options = {"max_fee": 10**6}
    desk.restart()
    key = desk.submit(1)
    desk.tick()
    assert desk.intent(key).state is IntentState.PLANNED
    assert "above chain.max_fee_gwei" in desk.sender.trouble


def test_fees__transaction_dropped_by_the_node__broadcast_again(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    made = desk.store.transactions_of(desk.intent(key).id)
    desk.anvil.drop_all_transactions()
    desk.skew += 20.0
    desk.settle()
    assert desk.store.transactions_of(desk.intent(key).id) == made
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- giving up


def test_abandon__planned__never_sent(desk: Desk) -> None:
    key = desk.submit(1)
    assert desk.sender.abandon(key, "not wanted") is IntentState.ABANDONED
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (0, 0)


def test_abandon__waiting__nonce_is_freed(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key, other = desk.submit(1), desk.submit(2)
    desk.tick()
    desk.sender.abandon(key, "not wanted")
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert desk.intent(key).reason == "not wanted"
    assert desk.intent(other).state is IntentState.FINAL
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (0, 1, 2)


def test_abandon__mined_already__the_call_counts(desk: Desk) -> None:
    key = ticked(desk, 1)
    desk.wait(key)
    desk.sender.abandon(key, "too late")
    desk.settle()
    assert desk.intent(key).state is IntentState.FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_deadline__passed_while_planned__never_sent(desk: Desk) -> None:
    key = desk.submit(1, deadline=desk.anvil.timestamp() - 1)
    desk.tick()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert desk.mined() == 0


def test_deadline__passed_while_waiting__cancelled(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1, deadline=desk.anvil.timestamp() + 30)
    desk.tick()
    sent = desk.store.transactions_of(desk.intent(key).id)[0]
    desk.anvil.drop_transaction("0x" + sent.hash.hex())
    desk.anvil.increase_time(60)
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert (desk.landed(1), desk.mined()) == (0, 1)


def test_abandon__reorg_lets_the_call_win__is_seen(desk: Desk) -> None:
    desk.anvil.mine(12)
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    call = desk.store.transactions_of(desk.intent(key).id)[0]
    desk.sender.abandon(key, "not wanted")
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    desk.anvil.reorg(6)
    desk.anvil.rpc(SEND, "0x" + call.raw.hex())
    desk.anvil.mine()
    desk.settle()
    assert desk.intent(key).state is IntentState.FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- two agents, one key


def test_two_senders__other_takes_the_nonce__key_in_use(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    desk.proxy.fault(Mode.DROP, SEND, times=3)  # ours does not get out
    key = desk.submit(1)
    desk.tick()
    desk.anvil.send(desk.key.address, desk.key.address)
    with pytest.raises(KeyInUse, match="another program sends with the key"):
        for _ in range(12):
            desk.anvil.mine()
            desk.tick()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert (desk.landed(1), desk.mined()) == (0, 1)


def test_two_senders__other_goes_ahead__key_in_use_until_adopted(desk: Desk) -> None:
    desk.submit(1)
    desk.settle()
    desk.anvil.wait(desk.anvil.send(desk.key.address, desk.key.address))
    with pytest.raises(KeyInUse):
        desk.sender.tick()
    key = desk.submit(2)
    with pytest.raises(KeyInUse):
        desk.sender.tick()
    assert desk.intent(key).state is IntentState.PLANNED
    desk.restart()
    with pytest.raises(KeyInUse):
        desk.sender.start()
    desk.sender.start(adopt=True)
    desk.settle()
    assert (desk.landed(2), desk.mined()) == (1, 3)


def test_start__others_transactions_waiting__key_in_use(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    desk.anvil.send(desk.key.address, desk.key.address)
    with pytest.raises(KeyInUse, match="did not send"):
        desk.sender.start()


def test_two_senders__racing__one_stops_and_nothing_lands_twice(
    desk: Desk, proxy: FaultyRpc, tmp_path: Path
) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    rival = Desk(desk.anvil, proxy, other_folder)
    try:
        stopped = 0
        for round_ in range(8):
            for one in (desk, rival):
                try:
                    one.submit(100 * (one is rival) + round_)
                    one.sender.tick()
                except KeyInUse:
                    stopped += 1
                except ChainError:
                    pass
            desk.anvil.mine()
        assert stopped > 0
        for one in (desk, rival):
            for key in one.keys:
                assert one.landed(int(key.object_id)) <= 1
    finally:
        rival.close()


def test_two_senders__other_chain_or_key__database_is_refused(desk: Desk, tmp_path: Path) -> None:
    desk.sender.start()
    desk.key = OperatorKey(desk.anvil.accounts[3])
    desk.restart()
    with pytest.raises(Exception, match="belongs to operator"):
        desk.sender.start()
