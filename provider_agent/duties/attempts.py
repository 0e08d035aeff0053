# SPDX-License-Identifier: Apache-2.0
"""Intents of the jobs duty. One that came to nothing gets a new attempt, after a growing pause."""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_agent.chain.sender import Sender
from provider_agent.duties.book import CAME_TO_NOTHING, CONTRACT, JobBook
from provider_agent.store import IntentKey

MAX_ATTEMPTS = 20
PAUSE = 15  # seconds before the second attempt; doubles with each
MAX_PAUSE = 600


class Attempts:
    """Begins actions on jobs; harmless to ask again."""

    def __init__(
        self,
        book: JobBook,
        sender: Sender,
        contract: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._sender, self._contract, self._clock = book, sender, contract, clock

    def may_begin(self, job_id: bytes, action: str) -> bool:
        """Whether no attempt is under way or has succeeded, and the next one's time has come."""
        made = self._book.attempts(job_id, action)
        if not made:
            return True
        if made[-1].state not in CAME_TO_NOTHING or len(made) >= MAX_ATTEMPTS:
            return False
        pause: int = min(MAX_PAUSE, PAUSE << (len(made) - 1))
        return made[-1].updated_at + pause <= self._clock()

    def begin(self, job_id: bytes, action: str, data: bytes, deadline: int | None = None) -> None:
        """Write the intent of a call to Jobs, if `may_begin`."""
        if self.may_begin(job_id, action):
            number = len(self._book.attempts(job_id, action)) + 1
            name = action if number == 1 else f"{action}#{number}"
            key = IntentKey(CONTRACT, job_id.hex(), name)
            self._sender.submit(key, self._contract, data, deadline=deadline)
