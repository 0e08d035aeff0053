# SPDX-License-Identifier: Apache-2.0
"""What a lease promises, in other words than the contract: lives as stretches of time.

The contract keeps a counter a provider and a few numbers a lease. Here a provider's life is the
union of the stretches that its heartbeats are good for, and rent is the length of what of it lies
in a lease and outside its suspensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from teraproof.protocol.lease_terms import Ending, LeaseStatus, LeaseTerms

BPS = 10_000
Stretch = tuple[int, int]


@dataclass
class Life:
    """One provider's signs of life."""

    gap: int
    beats: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.beats[-1] if self.beats else 0

    def beat(self, time: int) -> None:
        if not self.beats or self.beats[-1] != time:
            self.beats.append(time)

    def stretches(self, since: int, until: int) -> list[Stretch]:
        """When it was alive, without overlaps: a beat is good for a gap, or until the next."""
        found = []
        for n, beat in enumerate(self.beats):
            after = self.beats[n + 1] if n + 1 < len(self.beats) else until
            start, end = max(beat, since), min(beat + self.gap, after, until)
            if start < end:
                found.append((start, end))
        return found

    def seconds(self, since: int, until: int) -> int:
        return sum(end - start for start, end in self.stretches(since, until))


def outside(stretches: list[Stretch], holes: list[Stretch]) -> int:
    """The length of what lies in no hole."""
    total = 0
    for start, end in stretches:
        cut = sum(max(0, min(end, b) - max(start, a)) for a, b in holes)
        total += end - start - cut
    return total


@dataclass
class Tenancy:
    """One lease."""

    terms: LeaseTerms
    status: LeaseStatus = LeaseStatus.OPEN
    provider: str = ""
    life: Life = field(default_factory=lambda: Life(1))
    rate: int = 0
    assigned_at: int = 0
    ready_at: int = 0
    deposited: int = 0
    confirmed: bool = False
    suspensions: list[Stretch] = field(default_factory=list)
    """Those that are over."""
    suspended_at: int = 0
    leaves_at: int = 0
    accused_at: int = 0
    paid: int = 0
    """Seconds."""
    ending: Ending | None = None

    def __post_init__(self) -> None:
        self.id = self.terms.lease_id()
        self.deposited = self.terms.order.deposit

    @property
    def ready_until(self) -> int:
        return self.assigned_at + self.terms.order.ready_within

    @property
    def ends_at(self) -> int:
        ends_at = self.ready_at + self.terms.order.term
        return min(ends_at, self.leaves_at) if self.leaves_at else ends_at

    @property
    def affordable(self) -> int:
        return self.deposited // self.rate

    def in_grace(self, now: int) -> bool:
        return not self.confirmed and now - self.ready_at <= self.terms.grace

    def served(self, now: int) -> int:
        """Seconds of the lease in which the provider lived and the work was not suspended."""
        until = min(now, self.ends_at)
        holes = list(self.suspensions)
        if self.suspended_at:
            holes.append((self.suspended_at, max(until, self.suspended_at)))
        return outside(self.life.stretches(self.ready_at, until), holes)

    def earned(self, now: int) -> int:
        """The same less what a provider was silent after the end, if it was heard of again."""
        silence = 0
        if not self.suspended_at and self.life.last > self.ends_at < now:
            after = self.life.seconds(self.ends_at, self.life.last)
            silence = self.life.last - self.ends_at - after
        return max(0, self.served(now) - silence)

    def is_dry(self, now: int) -> bool:
        return self.earned(now) >= self.affordable

    def due(self, now: int) -> int:
        """Seconds that are to be paid by now, in total."""
        if self.in_grace(now):
            return 0
        return max(self.paid, min(self.earned(now), self.affordable))

    def net(self, seconds: int) -> int:
        """What the provider has of the rent of so long."""
        rent = seconds * self.rate
        return rent - rent * self.terms.fee_bps // BPS

    def to_blame(self, time: int, p: object) -> bool:
        """Whether the provider could be accused at a time, as it stands now."""
        silent = time - self.life.last > p.abandon  # type: ignore[attr-defined]
        long = p.max_suspension  # type: ignore[attr-defined]
        return silent or bool(self.suspended_at and time - self.suspended_at > long)

    def has_left(self, now: int, p: object) -> bool:
        """A gap has passed since an accusation that stands, and had before the end."""
        if not self.accused_at or not self.to_blame(self.accused_at, p):
            return False
        return self.accused_at + self.life.gap < min(now, self.ends_at)

    def end(self, now: int, p: object) -> Ending | None:
        """Why it has ended, if it has."""
        if self.has_left(now, p):
            return Ending.ABANDONED
        if now > self.ends_at:
            return Ending.OVER
        return Ending.DRY if self.is_dry(now) else None

    @property
    def held(self) -> int:
        """Payment token units that the contract keeps for it."""
        if self.status is LeaseStatus.NONE:
            return 0
        return self.deposited - (self.net(self.paid) if self.rate else 0)
