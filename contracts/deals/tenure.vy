# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What is done with a lease once it is taken
@license AGPL-3.0-only
@notice The operator says when it is ready, suspends and resumes it, gives notice or
        leaves. The tenant confirms or rejects it in the grace, and closes it. Anyone
        tops it up, settles it, accuses a provider that has gone, and ends what has
        ended.

        I-2  whatever the others do, anyone can end a lease after its deadlines;
        I-15 a deadline decides for the party that did its duty: the reason of an end
             follows from what the chain knows, not from the caller or its hour.
@dev ASSIGNED -> ACTIVE -> ended; ASSIGNED -> ended. Nothing is stored here.
"""

from ..interfaces import ILeases
from . import escrow
from . import lease_book
from . import lease_terms
from . import liveness
from . import tenancy

uses: escrow
uses: lease_book
uses: liveness
uses: tenancy


@deploy
def __init__():
    pass


# ----------------------------------------------------------------- the operator


# Reads Staking alone.
@reentrant
@external
def ready(terms: ILeases.LeaseTerms):
    """
    @notice Says that the tenant can come in (operator only): the grace begins, and rent
            runs. It is a heartbeat, too.
    @param terms The lease.
    """
    lease: bytes32 = keccak256(abi_encode(terms))
    kept: lease_book.Lease = self._assigned(lease)
    assert block.timestamp <= kept.since + lease_terms._ready_within(
        terms.order.times
    ), "leases: too late to be ready"
    pulse: liveness.Pulse = liveness._pulse(kept.number)
    liveness._check_operator(pulse.provider)
    kept.status = lease_book.ACTIVE
    kept.since = block.timestamp
    kept.base = liveness._beat(kept.number, pulse)
    lease_book._write(lease, kept)
    log ILeases.Ready(lease=lease, provider=pulse.provider)


@external
def suspend(terms: ILeases.LeaseTerms):
    """
    @notice Says that the tenant's work is down (operator only): rent stands still.
    @param terms The lease.
    """
    now: tenancy.Now = self._running(terms)
    liveness._check_operator(now.pulse.provider)
    assert now.marks.suspended_at == 0, "leases: suspended already"
    now.lease.base = now.earned
    now.marks.suspended_at = block.timestamp
    lease_book._mark(now.id, now.lease, now.marks)
    log ILeases.Suspended(lease=now.id)


@external
def resume(terms: ILeases.LeaseTerms):
    """
    @notice Says that the tenant's work is up again (operator only): rent runs.
    @param terms The lease.
    """
    now: tenancy.Now = self._running(terms)
    liveness._check_operator(now.pulse.provider)
    assert now.marks.suspended_at > 0, "leases: not suspended"
    # Live seconds never go back, so there are at least as many as were earned.
    now.lease.base = (
        liveness._live(now.pulse, block.timestamp) - now.lease.base
    )
    now.marks.suspended_at = 0
    lease_book._mark(now.id, now.lease, now.marks)
    log ILeases.Resumed(lease=now.id)


@external
def give_notice(terms: ILeases.LeaseTerms):
    """
    @notice Says that the provider leaves after the notice that it promised (operator
            only, once). The lease ends then, if it does not before.
    @param terms The lease.
    """
    now: tenancy.Now = self._running(terms)
    liveness._check_operator(now.pulse.provider)
    assert now.marks.leaves_at == 0, "leases: notice is given"
    now.marks.leaves_at = block.timestamp + lease_terms._notice(
        terms.order.times
    )
    lease_book._mark(now.id, now.lease, now.marks)
    log ILeases.NoticeGiven(lease=now.id, leaves_at=now.marks.leaves_at)


@external
def leave(terms: ILeases.LeaseTerms):
    """
    @notice The provider leaves at once (operator only), and loses its collateral unless
            the lease has ended.
    @param terms The lease.
    """
    now: tenancy.Now = tenancy._now(terms)
    liveness._check_operator(now.pulse.provider)
    reason: uint256 = self._end_of(now)
    if reason == 0:
        reason = tenancy.BY_PROVIDER
    tenancy._close(terms, now, reason)


# ------------------------------------------------------------------- the tenant


@external
def confirm(terms: ILeases.LeaseTerms):
    """
    @notice The tenant takes the lease as it is (requester only): the grace is over.
    @param terms The lease.
    """
    now: tenancy.Now = self._in_grace(terms)
    now.lease.confirmed = True
    lease_book._write(now.id, now.lease)
    log ILeases.Confirmed(lease=now.id)


@external
def reject(terms: ILeases.LeaseTerms):
    """
    @notice The tenant turns the lease down in the grace (requester only): no rent, all
            of the deposit comes back, and the collateral too.
    @param terms The lease.
    """
    tenancy._close(terms, self._in_grace(terms), tenancy.REJECTED)


@external
def top_up(
    terms: ILeases.LeaseTerms, amount: uint256, from_credit: bool = False
):
    """
    @notice Adds to the deposit of a lease that runs; its end stays where it is. Anyone
            may; what is left at the end is the requester's.
    @param terms The lease.
    @param amount Payment token units; with the deposit no more than the whole term costs.
    @param from_credit Pay from the caller's credit, not by transfer.
    """
    now: tenancy.Now = self._running(terms)
    assert amount > 0, "leases: zero amount"
    deposited: uint256 = now.lease.deposited + amount
    assert (
        deposited <= now.rate * lease_terms._term(terms.order.times)
        and deposited <= lease_book.MAX_AMOUNT
    ), "leases: more than the term costs"
    now.lease.deposited = deposited
    lease_book._write(now.id, now.lease)
    log ILeases.ToppedUp(
        lease=now.id, account=msg.sender, amount=amount, deposited=deposited
    )
    escrow._take_in(amount, from_credit)


# ----------------------------------------------------------------------- anyone


# Reads Staking alone.
@reentrant
@external
def settle(terms: ILeases.LeaseTerms):
    """
    @notice Credits the provider with the rent up to now. Anyone may call it.
    @param terms The lease.
    """
    tenancy._settle(terms, tenancy._now(terms))


@external
def accuse(terms: ILeases.LeaseTerms):
    """
    @notice Accuses a provider that has been silent for more than ABANDON, or has
            suspended the lease for more than MAX_SUSPENSION. Anyone may call it. If
            the reason still stands MAX_GAP later, anyone may close.
    @param terms The lease.
    """
    now: tenancy.Now = self._running(terms)
    assert tenancy._has_reason(
        now, block.timestamp
    ), "leases: no reason to accuse"
    # Another one would only put it off.
    assert not tenancy._has_reason(
        now, now.marks.accused_at
    ), "leases: accused already"
    now.marks.accused_at = block.timestamp
    lease_book._mark(now.id, now.lease, now.marks)
    log ILeases.Accused(lease=now.id, account=msg.sender)


# Calls Staking alone, which calls nobody.
@reentrant
@external
def close(terms: ILeases.LeaseTerms):
    """
    @notice Ends a lease: the requester at any time, anyone once it is over or dry, or
            its provider has left. Who left without notice loses its collateral; a
            stranger that shows it earns the bounty.
    @param terms The lease.
    """
    now: tenancy.Now = tenancy._now(terms)
    reason: uint256 = self._end_of(now)
    if reason == 0:
        assert msg.sender == terms.requester, "leases: still running"
        reason = tenancy.BY_TENANT
    tenancy._close(terms, now, reason)


@external
def expire(terms: ILeases.LeaseTerms):
    """
    @notice Ends a lease that was not ready in time: the deposit goes back, and the
            collateral is seized. Anyone may call it; a stranger earns the bounty.
    @param terms The lease.
    """
    lease: bytes32 = keccak256(abi_encode(terms))
    kept: lease_book.Lease = self._assigned(lease)
    assert block.timestamp > kept.since + lease_terms._ready_within(
        terms.order.times
    ), "leases: can still be ready"
    now: tenancy.Now = empty(tenancy.Now)
    now.id = lease
    now.lease = kept
    now.pulse = liveness._pulse(kept.number)
    tenancy._close(terms, now, tenancy.NOT_READY)


# ------------------------------------------------------------------- internal


@internal
@view
def _assigned(lease: bytes32) -> lease_book.Lease:
    """
    @dev A lease that is assigned; reverts for any other.
    """
    kept: lease_book.Lease = lease_book._read(lease)
    assert kept.status == lease_book.ASSIGNED, "leases: not assigned"
    return kept


@internal
@view
def _in_grace(terms: ILeases.LeaseTerms) -> tenancy.Now:
    """
    @dev A lease that its requester, who must be the caller, can still reject.
    """
    assert msg.sender == terms.requester, "leases: caller is not the requester"
    now: tenancy.Now = tenancy._now(terms)
    assert now.in_grace, "leases: grace is over"
    return now


@internal
@view
def _running(terms: ILeases.LeaseTerms) -> tenancy.Now:
    """
    @dev A lease that is active and has not ended; reverts for any other.
    """
    now: tenancy.Now = tenancy._now(terms)
    assert self._end_of(now) == 0, "leases: has ended"
    return now


@internal
@view
def _end_of(now: tenancy.Now) -> uint256:
    """
    @dev Why a lease has ended that nobody has closed yet; 0 if it has not.
    """
    if tenancy._is_abandoned(now):
        return tenancy.ABANDONED
    if tenancy._is_over(now):
        return tenancy.OVER
    if tenancy._is_dry(now):
        return tenancy.DRY
    return 0
