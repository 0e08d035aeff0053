# SPDX-License-Identifier: Apache-2.0
"""What is minted, for whom, and how much at most (I-7, I-8, I-11, I-13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

from tests.contracts.deploy import REWARD
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.epoch import Epoch, Proof
from tests.contracts.stateful.machine import BPS, MILLION, Rule, Why
from tests.contracts.stateful.proof_actions import ProofActions
from tests.contracts.stateful.registry_actions import somebody
from tests.contracts.stateful.wealth import Key
from tests.contracts.stateful.world import CANDIDATE, DELEGATORS, HOLDERS, OWNERS, STRANGER, WARDEN

# Two contracts of later uses; plain accounts do.
USES = (WARDEN, CANDIDATE)
# Rounding of the schedule and of two divisions, TPF wei.
FEW = 4
_Value = TypeVar("_Value")
MIN_OPS, MAX_OPS, MAX_TARGET = 10**3, 10**18, 10**22


class EmissionActions(ProofActions):
    """Claims, uses, weights, scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.uses: list[str] = [self.addresses["emissions"]]
        # From which epoch on: weights in 1/10,000, and (ops_per_tpf, target).
        self.weights: list[tuple[int, list[int]]] = [(0, [self.p.capacity_bps])]
        self.scales: list[tuple[int, tuple[int, int]]] = [(0, (self.p.ops_per_tpf, self.p.target))]
        self.paid: Counter[tuple[int, int]] = Counter()
        """(use, epoch) -> TPF wei."""
        self.minted = 0

    # ----------------------------------------------------------------------------- promises

    def accrued(self, time: int) -> Fraction:
        """The schedule to date: the rate halves at every halving."""
        left, total, rate = max(0, time - self.genesis), Fraction(0), Fraction(self.p.rate)
        while left > 0:
            total += rate * min(left, self.p.halving)
            left -= self.p.halving
            rate /= 2
        return total

    def emission(self, e: Epoch) -> Fraction:
        since = self.epochs[e.number - 2].opened_at if e.number > 1 else self.genesis
        since = max(since, e.opened_at - self.p.max_accrual)
        return self.accrued(e.opened_at) - self.accrued(since)

    def part(self, use: int, e: Epoch) -> Fraction:
        weights = at(self.weights, e.number)
        weight = weights[use] if use < len(weights) else 0
        return self.emission(e) * weight / BPS

    def ops_per_tpf(self, epoch: int) -> int:
        return at(self.scales, epoch)[0]

    def reward_of(self, provider: str, proof: Proof, active: int) -> Fraction:
        """E * effective / max(sum of effective, target)."""
        e = proof.epoch
        stake = self.counted(provider, proof, active)
        effective = min(proof.effective, self.backed(stake, e.number))
        return self.part(0, e) * effective / max(e.total, at(self.scales, e.number)[1])

    def rewarding(self, provider: str, proof: Proof, rule: Rule) -> None:
        """I-13: (1 - commission of the last commit) * part to each, the rest to the payout."""
        if not self.may(self.addresses["emissions"], REWARD):
            return
        active = rule.at(("active", provider))
        due = self.reward_of(provider, proof, active)
        reward = self.view("emissions", "reward_of", provider, proof.epoch.number)
        assert abs(reward - due) <= FEW, f"I-8: the reward |{reward}, not {float(due)}"
        # Also one that counts no more: what it has kept is that of the epoch.
        hold = self.holds.get(provider)
        state = self.providers[provider]
        commission = hold.commission if hold else state.commission_at(self.now)
        rest = reward - reward * commission // BPS
        to_pool = rest if active else 0
        # A millionth may go to the payout address for the virtual shares.
        loose = to_pool // MILLION + 1
        for account in HOLDERS:
            key: Key = ("stake", provider, account)
            stake = rule.at(key)
            if active:
                part = to_pool * stake // active
                # The views round a stake to a wei, on which a part of the reward rests.
                rule.add(key, part, part // MILLION + 2 + to_pool // active)
        rule.add(("active", provider), to_pool, loose)
        rule.add(("credit", state.payout), reward - to_pool, loose)
        rule.add(("staking",), reward)
        rule.add(("supply",), reward)
        self.rewarded[provider] += to_pool
        rule.claimed = reward

    def settled_now(self, provider: str) -> None:
        super().settled_now(provider)
        proof = self.proofs[provider]
        self.paid[0, proof.epoch.number] += self.expected.claimed
        self.minted += self.expected.claimed
        self.within_schedule(proof.epoch)

    def within_schedule(self, e: Epoch) -> None:
        """I-8."""
        assert self.view("emissions", "minted") == self.minted, "I-8: what was minted"
        assert self.minted <= self.accrued(self.now), "I-8: above the schedule"
        for use in range(len(self.uses)):
            most = self.part(use, e)
            assert self.paid[use, e.number] <= most + 1, "I-8: above a use's part of an epoch"

    # ------------------------------------------------------------------------------ actions

    def scored(self) -> list[str]:
        return [p for p in self.proofs if (q := self.unsettled(p)) and self.is_scored(q)]

    @action(3, lambda self: self.scored())
    def claim(self) -> None:
        """By anyone; early; late."""
        provider = self.pick(self.scored())
        e = self.proofs[provider].epoch
        if self.chance(0.5):
            self.go_to(e.ends_at - self.pick((0, 0, 0, 1)))
        self.claim_for(provider)

    @action(0.3, somebody)
    def claim_nothing(self) -> None:
        self.claim_for(self.pick(self.registered))

    def claim_for(self, provider: str) -> bool:
        proof = self.unsettled(provider)
        why, rule = Why(), Rule(self.books)
        scored = bool(proof and self.is_scored(proof))
        why.need(scored, "nothing to take")
        if proof and scored:
            why.need(self.now >= proof.epoch.ends_at, "not ended")
            why.need(self.may(self.addresses["emissions"], REWARD), "lacks the permission")
            if not why.reasons:
                self.rewarding(provider, proof, rule)
        self.rounding(provider)
        done = self.act("emissions.claim", (provider,), STRANGER, why, rule)
        if done:
            assert self.value == rule.claimed, "what a claim pays"
            self.settled_now(provider)
        return done

    @action(1.2, lambda self: self.scored())
    def delegate_and_claim(self) -> None:
        """Somebody who was not there comes, claims and goes, in one moment (F3)."""
        provider, thief = self.pick(self.scored()), self.pick((*DELEGATORS, STRANGER))
        e = self.proofs[provider].epoch
        if self.chance(0.7):
            self.go_to(e.ends_at)
        before = self.worth(thief)
        first = self.chance(0.5)
        if first:
            self.claim_for(provider)
        self.stake(thief, provider, self.pick((10**6, 10**21, 10**24)))
        if not first and self.unsettled(provider):
            self.claim_for(provider)
        if self.books["entry", provider, thief]:
            self.activate_entry(provider, thief)
        if self.books["stake", provider, thief] and self.chance(0.8):
            held = self.view("staking", "shares_of", provider, thief)
            self.leave_pool(provider, thief, held)
        # What it had before in this pool may have earned.
        if not self.had_stake(provider, thief):
            assert self.worth(thief) <= before + 3, "I-13: a reward for who was not there"

    def had_stake(self, provider: str, account: str) -> bool:
        return self.rewarded[provider] > 0 and account in self.joined(provider)

    def joined(self, provider: str) -> set[str]:
        """Everybody with stake in a pool before; told by the books."""
        return {a for a in HOLDERS if self.expected.books["stake", provider, a]}

    def worth(self, account: str) -> int:
        """Wealth in TPF: wallet, stake, entries, tickets, credit."""
        books = self.books
        mine = sum(
            amount for key, amount in books.items() if key[0] == "ticket" and key[2] == account
        )
        pools = sum(books["stake", p, account] + books["entry", p, account] for p in OWNERS)
        return books["tpf", account] + books["credit", account] + pools + mine

    @action(0.6, lambda self: self.scored())
    def owner_leaves_first(self) -> None:
        """All of the owner's stake goes while an epoch is unclaimed."""
        provider = self.pick(self.scored())
        if self.bonds.get(provider):
            self.free_bond(provider, provider)
        held = self.view("staking", "shares_of", provider, provider)
        if held:
            self.leave_pool(provider, provider, held)

    # ----------------------------------------------------------------------------- the uses

    @action(0.6, lambda self: len(self.uses) <= len(USES))
    def add_use(self) -> None:
        use, why = self.pick((*USES, self.addresses["emissions"])), Why()
        sender = self.by_owner(why)
        known = use in self.uses[1:]
        why.need(not known, "use exists")
        if use == self.uses[0]:
            return
        if self.act("emissions.add_use", (use,), sender, why):
            assert self.value == len(self.uses)
            self.uses.append(use)

    @property
    def first_to_come(self) -> int:
        """The next one may have begun already, unseen."""
        return len(self.epochs) + 2

    @action(0.8)
    def set_weights(self) -> None:
        """I-11: for epochs that have not begun."""
        count = len(self.uses) if self.chance(0.9) else len(self.uses) + 1
        weights = [self.pick((0, 1, 2_500, 4_000, 8_000)) for _ in range(count)]
        why = Why()
        sender = self.by_owner(why)
        why.need(count <= len(self.uses), "weight of no use")
        why.need(sum(weights) <= BPS, "weights above 100 %")
        if self.act("emissions.set_weights", (weights,), sender, why):
            put(self.weights, self.first_to_come, weights)

    @action(0.8)
    def set_scale(self) -> None:
        ops, target = at(self.scales, self.first_to_come - 1)
        ops = self.pick((ops, ops * 2, ops // 2, ops * 2 + 1, ops // 2 - 1, ops * 9 // 8))
        target = self.pick((target, target, target * 2, target * 2 + 1, -(-target // 2)))
        why = Why()
        sender = self.by_owner(why)
        before = at(self.scales, self.first_to_come - 1)
        why.need(MIN_OPS <= ops <= MAX_OPS, "ops_per_tpf out of bounds")
        why.need(0 < target <= MAX_TARGET, "target out of bounds")
        pairs = zip((ops, target), before, strict=True)
        why.need(all(a <= 2 * b and 2 * a >= b for a, b in pairs), "doubled or halved")
        if self.act("emissions.set_scale", (ops, target), sender, why):
            put(self.scales, self.first_to_come, (ops, target))

    def left_for_uses(self) -> list[tuple[int, Epoch]]:
        """Parts of ended epochs that were not shared out."""
        ended = [e for e in self.epochs[-4:] if self.now >= e.ends_at]
        numbers = range(1, len(self.uses))
        return [
            (n, e) for n in numbers for e in ended if self.part(n, e) - self.paid[n, e.number] > 9
        ]

    @action(3.0, lambda self: len(self.uses) > 1 and self.epochs)
    def distribute(self) -> None:
        """A use pays to payout addresses, within its part of an ended epoch."""
        use, e = self.choices.between(1, len(self.uses) - 1), self.pick(self.epochs)
        left_over = self.left_for_uses()
        if left_over and self.chance(0.9):
            use, e = self.pick(left_over)
        elif self.chance(0.95):
            return
        sender = self.uses[use] if self.chance(0.95) else STRANGER
        left = int(self.part(use, e)) - self.paid[use, e.number]
        amount = self.pick((max(left // 3, 1), max(left, 1), left + 2, 1, 0))
        provider = self.pick((*self.providers, *self.providers, *OWNERS))
        why, rule = Why(), Rule(self.books)
        why.need(sender == self.uses[use], "no distributor")
        why.need(self.now >= e.ends_at, "not ended")
        why.need(amount, "zero amount")
        # The schedule is rounded to a wei or two.
        why.unsure = abs(left - amount) <= 1 and not why.reasons
        why.need(amount <= left or why.unsure, "above the use's part")
        why.need(provider in self.providers, "not registered")
        why.need(self.may(self.addresses["emissions"], REWARD), "lacks the permission")
        if provider in self.providers:
            rule.add(("credit", self.providers[provider].payout), amount)
        rule.add(("staking",), amount)
        rule.add(("supply",), amount)
        args = (provider, e.number, amount)
        if self.act("emissions.distribute", args, sender, why, rule):
            self.paid[use, e.number] += amount
            self.minted += amount
            self.within_schedule(e)


def at(series: Sequence[tuple[int, _Value]], epoch: int) -> _Value:
    """The value in force in an epoch."""
    return [value for since, value in series if since <= epoch][-1]


def put(series: list[tuple[int, _Value]], since: int, value: _Value) -> None:
    """A value from an epoch on; it takes the place of one for the same."""
    series[:] = [entry for entry in series if entry[0] != since] + [(since, value)]
