# SPDX-License-Identifier: Apache-2.0
"""What a tenant says about the result that it disputes: one file, which its jurors take in.

Its sha256 stands on chain since the dispute was opened, with the bond. So nothing is taken from
anybody else, nothing else is taken, and nothing once the time of the jurors is over. An agent votes
by its own run alone: the file is for its owner, who reads it before that.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provider_agent.durable import sync, sync_directory
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

FILE = "evidence"


@dataclass(frozen=True)
class Awaited:
    """The evidence of a dispute in which we sit: from whom, its sha256 (32 bytes), and the last
    second (unix, of the chain) in which it is taken.
    """

    requester: str
    digest: bytes
    until: int


class Hearing:
    """See the module. A file lies in `<root>/<job>/`, and goes when the bench forgets the job.

    Called from any thread. `now` is the chain's time, unix seconds; 0 before it is known.
    """

    def __init__(self, root: Path, now: Callable[[], int]) -> None:
        self._root, self._now = root, now
        self._lock = threading.Lock()
        self._awaited: dict[bytes, Awaited] = {}

    def expect(self, job: bytes, awaited: Awaited | None) -> None:
        """Say what may come for a job; None for nothing any more."""
        with self._lock:
            if awaited is None:
                self._awaited.pop(job, None)
            else:
                self._awaited[job] = awaited

    def awaited(self, job: bytes, account: str) -> Awaited:
        """What this account may send. Refused with NOT_DRAWN, the same for all others."""
        with self._lock:
            found = self._awaited.get(job)
        if found is None or found.requester != account or not 0 < self._now() <= found.until:
            raise Refused(
                Code.NOT_DRAWN,
                "this provider waits for no evidence of yours: it judges no such job",
            )
        return found

    def has(self, job: bytes) -> bool:
        """Whether it is here."""
        return self._place(job).exists()

    def keep(self, job: bytes, awaited: Awaited, data: bytes) -> None:
        """Keep the file for good. Refused where it is not what the chain says."""
        if hashlib.sha256(data).digest() != awaited.digest:
            raise Refused(
                Code.DIGEST_MISMATCH, "the body is not what the dispute was opened with; send that"
            )
        place = self._place(job)
        part = place.with_name(f"{FILE}.{os.urandom(4).hex()}.new")
        try:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            part.touch(mode=0o600)
            part.write_bytes(data)
            sync(part)
            part.rename(place)
            sync_directory(place.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise Refused(Code.STORAGE_FULL, "this provider has no room left; try later") from error
        log.info("dispute %s: its requester's evidence is in %s", job.hex()[:12], place)

    def _place(self, job: bytes) -> Path:
        return self._root / job.hex() / FILE
