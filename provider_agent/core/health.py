# SPDX-License-Identifier: Apache-2.0
"""Whether the agent is alive, and whether it is fit to take work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from teraproof.errors import TeraproofError


@dataclass(frozen=True)
class Check:
    """One line of the readiness report; `detail` is public and names no path or URL."""

    name: str
    ok: bool
    detail: str = ""


class Health:
    """Readiness: the last cycle is recent, every part of it works, and every check passes.

    `last_cycle` returns when the last whole reconcile cycle ended (same clock as `clock`), or None
    before the first. `checks` are run on every request and must be quick; `parts` gives the lines
    of what a cycle consists of. `moves` tells whether the loop does not hang.
    """

    def __init__(
        self,
        last_cycle: Callable[[], float | None],
        max_age: float,
        clock: Callable[[], float],
        checks: Sequence[Callable[[], Check]] = (),
        parts: Callable[[], Iterable[Check]] = tuple,
        moves: Callable[[], bool] = lambda: True,
    ) -> None:
        self._last_cycle, self._max_age, self._clock = last_cycle, max_age, clock
        self._checks, self._parts, self._moves = tuple(checks), parts, moves

    @property
    def alive(self) -> bool:
        """Whether the loop moves."""
        return self._moves()

    def report(self) -> tuple[bool, list[Check]]:
        """Whether the agent is ready, and the lines that say why."""
        last = self._last_cycle()
        if last is None:
            found = [Check("reconcile", False, "no cycle has ended yet")]
        else:
            age = max(0.0, self._clock() - last)
            found = [Check("reconcile", age <= self._max_age, f"last cycle {age:.0f} s ago")]
        found += self._parts()
        for check in self._checks:
            try:
                found.append(check())
            except TeraproofError:
                # The line may name an endpoint or a path; the log has it.
                found.append(Check(getattr(check, "__name__", "check"), False, "see the log"))
        return all(check.ok for check in found), found
