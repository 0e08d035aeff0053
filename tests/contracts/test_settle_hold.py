# SPDX-License-Identifier: Apache-2.0
"""`hold`, `free`, `settle`: who may hold a provider, how a hold ends, and holders that misbehave.

I-2: whatever a holder does, an entry can be taken back and shares can leave.
"""

import boa
import pytest

from tests.contracts.actions import delegate, event, events, go_to, now, pass_time, reward
from tests.contracts.deploy import (
    CALL,
    DAY,
    EAT,
    FREE,
    IDLE,
    LOCK,
    PAY,
    REFUSE,
    REWARD,
    SLASH,
    TPF,
    address_of,
    deployer_of,
)

pytestmark = pytest.mark.invariant("I-2", "I-13")

UNBONDING = 21 * DAY
SETTLE_GAS = 500_000


@pytest.fixture
def holder(suite):
    return suite.holder


@pytest.fixture
def held(holder, provider):
    """The provider, held; its holder does nothing when it is asked."""
    holder.hold(provider.operator.address)
    holder.set_manner(IDLE)
    return provider.owner


def close(value, expected):
    """Equal but for rounding and what the virtual shares take."""
    return expected - 2_000 <= value <= expected + 1


# --------------------------------------------------------------------------- hold


def test_hold__returns_the_stake_and_announces(staking, holder, provider, manager, delegator):
    staking.delegate(provider.owner, 5 * TPF, sender=delegator)
    key = (provider.operator.address, bytes(32), 3 * TPF, now() + DAY)
    staking.lock(*key, 0, sender=manager)
    staking.seize(provider.owner, bytes(32), delegator, delegator, 10_000, 0, sender=manager)
    assert not staking.is_unsettled(provider.owner)
    assert holder.hold(provider.operator.address) == (provider.owner, 1_002 * TPF, 3 * TPF)
    assert event(holder, "Held") == {
        "provider": provider.owner,
        "manager": holder.address,
        "commission_bps": 1_000,
    }
    assert staking.is_unsettled(provider.owner)
    assert holder.hold(provider.operator.address)[0] == provider.owner


def test_hold__held_by_another_manager__reverts(staking, held, provider, manager):
    with boa.reverts("staking: held by another manager"):
        staking.hold(provider.operator.address, sender=manager)


def test_hold__after_another_has_ended(staking, holder, held, provider, manager):
    holder.free(held)
    staking.hold(provider.operator.address, sender=manager)
    with boa.reverts("staking: held by another manager"):
        holder.hold(provider.operator.address)


def test_hold__unknown_operator__reverts(staking, provider, manager, stranger):
    for key in (stranger, provider.owner, provider.payout):
        with boa.reverts("staking: unknown operator"):
            staking.hold(key, sender=manager)


@pytest.mark.parametrize("permissions", [0, LOCK, REWARD, LOCK | REWARD])
def test_hold__without_the_permission__reverts(suite, staking, provider, permissions):
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.hold(provider.operator.address, sender=newcomer)


def test_hold__announced_manager__not_before_it_is_active(suite, staking, provider):
    newcomer = address_of("newcomer")
    staking.announce_manager(newcomer, SLASH, sender=suite.owner)
    pass_time(staking.MANAGER_DELAY() - 1)
    with boa.reverts("staking: caller lacks the permission"):
        staking.hold(provider.operator.address, sender=newcomer)
    pass_time(1)
    staking.hold(provider.operator.address, sender=newcomer)


# ------------------------------------------------------------------- how a hold ends


def test_free__by_the_holder(staking, holder, held):
    holder.free(held)
    assert event(holder, "Freed") == {"provider": held, "manager": holder.address}
    assert not staking.is_unsettled(held)


def test_free__not_the_holder__reverts(staking, holder, held, provider, manager, stranger):
    for caller in (manager, stranger, held, provider.operator.address):
        with boa.reverts("staking: not the holder"):
            staking.free(held, sender=caller)
    holder.free(held)
    with boa.reverts("staking: not the holder"):
        holder.free(held)
    assert not staking.is_unsettled(held)


def test_free__nobody_holds__reverts(staking, provider, stranger):
    with boa.reverts("staking: not the holder"):
        staking.free(provider.owner, sender=stranger)


@pytest.mark.parametrize("after", [0, UNBONDING - 1, UNBONDING, 100 * DAY])
def test_free__by_a_removed_holder(suite, staking, holder, held, after):
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(after)
    holder.free(held)
    assert not staking.is_unsettled(held)


@pytest.mark.parametrize("amount", [0, 100 * TPF])
def test_reward__ends_the_hold(suite, staking, held, amount):
    reward(suite, held, amount)
    assert not staking.is_unsettled(held)


def test_slash__ends_the_callers_hold_alone(staking, holder, held, manager):
    staking.slash(held, bytes(32), TPF, sender=manager)
    assert staking.is_unsettled(held)
    holder.slash(held, bytes(32), TPF)
    assert not staking.is_unsettled(held)


def test_slash__by_a_removed_holder__ends_the_hold(suite, staking, holder, held, provider):
    lock_id = b"\x01" * 32
    holder.lock(provider.operator.address, lock_id, TPF, now() + 60 * DAY)
    staking.remove_manager(holder.address, sender=suite.owner)
    assert holder.slash(held, lock_id, 5 * TPF) == TPF
    assert not staking.is_unsettled(held)


def test_remove_manager__hold_counts_until_unbonding(suite, staking, holder, held, delegator):
    """A pending epoch is settled in peace, and a dead manager keeps nobody waiting for ever."""
    removed_at = now()
    staking.remove_manager(holder.address, sender=suite.owner)
    go_to(removed_at + UNBONDING - 1)
    assert staking.is_unsettled(held)
    assert staking.delegate(held, TPF, sender=delegator) == 0
    go_to(removed_at + UNBONDING)
    asked = holder.asked()
    assert not staking.is_unsettled(held)
    assert staking.activate(held, delegator) > 0
    assert staking.delegate(held, TPF, sender=delegator) > 0
    assert holder.asked() == asked


def test_remove_manager__holder_can_still_settle(suite, staking, holder, held, delegator):
    """Its Emissions is another manager, which may reward as before."""
    staking.remove_manager(holder.address, sender=suite.owner)
    holder.set_manner(FREE)
    assert staking.delegate(held, TPF, sender=delegator) > 0


def test_remove_manager__another_may_hold_then(suite, staking, holder, held, provider, manager):
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(UNBONDING - 1)
    with boa.reverts("staking: held by another manager"):
        staking.hold(provider.operator.address, sender=manager)
    pass_time(1)
    staking.hold(provider.operator.address, sender=manager)
    with boa.reverts("staking: not the holder"):
        holder.free(held)
    staking.free(held, sender=manager)


def test_announce_manager__old_holds_stay_dead(suite, staking, holder, held):
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(UNBONDING)
    staking.announce_manager(holder.address, SLASH, sender=suite.owner)
    assert not staking.is_unsettled(held)
    pass_time(staking.MANAGER_DELAY())
    assert not staking.is_unsettled(held)
    staking.remove_manager(holder.address, sender=suite.owner)
    assert not staking.is_unsettled(held)


def test_reward__by_another__ends_a_dead_hold(suite, staking, holder, held, provider):
    staking.set_commission(0, sender=held)
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(UNBONDING)
    payer = deployer_of("mocks/Holder").deploy(staking.address, suite.token.address)
    staking.announce_manager(payer.address, REWARD, sender=suite.owner)
    pass_time(staking.MANAGER_DELAY())
    staking.reward(held, 0, sender=payer.address)
    assert staking.commission_of(held) == 0
    with boa.reverts("staking: not the holder"):
        holder.free(held)


# ------------------------------------------------------------------------- settle


def test_settle__by_anyone__pays_what_is_due(staking, holder, held, stranger):
    holder.owe(held, 100 * TPF)
    holder.set_manner(PAY)
    staking.settle(held, sender=stranger)
    assert not staking.is_unsettled(held)
    assert close(staking.owner_assets(held), 1_090 * TPF)


def test_settle__nothing_held__asks_nobody(staking, holder, provider, stranger):
    staking.settle(provider.owner, sender=stranger)
    staking.settle(stranger, sender=stranger)
    assert holder.asked() == 0


def test_undelegate__settles_first(staking, holder, provider, delegator):
    """Who leaves after the end of an epoch takes its part of the reward along."""
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    holder.owe(provider.owner, 100 * TPF)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert close(staking.ticket(provider.owner, delegator, 0)[1], 1_045 * TPF)


def test_undelegate__epoch_not_over__gives_its_part_up(staking, holder, held, provider, delegator):
    holder.free(held)
    shares = staking.delegate(held, 1_000 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    staking.undelegate(held, shares, sender=delegator)
    assert staking.is_unsettled(held)
    holder.reward(held, 100 * TPF)
    assert staking.ticket(held, delegator, 0)[1] == 1_000 * TPF
    assert close(staking.owner_assets(held), 1_090 * TPF)


def test_undelegate__shares_of_before_a_rebase_by_its_own_settlement(
    suite, staking, holder, make_provider
):
    """The reward multiplies the shares first, and the number is taken as one of after that."""
    thin = make_provider("thin", stake=1, commission_bps=0)
    holder.hold(thin.operator.address)
    holder.owe(thin.owner, 1_000 * TPF)
    assert staking.shares_of(thin.owner, thin.owner) == 1_000
    staking.undelegate(thin.owner, 1_000, sender=thin.owner)
    assert staking.shares_of(thin.owner, thin.owner) == 10**27 - 1_000
    assert staking.ticket(thin.owner, thin.owner, 0)[1] == 0


def test_undelegate__all_of_them__also_after_a_rebase_by_its_own_settlement(
    staking, holder, make_provider
):
    """Nobody can name all shares before a settlement that multiplies them; 2**256 - 1 can."""
    thin = make_provider("thin", stake=1, commission_bps=0)
    holder.hold(thin.operator.address)
    holder.owe(thin.owner, 100 * TPF)
    staking.undelegate(thin.owner, 2**256 - 1, sender=thin.owner)
    assert staking.shares_of(thin.owner, thin.owner) == 0
    assert staking.owner_assets(thin.owner) == 0
    assert close(staking.ticket(thin.owner, thin.owner, 0)[1], 100 * TPF)


def test_undelegate__all_of_nothing__reverts(staking, provider, stranger):
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(provider.owner, 2**256 - 1, sender=stranger)


# --------------------------------------------------------- holders that misbehave


MANNERS = {"idle": IDLE, "reverting": REFUSE, "gas-eating": EAT}


@pytest.fixture(params=[*MANNERS, "without code", "removed and reverting"])
def bad_holder(request, suite, staking, holder, provider, manager, delegator):
    """A delegator's stake with a provider whose holder is of no use; returns the owner."""
    staking.delegate(provider.owner, 100 * TPF, sender=delegator)
    if request.param == "without code":
        # An account with a key: it is asked, and answers nothing.
        staking.hold(provider.operator.address, sender=manager)
    else:
        holder.hold(provider.operator.address)
        holder.set_manner(MANNERS.get(request.param, REFUSE))
    if request.param == "removed and reverting":
        staking.remove_manager(holder.address, sender=suite.owner)
    return provider.owner


def test_bad_holder__exits_go_on(staking, token, bad_holder, delegator):
    shares = staking.shares_of(bad_holder, delegator)
    number = staking.undelegate(bad_holder, shares, sender=delegator)
    own = staking.shares_of(bad_holder, bad_holder)
    staking.undelegate(bad_holder, own, sender=bad_holder)
    assert staking.is_unsettled(bad_holder)
    assert staking.delegate(bad_holder, TPF, sender=delegator) == 0
    assert staking.take_back(bad_holder, sender=delegator) == TPF
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(bad_holder, number, sender=delegator) == 100 * TPF
    assert staking.withdraw_unbonded(bad_holder, 0, sender=bad_holder) == 1_000 * TPF


def test_bad_holder__settle_and_activate_change_nothing(staking, bad_holder, delegator, stranger):
    staking.delegate(bad_holder, TPF, sender=delegator)
    before = staking.pool(bad_holder)
    staking.settle(bad_holder, sender=stranger)
    assert staking.pool(bad_holder) == before
    # UNBONDING after its removal a holder is asked no more.
    with boa.reverts("staking: epoch is unsettled"):
        staking.activate(bad_holder, delegator)


def test_gas_eating_holder__costs_a_bounded_amount(staking, holder, provider, delegator):
    shares = staking.delegate(provider.owner, 100 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    holder.set_manner(EAT)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert holder.asked() == 0  # what it did was undone
    assert SETTLE_GAS < staking._computation.get_gas_used() < SETTLE_GAS + 150_000


def test_refusing_holder__leaves_no_trace(staking, holder, held, stranger):
    holder.set_manner(REFUSE)
    staking.settle(held, sender=stranger)
    assert events(staking) == []
    assert staking.is_unsettled(held)


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
def rich_holder(suite, staking, holder, provider, manager):
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
    staking, rich_holder, provider, delegator, entry, outer
):
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
def test_reentrance__the_same_call_by_itself_is_fine(staking, rich_holder, provider, entry):
    """What stopped it was the lock and nothing else."""
    data = CLOSED[entry](staking, provider)
    if entry == "activate":
        delegate_by_owner(staking, provider)
        rich_holder.free(provider.owner)
    alone = boa.env.execute_code(to_address=staking.address, sender=rich_holder.address, data=data)
    assert not alone.is_error


def delegate_by_owner(staking, provider):
    """An entry of the owner."""
    from_faucet = address_of("faucet")
    token = deployer_of("Token").at(staking.TOKEN())
    token.transfer(provider.owner, TPF, sender=from_faucet)
    token.approve(staking.address, TPF, sender=provider.owner)
    assert staking.delegate(provider.owner, TPF, sender=provider.owner) == 0


def test_reentrance__reward_within_delegate__newcomer_pays_the_new_price(
    suite, staking, holder, provider, delegator
):
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
