# SPDX-License-Identifier: Apache-2.0
"""Rebases of a pool's shares, down by slashes and up by rewards (I-12, I-13).

What must hold whatever the numbers of shares are: holders own no more than the pool has, a share
costs at most a wei, nobody else's stake changes by a call, and a reward reaches every holder by
its part.
"""

import boa
import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.actions import delegate, now, pass_time, register, reward
from tests.contracts.deploy import DAY, TPF, address_of

pytestmark = pytest.mark.invariant("I-12", "I-13")

NO_LOCK = bytes(32)
VIRTUAL = 1_000
REBASE = 10**6
# What rounding and the virtual shares change for one holder in a reward, in wei.
REWARD_DUST = 2_002


def price_is_fair(staking, provider):
    """A share, virtual ones counted, costs at most a wei."""
    active, _, total, *_ = staking.pool(provider)
    return active + 1 <= total + VIRTUAL


def leave_but(staking, provider, left):
    """The owner leaves all but so many shares."""
    held = staking.shares_of(provider, provider)
    staking.undelegate(provider, held - left, sender=provider)


@pytest.fixture
def dust(make_provider):
    """A pool of a million wei at no commission: 10**9 shares, just enough."""
    return make_provider("dust", stake=10**6, commission_bps=0).owner


@pytest.fixture
def wipe(staking, manager):
    """Slash a pool down to so many wei, active and unbonding together."""

    def down_to(provider, left):
        active, _, _, _, leaving, _ = staking.pool(provider)
        staking.slash(provider, NO_LOCK, active + leaving - left, sender=manager)

    return down_to


# ------------------------------------------------------------------------- up, exact


@pytest.mark.parametrize(("amount", "total"), [(10**9 - 10**6, 10**9), (10**9 - 10**6 + 1, 10**15)])
def test_reward__fewer_shares_than_wei__multiplied(suite, staking, dust, amount, total):
    reward(suite, dust, amount)
    kept = amount * VIRTUAL // (total + VIRTUAL)
    assert staking.pool(dust)[:4] == (10**6 + amount - kept, 0, total, total)
    assert staking.credit_of(address_of("dust's payout")) == kept
    assert price_is_fair(staking, dust)


@pytest.mark.parametrize(("stake", "factor"), [(10**6, 1), (10**6 - 1, REBASE), (1, REBASE)])
def test_reward__few_shares__multiplied(suite, staking, make_provider, stake, factor):
    """Below 10**9 shares the virtual ones would take more than a millionth."""
    few = make_provider("few", stake=stake, commission_bps=0).owner
    reward(suite, few, 1)
    assert staking.pool(few)[2] == stake * VIRTUAL * factor


@pytest.mark.parametrize("left", [1, 999, 10**9])
@pytest.mark.parametrize("amount", [TPF, 12_320 * TPF, 10**8 * TPF])
def test_reward__few_shares_and_much_money(suite, staking, make_provider, left, amount):
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


def test_reward__full_commission__multiplies_nothing(suite, staking, make_provider):
    greedy = make_provider("greedy", stake=1, commission_bps=10_000)
    reward(suite, greedy.owner, TPF)
    assert staking.pool(greedy.owner)[:3] == (1, 0, VIRTUAL)
    assert staking.credit_of(greedy.payout) == TPF


def test_reward__tickets_are_as_they_were(suite, staking, dust):
    staking.undelegate(dust, 5 * 10**8, sender=dust)
    ticket = staking.ticket(dust, dust, 0)
    reward(suite, dust, 10**6 * TPF)
    assert staking.ticket(dust, dust, 0) == ticket
    pass_time(21 * DAY)
    assert staking.withdraw_unbonded(dust, 0, sender=dust) == 5 * 10**5


def test_reward__locks_stay_covered_and_are_seized_whole(
    suite, staking, make_provider, manager, victim
):
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


def replay(held, steps):
    """What becomes of shares that are carried through rebases one after another."""
    for up in steps:
        held = held * REBASE if up else held // REBASE
    return held


def test_stale_account__carried_in_order(suite, staking, make_provider, wipe):
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
    suite, staking, make_provider, wipe
):
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


def test_stale_account__across_words_of_generations(suite, staking, make_provider, wipe):
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
        # It is written down anew in every generation; shares of nothing, not to buy any.
        if generations % 7 < 3 and staking.shares_of(pool, awake):
            staking.undelegate(pool, 1, sender=awake)
    ours, theirs = staking.shares_of(pool, stale), staking.shares_of(pool, awake)
    assert ours > 0
    # What it has undelegated is a few shares of the billions that are not there any more.
    assert ours >= theirs >= ours - ours // 10**3
    assert ours + theirs + staking.shares_of(pool, pool) <= staking.pool(pool)[2]


def place(staking, name, keys):
    """Where a word of a map of the pools lies in the storage."""
    slot = staking.compiler_data.storage_layout["storage_layout"]["pools"][name]["slot"]
    for key in keys:
        slot = int.from_bytes(keccak(slot.to_bytes(32, "big") + key.to_bytes(32, "big")), "big")
    return slot


def write(staking, name, keys, value):
    """Put a word into a map of the pools' storage: what decades of calls would lead to."""
    boa.env.set_storage(staking.address, place(staking, name, keys), value)


@pytest.mark.parametrize(("later", "factor"), [(0b11, REBASE**2), (0b10, 1), (0b01, 1)])
def test_generations__beyond_the_first_word(suite, staking, make_provider, later, factor):
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


def test_generations__the_last_one_is_used(suite, staking, make_provider):
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


def test_generations__limit(suite, staking, make_provider, manager):
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


def test_ladder__raises_no_price_and_takes_no_reward(suite, staking, make_provider, token):
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


# --------------------------------------------------------------- whatever the numbers

# From one wei to a million TPF, every size as likely.
amounts = st.integers(0, 24).flatmap(lambda size: st.integers(10**size // 10 + 1, 10**size))
WHO = range(4)
steps = st.one_of(
    st.tuples(st.just("deposit"), st.sampled_from(WHO), amounts),
    st.tuples(st.just("leave"), st.sampled_from(WHO), st.integers(1, 10**6)),
    st.tuples(st.just("leave"), st.sampled_from(WHO), st.just(10**6)),
    st.tuples(st.just("reward"), st.just(0), amounts),
    st.tuples(st.just("slash"), st.just(0), amounts),
    st.tuples(st.just("slash to"), st.just(0), st.integers(0, 18).map(lambda n: 10**n)),
    st.tuples(st.just("seize"), st.just(0), amounts),
)


class Watch:
    """A pool and its four holders, of whom the first is the owner."""

    def __init__(self, suite, commission_bps):
        self.suite, self.staking = suite, suite.staking
        self.provider = register(
            suite,
            "watched",
            stake=0,
            commission_bps=commission_bps,
            per_order=2**127,
            in_all=2**127,
        )
        self.owner = self.provider.owner
        self.holders = [self.owner, *(address_of(f"watched {k}") for k in range(1, 4))]
        self.commission_bps = commission_bps

    def shares(self):
        return [self.staking.shares_of(self.owner, account) for account in self.holders]

    def assets(self):
        return [self.staking.assets_of(self.owner, account) for account in self.holders]

    def owed(self):
        """Everything that the contract owes to anybody in this test."""
        pool = self.staking.pool(self.owner)
        return (
            pool[0]
            + pool[4]
            + sum(self.staking.credit_of(a) for a in (self.provider.payout, address_of("victim")))
        )

    def step(self, action, who, value):
        """Do one step; check what it may change, and for whom."""
        staking, owner, account = self.staking, self.owner, self.holders[who]
        held, had = self.shares(), self.assets()
        active, _, total, _, leaving, _ = staking.pool(owner)
        slack = self.suite.token.balanceOf(staking.address) - self.owed()
        own = self.holders.index(account)
        if action == "deposit":
            try:
                assert delegate(self.suite, owner, account, value) >= value
            except boa.BoaError as error:
                assert "shares: number above 128 bits" in str(error)
                return
            self.only(own, had, value)
        elif action == "leave":
            amount = held[own] * value // 10**6
            if amount == 0:
                return
            staking.undelegate(owner, amount, sender=account)
            moved = active - staking.pool(owner)[0]
            assert moved <= amount
            self.only(own, had, -moved)
        elif action == "reward":
            reward(self.suite, owner, value)
            part = value - value * self.commission_bps // 10_000
            for k, now_has in enumerate(self.assets()):
                fair = part * held[k] // total if total else 0
                if held[k]:
                    assert abs(now_has - had[k] - fair) <= REWARD_DUST
                else:
                    assert now_has == 0
        elif action in ("slash", "slash to"):
            amount = value if action == "slash" else max(active + leaving - value, 0)
            taken = staking.slash(owner, NO_LOCK, amount, sender=address_of("manager"))
            assert taken == min(amount, active + leaving)
            lost = active - staking.pool(owner)[0]
            for k, now_has in enumerate(self.assets()):
                fair = had[k] * lost // active if active else 0
                assert abs(had[k] - now_has - fair) <= 2
        elif had[0] > 0:
            amount = min(value, had[0])
            manager, victim = address_of("manager"), address_of("victim")
            staking.lock(self.provider.operator.address, NO_LOCK, amount, now(), 0, sender=manager)
            taken = staking.seize(owner, NO_LOCK, victim, victim, 10_000, 0, sender=manager)
            assert taken == amount
            staking.set_lock_limits(2**127, 2**127, sender=owner)
            self.only(0, had, -taken)
        assert slack == self.suite.token.balanceOf(staking.address) - self.owed()

    def only(self, own, had, change):
        """One holder's stake has changed by that, to a wei; that of the others has not."""
        for k, now_has in enumerate(self.assets()):
            if k == own:
                assert had[k] + change - 1 <= now_has <= had[k] + change + 1
            else:
                # Rounding is for the pool: a wei more at most, never less.
                assert had[k] <= now_has <= had[k] + 1

    def check(self):
        """What holds after every step."""
        active, _, total, *_ = self.staking.pool(self.owner)
        assert sum(self.shares()) <= total
        assert sum(self.assets()) <= active
        assert price_is_fair(self.staking, self.owner)


@settings(max_examples=25)
@given(
    commission_bps=st.sampled_from([0, 1_000, 9_999]),
    script=st.lists(steps, min_size=3, max_size=14),
)
def test_any_history__fair_to_everybody(suite, commission_bps, script):
    """Deposits, exits, rewards, slashes and seizures of any size, in any order."""
    watch = Watch(suite, commission_bps)
    for step in script:
        watch.step(*step)
        watch.check()


@settings(max_examples=25)
@given(
    stakes=st.lists(amounts, min_size=2, max_size=4),
    slashed_to=st.one_of(st.none(), st.integers(0, 20).map(lambda n: 10**n)),
    commission_bps=st.integers(0, 10_000),
    amount=amounts,
)
def test_any_reward__every_holder_gets_its_part(suite, stakes, slashed_to, commission_bps, amount):
    """I-13: (1 - commission) times its part, within a millionth and the dust of a few wei."""
    watch = Watch(suite, commission_bps)
    staking, owner = suite.staking, watch.owner
    for account, stake in zip(watch.holders, stakes, strict=False):
        delegate(suite, owner, account, stake)
    if slashed_to is not None:
        active = staking.pool(owner)[0]
        staking.slash(owner, NO_LOCK, max(active - slashed_to, 0), sender=address_of("manager"))
    had, held, total = watch.assets(), watch.shares(), staking.pool(owner)[2]
    credited = staking.credit_of(watch.provider.payout)
    reward(suite, owner, amount)
    part = amount - amount * commission_bps // 10_000
    for k, now_has in enumerate(watch.assets()):
        fair = part * held[k] // total if total else 0
        gained = now_has - had[k]
        assert fair - fair // 10**6 - REWARD_DUST <= gained <= fair + VIRTUAL + 1
    to_payout = staking.credit_of(watch.provider.payout) - credited
    if total:
        assert to_payout - (amount - part) <= min(VIRTUAL, part // 10**6 + 1)
    else:
        assert to_payout == amount
    assert price_is_fair(staking, owner)
