# SPDX-License-Identifier: Apache-2.0
"""What the machines have in common: acting on chain and model at once, and the rules of stake.

The model says beforehand whether an action is refused and why; the contracts must agree to the
letter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import boa
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from provider_agent.protocol.messages import OperatorConsent
from provider_agent.protocol.terms import ZERO_ADDRESS
from tests.contracts.stateful.chain import EXECUTED, Chain
from tests.contracts.stateful.market import (
    CANDIDATES,
    DELEGATORS,
    KEYS,
    NAMES,
    OWNERS,
    PAYOUTS,
    STRANGER,
    WARDEN,
    Market,
    signature,
)
from tests.contracts.stateful.model import Lock, Provider, Refused, Staking

T = TypeVar("T")
Data = st.DataObject
DATA = st.data()

FAR = 2**64 - 1
STAKES = st.one_of(st.integers(1, 10**6), st.integers(10**16, 10**22))

# Hostile actions come in every third step, so that most steps get somewhere.
hostile = precondition(lambda self: self.steps % 3 == 0)


def name_of(value: Any) -> str:
    """A short form of an argument, for notes."""
    if isinstance(value, str):
        return NAMES.get(value, value)
    if isinstance(value, bytes):
        return value.hex()[:8]
    if isinstance(value, tuple):
        return f"({', '.join(map(name_of, value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(name_of, value))}]"
    return str(value)


class StakingMachine(RuleBasedStateMachine):
    """Providers and delegators come and go; what they earn or lose is added by a subclass."""

    market: ClassVar[Market]
    # Views cost more than transactions: all of them are compared after so many steps.
    SWEEP_EVERY: ClassVar[int] = 25

    def __init__(self) -> None:
        super().__init__()
        self._anchor = boa.env.anchor()
        self._anchor.__enter__()
        suite = self.market.suite
        self.chain = Chain(suite)
        self.owner = suite.owner
        self.addresses = self.chain.addresses
        self.staking = Staking(suite.parameters, suite.owner)
        active_from = self.market.deployed_at
        self.staking.managers = {a: (bits, active_from) for a, bits in suite.managers.items()}
        self.donated = {"token": 0, "payment": 0}
        self.supply = self.chain.view("token", "totalSupply")
        self.fresh = 0
        self.steps = 0
        self.changed = True

    # What a subclass adds

    def moments(self) -> list[int]:
        """Every time still to come at which something changes, the nearest first."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Compare everything that the contracts say with the model."""
        raise NotImplementedError

    def everybody_leaves(self) -> None:
        """I-2: from any state, by calls that anyone can make for everybody, to the last unit."""
        raise NotImplementedError

    def minted(self) -> int:
        """TPF wei minted by the rules since the start."""
        return 0

    # ------------------------------------------------------------------------------- tools

    @property
    def now(self) -> int:
        return self.chain.now

    def number(self) -> int:
        """A number not used before in this example."""
        self.fresh += 1
        return self.fresh

    def act(
        self,
        target: str,
        args: tuple[Any, ...],
        sender: str,
        model: Callable[[], Any],
        refused: str | None = None,
    ) -> bool:
        """Do one thing on both sides; True if it was done, False if both refused it alike.

        `target` is `contract.function`. With `refused` the action is hostile: it must be refused
        for this reason.
        """
        contract, function = target.split(".")
        note(f"{self.now}: {name_of(sender)} {target}{name_of(args)}")
        value, reason = None, None
        try:
            value = model()
        except Refused as refusal:
            reason = str(refusal)
        if refused is not None:
            assert reason == refused, f"the model says {reason!r}"
        outcome = self.chain.send(contract, function, args, sender)
        assert outcome.reason == reason, f"{target}: {outcome.reason!r}, expected {reason!r}"
        self.changed |= reason is None
        if reason is None:
            assert outcome.value == value, f"{target} returned {outcome.value}, expected {value}"
        return reason is None

    def refuse(self, target: str, args: tuple[Any, ...], sender: str, reason: str) -> None:
        """A hostile action that no state of the model allows."""

        def model() -> None:
            raise Refused(reason)

        self.act(target, args, sender, model)

    def pick(self, data: Data, choices: Sequence[T]) -> T:
        return data.draw(st.sampled_from(choices))

    @property
    def registered(self) -> list[str]:
        return list(self.staking.providers)

    def stakes(self) -> list[tuple[str, str, int]]:
        """(provider, account, active shares) of everybody with shares."""
        return [
            (name, str(account), shares)
            for name, pool in self.staking.providers.items()
            for account, shares in pool.active.held.items()
            if shares
        ]

    def tickets(self) -> list[tuple[str, str, int, int]]:
        """(provider, account, number, ready at) of every open ticket."""
        return [
            (name, account, number, ready_at)
            for name, pool in self.staking.providers.items()
            for (account, number), ready_at in pool.ready_at.items()
        ]

    def free_operators(self) -> list[str]:
        return [a for a in KEYS if self.staking.provider_of(a) == ZERO_ADDRESS]

    def consent(self, owner: str, operator: str, expires: int, signer: str) -> bytes:
        message = OperatorConsent(owner, operator, expires)
        return signature(self.market.staking, message, signer)

    def enrol(self, owner: str, operator: str, stake: int) -> None:
        """Register and stake, with limits that allow much."""
        args = (operator, PAYOUTS[0], 1_000, 10**24, 10**25, "https://agent.example", FAR)
        self.act(
            "staking.register",
            (*args, self.consent(owner, operator, FAR, operator)),
            owner,
            lambda: self.staking.register(self.now, owner, *args, True),
        )
        self.stake(owner, owner, stake)

    def stake(self, account: str, provider: str, amount: int) -> None:
        self.act(
            "staking.delegate",
            (provider, amount),
            account,
            lambda: self.staking.delegate(account, provider, amount),
        )

    # ------------------------------------------------------------------------------ registry

    @precondition(lambda self: len(self.registered) < len(OWNERS))
    @rule(data=DATA, commission=st.sampled_from([0, 1, 2_500, 10_000, 10_001]), soon=st.booleans())
    def register(self, data: Data, commission: int, soon: bool) -> None:
        owner = self.pick(data, [a for a in OWNERS if a not in self.staking.providers])
        operator = self.pick(data, self.free_operators())
        expires = self.now if soon else FAR
        payout = self.pick(data, (owner, *PAYOUTS))
        per_order, in_all = data.draw(STAKES), data.draw(STAKES)
        args = (operator, payout, commission, per_order, in_all, f"agent {owner}", expires)
        self.act(
            "staking.register",
            (*args, self.consent(owner, operator, expires, operator)),
            owner,
            lambda: self.staking.register(self.now, owner, *args, True),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def set_operator(self, data: Data) -> None:
        owner = self.pick(data, self.registered)
        operator = self.pick(data, [*KEYS])
        self.act(
            "staking.set_operator",
            (operator, FAR, self.consent(owner, operator, FAR, operator)),
            owner,
            lambda: self.staking.set_operator(self.now, owner, operator, FAR, True),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA, bps=st.one_of(st.integers(0, 10_000), st.just(10_001)))
    def set_commission(self, data: Data, bps: int) -> None:
        owner = self.pick(data, self.registered)
        self.act(
            "staking.set_commission",
            (bps,),
            owner,
            lambda: self.staking.set_commission(self.now, owner, bps),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def set_lock_limits(self, data: Data) -> None:
        """Limits at, just above or just below what is locked now, or wide."""
        owner = self.pick(data, self.registered)
        locked = self.staking.locked(owner)
        limits = st.sampled_from([0, locked, locked + 1, max(locked, 1) - 1, 10**18, 10**24])
        per_order, in_all = data.draw(limits), data.draw(limits)
        self.act(
            "staking.set_lock_limits",
            (per_order, in_all),
            owner,
            lambda: self.staking.set_lock_limits(owner, per_order, in_all),
        )

    # --------------------------------------------------------------------------------- stake

    @precondition(lambda self: self.registered)
    @rule(data=DATA, amount=STAKES)
    def delegate(self, data: Data, amount: int) -> None:
        provider = self.pick(data, self.registered)
        self.stake(self.pick(data, (provider, *DELEGATORS)), provider, amount)

    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def delegate_next_to_nothing(self, data: Data) -> None:
        """The least that still buys a share, and one wei less."""
        provider = self.pick(data, self.registered)
        least = -(
            -self.staking.providers[provider].active.price.numerator
            // self.staking.providers[provider].active.price.denominator
        )
        self.stake(self.pick(data, DELEGATORS), provider, least - data.draw(st.integers(0, 1)))

    @precondition(lambda self: self.stakes())
    @rule(data=DATA)
    def undelegate(self, data: Data) -> None:
        provider, account, held = self.pick(data, self.stakes())
        shares = data.draw(st.one_of(st.sampled_from([held, held + 1, 0]), st.integers(1, held)))
        self.leave(provider, account, shares)

    def leave(self, provider: str, account: str, shares: int) -> bool:
        return self.act(
            "staking.undelegate",
            (provider, shares),
            account,
            lambda: self.staking.undelegate(self.now, account, provider, shares),
        )

    @precondition(lambda self: any(self.staking.locked(p) for p in self.registered))
    @rule(data=DATA)
    def undelegate_down_to_the_lock(self, data: Data) -> None:
        """The owner leaves as much as its locks allow, or one share more (I-3)."""
        provider = self.pick(data, [p for p in self.registered if self.staking.locked(p)])
        active = self.staking.providers[provider].active
        # The price moves as shares leave, so this comes within a few shares of the border.
        spare = active.held[provider] - active.shares_gone(self.staking.locked(provider))
        shares = spare + data.draw(st.integers(-2, 2))
        if 0 < shares <= active.held[provider]:
            self.leave(provider, provider, shares)

    @precondition(lambda self: self.tickets())
    @rule(data=DATA, patient=st.booleans())
    def withdraw_unbonded(self, data: Data, patient: bool) -> None:
        provider, account, number, ready_at = self.pick(data, self.tickets())
        if patient:
            self.chain.now = max(self.now, ready_at)
        self.collect_ticket(provider, account, number)

    def collect_ticket(self, provider: str, account: str, number: int) -> None:
        before = self.chain.view("token", "balanceOf", account)
        paid = 0

        def model() -> int:
            nonlocal paid
            paid = self.staking.withdraw_unbonded(self.now, account, provider, number)
            return paid

        self.act("staking.withdraw_unbonded", (provider, number), account, model)
        assert self.chain.view("token", "balanceOf", account) == before + paid

    @rule(data=DATA)
    def withdraw_stake_credit(self, data: Data) -> None:
        owed = sorted(a for a, amount in self.staking.credits.items() if amount)
        account = self.pick(data, [*owed, STRANGER])
        self.act("staking.withdraw", (), account, lambda: self.staking.withdraw(account))

    # ----------------------------------------------------------------------- managers' calls
    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def slash(self, data: Data) -> None:
        provider = self.pick(data, self.registered)
        manager = self.pick(data, (WARDEN, WARDEN, WARDEN, *CANDIDATES))
        pool = self.staking.providers[provider]
        stake = pool.active.assets + pool.unbonding.assets
        amounts = [0, 1, stake // 3, stake - stake // 10**9, max(stake, 1) - 1, stake, stake + 1]
        self.punish(manager, provider, self.pick(data, amounts))

    def punish(self, manager: str, provider: str, amount: int) -> None:
        """Slash, and check that it took pro rata (I-4) and burned all of it."""
        pool = self.staking.providers[provider]
        stake = pool.active.assets + pool.unbonding.assets
        holdings = [
            (fund, who, fund.worth(n))
            for fund in (pool.active, pool.unbonding)
            for who, n in fund.held.items()
        ]
        taken = 0

        def model() -> int:
            nonlocal taken
            taken = self.staking.slash(self.now, manager, provider, amount)
            return taken

        if not self.act("staking.slash", (provider, amount), manager, model) or not taken:
            return
        self.check_supply()
        for fund, who, before in holdings:
            after = fund.worth(fund.held[who]) if who in fund.held else 0
            fair = before * (stake - taken) // stake
            assert abs(after - fair) <= 3, "I-4: a slash is pro rata"

    @precondition(lambda self: self.staking.locks)
    @rule(data=DATA)
    def release(self, data: Data) -> None:
        manager, provider, id = self.pick(data, list(self.staking.locks))
        self.act(
            "staking.release",
            (manager, provider, id),
            STRANGER,
            lambda: self.staking.release(self.now, manager, provider, id),
        )

    # ---------------------------------------------------------------------------------- time

    @precondition(lambda self: self.moments())
    @rule(data=DATA, off=st.integers(-1, 1))
    def jump(self, data: Data, off: int) -> None:
        """To the second at which something changes, or beside it."""
        # The nearest ones come first, so that far ones do not end everything at once.
        time = max(self.now, self.pick(data, self.moments()[:6]) + off)
        note(f"{self.now}: jump to {time}")
        self.chain.now = time

    # ---------------------------------------------------------------------------- invariants

    def check_supply(self) -> None:
        """I-4: what is taken is burned, less what went to a victim and a hunter."""
        supply = self.chain.view("token", "totalSupply")
        assert supply == self.supply + self.minted() - self.staking.burned, (
            "I-4: a slash is burned whole"
        )

    @invariant()
    def locks_are_covered(self) -> None:
        """I-3: but for a slash, no owner's locks exceed its own assets or MAX_LOCK."""
        for name, pool in self.staking.providers.items():
            if self.staking.owner_worth(name) >= self.staking.locked(name):
                pool.slashed_below_locks = False
            assert not self.uncovered(name, pool), "I-3: locks exceed the owner's assets"
        latest = self.now + self.staking.p.max_lock
        assert all(lock.expires_at <= latest for lock in self.staking.locks.values()), "I-3"

    def uncovered(self, name: str, pool: Provider) -> bool:
        covered = self.staking.owner_worth(name) >= self.staking.locked(name)
        return not covered and not pool.slashed_below_locks

    @invariant()
    def views_agree(self) -> None:
        self.steps += 1
        if self.steps % self.SWEEP_EVERY == 0:
            self.sweep()

    def sweep_staking(self) -> None:
        """Every view of Staking, and I-1 by the views alone."""
        view, staking = self.chain.view, self.staking
        owed = 0
        for name, pool in staking.providers.items():
            owed += self.sweep_pool(name, pool)
        for (manager, provider, id), lock in staking.locks.items():
            assert view("staking", "lock_of", manager, provider, id) == (
                lock.amount,
                lock.expires_at,
            )
        for manager in {WARDEN, *CANDIDATES, *self.market.suite.managers}:
            assert view("staking", "manager_of", manager) == staking.managers.get(manager, (0, 0))
        credited = {a: view("staking", "credit_of", a) for a in self.market.people}
        assert credited == {a: staking.credits[a] for a in credited}
        assert owed + sum(credited.values()) == staking.balance, "I-1: TPF, by the views"

    def sweep_pool(self, name: str, pool: Provider) -> int:
        """The views of one provider; returns what its pool holds."""
        view, staking = self.chain.view, self.staking
        active, unbonding = pool.active, pool.unbonding
        seen = view("staking", "pool", name)
        assert seen == (
            active.assets,
            staking.locked(name),
            active.shares,
            active.held[name],
            unbonding.assets,
            unbonding.shares,
        ), f"pool of {name_of(name)}"
        assert view("staking", "operator_of", name) == pool.operator
        assert view("staking", "provider_of", pool.operator) == name
        assert view("staking", "stake_of", name) == (active.assets, staking.seized[name])
        assert view("staking", "payout_of", name) == pool.payout
        assert view("staking", "lock_limits", name) == (pool.per_order, pool.in_all)
        for time in (max(1, pool.commission_since) - 1, pool.commission_since):
            assert view("staking", "commission_at", name, time) == pool.commission_at(time)
        assert view("staking", "owner_assets", name) == staking.owner_worth(name)
        for account in {DELEGATORS[0], *active.held, *pool.tickets}:
            shares = active.held[account]
            assert view("staking", "shares_of", name, account) == shares
            assert view("staking", "assets_of", name, account) == active.worth(shares)
            assert view("staking", "ticket_count", name, account) == pool.tickets[str(account)]
        for (account, number), ready_at in pool.ready_at.items():
            shares, assets, ready = view("staking", "ticket", name, account, number)
            live = (account, number) in unbonding.held
            held = unbonding.held[account, number] if live else shares
            worth = unbonding.worth(held) if live else 0
            assert (shares, assets, ready) == (held, worth, ready_at)
        return int(seen[0] + seen[4])

    # ----------------------------------------------------------------------------- the end

    def teardown(self) -> None:
        try:
            self.everybody_leaves()
        finally:
            self._anchor.__exit__(None, None, None)

    def all_stake_leaves(self) -> None:
        """I-2: everybody takes its stake and its credit; nothing stays but dust."""
        # Delegators need not wait for locks, owners must.
        self.all_undelegate([s for s in self.stakes() if s[0] != s[1]])
        self.let_locks_end()
        self.all_undelegate(self.stakes())
        assert not self.stakes(), "I-2: stake cannot leave"
        for provider, account, number, ready_at in self.tickets():
            self.chain.now = max(self.now, ready_at)
            self.collect_ticket(provider, account, number)
        for account in [a for a, amount in self.staking.credits.items() if amount]:
            self.act("staking.withdraw", (), account, lambda a=account: self.staking.withdraw(a))
        assert not self.staking.credits.total() and not self.tickets() and not self.staking.locks
        for name, pool in self.staking.providers.items():
            for fund in (pool.active, pool.unbonding):
                left = fund.shares - fund.unowned
                assert not left, f"I-2: shares left with {name_of(name)}"
                assert fund.assets <= fund.dust_bound, "I-2: more than dust stays behind"
                EXECUTED["dust"] = max(EXECUTED["dust"], fund.assets)

    def all_undelegate(self, stakes: list[tuple[str, str, int]]) -> None:
        for provider, account, shares in stakes:
            assert self.leave(provider, account, shares), "I-2: stake cannot leave"

    def let_locks_end(self) -> None:
        locks: list[tuple[tuple[str, str, bytes], Lock]] = sorted(
            self.staking.locks.items(), key=lambda entry: entry[1].expires_at
        )
        for key, lock in locks:
            self.chain.now = max(self.now, lock.expires_at + 1)
            self.act(
                "staking.release",
                key,
                STRANGER,
                lambda key=key: self.staking.release(self.now, *key),
            )
