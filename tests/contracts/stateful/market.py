# SPDX-License-Identifier: Apache-2.0
"""All contracts together: the machine that the tests run, time, and how everybody leaves."""

from __future__ import annotations

from teraproof.protocol.terms import Status
from tests.contracts.deploy import DAY, TPF
from tests.contracts.stateful.court_actions import CourtActions
from tests.contracts.stateful.driver import Choices, action
from tests.contracts.stateful.machine import FAR
from tests.contracts.stateful.world import (
    OPERATORS,
    OWNERS,
    PEOPLE,
    STRANGER,
    holders_of,
    world,
)


class Market(CourtActions):
    """Everything at once."""

    PROVIDERS_AT_START = 2
    WITH_COURT = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choices = Choices(0)
        for n in range(self.PROVIDERS_AT_START):
            assert self.enrol(OWNERS[n], OPERATORS[n].address, FAR, 1_000)
            assert self.stake(OWNERS[n], OWNERS[n], 10_000 * TPF)
        if self.WITH_COURT:
            self.found_a_court()

    # --------------------------------------------------------------------------------- time

    @action(3)
    def jump(self) -> None:
        """To the second at which something changes, or next to it."""
        ahead = sorted(time for time in self.moments() if time > self.now)
        # The nearest ones come first, so that far ones do not end everything at once.
        if ahead:
            self.maybe_go(1.0, self.pick(ahead[:4]) + self.pick((-1, 0, 0, 1)))

    @action(0.5)
    def wait(self) -> None:
        self.maybe_go(1.0, self.now + self.choices.log(1, DAY))

    # ------------------------------------------------------------------------------ the end

    def leave(self) -> None:
        """I-2: from any state, by calls that anyone can make for everybody, to the last unit."""
        self.audit()
        self.note("-- everybody leaves")
        for job in self.with_status(Status.OPEN):
            # A pause that runs moves the end while we wait.
            self.go_to(max(self.paused_until, self.now))
            self.go_to(self.open_until(job) + 1)
            assert self.cancel_job(job, STRANGER), "I-2: an open job stays"
        for job in self.with_status(Status.ASSIGNED):
            self.go_to(job.deadline + 1)
            assert self.expire_job(job, STRANGER), "I-2: an assigned job stays"
        for job in self.with_status(Status.ATTESTED):
            assert job.record
            self.go_to(job.window_end + 1)
            assert self.finish(job, job.record), "I-2: an attested job stays"
        for job in self.disputed():
            # Nobody does anything any more: the clock ends every phase.
            while until := self.trial_of(job).standing(self.now)[2]:
                self.go_to(until + 1)
            assert self.conclude_job(job, STRANGER), "I-2: a dispute stays"
        assert not self.escrows, "I-5: escrow is left when all jobs have ended"
        for account in PEOPLE:
            if self.books["owed", account]:
                assert self.take_owed(account, account)
        if self.books["fees",]:
            assert self.collect()
        self.stake_leaves()

    def stake_leaves(self) -> None:
        # Delegators need not wait for locks, owners must.
        self.all_undelegate(owners=False)
        for key, lock in sorted(self.locks.items(), key=lambda entry: entry[1].expires_at):
            self.go_to(lock.expires_at + 1)
            assert self.release_lock(key), "I-2: a lock stays"
        self.all_undelegate(owners=True)
        # A reward that was paid meanwhile may make a wei of less than one.
        self.all_undelegate(owners=False)
        for provider, account in self.entries():
            assert self.take_entry(provider, account, account), "I-2: an entry stays"
        for ticket in sorted(self.tickets, key=lambda one: self.tickets[one]):
            self.go_to(self.tickets[ticket])
            assert self.cash(ticket, ticket[2]), "I-2: a ticket does not pay"
        for account in PEOPLE:
            if self.books["credit", account]:
                assert self.take_credit(account, account)
        self.nothing_is_left()
        self.audit()

    def all_undelegate(self, *, owners: bool) -> None:
        for provider, account in self.stakes():
            held = self.view("staking", "shares_of", provider, account)
            if held and (provider == account) == owners:
                assert self.leave_pool(provider, account, held), "I-2: stake cannot leave"

    def nothing_is_left(self) -> None:
        books = self.books
        for provider in self.providers:
            for account in holders_of(provider):
                # Less than a wei may become one when others round.
                assert books["stake", provider, account] <= 2, "I-2: stake is left"
            left = books["active", provider] + books["unbonding", provider]
            bound = 4 * (self.rounded[provider] + 5) + self.slack(provider)
            assert left <= bound, f"I-2: more than dust stays |{left} of {bound}"
        owed = books.total("credit") + books.total("entry")
        assert not owed, "I-2: credits or entries are left"


def make() -> Market:
    return Market(world())
