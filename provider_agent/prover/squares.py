# SPDX-License-Identifier: Apache-2.0
"""Repeated squares modulo 2^256 - 189 of many numbers at once, with NumPy.

A number is ten limbs of 26 bits in the rows of a uint64 array, so a column of a square (ten
products of 52 bits) never overflows. 2^260 is 16 * 189 modulo the prime, which folds the upper ten
limbs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from teraproof.pog.format import PRIME

Words = npt.NDArray[np.uint64]

_LIMBS = 10
_BITS = 26
_MASK = np.array((1 << _BITS) - 1, np.uint64)
_SHIFT = np.array(_BITS, np.uint64)
# The highest limb of a 256-bit number has 256 - 9 * 26 bits.
_TOP_BITS = np.array(256 - 9 * _BITS, np.uint64)
_TOP_MASK = np.array((1 << 22) - 1, np.uint64)
_FOLD_260 = np.array(16 * 189, np.uint64)
_FOLD_256 = np.array(189, np.uint64)
# Numbers at once: small enough for the cache, wide enough that calls are cheap.
_WIDE = 4096


def chains(first: Words, length: int) -> Words:
    """Each number, its square, the square of that, and so on.

    Args:
        first: shape (count, 4), 256-bit numbers as 64-bit words, lowest first; need not be reduced.
        length: numbers in a chain, the first one included.

    Returns shape (count, length, 4); all but the first of a chain are reduced.
    """
    count = len(first)
    result = np.empty((count, length, 4), np.uint64)
    for start in range(0, count, _WIDE):
        part = first[start : start + _WIDE]
        into = result[start : start + _WIDE]
        into[:, 0] = part
        limbs = _split(part)
        columns = np.empty((2 * _LIMBS, len(part)), np.uint64)
        spare = np.empty_like(columns)
        for step in range(1, length):
            _square(limbs, columns, spare)
            _join(limbs, into[:, step])
    return result


def _split(words: Words) -> Words:
    """The ten limbs of each number; shape (10, count)."""
    limbs = np.empty((_LIMBS, len(words)), np.uint64)
    for k in range(_LIMBS):
        word, bit = divmod(_BITS * k, 64)
        limbs[k] = words[:, word] >> np.uint64(bit)
        if bit + _BITS > 64 and word < 3:
            limbs[k] |= words[:, word + 1] << np.uint64(64 - bit)
        limbs[k] &= _MASK
    return limbs


def _join(limbs: Words, words: Words) -> None:
    """The inverse of `_split`, into an array of shape (count, 4)."""
    for word in range(4):
        total = np.zeros(limbs.shape[1], np.uint64)
        for k in range(_LIMBS):
            at = _BITS * k - 64 * word
            if 0 <= at < 64:
                total |= limbs[k] << np.uint64(at)
            elif -_BITS < at < 0:
                total |= limbs[k] >> np.uint64(-at)
        words[:, word] = total


def _square(limbs: Words, columns: Words, spare: Words) -> None:
    """Replace the numbers by their squares, reduced; the other two are working memory."""
    columns.fill(0)
    for k in range(_LIMBS):
        np.multiply(limbs[k], limbs[k], out=spare[0])
        columns[2 * k] += spare[0]
        if k + 1 < _LIMBS:
            rest = spare[1 : _LIMBS - k]
            np.add(limbs[k], limbs[k], out=spare[0])
            np.multiply(limbs[k + 1 :], spare[0], out=rest)
            columns[2 * k + 1 : k + _LIMBS] += rest
    # One carry for all columns together leaves each below 2^32: enough for the folding.
    np.right_shift(columns, _SHIFT, out=spare)
    columns &= _MASK
    columns[1:] += spare[:-1]
    np.multiply(columns[_LIMBS:], _FOLD_260, out=limbs)
    limbs += columns[:_LIMBS]
    _carry(limbs, spare[0])
    np.right_shift(limbs[-1], _TOP_BITS, out=spare[0])
    limbs[-1] &= _TOP_MASK
    np.multiply(spare[0], _FOLD_256, out=spare[0])
    limbs[0] += spare[0]
    _carry(limbs, spare[0])
    # What is not below the prime now has a highest limb of ones, or a bit beyond it: next to none.
    suspects = np.flatnonzero(limbs[-1] >= _TOP_MASK)
    for column in suspects:
        value = sum(int(limb) << _BITS * k for k, limb in enumerate(limbs[:, column])) % PRIME
        limbs[:, column] = [value >> _BITS * k & int(_MASK) for k in range(_LIMBS)]


def _carry(limbs: Words, spare: Words) -> None:
    """Bring every limb but the highest below 2^26."""
    for k in range(_LIMBS - 1):
        np.right_shift(limbs[k], _SHIFT, out=spare)
        limbs[k] &= _MASK
        limbs[k + 1] += spare
