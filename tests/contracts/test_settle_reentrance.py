# SPDX-License-Identifier: Apache-2.0
"""A holder that calls Staking while it is asked to settle: open for that, closed for all else."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, delegate, now, pass_time
from tests.contracts.deploy import CALL, DAY, IDLE, TPF, Contract, Suite, address_of, deployer_of
from tests.contracts.test_settle_hold import UNBONDING, close, held, holder

__all__ = ["held", "holder"]  # fixtures

pytestmark = pytest.mark.invariant("I-2", "I-13")


# ---------------------------------------------------------------------- re-entrance


OPEN = {
    "stake_of": lambda staking, p: staking.stake_of.prepare_calldata(p.owner),
    "operator_of": lambda staking, p: staking.operator_of.prepare_calldata(p.owner),
    "provider_of": lambda staking, p: staking.provider_of.prepare_calldata(p.operator.address),
    "free": lambda staking, p: staking.free.prepare_calldata(p.owner),
    "lock": lambda staking, p: staking.lock.prepare_calldata(
        p.operator.address, bytes(32), TPF, now() + 1, 0
    ),
    "unlock": lambda staking, p: staking.unlock.prepare_calldata(p.owner, bytes(32)),
    "reward": lambda staking, p: staking.reward.prepare_calldata(p.owner, 0),
    "UNBONDING": lambda staking, p: staking.UNBONDING.prepare_calldata(),
}
CLOSED = {
    "delegate": lambda staking, p: staking.delegate.prepare_calldata(p.owner, TPF),
    "undelegate": lambda staking, p: staking.undelegate.prepare_calldata(p.owner, TPF),
    "activate": lambda staking, p: staking.activate.prepare_calldata(p.owner, p.owner),
    "take_back": lambda staking, p: staking.take_back.prepare_calldata(p.owner),
    "settle": lambda staking, p: staking.settle.prepare_calldata(p.owner),
    "hold": lambda staking, p: staking.hold.prepare_calldata(p.operator.address),
    "slash": lambda staking, p: staking.slash.prepare_calldata(p.owner, bytes(32), TPF),
    "seize": lambda staking, p: staking.seize.prepare_calldata(
        p.owner, bytes(32), p.owner, p.owner, 0, 0
    ),
    "credit": lambda staking, p: staking.credit.prepare_calldata(p.owner, 0),
    "withdraw": lambda staking, p: staking.withdraw.prepare_calldata(),
    "withdraw_unbonded": lambda staking, p: staking.withdraw_unbonded.prepare_calldata(p.owner, 0),
    "pool": lambda staking, p: staking.pool.prepare_calldata(p.owner),
}


@pytest.fixture
def rich_holder(
    suite: Suite, staking: Contract, holder: Contract, provider: Provider, manager: str
) -> Contract:
    """A holder with stake, an entry, a ticket that is due, credit and a lock of its own."""
    for account in (holder.address,):
        suite.token.transfer(account, 10 * TPF, sender=suite.faucet)
        suite.token.approve(staking.address, 2**256 - 1, sender=account)
        staking.delegate(provider.owner, TPF, sender=account)
        staking.undelegate(provider.owner, 10**18, sender=account)
        key = (provider.operator.address, bytes(32), TPF, now() + DAY)
        staking.lock(*key, 0, sender=manager)
        staking.seize(provider.owner, bytes(32), account, account, 10_000, 0, sender=manager)
    pass_time(UNBONDING)
    holder.hold(provider.operator.address)
    holder.set_manner(IDLE)
    staking.delegate(provider.owner, TPF, sender=holder.address)
    return holder


@pytest.mark.parametrize("entry", [*OPEN, *CLOSED])
@pytest.mark.parametrize("outer", ["settle", "delegate", "undelegate", "activate"])
def test_reentrance__open_for_settling_closed_for_all_else(
    staking: Contract,
    rich_holder: Contract,
    provider: Provider,
    delegator: str,
    entry: Any,
    outer: str,
) -> None:
    """While it is asked, a holder pays and frees; every other way in is shut."""
    data = (OPEN | CLOSED)[entry](staking, provider)
    rich_holder.set_manner(CALL, data)
    owner = provider.owner
    if outer == "settle":
        staking.settle(owner)
    elif outer == "delegate":
        staking.delegate(owner, TPF, sender=delegator)
    elif outer == "undelegate":
        staking.undelegate(owner, TPF, sender=owner)
    else:
        staking.activate(owner, rich_holder.address)
    assert rich_holder.succeeded() == (entry in OPEN)
    assert not staking.is_unsettled(owner)


@pytest.mark.parametrize("entry", CLOSED)
def test_reentrance__the_same_call_by_itself_is_fine(
    staking: Contract, rich_holder: Contract, provider: Provider, entry: Any
) -> None:
    """What stopped it was the lock and nothing else."""
    data = CLOSED[entry](staking, provider)
    if entry == "activate":
        delegate_by_owner(staking, provider)
        rich_holder.free(provider.owner)
    alone = boa.env.execute_code(to_address=staking.address, sender=rich_holder.address, data=data)
    assert not alone.is_error


def delegate_by_owner(staking: Contract, provider: Provider) -> None:
    """An entry of the owner."""
    from_faucet = address_of("faucet")
    token = deployer_of("Token").at(staking.TOKEN())
    token.transfer(provider.owner, TPF, sender=from_faucet)
    token.approve(staking.address, TPF, sender=provider.owner)
    assert staking.delegate(provider.owner, TPF, sender=provider.owner) == 0


def test_reentrance__reward_within_delegate__newcomer_pays_the_new_price(
    suite: Suite, staking: Contract, holder: Contract, provider: Provider, delegator: str
) -> None:
    """The pool is read after the holder has been asked, never before."""
    holder.hold(provider.operator.address)
    holder.owe(provider.owner, 1_000 * TPF)
    before = staking.pool(provider.owner)
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    active, _, total, *_ = staking.pool(provider.owner)
    assert total == before[2] + shares
    assert active + staking.credit_of(provider.payout) == before[0] + 2_000 * TPF
    assert close(staking.assets_of(provider.owner, delegator), 1_000 * TPF)
    assert delegate(suite, provider.owner, address_of("next"), TPF) > 0
