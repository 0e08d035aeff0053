# SPDX-License-Identifier: Apache-2.0
"""What proofs and rewards cost: an epoch's transactions and the openings of real proofs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from eth_account.signers.local import LocalAccount

from benchmarks import openings
from benchmarks.capacity import SMALL, Capacity
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import DAY, DELEGATED, Provider
from provider_agent.prover.cpu import CpuEngine
from provider_agent.prover.engine import Engine
from provider_agent.prover.proof import Proof

# Both have a path of one node and no earlier root, whatever is drawn.
ROUNDS = 2


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
    """Openings at the sizes of public networks, made once (see `benchmarks.openings`).

    Nobody can choose a block's prevrandao, here no more than elsewhere: beacons and draws are
    replaced in storage by those that the openings were made for.
    """
    benchmark, send = capacity.real[name], capacity.chain.send
    prover = capacity.provider(openings.prover_of(name))
    pool = prover.owner.address
    partly, claimed = openings.read(name)
    for proof in (partly, claimed):
        capacity.open(benchmark)
        capacity.replace(benchmark, "beacons", proof.epoch, proof.beacon)
        send(prover.operator, benchmark, "commit", proof.epoch, proof.rounds, proof.commitment)
        capacity.close(benchmark, proof.epoch)
        capacity.draw(benchmark, proof.epoch)
        capacity.replace(benchmark, "draws", proof.epoch, proof.draw)
        if proof is partly:
            with capacity.chain.undone():
                gas = send(prover.operator, benchmark, "open_sample", pool, proof.openings[0])
            meter.note(f"benchmark_open_one_{name}_one_round", gas)
            gas = send(prover.operator, benchmark, "open_samples", pool, proof.openings)
            meter.note(f"benchmark_open_eight_{name}", gas)
        else:
            gas = send(prover.operator, benchmark, "open_sample", pool, proof.openings[0])
            meter.note(f"benchmark_open_one_{name}", gas)
        capacity.end(benchmark, proof.epoch)


@dataclass
class Prover:
    """A provider whose proofs are made at once."""

    capacity: Capacity
    engine: Engine
    name: str

    def __post_init__(self) -> None:
        self.provider: Provider = self.capacity.provider(self.name)
        self.benchmark = self.capacity.benchmark
        self.pool = self.provider.owner.address

    def prove(self, epoch: int) -> None:
        """Do the rounds of an open epoch."""
        challenge = self.benchmark.functions.challenge(self.pool, epoch).call()
        self.engine.prepare(challenge, SMALL)
        roots = self.engine.roots([])
        self._roots = tuple(islice(roots, ROUNDS))
        self._challenge = challenge

    def commit(self, epoch: int, rounds: int = ROUNDS) -> int:
        """Commit to the first of the rounds; returns the gas."""
        self._proof = Proof(self._challenge, SMALL, self._roots[:rounds])
        return self._send("commit", epoch, rounds, self._proof.commitment)

    def openings(self, epoch: int) -> list[list[bytes]]:
        """The openings of all samples of a drawn epoch."""
        draw, samples = self.benchmark.functions.epoch_of(epoch).call()[3], self.capacity.samples
        return [opening.words() for opening in self._proof.openings(self.engine, draw, samples)]

    def open(self, rows: list[list[bytes]]) -> int:
        """Open samples in one transaction; returns the gas."""
        if len(rows) == 1:
            return self._send("open_sample", self.pool, rows[0])
        return self._send("open_samples", self.pool, rows)

    def claim(self) -> int:
        """Claim the reward of the last epoch; returns the gas."""
        capacity = self.capacity
        return capacity.chain.send(self.provider.operator, capacity.emissions, "claim", self.pool)

    def delegator(self, number: int) -> LocalAccount:
        """One of the two who have stake in the pool."""
        return self.capacity.chain.account(f"{self.name} delegator {number}")

    def _send(self, function: str, *arguments: object) -> int:
        chain = self.capacity.chain
        return chain.send(self.provider.operator, self.benchmark, function, *arguments)


def _epochs(capacity: Capacity, meter: Meter, engine: Engine) -> None:
    """Epochs with three provers.

    One is measured; one scores before it, so that the epoch's sum is not zero; one never opens
    its samples.
    """
    benchmark, staking, send = capacity.benchmark, capacity.staking, capacity.chain.send
    prover, rival, cheat = (Prover(capacity, engine, name) for name in ("prover", "rival", "cheat"))
    hunter = capacity.chain.account("hunter")
    newcomer = capacity.holder(capacity.chain.account("newcomer"), 10 * DELEGATED)
    other = capacity.holder(capacity.chain.account("hesitant"), 10 * DELEGATED)
    pool = prover.pool
    for epoch in range(1, 1 + CYCLES):
        meter.note("benchmark_open_epoch", capacity.open(benchmark))
        prover.prove(epoch)
        meter.note("benchmark_commit", prover.commit(epoch, ROUNDS - 1))
        meter.note("benchmark_commit_replace", prover.commit(epoch))
        for rest in (rival, cheat):
            rest.prove(epoch)
            rest.commit(epoch)
        # The epoch is not settled: what comes now waits.
        gas = send(newcomer, staking, "delegate", pool, DELEGATED)
        meter.note("staking_delegate_entry", gas)
        send(other, staking, "delegate", pool, DELEGATED)
        meter.note("staking_take_back", send(other, staking, "take_back", pool))
        meter.note("benchmark_close", capacity.close(benchmark, epoch))
        meter.note("benchmark_draw", capacity.draw(benchmark, epoch))
        rival.open(rival.openings(epoch))
        rows = prover.openings(epoch)
        meter.note("benchmark_open_one_n256", prover.open(rows[:1]))
        prover.open(rows[1:-1])
        meter.note("benchmark_open_last_n256", prover.open(rows[-1:]))
        capacity.end(benchmark, epoch)
        meter.note("benchmark_fail", send(hunter, benchmark, "fail", cheat.pool))
        meter.note("emissions_claim", prover.claim())
        gas = send(hunter, staking, "activate", pool, newcomer.address)
        meter.note("staking_activate", gas)

    # Nobody closes: the epoch is void. Later the bond would end before a failure can be reported,
    # so it is locked again; and a commit settles the scored epoch before.
    for epoch in range(1 + CYCLES, 1 + 2 * CYCLES):
        capacity.open(benchmark)
        prover.prove(epoch)
        prover.commit(epoch)
        capacity.end(benchmark, epoch)
        meter.note("benchmark_settle_void", send(hunter, benchmark, "settle", pool))
    capacity.chain.pass_time(30 * DAY)
    capacity.open(benchmark)
    epoch += 1
    prover.prove(epoch)
    meter.note("benchmark_commit_with_new_bond", prover.commit(epoch))
