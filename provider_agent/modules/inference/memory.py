# SPDX-License-Identifier: Apache-2.0
"""The memory of all answers together. A request is refused before any work when there is none left.

An answer in one piece is in memory until its client has read it. How long it can be follows from
what was asked for, and a server that sends more is cut off.
"""

from __future__ import annotations

from typing import Any

from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.inference_fields import unfit
from teraproof.protocol.inference_request import ModelRequest

_FRAME = 256 << 10  # bytes of an answer in addition to what was asked for
_COPIES = 2  # of an answer in one piece: as it comes, and as it goes
_STREAM = 128 << 10  # bytes that a stream holds: an event, and what sockets have not taken
#: Fields by which answers of one length in tokens differ in bytes.
_FORMS = ("logprobs", "top_logprobs", "echo", "encoding_format", "dimensions")
_MOST_FORMS = 1_024  # that are known to be too long
_MOST_EVENT = 2 << 20  # of the last event of some kinds, which repeats the whole answer


class Memory:
    """See the module. `most` is in bytes of all answers, `longest` of one. On one event loop."""

    def __init__(self, most: int, longest: int) -> None:
        self._most, self._longest = most, longest
        #: Bytes that are taken.
        self.taken = 0
        self._too_long: dict[tuple[Any, ...], int] = {}

    def longest(self, asked: ModelRequest, size: int) -> int:
        """Bytes that an answer in one piece can have; the request's body has `size`."""
        return min(self._longest, _FRAME + asked.answer_bytes(size))

    def room(self, asked: ModelRequest, size: int) -> Room:
        """Take what the answer needs. Refused."""
        if not asked.stream:
            form, field, parts = _form(asked)
            if parts >= self._too_long.get(form, parts + 1):
                raise unfit(field, f"such answers are longer than {self._longest >> 20} MiB from "
                            f"{self._too_long[form]} on; ask for less, or stream it")  # fmt: skip
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

    def overflowed(self, asked: ModelRequest, size: int) -> None:
        """An answer was cut off, for which nobody pays. Where the request is the reason, as much is
        not asked for again: a payer would have the model work for nothing.
        """
        if self.longest(asked, size) == self._longest:
            form, _, parts = _form(asked)
            parts = min(parts, self._too_long.pop(form, parts))
            self._too_long[form] = parts
            while len(self._too_long) > _MOST_FORMS:
                del self._too_long[next(iter(self._too_long))]


def _form(asked: ModelRequest) -> tuple[tuple[Any, ...], str, int]:
    """What answers are alike, the field that they grow with, and how far."""
    said = asked.document
    form = (said.get("model"), asked.kind, *(repr(said.get(name))[:16] for name in _FORMS))
    if asked.kind == "embeddings":
        given = said.get("input")
        return form, "input", len(given) if isinstance(given, list) else 1
    return form, asked.limits[0], asked.limit


class Room:
    """Memory of one answer; given back once, by whoever has it last."""

    def __init__(self, memory: Memory, size: int) -> None:
        self._memory, self._size = memory, size
        self._is_kept = False

    def overflowed(self, asked: ModelRequest, size: int) -> None:
        """See the memory."""
        self._memory.overflowed(asked, size)

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
