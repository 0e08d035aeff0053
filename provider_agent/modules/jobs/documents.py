# SPDX-License-Identifier: Apache-2.0
"""A job's status, result, receipt and log, for its requester alone.

The manifest is served exactly as it was attested: the result digest on chain follows from it, from
the job and from the provider. The seal between them nobody else may learn from this agent.
"""

from __future__ import annotations

import codecs
import os
import tarfile
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from teraproof.errors import LocalError
from teraproof.protocol.digests import Entry, open_beneath
from teraproof.protocol.errors import Code

_CHUNK = 1 << 18
LOG_BYTES = 64 << 10
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class JobView:
    """What the API may say about one job."""

    requester: str
    """From the job's terms on chain."""
    status: dict[str, Any]
    """JSON for the requester: status, deadline, progress, why it failed; no path in it."""
    manifest: Path | None = None
    """File with the canonical manifest of the result, once it is collected."""
    results: Path | None = None
    """The directory that the manifest describes; nothing writes there any more."""
    receipt: bytes | None = None
    """Canonical receipt whose sha256 goes on chain."""
    log: Path | None = None
    """The run's output so far."""


class JobDirectory(Protocol):
    """Where the API looks jobs up."""

    def job(self, job_id: bytes) -> JobView | None:
        """The job, or None when this agent does not know it."""
        ...


def file_slice(
    stack: ExitStack, root: Path, entry: Entry, offset: int = 0, length: int | None = None
) -> Generator[bytes, None, None]:
    """`length` bytes of a result file from `offset` on, or all that follow; `stack` closes it.

    LocalError when the file is gone or no longer has the size that was attested.
    """
    try:
        fd = stack.enter_context(open_beneath(root, entry.path))
    except FileNotFoundError:
        raise LocalError(
            "a file of the result is gone from the provider's disk", Code.RESULT_GONE
        ) from None
    if os.fstat(fd).st_size != entry.size:
        raise LocalError(
            "a file of the result has changed on the provider's disk", Code.RESULT_GONE
        )
    return _read(fd, offset, entry.size - offset if length is None else length)


def whole_file(stack: ExitStack, file: Path) -> tuple[int, Generator[bytes, None, None]]:
    """The size of a file and its bytes; `stack` closes it. LocalError when it is gone."""
    try:
        fd = stack.enter_context(open_beneath(file.parent, file.name))
    except FileNotFoundError:
        raise LocalError("the result is gone from the provider's disk", Code.RESULT_GONE) from None
    size = os.fstat(fd).st_size
    return size, _read(fd, 0, size)


def tar_size(listed: list[Entry]) -> int:
    """The length of `tar_stream`'s output in bytes."""
    return sum(len(_header(e)) + e.size + -e.size % _BLOCK for e in listed) + 2 * _BLOCK


def tar_stream(root: Path, listed: list[Entry]) -> Generator[bytes, None, None]:
    """A PAX tar of the result: the same bytes each time, without owners and times."""
    for entry in listed:
        yield _header(entry)
        with ExitStack() as stack:
            yield from file_slice(stack, root, entry)
        yield bytes(-entry.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def log_slice(log: Path, offset: int | None, limit: int = LOG_BYTES) -> dict[str, Any]:
    """A piece of the log: `{"offset", "next", "size", "text"}`, offsets in bytes.

    Without an offset it is the end of the log. `next` is where to go on; a character that is cut
    in two stays for the next piece. A job writes what it likes: bad UTF-8 becomes U+FFFD.
    """
    limit = max(8, min(limit, LOG_BYTES))
    with open_beneath(log.parent, log.name) as fd:
        size = os.fstat(fd).st_size
        start = max(0, size - limit) if offset is None else min(offset, size)
        data = os.pread(fd, limit, start)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    held = len(decoder.getstate()[0])
    if held == len(data):
        # Nothing but the start of a character, or nothing at all.
        held = 0 if start + len(data) < size else held
    return {"offset": start, "next": start + len(data) - held, "size": size, "text": text}


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.size = entry.size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _read(fd: int, offset: int, size: int) -> Generator[bytes, None, None]:
    while size > 0:
        data = os.pread(fd, min(_CHUNK, size), offset)
        if not data:
            raise LocalError(
                "a file of the result became shorter while it was sent", Code.RESULT_GONE
            )
        yield data
        offset += len(data)
        size -= len(data)
