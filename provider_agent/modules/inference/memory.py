# SPDX-License-Identifier: Apache-2.0
"""The memory of all answers together. A request is refused before any work when there is none left.

An answer in one piece is in memory until its client has read it. How long it can be follows from
what was asked for, and a server that sends more is cut off.
"""

from __future__ import annotations

from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.inference_request import ModelRequest

_FRAME = 256 << 10  # bytes of an answer in addition to what was asked for
_COPIES = 2  # of an answer in one piece: as it comes, and as it goes
_STREAM = 128 << 10  # bytes that a stream holds: an event, and what sockets have not taken
_MOST_EVENT = 2 << 20  # of the last event of some kinds, which repeats the whole answer


class Memory:
    """See the module. `most` is in bytes of all answers, `longest` of one. On one event loop."""

    def __init__(self, most: int, longest: int) -> None:
        self._most, self._longest = most, longest
        #: Bytes that are taken.
        self.taken = 0

    def longest(self, asked: ModelRequest, size: int) -> int:
        """Bytes that an answer in one piece can have; the request's body has `size`."""
        return min(self._longest, _FRAME + asked.answer_bytes(size))

    def room(self, asked: ModelRequest, size: int) -> Room:
        """Take what the answer needs. Refused."""
        if not asked.stream:
            needed = _COPIES * self.longest(asked, size)
        elif asked.kind == "responses":
            needed = _STREAM + min(_MOST_EVENT, asked.answer_bytes(size))
        else:
            needed = _STREAM
        if self.taken + needed > self._most:
            raise Refused(
                Code.SERVER_BUSY, "no memory is left for as long an answer now; try later"
            )
        self.taken += needed
        return Room(self, needed)


class Room:
    """Memory of one answer; given back once, by whoever has it last."""

    def __init__(self, memory: Memory, size: int) -> None:
        self._memory, self._size = memory, size
        self._is_kept = False

    def keep(self) -> None:
        """It outlives the request: its answer is still to be sent."""
        self._is_kept = True

    def leave(self) -> None:
        """The request has ended."""
        if not self._is_kept:
            self.end()

    def end(self) -> None:
        """Give it back."""
        self._memory.taken -= self._size
        self._size = 0
