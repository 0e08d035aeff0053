# SPDX-License-Identifier: Apache-2.0
"""One device's part of the rounds: tiles of B and C through three streams.

    generation   B(t+1) ........ needs root(t-1)
    product      C(t) = A B(t)
    hashing      leaves and nodes of C(t-1)

Centred products have more to do in the first and the last: entries become floats, and their sums
become those of the format.

B and C have two slots each. A slot is filled again once the work that read it is done; the events
below say so to the device, and the host waits for hashes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from provider_agent.prover.cuda import kernels
from provider_agent.prover.cuda.device import (
    ENTRY_BYTES,
    Buffer,
    CudaDevice,
    Download,
    Event,
    Kind,
    Region,
    Stream,
)
from provider_agent.prover.cuda.plan import Share, Tiles
from provider_agent.prover.engine import Timings
from provider_agent.prover.products.cuda_ways import centre, restore, stage_rows
from teraproof.pog.format import ENTRIES_PER_LEAF, Shape

_HASH_BYTES = 32
_SUM_BYTES = 4
_LEAF_SUMS_BYTES = _SUM_BYTES * ENTRIES_PER_LEAF


@dataclass
class Part:
    """A device's part of a round that is under way: what comes back, and when it was worked on."""

    hashes: Download
    """The tops of the share's subtrees, 32 bytes each."""
    times: list[tuple[Stream, Event, Event]]
    leaf: Download | None = None
    """The 512 int32 of the leaf that was asked for."""
    path: list[Download] = field(default_factory=list)
    """Its siblings within its subtree."""


class ShareWorker:
    """Works on one share of the rows of every round of a challenge, on one device."""

    def __init__(
        self,
        device: CudaDevice,
        shape: Shape,
        share: Share,
        tiles: Tiles,
        kind: Kind = Kind.INT8,
    ) -> None:
        """Take the memory. EngineError when it is not there."""
        self.device = device
        self.share = share
        self.overlap = True
        """Whether the streams run side by side; otherwise all work is in one, to time it alone."""
        self._shape = shape
        self._tiles = tiles
        self._leaves = share.rows * shape.n // ENTRIES_PER_LEAF
        self._kind = kind
        self._row_bytes = shape.depth * ENTRY_BYTES[kind]
        self._buffers: list[Buffer] = []
        rows_of_a = share.rows if tiles.keep_a else 2 * tiles.rows
        try:
            self._a = self._allocate(rows_of_a * self._row_bytes)
            self._b = [self._allocate(tiles.columns * self._row_bytes) for _ in range(2)]
            self._c = [self._allocate(tiles.rows * tiles.columns * _SUM_BYTES) for _ in range(2)]
            self._tree = self._allocate(2 * self._leaves * _HASH_BYTES)
            self._take_for_centring(rows_of_a)
        except BaseException:
            self.close()
            raise
        self._seed_a = bytes(32)
        self._a_ready: Event | None = None
        self._b_free: list[Event | None] = [None, None]
        self._c_free: list[Event | None] = [None, None]
        self._a_free: list[Event | None] = [None, None]
        self._b_tiles = self._c_tiles = 0  # how many were begun; the parity is the slot
        self._times: list[tuple[Stream, Event, Event]] = []

    def _take_for_centring(self, rows_of_a: int) -> None:
        """Entries as bytes, a piece at a time, and the sums of rows and columns."""
        tiles, depth = self._tiles, self._shape.depth
        self._stage_rows = stage_rows(self._kind, depth, max(tiles.rows, tiles.columns))
        if self._stage_rows:
            self._stage = self._allocate(self._stage_rows * depth)
            self._part = self._allocate(self._stage_rows * self._shape.blocks * _SUM_BYTES)
            self._a_sums = self._allocate(rows_of_a * _SUM_BYTES)
            self._b_sums = [self._allocate(tiles.columns * _SUM_BYTES) for _ in range(2)]

    def _allocate(self, size: int) -> Buffer:
        buffer = self.device.allocate(size)
        self._buffers.append(buffer)
        return buffer

    def prepare(self, seed_a: bytes) -> None:
        """Make the share's rows of A, or note how to make them. No round may be under way."""
        self._seed_a = seed_a
        self._times = []
        if self._tiles.keep_a:
            self._a_ready = self._generate_a(0, self.share.rows, 0)

    def start(self, seed_b: bytes, wanted: tuple[int, int] | None = None) -> Part:
        """Queue a round. `wanted`: a row of this share, and a column; their leaf comes back."""
        leaf: Download | None = None
        for column in range(0, self._shape.n, self._tiles.columns):
            b_slot = self._b_tiles % 2
            self._b_tiles += 1
            b_ready = self._generate_b(seed_b, column, b_slot)
            for row in range(0, self.share.rows, self._tiles.rows):
                leaf = self._tile(row, column, b_slot, b_ready, wanted) or leaf
        self._timed(Stream.HASHING, self._hash_levels)
        *_, (level, _) = self._levels()
        hashing = self._stream(Stream.HASHING)
        hashes = self.device.download(
            self._tree.at(level), self.share.subtrees * _HASH_BYTES, hashing
        )
        path = self._path(wanted) if wanted is not None else []
        times, self._times = self._times, []
        return Part(hashes, times, leaf, path)

    def holds(self, row: int) -> bool:
        """Whether the row is in this share."""
        return self.share.first <= row < self.share.first + self.share.rows

    def again(self, wanted: tuple[int, int] | None) -> Part | None:
        """The round queued last, for another leaf; None where its tiles are gone from memory."""
        if self._tiles.rows < self.share.rows or self._tiles.columns < self._shape.n:
            return None
        hashing = self._stream(Stream.HASHING)
        *_, (level, subtrees) = self._levels()
        hashes = self.device.download(self._tree.at(level), subtrees * _HASH_BYTES, hashing)
        if wanted is None:
            return Part(hashes, [])
        slot = (self._c_tiles - 1) % 2
        leaf = self._download_leaf(0, 0, slot, wanted)
        self._c_free[slot] = self._record(Stream.HASHING)
        return Part(hashes, [], leaf, self._path(wanted))

    def product(self) -> None:
        """Queue one round's products alone, over whatever the tiles hold: for the raw rate."""
        for column in range(0, self._shape.n, self._tiles.columns):
            for row in range(0, self.share.rows, self._tiles.rows):
                self._multiply(row, column // self._tiles.columns % 2, 0)

    def timings(self, part: Part) -> Timings:
        """Seconds of a finished part by phase."""
        seconds = dict.fromkeys(Stream, 0.0)
        for stream, start, end in part.times:
            seconds[stream] += self.device.elapsed(start, end)
        return Timings(seconds[Stream.PRODUCT], seconds[Stream.GENERATION], seconds[Stream.HASHING])

    def close(self) -> None:
        """Wait for the device and give the memory back."""
        self.device.synchronize()
        while self._buffers:
            self.device.release(self._buffers.pop())

    # ---------------------------------------------------------------------------- parts of a round

    def _stream(self, stream: Stream) -> Stream:
        return stream if self.overlap else Stream.PRODUCT

    def _record(self, stream: Stream) -> Event:
        return self.device.record(self._stream(stream))

    def _timed(self, stream: Stream, work: Callable[[], None]) -> Event:
        """Queue work between two events; the second is given back."""
        start = self.device.record(self._stream(stream))
        work()
        end = self.device.record(self._stream(stream))
        self._times.append((stream, start, end))
        return end

    def _wait(self, stream: Stream, event: Event | None) -> None:
        if event is not None:
            self.device.wait(self._stream(stream), event)

    def _generate(
        self, kernel: str, seed: bytes, first: int, rows: int, out: Region, sums: Region | None
    ) -> Event:
        """Queue entries as operands of the product, and the event after them."""
        return self._timed(
            Stream.GENERATION, lambda: self._operand(kernel, seed, first, rows, out, sums)
        )

    def _operand(
        self, kernel: str, seed: bytes, first: int, rows: int, out: Region, sums: Region | None
    ) -> None:
        blocks, stream = self._shape.blocks, self._stream(Stream.GENERATION)
        if sums is None:
            kernels.generate(self.device, kernel, seed, first, rows, blocks, out, stream)
            return
        # One stream, one stage: the next piece is made when this one was centred.
        for start in range(0, rows, self._stage_rows):
            count = min(self._stage_rows, rows - start)
            stage = self._stage.at(0)
            kernels.generate(self.device, kernel, seed, first + start, count, blocks, stage, stream)
            centre(
                self.device,
                self._kind,
                stage,
                self._part.at(0),
                out.buffer.at(out.offset + start * self._row_bytes),
                sums.buffer.at(sums.offset + start * _SUM_BYTES),
                count,
                self._shape.depth,
                stream,
            )

    def _generate_a(self, row: int, rows: int, place: int) -> Event:
        """Rows of the share from `row` on, at the row `place` of A's memory."""
        first, out = self.share.first + row, self._a.at(place * self._row_bytes)
        sums = self._a_sums.at(place * _SUM_BYTES) if self._stage_rows else None
        return self._generate("generate_a", self._seed_a, first, rows, out, sums)

    def _generate_b(self, seed: bytes, column: int, slot: int) -> Event:
        self._wait(Stream.GENERATION, self._b_free[slot])
        sums = self._b_sums[slot].at(0) if self._stage_rows else None
        out = self._b[slot].at(0)
        return self._generate("generate_b", seed, column, self._tiles.columns, out, sums)

    def _tile(
        self, row: int, column: int, b_slot: int, b_ready: Event, wanted: tuple[int, int] | None
    ) -> Download | None:
        """One tile of C, from its product to the hashes of its leaves."""
        slot = self._c_tiles % 2
        self._c_tiles += 1
        if self._tiles.keep_a:
            a_ready = self._a_ready
        else:
            self._wait(Stream.GENERATION, self._a_free[slot])
            a_ready = self._generate_a(row, self._tiles.rows, slot * self._tiles.rows)
        for event in (a_ready, b_ready, self._c_free[slot]):
            self._wait(Stream.PRODUCT, event)
        done = self._timed(Stream.PRODUCT, lambda: self._multiply(row, b_slot, slot))
        self._a_free[slot] = self._b_free[b_slot] = done

        self._wait(Stream.HASHING, done)
        hashed = self._timed(Stream.HASHING, lambda: self._hash_leaves(row, column, b_slot, slot))
        if self._stage_rows:  # the sums of A and B were read too
            self._a_free[slot] = self._b_free[b_slot] = hashed
        leaf = self._download_leaf(row, column, slot, wanted) if wanted is not None else None
        self._c_free[slot] = hashed if leaf is None else self._record(Stream.HASHING)
        return leaf

    def _multiply(self, row: int, b_slot: int, c_slot: int) -> None:
        tiles = self._tiles
        self.device.product(
            self._a.at(self._place(row, c_slot) * self._row_bytes),
            self._b[b_slot].at(0),
            self._c[c_slot].at(0),
            tiles.rows,
            tiles.columns,
            self._shape.depth,
            self._stream(Stream.PRODUCT),
            self._kind,
        )

    def _place(self, row: int, c_slot: int) -> int:
        """Where a row of the share is in A's memory."""
        return row if self._tiles.keep_a else c_slot * self._tiles.rows

    def _hash_leaves(self, row: int, column: int, b_slot: int, slot: int) -> None:
        if self._stage_rows:
            restore(
                self.device,
                self._c[slot].at(0),
                self._a_sums.at(self._place(row, slot) * _SUM_BYTES),
                self._b_sums[b_slot].at(0),
                self._tiles.rows,
                self._tiles.columns,
                self._shape.depth,
                self._stream(Stream.HASHING),
            )
        # With 256 columns a leaf is two rows, one after the other in memory as in the tree.
        kernels.hash_leaves(
            self.device,
            self._c[slot].at(0),
            self._tree.at(0),
            max(1, self._tiles.columns // ENTRIES_PER_LEAF),
            max(1, self._shape.n // ENTRIES_PER_LEAF),
            (row * self._shape.n + column) // ENTRIES_PER_LEAF,
            self._tiles.rows * self._tiles.columns // ENTRIES_PER_LEAF,
            self._stream(Stream.HASHING),
        )

    def _levels(self) -> Iterator[tuple[int, int]]:
        """Where each level of the tree begins, in bytes, and its nodes; to the subtrees' tops."""
        offset, count = 0, self._leaves
        while True:
            yield offset, count
            if count == self.share.subtrees:
                return
            offset, count = offset + count * _HASH_BYTES, count // 2

    def _hash_levels(self) -> None:
        """Queue the levels above the leaves."""
        below = 0
        for offset, count in self._levels():
            if offset > 0:
                kernels.hash_nodes(
                    self.device,
                    self._tree.at(below),
                    self._tree.at(offset),
                    count,
                    self._stream(Stream.HASHING),
                )
            below = offset

    def _download_leaf(
        self, row: int, column: int, slot: int, wanted: tuple[int, int]
    ) -> Download | None:
        i, j = wanted[0] - self.share.first - row, wanted[1] - column
        if not (0 <= i < self._tiles.rows and 0 <= j < self._tiles.columns):
            return None
        start = (i * self._tiles.columns + j) // ENTRIES_PER_LEAF * ENTRIES_PER_LEAF
        return self.device.download(
            self._c[slot].at(start * _SUM_BYTES), _LEAF_SUMS_BYTES, self._stream(Stream.HASHING)
        )

    def _path(self, wanted: tuple[int, int]) -> list[Download]:
        """The siblings of the wanted leaf within its subtree, from the leaf upwards."""
        i, j = wanted
        index = self._shape.leaf_index(i - self.share.first, j)
        *below, _ = self._levels()
        return [
            self.device.download(
                self._tree.at(offset + (index >> height ^ 1) * _HASH_BYTES),
                _HASH_BYTES,
                self._stream(Stream.HASHING),
            )
            for height, (offset, _) in enumerate(below)
        ]


def leaf_bytes(sums: bytes) -> bytes:
    """A leaf of the format, 512 bytes, from its 512 int32 sums as the device holds them."""
    return (np.frombuffer(sums, "<i4") & 0xFF).astype(np.uint8).tobytes()
