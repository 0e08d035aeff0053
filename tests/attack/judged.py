# SPDX-License-Identifier: Apache-2.0
"""What became of a strategy, in the market as before a court."""

from __future__ import annotations

from dataclasses import dataclass

# Wei that rounding may move in a call.
ROUNDING = 3


@dataclass(frozen=True)
class Judged:
    """A gain, and whether it breaks a promise."""

    gain: int
    """Of the attackers, TPF wei."""
    calls: int
    fault: str = ""
    """What promise it breaks; empty if it breaks none."""
    prices: float = 0.0
    """Of a court: the gain with the work that was saved, in prices of the job."""
    is_open: bool = False
    """It gains by what docs/threat-model.md names as not covered."""
    is_luck: bool = False
    """Of a court: the last jury was not an honest one."""
