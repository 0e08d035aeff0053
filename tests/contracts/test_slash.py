# SPDX-License-Identifier: Apache-2.0
"""`slash`: pro rata from active and unbonding, burned whole; a pool that is wiped starts anew."""

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import delegate, event, events, now, pass_time, register
from tests.contracts.deploy import DAY, LOCK, REWARD, TPF, address_of

UNBONDING = 21 * DAY
ALL = 2**255


@pytest.fixture
def pool(staking, provider, delegator):
    """1,000 TPF of the owner and 600 of a delegator, 200 of which are unbonding."""
    shares = staking.delegate(provider.owner, 600 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares // 3, sender=delegator)
    return provider.owner


@pytest.fixture
def slash(staking, manager):
    return lambda provider, amount: staking.slash(provider, amount, sender=manager)


def test_slash__pro_rata_and_burned(staking, token, pool, delegator, manager, slash):
    supply, held = token.totalSupply(), token.balanceOf(staking.address)
    assert slash(pool, 160 * TPF) == 160 * TPF
    assert event(staking, "Slashed") == {
        "provider": pool,
        "manager": manager,
        "from_active": 140 * TPF,
        "from_unbonding": 20 * TPF,
    }
    assert token.totalSupply() == supply - 160 * TPF
    assert token.balanceOf(staking.address) == held - 160 * TPF
    assert staking.owner_assets(pool) == 900 * TPF
    assert staking.assets_of(pool, delegator) == 360 * TPF
    assert staking.ticket(pool, delegator, 0)[1] == 180 * TPF
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 180 * TPF


def test_slash__nobody_gets_anything(staking, pool, manager, slash, provider):
    slash(pool, 160 * TPF)
    for account in (manager, provider.owner, provider.payout, provider.operator.address):
        assert staking.credit_of(account) == 0


def test_slash__nothing__takes_nothing(staking, pool, slash):
    before = staking.pool(pool)
    assert slash(pool, 0) == 0
    assert staking.pool(pool) == before


def test_slash__empty_pool__takes_nothing(staking, make_provider, slash):
    empty = make_provider("empty", stake=0)
    assert slash(empty.owner, 5) == 0
    assert events(staking) == []


def test_slash__more_than_the_pool__takes_the_pool(staking, pool, slash):
    assert slash(pool, ALL) == 1_600 * TPF
    assert staking.pool(pool) == (0, 0, 0, 0, 0, 0)


def test_slash__only_unbonding_left(staking, provider, slash):
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    assert slash(provider.owner, 300 * TPF) == 300 * TPF
    assert event(staking, "Slashed")["from_active"] == 0
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner) == 700 * TPF


def test_slash__wipe__old_shares_and_tickets_are_worth_nothing(
    staking, token, pool, delegator, slash
):
    slash(pool, ALL)
    assert staking.shares_of(pool, delegator) == 0
    assert staking.shares_of(pool, pool) == 0
    assert staking.assets_of(pool, delegator) == 0
    assert staking.ticket(pool, delegator, 0)[1] == 0
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(pool, 1, sender=delegator)
    before = token.balanceOf(delegator)
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 0
    assert event(staking, "Unbonded")["assets"] == 0
    assert token.balanceOf(delegator) == before


def test_slash__wipe__new_stake_is_untouched_by_old_shares(
    suite, staking, pool, delegator, slash, stranger
):
    slash(pool, ALL)
    shares = delegate(suite, pool, stranger, 10 * TPF)
    assert shares == 10_000 * TPF
    assert staking.pool(pool)[:4] == (10 * TPF, 0, 10_000 * TPF, 0)
    staking.delegate(pool, 7 * TPF, sender=delegator)
    assert staking.assets_of(pool, delegator) == 7 * TPF
    assert staking.assets_of(pool, stranger) == 10 * TPF
    # Numbers go on: the ticket of the lost generation is still there, and worth nothing.
    number = staking.undelegate(pool, staking.shares_of(pool, delegator), sender=delegator)
    assert number == 1
    pass_time(UNBONDING)
    assert staking.withdraw_unbonded(pool, 0, sender=delegator) == 0
    assert staking.withdraw_unbonded(pool, 1, sender=delegator) == 7 * TPF
    assert staking.assets_of(pool, stranger) == 10 * TPF


def test_slash__wipe_of_active_alone__tickets_live_on(suite, staking, provider, delegator, slash):
    """Rounding can leave the last worth to the unbonding part: it keeps its generation."""
    shares = staking.delegate(provider.owner, 200 * TPF, sender=delegator)
    staking.undelegate(provider.owner, shares, sender=delegator)
    left_unbonding = 2 * 10**11
    assert slash(provider.owner, 1_200 * TPF - 12 * 10**11 + 1) == 1_200 * TPF - left_unbonding
    assert staking.pool(provider.owner)[:5] == (0, 0, 0, 0, left_unbonding)
    delegate(suite, provider.owner, provider.owner, TPF)
    assert staking.owner_assets(provider.owner) == TPF
    pass_time(UNBONDING)
    paid = staking.withdraw_unbonded(provider.owner, 0, sender=delegator)
    assert left_unbonding - 1 <= paid <= left_unbonding


def test_slash__twice_to_nothing__each_starts_a_generation(suite, staking, provider, slash):
    for stake in (3 * TPF, 5 * TPF):
        slash(provider.owner, ALL)
        delegate(suite, provider.owner, provider.owner, stake)
        assert staking.owner_assets(provider.owner) == stake


def test_slash__wipe__open_locks_end_as_usual(staking, provider, manager, slash):
    lock_id = b"\x01" * 32
    staking.lock(provider.operator.address, lock_id, 5 * TPF, now() + DAY, 0, sender=manager)
    slash(provider.owner, ALL)
    assert staking.pool(provider.owner)[:2] == (0, 5 * TPF)
    staking.unlock(provider.owner, lock_id, sender=manager)
    assert staking.pool(provider.owner)[:2] == (0, 0)


def test_slash__owner_below_its_locks__cannot_leave_nor_lock_more(
    staking, provider, manager, slash, delegator
):
    lock_id = b"\x01" * 32
    staking.lock(provider.operator.address, lock_id, 500 * TPF, now() + DAY, 0, sender=manager)
    slash(provider.owner, 600 * TPF)
    with boa.reverts("staking: stake is locked"):
        staking.undelegate(provider.owner, 1, sender=provider.owner)
    with boa.reverts("staking: own stake too low"):
        staking.lock(provider.operator.address, bytes(32), 1, now() + DAY, 0, sender=manager)


@pytest.mark.parametrize(("left", "wiped"), [(10**9, False), (10**9 - 1, True)])
def test_slash__dust_rule__exact(suite, staking, make_provider, slash, left, wiped):
    """A share that lost a factor of 10**9 is worthless: 10**18 wei of stake left with 10**9."""
    thin = make_provider("thin", stake=TPF)
    taken = slash(thin.owner, TPF - left)
    assert taken == (TPF if wiped else TPF - left)
    assert staking.pool(thin.owner)[0] == (0 if wiped else left)
    assert (staking.shares_of(thin.owner, thin.owner) == 0) == wiped
    # Either way new stake works.
    delegate(suite, thin.owner, thin.owner, 10**6 * TPF)
    assert staking.owner_assets(thin.owner) >= 10**6 * TPF


def test_slash__dust_rule__unbonding_too(staking, make_provider, slash):
    thin = make_provider("thin", stake=TPF)
    staking.undelegate(thin.owner, 1_000 * TPF, sender=thin.owner)
    assert slash(thin.owner, TPF - 10**9 + 1) == TPF
    assert event(staking, "Slashed")["from_unbonding"] == TPF
    assert staking.pool(thin.owner)[4:] == (0, 0)
    assert staking.ticket(thin.owner, thin.owner, 0)[1] == 0


def test_slash__unknown_provider__reverts(slash, stranger):
    with boa.reverts("staking: not registered"):
        slash(stranger, 1)


@pytest.mark.parametrize("permissions", [0, LOCK, REWARD])
def test_slash__without_the_permission__reverts(suite, staking, provider, permissions):
    newcomer = address_of("newcomer")
    if permissions:
        staking.announce_manager(newcomer, permissions, sender=suite.owner)
        pass_time(staking.MANAGER_DELAY())
    with boa.reverts("staking: caller lacks the permission"):
        staking.slash(provider.owner, 1, sender=newcomer)


@settings(deadline=None, max_examples=15)
@given(
    own=st.integers(1, 10**24),
    delegated=st.integers(1, 10**24),
    leaving=st.integers(0, 10**24),
    amount=st.integers(0, 3 * 10**24),
)
def test_slash__any_amounts__conserves_and_is_fair(suite, own, delegated, leaving, amount):
    staking = suite.staking
    provider = register(suite, "slashed", stake=own).owner
    account = address_of("slashed delegator")
    delegate(suite, provider, account, delegated)
    staking.undelegate(provider, min(leaving, delegated) * 1_000 or 1, sender=account)
    active, _, _, _, unbonding, _ = staking.pool(provider)
    supply = suite.token.totalSupply()
    taken = staking.slash(provider, amount, sender=address_of("manager"))
    assert suite.token.totalSupply() == supply - taken
    after, _, _, _, after_unbonding, _ = staking.pool(provider)
    assert after + after_unbonding == active + unbonding - taken
    asked = min(amount, active + unbonding)
    if taken == asked:
        assert unbonding - after_unbonding == taken * unbonding // (active + unbonding)
    else:
        # A wiped part gave its dust as well.
        assert after == 0 or after_unbonding == 0
        assert 0 < taken - asked <= (active + unbonding) // 10**9
