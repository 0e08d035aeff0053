# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What the chain keeps of a lease
@license AGPL-3.0-only
@notice One word per lease, and a second one for what not every lease has: a notice, a
        suspension, an accusation. A lease that ends is forgotten: its event says how.
        Nothing can bring it back, as its terms hold the time at which it was opened.
@dev Words packed by hand, low bits first:
     state    status 4 | confirmed 1 | marked 1 | free 2 | number of the provider 32 |
              elapsed 24 | since 36 | deposited 96 | base 32 | paid 28
     marks    leaves at 40 | suspended at 40 | accused at 40; read if the lease is marked
     24 bits of elapsed are enough: an open lease lives for at most 60 days that do not
     run in a pause. 28 bits of paid are eight years, longer than any lock.
     The using contract decides what follows what (I-10); it writes by `_write` alone.
"""

# A word of 0 means that there is no such lease, or none any more.
OPEN: constant(uint256) = 1
ASSIGNED: constant(uint256) = 2
ACTIVE: constant(uint256) = 3

# Most that a lease can hold, in payment token units.
MAX_AMOUNT: constant(uint256) = 2**96 - 1
# In one reading.
MOST_LEASES: constant(uint256) = 64

_STATUS_MASK: constant(uint256) = 2**4 - 1
_CONFIRMED: constant(uint256) = 2**4
_MARKED: constant(uint256) = 2**5
_NUMBER_AT: constant(uint256) = 8
_ELAPSED_AT: constant(uint256) = 40
_SINCE_AT: constant(uint256) = 64
_DEPOSITED_AT: constant(uint256) = 100
_BASE_AT: constant(uint256) = 196
_PAID_AT: constant(uint256) = 228
_SUSPENDED_AT: constant(uint256) = 40
_ACCUSED_AT: constant(uint256) = 80
_MASK_24: constant(uint256) = 2**24 - 1
_MASK_32: constant(uint256) = 2**32 - 1
_MASK_36: constant(uint256) = 2**36 - 1
_MASK_40: constant(uint256) = 2**40 - 1


# What a state word says. Times are unix seconds.
struct Lease:
    status: uint256
    confirmed: bool  # by the tenant: the grace is over
    marked: bool  # has a second word
    number: uint256  # of the provider, see deals/liveness
    elapsed: uint256  # seconds of the auction when it was taken; they give the rate
    since: uint256  # assigned at; from `ready` on ready at
    deposited: uint256  # payment token, in total
    # Live seconds of the provider at which no second was earned; while suspended, the
    # seconds earned.
    base: uint256
    paid: uint256  # seconds paid so far


# What a second word says: unix seconds, 0 for what has not happened.
struct Marks:
    leaves_at: uint256
    suspended_at: uint256
    accused_at: uint256


state: public(HashMap[bytes32, uint256])
marks: public(HashMap[bytes32, uint256])


@deploy
def __init__():
    pass


@external
@view
def status(lease: bytes32) -> uint256:
    """
    @notice Returns a lease's status: 0 none or ended, 1 open, 2 assigned, 3 active.
    @param lease The lease's id.
    """
    return self.state[lease] & _STATUS_MASK


@external
@view
def states(
    leases: DynArray[bytes32, MOST_LEASES],
) -> DynArray[uint256, MOST_LEASES]:
    """
    @notice Returns the words of many leases: what `state` says of each.
    @param leases Their ids.
    @return Their words in the same order, 0 for a lease that there is not.
    """
    words: DynArray[uint256, MOST_LEASES] = []
    for lease: bytes32 in leases:
        words.append(self.state[lease])
    return words


@internal
@view
def _status(lease: bytes32) -> uint256:
    """
    @dev A lease's status.
    """
    return self.state[lease] & _STATUS_MASK


@internal
@view
def _read(lease: bytes32) -> Lease:
    """
    @dev What the chain keeps of a lease, its marks aside.
    """
    word: uint256 = self.state[lease]
    return Lease(
        status=word & _STATUS_MASK,
        confirmed=word & _CONFIRMED != 0,
        marked=word & _MARKED != 0,
        number=(word >> _NUMBER_AT) & _MASK_32,
        elapsed=(word >> _ELAPSED_AT) & _MASK_24,
        since=(word >> _SINCE_AT) & _MASK_36,
        deposited=(word >> _DEPOSITED_AT) & MAX_AMOUNT,
        base=(word >> _BASE_AT) & _MASK_32,
        paid=word >> _PAID_AT,
    )


@internal
def _write(lease: bytes32, kept: Lease):
    """
    @dev Writes a lease down, its marks aside.
    """
    flags: uint256 = 0
    if kept.confirmed:
        flags = _CONFIRMED
    if kept.marked:
        flags |= _MARKED
    self.state[lease] = (
        kept.status
        | flags
        | (kept.number << _NUMBER_AT)
        | (kept.elapsed << _ELAPSED_AT)
        | (kept.since << _SINCE_AT)
        | (kept.deposited << _DEPOSITED_AT)
        | (kept.base << _BASE_AT)
        | (kept.paid << _PAID_AT)
    )


@internal
def _open(lease: bytes32):
    """
    @dev Writes an open lease down.
    """
    self.state[lease] = OPEN


@internal
def _forget(lease: bytes32):
    """
    @dev Ends a lease.
    """
    self.state[lease] = 0


@internal
@view
def _marks(lease: bytes32, kept: Lease) -> Marks:
    """
    @dev The marks of a lease; no word is read where there is none.
    """
    if not kept.marked:
        return empty(Marks)
    word: uint256 = self.marks[lease]
    return Marks(
        leaves_at=word & _MASK_40,
        suspended_at=(word >> _SUSPENDED_AT) & _MASK_40,
        accused_at=word >> _ACCUSED_AT,
    )


@internal
def _mark(lease: bytes32, kept: Lease, marks: Marks):
    """
    @dev Writes down the marks of a lease, and the lease with them.
    """
    self.marks[lease] = (
        marks.leaves_at
        | (marks.suspended_at << _SUSPENDED_AT)
        | (marks.accused_at << _ACCUSED_AT)
    )
    kept.marked = True
    self._write(lease, kept)
