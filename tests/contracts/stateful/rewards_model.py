# SPDX-License-Identifier: Apache-2.0
"""The rules of Benchmark and Emissions in plain Python, from the design and the docstrings.

Nothing is packed and nothing is summed up in advance: an epoch keeps a table of who proved what,
what has been paid is a set, the schedule is a list of epochs that is added up. A refusal carries
the revert reason that the contract must give; checks come before the first change.

Rules by number (docs/specification.md): I-7 `Benchmark.verify` and `Benchmark.score`, I-8
`Emissions.minted` against `Emissions.scheduled`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from provider_agent.protocol.terms import ZERO_ADDRESS, ZERO_WORD
from tests.contracts.deploy import Parameters
from tests.contracts.stateful.model import BPS, Refused, Staking, need

BOND_ID = bytes(32)
MAX_ROUNDS = 2**24
MAX_USES = 12


@dataclass
class Epoch:
    beacon: bytes
    opened_at: int
    draw: bytes = ZERO_WORD
    drawn_at: int = 0
    results: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Provider -> score, stake in TPF wei."""

    @property
    def scores(self) -> int:
        return sum(score for score, _ in self.results.values())

    @property
    def stakes(self) -> int:
        return sum(stake for _, stake in self.results.values())


@dataclass
class Proof:
    """A provider's last commitment."""

    epoch: int
    rounds: int
    commitment: bytes
    committed_at: int
    backing: int
    """Active stake at the commit, and all that was seized before it."""
    verified: int = 0
    failed: bool = False
    withdrawn: bool = False


class Benchmark:
    """Epochs, proofs and bonds."""

    def __init__(self, p: Parameters, address: str, genesis: int, staking: Staking) -> None:
        self.p = p
        self.address = address
        self.genesis = genesis
        self.staking = staking
        self.epochs: dict[int, Epoch] = {}
        self.proofs: dict[str, Proof] = {}
        self.bonds: dict[str, int] = {}
        """Provider -> last second of the bond that Benchmark counts on."""
        self.latest: dict[str, tuple[int, int]] = {}
        """Provider -> epoch and score of its last proof."""

    # Views

    def start(self, epoch: int) -> int:
        return self.genesis + epoch * self.p.epoch

    def current(self, now: int) -> int:
        return (now - self.genesis) // self.p.epoch

    def window_end(self, epoch: int) -> int:
        return self.epochs[epoch].opened_at + self.p.window

    def first_draw(self, epoch: int) -> int:
        return self.window_end(epoch) + self.p.draw_delay

    def last_draw(self, epoch: int) -> int:
        return self.first_draw(epoch) + self.p.draw_period

    def fault_end(self, epoch: int) -> int:
        return self.start(epoch + 1) + self.p.fault_period

    def is_waiting(self, proof: Proof | None) -> bool:
        """Committed, and neither shown nor failed nor taken back; it may be too late for all."""
        return (
            proof is not None
            and not proof.failed
            and not proof.withdrawn
            and proof.verified < self.p.samples
        )

    def counted(self, provider: str) -> int:
        """Stake that was there at the commit and has not left, not for a moment, since."""
        proof = self.proofs[provider]
        if proof.failed:
            return 0
        staking = self.staking
        stayed = max(0, proof.backing - staking.seized[provider])
        return min(stayed, staking.providers[provider].active.assets)

    def is_open(self, now: int, provider: str) -> bool:
        proof = self.proofs.get(provider)
        if not self.is_waiting(proof):
            return False
        assert proof is not None
        if self.epochs[proof.epoch].drawn_at:
            return now < self.fault_end(proof.epoch)
        return now <= self.last_draw(proof.epoch)

    def score(self, now: int, provider: str) -> int:
        """I-7: of its own epoch and the next SCORE_LIFE ones, and until a failure."""
        epoch, points = self.latest.get(provider, (0, 0))
        return points if self.current(now) <= epoch + self.p.score_life else 0

    def share(self, provider: str, epoch: int) -> tuple[int, int, int, int]:
        if epoch not in self.epochs:
            return 0, 0, 0, 0
        found = self.epochs[epoch]
        return (*found.results.get(provider, (0, 0)), found.scores, found.stakes)

    # Actions

    def open(self, now: int, epoch: int, beacon: bytes) -> None:
        start = self.start(epoch)
        need(
            start <= now < start + self.p.open_period,
            "benchmark: not the time to open the epoch",
        )
        need(epoch not in self.epochs, "benchmark: epoch is open")
        self.epochs[epoch] = Epoch(beacon, now)

    def draw(self, now: int, epoch: int, word: bytes) -> None:
        need(epoch in self.epochs, "benchmark: epoch is not open")
        need(not self.epochs[epoch].drawn_at, "benchmark: already drawn")
        need(now >= self.first_draw(epoch), "benchmark: too early to draw")
        need(now <= self.last_draw(epoch), "benchmark: too late to draw")
        self.epochs[epoch].draw, self.epochs[epoch].drawn_at = word, now

    def commit(self, now: int, operator: str, epoch: int, rounds: int, commitment: bytes) -> None:
        need(epoch in self.epochs, "benchmark: epoch is not open")
        need(now < self.window_end(epoch), "benchmark: window is over")
        need(1 <= rounds <= MAX_ROUNDS, "benchmark: rounds out of bounds")
        provider = self.staking.provider_of(operator)
        need(provider != ZERO_ADDRESS, "benchmark: unknown operator")
        stake = self.staking.providers[provider].active.assets
        need(stake >= self.p.bond, "benchmark: stake below the bond")
        before = self.proofs.get(provider)
        if before and before.epoch == epoch and not before.failed and not before.withdrawn:
            need(rounds > before.rounds, "benchmark: not more rounds than before")
        else:
            need(not self.is_open(now, provider), "benchmark: an earlier proof is open")
        if self.bonds.get(provider, 0) < self.fault_end(epoch):
            self._lock_bond(now, provider, operator)
        backing = stake + self.staking.seized[provider]
        self.proofs[provider] = Proof(epoch, rounds, commitment, now, backing)

    def withdraw_proof(self, now: int, sender: str) -> None:
        proof = self.proofs.get(sender)
        need(
            proof is not None and not proof.failed and not proof.withdrawn,
            "benchmark: no proof to withdraw",
        )
        assert proof is not None
        need(now < self.window_end(proof.epoch), "benchmark: window is over")
        proof.withdrawn = True

    def _lock_bond(self, now: int, provider: str, operator: str) -> None:
        """A new lock in the place of the old one, which stays if there cannot be a new one."""
        key = (self.address, provider, BOND_ID)
        old = self.staking.locks.pop(key, None)
        until = now + self.p.bond_life
        try:
            self.staking.lock(now, self.address, operator, BOND_ID, self.p.bond, until, 0)
        except Refused:
            if old:
                self.staking.locks[key] = old
            raise
        self.bonds[provider] = until

    def verify(self, now: int, provider: str, flaws: Sequence[str | None]) -> int:
        """Open the next samples; a flaw is why an opening must be refused."""
        proof = self.proofs.get(provider)
        need(self.is_waiting(proof), "benchmark: no proof to open")
        assert proof is not None
        epoch = self.epochs[proof.epoch]
        need(epoch.drawn_at != 0, "benchmark: not drawn")
        need(now < self.start(proof.epoch + 1), "benchmark: opening period is over")
        verified = proof.verified + len(flaws)
        need(
            bool(flaws) and verified <= self.p.samples,
            "benchmark: wrong number of openings",
        )
        for flaw in flaws:
            need(flaw is None, str(flaw))
        proof.verified = verified
        if verified == self.p.samples:
            # I-7: committed in the window, drawn after it, and every sample shown.
            assert epoch.opened_at <= proof.committed_at < epoch.opened_at + self.p.window
            assert epoch.drawn_at > proof.committed_at
            assert provider not in epoch.results, "I-7: one score an epoch"
            operations = 2 * self.p.n**2 * 480 * self.p.blocks * proof.rounds
            points = floor(Fraction(operations, self.p.window))
            epoch.results[provider] = (points, self.counted(provider))
            self.latest[provider] = (proof.epoch, points)
        return verified

    def fail(self, now: int, provider: str) -> int:
        """The bond is unlocked and as much is slashed; returns what was burned."""
        proof = self.proofs.get(provider)
        need(
            proof is not None
            and self.is_open(now, provider)
            and self.epochs[proof.epoch].drawn_at != 0,
            "benchmark: no proof to fail",
        )
        assert proof is not None
        need(now >= self.start(proof.epoch + 1), "benchmark: opening period is not over")
        lock = self.staking.locks.pop((self.address, provider, BOND_ID), None)
        try:
            slashed = self.staking.slash(now, self.address, provider, self.p.bond)
        except Refused:
            if lock:
                self.staking.locks[self.address, provider, BOND_ID] = lock
            raise
        proof.failed = True
        self.bonds.pop(provider, None)
        self.latest.pop(provider, None)
        return slashed

    def release_bond(self, now: int, sender: str, provider: str) -> None:
        known = self.staking.providers.get(provider)
        need(
            sender == provider or (known is not None and sender == known.operator),
            "benchmark: caller is not the provider",
        )
        need(not self.is_open(now, provider), "benchmark: a proof is open")
        need(provider in self.bonds, "benchmark: no bond")
        del self.bonds[provider]
        self.staking.unlock(self.address, provider, BOND_ID)


class Emissions:
    """The schedule, and who was paid what of it."""

    def __init__(self, p: Parameters, address: str, owner: str, benchmark: Benchmark) -> None:
        self.p = p
        self.address = address
        self.owner = owner
        self.benchmark = benchmark
        self.staking = benchmark.staking
        self.uses = [address]
        self.weights: dict[int, list[int]] = {0: [p.capacity_bps]}
        """First epoch -> weights in 1/10,000."""
        self.paid: dict[tuple[str, int], int] = {}
        """Provider, epoch -> TPF wei of its capacity reward."""
        self.distributed: Counter[tuple[int, int]] = Counter()
        """Use, epoch -> TPF wei."""

    # Views

    @property
    def minted(self) -> int:
        return sum(self.paid.values()) + self.distributed.total()

    def minted_for(self, epoch: int) -> int:
        """TPF wei minted so far of an epoch's emission."""
        capacity = sum(amount for (_, e), amount in self.paid.items() if e == epoch)
        return capacity + sum(amount for (_, e), amount in self.distributed.items() if e == epoch)

    def emission(self, epoch: int) -> int:
        return floor(Fraction(self.p.initial_emission, 2 ** (epoch // self.p.halving_epochs)))

    def scheduled(self, epoch: int) -> int:
        return sum(self.emission(e) for e in range(epoch + 1))

    def weight(self, use: int, epoch: int) -> int:
        weights = self.weights[max(first for first in self.weights if first <= epoch)]
        return weights[use] if use < len(weights) else 0

    def part(self, use: int, epoch: int) -> int:
        return floor(Fraction(self.emission(epoch) * self.weight(use, epoch), BPS))

    def reward(self, provider: str, epoch: int) -> int:
        score, stake, scores, stakes = self.benchmark.share(provider, epoch)
        if not score or not stake:
            return 0
        part = self.part(0, epoch)
        by_stake = Fraction(self.p.stake_cap_bps * stake, BPS * stakes)
        return floor(part * min(Fraction(score, scores), by_stake))

    def due(self, provider: str, epoch: int) -> int:
        return 0 if (provider, epoch) in self.paid else self.reward(provider, epoch)

    # Actions

    def claim(self, now: int, provider: str, epochs: Sequence[int]) -> int:
        current = self.benchmark.current(now)
        need(all(epoch < current for epoch in epochs), "emissions: epoch has not ended")
        amounts = {epoch: self.due(provider, epoch) for epoch in epochs}
        total = sum(amounts.values())
        need(total > 0, "emissions: nothing to claim")
        # In the order of the list, though the order changes no sum.
        for epoch in dict.fromkeys(epochs):
            if amounts[epoch]:
                self._pay(now, provider, amounts[epoch], epoch)
                self.paid[provider, epoch] = amounts[epoch]
        return total

    def _pay(self, now: int, provider: str, amount: int, epoch: int) -> None:
        end = self.benchmark.start(epoch + 1)
        self.staking.reward(now, self.address, provider, amount, end)

    def distribute(self, now: int, sender: str, provider: str, epoch: int, amount: int) -> None:
        need(sender in self.uses[1:], "emissions: caller is no distributor")
        use = self.uses.index(sender)
        need(epoch < self.benchmark.current(now), "emissions: epoch has not ended")
        need(amount > 0, "emissions: zero amount")
        spent = self.distributed[use, epoch] + amount
        need(spent <= self.part(use, epoch), "emissions: above the use's part")
        self._pay(now, provider, amount, epoch)
        self.distributed[use, epoch] = spent

    def add_use(self, sender: str, distributor: str) -> int:
        need(sender == self.owner, "ownable: caller is not the owner")
        need(distributor != ZERO_ADDRESS, "emissions: zero distributor")
        need(distributor not in self.uses[1:], "emissions: use exists")
        need(len(self.uses) < MAX_USES, "emissions: too many uses")
        self.uses.append(distributor)
        return len(self.uses) - 1

    def set_weights(self, now: int, sender: str, weights: Sequence[int]) -> None:
        need(sender == self.owner, "ownable: caller is not the owner")
        need(len(weights) <= len(self.uses), "emissions: weight of no use")
        need(sum(weights) <= BPS, "emissions: weights above 100 %")
        self.weights[self.benchmark.current(now) + 1] = list(weights)
