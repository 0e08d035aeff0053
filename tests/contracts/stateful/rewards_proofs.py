# SPDX-License-Identifier: Apache-2.0
"""Providers that prove, cheat, fail and vanish, against Benchmark and its model (I-7)."""

from __future__ import annotations

from collections.abc import Sequence

import boa
from eth_utils.crypto import keccak
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from provider_agent.benchmark import format as pog
from provider_agent.benchmark.format import Sample
from provider_agent.protocol.terms import ZERO_WORD
from tests.contracts import proofs
from tests.contracts.stateful.base import DATA, Data, StakingMachine, hostile, name_of
from tests.contracts.stateful.chain import EXECUTED
from tests.contracts.stateful.market import DELEGATORS, KEYS, OWNERS, STRANGER, WARDEN
from tests.contracts.stateful.rewards_market import (
    KEPT,
    SHAPE,
    WRONG_LEAF,
    WRONG_LENGTH,
    Claim,
)
from tests.contracts.stateful.rewards_model import MAX_ROUNDS, Benchmark, Proof

# One letter a round: proven or made up.
PLANS = ("p", "pp", "ppp", "ppp", "m", "pm", "mp", "pmp", "mpp")
HONEST = ("p", "pp", "ppp")
# Rounds made up; of another time or another provider; more claimed than done; nothing behind it.
CHEATS = ("", "stale", "stolen", "padded", "blind")


class ProofMachine(StakingMachine):
    """Epochs and proofs; what they earn is added by `RewardsMachine`."""

    def __init__(self) -> None:
        super().__init__()
        p = self.market.suite.parameters
        self.benchmark = Benchmark(
            p, self.addresses["benchmark"], self.market.deployed_at, self.staking
        )
        self.claims: dict[str, Claim] = {}
        """Provider -> what stands behind its last commitment; none: nothing can be shown."""
        self.old: dict[str, bytes] = {}
        """Provider -> the challenge that it proved for last."""

    # ------------------------------------------------------------------------------- tools

    @property
    def epoch(self) -> int:
        return self.benchmark.current(self.now)

    def randomness(self, label: str) -> bytes:
        word = bytes(keccak(text=label))
        boa.env.evm.patch.prevrandao = word
        return word

    def moments(self) -> list[int]:
        b, epoch = self.benchmark, self.epoch
        times = {b.start(epoch + 1), b.start(epoch) + b.p.open_period}
        times |= {lock.expires_at for lock in self.staking.locks.values()}
        times |= {ready_at for *_, ready_at in self.tickets()}
        times |= {p.commission_since for p in self.staking.providers.values()}
        if epoch in b.epochs:
            times |= {b.window_end(epoch), b.first_draw(epoch), b.last_draw(epoch)}
        times |= {b.fault_end(p.epoch) for p in b.proofs.values() if not p.failed}
        return sorted(time for time in times if time > self.now)

    def go_to(self, time: int) -> None:
        note(f"{self.now}: go to {time}")
        self.chain.now = max(self.now, time)

    def challenge(self, provider: str, epoch: int) -> bytes:
        beacon = self.benchmark.epochs[epoch].beacon
        chain_id = boa.env.evm.patch.chain_id
        return pog.challenge(chain_id, self.benchmark.address, epoch, beacon, provider, SHAPE)

    def samples(self, provider: str) -> list[Sample]:
        """What the draw asks of a provider's proof."""
        proof = self.benchmark.proofs[provider]
        return pog.samples(
            self.benchmark.epochs[proof.epoch].draw,
            proof.rounds,
            proof.commitment,
            self.challenge(provider, proof.epoch),
            SHAPE,
            self.benchmark.p.samples,
        )

    def with_proof(self, *, drawn: bool | None = None) -> list[str]:
        """Providers whose proof is not shown, not failed, and drawn or not."""
        return [
            name
            for name, proof in self.benchmark.proofs.items()
            if self.benchmark.is_waiting(proof)
            and drawn in (None, self.benchmark.epochs[proof.epoch].drawn_at != 0)
        ]

    # ------------------------------------------------------------------------------ epochs

    def open_epoch(self, epoch: int) -> bool:
        # The same in every example, so that proofs can be kept.
        beacon = self.randomness(f"beacon of epoch {epoch}")
        return self.act(
            "benchmark.open",
            (epoch,),
            STRANGER,
            lambda: self.benchmark.open(self.now, epoch, beacon),
        )

    def draw_epoch(self, epoch: int) -> bool:
        word = self.randomness(f"draw {self.number()} at {self.now}")
        return self.act(
            "benchmark.draw",
            (epoch,),
            STRANGER,
            lambda: self.benchmark.draw(self.now, epoch, word),
        )

    @rule(off=st.sampled_from([0, 0, 0, 0, 1, -1]))
    def open(self, off: int) -> None:
        if self.epoch + off >= 0:
            self.open_epoch(self.epoch + off)

    @precondition(lambda self: self.benchmark.epochs)
    @rule(data=DATA, wait=st.booleans())
    def draw(self, data: Data, wait: bool) -> None:
        epoch = self.pick(data, list(self.benchmark.epochs)[-2:])
        if wait:
            edges = (self.benchmark.first_draw(epoch), self.benchmark.last_draw(epoch))
            self.go_to(self.pick(data, edges) + self.pick(data, (0, 0, -1, 1)))
        self.draw_epoch(epoch)

    # ----------------------------------------------------------------------------- commits

    def commit(self, operator: str, epoch: int, claim: Claim | None, rounds: int = 0) -> bool:
        """Commit to a claim; without one to what nobody can open."""
        commitment = claim.commitment if claim else bytes(keccak(text=f"{self.number()}"))
        rounds = claim.rounds if claim else rounds
        provider = self.staking.provider_of(operator)
        done = self.act(
            "benchmark.commit",
            (epoch, rounds, commitment),
            operator,
            lambda: self.benchmark.commit(self.now, operator, epoch, rounds, commitment),
        )
        if done:
            self.claims.pop(provider, None)
            if claim:
                self.claims[provider] = claim
                self.old[provider] = self.challenge(provider, epoch)
        return done

    def claim_for(self, provider: str, epoch: int, plan: str, cheat: str) -> Claim | None:
        """Rounds done for the challenge, or one of the ways to pretend."""
        challenge = self.challenge(provider, epoch)
        if cheat == "blind":
            return None
        if cheat == "stale":
            challenge = self.old.get(provider, challenge)
        if cheat == "stolen":
            challenge = self.challenge(OWNERS[0], epoch)
        if cheat == "padded":
            return Claim(challenge, "ppp", 4)
        return Claim(challenge, plan, len(plan))

    @precondition(lambda self: self.benchmark.epochs and self.registered)
    @rule(
        data=DATA,
        plan=st.sampled_from(PLANS),
        cheat=st.sampled_from(["", "", *CHEATS]),
    )
    def commit_somehow(self, data: Data, plan: str, cheat: str) -> None:
        epoch = list(self.benchmark.epochs)[-1]
        provider = self.pick(data, self.registered)
        operator = self.staking.providers[provider].operator
        rounds = self.pick(data, (1, 5, MAX_ROUNDS))
        self.commit(operator, epoch, self.claim_for(provider, epoch, plan, cheat), rounds)

    @precondition(lambda self: self.benchmark.epochs)
    @hostile
    @rule(data=DATA, rounds=st.sampled_from([0, MAX_ROUNDS + 1, 1]))
    def commit_at_the_bounds(self, data: Data, rounds: int) -> None:
        """Too many rounds or none, any key, epochs that are over or not open."""
        known = list(self.benchmark.epochs)
        epoch = self.pick(data, (known[-1], known[0], known[-1] + 1))
        self.commit(self.pick(data, (*KEYS, STRANGER)), epoch, None, rounds)

    @precondition(lambda self: self.benchmark.proofs)
    @rule(data=DATA, again=st.booleans())
    def withdraw_proof(self, data: Data, again: bool) -> None:
        """An owner takes back what its operator committed to, and may commit to less."""
        owner = self.pick(data, list(self.benchmark.proofs))
        done = self.act(
            "benchmark.withdraw_proof",
            (),
            owner,
            lambda: self.benchmark.withdraw_proof(self.now, owner),
        )
        if done and again:
            epoch = self.benchmark.proofs[owner].epoch
            operator = self.staking.providers[owner].operator
            self.commit(operator, epoch, self.claim_for(owner, epoch, "p", ""))

    # ---------------------------------------------------------------------------- openings

    def show(self, provider: str, count: int) -> bool:
        """Open the next samples with the best that there is, by a stranger."""
        proof = self.benchmark.proofs.get(provider)
        openings: list[list[bytes]] = [[ZERO_WORD]] * count
        flaws: list[str | None] = [None] * count
        if proof and provider in self.with_proof(drawn=True):
            todo = self.samples(provider)[proof.verified : proof.verified + count]
            openings[: len(todo)], flaws[: len(todo)] = self.shown(provider, proof, todo)
        return self.send_openings(provider, openings, flaws)

    def shown(
        self, provider: str, proof: Proof, todo: Sequence[Sample]
    ) -> tuple[list[list[bytes]], list[str | None]]:
        claim = self.claims.get(provider)
        if claim is None:
            # Nothing fits an unknown commitment.
            return [[ZERO_WORD]] * len(todo), [WRONG_LENGTH] * len(todo)
        challenge = self.challenge(provider, proof.epoch)
        return (
            [claim.opening(sample) for sample in todo],
            [claim.flaw(challenge, sample) for sample in todo],
        )

    def send_openings(
        self, provider: str, openings: list[list[bytes]], flaws: list[str | None]
    ) -> bool:
        single = len(openings) == 1 and self.steps % 2
        target = "benchmark.open_sample" if single else "benchmark.open_samples"
        done = self.act(
            target,
            (provider, openings[0] if single else openings),
            STRANGER,
            lambda: self.benchmark.verify(self.now, provider, flaws),
        )
        EXECUTED["openings"] += len(openings) if done else 0
        return done

    @precondition(lambda self: self.benchmark.proofs)
    @rule(data=DATA, count=st.sampled_from([1, 1, 2, 2, 0, 3]))
    def open_samples(self, data: Data, count: int) -> None:
        provider = self.pick(data, self.with_proof(drawn=True) or self.registered)
        self.show(provider, count)

    @precondition(lambda self: any(p in self.claims for p in self.with_proof(drawn=True)))
    @hostile
    @rule(data=DATA, bit=st.integers(0, 4095))
    def forge_opening(self, data: Data, bit: int) -> None:
        """A leaf with a flipped bit, a word less or more, an opening of another provider."""
        provider = self.pick(data, [p for p in self.with_proof(drawn=True) if p in self.claims])
        proof = self.benchmark.proofs[provider]
        sample = self.samples(provider)[proof.verified]
        opening = self.claims[provider].opening(sample)
        word = 2 + bit // 256
        flipped = (int.from_bytes(opening[word], "big") ^ 1 << bit % 256).to_bytes(32, "big")
        forged = (
            ([*opening[:word], flipped, *opening[word + 1 :]], WRONG_LEAF),
            (opening[:-1], WRONG_LENGTH),
            ([*opening, ZERO_WORD], WRONG_LENGTH),
        )
        words, reason = self.pick(data, forged)
        self.send_openings(provider, [words], [reason])

    # ------------------------------------------------------------------ failures and bonds

    def report(self, provider: str, reporter: str = STRANGER) -> bool:
        """Fail a proof; what is burned is the bond, or all that is left (I-4)."""
        pool = self.staking.providers[provider]
        stake = pool.active.assets + pool.unbonding.assets

        def model() -> None:
            burned = self.benchmark.fail(self.now, provider)
            assert burned == min(self.benchmark.p.bond, stake)

        done = self.act("benchmark.fail", (provider,), reporter, model)
        if done:
            EXECUTED["failures"] += 1
            self.check_supply()
            assert not self.chain.view("benchmark", "score", provider), "I-7: after a failure"
        return done

    @precondition(lambda self: self.registered)
    @rule(data=DATA, wait=st.sampled_from([None, -1, 0, 1]), late=st.booleans())
    def fail(self, data: Data, wait: int | None, late: bool) -> None:
        """Too early, in time, in the last second, or when it is too late."""
        provider = self.pick(data, self.with_proof(drawn=True) or self.registered)
        proof = self.benchmark.proofs.get(provider)
        if proof and wait is not None:
            b = self.benchmark
            self.go_to((b.fault_end if late else lambda e: b.start(e + 1))(proof.epoch) + wait)
        self.report(provider)

    @precondition(lambda self: self.registered)
    @rule(data=DATA, by=st.sampled_from(["owner", "operator", "stranger"]))
    def release_bond(self, data: Data, by: str) -> None:
        provider = self.pick(data, list(self.benchmark.bonds) or self.registered)
        operator = self.staking.providers[provider].operator
        sender = {"owner": provider, "operator": operator, "stranger": STRANGER}[by]
        self.act(
            "benchmark.release_bond",
            (provider,),
            sender,
            lambda: self.benchmark.release_bond(self.now, sender, provider),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA, part=st.integers(1, 4))
    def seize(self, data: Data, part: int) -> None:
        """Stake that moves at once: seized, and perhaps staked again by the victim."""
        provider, victim = self.pick(data, self.registered), DELEGATORS[0]
        operator = self.staking.providers[provider].operator
        spare = self.staking.owner_worth(provider) - self.staking.locked(provider)
        id = bytes(keccak(text=f"order {self.number()}"))
        lock = (operator, id, max(1, spare // part), self.now + 60, 0)
        self.act("staking.lock", lock, WARDEN, lambda: self.staking.lock(self.now, WARDEN, *lock))
        args = (provider, id, victim, STRANGER, 10_000, 0)
        self.act("staking.seize", args, WARDEN, lambda: self.staking.seize(self.now, WARDEN, *args))
        if owed := self.staking.credits[victim]:
            self.act("staking.withdraw", (), victim, lambda: self.staking.withdraw(victim))
            self.stake(victim, self.pick(data, self.registered), owed)

    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def set_lock_limits(self, data: Data) -> None:
        """Room for the bond, a wei too little, or plenty."""
        owner = self.pick(data, self.registered)
        bond = self.benchmark.p.bond
        per_order = self.pick(data, (10**24, 10**24, bond, bond - 1))
        in_all = self.pick(data, (10**25, 10**25, bond, bond - 1))
        self.act(
            "staking.set_lock_limits",
            (per_order, in_all),
            owner,
            lambda: self.staking.set_lock_limits(owner, per_order, in_all),
        )

    # -------------------------------------------------------------------------- invariants

    def sweep_benchmark(self) -> None:
        """Every view of Benchmark."""
        view, b = self.chain.view, self.benchmark
        assert view("benchmark", "current_epoch") == self.epoch
        for epoch, found in b.epochs.items():
            assert view("benchmark", "epoch_start", epoch) == b.start(epoch)
            known = (found.beacon, found.opened_at, found.draw, found.drawn_at)
            assert view("benchmark", "epoch_of", epoch) == known
            for provider in found.results:
                self.compare_share(provider, epoch)
        for provider in OWNERS:
            self.compare_proof(provider)
            if b.epochs:
                epoch = list(b.epochs)[-1]
                assert view("benchmark", "challenge", provider, epoch) == self.challenge(
                    provider, epoch
                )

    def compare_share(self, provider: str, epoch: int) -> None:
        seen = self.chain.view("benchmark", "share_of", provider, epoch)
        assert seen == self.benchmark.share(provider, epoch), "I-7: score of an epoch"

    def compare_proof(self, provider: str) -> None:
        """What the chain says of one provider."""
        b, view = self.benchmark, self.chain.view
        proof, until = b.proofs.get(provider), b.bonds.get(provider, 0)
        wanted = (0, 0, ZERO_WORD, 0, 0, until)
        if proof:
            rounds = 0 if proof.failed or proof.withdrawn else proof.rounds
            verified = 0 if proof.failed else proof.verified
            stake = b.counted(provider)
            wanted = (proof.epoch, rounds, proof.commitment, verified, stake, until)
        assert view("benchmark", "proof_of", provider) == wanted, name_of(provider)
        assert view("benchmark", "score", provider) == b.score(self.now, provider), "I-7"
        assert view("benchmark", "is_open", provider) == b.is_open(self.now, provider)

    def bonds_back_proofs(self) -> None:
        """Who can still fail has a bond that lasts, unless a hostile manager slashed it away."""
        for provider, proof in self.benchmark.proofs.items():
            if self.benchmark.is_open(self.now, provider):
                lock = self.staking.locks[self.benchmark.address, provider, ZERO_WORD]
                assert lock.amount == self.benchmark.p.bond
                assert lock.expires_at >= self.benchmark.fault_end(proof.epoch)

    def teardown(self) -> None:
        super().teardown()
        if proofs.product.cache_info().currsize > KEPT:
            proofs.product.cache_clear()
