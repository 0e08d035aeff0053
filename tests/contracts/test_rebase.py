# SPDX-License-Identifier: Apache-2.0
"""Rebases of a pool's shares, down by slashes and up by rewards (I-12, I-13).

What must hold whatever the numbers of shares are: holders own no more than the pool has, a share
costs at most a wei, nobody else's stake changes by a call, and a reward reaches every holder by
its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import boa
import pytest
from eth_utils.crypto import keccak

from tests.contracts.actions import Provider, delegate, now, pass_time, reward
from tests.contracts.deploy import DAY, TPF, Contract, Suite, address_of

pytestmark = pytest.mark.invariant("I-12", "I-13")

NO_LOCK = bytes(32)
VIRTUAL = 1_000
REBASE = 10**6
# What rounding and the virtual shares change for one holder in a reward, in wei.
REWARD_DUST = 2_002


def price_is_fair(staking: Contract, provider: str) -> Any:
    """A share, virtual ones counted, costs at most a wei."""
    active, _, total, *_ = staking.pool(provider)
    return active + 1 <= total + VIRTUAL


def leave_but(staking: Contract, provider: str, left: int) -> None:
    """The owner leaves all but `left` shares."""
    held = staking.shares_of(provider, provider)
    staking.undelegate(provider, held - left, sender=provider)


@pytest.fixture
def dust(make_provider: Callable[..., Provider]) -> str:
    """A pool of a million wei at no commission: 10**9 shares, just enough."""
    return make_provider("dust", stake=10**6, commission_bps=0).owner


@pytest.fixture
def wipe(staking: Contract, manager: str) -> Callable[..., Any]:
    """Slash a pool down to `left` wei, active and unbonding together."""

    def down_to(provider: str, left: int) -> None:
        active, _, _, _, leaving, _ = staking.pool(provider)
        staking.slash(provider, NO_LOCK, active + leaving - left, sender=manager)

    return down_to


# ------------------------------------------------------------------------- up, exact


@pytest.mark.parametrize(("amount", "total"), [(10**9 - 10**6, 10**9), (10**9 - 10**6 + 1, 10**15)])
def test_reward__fewer_shares_than_wei__multiplied(
    suite: Suite, staking: Contract, dust: str, amount: int, total: int
) -> None:
    reward(suite, dust, amount)
    kept = amount * VIRTUAL // (total + VIRTUAL)
    assert staking.pool(dust)[:4] == (10**6 + amount - kept, 0, total, total)
    assert staking.credit_of(address_of("dust's payout")) == kept
    assert price_is_fair(staking, dust)


@pytest.mark.parametrize(("stake", "factor"), [(10**6, 1), (10**6 - 1, REBASE), (1, REBASE)])
def test_reward__few_shares__multiplied(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], stake: int, factor: Any
) -> None:
    """Below 10**9 shares the virtual ones would take more than a millionth."""
    few = make_provider("few", stake=stake, commission_bps=0).owner
    reward(suite, few, 1)
    assert staking.pool(few)[2] == stake * VIRTUAL * factor


@pytest.mark.parametrize("left", [1, 999, 10**9])
@pytest.mark.parametrize("amount", [TPF, 12_320 * TPF, 10**8 * TPF])
def test_reward__few_shares_and_much_money(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], left: int, amount: Any
) -> None:
    """F1: the owner has left but for next to nothing; what it gets is still its own reward."""
    evil = make_provider("evil", stake=1_000 * TPF, commission_bps=0)
    leave_but(staking, evil.owner, left)
    reward(suite, evil.owner, amount)
    active, _, total, owned, *_ = staking.pool(evil.owner)
    assert total == owned
    assert total >= active
    assert active + staking.credit_of(evil.payout) - amount <= left
    assert staking.credit_of(evil.payout) <= VIRTUAL
    assert staking.owner_assets(evil.owner) >= amount - REWARD_DUST


def test_reward__full_commission__multiplies_nothing(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider]
) -> None:
    greedy = make_provider("greedy", stake=1, commission_bps=10_000)
    reward(suite, greedy.owner, TPF)
    assert staking.pool(greedy.owner)[:3] == (1, 0, VIRTUAL)
    assert staking.credit_of(greedy.payout) == TPF


def test_reward__tickets_are_as_they_were(suite: Suite, staking: Contract, dust: str) -> None:
    staking.undelegate(dust, 5 * 10**8, sender=dust)
    ticket = staking.ticket(dust, dust, 0)
    reward(suite, dust, 10**6 * TPF)
    assert staking.ticket(dust, dust, 0) == ticket
    pass_time(21 * DAY)
    assert staking.withdraw_unbonded(dust, 0, sender=dust) == 5 * 10**5


def test_reward__locks_stay_covered_and_are_seized_whole(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    manager: str,
    victim: str,
) -> None:
    """I-3 through a rebase: the owner's part moves with the pool's."""
    small = make_provider("small", stake=10**6, per_order=10**6, in_all=10**6)
    delegate(suite, small.owner, address_of("delegator"), 3 * 10**6)
    staking.lock(small.operator.address, NO_LOCK, 10**6, now() + DAY, 0, sender=manager)
    reward(suite, small.owner, 10**6 * TPF)
    own = staking.owner_assets(small.owner)
    assert own >= 10**6 * TPF * 9 // 40
    assert staking.seize(small.owner, NO_LOCK, victim, victim, 10_000, 0, sender=manager) == 10**6
    assert own - 10**6 - 1 <= staking.owner_assets(small.owner) <= own - 10**6
    assert price_is_fair(staking, small.owner)


# --------------------------------------------------------- stale accounts, step by step


def replay(held: int, steps: Sequence[int]) -> int:
    """What becomes of shares that are carried through rebases one after another."""
    for up in steps:
        held = held * REBASE if up else held // REBASE
    return held


def test_stale_account__carried_in_order(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    wipe: Callable[..., Any],
) -> None:
    """Down and up is not up and down: what a division has cut off does not come back."""
    pool = make_provider("pool", stake=TPF, commission_bps=0).owner
    stale = address_of("stale")
    odd = 123_456_789_012_345_678
    shares = delegate(suite, pool, stale, odd)
    total = staking.pool(pool)[2]
    wipe(pool, 10**8)  # one division
    assert staking.shares_of(pool, stale) == replay(shares, [0])
    reward(suite, pool, 10**6 * TPF)
    steps = [0] + [1] * 2
    assert staking.pool(pool)[2] == replay(total, steps)
    assert staking.shares_of(pool, stale) == replay(shares, steps) != replay(shares, [1, 1, 0])
    wipe(pool, 7)
    times = 0
    while replay(total, steps + [0] * times) > 7 * 10**10:
        times += 1
    steps += [0] * times
    assert staking.pool(pool)[2] == replay(total, steps)
    assert staking.shares_of(pool, stale) == replay(shares, steps)
    assert staking.shares_of(pool, stale) + staking.shares_of(pool, pool) <= staking.pool(pool)[2]


def test_stale_account__wiped__stays_at_nothing_through_rewards(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    wipe: Callable[..., Any],
) -> None:
    pool = make_provider("pool", stake=1, commission_bps=0).owner
    stale, newcomer = address_of("stale"), address_of("newcomer")
    delegate(suite, pool, stale, 10**6 * TPF)
    wipe(pool, 0)
    delegate(suite, pool, newcomer, 1)
    reward(suite, pool, 10**6 * TPF)
    assert staking.shares_of(pool, stale) == 0
    assert staking.owner_assets(pool) == 0
    assert staking.shares_of(pool, newcomer) == staking.pool(pool)[2]
    assert staking.assets_of(pool, newcomer) >= 10**6 * TPF - REWARD_DUST
    with boa.reverts("staking: not that many shares"):
        staking.undelegate(pool, 1, sender=stale)


def test_stale_account__across_words_of_generations(
    suite: Suite,
    staking: Contract,
    make_provider: Callable[..., Provider],
    wipe: Callable[..., Any],
) -> None:
    """256 generations a word: a stale account equals one that never slept, to a share."""
    pool = make_provider("pool", stake=10**6, commission_bps=0).owner
    stale, awake = address_of("stale"), address_of("awake")
    for account in (stale, awake):
        delegate(suite, pool, account, 10**15)
    generations = 0
    while generations < 2 * 256 + 10:
        total = staking.pool(pool)[2]
        if generations % 2:
            wipe(pool, 10**9)
        else:
            reward(suite, pool, 10**24)
        after, steps = staking.pool(pool)[2], 0
        while total > after:
            total, steps = total // REBASE, steps + 1
        while total < after:
            total, steps = total * REBASE, steps + 1
        assert total == after
        generations += max(steps, 1)
        # It is written down again in every generation; shares of nothing, not to buy any.
        if generations % 7 < 3 and staking.shares_of(pool, awake):
            staking.undelegate(pool, 1, sender=awake)
    ours, theirs = staking.shares_of(pool, stale), staking.shares_of(pool, awake)
    assert ours > 0
    # What it has undelegated is a few shares of the billions that are not there any more.
    assert ours >= theirs >= ours - ours // 10**3
    assert ours + theirs + staking.shares_of(pool, pool) <= staking.pool(pool)[2]


def place(staking: Contract, name: str, keys: Sequence[int]) -> Any:
    """Where a word of a map of the pools' generations lies in the storage."""
    pools = staking.compiler_data.storage_layout["storage_layout"]["pools"]
    slot = pools["generations"][name]["slot"]
    for key in keys:
        slot = int.from_bytes(keccak(slot.to_bytes(32, "big") + key.to_bytes(32, "big")), "big")
    return slot


def write(staking: Contract, name: str, keys: Sequence[int], value: int) -> None:
    """Put a word into a map of the generations: what decades of calls would lead to."""
    boa.env.set_storage(staking.address, place(staking, name, keys), value)


@pytest.mark.parametrize(("later", "factor"), [(0b11, REBASE**2), (0b10, 1), (0b01, 1)])
def test_generations__beyond_the_first_word(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], later: int, factor: int
) -> None:
    """An account that slept through 258 rebases has the shares that they left it."""
    pool = make_provider("pool", stake=1, commission_bps=0).owner
    stale = address_of("stale")
    delegate(suite, pool, stale, 1_000)
    before = staking.shares_of(pool, stale)
    assert before == REBASE  # one share is left when it is divided
    # 256 rebases whose up and down cancel, then two more of the next word.
    write(staking, "multiplied", [int(pool, 16), 0], int("01" * 128, 2))
    write(staking, "multiplied", [int(pool, 16), 1], later)
    write(staking, "ages", [int(pool, 16)], 258 << 128)
    assert staking.shares_of(pool, stale) == before * factor


def test_generations__the_last_one_is_used(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider]
) -> None:
    """The limit is met exactly: no rebase is refused before it, and none goes beyond it."""
    pool = make_provider("pool", stake=1, commission_bps=0).owner
    delegate(suite, pool, address_of("delegator"), 10**6)
    for before in range(65_536, 65_528, -1):
        write(staking, "ages", [int(pool, 16)], before << 128)
        with boa.env.anchor():
            try:
                reward(suite, pool, TPF)
            except boa.BoaError:
                continue
            word = boa.env.get_storage(staking.address, place(staking, "ages", [int(pool, 16)]))
            assert (word >> 128) % 2**32 == 65_536
            break
    else:
        pytest.fail("no rebase was made")


def test_generations__limit(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], manager: str
) -> None:
    """At the limit a rebase is refused; leaving is not, however old the account is."""
    pool = make_provider("pool", stake=1, commission_bps=0).owner
    stale = address_of("stale")
    delegate(suite, pool, stale, 10**6)
    write(staking, "ages", [int(pool, 16)], 65_536 << 128)
    with boa.reverts("staking: too many rebases"):
        reward(suite, pool, TPF)
    with boa.reverts("staking: too many rebases"):
        staking.slash(pool, NO_LOCK, 10**6 + 1, sender=manager)
    # One up, one down, all the way: the account is as it was, and can leave in one transaction.
    for word in range(256):
        write(staking, "multiplied", [int(pool, 16), word], int("01" * 128, 2))
    shares = staking.shares_of(pool, stale)
    assert shares == 10**9
    staking.undelegate(pool, shares, sender=stale)
    # The limit of a transaction since Fusaka (EIP-7825).
    assert staking._computation.get_gas_used() + 100_000 < 2**24
    assert staking.ticket(pool, stale, 0)[1] == 10**6


# -------------------------------------------------------------------- F1: price ladders


def test_ladder__raises_no_price_and_takes_no_reward(
    suite: Suite, staking: Contract, make_provider: Callable[..., Provider], token: Contract
) -> None:
    """The attack that took all delegators' rewards at a commission of 0 % (poc_price.py)."""
    evil = make_provider("evil", stake=1_000 * TPF, commission_bps=0)
    owner = evil.owner
    leave_but(staking, owner, 10**9)
    reward(suite, owner, 12_320 * TPF)
    staking.undelegate(owner, staking.shares_of(owner, owner), sender=owner)
    climber = address_of("climber")
    delegate(suite, owner, climber, 1)
    token.transfer(climber, 1_000 * TPF, sender=suite.faucet)
    for _ in range(4):
        bought = 0
        for _ in range(10):
            active, _, total, *_ = staking.pool(owner)
            most = -(-2 * (active + 1) // (total + VIRTUAL)) - 1
            bought += staking.delegate(owner, max(most, 1), sender=climber)
        staking.undelegate(owner, bought, sender=climber)
        assert price_is_fair(staking, owner)
    delegators = [address_of(f"delegator {k}") for k in range(3)]
    for account in delegators:
        delegate(suite, owner, account, 250_000 * TPF)
        assert staking.assets_of(owner, account) >= 250_000 * TPF - 1
    delegate(suite, owner, owner, 1_001 * TPF)
    everything = 751_001 * TPF
    for _ in range(3):
        before = [staking.assets_of(owner, account) for account in delegators]
        credited = staking.credit_of(evil.payout)
        reward(suite, owner, 154_000 * TPF)
        part = 154_000 * TPF * 250_000 * TPF // everything
        for account, had in zip(delegators, before, strict=True):
            gained = staking.assets_of(owner, account) - had
            assert part - part // 10**6 <= gained <= part + 1
        assert staking.credit_of(evil.payout) - credited <= VIRTUAL
