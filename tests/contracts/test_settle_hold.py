# SPDX-License-Identifier: Apache-2.0
"""`hold`, `free`, `settle`: who may hold a provider, how a hold ends, and holders that misbehave.

I-2: whatever a holder does, an entry can be taken back and shares can leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, event, events, go_to, now, pass_time, reward
from tests.contracts.deploy import (
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
    Contract,
    Suite,
    address_of,
    deployer_of,
)

pytestmark = pytest.mark.invariant("I-2", "I-13")

UNBONDING = 21 * DAY
SETTLE_GAS = 500_000


@pytest.fixture
def holder(suite: Suite) -> Contract:
    return suite.holder


@pytest.fixture
def held(holder: Contract, provider: Provider) -> str:
    """The provider, held; its holder does nothing when it is asked."""
    holder.hold(provider.operator.address)
    holder.set_manner(IDLE)
    return provider.owner


def close(value: int, expected: int) -> bool:
    """Equal but for rounding and what the virtual shares take."""
    return expected - 2_000 <= value <= expected + 1


# --------------------------------------------------------------------------- hold


def test_hold__returns_the_stake_and_announces(
    staking: Contract, holder: Contract, provider: Provider, manager: str, delegator: str
) -> None:
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


def test_hold__held_by_another_manager__reverts(
    staking: Contract, held: str, provider: Provider, manager: str
) -> None:
    with boa.reverts("staking: held by another manager"):
        staking.hold(provider.operator.address, sender=manager)


def test_hold__after_another_has_ended(
    staking: Contract, holder: Contract, held: str, provider: Provider, manager: str
) -> None:
    holder.free(held)
    staking.hold(provider.operator.address, sender=manager)
    with boa.reverts("staking: held by another manager"):
        holder.hold(provider.operator.address)


def test_hold__unknown_operator__reverts(
    staking: Contract, provider: Provider, manager: str, stranger: str
) -> None:
    for key in (stranger, provider.owner, provider.payout):
        with boa.reverts("staking: unknown operator"):
            staking.hold(key, sender=manager)


@pytest.mark.parametrize("permissions", [0, LOCK, REWARD, LOCK | REWARD])
def test_hold__without_the_permission__reverts(
    suite: Suite, staking: Contract, provider: Provider, permissions: Any
) -> None:
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.hold(provider.operator.address, sender=newcomer)


def test_hold__announced_manager__not_before_it_is_active(
    suite: Suite, staking: Contract, provider: Provider
) -> None:
    newcomer = address_of("newcomer")
    staking.announce_manager(newcomer, SLASH, sender=suite.owner)
    pass_time(staking.MANAGER_DELAY() - 1)
    with boa.reverts("staking: caller lacks the permission"):
        staking.hold(provider.operator.address, sender=newcomer)
    pass_time(1)
    staking.hold(provider.operator.address, sender=newcomer)


# ------------------------------------------------------------------- how a hold ends


def test_free__by_the_holder(staking: Contract, holder: Contract, held: str) -> None:
    holder.free(held)
    assert event(holder, "Freed") == {"provider": held, "manager": holder.address}
    assert not staking.is_unsettled(held)


def test_free__not_the_holder__reverts(
    staking: Contract, holder: Contract, held: str, provider: Provider, manager: str, stranger: str
) -> None:
    for caller in (manager, stranger, held, provider.operator.address):
        with boa.reverts("staking: not the holder"):
            staking.free(held, sender=caller)
    holder.free(held)
    with boa.reverts("staking: not the holder"):
        holder.free(held)
    assert not staking.is_unsettled(held)


def test_free__nobody_holds__reverts(staking: Contract, provider: Provider, stranger: str) -> None:
    with boa.reverts("staking: not the holder"):
        staking.free(provider.owner, sender=stranger)


@pytest.mark.parametrize("after", [0, UNBONDING - 1, UNBONDING, 100 * DAY])
def test_free__by_a_removed_holder(
    suite: Suite, staking: Contract, holder: Contract, held: str, after: Any
) -> None:
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(after)
    holder.free(held)
    assert not staking.is_unsettled(held)


@pytest.mark.parametrize("amount", [0, 100 * TPF])
def test_reward__ends_the_hold(suite: Suite, staking: Contract, held: str, amount: int) -> None:
    reward(suite, held, amount)
    assert not staking.is_unsettled(held)


def test_slash__ends_the_callers_hold_alone(
    staking: Contract, holder: Contract, held: str, manager: str
) -> None:
    staking.slash(held, bytes(32), TPF, sender=manager)
    assert staking.is_unsettled(held)
    holder.slash(held, bytes(32), TPF)
    assert not staking.is_unsettled(held)


def test_slash__by_a_removed_holder__ends_the_hold(
    suite: Suite, staking: Contract, holder: Contract, held: str, provider: Provider
) -> None:
    lock_id = b"\x01" * 32
    holder.lock(provider.operator.address, lock_id, TPF, now() + 60 * DAY)
    staking.remove_manager(holder.address, sender=suite.owner)
    assert holder.slash(held, lock_id, 5 * TPF) == TPF
    assert not staking.is_unsettled(held)


def test_remove_manager__hold_counts_until_unbonding(
    suite: Suite, staking: Contract, holder: Contract, held: str, delegator: str
) -> None:
    """A pending epoch is settled in peace, and a dead manager keeps nobody waiting without end."""
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


def test_remove_manager__holder_can_still_settle(
    suite: Suite, staking: Contract, holder: Contract, held: str, delegator: str
) -> None:
    """Its Emissions is another manager, which may reward as before."""
    staking.remove_manager(holder.address, sender=suite.owner)
    holder.set_manner(FREE)
    assert staking.delegate(held, TPF, sender=delegator) > 0


def test_remove_manager__another_may_hold_then(
    suite: Suite, staking: Contract, holder: Contract, held: str, provider: Provider, manager: str
) -> None:
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(UNBONDING - 1)
    with boa.reverts("staking: held by another manager"):
        staking.hold(provider.operator.address, sender=manager)
    pass_time(1)
    staking.hold(provider.operator.address, sender=manager)
    with boa.reverts("staking: not the holder"):
        holder.free(held)
    staking.free(held, sender=manager)


def test_announce_manager__old_holds_stay_dead(
    suite: Suite, staking: Contract, holder: Contract, held: str
) -> None:
    staking.remove_manager(holder.address, sender=suite.owner)
    pass_time(UNBONDING)
    staking.announce_manager(holder.address, SLASH, sender=suite.owner)
    assert not staking.is_unsettled(held)
    pass_time(staking.MANAGER_DELAY())
    assert not staking.is_unsettled(held)
    staking.remove_manager(holder.address, sender=suite.owner)
    assert not staking.is_unsettled(held)


def test_reward__by_another__ends_a_dead_hold(
    suite: Suite, staking: Contract, holder: Contract, held: str, provider: Provider
) -> None:
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


def test_settle__by_anyone__pays_what_is_due(
    staking: Contract, holder: Contract, held: str, stranger: str
) -> None:
    holder.owe(held, 100 * TPF)
    holder.set_manner(PAY)
    staking.settle(held, sender=stranger)
    assert not staking.is_unsettled(held)
    assert close(staking.owner_assets(held), 1_090 * TPF)


def test_settle__nothing_held__asks_nobody(
    staking: Contract, holder: Contract, provider: Provider, stranger: str
) -> None:
    staking.settle(provider.owner, sender=stranger)
    staking.settle(stranger, sender=stranger)
    assert holder.asked() == 0


def test_undelegate__settles_first(
    staking: Contract, holder: Contract, provider: Provider, delegator: str
) -> None:
    """Who leaves after the end of an epoch takes its part of the reward along."""
    shares = staking.delegate(provider.owner, 1_000 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    holder.owe(provider.owner, 100 * TPF)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert close(staking.ticket(provider.owner, delegator, 0)[1], 1_045 * TPF)


def test_undelegate__epoch_not_over__gives_its_part_up(
    staking: Contract, holder: Contract, held: str, provider: Provider, delegator: str
) -> None:
    holder.free(held)
    shares = staking.delegate(held, 1_000 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    staking.undelegate(held, shares, sender=delegator)
    assert staking.is_unsettled(held)
    holder.reward(held, 100 * TPF)
    assert staking.ticket(held, delegator, 0)[1] == 1_000 * TPF
    assert close(staking.owner_assets(held), 1_090 * TPF)


def test_undelegate__shares_of_before_a_rebase_by_its_own_settlement(
    suite: Suite, staking: Contract, holder: Contract, make_provider: Callable[..., Provider]
) -> None:
    """The reward multiplies the shares first, and the number is taken as one of after that."""
    thin = make_provider("thin", stake=1, commission_bps=0)
    holder.hold(thin.operator.address)
    holder.owe(thin.owner, 1_000 * TPF)
    assert staking.shares_of(thin.owner, thin.owner) == 1_000
    staking.undelegate(thin.owner, 1_000, sender=thin.owner)
    assert staking.shares_of(thin.owner, thin.owner) == 10**27 - 1_000
    assert staking.ticket(thin.owner, thin.owner, 0)[1] == 0


def test_undelegate__all_of_them__also_after_a_rebase_by_its_own_settlement(
    staking: Contract, holder: Contract, make_provider: Callable[..., Provider]
) -> None:
    """Nobody can name all shares before a settlement that multiplies them; 2**256 - 1 can."""
    thin = make_provider("thin", stake=1, commission_bps=0)
    holder.hold(thin.operator.address)
    holder.owe(thin.owner, 100 * TPF)
    staking.undelegate(thin.owner, 2**256 - 1, sender=thin.owner)
    assert staking.shares_of(thin.owner, thin.owner) == 0
    assert staking.owner_assets(thin.owner) == 0
    assert close(staking.ticket(thin.owner, thin.owner, 0)[1], 100 * TPF)


def test_undelegate__all_of_nothing__reverts(
    staking: Contract, provider: Provider, stranger: str
) -> None:
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(provider.owner, 2**256 - 1, sender=stranger)


# --------------------------------------------------------- holders that misbehave


MANNERS = {"idle": IDLE, "reverting": REFUSE, "gas-eating": EAT}


@pytest.fixture(params=[*MANNERS, "without code", "removed and reverting"])
def bad_holder(
    request: pytest.FixtureRequest,
    suite: Suite,
    staking: Contract,
    holder: Contract,
    provider: Provider,
    manager: str,
    delegator: str,
) -> str:
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


def test_bad_holder__exits_go_on(
    staking: Contract, token: Contract, bad_holder: str, delegator: str
) -> None:
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


def test_bad_holder__settle_and_activate_change_nothing(
    staking: Contract, bad_holder: str, delegator: str, stranger: str
) -> None:
    staking.delegate(bad_holder, TPF, sender=delegator)
    before = staking.pool(bad_holder)
    staking.settle(bad_holder, sender=stranger)
    assert staking.pool(bad_holder) == before
    # UNBONDING after its removal a holder is asked no more.
    with boa.reverts("staking: epoch is unsettled"):
        staking.activate(bad_holder, delegator)


def test_gas_eating_holder__costs_a_bounded_amount(
    staking: Contract, holder: Contract, provider: Provider, delegator: str
) -> None:
    shares = staking.delegate(provider.owner, 100 * TPF, sender=delegator)
    holder.hold(provider.operator.address)
    holder.set_manner(EAT)
    staking.undelegate(provider.owner, shares, sender=delegator)
    assert holder.asked() == 0  # what it did was undone
    assert SETTLE_GAS < staking._computation.get_gas_used() < SETTLE_GAS + 150_000


def test_refusing_holder__leaves_no_trace(
    staking: Contract, holder: Contract, held: str, stranger: str
) -> None:
    holder.set_manner(REFUSE)
    staking.settle(held, sender=stranger)
    assert events(staking) == []
    assert staking.is_unsettled(held)
