# SPDX-License-Identifier: Apache-2.0
"""What proofs and rewards cost: an epoch's transactions and the openings of real proofs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from web3.contract import Contract

from benchmarks import openings
from benchmarks.capacity import BOND_LIFE, EPOCH, SAMPLES, SMALL, Capacity
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import Provider
from provider_agent.benchmark.cpu import CpuEngine
from provider_agent.benchmark.engine import Engine
from provider_agent.benchmark.format import Shape
from provider_agent.benchmark.proof import Proof

# Both have a path of one node and no earlier root, whatever is drawn.
ROUNDS = 2
FIRST = openings.FIRST_EPOCH + 2  # epochs; the made proofs take two before
LONG_CLAIM = 16


def measure(capacity: Capacity, meter: Meter) -> None:
    """Run everything."""
    for name in openings.SHAPES:
        _real(capacity, meter, name)
    engine = CpuEngine()
    try:
        _epochs(capacity, meter, engine)
    finally:
        engine.close()


def _real(capacity: Capacity, meter: Meter, name: str) -> None:
    """Openings at the sizes of public networks, made once (see `benchmarks.openings`)."""
    benchmark, send = capacity.real[name], capacity.chain.send
    prover = capacity.provider(openings.prover_of(name))
    pool = prover.owner.address
    partly, claimed = openings.read(name)
    for proof in (partly, claimed):
        capacity.set_random(proof.beacon)
        capacity.open(benchmark, proof.epoch)
        send(prover.operator, benchmark, "commit", proof.epoch, proof.rounds, proof.commitment)
        capacity.set_random(proof.draw)
        capacity.draw(benchmark, proof.epoch)
        if proof is partly:
            with capacity.chain.undone():
                gas = send(prover.operator, benchmark, "open_sample", pool, proof.openings[0])
            meter.note(f"benchmark_open_one_{name}_one_round", gas)
            rows = proof.openings[:SAMPLES]
            gas = send(prover.operator, benchmark, "open_samples", pool, rows)
            meter.note(f"benchmark_open_eight_{name}", gas)
        else:
            gas = send(prover.operator, benchmark, "open_sample", pool, proof.openings[0])
            meter.note(f"benchmark_open_one_{name}", gas)


@dataclass
class Prover:
    """A provider at a Benchmark whose proofs are made at once."""

    capacity: Capacity
    engine: Engine
    name: str
    benchmark: Contract
    shape: Shape

    def __post_init__(self) -> None:
        self.provider: Provider = self.capacity.provider(self.name)
        self.pool = self.provider.owner.address

    def prove(self, epoch: int) -> None:
        """Do the rounds of an open epoch."""
        challenge = self.benchmark.functions.challenge(self.pool, epoch).call()
        self.engine.prepare(challenge, self.shape)
        roots = self.engine.roots([])
        self._roots = tuple(islice(roots, ROUNDS))
        self._challenge = challenge

    def commit(self, epoch: int, rounds: int) -> int:
        """Commit to the first of the rounds; returns the gas."""
        self._proof = Proof(self._challenge, self.shape, self._roots[:rounds])
        return self._send("commit", epoch, rounds, self._proof.commitment)

    def openings(self, epoch: int) -> list[list[bytes]]:
        """The openings of all samples of a drawn epoch."""
        draw = self.benchmark.functions.epoch_of(epoch).call()[2]
        return [opening.words() for opening in self._proof.openings(self.engine, draw, SAMPLES)]

    def open(self, rows: list[list[bytes]]) -> int:
        """Open samples in one transaction; returns the gas."""
        if len(rows) == 1:
            return self._send("open_sample", self.pool, rows[0])
        return self._send("open_samples", self.pool, rows)

    def claim(self, epochs: list[int]) -> int:
        """Claim the rewards of epochs; returns the gas."""
        capacity = self.capacity
        return capacity.chain.send(
            self.provider.operator, capacity.emissions, "claim", self.pool, epochs
        )

    def _send(self, function: str, *arguments: object) -> int:
        chain = self.capacity.chain
        return chain.send(self.provider.operator, self.benchmark, function, *arguments)


def _epochs(capacity: Capacity, meter: Meter, engine: Engine) -> None:
    """Epochs with three provers.

    One is measured; one scores before it, so that the epoch's sums are not zero; one never opens
    its samples.
    """
    benchmark, send = capacity.benchmark, capacity.chain.send
    prover, rival, cheat = (
        Prover(capacity, engine, name, benchmark, SMALL) for name in ("prover", "rival", "cheat")
    )
    hunter = capacity.chain.account("hunter")
    for epoch in range(FIRST, FIRST + CYCLES):
        meter.note("benchmark_open_epoch", capacity.open(benchmark, epoch))
        prover.prove(epoch)
        meter.note("benchmark_commit", prover.commit(epoch, ROUNDS - 1))
        meter.note("benchmark_commit_replace", prover.commit(epoch, ROUNDS))
        for other in (rival, cheat):
            other.prove(epoch)
            other.commit(epoch, ROUNDS)
        meter.note("benchmark_draw", capacity.draw(benchmark, epoch))
        rival.open(rival.openings(epoch))
        rows = prover.openings(epoch)
        meter.note("benchmark_open_one_n256", prover.open(rows[:1]))
        prover.open(rows[1:-1])
        meter.note("benchmark_open_last_n256", prover.open(rows[-1:]))
        capacity.chain.wait_until(capacity.genesis + (epoch + 1) * EPOCH)
        meter.note("benchmark_fail", send(hunter, benchmark, "fail", cheat.pool))
        meter.note("emissions_claim", prover.claim([epoch]))

    long = list(range(FIRST + CYCLES, FIRST + CYCLES + LONG_CLAIM))
    for epoch in long:
        capacity.open(benchmark, epoch)
        for other in (prover, rival):
            other.prove(epoch)
            other.commit(epoch, ROUNDS)
        capacity.draw(benchmark, epoch)
        for other in (rival, prover):
            other.open(other.openings(epoch))
    capacity.chain.wait_until(capacity.genesis + (long[-1] + 1) * EPOCH)
    meter.note("emissions_claim_16_epochs", prover.claim(long))

    # The bond ends before a failure could be reported: it is locked anew.
    epoch = FIRST + BOND_LIFE // EPOCH
    capacity.open(benchmark, epoch)
    prover.prove(epoch)
    meter.note("benchmark_commit_with_new_bond", prover.commit(epoch, ROUNDS))
