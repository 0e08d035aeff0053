# SPDX-License-Identifier: Apache-2.0
"""Intents of a duty. One that came to nothing gets a new attempt, after a growing pause."""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_agent.store import Intent, IntentKey, IntentState, Store
from provider_agent.tx.gas import may_get_more
from provider_agent.tx.sender import Sender

UNDECIDED = (IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT, IntentState.MINED)
CAME_TO_NOTHING = (IntentState.REVERTED, IntentState.ABANDONED)
MAX_ATTEMPTS = 20
PAUSE = 15  # seconds before the second attempt; doubles with each
MAX_PAUSE = 600


class Attempts:
    """Begins actions on the objects of one contract; harmless to ask again.

    `name` is the contract's part of the keys, `address` where its calls go, `pause` the seconds
    before a second attempt.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        name: str,
        address: str,
        *,
        pause: int = PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._sender, self._name, self._address = store, sender, name, address
        self._pause, self._clock = pause, clock

    def made(self, object_id: str, action: str = "") -> list[Intent]:
        """The intents about an object, or for one action on it, in the order of their making."""
        return [
            intent
            for intent in self._store.intents_of(object_id)
            if intent.key.contract == self._name
            and action in ("", intent.key.action.partition("#")[0])
        ]

    def may_begin(self, object_id: str, action: str) -> bool:
        """Whether no attempt is under way or has succeeded, and the next one's time has come."""
        made = self.made(object_id, action)
        if not made:
            return True
        if made[-1].state not in CAME_TO_NOTHING or len(made) >= MAX_ATTEMPTS:
            return False
        if self.gets_more(made[-1]):
            return True
        pause: int = min(MAX_PAUSE, self._pause << (len(made) - 1))
        return made[-1].updated_at + pause <= self._clock()

    def gets_more(self, intent: Intent) -> bool:
        """Whether a call has failed for want of gas alone, and can be sent with more at once."""
        return may_get_more(self._store.transactions_of(intent.id), intent.mined)

    def begin(self, object_id: str, action: str, data: bytes, deadline: int | None = None) -> None:
        """Write the intent of a call, if `may_begin`."""
        if self.may_begin(object_id, action):
            number = len(self.made(object_id, action)) + 1
            name = action if number == 1 else f"{action}#{number}"
            key = IntentKey(self._name, object_id, name)
            self._sender.submit(key, self._address, data, deadline=deadline)

    def abandon(self, intent: Intent, reason: str) -> None:
        """Stop wanting a call; see `Sender.abandon`."""
        self._sender.abandon(intent.key, reason)
