# SPDX-License-Identifier: Apache-2.0
"""A host's stream, read event by event: what is for the client, and the receipts between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import SignedReceipt, Transcript

DONE = b"[DONE]"
_MOST_LINE = 1 << 20  # bytes of one event


@dataclass(frozen=True)
class Event:
    """An event as it came, with its data; or a receipt, and the digest of all bytes before it."""

    raw: bytes = b""
    data: bytes = b""
    receipt: SignedReceipt | None = None
    response: bytes = b""


class Reader:
    """Takes a stream's bytes in pieces of any size. Memory is bounded by one event."""

    def __init__(self) -> None:
        self._transcript = Transcript()
        self._buffer = bytearray()  # of a line that has not ended
        self._lines: list[bytes] = []
        self._size = 0
        self._after_receipt = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """What is whole now. LocalError for a receipt that cannot be read, or an endless event."""
        ended, newline, begun = piece.rpartition(b"\n")
        lines: list[bytes] = []
        if newline:  # otherwise nothing is looked at twice, however small the pieces are
            lines = bytes(self._buffer + ended).split(b"\n")
            self._buffer.clear()
        self._buffer += begun
        if len(self._buffer) > _MOST_LINE:
            raise LocalError("an event has no end", Code.ANSWER_INVALID)
        for line in lines:
            yield from self._line(line + b"\n")

    def digest(self) -> bytes:
        """Of all that came so far, comments of ours left out."""
        return self._transcript.digest()

    @property
    def is_inside(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._buffer or self._lines)

    def _line(self, line: bytes) -> Iterator[Event]:
        receipt = SignedReceipt.from_comment(line)
        if receipt is not None:
            yield Event(receipt=receipt, response=self._transcript.digest())
        self._transcript.feed(line)
        if receipt is not None:
            self._after_receipt = True
            return
        if self._after_receipt:
            self._after_receipt = False
            if line == b"\n":
                return
        self._lines.append(line)
        self._size += len(line)
        if self._size > _MOST_LINE:
            raise LocalError("an event has no end", Code.ANSWER_INVALID)
        if line.rstrip(b"\r\n"):
            return
        raw = b"".join(self._lines)
        data = b"\n".join(each[5:].strip() for each in self._lines if each.startswith(b"data:"))
        self._lines, self._size = [], 0
        if raw.strip():
            yield Event(raw, data)
