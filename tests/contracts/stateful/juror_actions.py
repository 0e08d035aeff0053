# SPDX-License-Identifier: Apache-2.0
"""Jurors come, renew, resign, are evicted and leave; seats as plain lists by period (I-14)."""

from __future__ import annotations

from tests.contracts.deploy import DAY, TPF
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.emission_actions import EmissionActions
from tests.contracts.stateful.machine import FAR, Rule, Why
from tests.contracts.stateful.trial import CAPABILITY, LONGEST_JOB, Seat, longest
from tests.contracts.stateful.world import JUROR_OPERATORS, JURORS, OWNERS, STRANGER

# Jurors with seats from the start.
ENLISTED = 4


class JurorActions(EmissionActions):
    """Who may be drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.court = self.addresses["disputes"]
        self.seats: dict[str, Seat] = {}
        """By owner; one capability has jurors."""
        self.seats_then: list[tuple[int, list[int]]] = [(0, [])]
        """Seats by leaf, after each change, with its period."""

    def found_a_court(self) -> None:
        """Jurors with stake of their own, some of them with seats."""
        for n, juror in enumerate(JURORS):
            assert self.enrol(juror, JUROR_OPERATORS[n].address, FAR, 0)
            assert self.stake(juror, juror, 2_000 * TPF)
        for n in range(ENLISTED):
            assert self.take_seats(JUROR_OPERATORS[n].address, 1 + 3 * (n % 2))
        self.go_to((self.period + 1) * self.p.period)

    # -------------------------------------------------------------------------------- tools

    @property
    def period(self) -> int:
        return self.now // self.p.period

    def seats_before(self, period: int) -> list[int]:
        """By leaf, at the end of the period before."""
        return next(seats for when, seats in reversed(self.seats_then) if when < period)

    def seats_now(self) -> int:
        return sum(seat.seats for seat in self.seats.values())

    def backing(self, juror: str) -> int:
        """What is locked behind a juror's seats and can still be taken, TPF wei."""
        lock = self.locks.get((self.court, juror, CAPABILITY))
        return lock.amount if lock and self.now <= lock.expires_at else 0

    def change_seats(self, seat: Seat, seats: int) -> None:
        seat.seats = seats
        if not seats:
            seat.went = self.period
        by_leaf = sorted(self.seats.values(), key=lambda one: one.leaf)
        self.seats_then.append((self.period, [one.seats for one in by_leaf]))

    def check(self) -> None:
        super().check()
        assert self.view("disputes", "seats", CAPABILITY) == self.seats_now(), "seats"

    def moments(self) -> set[int]:
        times = super().moments() | {(self.period + 1) * self.p.period}
        longest_of_all = longest(LONGEST_JOB)
        for seat in self.seats.values():
            times.add((seat.last + 1) * self.p.period)
            if not seat.seats:
                times.add((seat.went + 1) * self.p.period + longest_of_all + 1)
        return times

    # ------------------------------------------------------------------------------ actions

    @action(8, lambda self: self.could_sit())
    def fill_the_court(self) -> None:
        """So that there is one to go to: who has no seats takes some, who has some renews them."""
        juror = self.pick(self.could_sit())
        behind = -(-self.backing(juror) // self.p.seat)
        self.take_seats(self.operator_of(juror), max(behind, self.pick((2, 3, 4))))

    def could_sit(self) -> list[str]:
        """Jurors without seats, or with a term that ends in some days."""
        found = []
        for juror in JURORS:
            seat = self.seats.get(juror)
            soon = self.period + 3 * DAY // self.p.period
            if seat and seat.seats:
                able = self.period <= seat.last < soon
            else:
                able = seat is None or self.period >= seat.went + 2
            found += [juror] * able
        return found

    @action(1.5)
    def enlist(self) -> None:
        """For the first time, again, more, the same for longer, or too few."""
        juror = self.pick((*JURORS, *JURORS, *OWNERS))
        known = self.seats.get(juror)
        have = known.seats if known else 0
        seats = self.pick((have + 1, have + 1, have, max(have - 1, 0), 1, 3, 2**32))
        if juror in self.providers:
            self.take_seats(self.operator_of(juror), seats)
        else:
            self.take_seats(STRANGER, seats)

    def take_seats(self, operator: str, seats: int) -> bool:
        why, rule = Why(), Rule(self.books)
        juror = self.provider_of(operator)
        why.need(juror in self.providers, "unknown operator")
        why.need(0 < seats < 2**32, "seats out of bounds")
        seat = self.seats.get(juror)
        key = (self.court, juror, CAPABILITY)
        if seat and seat.seats:
            why.need(self.period <= seat.last, "term is over")
            why.need(seats >= seat.seats, "fewer seats than before")
        elif seat:
            why.need(self.period >= seat.went + 2, "went too recently")
        why.need(seats * self.p.seat >= self.backing(juror), "fewer seats than before")
        expires_at = self.now + self.p.term
        old, amount = self.locks.get(key), seats * self.p.seat
        if juror in self.providers:
            self.lock_ended(rule, *key)
            lock = (CAPABILITY, amount, expires_at)
            self.locking(why, self.court, operator, *lock, 0)
            if old:
                self.locks[key] = old
        if not why.reasons:
            self.locks.pop(key, None)
            self.lock_made(rule, self.court, juror, CAPABILITY, amount, expires_at)
        args = (CAPABILITY, seats)
        done = self.act("disputes.enlist", args, operator, why, rule)
        if done:
            seat = self.seats.setdefault(juror, Seat(len(self.seats) + 1, juror))
            if not seat.seats:
                seat.keys = (juror, operator, self.providers[juror].payout)
            seat.last = (expires_at - longest(LONGEST_JOB)) // self.p.period - 1
            self.change_seats(seat, seats)
        return done

    @action(0.6, lambda self: self.seats)
    def resign(self) -> None:
        seat = self.pick([*self.seats.values()])
        operator = self.operator_of(seat.owner)
        self.give_up(seat, self.pick((seat.owner, operator, operator, STRANGER)))

    def give_up(self, seat: Seat, sender: str) -> bool:
        why = Why()
        why.need(sender in (seat.owner, self.operator_of(seat.owner)), "not the juror")
        why.need(seat.seats, "no seats")
        done = self.act("disputes.resign", (seat.owner, CAPABILITY), sender, why)
        if done:
            self.change_seats(seat, 0)
        return done

    def seats_backed(self, seat: Seat) -> int:
        """Seats that half a seat's stake is left behind."""
        if self.period > seat.last:
            return 0
        return min(seat.seats, self.backing(seat.owner) // (self.p.seat // 2))

    @action(2.5, lambda self: self.seats)
    def evict(self) -> None:
        """Those with too little behind them, or whose term is over; and those with enough."""
        poor = [seat for seat in self.seats.values() if self.seats_backed(seat) < seat.seats]
        seat = self.pick(poor or [*self.seats.values()])
        if not poor and self.chance(0.2):
            self.maybe_go(1.0, (seat.last + 1) * self.p.period)
        backed, why = self.seats_backed(seat), Why()
        why.need(backed < seat.seats, "nothing to evict")
        if self.act("disputes.evict", (seat.owner, CAPABILITY), STRANGER, why):
            self.change_seats(seat, backed)

    def without_seats(self) -> list[Seat]:
        return [seat for seat in self.seats.values() if not seat.seats]

    @action(1.0, lambda self: self.without_seats())
    def leave_the_court(self) -> None:
        free = [
            seat
            for seat in self.without_seats()
            if self.now >= self.free_at(seat) and (self.court, seat.owner, CAPABILITY) in self.locks
        ]
        if free and self.chance(0.85):
            self.let_go(self.pick(free))
            return
        seat = self.pick([*self.without_seats(), *self.without_seats(), *self.seats.values()])
        if not seat.seats and self.chance(0.4) and self.busy_until() > self.free_at(seat):
            self.go_to(self.free_at(seat) - self.pick((0, 0, 0, 1)))
        elif self.chance(0.7):
            # Days must pass: a try before that is refused, and a few of those are enough.
            return
        self.let_go(seat)

    def free_at(self, seat: Seat) -> int:
        """No jury that can have drawn it is at work any more."""
        return (seat.went + 1) * self.p.period + longest(LONGEST_JOB) + 1

    def let_go(self, seat: Seat) -> None:
        why, rule = Why(), Rule(self.books)
        why.need(not seat.seats, "not without seats")
        why.need(self.now >= self.free_at(seat), "may still sit in a jury")
        if not why.reasons:
            self.lock_ended(rule, self.court, seat.owner, CAPABILITY)
        self.act("disputes.leave", (seat.owner, CAPABILITY), STRANGER, why, rule)
