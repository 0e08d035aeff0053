# SPDX-License-Identifier: Apache-2.0
"""The size of a proof: how much fits into a device and into a time.

On chain the shape is fixed and only the rounds are the provider's choice (`rounds_within`). A
measurement chooses its shape too (`choose`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from provider_agent.prover.cuda.device import Kind
from provider_agent.prover.cuda.plan import Tiles, shares, tiles
from teraproof.pog.errors import EngineError
from teraproof.pog.format import ENTRIES_PER_LEAF, MAX_ROUNDS, Shape

SIDES = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
DEPTHS = (1, 2, 4, 8, 17, 34, 68, 136, 277)
"""Blocks. 34 and 68 are depths of 16,320 and 32,640, whose gas is known; 277 is the most."""

# Keccak permutations: four for a leaf and one for its share of the nodes; of a block of words one,
# and its 15 squarings cost about as much again.
_HASHES_PER_LEAF, _HASHES_PER_BLOCK = 5, 1.9
# Tiles below this read more from memory than they multiply.
_LEAST_TILE = 4096


def rounds_within(shape: Shape, rate: float, seconds: float) -> int:
    """Whole rounds that a device of `rate` operations per second does in that time; 0 if none."""
    return min(MAX_ROUNDS, int(rate * seconds / shape.operations))


def overhead(shape: Shape) -> float:
    """Keccak permutations for each operation of a round: what the product has to carry."""
    leaves = shape.n * shape.n / ENTRIES_PER_LEAF
    hashes = _HASHES_PER_LEAF * leaves + _HASHES_PER_BLOCK * shape.n * shape.blocks
    return hashes / shape.operations


def choose(
    fits: Callable[[Shape], bool],
    rate: float,
    seconds: float,
    least_rounds: int = 32,
    shapes: Iterable[Shape] | None = None,
) -> tuple[Shape, int]:
    """The shape that carries least besides its products, and its rounds.

    Args:
        fits: whether a shape fits into the memory.
        rate: expected operations per second.
        seconds: the time to fill.
        least_rounds: the time holds at least these rounds, so that the work that the first and
            the last have alone does not count.
        shapes: what to choose from; all by default.

    Where even the smallest shape is too large, that one with at least one round.
    """
    best: tuple[Shape, int] | None = None
    for shape in shapes if shapes is not None else all_shapes():
        rounds = rounds_within(shape, rate, seconds)
        if rounds < least_rounds or not fits(shape):
            continue
        if best is None or overhead(shape) < overhead(best[0]):
            best = shape, rounds
    if best is None:
        least = Shape(SIDES[0], DEPTHS[0])
        return least, max(1, rounds_within(least, rate, seconds))
    return best


def all_shapes() -> list[Shape]:
    """The shapes that a measurement considers, the smallest round first."""
    shapes = [Shape(n, blocks) for n in SIDES for blocks in DEPTHS]
    return sorted(shapes, key=lambda shape: shape.operations)


def ladder(main: Shape, fits: Callable[[Shape], bool], rungs: int = 4) -> list[Shape]:
    """Shapes up to the main one, for a table: each has both sides larger than the last.

    The main one comes last; there are at most `rungs` before it.
    """
    steps: list[Shape] = []
    side, depth = SIDES.index(main.n), _at_most(main.blocks)
    while len(steps) < rungs and side > 0:
        side, depth = side - 1, max(0, depth - 1)
        shape = Shape(SIDES[side], DEPTHS[depth])
        if fits(shape):
            steps.append(shape)
    return [*reversed(steps), main]


def plans(
    shape: Shape,
    free: Sequence[int],
    speeds: Sequence[float] | None = None,
    kinds: Sequence[Kind] | None = None,
) -> list[Tiles]:
    """How GPUs with these bytes free would hold the shape. EngineError when one cannot.

    `speeds` and `kinds` of product are by GPU; like ones with int8 unless told.
    """
    speeds, kinds = speeds or [1.0] * len(free), kinds or [Kind.INT8] * len(free)
    parts = zip(shares(shape, speeds), free, kinds, strict=True)
    return [tiles(shape, part, there, kind) for part, there, kind in parts if part.rows]


def fits_gpus(
    free: Sequence[int],
    speeds: Sequence[float] | None = None,
    kinds: Sequence[Kind] | None = None,
) -> Callable[[Shape], bool]:
    """Whether a shape runs at full speed on GPUs with these bytes free: A kept, large tiles."""

    def fits(shape: Shape) -> bool:
        try:
            found = plans(shape, free, speeds, kinds)
        except EngineError:
            return False
        rows = [part.rows for part in shares(shape, speeds or [1.0] * len(free)) if part.rows]
        return all(
            one.keep_a and min(one.rows, one.columns) >= min(_LEAST_TILE, least)
            for one, least in zip(found, rows, strict=True)
        )

    return fits


def fits_machine(free: int) -> Callable[[Shape], bool]:
    """Whether a shape takes at most half of a machine's free memory with the CPU engine."""

    def fits(shape: Shape) -> bool:
        matrices = 3 * shape.n * shape.depth + 3 * shape.n * shape.n
        return matrices + 12 * 2048 * shape.n < free // 2

    return fits


def _at_most(blocks: int) -> int:
    """Place of the largest usual depth that is not above these blocks."""
    return max(place for place, depth in enumerate(DEPTHS) if depth <= blocks)
