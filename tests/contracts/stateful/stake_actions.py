# SPDX-License-Identifier: Apache-2.0
"""Stake comes and goes: entries, shares, tickets, credits; and the ladders that thieves climb."""

from __future__ import annotations

from typing import Any

from tests.contracts import actions
from tests.contracts.deploy import TPF
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import FAR, Rule, Why
from tests.contracts.stateful.registry_actions import RegistryActions, somebody
from tests.contracts.stateful.wealth import Key
from tests.contracts.stateful.world import (
    DELEGATORS,
    HOLDERS,
    OWNERS,
    PEOPLE,
    SIGNERS,
    STRANGER,
    UNLIMITED,
    holders_of,
)

LADDER = 25


class StakeActions(RegistryActions):
    """What holders of stake do."""

    def settling(self, provider: str, rule: Rule) -> bool:
        """What asking the holder to settle does to the books; True if it claims or frees."""
        raise NotImplementedError

    def settled(self, provider: str) -> None:
        """The same for the machine's own records, once the call went through."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- in

    @action(9, somebody)
    def delegate(self) -> None:
        provider = self.pick(self.registered)
        account = self.pick((provider, *DELEGATORS, *OWNERS))
        amount = self.pick((1, self.choices.log(1, 10**6), self.choices.log(10**15, 10**22)))
        self.stake(account, provider, self.pick((amount, 2_000 * TPF)))

    @action(6, lambda self: self.poor_owners())
    def own_stake(self) -> None:
        """Owners that could not put up a bond."""
        owner = self.pick(self.poor_owners())
        self.stake(owner, owner, self.pick((1_000, 3_000, 10_000)) * TPF)

    def poor_owners(self) -> list[str]:
        need = 2 * self.p.bond
        have = {a: self.books["stake", a, a] + self.books["entry", a, a] for a in self.registered}
        return [a for a in self.registered if have[a] - self.books["locked", a] < need]

    @action(0.4)
    def delegate_to_nobody(self) -> None:
        provider = self.pick([a for a in HOLDERS if a not in self.providers])
        self.stake(self.pick(DELEGATORS), provider, 10**18)

    def stake(
        self, account: str, provider: str, amount: int, permit: Any = None, allowed: int = UNLIMITED
    ) -> bool:
        """Delegate, with an allowance or a permit."""
        why = Why()
        why.need(allowed >= amount, "insufficient allowance")
        why.need(amount > 0, "amount too small")
        why.need(provider in self.providers, "not registered")
        why.need(self.books["tpf", account] >= amount, "exceeds balance")
        rule = Rule(self.books)
        if provider in self.providers:
            ended = self.settling(provider, rule)
            waits = self.held(provider) and not ended
            self.enter(rule, account, provider, amount, bool(waits))
        args = (provider, amount)
        target = "staking.delegate"
        if permit:
            target, args = "staking.delegate_with_permit", (*args, *permit)
        self.rounding(provider)
        done = self.act(target, args, account, why, rule)
        if done:
            self.settled(provider)
            waits = rule.moved.get(("entry", provider, account), 0) > 0
            assert (self.value == 0) == waits, "an entry has no shares"
        return done

    def enter(self, rule: Rule, account: str, provider: str, amount: int, waits: bool) -> None:
        rule.add(("tpf", account), -amount)
        rule.add(("staking",), amount)
        if waits:
            rule.add(("entry", provider, account), amount)
        else:
            rule.add(("stake", provider, account), amount)
            rule.add(("active", provider), amount)

    def rounding(self, provider: str) -> None:
        """A call that may leave a wei to everybody in a pool."""
        self.rounded[provider] += 1
        if provider in self.holds:
            self.holds[provider].calls += 1

    @action(0.8, somebody)
    def delegate_with_permit(self) -> None:
        """Signed for now, too late, or for less; a failed permit leaves the allowance."""
        account, signer = self.pick([*SIGNERS.items()])
        amount = self.choices.log(1, 10**20)
        deadline = self.pick((FAR, FAR, self.now, self.now - 1))
        token = self.world.suite.token
        v, r, s = actions.permit(
            token, signer, self.addresses["staking"], self.pick((amount, amount - 1)), deadline
        )
        provider = self.pick(self.registered)
        spared = (v, r, s) if self.chance(0.8) else (v, s, r)
        self.permitted(account, provider, amount, (deadline, *spared))

    def permitted(self, account: str, provider: str, amount: int, permit: Any) -> None:
        """The allowance decides, whatever became of the permit."""
        spender = self.addresses["staking"]
        kept = self.chain.snapshot()
        self.chain.send("token", "permit", (account, spender, amount, *permit), STRANGER)
        allowed = self.view("token", "allowance", account, spender)
        self.chain.revert(kept)
        self.stake(account, provider, amount, permit, allowed)
        self.chain.send("token", "approve", (spender, UNLIMITED), account)

    @action(0.5, somebody)
    def climb(self) -> None:
        """Deposits and leaves that round against the pool, again and again."""
        provider, account = self.pick(self.registered), self.pick((*DELEGATORS, *OWNERS))
        for _ in range(LADDER):
            # The most that buys no more than one share less would.
            amount = self.pick((1, 2, 3, self.books.price(provider)))
            if not self.stake(account, provider, amount):
                return
            if self.chance(0.3) and self.books["stake", provider, account]:
                self.leave_pool(provider, account, self.pick((1, 2, 1_000)))

    @action(6, lambda self: self.entries())
    def activate(self) -> None:
        """By a stranger, as soon as it can be, or before."""
        provider, account = self.pick(self.entries())
        self.activate_entry(provider, account)

    @action(0.2, somebody)
    def activate_nothing(self) -> None:
        provider, account = self.pick(self.registered), self.pick(HOLDERS)
        self.activate_entry(provider, account)

    def entries(self) -> list[tuple[str, str]]:
        return [(p, a) for p in self.providers for a in holders_of(p) if self.books["entry", p, a]]

    def activate_entry(self, provider: str, account: str) -> bool:
        amount = self.books["entry", provider, account]
        rule = Rule(self.books)
        ended = self.settling(provider, rule)
        why = Why()
        why.need(amount, "no entry")
        why.need(ended or not self.held(provider), "epoch is unsettled")
        rule.move(("entry", provider, account), ("stake", provider, account), amount)
        rule.add(("active", provider), amount)
        self.rounding(provider)
        done = self.act("staking.activate", (provider, account), STRANGER, why, rule)
        if done:
            self.settled(provider)
        return done

    # --------------------------------------------------------------------------------- out

    @action(1.5, somebody)
    def take_back(self) -> None:
        waiting = self.entries()
        provider, account = (
            self.pick(waiting)
            if waiting and self.chance(0.9)
            else (self.pick(self.registered), self.pick(HOLDERS))
        )
        self.take_entry(provider, account, self.pick((account, account, *PEOPLE)))

    def take_entry(self, provider: str, account: str, receiver: str) -> bool:
        amount = self.books["entry", provider, account]
        why = Why()
        why.need(amount, "no entry")
        rule = Rule(self.books)
        rule.move(("entry", provider, account), ("tpf", receiver), amount)
        rule.add(("staking",), -amount)
        args = (provider,) if receiver == account else (provider, receiver)
        return self.act("staking.take_back", args, account, why, rule)

    def stakes(self) -> list[tuple[str, str]]:
        return [(p, a) for p in self.providers for a in holders_of(p) if self.books["stake", p, a]]

    @action(5, lambda self: self.stakes())
    def undelegate(self) -> None:
        provider, account = self.pick(self.stakes())
        held = self.view("staking", "shares_of", provider, account)
        shares = self.pick((held, held // 2, held // 10, 1, self.choices.log(1, held)))
        self.leave_pool(provider, account, shares)

    @action(0.4, lambda self: self.stakes())
    def undelegate_too_much(self) -> None:
        provider, account = self.pick(self.stakes())
        held = self.view("staking", "shares_of", provider, account)
        self.leave_pool(provider, account, self.pick((0, held + 1, 2**255)))

    @action(1.0, lambda self: any(self.books["locked", p] for p in self.providers))
    def undelegate_down_to_the_lock(self) -> None:
        """The owner leaves as much as its locks allow, or a little more (I-3)."""
        owner = self.pick([p for p in self.providers if self.books["locked", p]])
        held = self.view("staking", "shares_of", owner, owner)
        stake, locked = self.books["stake", owner, owner], self.books["locked", owner]
        if stake < locked or not stake:
            return
        spare = held * (stake - locked) // stake
        off = self.pick((0, 0, -1, 1, held // 10**6, -(held // 10**6)))
        if 0 < spare + off <= held:
            self.leave_pool(owner, owner, spare + off)

    def leave_pool(self, provider: str, account: str, shares: int) -> bool:
        """Undelegate a number of shares: as much of the stake as of the shares."""
        held = self.view("staking", "shares_of", provider, account)
        rule = Rule(self.books)
        ended = self.settling(provider, rule)
        del ended
        why = Why()
        why.need(0 < shares <= held, "not that many shares")
        if not why.reasons:
            stake = rule.at(("stake", provider, account))
            amount = stake * shares // held
            if account == provider:
                left, locked = stake - amount, self.books["locked", provider]
                # Rounding decides within a few wei.
                why.unsure = abs(left - locked) <= 4 and locked > 0
                why.need(left >= locked, "stake is locked")
            number = self.ticket_numbers[provider, account]
            ticket: Key = ("ticket", provider, account, number)
            rule.add(("stake", provider, account), -amount)
            rule.add(("active", provider), -amount)
            rule.add(ticket, amount)
            rule.add(("unbonding", provider), amount)
            # The shares of an unsettled reward are those of after it.
            off = rule.loose.get(("stake", provider, account), 0) + 2
            for key in (("stake", provider, account), ("active", provider), ticket):
                rule.add(key, 0, off)
            rule.add(("unbonding", provider), 0, off)
        if why.unsure:
            why.reasons = []
        self.rounding(provider)
        done = self.act("staking.undelegate", (provider, shares), account, why, rule)
        if done:
            self.settled(provider)
            assert self.value == self.ticket_numbers[provider, account], "number of the ticket"
            self.ticket_numbers[provider, account] += 1
        return done

    @action(3, lambda self: self.tickets)
    def withdraw_unbonded(self) -> None:
        key = self.pick([*self.tickets])
        self.maybe_go(0.4, self.tickets[key] - self.pick((0, 0, 0, 1)))
        self.cash(key, self.pick((key[2], key[2], *PEOPLE)))

    def cash(self, key: Key, receiver: str) -> bool:
        _, provider, account, number = key
        amount, ready_at = self.books[key], self.tickets[key]
        why = Why()
        why.need(self.now >= ready_at, "still unbonding")
        rule = Rule(self.books)
        rule.add(("tpf", receiver), amount)
        rule.add(("staking",), -amount)
        rule.add(("unbonding", provider), -amount)
        rule.cashed.add(key)
        args: tuple[Any, ...] = (provider, number)
        args = args if receiver == account else (*args, receiver)
        self.rounded[provider] += 1
        done = self.act("staking.withdraw_unbonded", args, account, why, rule)
        if done:
            assert self.value == amount, "a ticket pays what it was worth"
        return done

    @action(0.2, lambda self: self.ticket_numbers)
    def withdraw_ticket_again(self) -> None:
        provider, account = self.pick([*self.ticket_numbers])
        number = self.choices.between(0, self.ticket_numbers[provider, account])
        if ("ticket", provider, account, number) in self.tickets:
            return
        why = Why()
        why.need(False, "no such ticket")
        args = (provider, number)
        self.act("staking.withdraw_unbonded", args, account, why, hostile=True)

    @action(1.5)
    def withdraw_stake_credit(self) -> None:
        owed = [a for a in PEOPLE if self.books["credit", a]]
        account = self.pick([*owed, *owed, STRANGER])
        self.take_credit(account, self.pick((account, account, *PEOPLE)))

    def take_credit(self, account: str, receiver: str) -> bool:
        amount = self.books["credit", account]
        why = Why()
        why.need(amount, "nothing to withdraw")
        rule = Rule(self.books)
        rule.move(("credit", account), ("tpf", receiver), amount)
        rule.add(("staking",), -amount)
        args = () if receiver == account else (receiver,)
        return self.act("staking.withdraw", args, account, why, rule)

    @action(0.3)
    def donate(self) -> None:
        """Tokens that somebody just sends change nothing."""
        amount = self.choices.log(1, 10**20)
        target = self.addresses["staking"]
        rule = Rule(self.books)
        rule.move(("tpf", STRANGER), ("staking",), amount)
        if self.books["tpf", STRANGER] < amount:
            return
        self.donated["tpf"] += amount
        self.act("token.transfer", (target, amount), STRANGER, Why(), rule)

    @action(0.3)
    def touch(self) -> None:
        """Anyone may ask a holder to settle; nothing comes of it where nothing is due."""
        provider = self.pick(OWNERS)
        rule = Rule(self.books)
        self.settling(provider, rule)
        if self.act("staking.settle", (provider,), STRANGER, Why(), rule):
            self.settled(provider)
        assert self.view("staking", "is_unsettled", provider) == bool(self.held(provider))
