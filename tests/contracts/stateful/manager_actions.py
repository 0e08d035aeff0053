# SPDX-License-Identifier: Apache-2.0
"""Managers in addition to the real ones: locks, seizures, slashes and holds, right and wrong."""

from __future__ import annotations

from tests.contracts.deploy import DAY, LOCK, SLASH
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import BPS, Hold, Lock, Rule, Why
from tests.contracts.stateful.registry_actions import somebody
from tests.contracts.stateful.stake_actions import StakeActions
from tests.contracts.stateful.world import (
    CANDIDATE,
    HOLDERS,
    KEYS,
    PEOPLE,
    STRANGER,
    TENANTS,
    WARDEN,
)


class ManagerActions(StakeActions):
    """A warden that may lock, slash and hold, and a candidate that may some day."""

    # ------------------------------------------------------------------ rules of collateral

    def locking(
        self,
        why: Why,
        manager: str,
        operator: str,
        id: bytes,
        amount: int,
        expires_at: int,
        min_stake: int,
        rule: Rule | None = None,
    ) -> str:
        """What a lock asks for, after what the rule moved already; returns the provider."""
        provider = self.provider_of(operator)
        why.need(self.may(manager, LOCK), "lacks the permission")
        why.need(provider in self.providers, "unknown operator")
        if provider not in self.providers:
            return provider
        state, rule = self.providers[provider], rule or Rule(self.books)
        why.need(rule.at(("active", provider)) >= min_stake, "stake too low")
        if not amount:
            return provider
        locked = self.locked(provider) + amount
        why.need(expires_at >= self.now, "lock is over")
        why.need(expires_at <= self.now + self.p.max_lock, "lock too long")
        why.need(amount <= state.per_order, "limit per order")
        why.need(locked <= state.in_all, "limit in all")
        why.need(locked <= rule.at(("stake", provider, provider)), "own stake too low")
        why.need((manager, provider, id) not in self.locks, "lock exists")
        return provider

    def lock_made(
        self, rule: Rule, manager: str, provider: str, id: bytes, amount: int, expires_at: int
    ) -> None:
        if amount:
            rule.add(("locked", provider), amount)
            self.locks[manager, provider, id] = Lock(amount, expires_at, self.now)

    def lock_ended(self, rule: Rule, manager: str, provider: str, id: bytes) -> None:
        lock = self.locks.pop((manager, provider, id), None)
        if lock:
            rule.add(("locked", provider), -lock.amount)

    def seizing(
        self,
        rule: Rule,
        manager: str,
        provider: str,
        id: bytes,
        victim: str,
        hunter: str,
        victim_bps: int,
        bounty_bps: int,
    ) -> int:
        """I-3, I-4: at most the lock, from the owner alone; the victim, the hunter, the fire."""
        lock = self.locks.get((manager, provider, id))
        self.lock_ended(rule, manager, provider, id)
        if lock is None or self.now > lock.expires_at:
            return 0
        taken = min(lock.amount, rule.at(("stake", provider, provider)))
        to_victim = taken * victim_bps // BPS
        state = self.providers[provider]
        insider = hunter in (provider, state.operator, state.payout)
        bounty = 0 if insider else (taken - to_victim) * bounty_bps // BPS
        burned = taken - to_victim - bounty
        rule.add(("stake", provider, provider), -taken)
        rule.add(("active", provider), -taken)
        rule.add(("credit", victim), to_victim)
        rule.add(("credit", hunter), bounty)
        rule.add(("staking",), -burned)
        rule.add(("supply",), -burned)
        state.in_all -= min(state.in_all, taken)
        self.seized[provider] += taken
        self.providers[provider].rounded += 1
        self.rounding(provider)
        return taken

    def slashing(self, rule: Rule, provider: str, wanted: int) -> int:
        """I-4: pro rata from all, active and unbonding, burned whole."""
        active, unbonding = self.books["active", provider], self.books["unbonding", provider]
        pool = active + unbonding
        taken = min(wanted, pool)
        if not taken:
            return 0
        for account in HOLDERS:
            stake = ("stake", provider, account)
            rule.add(stake, -(self.books[stake] * taken // pool), 3)
        for key in self.tickets:
            if key[1] == provider:
                rule.add(key, -(self.books[key] * taken // pool), 3)
        rule.add(("active", provider), -(active * taken // pool), 2)
        rule.add(("unbonding", provider), -(unbonding * taken // pool), 2)
        rule.add(("staking",), -taken)
        rule.add(("supply",), -taken)
        self.providers[provider].slashed = True
        self.rounding(provider)
        return taken

    # ------------------------------------------------------------------------------ actions

    @action(3, somebody)
    def lock(self) -> None:
        """At and around every bound."""
        provider = self.pick(self.registered)
        manager = self.pick((WARDEN,) * 8 + (CANDIDATE,))
        state = self.providers[provider]
        operator = state.operator if self.chance(0.95) else self.pick([*KEYS])
        spare = max(0, self.books["stake", provider, provider] - self.locked(provider))
        room = min(spare, max(0, state.in_all - self.locked(provider)), state.per_order)
        amount = self.pick(
            (0, room // 2, room // 3, room, room, spare + 1, state.per_order + 1, room + 1)
        )
        longest = self.now + self.p.max_lock
        soon = self.now + self.choices.between(0, 2 * DAY)
        expires_at = self.pick((soon, soon, soon, self.now, self.now - 1, longest, longest + 1))
        active = self.books["active", provider]
        min_stake = self.pick((0, 0, 0, active, active + 1))
        known = [id for m, p, id in self.locks if (m, p) == (manager, provider)]
        id = known[0] if known and self.chance(0.1) else self.word("order")
        self.lock_by(manager, operator, id, amount, expires_at, min_stake)

    def lock_by(
        self, manager: str, operator: str, id: bytes, amount: int, expires_at: int, least: int
    ) -> bool:
        why, rule = Why(), Rule(self.books)
        provider = self.locking(why, manager, operator, id, amount, expires_at, least)
        if not why.reasons:
            self.lock_made(rule, manager, provider, id, amount, expires_at)
        args = (operator, id, amount, expires_at, least)
        return self.act("staking.lock", args, manager, why, rule)

    def wardens(self) -> list[tuple[str, str, bytes]]:
        return [key for key in self.locks if key[0] in (WARDEN, CANDIDATE)]

    @action(1.0, lambda self: self.wardens())
    def unlock(self) -> None:
        manager, provider, id = self.pick(self.wardens())
        rule = Rule(self.books)
        self.lock_ended(rule, manager, provider, id)
        self.act("staking.unlock", (provider, id), manager, Why(), rule)
        assert self.value == self.providers[provider].payout

    @action(1.5, lambda self: self.wardens())
    def seize(self) -> None:
        manager, provider, id = self.pick(self.wardens())
        state = self.providers[provider]
        victim = self.pick((TENANTS[0], *PEOPLE))
        insiders = [a for a in (provider, state.payout) if a in PEOPLE]
        hunter = self.pick((STRANGER, TENANTS[1], *insiders))
        victim_bps = self.pick((0, 1, 3_333, 8_000, BPS, BPS + 1))
        bounty_bps = self.pick((0, 1, 3_333, 5_000, 5_000, 5_001))
        why, rule = Why(), Rule(self.books)
        why.need(victim_bps <= BPS, "no reason")
        why.need(bounty_bps <= BPS // 2, "no reason")
        taken = 0
        if not why.reasons:
            taken = self.seizing(
                rule, manager, provider, id, victim, hunter, victim_bps, bounty_bps
            )
        args = (provider, id, victim, hunter, victim_bps, bounty_bps)
        if self.act("staking.seize", args, manager, why, rule):
            assert self.value == taken, "I-3: what a seizure takes"

    @action(2, lambda self: self.locks)
    def release(self) -> None:
        """Anyone, once a lock has expired; a second early."""
        key = self.pick([*self.locks])
        lock = self.locks[key]
        # A juror's lock is long: everything else would be over as well.
        far = lock.expires_at > self.now + 8 * DAY
        self.maybe_go(0.03 if far else 0.5, lock.expires_at + self.pick((1, 1, 1, 0)))
        self.release_lock(key)

    def release_lock(self, key: tuple[str, str, bytes]) -> bool:
        why, rule = Why(), Rule(self.books)
        why.need(self.now > self.locks[key].expires_at, "lock has not expired")
        if not why.reasons:
            self.lock_ended(rule, *key)
        return self.act("staking.release", key, STRANGER, why, rule)

    @action(0.2, somebody)
    def end_locks_of_others(self) -> None:
        """Nobody ends or takes a lock that another manager made."""
        others = [key for key in self.locks if key[0] not in (WARDEN, CANDIDATE)]
        if not others:
            return
        manager, provider, id = self.pick(others)
        del manager
        if self.chance(0.5):
            self.act("staking.unlock", (provider, id), WARDEN, Why(), Rule(self.books))
        else:
            args = (provider, id, WARDEN, WARDEN, BPS, 0)
            self.act("staking.seize", args, WARDEN, Why(), Rule(self.books))

    @action(0.5, somebody)
    def slash(self) -> None:
        provider = self.pick(self.registered)
        manager = self.pick((WARDEN,) * 8 + (CANDIDATE, STRANGER))
        pool = self.books["active", provider] + self.books["unbonding", provider]
        amount = self.pick(
            (0, 1, pool // 10, pool // 3, pool - pool // 10**9, max(pool, 1) - 1, pool, pool + 1)
        )
        amount = amount if self.chance(0.4) else pool // self.pick((20, 50, 1_000))
        known = [id for m, p, id in self.locks if (m, p) == (manager, provider)]
        self.slash_by(manager, provider, self.pick([*known, bytes(32)]), amount)

    def slash_by(self, manager: str, provider: str, id: bytes, amount: int) -> bool:
        """An active manager up to the pool; a removed one at most the lock that it made before."""
        why, rule = Why(), Rule(self.books)
        wanted = self.slashable(why, manager, provider, id, amount)
        taken = 0
        if not why.reasons:
            taken = self.slashing(rule, provider, wanted)
            self.lock_ended(rule, manager, provider, id)
        done = self.act("staking.slash", (provider, id, amount), manager, why, rule)
        if done:
            assert self.value == taken, "I-4: what a slash takes"
            self.hold_ended(manager, provider)
        return done

    def slashable(self, why: Why, manager: str, provider: str, id: bytes, amount: int) -> int:
        known = self.managers.get(manager)
        if self.may(manager, SLASH):
            return amount
        late = (
            known
            and known.removed_at
            and known.permissions & SLASH
            and known.removed_at >= known.active_from
            and self.now < known.removed_at + self.p.unbonding
        )
        why.need(late, "lacks the permission")
        lock = self.locks.get((manager, provider, id))
        why.need(lock, "no such lock")
        why.need(lock is None or self.now <= lock.expires_at, "lock is over")
        return min(amount, lock.amount) if lock else 0

    # -------------------------------------------------------------------------------- holds

    def hold_ended(self, manager: str, provider: str) -> None:
        hold = self.holds.get(provider)
        if hold and hold.manager == manager:
            del self.holds[provider]

    def holding(self, why: Why, manager: str, operator: str) -> str:
        """What a hold asks for; returns the provider."""
        provider = self.provider_of(operator)
        why.need(self.may(manager, SLASH), "lacks the permission")
        why.need(provider in self.providers, "unknown operator")
        held = self.held(provider)
        why.need(not held or held.manager == manager, "held by another manager")
        return provider

    def hold_made(self, manager: str, provider: str) -> None:
        commission = self.providers[provider].commission_at(self.now)
        backing = {a: self.books["stake", provider, a] for a in HOLDERS}
        self.holds[provider] = Hold(manager, commission, self.now, backing)

    @action(0.15, somebody)
    def hold(self) -> None:
        """A manager that never settles: exits must not care."""
        operator = self.operator_of(self.pick(self.registered))
        manager = self.pick((WARDEN, WARDEN, WARDEN, STRANGER, CANDIDATE))
        why = Why()
        provider = self.holding(why, manager, operator)
        if self.act("staking.hold", (operator,), manager, why):
            self.hold_made(manager, provider)
            wanted = (provider, self.books["active", provider], self.seized[provider])
            assert self.value == wanted, "what a hold tells"

    @action(2, lambda self: any(h.manager == WARDEN for h in self.holds.values()))
    def free(self) -> None:
        provider = self.pick([p for p, h in self.holds.items() if h.manager == WARDEN])
        sender = self.pick((WARDEN, WARDEN, WARDEN, STRANGER))
        why = Why()
        why.need(sender == WARDEN, "not the holder")
        if self.act("staking.free", (provider,), sender, why):
            self.hold_ended(WARDEN, provider)
