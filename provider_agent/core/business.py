# SPDX-License-Identifier: Apache-2.0
"""What modules that sell something have in common: a duty that does what is owed, a clock that must
be right, and rows that are tidied away now and then.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from provider_agent.core.fleet import Fleet
from provider_agent.core.following import Following
from provider_agent.core.health import Check
from provider_agent.core.module import Cycle, Module
from teraproof.contracts.base import Event

_TIDY_EVERY = 600.0  # seconds


class Duty(Protocol):
    """Does what is owed."""

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See `Module.consume`."""
        ...

    @property
    def is_idle(self) -> bool:
        """See `Module.is_idle`."""
        ...


class Business(Module):
    """A module that sells something. It brings `work` and `tidy`, and `checks_of_its_own` if it has
    any.
    """

    def set_up(
        self,
        duty: Duty,
        following: Following,
        fleet: Fleet,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call once, when the module is built."""
        self._seller, self._following, self._devices = duty, following, fleet
        self._since, self._tidied_at = clock, -_TIDY_EVERY

    @abstractmethod
    def work(self, cycle: Cycle) -> None:
        """See `Module.reconcile`."""

    @abstractmethod
    def tidy(self) -> None:
        """Put away what is late or over. Called every ten minutes, after `work`."""

    def checks_of_its_own(self) -> Sequence[Callable[[], Check]]:
        """Its part of the readiness report, besides the clock."""
        return ()

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See the duty."""
        self._seller.consume(events, again)

    @property
    def is_idle(self) -> bool:
        """See the duty."""
        return self._seller.is_idle

    def reconcile(self, cycle: Cycle) -> None:
        """Look at clock and devices, do what is owed, and tidy what is over."""
        self._following.see(cycle.head)
        self._devices.look()
        self.work(cycle)
        now = self._since()
        if now - self._tidied_at >= _TIDY_EVERY:
            self._tidied_at = now
            self.tidy()

    def ready(self) -> Sequence[Callable[[], Check]]:
        """Whether the clock is right, and what the module itself needs."""
        return [self._following.check, *self.checks_of_its_own()]
