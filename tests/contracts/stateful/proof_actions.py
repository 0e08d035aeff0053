# SPDX-License-Identifier: Apache-2.0
"""Commitments and openings, by the honest and by cheats; failures and bonds (I-7, I-13)."""

from __future__ import annotations

from teraproof.pog.format import Sample
from teraproof.pog.opening import entry
from tests.contracts.deploy import SLASH
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.epoch import (
    BOND_ID,
    MAX_ROUNDS,
    PLANS,
    SHAPE,
    SPOILT,
    Proof,
    rounds_of,
)
from tests.contracts.stateful.epoch_actions import EpochActions
from tests.contracts.stateful.machine import Rule, Why
from tests.contracts.stateful.world import KEYS, STRANGER


class ProofActions(EpochActions):
    """Proofs and what becomes of them."""

    # ------------------------------------------------------------------------------ commits

    def in_window(self) -> bool:
        return bool(self.epochs) and self.now < self.epochs[-1].window_end

    @action(16, lambda self: self.in_window() and self.registered)
    def commit(self) -> None:
        e = self.epochs[-1]
        able = [
            p
            for p in self.registered
            if self.books["stake", p, p] >= self.p.bond
            and (p not in self.proofs or self.proofs[p].epoch is not e or self.chance(0.3))
        ]
        provider = self.pick(able) if able and self.chance(0.9) else self.pick(self.registered)
        plan = self.pick(SPOILT if self.chance(0.25) else PLANS)
        challenge = self.challenge(provider, e)
        if self.chance(0.05) and e.number > 1:
            challenge = self.challenge(provider, self.epochs[-2])
        if self.chance(0.08):
            challenge, plan = b"", "m" * self.pick((1, 5, 7))
        self.commit_rounds(self.operator_of(provider), challenge, plan)

    @action(0.5, lambda self: self.epochs)
    def commit_wrongly(self) -> None:
        """Any key, at any time."""
        rounds = self.pick((1, 1, 0, MAX_ROUNDS, MAX_ROUNDS + 1))
        self.commit_rounds(self.pick((*KEYS, STRANGER)), b"", "", rounds)

    def commit_rounds(self, operator: str, challenge: bytes, plan: str, count: int = 0) -> bool:
        """Commit to the rounds of a plan; without a challenge to what nobody can open."""
        e = self.epochs[-1]
        work = rounds_of(challenge, plan) if challenge else None
        rounds = count or len(plan)
        commitment = work.commitment if work else self.word("nothing")
        why, rule = Why(), Rule(self.books)
        provider = self.provider_of(operator)
        why.need(self.in_window(), "not in the window")
        why.need(1 <= rounds <= MAX_ROUNDS, "rounds out of bounds")
        why.need(provider in self.providers, "unknown operator")
        earlier = self.unsettled(provider)
        ended = False
        if provider in self.providers:
            known = self.proofs.get(provider)
            again = known and known.epoch is e
            if again:
                assert known
                why.need(rounds > known.rounds, "not more rounds")
            elif earlier:
                ended = self.settlement(provider, rule)
                why.need(ended, "not yet settled")
            held = self.held(provider)
            mine = held is None or ended or held.manager == self.benchmark_address
            why.need(mine, "held by another manager")
            why.need(self.may(self.benchmark_address, SLASH), "lacks the permission")
            stake = rule.at(("active", provider))
            why.need(stake >= self.p.bond, "stake below the bond")
            if self.bonds.get(provider, 0) < e.ends_at + self.p.fault_period:
                self.bond_again(why, rule, operator, provider)
        args = (e.number, rounds, commitment)
        done = self.act("benchmark.commit", args, operator, why, rule)
        if done:
            if ended:
                self.settled_now(provider)
            if ("locked", provider) in rule.moved or self.rebonded:
                self.bond_made(provider)
            self.hold_made(self.benchmark_address, provider)
            active, seized = self.books["active", provider], self.seized[provider]
            found = Proof(e, rounds, commitment, work, challenge, plan, active, seized)
            self.proofs[provider] = found
        return done

    rebonded = False

    def bond_again(self, why: Why, rule: Rule, operator: str, provider: str) -> None:
        """The old bond ends, a new one is locked."""
        key = (self.benchmark_address, provider, BOND_ID)
        old = self.locks.pop(key, None)
        until = self.now + self.p.bond_life
        self.locking(why, self.benchmark_address, operator, BOND_ID, self.p.bond, until, 0, rule)
        if old:
            self.locks[key] = old
        self.rebonded = not why.reasons
        if not why.reasons:
            self.lock_ended(rule, *key)
            self.lock_made(rule, *key, self.p.bond, until)

    def bond_made(self, provider: str) -> None:
        self.bonds[provider] = self.now + self.p.bond_life
        self.rebonded = False

    @action(0.8, lambda self: self.in_window() and self.proofs)
    def withdraw_proof(self) -> None:
        """An owner takes back what its operator committed to."""
        owner = self.pick([*self.proofs])
        proof = self.proofs[owner]
        why = Why()
        why.need(self.unsettled(owner), "no proof to withdraw")
        why.need(self.now < proof.epoch.window_end, "not in the window")
        if self.act("benchmark.withdraw_proof", (), owner, why):
            proof.rounds = 0
            self.hold_ended(self.benchmark_address, owner)

    # ----------------------------------------------------------------------------- openings

    @action(14, lambda self: self.waiting())
    def open_samples(self) -> None:
        provider = self.pick(self.waiting())
        if self.chance(0.03):
            self.go_to(self.proofs[provider].epoch.ends_at - self.pick((0, 1)))
        self.show(provider, self.pick((1, 2, 2, 2, 3)))

    @action(0.3, lambda self: self.proofs)
    def open_wrongly_late(self) -> None:
        self.show(self.pick([*self.proofs]), self.pick((0, 2)))

    def show(self, provider: str, count: int) -> bool:
        """Open the next samples with the best that there is, by a stranger."""
        proof = self.proofs[provider]
        why = Why()
        why.need(proof.rounds and not self.is_scored(proof), "no proof to open")
        why.need(proof.epoch.draw, "not drawn")
        why.need(self.now < proof.epoch.ends_at, "epoch has ended")
        why.need(0 < count <= self.p.samples - proof.verified, "number of openings")
        openings = [[bytes(32)]] * count
        if not why.reasons:
            todo = self.samples(provider, proof)[proof.verified : proof.verified + count]
            openings = [self.opening(why, provider, proof, sample) for sample in todo]
        if why.reasons and proof.settled:
            why.unsure = False
        single = count == 1 and self.chance(0.5)
        target = "benchmark.open_sample" if single else "benchmark.open_samples"
        args = (provider, openings[0] if single else openings)
        done = self.act(target, args, STRANGER, why)
        if done:
            self.verified(provider, proof, count)
        return done

    def opening(self, why: Why, provider: str, proof: Proof, sample: Sample) -> list[bytes]:
        """The words of an opening, and why it cannot pass."""
        work = proof.work
        if work is None:
            why.need(False, "benchmark: wrong")
            return [bytes(32)]
        opening = work.opening(sample)
        words = opening.words()
        challenge = self.challenge(provider, proof.epoch)
        if proof.source != challenge:
            # Right by chance, once in 256 times.
            right = entry(challenge, SHAPE, sample, opening.root_before)
            stale = entry(proof.source, SHAPE, sample, opening.root_before)
            why.need((right - stale) % 256 == 0, "benchmark: wrong value")
        elif proof.plan[sample.t] == "m":
            why.need(False, "benchmark: wrong value")
        if self.chance(0.04):
            flipped = bytearray(words[2])
            flipped[self.choices.between(0, 31)] ^= 1 << self.choices.between(0, 7)
            words[2] = bytes(flipped)
            why.need(False, "benchmark: wrong")
        elif self.chance(0.02):
            words = words[:-1]
            why.need(False, "benchmark: wrong")
        return words

    def verified(self, provider: str, proof: Proof, count: int) -> None:
        proof.verified += count
        assert self.value == proof.verified
        if not self.is_scored(proof):
            return
        e = proof.epoch
        score = 2 * self.p.n**2 * 480 * self.p.blocks * proof.rounds // self.p.window
        stake = self.counted(provider, proof, self.books["active", provider])
        proof.effective = min(score, self.backed(stake, e.number))
        # What has left by now never counts again.
        proof.stake, proof.seized = stake, self.seized[provider]
        e.total += proof.effective
        self.results[provider] = (score, e)
        seen = self.view("benchmark", "share_of", provider, e.number)
        assert seen == (score, proof.effective, e.total), f"I-7: the score |{seen}"

    # --------------------------------------------------------------------- failures, bonds

    def failing(self) -> list[str]:
        return [
            name for name, proof in self.proofs.items() if self.is_open(proof) and proof.epoch.draw
        ]

    @action(4, lambda self: self.failing())
    def fail(self) -> None:
        """Too early, in time, in the last second, or when it is too late."""
        provider = self.pick(self.failing())
        e = self.proofs[provider].epoch
        if self.chance(0.6):
            self.go_to(e.ends_at - self.pick((0, 0, 0, 1)))
        elif self.chance(0.1):
            self.go_to(e.fault_end - self.pick((0, 1)))
        self.report(provider)

    @action(0.2, lambda self: self.proofs)
    def fail_wrongly(self) -> None:
        self.report(self.pick([*self.proofs]))

    def report(self, provider: str) -> bool:
        """The bond is unlocked, and as much is slashed from the whole pool (I-4)."""
        proof = self.proofs[provider]
        why, rule = Why(), Rule(self.books)
        why.need(self.is_open(proof) and proof.epoch.draw, "no proof to fail")
        why.need(self.now >= proof.epoch.ends_at, "not ended")
        manager = self.benchmark_address
        wanted = self.slashable(why, manager, provider, BOND_ID, self.p.bond)
        if not why.reasons:
            self.lock_ended(rule, manager, provider, BOND_ID)
            taken = self.slashing(rule, provider, wanted)
            assert taken <= self.p.bond
        done = self.act("benchmark.fail", (provider,), STRANGER, why, rule)
        if done:
            self.hold_ended(manager, provider)
            proof.settled, proof.rounds = True, 0
            self.results.pop(provider, None)
            self.bonds.pop(provider, None)
            assert not self.view("benchmark", "score", provider), "I-7: after a failure"
        return done

    @action(1.5, lambda self: self.bonds)
    def release_bond(self) -> None:
        provider = self.pick([*self.bonds])
        sender = self.pick((provider, provider, self.operator_of(provider), STRANGER))
        self.free_bond(provider, sender)

    def free_bond(self, provider: str, sender: str) -> bool:
        proof = self.proofs.get(provider)
        why, rule = Why(), Rule(self.books)
        why.need(sender in (provider, self.operator_of(provider)), "not the provider")
        why.need(not proof or not self.is_open(proof), "a proof is open")
        why.need(self.bonds.get(provider), "no bond")
        if not why.reasons:
            self.lock_ended(rule, self.benchmark_address, provider, BOND_ID)
        done = self.act("benchmark.release_bond", (provider,), sender, why, rule)
        if done:
            del self.bonds[provider]
        return done

    # -------------------------------------------------------------------------- settlement

    def settlement(self, provider: str, rule: Rule) -> bool:
        """What settling a provider's proof moves; False if it cannot be settled yet."""
        proof = self.unsettled(provider)
        if proof is None:
            return False
        if self.is_scored(proof):
            if self.now < proof.epoch.ends_at:
                return False
            self.rewarding(provider, proof, rule)
            return True
        return not self.is_open(proof)

    def rewarding(self, provider: str, proof: Proof, rule: Rule) -> None:
        raise NotImplementedError

    def settled_now(self, provider: str) -> None:
        proof = self.proofs[provider]
        proof.settled = True
        self.hold_ended(self.benchmark_address, provider)

    def settling(self, provider: str, rule: Rule) -> bool:
        held = self.held(provider)
        self.ended = bool(
            held and held.manager == self.benchmark_address and self.settlement(provider, rule)
        )
        return self.ended

    def settled(self, provider: str) -> None:
        if self.ended:
            self.settled_now(provider)

    @action(1.5, lambda self: self.due() or (self.proofs and self.fresh % 5 == 0))
    def settle(self) -> None:
        """Anyone, at Benchmark itself."""
        due = self.due()
        provider = self.pick(due if due and self.chance(0.85) else [*self.proofs])
        why, rule = Why(), Rule(self.books)
        proof = self.unsettled(provider)
        why.need(proof, "nothing to settle")
        if proof:
            why.need(self.settlement(provider, rule), "not yet settled")
        self.rounding(provider)
        if self.act("benchmark.settle", (provider,), STRANGER, why, rule):
            self.settled_now(provider)

    def due(self) -> list[str]:
        """Providers with something to settle."""
        return [p for p in self.proofs if self.settlement(p, Rule(self.books))]

    def check(self) -> None:
        super().check()
        for provider, proof in self.proofs.items():
            if self.is_open(proof) and self.may(self.benchmark_address, SLASH):
                lock = self.locks.get((self.benchmark_address, provider, BOND_ID))
                assert lock and lock.expires_at >= proof.epoch.fault_end, "a proof without a bond"
