# SPDX-License-Identifier: Apache-2.0
"""A tenant's watcher: it stands by a lease, and orders it again elsewhere when it dies.

It accuses a silent provider and closes what it has left; it challenges at moments that blocks draw;
it hires the cheapest other provider for the rest of the term when the lease has ended by its
provider's doing. Everything follows from the chain and the notes, so a watcher that was killed goes
on where it stopped. What the containers had saved is theirs to go on with (docs/storage.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from teraproof.acceptance import policy
from teraproof.acceptance.format import Lease as Named
from teraproof.acceptance.policy import Decision
from teraproof.errors import CommandError, LocalError
from teraproof.market import (
    lease_challenges,
    lease_endings,
    lease_hiring,
    lease_notes,
    lease_offers,
    lease_specs,
    lease_tending,
    leases,
)
from teraproof.market.funds import Funds
from teraproof.market.lease_notes import Note
from teraproof.market.lease_orders import Origin
from teraproof.market.lease_tending import Manner
from teraproof.market.leases import Lease, contract, short
from teraproof.market.market import Market
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_match import LeaseRequest
from teraproof.protocol.lease_terms import Ending, LeaseStatus
from teraproof.sdl.stack import Credentials

_LOOK_SECONDS = 5.0
_MOST_BLOCKS = 256  # looked at in one turn; a watcher that slept has missed the rest


@dataclass(frozen=True)
class Watch:
    """How a tenant watches. `every`: seconds from one challenge to the next, on average; 0: none.
    `max_rate`: payment token units a second for a new lease; None: the most that was to be paid for
    this one.
    """

    manner: Manner
    every: int = 0
    max_rate: int | None = None
    funds: Funds = Funds.AUTO
    orders: int = 3
    """New leases that it makes at most."""


@dataclass
class Watcher:
    """See the module."""

    market: Market
    sender: Sender
    ui: Ui
    how: Watch
    credentials: Mapping[str, Credentials]
    newest: Callable[[], str | None] | None = None
    """Says which checkpoint the work goes on from; None: nobody asks."""
    sleep: Callable[[float], None] = time.sleep
    orders: int = 0
    _seen: int = 0
    _failures: int = 0

    def run(self, lease: Lease) -> Lease:
        """Watch until the lease, or the last of those that followed it, has ended for good.

        CommandError when it died and nobody else takes it.
        """
        lease = self.last_of(lease)
        self._seen = self.market.chain.head().number
        self.ui.step(f"watching lease {short(lease.lease)}")
        while True:
            lease = leases.current(self.market, lease.opened)
            if lease.status is LeaseStatus.NONE:
                if not lease.died and not leases.left_early(self.market, lease):
                    self.ui.step(leases.next_step(self.market, lease, self.market.now()))
                    return lease
                lease = self.again(lease)
            elif lease.status is LeaseStatus.ACTIVE and lease.state.confirmed:
                self._stand_by(lease)
            else:
                lease = self._bring_up(lease)
            self.sleep(max(_LOOK_SECONDS, self.market.chain.poll_seconds))

    def resume(self, lease: Lease) -> Lease:
        """A lease in place of one that has ended, or of the last that followed it, until the tenant
        works in it. CommandError while it goes on, and when nobody else takes it.
        """
        lease = self.last_of(lease)
        if lease.status in (LeaseStatus.OPEN, LeaseStatus.ACTIVE):
            raise CommandError(
                f"lease {short(lease.lease)} goes on: it is {lease.word}; lease watch resumes it "
                "when it dies, and lease close ends it",
                Code.CONTRACT_REFUSED,
                lease="0x" + lease.lease.hex(),
            )
        if lease.status is LeaseStatus.NONE:
            # Whoever did no wrong may have it again.
            elsewhere = lease.ending not in (Ending.BY_TENANT, Ending.DRY)
            lease = self.again(lease, elsewhere=elsewhere)
        while lease.status is not LeaseStatus.ACTIVE:
            lease = self._bring_up(lease)
        return lease

    def last_of(self, lease: Lease) -> Lease:
        """The lease that was ordered last in place of this one, by the notes of this machine."""
        where = leases.notes_of(self.market, self.sender.address)
        followed = {note.watched: note for note in lease_notes.read_all(where) if note.watched}
        for _ in range(len(followed)):
            note = followed.get(lease.lease.hex())
            if note is None:
                break
            later = leases.ordered(self.market, self.sender.address, int(note.nonce))
            if later is None:
                break
            lease = later
        return lease

    # ------------------------------------------------------------------ a turn

    def _bring_up(self, lease: Lease) -> Lease:
        """Until it is confirmed; a lease that does not come so far has died."""
        try:
            done = lease_tending.attend(
                self.market,
                self.sender,
                self.ui,
                lease,
                self.credentials,
                self.how.manner,
                sleep=self.sleep,
            )
        except CommandError as error:
            if error.code is not Code.LEASE_FAILED:
                raise
            self.ui.note(str(error))
            return self.again(leases.current(self.market, lease.opened))
        if not done.lease.state.confirmed and not done.lease.in_grace(self.market.now()):
            # Its grace is over: it is the tenant's like a confirmed one.
            self._stand_by(done.lease)
        return done.lease

    def _stand_by(self, lease: Lease) -> None:
        chain, now = contract(self.market), self.market.now()
        assert lease.provider is not None  # it is active
        silent = chain.last_heartbeat(lease.provider, "latest") + chain.abandon("latest")
        idle = lease.marks.suspended_at
        late = now > silent or (idle and now > idle + chain.max_suspension("latest"))
        if late and not lease.marks.accused_at:
            self._tried(lease_endings.accuse, lease)
        elif late and now > lease.marks.accused_at + chain.max_gap("latest"):
            self._tried(lease_endings.close, lease)
        elif self.how.every and self._is_due(lease):
            self._challenge(lease)

    def _tried(self, step: Callable[..., object], lease: Lease) -> None:
        """What another may have done before, or the provider's heartbeat made impossible."""
        try:
            step(self.market, self.sender, self.ui, lease)
        except CommandError as error:
            if error.code is not Code.CONTRACT_REFUSED:
                raise
            self.ui.note(str(error))

    def _is_due(self, lease: Lease) -> bool:
        """Whether a block since the last look says so."""
        assert lease.provider is not None  # it is active
        pool, head = self.market.chain.pool, self.market.chain.head()
        first = max(self._seen + 1, head.number - _MOST_BLOCKS + 1)
        if first > head.number:
            return False
        before = pool.block(max(0, head.number - _MOST_BLOCKS))
        count = max(1, head.number - before.number)
        pace = Fraction(max(1, head.timestamp - before.timestamp), count)
        one_in = max(1, int(self.how.every / pace))
        chain = contract(self.market)
        named = Named(self.market.chain.chain_id, chain.address, lease.provider, lease.lease)
        due = any(
            policy.is_due(pool.block(number).hash, named, one_in)
            for number in range(first, head.number + 1)
        )
        self._seen = head.number
        return due

    def _challenge(self, lease: Lease) -> None:
        try:
            url = lease_tending.endpoint_for(self.market, lease, self.how.manner.endpoint)
        except CommandError as error:
            self.ui.note(str(error))
            return
        signer, asked = self.sender.signer, self.how.manner.asked
        wanted = lease_challenges.together_with(self.market, lease, signer.address)
        found = lease_challenges.challenge(
            self.market, signer, self.ui, wanted, url, asked, self._failures
        )[0]
        self._failures = 0 if found.verdict.passed else self._failures + 1
        if found.decision is Decision.CLOSE:
            self.ui.note(f"it does not show what was promised: {found.verdict.line}")
            self._tried(lease_endings.close, lease)

    # ------------------------------------------------------------------ again

    def again(self, lease: Lease, *, elsewhere: bool = True) -> Lease:
        """A new lease for the rest of the term, with another provider, or with any.

        CommandError when the specification is not known here, no time is left, nobody takes it, or
        it has died too often.
        """
        self.ui.step(f"lease {short(lease.lease)} has ended: {self._why(lease)}")
        if self.orders >= self.how.orders:
            raise _given_up(lease, f"so have all {self.orders} that were ordered in its place")
        self._tell_saved()
        self.orders += 1
        request = self._request(lease)
        verdicts = lease_offers.ask_providers(self.market, self.ui, request)
        avoided = lease.provider if elsewhere else None
        takers = [one for one in verdicts if one.takes_it and one.provider.owner != avoided]
        origin = self._origin(lease)
        wanted = lease_hiring.Wanted(request, origin, self.how.funds)
        if takers:
            try:
                return lease_hiring.hire(self.market, self.sender, self.ui, wanted, takers).lease
            except LocalError as error:
                if lease_hiring.is_final(error):
                    raise
                self.ui.note(str(error))
        lease_offers.show(self.market, self.ui, verdicts)
        raise _given_up(lease, "no other provider takes it now")

    def _tell_saved(self) -> None:
        if self.newest is None:
            return
        try:
            found = self.newest()
        except LocalError as error:
            self.ui.note(str(error))  # the containers ask the store themselves
            return
        goes_on = f"goes on from checkpoint {found}" if found else "begins again: nothing is saved"
        self.ui.note(f"its work {goes_on}")

    def _why(self, lease: Lease) -> str:
        return leases.next_step(self.market, lease, self.market.now())

    def _request(self, lease: Lease) -> LeaseRequest:
        request = lease_specs.request_of(lease)
        if request is None:
            raise _given_up(lease, "its specification is not known on this machine")
        used = 0 if lease.closed is None else lease.closed.seconds
        left = request.term - used
        if left <= lease.terms.grace:
            raise _given_up(lease, "nearly nothing is left of its term")
        # A quote says what its provider puts up.
        return replace(
            request,
            term=left,
            notice=min(request.notice, left),
            max_rate=self.how.max_rate or self._most(lease) or request.max_rate,
            collateral=0,
            min_stake=0,
        )

    def _note(self, lease: Lease) -> Note | None:
        where = leases.notes_of(self.market, self.sender.address)
        return lease_notes.of_lease(where, lease.lease)

    def _most(self, lease: Lease) -> int:
        """What its tenant would have paid: a hired provider may have asked for less."""
        note = self._note(lease)
        return 0 if note is None else int(note.max_rate or 0)

    def _origin(self, lease: Lease) -> Origin:
        note = self._note(lease)
        known = Origin()
        if note is not None:
            known = Origin(note.file, note.akt_usd, access=note.access)
        return replace(known, watched=lease.lease.hex())


def _given_up(lease: Lease, why: str) -> CommandError:
    return CommandError(
        f"lease {short(lease.lease)} has ended, and {why}; order it again with lease open",
        Code.LEASE_FAILED,
        lease="0x" + lease.lease.hex(),
    )
