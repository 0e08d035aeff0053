# SPDX-License-Identifier: Apache-2.0
"""What containers print, piece by piece: nothing is kept that was handed on."""

from __future__ import annotations

from collections.abc import Iterator

from provider_agent.runners.docker.engine import PIECE, Engine, Stream, named

_HEADER = 8  # one byte for the stream, three of padding, four for the length


def pieces(stream: Stream) -> Iterator[tuple[int, bytes]]:
    """Output as the engine frames it: 1 or 2 for stdout or stderr, and at most 64 KiB.

    A frame says how long it is, up to 4 GiB: its bytes are handed on as they come.
    """
    while len(header := stream.exactly(_HEADER)) == _HEADER:
        kind, left = header[0], int.from_bytes(header[4:], "big")
        while left and (piece := stream.read(min(left, PIECE))):
            left -= len(piece)
            yield kind, piece


class DockerOutput:
    """What a container prints; see `lease.Output`."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._pieces = stream, pieces(stream)

    def __iter__(self) -> DockerOutput:
        return self

    def __next__(self) -> tuple[int, bytes]:
        try:
            return next(self._pieces)
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """See `lease.Output`."""
        self._stream.close()


class DockerShell:
    """A program in a container; see `lease.Shell`. With a terminal all output is stdout."""

    def __init__(self, engine: Engine, name: str, stream: Stream, *, tty: bool) -> None:
        self._engine, self._name, self._stream = engine, name, stream
        self._pieces = None if tty else pieces(stream)

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        if self._pieces is None:
            return 1, self._stream.read()
        return next(self._pieces, (1, b""))

    def write(self, data: bytes) -> None:
        """See `lease.Shell`."""
        self._stream.write(data)

    def finish(self) -> None:
        """See `lease.Shell`."""
        self._stream.finish()

    def resize(self, rows: int, columns: int) -> None:
        """See `lease.Shell`."""
        self._engine.post(f"/exec/{named(self._name)}/resize", h=rows, w=columns)

    def exit_code(self) -> int | None:
        """See `lease.Shell`."""
        found = self._engine.get(f"/exec/{named(self._name)}/json")
        return None if found["Running"] or found["ExitCode"] is None else int(found["ExitCode"])

    def close(self) -> None:
        """See `lease.Shell`."""
        self._stream.close()
