# SPDX-License-Identifier: Apache-2.0
"""Refunds and top-ups of channels on the real contracts: each is earned, and happens once."""

from __future__ import annotations

from pathlib import Path

from provider_agent.modules.inference.cashier import BLIND
from provider_agent.modules.inference.gas import DEPOSIT_GAS, REFUND_GAS
from provider_agent.modules.inference.rows import UNPAID, Asked
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.channel_rig import DAY, ChannelRig, Payer, channel_rig
from tests.agent_e2e.test_inference_chain import check_accounts, rig

__all__ = ("rig",)  # the fixture


def test_refund__the_rest_goes_back_and_what_is_owed_is_claimed_with_it(rig: ChannelRig) -> None:
    payer = rig.payer().open(10 * USD)
    rig.side._claims._costs._every = 1e18
    payer.serve(USD)
    before = payer.wallet()
    rig.book.ask_refund(payer.voucher(payer.served), None)
    rig.until(lambda: state_of_refund(rig, payer) is Asked.DONE, "refund")
    assert payer.wallet() - before == 9 * USD
    check_accounts(rig, [payer])
    assert payer.row.refund_nonce == 1

    payer.open(3 * USD)
    payer.serve(5)
    rig.book.ask_refund(payer.voucher(payer.served), USD)
    rig.until(lambda: state_of_refund(rig, payer) is Asked.DONE, "second refund")
    assert (payer.row.balance, payer.row.refund_nonce) == (3 * USD, 2)
    assert rig.sent("refund") == 2


def test_refund__channel_has_not_brought_its_gas__refused(
    market: Deployment, tmp_path: Path
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        payer.serve(1)
        rig.book.ask_refund(payer.voucher(payer.served), None)
        rig.until(lambda: state_of_refund(rig, payer) is Asked.REFUSED, "refusal")
        found = rig.book.refund(payer.channel)
        assert found is not None and found.reason == UNPAID
        assert (payer.on_chain(), rig.sent("refund")) == ((10 * USD, 0), 0)


def test_refund__each_one_has_to_be_earned(market: Deployment, tmp_path: Path) -> None:
    """What a channel has brought pays for its gas once, and not for one refund after the other."""
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer().open(10 * USD)
        payer.serve(rig.side._refunds._costs.of(DEPOSIT_GAS + REFUND_GAS) * 5 // 4)
        rig.book.ask_refund(payer.voucher(payer.served), 1)
        rig.until(lambda: state_of_refund(rig, payer) is Asked.DONE, "refund")
        rig.book.ask_refund(payer.voucher(payer.served), 1)
        rig.until(lambda: state_of_refund(rig, payer) is Asked.REFUSED, "refusal")
        assert (rig.sent("refund"), payer.row.refund_nonce) == (1, 1)


def test_refund__its_payer_withdraws_first__given_up_and_others_go_on(rig: ChannelRig) -> None:
    """What a payer takes out ahead of a refund that was to claim leaves less than it owes."""
    payer = rig.payer().open(10 * USD)
    rig.side._claims.claim = lambda block, head, busy: None
    payer.serve(5)
    payer.call("initiateWithdraw", 10 * USD)
    rig.anvil.increase_time(DAY)
    payer.call("finalizeWithdraw")
    rig.book.ask_refund(payer.voucher(payer.served), None)
    rig.book.set_refund(payer.channel, state=Asked.SENT)
    rig.until(lambda: state_of_refund(rig, payer) is Asked.REFUSED, "refusal")
    assert payer.on_chain() == (0, 0)
    rig.payer().open(USD)


def test_deposits__of_a_channel_that_brings_nothing__end_after_a_few(
    market: Deployment, tmp_path: Path
) -> None:
    """They cost this agent gas, and their payer one withdrawal."""
    with channel_rig(market, tmp_path, coin_price="1000") as rig:
        rig.cycle(2)
        payer = rig.payer()
        for _ in range(3):
            payer.open(USD)
        asked = payer.deposit(USD)
        rig.until(lambda: payer.state(asked) is Asked.REFUSED, "refusal")
        assert (payer.on_chain(), rig.sent("deposit")) == ((3 * USD, 0), 3)
        payer.serve(rig.side._refunds._costs.of(3 * DEPOSIT_GAS) * 5 // 4)
        payer.open(USD)
        rig.payer().open(USD)


def test_chain_not_seen_for_a_quarter_of_the_delay__blind_until_the_next_cycle(
    rig: ChannelRig,
) -> None:
    assert rig.side.floor < BLIND
    rig.side._seen -= DAY / 4
    assert rig.side.floor == BLIND
    rig.cycle()
    assert rig.side.floor < BLIND


def state_of_refund(rig: ChannelRig, payer: Payer) -> Asked | None:
    found = rig.book.refund(payer.channel)
    return None if found is None else found.state
