# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What follows from the terms of a job
@license AGPL-3.0-only
@notice The id, the price of a moment and the words that the chain keeps. Nothing
        here is stored.
@dev A state word holds the status in its low byte; while ASSIGNED also
     provider 160 << 96 | seconds paused while it was open 24 << 48 |
     assigned_at 40 << 8; while ATTESTED or DISPUTED the upper 31 bytes of the digest
     of the Record.
     24 bits are enough: an open job lives for at most 60 days that do not run in a
     pause; a pause lasts 7 days at most, and at least 7 free days follow it.
"""

from ..interfaces import IJobs

# A word of 0 means that there is no such job.
OPEN: constant(uint256) = 1
ASSIGNED: constant(uint256) = 2
ATTESTED: constant(uint256) = 3
SETTLED: constant(uint256) = 4
CANCELLED: constant(uint256) = 5
EXPIRED: constant(uint256) = 6
REFUSED: constant(uint256) = 7
DISPUTED: constant(uint256) = 8
REFUNDED: constant(uint256) = 9

# How the result of an order is judged. A larger number is a capability: the digest of
# what jurors must be able to run; none is as small as what is between.
TRUSTED: constant(uint256) = 0
REFUSABLE: constant(uint256) = 1
_CAPABILITY_ABOVE: constant(uint256) = 2**128

QUOTE_TYPEHASH: constant(bytes32) = keccak256(
    "Quote(address operator,address requester,bytes32 spec,uint256 price,uint256 collateral,uint64 duration,uint64 expires,uint256 nonce,uint256 judged)"
)
ATTESTATION_TYPEHASH: constant(bytes32) = keccak256(
    "Attestation(bytes32 job,bytes32 spec,bytes32 result,bytes32 receipt,uint64 started,uint64 finished)"
)

_STATUS_MASK: constant(uint256) = 2**8 - 1
_PAUSED_MASK: constant(uint256) = 2**24 - 1
_TIME_MASK: constant(uint256) = 2**40 - 1


# What an ASSIGNED state word says.
struct Assignment:
    provider: address
    assigned_at: uint256
    paused: uint256


@external
@pure
def job_id(terms: IJobs.Terms) -> bytes32:
    """
    @notice Returns the id of a job.
    @param terms The job.
    """
    return keccak256(abi_encode(terms))


@internal
@pure
def _quote_hash(quote: IJobs.Quote) -> bytes32:
    """
    @dev The EIP-712 struct hash of an offer.
    """
    return keccak256(abi_encode(QUOTE_TYPEHASH, quote))


@internal
@pure
def _order_of(quote: IJobs.Quote, quote_hash: bytes32) -> IJobs.Order:
    """
    @dev The order of a job hired by a quote: at its price, without an auction,
         told apart by the quote's hash.
    """
    return IJobs.Order(
        spec=quote.spec,
        start_price=quote.price,
        max_price=quote.price,
        collateral=quote.collateral,
        duration=quote.duration,
        auction=0,
        min_stake=0,
        min_score=0,
        allow_root=empty(bytes32),
        nonce=convert(quote_hash, uint256),
        judged=quote.judged,
    )


@internal
@pure
def _statement_hash(job: bytes32, statement: IJobs.Statement) -> bytes32:
    """
    @dev The EIP-712 struct hash of an operator's word about a job.
    """
    return keccak256(abi_encode(ATTESTATION_TYPEHASH, job, statement))


@internal
@pure
def _is_judged(judged: uint256) -> bool:
    """
    @dev Whether an order names a capability, whose jurors judge its result.
    """
    return judged > _CAPABILITY_ABOVE


@internal
@pure
def _status(word: uint256) -> uint256:
    """
    @dev The status in a state word.
    """
    return word & _STATUS_MASK


@internal
@view
def _assigned_word(provider: address, paused: uint256) -> uint256:
    """
    @dev The state of a job assigned now, paused so long while it was open.
    """
    return (
        (convert(provider, uint256) << 96)
        | (paused << 48)
        | (block.timestamp << 8)
        | ASSIGNED
    )


@internal
@pure
def _assignment(word: uint256) -> Assignment:
    """
    @dev Who works on a job; reverts if nobody does.
    """
    assert self._status(word) == ASSIGNED, "jobs: not assigned"
    return Assignment(
        provider=convert(word >> 96, address),
        assigned_at=(word >> 8) & _TIME_MASK,
        paused=(word >> 48) & _PAUSED_MASK,
    )


@internal
@pure
def _attested_word(record: IJobs.Record) -> uint256:
    """
    @dev The state of a job attested with this record.
    """
    return self._record_word(record, ATTESTED)


@internal
@pure
def _record_word(record: IJobs.Record, status: uint256) -> uint256:
    """
    @dev The state of a job with this record.
    """
    return (
        convert(keccak256(abi_encode(record)), uint256) & ~_STATUS_MASK
    ) | status
