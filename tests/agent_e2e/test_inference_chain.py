# SPDX-License-Identifier: Apache-2.0
"""Deposits, claims, refunds and withdrawals on the real contracts: accounts equal receipts to the
unit, each once, whatever payers and the chain do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.core.attempts import UNDECIDED
from provider_agent.modules.inference.gas import CLAIM_GAS
from provider_agent.modules.inference.rows import Asked
from provider_agent.store import IntentState
from teraproof.protocol.x402 import Fault
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.channel_rig import DAY, ChannelRig, Payer, channel_rig


@pytest.fixture
def rig(market: Deployment, tmp_path: Path) -> Iterator[ChannelRig]:
    with channel_rig(market, tmp_path) as made:
        made.cycle(2)
        yield made


def check_accounts(rig: ChannelRig, payers: list[Payer]) -> None:
    """I-9, and that nothing is lost on the way: what receipts say is what was claimed, and what
    was claimed is what the provider has or is due.
    """
    receipts = sum(payer.served for payer in payers)
    if rig.coin_price == "0":
        rig.until(lambda: rig.received()[1] == receipts, "payout")
    rig.until(lambda: not rig.store.intents_in(*UNDECIDED), "rest")
    claimed, settled = rig.received()
    assert claimed == receipts
    assert sum(payer.on_chain()[1] for payer in payers) == receipts
    assert rig.balance(rig.owner.address) == settled
    for payer in payers:
        row, (balance, total) = payer.row, payer.on_chain()
        assert (row.balance, row.total_claimed, row.charged) == (balance, total, payer.served)
        assert total <= row.voucher and total <= balance


# ---------------------------------------------------------------------- deposits


def test_deposit__its_payer_pays_no_gas_and_the_book_has_what_the_chain_has(
    rig: ChannelRig,
) -> None:
    payer = rig.payer()
    before = payer.wallet()
    asked = payer.deposit(5 * USD)
    rig.until(lambda: payer.state(asked) is Asked.DONE, "deposit")
    assert payer.on_chain() == (5 * USD, 0) and payer.row.balance == 5 * USD
    assert payer.wallet() == before - 5 * USD
    assert rig.anvil.nonce(payer.account.address) == 1, "the mint alone"
    done = rig.book.deposit(asked.nonce)
    assert done is not None
    receipt = rig.anvil.receipt("0x" + done.tx_hash.hex())
    assert receipt is not None and int(receipt["status"], 16) == 1

    again = payer.deposit(2 * USD)
    rig.until(lambda: payer.state(again) is Asked.DONE, "top-up")
    assert payer.row.balance == 7 * USD
    assert rig.sent("deposit") == 2


def test_deposit__asked_for_again_and_again__sent_once(rig: ChannelRig) -> None:
    payer = rig.payer()
    asked = payer.deposit(5 * USD)
    for _ in range(5):
        payer.salt -= 1
        assert payer.deposit(5 * USD).nonce == asked.nonce
        rig.cycle()
    rig.until(lambda: payer.state(asked) is Asked.DONE, "deposit")
    assert (rig.sent("deposit"), payer.on_chain()) == (1, (5 * USD, 0))


def test_deposit__payer_has_no_money__refused_in_the_words_of_the_sdk_and_no_gas_is_spent(
    rig: ChannelRig,
) -> None:
    payer = rig.payer(money=USD)
    before = rig.anvil.balance(rig.operator.address)
    asked = payer.deposit(5 * USD)
    rig.until(lambda: payer.state(asked) is Asked.REFUSED, "refusal")
    refused = rig.book.deposit(asked.nonce)
    assert refused is not None and refused.reason == Fault.DEPOSIT_SIMULATION.value
    assert rig.book.channel(payer.channel) is None
    assert (rig.sent("deposit"), rig.anvil.balance(rig.operator.address)) == (0, before)


def test_deposit__authorization_runs_out__refused(rig: ChannelRig) -> None:
    payer = rig.payer()
    asked = payer.deposit(5 * USD, until=rig.anvil.timestamp() + 3)
    rig.cycle()
    refused = rig.book.deposit(asked.nonce)
    assert refused is not None
    assert (refused.state, refused.reason) == (Asked.REFUSED, Fault.AUTHORIZATION_LATE.value)


def test_deposit__somebody_else_has_sent_it__counts_all_the_same(rig: ChannelRig) -> None:
    payer = rig.payer()
    asked = payer.deposit(5 * USD)
    found = rig.book.deposit(asked.nonce)
    assert found is not None
    rig.channels.send(
        rig.stranger, "deposit", payer.config.abi_tuple(), 5 * USD,
        "0x4020806089470a89826cB9fB1f4059150b550004",
        found.deposit.authorization.collector_data(found.deposit.signature),
    )  # fmt: skip
    rig.until(lambda: payer.state(asked) is Asked.DONE, "deposit")
    assert (rig.sent("deposit"), payer.row.balance) == (0, 5 * USD)


def test_deposit__its_payer_moves_the_money_meanwhile__refused_and_counted_as_lost(
    rig: ChannelRig,
) -> None:
    payer = rig.payer(money=5 * USD)
    rig.anvil.set_automine(False)
    try:
        asked = payer.deposit(5 * USD)
        head = rig.pool.head()
        rig.side._deposits.reconcile(head, head, lambda: 60.0)
        rig.context.sender.tick()
        rig.anvil.rpc(
            "eth_sendTransaction",
            {
                "from": payer.account.address,
                "to": rig.payment.address,
                "data": "0x"
                + rig.payment.abi.encode("transfer", rig.stranger.address, 5 * USD).hex(),
                "gas": hex(100_000),
                "maxPriorityFeePerGas": hex(50 * 10**9),
                "maxFeePerGas": hex(60 * 10**9),
            },
        )
        assert (payer.state(asked), rig.sent("deposit")) == (Asked.SENT, 1)
        rig.until(lambda: payer.state(asked) is Asked.REFUSED, "refusal", 10)
    finally:
        rig.anvil.set_automine(True)
    refused = rig.book.deposit(asked.nonce)
    assert refused is not None and refused.reason == Fault.DEPOSIT_TRANSACTION.value
    assert refused.tx_hash and rig.book.deposits_made(payer.channel) == 1
    rig.cycle(3)
    assert (rig.sent("deposit"), payer.on_chain()) == (0, (0, 0)), "it is not tried again"


def test_deposit__of_one_payer_two_at_a_time(rig: ChannelRig) -> None:
    payer = rig.payer()
    rig.anvil.set_automine(False)
    try:
        asked = [payer.deposit(USD) for _ in range(4)]
        head = rig.pool.head()
        rig.side._deposits.reconcile(head, head, lambda: 60.0)
        states = [payer.state(one) for one in asked]
        assert sorted(states) == sorted([Asked.SENT] * 2 + [Asked.NEW] * 2)
    finally:
        rig.anvil.set_automine(True)
    rig.until(lambda: all(payer.state(one) is Asked.DONE for one in asked), "deposits")
    assert payer.row.balance == 4 * USD


def test_deposit__gas_is_needed_for_what_is_owed__waits(rig: ChannelRig) -> None:
    payer = rig.payer()
    rig.anvil.set_balance(rig.operator.address, 10**12)
    rig.context.sender.reserve._looked = None
    asked = payer.deposit(USD)
    rig.cycle(3)
    assert (payer.state(asked), rig.sent("deposit")) == (Asked.NEW, 0)
    rig.anvil.set_balance(rig.operator.address, 10**20)
    rig.context.sender.reserve._looked = None
    rig.until(lambda: payer.state(asked) is Asked.DONE, "deposit")


# ---------------------------------------------------------------------- claims


def test_claims__many_channels_in_one_transaction__accounts_equal_receipts(
    rig: ChannelRig,
) -> None:
    payers = [rig.payer().open(10 * USD) for _ in range(5)]
    for number, payer in enumerate(payers, 1):
        payer.serve(1_000 * number + 7)
        payer.serve(333, ceiling=900)
    rig.until(lambda: all(not payer.row.unclaimed for payer in payers), "claim")
    assert rig.sent("claim") == 1
    check_accounts(rig, payers)
    assert rig.balance(rig.owner.address) == sum(payer.served for payer in payers)


def test_claim__only_above_its_gas(market: Deployment, tmp_path: Path) -> None:
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        price = rig.context.sender.reserve.offered
        cost = rig.side._claims._costs.of(CLAIM_GAS)
        assert cost == -(-CLAIM_GAS * price * 1000 * USD // 10**18) and cost > 100
        payer.serve(cost)
        rig.cycle(4)
        assert rig.sent("claim") == 0
        payer.serve(20 * cost)
        rig.until(lambda: not payer.row.unclaimed, "claim")
        check_accounts(rig, [payer])


def test_claim__what_is_above_its_gas_waits_until_it_is_time(
    market: Deployment, tmp_path: Path
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000", claim_hours=24) as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        payer.serve(2 * rig.side._claims._costs.of(CLAIM_GAS))
        rig.cycle(4)
        assert rig.sent("claim") == 0
        rig.store.set_meta("inference.claimed_at", "0")
        rig.until(lambda: not payer.row.unclaimed, "claim")


def test_claim__a_channel_owes_half_of_what_it_may__not_put_off(
    market: Deployment, tmp_path: Path
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000", max_unclaimed="0.5") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        payer.serve(USD // 4)
        rig.side._claims._costs._every = 1e18
        rig.until(lambda: not payer.row.unclaimed, "claim")


@pytest.mark.parametrize("bound", ["max_unclaimed_payer", "max_unclaimed_total"])
def test_claim__a_payer_or_all_owe_half_of_what_they_may__not_put_off(
    market: Deployment, tmp_path: Path, bound: str
) -> None:
    """On channels that owe little each. Where the bound is far off, the claim waits."""
    for most, waits in (("100", True), ("0.5", False)):
        folder = tmp_path / most
        folder.mkdir()
        with channel_rig(market, folder, coin_price="1000", **{bound: most}) as rig:
            rig.cycle(2)
            rig.side._claims._costs._every = 1e18
            first = rig.payer().open(10 * USD)
            second = type(first)(
                rig, first.account, replace(first.config, salt=(1).to_bytes(32, "big"))
            )
            second.salt = 50
            for payer in (first, second.open(10 * USD)):
                payer.serve(USD // 8)
            if waits:
                rig.cycle(4)
                assert rig.sent("claim") == 0
                continue
            rig.until(lambda: rig.sent("claim"), "claim")
            assert " of at most " in str(rig.module.status(rig.store)[0])


def test_claim__bad_rows_are_left_out_and_counted(rig: ChannelRig) -> None:
    payers = [rig.payer().open(10 * USD) for _ in range(6)]
    for payer in payers:
        payer.serve(1_000)
    bad = payers[2]
    with rig.store.transaction() as db:
        db.execute(
            "UPDATE paid_channels SET signature = ? WHERE channel = ?", (b"\x01" * 65, bad.channel)
        )
    good = [payer for payer in payers if payer is not bad]
    rig.until(lambda: all(not payer.row.unclaimed for payer in good), "claim")
    assert (bad.row.unclaimed, rig.side._claims.left_out, rig.sent("claim")) == (1_000, 1, 1)
    check_accounts(rig, good)


def test_claim__of_another_operator_s_channel__is_not_tried(rig: ChannelRig) -> None:
    payer = rig.payer(receiver_authorizer=rig.stranger.address).open(10 * USD)
    payer.serve(1_000)
    rig.cycle(4)
    assert (rig.sent("claim"), rig.side._claims.left_out) == (0, 0)


def test_claim__made_by_somebody_else_first__not_paid_twice(rig: ChannelRig) -> None:
    """The receiver may claim, too. The row brings nothing then, and the sums stay those."""
    payers = [rig.payer().open(10 * USD) for _ in range(2)]
    for payer in payers:
        payer.serve(1_000)
    first = payers[0]
    row = ((first.config.abi_tuple(), first.row.voucher), first.row.signature, 1_000)
    rig.channels.send(rig.owner, "claim", [row])
    rig.until(lambda: all(not payer.row.unclaimed for payer in payers), "claim")
    rig.cycle(4)
    check_accounts(rig, payers)


# ---------------------------------------------------------------------- withdrawals


@pytest.mark.parametrize("told", [True, False], ids=["event seen", "event lost"])
def test_withdrawal__what_is_owed_is_claimed_at_once(
    market: Deployment, tmp_path: Path, told: bool
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000", claim_hours=10**6) as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        cost = rig.side._claims._costs.of(CLAIM_GAS)
        payer.serve(3 * cost)
        rig.cycle(3)
        assert rig.sent("claim") == 0
        payer.call("initiateWithdraw", 10 * USD)
        if not told:
            rig.side._duty.consume = lambda events, again: None
            rig.module.consume = lambda events, again: None  # type: ignore[method-assign]
        started = rig.anvil.timestamp()
        rig.until(lambda: not payer.row.unclaimed, "claim")
        assert rig.anvil.timestamp() < started + DAY // 2
        rig.anvil.increase_time(DAY)
        before = payer.wallet()
        payer.call("finalizeWithdraw")
        assert payer.wallet() - before == 10 * USD - payer.served
        rig.until(lambda: payer.row.balance == payer.served, "balance")
        check_accounts(rig, [payer])


def test_withdrawal__not_worth_its_gas__not_claimed(market: Deployment, tmp_path: Path) -> None:
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        payer.serve(rig.side._claims._costs.of(CLAIM_GAS) // 2)
        payer.call("initiateWithdraw", USD)
        rig.cycle(5)
        assert rig.sent("claim") == 0


def test_withdrawal__its_claim_is_stuck__pays_more_until_it_is_in(rig: ChannelRig) -> None:
    payer = rig.payer().open(10 * USD)
    rig.anvil.set_automine(False)
    try:
        payer.serve(USD)
        rig.context.sender._replace_after = 0.0
        rig.channels.deployment.anvil.rpc(
            "eth_sendTransaction",
            {
                "from": payer.account.address,
                "to": rig.channels.address,
                "data": "0x"
                + rig.channels.abi.encode("initiateWithdraw", payer.config.abi_tuple(), USD).hex(),
                "gas": hex(300_000),
            },
        )
        rig.until(lambda: payer.row.withdraw_requested_at, "withdrawal", 10)
        # Blocks get dearer than what was offered: nothing of ours is taken until it offers more.
        for _ in range(30):
            if not payer.row.unclaimed:
                break
            rig.anvil.set_next_base_fee(20 * 10**9)
            rig.cycle()
        assert not payer.row.unclaimed
        (intent,) = [one for one in rig.store.intents_in(*IntentState) if one.key.action == "claim"]
        assert intent.deadline == payer.row.withdraw_requested_at + DAY
        offers = [one.max_fee for one in rig.store.transactions_of(intent.id)]
        assert offers == sorted(set(offers)) and len(offers) > 1
    finally:
        rig.anvil.set_automine(True)
    check_accounts(rig, [payer])


# ---------------------------------------------------------------------- the chain


def test_reorg__a_deposit_is_taken_back_and_comes_again(rig: ChannelRig) -> None:
    payer = rig.payer()
    rig.anvil.mine(2)
    payer.open(10 * USD)
    depth = rig.anvil.number() - block_of(rig, "deposit") + 1
    rig.anvil.set_automine(False)
    try:
        rig.anvil.reorg(depth)
        rig.anvil.drop_all_transactions()
        assert payer.on_chain() == (0, 0)
        rig.until(lambda: payer.on_chain()[0], "deposit", 20)
    finally:
        rig.anvil.set_automine(True)
    rig.until(lambda: payer.row.balance == 10 * USD, "balance")
    assert (rig.sent("deposit"), payer.on_chain()) == (1, (10 * USD, 0))


def test_reorg__a_claim_is_undone_and_comes_again__once(rig: ChannelRig) -> None:
    payer = rig.payer().open(10 * USD)
    rig.anvil.mine(2)
    rig.side._settling.reconcile = lambda *_: None
    payer.serve(USD)
    rig.until(lambda: not payer.row.unclaimed, "claim")
    depth = rig.anvil.number() - block_of(rig, "claim") + 1
    rig.anvil.set_automine(False)
    try:
        rig.anvil.reorg(depth)
        rig.anvil.drop_all_transactions()
        assert payer.on_chain()[1] == 0
        rig.until(lambda: payer.on_chain()[1], "claim", 20)
    finally:
        rig.anvil.set_automine(True)
    rig.until(lambda: not payer.row.unclaimed, "the book", 20)
    rig.cycle(3)
    assert (rig.sent("claim"), payer.on_chain()) == (1, (10 * USD, USD))


def block_of(rig: ChannelRig, action: str) -> int:
    (intent,) = [one for one in rig.store.intents_in(*IntentState) if one.key.action == action]
    assert intent.mined is not None
    return intent.mined.block_number


def test_restart__what_was_under_way_goes_on_and_nothing_is_sent_twice(rig: ChannelRig) -> None:
    payers = [rig.payer().open(10 * USD) for _ in range(3)]
    asked = payers[0].deposit(USD)
    for payer in payers:
        payer.serve(10_000)
    rig.cycle()
    rig.stop()
    rig.start()
    rig.until(lambda: all(not payer.row.unclaimed for payer in payers), "claim")
    rig.until(lambda: payers[0].state(asked) is Asked.DONE, "deposit")
    check_accounts(rig, payers)
    assert (rig.sent("claim"), rig.sent("deposit")) == (1, 4)


# ---------------------------------------------------------------------- what is shown


def test_status_and_metrics__say_what_is_owed_and_until_when(
    market: Deployment, tmp_path: Path
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        assert len(rig.module.status(rig.store)) == 1, "a line, and no table without a debt"
        owed = rig.side._claims._costs.of(CLAIM_GAS) // 2
        payer.serve(owed)
        payer.call("initiateWithdraw", USD)
        rig.until(lambda: payer.row.withdraw_requested_at, "withdrawal")
        rig.module.measure()
        shown = rig.context.metrics.exposition().decode()
        ends = float(payer.row.withdraw_requested_at + DAY)
        for name, value in {
            "channels_unclaimed": owed / USD,
            "channels_owing": 1.0,
            "channels_leaving_unclaimed": owed / USD,
            "channels_withdrawal_ends_timestamp": ends,
            'channel_requests_total{outcome="done",what="deposit"}': 1.0,
            "channel_deposits_held": 0.0,
        }.items():
            (line,) = [x for x in shown.splitlines() if x.startswith(f"teraproof_agent_{name} ")]
            assert float(line.split()[-1]) == value, line
        _, table = rig.module.status(rig.store)
        assert not isinstance(table, str)
        ((channel, account, _, charged, unclaimed, note),) = table.rows
        assert payer.channel.hex().startswith(channel[2:]) and account == payer.account.address
        assert charged == unclaimed and note.startswith("its payer withdraws, not before ")
