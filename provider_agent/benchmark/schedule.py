# SPDX-License-Identifier: Apache-2.0
"""When what of an epoch is due: the rules of a Benchmark contract, applied. Arithmetic alone.

    start      open        window             delay      draw        samples            end
      |---------|------------------------------|----------|-----------|------------------|
      anyone    from the moment of opening: commits       anyone      the rest of the epoch

All times are unix seconds on the chain's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from provider_agent.benchmark.format import Shape, keccak, score, word

# The first commit comes after this part of the window: something is on chain early.
_FIRST_COMMIT = 8
# A device changes hands so often in a window when several identities share it; at the latest after
# so many seconds.
_TURNS = 8
_LONGEST_TURN = 15.0
# Agents spread what one of them has to do over this part of its period, and over no more seconds.
_SPREAD = 6
_MOST_SPREAD = 300


class Stage(StrEnum):
    """Where an epoch stands."""

    UNOPENED = "unopened"  # to be opened
    SKIPPED = "skipped"  # nobody has opened it in time
    WINDOW = "window"  # rounds are done and committed
    DELAY = "delay"  # the draw is not yet allowed
    DRAW = "draw"  # to be drawn
    VOID = "void"  # nobody has drawn in time
    SAMPLES = "samples"  # drawn: samples are opened
    OVER = "over"


@dataclass(frozen=True)
class Rules:
    """What a Benchmark contract fixes for ever. Times are seconds, the bond is TPF wei."""

    shape: Shape
    samples: int
    bond: int
    genesis: int
    epoch: int
    open_period: int
    window: int
    draw_delay: int
    draw_period: int
    fault_period: int

    def number(self, now: int) -> int | None:
        """The epoch at a time; None before the first."""
        return None if now < self.genesis else (now - self.genesis) // self.epoch

    def start(self, epoch: int) -> int:
        """When an epoch begins."""
        return self.genesis + epoch * self.epoch

    def end(self, epoch: int) -> int:
        """When it is over and its samples must have been opened."""
        return self.start(epoch + 1)

    def opened_until(self, epoch: int) -> int:
        """The last second in which it can be opened."""
        return self.start(epoch) + self.open_period - 1

    def window_end(self, opened_at: int) -> int:
        """The first second in which a commit is too late."""
        return opened_at + self.window

    def draw_from(self, opened_at: int) -> int:
        """The first second of the draw."""
        return opened_at + self.window + self.draw_delay

    def draw_until(self, opened_at: int) -> int:
        """The last second of the draw."""
        return self.draw_from(opened_at) + self.draw_period

    def fault_until(self, epoch: int) -> int:
        """The last second in which an unopened proof of this epoch can be reported."""
        return self.end(epoch) + self.fault_period - 1

    def stage(self, epoch: int, opened_at: int, drawn_at: int, now: int) -> Stage:
        """Where an epoch stands; `opened_at` and `drawn_at` are 0 for what has not happened."""
        if now >= self.end(epoch):
            return Stage.OVER
        if not opened_at:
            return Stage.UNOPENED if now <= self.opened_until(epoch) else Stage.SKIPPED
        if drawn_at:
            return Stage.SAMPLES
        if now < self.window_end(opened_at):
            return Stage.WINDOW
        if now < self.draw_from(opened_at):
            return Stage.DELAY
        return Stage.DRAW if now <= self.draw_until(opened_at) else Stage.VOID

    def binds(
        self, epoch: int, rounds: int, verified: int, opened_at: int, drawn_at: int, now: int
    ) -> bool:
        """Whether a proof of that epoch is open and binds the bond: no other can be committed."""
        if rounds == 0 or verified == self.samples:
            return False
        if not drawn_at:
            return now <= self.draw_until(opened_at)
        return now <= self.fault_until(epoch)

    def score(self, rounds: int) -> int:
        """Integer operations a second that so many rounds in the window prove."""
        return 0 if rounds == 0 else score(self.shape, rounds, self.window)

    def turn_seconds(self) -> float:
        """How long an identity keeps a device that others wait for."""
        return min(_LONGEST_TURN, max(1.0, self.window / _TURNS))

    def commit_times(self, opened_at: int, commits: int, lead: float) -> list[int]:
        """When commits leave, evenly spaced; the last one `lead` seconds before the end."""
        last = opened_at + self.window - math.ceil(min(lead, self.window / 2))
        if commits == 1:
            return [last]
        first = opened_at + self.window // _FIRST_COMMIT
        return [first + (last - first) * k // (commits - 1) for k in range(commits)]


def stagger(provider: str, epoch: int, action: str, period: int) -> int:
    """Seconds that a provider waits with what any one of all has to do, another number in each
    epoch: so most find it done, and few pay for a call that comes too late.
    """
    spread = min(period // _SPREAD, _MOST_SPREAD)
    if spread < 1:
        return 0
    digest = keccak(word(int(provider, 16)) + word(epoch) + action.encode())
    return int.from_bytes(digest[:8], "big") % (spread + 1)
