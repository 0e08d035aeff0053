# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What follows from the terms of a lease
@license AGPL-3.0-only
@notice The id, the rate of a moment, and what a quote offers. Nothing here is stored.
"""

from ..interfaces import ILeases
from . import auction

LEASE_QUOTE_TYPEHASH: constant(bytes32) = keccak256(
    "LeaseQuote(address operator,address requester,bytes32 spec,uint256 rate,uint256 collateral,uint64 readyWithin,uint64 term,uint64 notice,uint64 expires,uint256 nonce)"
)

MAX_BPS: constant(uint256) = 10_000

_MASK_32: constant(uint256) = 2**32 - 1
_MASK_40: constant(uint256) = 2**40 - 1
_MASK_80: constant(uint256) = 2**80 - 1
_MASK_88: constant(uint256) = 2**88 - 1
_MASK_96: constant(uint256) = 2**96 - 1
_MAX_RATE_AT: constant(uint256) = 80
_DEPOSIT_AT: constant(uint256) = 160
_READY_AT: constant(uint256) = 32
_TERM_AT: constant(uint256) = 64
_NOTICE_AT: constant(uint256) = 96
_MIN_STAKE_AT: constant(uint256) = 88
_MIN_SCORE_AT: constant(uint256) = 176
_PAUSED_AT: constant(uint256) = 40
_GRACE_AT: constant(uint256) = 80
_FEE_AT: constant(uint256) = 112


@external
@pure
def lease_id(terms: ILeases.LeaseTerms) -> bytes32:
    """
    @notice Returns the id of a lease.
    @param terms The lease.
    """
    return keccak256(abi_encode(terms))


@internal
@pure
def _quote_hash(quote: ILeases.LeaseQuote) -> bytes32:
    """
    @dev The EIP-712 struct hash of an offer.
    """
    return keccak256(abi_encode(LEASE_QUOTE_TYPEHASH, quote))


@internal
@pure
def _order_of(
    quote: ILeases.LeaseQuote, quote_hash: bytes32, deposit: uint256
) -> ILeases.LeaseOrder:
    """
    @dev The order of a lease hired by a quote: at its rate, without an auction, told
         apart by the quote's hash. What is above its bits is refused, not cut off.
    """
    assert (
        quote.rate <= _MASK_80
        and quote.collateral <= _MASK_88
        and quote.ready_within | quote.term | quote.notice <= _MASK_32
        and deposit <= _MASK_96
    ), "leases: quote out of bounds"
    return ILeases.LeaseOrder(
        spec=quote.spec,
        money=(
            quote.rate | (quote.rate << _MAX_RATE_AT) | (deposit << _DEPOSIT_AT)
        ),
        times=(
            (quote.ready_within << _READY_AT)
            | (quote.term << _TERM_AT)
            | (quote.notice << _NOTICE_AT)
        ),
        backing=quote.collateral,
        allow_root=empty(bytes32),
        nonce=convert(quote_hash, uint256),
    )


@internal
@pure
def _made(
    posted_at: uint256, paused: uint256, grace: uint256, fee_bps: uint256
) -> uint256:
    """
    @dev The word of what a lease is made with.
    """
    return (
        posted_at
        | (paused << _PAUSED_AT)
        | (grace << _GRACE_AT)
        | (fee_bps << _FEE_AT)
    )


@internal
@pure
def _elapsed(made: uint256, now: uint256, paused: uint256) -> uint256:
    """
    @dev Seconds of the auction until now; those in which new leases were paused do
         not count.
    """
    return (
        now - (made & _MASK_40) - (paused - ((made >> _PAUSED_AT) & _MASK_40))
    )


@internal
@pure
def _grace(made: uint256) -> uint256:
    """
    @dev Seconds of the grace.
    """
    return (made >> _GRACE_AT) & _MASK_32


@internal
@pure
def _fee(made: uint256, rent: uint256) -> uint256:
    """
    @dev The fee of so much rent, rounded down.
    """
    return rent * (made >> _FEE_AT) // MAX_BPS


@internal
@pure
def _start_rate(money: uint256) -> uint256:
    """
    @dev Payment token units per second at first.
    """
    return money & _MASK_80


@internal
@pure
def _max_rate(money: uint256) -> uint256:
    """
    @dev Payment token units per second when the auction ends.
    """
    return (money >> _MAX_RATE_AT) & _MASK_80


@internal
@pure
def _deposit(money: uint256) -> uint256:
    """
    @dev Payment token units that were escrowed at first.
    """
    return money >> _DEPOSIT_AT


@internal
@pure
def _auction(times: uint256) -> uint256:
    """
    @dev Seconds in which the rate rises.
    """
    return times & _MASK_32


@internal
@pure
def _ready_within(times: uint256) -> uint256:
    """
    @dev Seconds from the assignment to `ready`.
    """
    return (times >> _READY_AT) & _MASK_32


@internal
@pure
def _term(times: uint256) -> uint256:
    """
    @dev Seconds from `ready` to the end.
    """
    return (times >> _TERM_AT) & _MASK_32


@internal
@pure
def _notice(times: uint256) -> uint256:
    """
    @dev Seconds from a notice to the end.
    """
    return (times >> _NOTICE_AT) & _MASK_32


@internal
@pure
def _collateral(backing: uint256) -> uint256:
    """
    @dev TPF wei that the provider locks.
    """
    return backing & _MASK_88


@internal
@pure
def _min_stake(backing: uint256) -> uint256:
    """
    @dev Active TPF wei that must be behind the provider.
    """
    return (backing >> _MIN_STAKE_AT) & _MASK_88


@internal
@pure
def _min_score(backing: uint256) -> uint256:
    """
    @dev Proven operations per second that it reserves.
    """
    return backing >> _MIN_SCORE_AT


@internal
@pure
def _rate(money: uint256, times: uint256, elapsed: uint256) -> uint256:
    """
    @dev The rate when `elapsed` seconds of the auction have passed, rounded down.
    """
    return auction._price(
        self._start_rate(money),
        self._max_rate(money),
        self._auction(times),
        elapsed,
    )


@internal
@pure
def _longest(times: uint256) -> uint256:
    """
    @dev Seconds from the assignment to the latest end.
    """
    return self._ready_within(times) + self._term(times)
