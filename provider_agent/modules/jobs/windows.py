# SPDX-License-Identifier: Apache-2.0
"""Attested jobs of ours that wait for the end of their challenge windows.

There may be ten thousand of them, a day long: none is looked at before its time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from provider_agent.modules.jobs.book import decode_terms
from provider_agent.modules.jobs.repository import JobRow


class Windows:
    """When each window ends, by the chain's time. Used by one thread."""

    def __init__(self) -> None:
        self._ends: dict[bytes, int] = {}
        self._order: list[tuple[int, bytes]] = []
        self._over: set[bytes] = set()

    def load(self, jobs: Iterable[JobRow]) -> None:
        """Begin with these attested jobs."""
        self._ends, self._order, self._over = {}, [], set()
        for job in jobs:
            self.keep(job)

    def keep(self, job: JobRow) -> None:
        """An attested job. One whose attestation is still to be read is looked at all the time."""
        end = -1
        if job.attested_at is not None:
            end = decode_terms(job.terms).finalizable_after(job.attested_at)
        if self._ends.get(job.job_id) != end:
            self._ends[job.job_id] = end
            self._over.discard(job.job_id)
            heapq.heappush(self._order, (end, job.job_id))

    def drop(self, job_id: bytes) -> None:
        """The job is not attested, or not ours."""
        if self._ends.pop(job_id, None) is not None:
            self._over.discard(job_id)

    def rests(self, job_id: bytes, now: int) -> bool:
        """Whether a job waits for nothing but the end of its window."""
        return self._ends.get(job_id, -1) >= now

    def over(self, now: int) -> set[bytes]:
        """The jobs whose windows have ended before a block's time, unix seconds."""
        while self._order and self._order[0][0] < now:
            end, job_id = heapq.heappop(self._order)
            if self._ends.get(job_id) == end:
                self._over.add(job_id)
        return self._over
