# SPDX-License-Identifier: Apache-2.0
"""Credits and fees of Jobs, its parameters, and the guardian's pause."""

from __future__ import annotations

from tests.contracts.deploy import DAY
from tests.contracts.stateful.deal import MAX_FEE, MAX_PAUSE
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import Rule, Why
from tests.contracts.stateful.result_actions import ResultActions
from tests.contracts.stateful.world import PEOPLE, STRANGER, TENANTS

MIN_WINDOW, MAX_WINDOW = 10, 14 * DAY


class MoneyActions(ResultActions):
    """What is paid in and out apart from the deals."""

    @action(1.0)
    def deposit(self) -> None:
        account = self.pick(TENANTS)
        amount = self.pick((0, 1, self.choices.log(1, 10**10), self.choices.log(1, 10**10)))
        why, rule = Why(), Rule(self.books)
        why.need(amount, "zero amount")
        rule.move(("usd", account), ("owed", account), amount)
        rule.add(("jobs",), amount)
        self.act("jobs.deposit", (amount,), account, why, rule)

    @action(2.0)
    def withdraw(self) -> None:
        owed = [a for a in PEOPLE if self.books["owed", a]]
        account = self.pick([*owed, *owed, STRANGER])
        self.take_owed(account, self.pick((account, account, *PEOPLE)))

    def take_owed(self, account: str, receiver: str) -> bool:
        amount = self.books["owed", account]
        why, rule = Why(), Rule(self.books)
        why.need(amount, "nothing to withdraw")
        rule.move(("owed", account), ("usd", receiver), amount)
        rule.add(("jobs",), -amount)
        args = () if receiver == account else (receiver,)
        return self.act("jobs.withdraw", args, account, why, rule)

    @action(0.8)
    def collect_fees(self) -> None:
        if self.books["fees",] or self.chance(0.1):
            self.collect()

    def collect(self) -> bool:
        amount, why, rule = self.books["fees",], Why(), Rule(self.books)
        why.need(amount, "no fees")
        rule.move(("fees",), ("usd", self.world.suite.treasury), amount)
        rule.add(("jobs",), -amount)
        return self.act("jobs.collect_fees", (), STRANGER, why, rule)

    @action(0.3)
    def donate_dollars(self) -> None:
        amount = self.choices.log(1, 10**10)
        rule = Rule(self.books)
        rule.move(("usd", STRANGER), ("jobs",), amount)
        self.donated["usd"] += amount
        args = (self.addresses["jobs"], amount)
        self.act("payment.transfer", args, STRANGER, Why(), rule)

    # -------------------------------------------------------------------------- parameters

    def by_owner(self, why: Why) -> str:
        sender: str = self.timelock if self.chance(0.85) else STRANGER
        why.need(sender == self.timelock, "not the owner")
        return sender

    @action(0.4)
    def set_fee(self) -> None:
        bps, why = self.pick((0, 1, 100, 250, MAX_FEE, MAX_FEE + 1)), Why()
        why.need(bps <= MAX_FEE, "fee out of bounds")
        if self.act("jobs.set_fee", (bps,), self.by_owner(why), why):
            self.fee = bps

    @action(0.4)
    def set_challenge_window(self) -> None:
        seconds, why = self.pick((MIN_WINDOW, 3_600, DAY, MIN_WINDOW - 1, MAX_WINDOW + 1)), Why()
        why.need(MIN_WINDOW <= seconds <= MAX_WINDOW, "challenge window out of bounds")
        if self.act("jobs.set_challenge_window", (seconds,), self.by_owner(why), why):
            self.window = seconds

    @action(0.3)
    def pause(self) -> None:
        guardian = self.world.suite.guardian
        sender = guardian if self.chance(0.9) else STRANGER
        seconds = self.pick((1, 600, 3_600, 3_600, 6 * 3_600, MAX_PAUSE, 0, MAX_PAUSE + 1))
        why = Why()
        why.need(sender == guardian, "not the guardian")
        why.need(0 < seconds <= MAX_PAUSE, "pause out of bounds")
        why.need(self.now >= self.next_pause, "paused too recently")
        if self.act("jobs.pause", (seconds,), sender, why):
            self.paused_until = self.now + seconds
            self.next_pause = self.paused_until + MAX_PAUSE
            self.pauses.append([self.now, self.paused_until])

    @action(4, lambda self: self.now < self.paused_until)
    def unpause(self) -> None:
        senders = (self.world.suite.guardian, self.timelock, STRANGER)
        sender, why = self.pick(senders), Why()
        why.need(sender != STRANGER, "not the guardian")
        if self.act("jobs.unpause", (), sender, why):
            self.paused_until = 0
            self.pauses[-1][1] = max(self.now, self.pauses[-1][0])

    @action(3, lambda self: self.now < self.paused_until)
    def sit_out_the_pause(self) -> None:
        self.maybe_go(1.0, self.paused_until - self.pick((0, 0, 1)))
