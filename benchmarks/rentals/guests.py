# SPDX-License-Identifier: Apache-2.0
"""A tenant who comes and goes: leases that begin and end while things are killed."""

from __future__ import annotations

import contextlib
import time

from benchmarks.rentals.market import Rental, RentalWorld
from benchmarks.rentals.watch import Round
from teraproof.errors import LocalError
from teraproof.protocol.lease_terms import LeaseStatus

_LOOK = 1.0  # seconds


class Guests:
    """Hires a lease, closes it as soon as it runs, and hires the next one. `words` gets a word of
    each one's command line.
    """

    def __init__(self, world: RentalWorld, words: list[str]) -> None:
        self._world, self._words = world, words
        self._rental: Rental | None = None
        self.served = 0
        """Leases that have run, and were closed."""
        self.lost = 0
        """Leases that have ended before they ran."""
        self.round = Round(_LOOK, self._look)

    def _look(self) -> None:
        if self._rental is None:
            # The agent is often away, and then there is nobody to hire from.
            with contextlib.suppress(LocalError):
                self._hire()
        else:
            self._go_on(self._rental)

    def _hire(self) -> None:
        word = f"guest-{self.served + self.lost}"
        if word not in self._words:
            self._words.append(word)
        with self._world.tenancy() as client:
            self._rental = self._world.hire(client, self._world.service(word), patience=0.0)

    def _go_on(self, rental: Rental) -> None:
        status = self._world.state(rental).status
        if status is LeaseStatus.ACTIVE:
            self._world.by_tenant(rental, "close")
            self.served += 1
            self._rental = None
        elif status is LeaseStatus.NONE:
            self.lost += 1
            self._rental = None

    def leave(self, seconds: float) -> None:
        """Hire no more, and close what is hired once it runs. AssertionError when it does not."""
        self.round.end()
        end = time.monotonic() + seconds
        while self._rental is not None:
            if time.monotonic() > end:
                raise AssertionError(f"a lease does not run:\n{self._world.log()}")
            self._go_on(self._rental)
            time.sleep(_LOOK)
