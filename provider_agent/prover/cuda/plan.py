# SPDX-License-Identifier: Apache-2.0
"""How a round is laid over devices and their memory: shares of rows, and tiles of a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provider_agent.prover.cuda.device import ENTRY_BYTES, Kind
from provider_agent.prover.products.cuda_ways import stage_bytes
from teraproof.pog.errors import EngineError
from teraproof.pog.format import ENTRIES_PER_LEAF, Shape

_SUM_BYTES = 4  # an int32 of C
_HASH_BYTES = 32
# What the libraries and the fragments take: a part of the memory and a fixed piece.
_SPARE_PART, _SPARE_BYTES = 0.03, 384 << 20
_MIN_TILE = ENTRIES_PER_LEAF
_MIN_ROWS = 16
_GIB = 1 << 30
_LIKE = 0.05
_LIKE_PIECES, _UNLIKE_PIECES = 64, 128


@dataclass(frozen=True)
class Share:
    """The rows of every round that one device computes.

    They are `subtrees` aligned pieces of the round's tree, each the same power of two of rows, so
    that one hash a piece is all that leaves the device.
    """

    first: int
    rows: int
    subtrees: int

    @property
    def subtree_rows(self) -> int:
        """Rows under one of the hashes that leave the device."""
        return self.rows // self.subtrees


@dataclass(frozen=True)
class Tiles:
    """How a device works through its share: `columns` of B and `rows` of C at a time.

    Two tiles of B and of C are in memory at once, so that the next one is made while one is used.
    `keep_a` is False where A does not fit either and its rows are made again for every tile.
    """

    rows: int
    columns: int
    keep_a: bool

    @property
    def cost(self) -> float:
        """What the tiles cost besides the operations, to compare them; a calculation.

        A product reads (1/rows + 1/columns) / 2 bytes for each operation. Making A again for every
        tile of B takes about four times what reading a side of that length does, on a card of
        1.4e15 operations, 3e12 bytes and 3e9 hashes a second.
        """
        return 1 / self.rows + 1 / self.columns + (0 if self.keep_a else 4 / self.columns)

    def bytes(self, shape: Shape, share_rows: int, kind: Kind = Kind.INT8) -> int:
        """Memory that it takes: A, two tiles of B, two of C, the tree.

        Centred operands are wider, have a sum for each row and are made from bytes.
        """
        a = share_rows if self.keep_a else 2 * self.rows
        width, centring = shape.depth * ENTRY_BYTES[kind], 0
        if kind is not Kind.INT8:
            width += _SUM_BYTES
            centring = stage_bytes(kind, shape.depth, max(self.rows, self.columns))
        tree = 2 * share_rows * shape.n // ENTRIES_PER_LEAF * _HASH_BYTES
        return (
            (a + 2 * self.columns) * width
            + centring
            + 2 * self.rows * self.columns * _SUM_BYTES
            + tree
        )


def shares(shape: Shape, speeds: Sequence[float]) -> list[Share]:
    """Rows for each of several devices of these speeds, so that they need the same time.

    Speeds that differ by less than measurements do count as one: a power of two of like devices
    gets one piece each. Otherwise there are at least 64 pieces where the rows allow it, 128 for
    unlike devices, and each goes to the device that would be done with it first. A device that is
    too slow for a single piece gets no rows. EngineError for more devices than pieces.
    """
    devices = len(speeds)
    like = max(speeds) <= (1 + _LIKE) * min(speeds)
    if like and devices & (devices - 1) == 0:
        pieces = devices
    else:
        least = _LIKE_PIECES if like else _UNLIKE_PIECES
        pieces = min(max(least, 1 << (8 * devices - 1).bit_length()), shape.n // _MIN_ROWS)
    if pieces < devices or shape.n // pieces < _MIN_ROWS:
        raise EngineError(f"{devices} devices are too many for size {shape.n}; use fewer")
    counts = [0] * devices
    rates = [1.0] * devices if like else speeds
    for _ in range(pieces):
        ends = [(count + 1) / rate for count, rate in zip(counts, rates, strict=True)]
        counts[ends.index(min(ends))] += 1
    rows, found, first = shape.n // pieces, list[Share](), 0
    for count in counts:
        found.append(Share(first, count * rows, count))
        first += count * rows
    return found


def tiles(shape: Shape, share: Share, free: int, kind: Kind = Kind.INT8) -> Tiles:
    """The tiles that cost least of those that fit into `free` bytes.

    EngineError, with what would be needed, when not even the smallest tiles fit.
    """
    usable = int(free * (1 - _SPARE_PART)) - _SPARE_BYTES
    choices = [
        Tiles(rows, columns, keep_a)
        for keep_a in (True, False)
        for rows in _halves(share.rows, share.subtrees)
        for columns in _halves(shape.n, 1)
    ]
    fitting = [choice for choice in choices if choice.bytes(shape, share.rows, kind) <= usable]
    if fitting:
        return min(fitting, key=lambda choice: choice.cost)
    least = min(choice.bytes(shape, share.rows, kind) for choice in choices)
    needed = (least + _SPARE_BYTES) / (1 - _SPARE_PART) / _GIB
    raise EngineError(
        f"size {shape.n} with {shape.blocks} blocks needs {needed:.1f} GiB of GPU memory, "
        f"{free / _GIB:.1f} GiB are free; stop other work on the GPU or use a smaller shape"
    )


def _halves(whole: int, pieces: int) -> list[int]:
    """Tile sizes that divide a side: all of it, then powers of two below it.

    A share may be any number of pieces; its smaller tiles are some pieces that divide it, or a part
    of one.
    """
    piece = whole // pieces
    sizes = [piece * count for count in range(pieces, 0, -1) if pieces % count == 0]
    size = piece // 2
    while size >= _MIN_TILE:
        sizes.append(size)
        size //= 2
    return sizes
