# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title How long a provider has been alive
@license AGPL-3.0-only
@notice A provider's operator sends one heartbeat for any number of leases. It feeds a
        count of live seconds, `live(t) = acc + min(t - last, MAX_GAP)`; a heartbeat sets
        `acc = live(now), last = now`. The count never goes back and grows by at most a
        second per second, so time in which nobody was heard of is not paid (I-6).
@dev A provider has a number from its first deal on. Word packed by hand, low bits first:
     pulse    acc 32 | last 40 | provider 160
     So one read gives the live seconds and the address, and a lease keeps 32 bits.
"""

from ..interfaces import ILeases
from . import collateral

uses: collateral

MOST_GAP: constant(uint256) = 86_400
_LAST_AT: constant(uint256) = 32
_PROVIDER_AT: constant(uint256) = 72
_MASK_32: constant(uint256) = 2**32 - 1
_MASK_40: constant(uint256) = 2**40 - 1


struct Pulse:
    provider: address
    acc: uint256  # live seconds at the last heartbeat
    last: uint256  # unix seconds of it, 0 before the first


# Seconds after a heartbeat that count as live without another one.
MAX_GAP: public(immutable(uint256))

# From 1 on, in the order of their first deal.
number_of: public(HashMap[address, uint256])
_pulses: HashMap[uint256, uint256]
_count: uint256


@deploy
def __init__(max_gap: uint256):
    assert (
        max_gap > 0 and max_gap <= MOST_GAP
    ), "liveness: max gap out of bounds"
    MAX_GAP = max_gap


# Reads Staking alone.
@reentrant
@external
def heartbeat(number: uint256):
    """
    @notice Says that a provider is alive (operator only), for all its leases.
    @param number The provider's `number_of`.
    """
    pulse: Pulse = self._pulse(number)
    self._check_operator(pulse.provider)
    self._beat(number, pulse)
    log ILeases.Heartbeat(provider=pulse.provider)


@external
@view
def live_seconds(provider: address) -> uint256:
    """
    @notice Returns how long a provider has been alive until now: differences count.
    @param provider The provider's owner address.
    """
    return self._live(self._pulse(self.number_of[provider]), block.timestamp)


@external
@view
def last_heartbeat(provider: address) -> uint256:
    """
    @notice Returns when a provider was last heard of, unix seconds; 0 if never.
    @param provider The provider's owner address.
    """
    return self._pulse(self.number_of[provider]).last


@internal
def _number(provider: address) -> uint256:
    """
    @dev The number of a provider, a new one if it has none.
    """
    number: uint256 = self.number_of[provider]
    if number == 0:
        number = self._count + 1
        # Without a reason, which takes room: nobody pays for 2**32 of them.
        assert number <= _MASK_32
        self._count = number
        self.number_of[provider] = number
        self._pulses[number] = convert(provider, uint256) << _PROVIDER_AT
    return number


@internal
@view
def _pulse(number: uint256) -> Pulse:
    """
    @dev What was heard of a provider.
    """
    word: uint256 = self._pulses[number]
    return Pulse(
        provider=convert(word >> _PROVIDER_AT, address),
        acc=word & _MASK_32,
        last=(word >> _LAST_AT) & _MASK_40,
    )


@internal
def _beat(number: uint256, pulse: Pulse) -> uint256:
    """
    @dev Writes a heartbeat of now down; returns the live seconds.
    """
    live: uint256 = self._live(pulse, block.timestamp)
    self._pulses[number] = (
        live
        | (block.timestamp << _LAST_AT)
        | (convert(pulse.provider, uint256) << _PROVIDER_AT)
    )
    return live


@internal
@view
def _live(pulse: Pulse, time: uint256) -> uint256:
    """
    @dev Live seconds until a time; for one before the last heartbeat, at most what they
         were: as if there had been no gap since.
    """
    if time >= pulse.last:
        return pulse.acc + min(time - pulse.last, MAX_GAP)
    return max(pulse.acc, pulse.last - time) - (pulse.last - time)


@internal
@view
def _check_operator(provider: address):
    """
    @dev Reverts unless the caller signs for a provider now.
    """
    assert (
        msg.sender == collateral._operator_of(provider)
    ), "leases: caller is not the operator"
