# SPDX-License-Identifier: Apache-2.0
"""When what of an epoch is due: the rules of a Benchmark contract, applied. Arithmetic alone.

    boundary wins   window             close        draw         samples            end
      |--------------|------------------|------------|-------------|------------------|
      anyone opens   rounds, commits    anyone       anyone, once  until the end      claim, settle
                                        names a      its block is
                                        block        there

A boundary comes every `slot` seconds. Its block is the first one not before it, and by the
randomness of that block it opens a window or does not. An epoch is what a window opens: the first
is 1. All times are unix seconds on the chain's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from teraproof.pog.format import Shape, keccak, score, word

# The early commits come after these parts of the window: something is on chain, whatever fails.
_EARLY = (1 / 8, 1 / 2)
# Blocks are not exactly as far apart as they were: the part of one by which they may differ.
_TOLERANCE = 0.02
# Time slices of a device per window when several identities share it, and the longest in seconds.
_TURNS = 8
_LONGEST_TURN = 15.0
# Agents spread what one of them has to do over this part of its period, and over no more seconds:
# more for reports of faults, which have days, and which nobody waits for.
_SPREAD = 6
_MOST_SPREAD, _MOST_FAULT_SPREAD = 60, 300
# Opening late is free until the first commit; half of the time to it is taken at the most.
_OPEN_SPREAD, _OPEN_WINDOW_SPREAD = 3, 16


class Stage(StrEnum):
    """Where an epoch stands."""

    NONE = "none"  # there was none yet
    WINDOW = "window"  # rounds are done and committed
    CLOSE = "close"  # the block of the draw is to be named
    DRAW = "draw"  # it is named, to be read
    VOID = "void"  # not closed or not drawn in time
    SAMPLES = "samples"  # drawn: samples are opened
    OVER = "over"


class Dates(Protocol):
    """What is known of an epoch; zeros for what has not happened."""

    @property
    def opened_at(self) -> int:
        """Timestamp of the block that opened it."""
        ...

    @property
    def target(self) -> int:
        """The block of the draw."""
        ...

    @property
    def draw(self) -> bytes:
        """What it drew."""
        ...

    @property
    def ends_at(self) -> int:
        """When it is over."""
        ...


@dataclass(frozen=True)
class Rules:
    """What a Benchmark contract fixes permanently. Times are seconds, the bond is TPF wei, the
    draw's delay is in blocks.
    """

    shape: Shape
    samples: int
    bond: int
    genesis: int
    slot: int
    chance_ppm: int
    spacing: int
    open_period: int
    window: int
    draw_period: int
    draw_delay: int
    reach: int
    opening_period: int
    fault_period: int
    source: int

    @property
    def length(self) -> int:
        """From the opening of a window to the end of its epoch."""
        return self.window + self.draw_period + self.reach + self.opening_period

    # ------------------------------------------------------------------ boundaries

    def boundary(self, time: int) -> int | None:
        """The newest boundary at a time; None before the first."""
        passed = time - self.genesis
        return None if passed < 0 else self.genesis + passed // self.slot * self.slot

    def next_boundary(self, time: float) -> int:
        """The first boundary after a time."""
        if time < self.genesis:
            return self.genesis
        return self.genesis + (int(time - self.genesis) // self.slot + 1) * self.slot

    def opened_until(self, boundary: int) -> int:
        """The last second in which a boundary that has won can be presented."""
        return boundary + self.open_period

    def next_window_from(self, opened_at: int) -> int:
        """The earliest opening of the window that follows one; `opened_at` is 0 for none."""
        return opened_at + self.spacing if opened_at else self.genesis

    def wins(self, lottery: int) -> bool:
        """Whether a boundary opens a window, by its number in the lottery."""
        return lottery < self.chance_ppm

    # ------------------------------------------------------------------ an epoch

    def window_end(self, opened_at: int) -> int:
        """The first second in which a commit is too late, and in which the epoch can be closed."""
        return opened_at + self.window

    def close_until(self, opened_at: int) -> int:
        """The last second in which the block of the draw can be named."""
        return self.window_end(opened_at) + self.draw_period

    def draw_until(self, opened_at: int) -> int:
        """The last second in which it can be read."""
        return self.close_until(opened_at) + self.reach

    def ends_at(self, opened_at: int) -> int:
        """When an epoch is over: its samples must have been opened, its rewards can be claimed."""
        return opened_at + self.length

    def fault_until(self, ends_at: int) -> int:
        """The last second in which an unopened proof can be reported."""
        return ends_at + self.fault_period - 1

    def stage(self, epoch: Dates, now: int) -> Stage:
        """Where an epoch stands."""
        if not epoch.opened_at:
            return Stage.NONE
        if now >= epoch.ends_at:
            return Stage.OVER
        if any(epoch.draw):
            return Stage.SAMPLES
        if now < self.window_end(epoch.opened_at):
            return Stage.WINDOW
        if self.is_void(epoch, now):
            return Stage.VOID
        return Stage.DRAW if epoch.target else Stage.CLOSE

    def is_void(self, epoch: Dates, now: int) -> bool:
        """Whether an epoch can never be drawn any more."""
        if not epoch.opened_at or any(epoch.draw):
            return False
        if epoch.target:
            return now > self.draw_until(epoch.opened_at)
        return now > self.close_until(epoch.opened_at)

    def binds(self, epoch: Dates, rounds: int, verified: int, now: int) -> bool:
        """Whether a proof of that epoch is open and binds the bond: no other can be committed."""
        if rounds == 0 or verified == self.samples or self.is_void(epoch, now):
            return False
        return now <= self.fault_until(epoch.ends_at)

    # ------------------------------------------------------------------ the window

    def commit_slot(self, opened_at: int, now: float, block_seconds: float, last: int) -> str:
        """Which commit leaves for the next block, "" when none is due: two early ones, then one
        for each of the `last` blocks of the window.
        """
        left = self.blocks_left(opened_at, now, block_seconds)
        if left < 1:
            return ""
        if left <= last:
            return f"last-{left}"
        due = sum(now >= opened_at + part * self.window for part in _EARLY)
        return f"{due}" if due else ""

    def blocks_left(self, opened_at: int, now: float, block_seconds: float) -> int:
        """Blocks that a commit can still get into, when the newest one has the time `now`."""
        left = (self.window_end(opened_at) - now) / block_seconds - _TOLERANCE
        return max(0, math.ceil(left) - 1)

    def score(self, rounds: int) -> int:
        """Integer operations per second that `rounds` in the window prove."""
        return 0 if rounds == 0 else score(self.shape, rounds, self.window)

    def turn_seconds(self) -> float:
        """How long an identity keeps a device that others wait for."""
        return min(_LONGEST_TURN, max(1.0, self.window / _TURNS))

    # ------------------------------------------------------------------ one for all

    def open_delay(self, provider: str, boundary: int) -> int:
        """Seconds from a boundary that has won to the moment at which a provider presents it."""
        spread = min(self.open_period // _OPEN_SPREAD, self.window // _OPEN_WINDOW_SPREAD)
        return stagger(provider, boundary, "open", min(spread, _MOST_SPREAD))

    def close_delay(self, provider: str, epoch: int) -> int:
        """Seconds from the end of the window to the moment at which a provider closes."""
        spread = min(self.draw_period // _SPREAD, _MOST_SPREAD)
        return stagger(provider, epoch, "close", spread)

    def read_delay(self, provider: str, epoch: int) -> int:
        """Seconds that a provider waits with the draw once its block is there."""
        return stagger(provider, epoch, "draw", min(self.reach // _SPREAD, _MOST_SPREAD))

    def fault_delay(self, provider: str, epoch: int, other: str) -> int:
        """Seconds from the end of an epoch to the moment at which a provider looks at another."""
        spread = min(self.fault_period // _SPREAD, _MOST_FAULT_SPREAD)
        return stagger(provider, epoch, f"fail {other}", spread)


def stagger(provider: str, number: int, action: str, spread: int) -> int:
    """Seconds, at most `spread`, that a provider waits before it sends what anyone may send.

    The delay differs by `number`, such as an epoch, so usually only one pays for the call.
    """
    if spread < 1:
        return 0
    digest = keccak(word(int(provider, 16)) + word(number) + action.encode())
    return int.from_bytes(digest[:8], "big") % (spread + 1)
