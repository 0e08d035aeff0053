# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Guardian
@license AGPL-3.0-only
@notice A guardian may stop new orders for at most `MAX_PAUSE` seconds, and then
        not again for the same time. Exits, attestations and settlements never
        look at the pause, so nobody can be locked in by it.
@dev One word: paused_until 40 | next_pause 40 | 176 bits that belong to the
     contract which uses the module, so that one read serves both. What is here
     never changes those bits.
"""

from snekmate.auth import ownable

uses: ownable


event GuardianChanged:
    guardian: indexed(address)


event OrdersPaused:
    guardian: indexed(address)
    until: uint256


event OrdersUnpaused:
    account: indexed(address)


MAX_PAUSE: public(constant(uint256)) = 7 * 86_400
# Where the bits of the using contract begin.
OWN_BITS: constant(uint256) = 80
OWN_MASK: constant(uint256) = 2**80 - 1
_MASK_40: constant(uint256) = 2**40 - 1

guardian: public(address)
word: uint256


@deploy
def __init__(initial_guardian: address):
    self.guardian = initial_guardian
    log GuardianChanged(guardian=initial_guardian)


@external
@view
def paused_until() -> uint256:
    """
    @notice Returns the time (unix seconds) from which orders are taken again.
    """
    return self.word & _MASK_40


@external
@view
def next_pause() -> uint256:
    """
    @notice Returns the earliest time (unix seconds) of another pause.
    """
    return (self.word >> 40) & _MASK_40


@external
def pause(duration: uint256):
    """
    @notice Stops new orders for `duration` seconds.
    @param duration Seconds, 1 to `MAX_PAUSE`.
    """
    assert (msg.sender == self.guardian), "guardian: caller is not the guardian"
    assert (
        duration > 0 and duration <= MAX_PAUSE
    ), "guardian: pause out of bounds"
    assert (
        block.timestamp >= (self.word >> 40) & _MASK_40
    ), "guardian: paused too recently"
    until: uint256 = block.timestamp + duration
    # Measured from the end of the longest pause, so that lifting a pause early
    # and pausing again cannot stretch it.
    self._store(until, until + MAX_PAUSE)
    log OrdersPaused(guardian=msg.sender, until=until)


@external
def unpause():
    """
    @notice Takes new orders again; by the guardian or the owner.
    """
    assert msg.sender in [
        self.guardian, ownable.owner
    ], "guardian: caller is not the guardian"
    self._store(0, (self.word >> 40) & _MASK_40)
    log OrdersUnpaused(account=msg.sender)


@external
def set_guardian(new_guardian: address):
    """
    @notice Names another guardian (owner only). A pause in force stays.
    @param new_guardian The zero address means that nobody can pause.
    """
    ownable._check_owner()
    self.guardian = new_guardian
    log GuardianChanged(guardian=new_guardian)


@internal
@view
def _check_not_paused() -> uint256:
    """
    @dev Reverts while new orders are paused; returns the word.
    """
    word: uint256 = self.word
    assert block.timestamp >= word & _MASK_40, "guardian: orders are paused"
    return word


@internal
def _store(until: uint256, next_time: uint256):
    self.word = (self.word & ~OWN_MASK) | until | (next_time << 40)
