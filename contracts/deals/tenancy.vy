# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What a running lease has cost, and how it ends
@license AGPL-3.0-only
@notice I-6: rent is the rate times the seconds in which the provider was alive, from
        `ready` to the end, less those suspended; never more than the deposit. Nothing
        is due while the grace is open and the tenant has not confirmed.
        The end is the term's, or that of the provider's notice if it is earlier. A
        lease is dry once its deposit pays for no further second; that is an end too.
        A provider that is silent, or suspends, for too long can be accused. If the
        reason still stands MAX_GAP later, it has left without notice. So a chain that
        stood still harms nobody: the provider has MAX_GAP to be heard of.
@dev The fee is taken once, of the whole rent, at the end: what is paid before is less
     the fee of it, so how often a lease is settled changes nothing.
"""

from . import collateral
from . import eligibility
from . import escrow
from . import lease_book
from . import lease_terms
from . import liveness
from ..interfaces import ILeases

uses: collateral
uses: eligibility
uses: escrow
uses: lease_book
uses: liveness

MOST_PATIENCE: constant(uint256) = 7 * 86_400

# Why a lease was closed.
NOT_READY: constant(uint256) = 1
REJECTED: constant(uint256) = 2
BY_TENANT: constant(uint256) = 3
BY_PROVIDER: constant(uint256) = 4
ABANDONED: constant(uint256) = 5
OVER: constant(uint256) = 6
DRY: constant(uint256) = 7


# An active lease at this moment.
struct Now:
    id: bytes32
    lease: lease_book.Lease
    marks: lease_book.Marks
    pulse: liveness.Pulse
    rate: uint256
    ends_at: uint256  # its last second
    in_grace: bool  # rejection is open, and no rent is due
    earned: uint256  # seconds, whether the deposit pays for them or not
    affordable: uint256  # seconds that the deposit pays for
    seconds: uint256  # that rent is due for, those paid included


# Seconds of silence after which a provider can be accused.
ABANDON: public(immutable(uint256))
# Seconds of suspension after which it can be.
MAX_SUSPENSION: public(immutable(uint256))


@deploy
def __init__(abandon: uint256, max_suspension: uint256):
    assert (
        abandon >= liveness.MAX_GAP and abandon <= MOST_PATIENCE
    ), "leases: abandon out of bounds"
    assert (
        max_suspension > 0 and max_suspension <= MOST_PATIENCE
    ), "leases: max suspension out of bounds"
    ABANDON = abandon
    MAX_SUSPENSION = max_suspension


@external
@view
def account(terms: ILeases.LeaseTerms) -> (uint256, uint256, uint256, uint256):
    """
    @notice Returns what an active lease has cost so far.
    @param terms The lease.
    @return Seconds that rent is due for, those paid included; seconds paid; seconds that
            the deposit pays for; its last second (unix seconds). Due are 0 while the
            grace is open and the lease not confirmed.
    """
    now: Now = self._now(terms)
    return now.seconds, now.lease.paid, now.affordable, now.ends_at


@internal
@view
def _now(terms: ILeases.LeaseTerms) -> Now:
    """
    @dev All about an active lease; reverts for any other.
    """
    lease: bytes32 = keccak256(abi_encode(terms))
    kept: lease_book.Lease = lease_book._read(lease)
    assert kept.status == lease_book.ACTIVE, "leases: not active"
    marks: lease_book.Marks = lease_book._marks(lease, kept)
    pulse: liveness.Pulse = liveness._pulse(kept.number)
    rate: uint256 = lease_terms._rate(
        terms.order.money, terms.order.times, kept.elapsed
    )
    ends_at: uint256 = kept.since + lease_terms._term(terms.order.times)
    if marks.leaves_at > 0:
        ends_at = min(ends_at, marks.leaves_at)
    earned: uint256 = kept.base
    if marks.suspended_at == 0:
        live: uint256 = liveness._live(pulse, min(block.timestamp, ends_at))
        earned = max(live, kept.base) - kept.base
    in_grace: bool = (
        not kept.confirmed
        and block.timestamp <= kept.since + lease_terms._grace(terms.made)
    )
    affordable: uint256 = kept.deposited // rate
    seconds: uint256 = 0
    if not in_grace:
        # Live seconds of a time that has passed may be given lower than they were.
        seconds = max(min(earned, affordable), kept.paid)
    return Now(
        id=lease,
        lease=kept,
        marks=marks,
        pulse=pulse,
        rate=rate,
        ends_at=ends_at,
        in_grace=in_grace,
        earned=earned,
        affordable=affordable,
        seconds=seconds,
    )


@internal
@pure
def _is_dry(now: Now) -> bool:
    """
    @dev Whether the deposit pays for no further second.
    """
    return now.earned >= now.affordable


@internal
@view
def _is_over(now: Now) -> bool:
    """
    @dev Whether the term or the notice has ended.
    """
    return block.timestamp > now.ends_at


@internal
@view
def _has_reason(now: Now, time: uint256) -> bool:
    """
    @dev Whether the provider, as it is now, could be accused at a time: for an
         accusation of before, whether no heartbeat or no resumption has followed.
    """
    return time > now.pulse.last + ABANDON or (
        now.marks.suspended_at > 0
        and time > now.marks.suspended_at + MAX_SUSPENSION
    )


@internal
@view
def _is_abandoned(now: Now) -> bool:
    """
    @dev Whether the provider has left without notice: MAX_GAP has passed since an
         accusation that stands, and had before the end.
    """
    left_at: uint256 = now.marks.accused_at + liveness.MAX_GAP
    return (
        self._has_reason(now, now.marks.accused_at)
        and block.timestamp > left_at
        and left_at < now.ends_at
    )


@internal
@pure
def _net(made: uint256, rent: uint256) -> uint256:
    """
    @dev A rent less its fee.
    """
    return rent - lease_terms._fee(made, rent)


@internal
def _settle(terms: ILeases.LeaseTerms, now: Now):
    """
    @dev Credits the rent that is due to the provider.
    """
    assert now.seconds > now.lease.paid, "leases: nothing is due"
    paid: uint256 = self._net(terms.made, now.rate * now.seconds) - self._net(
        terms.made, now.rate * now.lease.paid
    )
    now.lease.paid = now.seconds
    lease_book._write(now.id, now.lease)
    escrow._pay(collateral._payout_of(now.pulse.provider), paid)
    log ILeases.Settled(lease=now.id, seconds=now.seconds, paid=paid)


@internal
def _close(terms: ILeases.LeaseTerms, now: Now, reason: uint256):
    """
    @dev Ends a lease that was taken: the rent to the provider, the rest to the tenant.
    """
    rent: uint256 = now.rate * now.seconds
    fee: uint256 = lease_terms._fee(terms.made, rent)
    paid: uint256 = (
        rent - fee - self._net(terms.made, now.rate * now.lease.paid)
    )
    escrow._accrue(fee)
    escrow._pay(terms.requester, now.lease.deposited - rent)
    payout: address = empty(address)
    seized: uint256 = 0
    payout, seized = self._end(now.id, terms, now.pulse.provider, reason)
    escrow._pay(payout, paid)
    log ILeases.Closed(
        lease=now.id,
        provider=now.pulse.provider,
        reason=reason,
        seconds=now.seconds,
        refund=now.lease.deposited - rent,
        seized=seized,
    )


@internal
def _end(
    lease: bytes32,
    terms: ILeases.LeaseTerms,
    provider: address,
    reason: uint256,
) -> (address, uint256):
    """
    @dev Ends a lease that was taken: its score is free, its collateral too unless the
         provider was not ready or has left without notice; then it is seized. Returns
         where the provider is paid, and how much was seized.
    """
    lease_book._forget(lease)
    eligibility._free(provider, lease_terms._min_score(terms.order.backing))
    if reason in [NOT_READY, BY_PROVIDER, ABANDONED]:
        return collateral._payout_of(provider), collateral._seize(
            provider, lease, terms.requester, msg.sender
        )
    return collateral._unlock(provider, lease), 0
