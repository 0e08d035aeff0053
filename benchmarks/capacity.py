# SPDX-License-Identifier: Apache-2.0
"""Benchmark and Emissions as a public network would have them."""

from __future__ import annotations

from web3.contract import Contract

from benchmarks import openings
from benchmarks.chain import Chain
from benchmarks.network import DAY, LOCK, REWARD, SLASH, TPF, Network
from provider_agent.benchmark.format import Shape

# Times and amounts of deployments/params/sepolia.yaml.
SAMPLES = 8
BOND = 1_000 * TPF
EPOCH = DAY
OPEN_PERIOD = 600
WINDOW = 300
DRAW_DELAY = 36
DRAW_PERIOD = 120
FAULT_PERIOD = 3 * DAY
BOND_LIFE = 30 * DAY
SCORE_LIFE = 2
PREVRANDAO, ARBITRUM = 0, 2

# What a proof costs apart from its openings does not depend on its size, so that is measured with
# small ones, made at once.
SMALL = Shape(256, 1)

# ArbSys, where the contract asks for the previous block's hash on Arbitrum.
ARB_SYS = "0x0000000000000000000000000000000000000064"


class Capacity(Network):
    """A network with a Benchmark of small proofs and its Emissions, and two of real sizes."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.genesis = chain.now + 3_600
        self.benchmark = self._benchmark("deployer", SMALL, PREVRANDAO)
        self.emissions = chain.deploy(
            self.deployer,
            "Emissions",
            self.token.address,
            self.staking.address,
            self.benchmark.address,
            self.timelock.address,
            308_000 * TPF,
            1_461,
            40_000,
            10_000,
        )
        chain.send(self.deployer, self.token, "set_minter", self.emissions.address)
        # Made proofs are bound to their beacon and draw. Anvil lets nobody choose prevrandao, but
        # the source for Arbitrum is a contract, whose place can be taken.
        self.real = {
            name: self._benchmark(openings.deployer_of(name), shape, ARBITRUM)
            for name, shape in openings.SHAPES.items()
        }
        managers: dict[str, int] = {self.emissions.address: REWARD}
        for benchmark in (self.benchmark, *self.real.values()):
            managers[benchmark.address] = LOCK | SLASH
        self.seal(managers)

    def _benchmark(self, deployer: str, shape: Shape, randomness: int) -> Contract:
        return self.chain.deploy(
            self.chain.account(deployer),
            "Benchmark",
            self.staking.address,
            shape.n,
            shape.blocks,
            SAMPLES,
            BOND,
            self.genesis,
            EPOCH,
            OPEN_PERIOD,
            WINDOW,
            DRAW_DELAY,
            DRAW_PERIOD,
            FAULT_PERIOD,
            BOND_LIFE,
            SCORE_LIFE,
            randomness,
        )

    def open(self, benchmark: Contract, epoch: int) -> int:
        """Wait for an epoch and open it; returns the gas."""
        self.chain.wait_until(self.genesis + epoch * EPOCH)
        return self.chain.send(self.deployer, benchmark, "open", epoch)

    def draw(self, benchmark: Contract, epoch: int) -> int:
        """Wait for the time of the draw and make it; returns the gas."""
        opened_at = benchmark.functions.epoch_of(epoch).call()[1]
        self.chain.wait_until(opened_at + WINDOW + DRAW_DELAY)
        return self.chain.send(self.deployer, benchmark, "draw", epoch)

    def set_random(self, word: bytes) -> None:
        """What the Benchmarks of the real shapes find as randomness from now on."""
        # PUSH32 word, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN: the answer to every question.
        self.chain.set_code(ARB_SYS, b"\x7f" + word + bytes.fromhex("5f5260205ff3"))
