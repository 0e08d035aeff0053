# SPDX-License-Identifier: Apache-2.0
"""Benchmark and Emissions as a public network would have them, and the life of an epoch."""

from __future__ import annotations

from web3.contract import Contract

from benchmarks import openings
from benchmarks.chain import Chain
from benchmarks.network import LOCK, SLASH, Network
from teraproof.pog.format import Shape

# What a proof costs apart from its openings does not depend on its size, so that is measured with
# small ones, made at once.
SMALL = Shape(256, 1)
# Every boundary opens a window that is not too early: nobody has to wait for a day.
CERTAIN = 1_000_000


class Capacity(Network):
    """A network whose Benchmark takes small proofs, and two Benchmarks of real sizes."""

    def __init__(self, chain: Chain) -> None:
        self.genesis = chain.now + 3_600
        small = {"n": SMALL.n, "blocks": SMALL.blocks}
        times = {"genesis": self.genesis, "chance_ppm": CERTAIN}
        super().__init__(chain, {"Benchmark": {**times, **small}})
        self.samples = self.argument("Benchmark", "samples")
        self.real = {name: self._real(name, shape) for name, shape in openings.SHAPES.items()}
        self.seal({benchmark.address: LOCK | SLASH for benchmark in self.real.values()})

    def _real(self, name: str, shape: Shape) -> Contract:
        """A Benchmark whose scores are paid by nobody: Emissions is not a manager of Staking."""
        # Made openings are bound to this contract's address.
        deployer = self.chain.account(openings.deployer_of(name))
        benchmark = self.deploy(deployer, "Benchmark", n=shape.n, blocks=shape.blocks)
        emissions = self.deploy(deployer, "Emissions", benchmark=benchmark.address)
        self.chain.send(deployer, benchmark, "setup_rewards", emissions.address)
        return benchmark

    def open(self, benchmark: Contract) -> int:
        """Wait for the next window and open it; returns the gas."""
        chain, slot = self.chain, self.argument("Benchmark", "slot")
        earliest = max(benchmark.functions.next_window_from().call(), chain.now + 1)
        boundary = self.genesis - (self.genesis - earliest) // slot * slot
        chain.wait_until(boundary)
        chain.mine()
        number = chain.web3.eth.block_number
        block, parent = chain.header(number), chain.header(number - 1)
        return chain.send(self.deployer, benchmark, "open", number, block.data, parent.data)

    def close(self, benchmark: Contract, epoch: int) -> int:
        """Wait for the end of the window and name the block of the draw; returns the gas."""
        opened_at = benchmark.functions.epoch_of(epoch).call()[1]
        self.chain.wait_until(opened_at + self.argument("Benchmark", "window"))
        return self.chain.send(self.deployer, benchmark, "close", epoch)

    def draw(self, benchmark: Contract, epoch: int) -> int:
        """Wait for that block and draw; returns the gas."""
        target = benchmark.functions.epoch_of(epoch).call()[2]
        self.chain.mine(target - self.chain.web3.eth.block_number)
        header = self.chain.header(target).data
        return self.chain.send(self.deployer, benchmark, "draw", epoch, header)

    def end(self, benchmark: Contract, epoch: int) -> None:
        """Wait for the end of an epoch."""
        self.chain.wait_until(benchmark.functions.epoch_of(epoch).call()[4])

    def replace(self, benchmark: Contract, variable: str, epoch: int, word: bytes) -> None:
        """Put another beacon or draw in place of an epoch's."""
        chain = self.chain
        slot = chain.slot_of("Benchmark", "clock", variable)
        chain.write(benchmark.address, openings.slot_in(slot, epoch), word)
