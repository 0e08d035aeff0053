# SPDX-License-Identifier: Apache-2.0
"""Products whose results are known, to find out what a device really does.

The operands repeat a few patterns, in an order that is drawn, so that a large product has few
different sums; those are computed in 64-bit integers. The patterns are made to lose something on
a device that adds in less than 24 bits:

- sums of odd products that run up to just below 2^24, in one stretch, spread over the depth, at
  its beginning and its end;
- the smallest products, after and between the largest: a device that lines up its summands by the
  largest one drops them;
- sums that climb almost to 2^24 and come back, so that the result is small;
- entries as hashes give them, over the whole depth;
- for ways without a limit: 127 everywhere, the largest sum of the format.

An accumulator of 14 bits (FP8 on Hopper), of 16 bits, sums kept in fp16 or bf16, and operands
rounded below 7 bits all fail; see the tests. TF32 passes, and may: entries of 7 bits are exact in
it, and its sums are float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from provider_agent.prover.keccak import Bytes
from provider_agent.prover.products.base import CENTRE, SUM_LIMIT, Way

_HIGH, _LOW, _ZERO = 127, 0, CENTRE
_SEED = 0x7E7A
_HALVES, _SLAB = 16, 256


@lru_cache(maxsize=16)
def patterns(depth: int, limit: int | None) -> tuple[Bytes, Bytes]:
    """Rows of A and columns of B that belong together, (count, depth) of uint8 each.

    With a limit no partial sum of any row with any column passes it, in whatever order.
    """
    noise = np.random.default_rng(_SEED)
    # This many of the largest products, 64 * 64, stay below the limit with every neighbour.
    full = min(depth, (SUM_LIMIT - 1) // CENTRE**2)
    rows: list[Bytes] = []
    columns: list[Bytes] = []
    for places in _places(depth, full):
        inside = len(places)
        plain = np.full(depth, _ZERO, np.uint8)
        high, low, mixed, turned, small, both = (plain.copy() for _ in range(6))
        high[places] = _HIGH
        low[places] = _LOW
        # 63 at first, then 1: the sums climb, and the last summands are the smallest there are.
        mixed[places[: inside - inside // 8]] = _HIGH
        mixed[places[inside - inside // 8 :]] = _ZERO + 1
        # Up and back again.
        turned[places[: inside // 2]] = _HIGH
        turned[places[inside // 2 :]] = _LOW + 1
        # Every 16th is as small as can be: within one step of a tensor core.
        small[places] = _HIGH
        small[places[::16]] = _ZERO - 1
        both[places] = noise.choice(np.array([_LOW, _LOW + 1, _HIGH], np.uint8), inside)
        rows += [high, low, mixed, small, both, turned]
        columns += [high, low, mixed, turned, small, both]
    hashed = noise.integers(0, 128, (2, 4, depth), np.uint8)
    rows += list(hashed[0])
    columns += list(hashed[1])
    if limit is None:
        rows.append(np.full(depth, _HIGH, np.uint8))
        columns.append(np.full(depth, _HIGH, np.uint8))
    return np.stack(rows), np.stack(columns)


def _places(depth: int, full: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Where the large entries stand: `full` places at the beginning, at the end, spread."""
    found = [np.arange(full)]
    if full < depth:
        found += [np.arange(depth - full, depth), np.arange(full) * depth // full]
    return found


def is_exact(way: Way, rows: int, columns: int, depth: int) -> bool:
    """Whether a way multiplies that number of rows and columns of that depth without an error.

    Errors of the way's library come through.
    """
    a, b = patterns(depth, way.sum_limit)
    known = _known(depth, way.sum_limit)
    noise = np.random.default_rng([_SEED, rows, columns, depth])
    which_row, which_column = _spread(noise, len(a), rows), _spread(noise, len(b), columns)
    found = way.product(way.operand(a[which_row]), way.operand(b[which_column]), 0, rows)
    return found.shape == (rows, columns) and bool(
        np.array_equal(found, known[which_row][:, which_column])
    )


@lru_cache(maxsize=16)
def _known(depth: int, limit: int | None) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    a, b = patterns(depth, limit)
    return a.astype(np.int64) @ b.astype(np.int64).T


def _spread(
    noise: np.random.Generator, patterns: int, count: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Numbers of patterns, all of them as often as each other, in an order that is drawn."""
    numbers = np.arange(count) % patterns
    noise.shuffle(numbers)
    return numbers


def holds(rows: Bytes, columns: Bytes, low: Iterable[Bytes]) -> bool:
    """Whether a product modulo 2^8 is right, as far as 16 random halves of its columns can tell.

    `low` are its rows in pieces, one after the other. A wrong row is missed once in 2^16 cases
    (Freivalds). The arithmetic is float64 with integers below 2^50, on the host, and costs a small
    part of the product.
    """
    noise = np.random.default_rng()
    halves = noise.integers(0, 2, (len(columns), _HALVES)).astype(np.float64)
    folded = np.zeros((columns.shape[1], _HALVES))
    for start in range(0, len(columns), _SLAB):
        slab = slice(start, start + _SLAB)
        folded += columns[slab].T.astype(np.float64) @ halves[slab]
    start = 0
    for piece in low:
        for at in range(0, len(piece), _SLAB):
            part = piece[at : at + _SLAB]
            wanted = rows[start : start + len(part)].astype(np.float64) @ folded
            if ((wanted - part.astype(np.float64) @ halves) % 256).any():
                return False
            start += len(part)
    return start == len(rows)
