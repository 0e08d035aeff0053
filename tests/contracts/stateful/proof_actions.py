# SPDX-License-Identifier: Apache-2.0
"""Windows, commitments, draws and openings, by the honest and by cheats (I-7, I-10, I-13)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from eth_utils.crypto import keccak

from provider_agent.benchmark import format as pog
from provider_agent.benchmark.format import Sample, Shape
from provider_agent.benchmark.opening import entry
from tests.contracts import headers, proofs
from tests.contracts.deploy import SLASH, TPF
from tests.contracts.proofs import Work
from tests.contracts.revm import SPACING
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import Rule, Why
from tests.contracts.stateful.money_actions import MoneyActions
from tests.contracts.stateful.world import KEYS, PARAMETERS, STRANGER

SHAPE = Shape(PARAMETERS.n, PARAMETERS.blocks)
BOND_ID = bytes(32)
PERIODS = PARAMETERS.window + PARAMETERS.draw_period + PARAMETERS.reach
LENGTH = PERIODS + PARAMETERS.opening_period
# Proofs kept for the next example: a challenge depends on epoch, beacon and provider alone.
KEPT = 1_500
MAX_ROUNDS = 2**24
# One letter a round: proven or made up.
PLANS = ("p", "pp", "ppp", "pppp")
SPOILT = ("m", "pm", "mp", "pmp")


@lru_cache(maxsize=KEPT)
def rounds_of(challenge: bytes, plan: str) -> Work:
    """One round a letter: `p` is proven, `m` is made up."""
    return proofs.work(
        challenge, SHAPE, len(plan), lambda t, values: values + 1 if plan[t] == "m" else values
    )


def tagged(tag: bytes, word: bytes) -> bytes:
    return bytes(keccak(tag + word))


@cache
def winner(epoch: int) -> bytes:
    """Randomness that opens a window; the same in every example, so that proofs can be kept."""
    return next(word for word in words(f"epoch {epoch % 40}") if wins(word))


@cache
def loser(number: int) -> bytes:
    return next(word for word in words(f"loser {number}") if not wins(word))


def words(label: str) -> list[bytes]:
    return [bytes(keccak(text=f"{label} {n}")) for n in range(200)]


def wins(word: bytes) -> bool:
    return int.from_bytes(tagged(b"lottery", word), "big") % 10**6 < PARAMETERS.chance_ppm


@dataclass
class Epoch:
    number: int
    beacon: bytes
    opened_at: int
    target: int = 0
    draw: bytes = b""
    total: int = 0

    @property
    def window_end(self) -> int:
        return self.opened_at + PARAMETERS.window

    @property
    def close_until(self) -> int:
        return self.window_end + PARAMETERS.draw_period

    @property
    def draw_until(self) -> int:
        return self.close_until + PARAMETERS.reach

    @property
    def ends_at(self) -> int:
        return self.opened_at + LENGTH

    @property
    def fault_end(self) -> int:
        return self.ends_at + PARAMETERS.fault_period

    def can_be_drawn(self, now: int) -> bool:
        return bool(self.draw) or now <= (self.draw_until if self.target else self.close_until)


@dataclass
class Proof:
    epoch: Epoch
    rounds: int
    commitment: bytes
    work: Work | None
    source: bytes
    """The challenge that its rounds were done for."""
    plan: str
    stake: int
    """Active at the last commit, TPF wei."""
    seized: int
    """Ever, before the last commit."""
    verified: int = 0
    settled: bool = False
    effective: int = 0


class ProofActions(MoneyActions):
    """Epochs and proofs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.epochs: list[Epoch] = []
        self.proofs: dict[str, Proof] = {}
        self.bonds: dict[str, int] = {}
        self.results: dict[str, tuple[int, Epoch]] = {}
        self.genesis = self.view("benchmark", "GENESIS")

    # -------------------------------------------------------------------------------- tools

    @property
    def epoch(self) -> Epoch | None:
        return self.epochs[-1] if self.epochs else None

    @property
    def next_window(self) -> int:
        return self.epochs[-1].opened_at + self.p.spacing if self.epochs else self.genesis

    def moments(self) -> set[int]:
        times = super().moments()
        if self.epochs:
            e = self.epochs[-1]
            times |= {e.window_end, e.close_until, e.draw_until, e.ends_at, e.fault_end}
        times |= {proof.epoch.fault_end for proof in self.proofs.values() if not proof.settled}
        return times

    def busy_until(self) -> int:
        """What the running epoch waits for: commits, close, draw, openings."""
        if not self.epochs or self.now >= self.epochs[-1].ends_at:
            return super().busy_until()
        e = self.epochs[-1]
        if not e.target:
            return e.window_end if self.now < e.window_end else e.close_until
        if not e.draw:
            return e.draw_until
        return e.ends_at if self.waiting() else super().busy_until()

    def unsettled(self, provider: str) -> Proof | None:
        proof = self.proofs.get(provider)
        return proof if proof and proof.rounds and not proof.settled else None

    def is_scored(self, proof: Proof) -> bool:
        return proof.verified == self.p.samples

    def is_open(self, proof: Proof) -> bool:
        """Committed, and still to be opened or to fail."""
        if not proof.rounds or proof.settled or self.is_scored(proof):
            return False
        if not proof.epoch.draw:
            return proof.epoch.can_be_drawn(self.now)
        return self.now < proof.epoch.fault_end

    def score_of(self, provider: str) -> int:
        """I-7: what is proven, not too old, and backed by the stake of now."""
        found = self.results.get(provider)
        if not found:
            return 0
        score, epoch = found
        if self.now > epoch.ends_at + self.p.score_life:
            return 0
        return min(score, self.backed(self.books["active", provider], epoch.number))

    def backed(self, stake: int, epoch: int) -> int:
        return stake * self.ops_per_tpf(epoch) // TPF

    def ops_per_tpf(self, epoch: int) -> int:
        raise NotImplementedError

    def counted(self, provider: str, proof: Proof, active: int) -> int:
        """The stake of the last commit less what was seized since, and no more than is there."""
        return max(0, min(active, proof.stake - (self.seized[provider] - proof.seized)))

    def challenge(self, provider: str, epoch: Epoch) -> bytes:
        return pog.challenge(1, self.benchmark_address, epoch.number, epoch.beacon, provider, SHAPE)

    def samples(self, provider: str, proof: Proof) -> list[Sample]:
        return pog.samples(
            proof.epoch.draw,
            proof.rounds,
            proof.commitment,
            self.challenge(provider, proof.epoch),
            SHAPE,
            self.p.samples,
        )

    def waiting(self) -> list[str]:
        """Providers whose proof can be opened now."""
        return [
            name
            for name, proof in self.proofs.items()
            if self.is_open(proof) and proof.epoch.draw and self.now < proof.epoch.ends_at
        ]

    # ------------------------------------------------------------------------------- epochs

    def make_block(self, time: int, randomness: bytes, parent_time: int, now: int) -> headers.Block:
        """A block that was, far enough back to be read from the history; then it is `now`."""
        number = self.chain.number + 1
        parent = headers.build(number - 1, parent_time, bytes(32))
        header = headers.build(number, time, randomness, parent_hash=headers.hash_of(parent))
        self.chain.remember(number, headers.hash_of(header))
        self.chain.set_block(max(now, self.now), number + SPACING)
        return headers.Block(number, time, randomness, header, parent)

    @action(5, lambda self: self.ready_for_a_window())
    def open_window(self) -> None:
        """At the next boundary that counts, by its first block."""
        slot = self.p.slot
        ahead = max(self.now + 1, self.next_window) - self.genesis
        boundary = self.genesis + -(-ahead // slot) * slot
        late = self.choices.between(0, self.p.open_period // 2)
        seen = boundary + late + self.choices.between(0, self.p.open_period // 2)
        number = len(self.epochs) + 1
        block = self.make_block(boundary + late, winner(number), boundary - 1, seen)
        self.present(block, boundary)

    def ready_for_a_window(self) -> bool:
        """Somebody could prove, and the last epoch is over."""
        if self.epochs and self.now < self.epochs[-1].ends_at:
            return False
        return any(self.books["stake", p, p] >= self.p.bond for p in self.providers)

    @action(0.5)
    def open_wrongly(self) -> None:
        """A block too early, not the first, of another boundary, too late, or one that loses."""
        slot, open_period = self.p.slot, self.p.open_period
        boundary = self.genesis + ((self.now - self.genesis) // slot + 1) * slot
        shift, word = 0, winner(len(self.epochs) + 1)
        time, before, seen = boundary, boundary - 1, boundary
        kind = self.pick(("early", "second", "old", "late", "loser", "other"))
        if kind == "early":
            time, before = boundary - 1, boundary - 2
        elif kind == "second":
            time, before = boundary + 1, boundary
        elif kind == "old":
            time, before, shift = boundary - slot, boundary - slot - 1, slot
        elif kind == "late":
            seen = boundary + open_period + 1
        elif kind == "loser":
            word = loser(self.fresh % 20)
        del shift
        block = self.make_block(time, word, before, seen)
        if kind == "other":
            block = headers.block(block.number, time, word)
        self.present(block, boundary, known=kind != "other", first=kind != "second")

    def present(
        self, block: headers.Block, boundary: int, *, known: bool = True, first: bool = True
    ) -> bool:
        why = Why()
        why.need(self.now <= boundary + self.p.open_period, "boundary is past")
        why.need(known, "not of that block")
        why.need(block.timestamp >= boundary, "too early")
        why.need(first, "not the first block")
        why.need(block.timestamp >= self.next_window, "window too early")
        why.need(wins(block.prevrandao), "does not win")
        args = (block.number, block.header, block.parent)
        done = self.act("benchmark.open", args, STRANGER, why)
        if done:
            beacon = tagged(b"beacon", block.prevrandao)
            self.epochs.append(Epoch(len(self.epochs) + 1, beacon, block.timestamp))
        return done

    @action(7, lambda self: self.epochs and not self.epochs[-1].target)
    def close(self) -> None:
        """Once, between the window and the end of the draw period."""
        e = self.epochs[-1]
        if self.chance(0.7) and self.now < e.window_end:
            self.go_to(e.window_end - self.pick((0, 0, 0, 1)))
        elif self.chance(0.1):
            self.go_to(e.close_until + self.pick((0, 1)))
        why = Why()
        why.need(self.now >= e.window_end, "not the time to close")
        why.need(self.now <= e.close_until, "not the time to close")
        if self.act("benchmark.close", (e.number,), STRANGER, why):
            e.target = self.chain.number + self.p.draw_delay

    @action(9, lambda self: self.epochs and self.epochs[-1].target and not self.epochs[-1].draw)
    def draw(self) -> None:
        e = self.epochs[-1]
        if self.chance(0.1):
            self.go_to(e.draw_until + self.pick((0, 1)))
        self.draw_epoch(e)

    def draw_epoch(self, e: Epoch) -> bool:
        word = self.word("draw")
        header = headers.build(e.target, self.now, word)
        self.chain.remember(e.target, headers.hash_of(header))
        self.chain.set_block(self.now, max(self.chain.number, e.target + SPACING))
        shown = header if self.chance(0.95) else headers.build(e.target, self.now + 1, word)
        why = Why()
        why.need(self.now <= e.draw_until, "too late to draw")
        why.need(shown == header, "not of that block")
        done = self.act("benchmark.draw", (e.number, shown), STRANGER, why)
        if done:
            e.draw = tagged(b"draw", word)
        return done

    # ------------------------------------------------------------------------------ commits

    def in_window(self) -> bool:
        return bool(self.epochs) and self.now < self.epochs[-1].window_end

    @action(16, lambda self: self.in_window() and self.providers)
    def commit(self) -> None:
        e = self.epochs[-1]
        able = [
            p
            for p in self.providers
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
