# SPDX-License-Identifier: Apache-2.0
"""Keccak-256 of many messages of one length at once, with NumPy.

The state of all messages is one array of 25 lanes, so that each step of the permutation is one call
for the whole batch. A call of the one-message library costs some 20 of its permutations in Python
alone, so a wide batch of short messages is faster here, and long or few messages are faster there.
Source: FIPS 202 section 3, with the padding of Ethereum's Keccak (0x01).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from teraproof.pog.format import keccak

Bytes = npt.NDArray[np.uint8]

_RATE = 136
_RATE_LANES = _RATE // 8
# Below this many messages the calls for the steps cost more than one call a message.
_NARROW = 2048
# Wider batches leave the cache without gaining anything.
_WIDE = 4096


def _round_constants() -> list[int]:
    """The 24 constants of iota (FIPS 202, algorithms 5 and 6)."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _moves() -> list[tuple[int, int, int]]:
    """Source lane, target lane and rotation of rho and pi together; lane x + 5y."""
    moves = []
    x, y = 1, 0
    for t in range(24):
        rotation = (t + 1) * (t + 2) // 2 % 64
        moves.append((x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), rotation))
        x, y = y, (2 * x + 3 * y) % 5
    return moves


# Arrays without dimensions: a Python integer would be converted again at every call.
_IOTA = [np.array(constant, np.uint64) for constant in _round_constants()]
_SHIFT = [np.array(bits, np.uint64) for bits in range(64)]


class _State:
    """The lanes of a batch of one width, with room for the steps; used by one thread."""

    def __init__(self, width: int) -> None:
        self.lanes = np.zeros((25, width), np.uint64)
        moved = np.zeros_like(self.lanes)
        self._first_moved = moved[0]
        self._parity = np.zeros((5, width), np.uint64)
        self._turned = np.zeros_like(self._parity)
        self._theta = np.zeros_like(self._parity)
        self._spill = np.zeros(width, np.uint64)
        # Views are made once: making them costs as much as a step.
        self._planes = self.lanes.reshape(5, 5, width)
        self._moves = [
            (self.lanes[source], moved[target], _SHIFT[bits], _SHIFT[64 - bits])
            for source, target, bits in _moves()
        ]
        columns = moved.reshape(5, 5, width)
        self._chi = [
            (columns[:, x], columns[:, (x + 1) % 5], columns[:, (x + 2) % 5], self._planes[:, x])
            for x in range(5)
        ]

    def permute(self) -> None:
        """Keccak-f[1600] of every state of the batch."""
        planes, parity, turned, theta, spill = (
            self._planes, self._parity, self._turned, self._theta, self._spill,
        )  # fmt: skip
        first = self.lanes[0]
        for iota in _IOTA:
            np.bitwise_xor(planes[0], planes[1], out=parity)
            for y in (2, 3, 4):
                np.bitwise_xor(parity, planes[y], out=parity)
            np.left_shift(parity, _SHIFT[1], out=turned)
            np.right_shift(parity, _SHIFT[63], out=theta)
            np.bitwise_or(turned, theta, out=turned)
            np.bitwise_xor(parity[:3], turned[2:], out=theta[1:4])
            np.bitwise_xor(parity[4], turned[1], out=theta[0])
            np.bitwise_xor(parity[3], turned[0], out=theta[4])
            np.bitwise_xor(planes, theta, out=planes)

            np.copyto(self._first_moved, first)
            for source, target, left, right in self._moves:
                np.left_shift(source, left, out=target)
                np.right_shift(source, right, out=spill)
                np.bitwise_or(target, spill, out=target)

            for here, following, second, target in self._chi:
                np.invert(following, out=target)
                np.bitwise_and(target, second, out=target)
                np.bitwise_xor(target, here, out=target)
            np.bitwise_xor(first, iota, out=first)


class BatchKeccak:
    """Hashes batches; keeps its working memory between them, so one object serves one thread."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def digests(self, messages: Bytes) -> Bytes:
        """The digests of messages of one length.

        Args:
            messages: shape (count, length in bytes).

        Returns an array of shape (count, 32).
        """
        count = len(messages)
        result = np.empty((count, 32), np.uint8)
        for start in range(0, count, _WIDE):
            part = messages[start : start + _WIDE]
            if len(part) < _NARROW or messages.shape[1] >= _RATE:
                result[start : start + _WIDE] = _one_by_one(part)
            else:
                result[start : start + _WIDE] = self._wide(part)
        return result

    def _wide(self, messages: Bytes) -> Bytes:
        """Digests of messages that fit one block, by the state of their number."""
        count, length = messages.shape
        padded = np.zeros((count, _RATE), np.uint8)
        padded[:, :length] = messages
        padded[:, length] = 0x01
        padded[:, -1] |= 0x80
        state = self._states.get(count)
        if state is None:
            state = self._states[count] = _State(count)
        state.lanes[:_RATE_LANES] = padded.view("<u8").T
        state.lanes[_RATE_LANES:] = 0
        state.permute()
        return np.ascontiguousarray(state.lanes[:4].T).astype("<u8", copy=False).view(np.uint8)


def _one_by_one(messages: Bytes) -> Bytes:
    length = messages.shape[1]
    data = messages.tobytes()
    joined = b"".join(keccak(data[start : start + length]) for start in range(0, len(data), length))
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)
