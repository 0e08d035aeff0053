# SPDX-License-Identifier: Apache-2.0
"""What a Benchmark contract fixes permanently, as the pure rules of `teraproof.pog`."""

from __future__ import annotations

from collections.abc import Sequence

from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.pog.format import Shape
from teraproof.pog.schedule import Rules
from teraproof.rpc.types import Block


def rules_of(benchmark: BenchmarkContract, block: Block) -> Rules:
    """The rules of a market's epochs; BenchmarkError when its sizes are not of format v2."""
    return Rules(
        shape=Shape(benchmark.n(block), benchmark.blocks(block)),
        samples=benchmark.samples(block),
        bond=benchmark.bond(block),
        genesis=benchmark.genesis(block),
        slot=benchmark.slot(block),
        chance_ppm=benchmark.chance_ppm(block),
        spacing=benchmark.spacing(block),
        open_period=benchmark.open_period(block),
        window=benchmark.window(block),
        draw_period=benchmark.draw_period(block),
        draw_delay=benchmark.draw_delay(block),
        reach=benchmark.reach(block),
        opening_period=benchmark.opening_period(block),
        fault_period=benchmark.fault_period(block),
        source=benchmark.source(block),
    )


def show_samples(
    benchmark: BenchmarkContract, provider: str, openings: Sequence[Sequence[bytes]]
) -> bytes:
    """Calldata that shows the next samples of a proof, each as a list of 32-byte words."""
    if len(openings) == 1:
        return benchmark.open_sample(provider, openings[0])
    return benchmark.open_samples(provider, openings)
