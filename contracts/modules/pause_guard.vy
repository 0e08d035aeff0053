# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Guardian
@license AGPL-3.0-only
@notice A guardian may stop new orders for at most `MAX_PAUSE` seconds, and then
        not again for the same time. Exits, attestations and settlements never
        look at the pause, so nobody can be locked in by it.
@dev One word: guardian | paused_until << 160 | next_pause << 208 (48 bits each).
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
_MASK_48: constant(uint256) = 2**48 - 1
_MASK_160: constant(uint256) = 2**160 - 1

_word: uint256


@deploy
def __init__(initial_guardian: address):
    self._store(initial_guardian, 0, 0)
    log GuardianChanged(guardian=initial_guardian)


@external
@view
def guardian() -> address:
    """
    @notice Returns the account that may pause new orders.
    """
    return self._guardian(self._word)


@external
@view
def paused_until() -> uint256:
    """
    @notice Returns the time (unix seconds) from which orders are taken again.
    """
    return (self._word >> 160) & _MASK_48


@external
@view
def next_pause() -> uint256:
    """
    @notice Returns the earliest time (unix seconds) of another pause.
    """
    return self._word >> 208


@external
def pause(duration: uint256):
    """
    @notice Stops new orders for `duration` seconds.
    @param duration Seconds, 1 to `MAX_PAUSE`.
    """
    word: uint256 = self._word
    assert msg.sender == self._guardian(
        word
    ), "guardian: caller is not the guardian"
    assert (
        duration > 0 and duration <= MAX_PAUSE
    ), "guardian: pause out of bounds"
    assert block.timestamp >= word >> 208, "guardian: paused too recently"
    until: uint256 = block.timestamp + duration
    # Measured from the end of the longest pause, so that lifting a pause early
    # and pausing again cannot stretch it.
    self._store(msg.sender, until, until + MAX_PAUSE)
    log OrdersPaused(guardian=msg.sender, until=until)


@external
def unpause():
    """
    @notice Takes new orders again; by the guardian or the owner.
    """
    word: uint256 = self._word
    assert msg.sender in [
        self._guardian(word), ownable.owner
    ], "guardian: caller is not the guardian"
    self._store(self._guardian(word), 0, word >> 208)
    log OrdersUnpaused(account=msg.sender)


@external
def set_guardian(new_guardian: address):
    """
    @notice Names another guardian (owner only). A pause in force stays.
    @param new_guardian The zero address means that nobody can pause.
    """
    ownable._check_owner()
    word: uint256 = self._word
    self._store(new_guardian, (word >> 160) & _MASK_48, word >> 208)
    log GuardianChanged(guardian=new_guardian)


@internal
@view
def _check_not_paused():
    """
    @dev Reverts while new orders are paused.
    """
    assert (
        block.timestamp >= (self._word >> 160) & _MASK_48
    ), "guardian: orders are paused"


@internal
@pure
def _guardian(word: uint256) -> address:
    return convert(word & _MASK_160, address)


@internal
def _store(account: address, until: uint256, next_time: uint256):
    self._word = convert(account, uint256) | (until << 160) | (next_time << 208)
