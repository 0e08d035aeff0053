# SPDX-License-Identifier: Apache-2.0
"""The memory for what is held of requests and answers, shared by all of them.

Hosts decide how long their answers are, and many run at once. Each has its own first mebibyte. What
is longer takes from one room for all: where there is no more of it, that one answer fails.
"""

from __future__ import annotations

from teraproof.errors import Refused
from teraproof.protocol.errors import Code

OWN = 1 << 20  # bytes of each part that take nothing from the others


class Full(Refused):
    """There is no room now. Another host's answer would need as much."""


class Room:
    """`most` bytes for what is longer than `OWN`. For one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def part(self) -> Part:
        """For one request or one answer."""
        return Part(self)


class Part:
    """What one request or answer holds. `end` gives all of it back, once or more often."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = self._shared = 0

    def take(self, size: int) -> None:
        """Hold `size` bytes more. Full where there is no room for them."""
        self._set(self._size + size)

    def hold(self, size: int) -> None:
        """The same for what is here and paid: it is counted and never refused."""
        self._set(self._size + size, must_fit=False)

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        self._set(max(0, self._size - size))

    def end(self) -> None:
        """Nothing is held any more."""
        self._set(0)

    def _set(self, size: int, *, must_fit: bool = True) -> None:
        shared = max(0, size - OWN)
        after = self._room.held + shared - self._shared
        if must_fit and shared > self._shared and after > self._room.most:
            raise Full(
                Code.SERVER_BUSY,
                f"long answers hold {self._room.held >> 20} MiB; raise listen.max_held_bytes, or "
                "ask later",
            )
        self._room.held, self._size, self._shared = after, size, shared
