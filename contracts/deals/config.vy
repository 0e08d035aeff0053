# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Parameters of deals, and the guardian's pause
@license AGPL-3.0-only
@notice Fee and challenge window of future deals, set by the owner within the
        bounds below. A guardian may stop new deals for at most `MAX_PAUSE`
        seconds, and then not again for the same time. Exits, attestations and
        settlements never look at the pause, so nobody can be locked in by it.

        I-2  the pause ends by itself, so a clock that stands still in it goes on;
        I-11 a deal stores what it is made with: later changes do not reach it.
@dev One word, so that one read serves a new deal:
     paused until 40 | next pause 40 | paused in total 40 | fee 16 | window 32.
     The total holds a pause whole from its first second; what is still ahead of
     it is subtracted on reading.
"""

from snekmate.auth import ownable

uses: ownable


# What a new deal is made with.
struct Parameters:
    fee_bps: uint256
    challenge_window: uint256  # seconds
    paused: uint256  # seconds paused until now, in total


event FeeChanged:
    fee_bps: uint256


event ChallengeWindowChanged:
    seconds: uint256


event GuardianChanged:
    guardian: indexed(address)


event OrdersPaused:
    guardian: indexed(address)
    until: uint256


event OrdersUnpaused:
    account: indexed(address)


MAX_PAUSE: public(constant(uint256)) = 7 * 86_400
MAX_FEE_BPS: public(constant(uint256)) = 1_000
MIN_CHALLENGE_WINDOW: public(constant(uint256)) = 10
MAX_CHALLENGE_WINDOW: public(constant(uint256)) = 14 * 86_400

_NEXT_AT: constant(uint256) = 40
_PAUSED_AT: constant(uint256) = 80
_FEE_AT: constant(uint256) = 120
_WINDOW_AT: constant(uint256) = 136
_MASK_16: constant(uint256) = 2**16 - 1
_MASK_32: constant(uint256) = 2**32 - 1
_MASK_40: constant(uint256) = 2**40 - 1
_PAUSE_MASK: constant(uint256) = 2**120 - 1

guardian: public(address)
_word: uint256


@deploy
def __init__(
    initial_guardian: address, fee_bps: uint256, challenge_window: uint256
):
    self.guardian = initial_guardian
    log GuardianChanged(guardian=initial_guardian)
    self._set_fee(fee_bps)
    self._set_challenge_window(challenge_window)


# ------------------------------------------------------------------- the owner


@external
def set_fee(fee_bps: uint256):
    """
    @notice Sets the fee of future deals (owner only).
    @param fee_bps Fee on payouts in 1/10,000, at most MAX_FEE_BPS.
    """
    ownable._check_owner()
    self._set_fee(fee_bps)


@external
def set_challenge_window(seconds: uint256):
    """
    @notice Sets the challenge window of future deals (owner only).
    @param seconds Between MIN_CHALLENGE_WINDOW and MAX_CHALLENGE_WINDOW.
    """
    ownable._check_owner()
    self._set_challenge_window(seconds)


@external
def set_guardian(new_guardian: address):
    """
    @notice Names another guardian (owner only). A pause in force stays.
    @param new_guardian The zero address means that nobody can pause.
    """
    ownable._check_owner()
    self.guardian = new_guardian
    log GuardianChanged(guardian=new_guardian)


# ------------------------------------------------------------------- the pause


@external
def pause(duration: uint256):
    """
    @notice Stops new deals for `duration` seconds (guardian only).
    @param duration Seconds, 1 to `MAX_PAUSE`.
    """
    assert msg.sender == self.guardian, "guardian: caller is not the guardian"
    assert (
        duration > 0 and duration <= MAX_PAUSE
    ), "guardian: pause out of bounds"
    word: uint256 = self._word
    assert (
        block.timestamp >= (word >> _NEXT_AT) & _MASK_40
    ), "guardian: paused too recently"
    until: uint256 = block.timestamp + duration
    # The next one is measured from the end of this one as it was meant, so that
    # lifting a pause early and pausing again cannot stretch it.
    self._store_pause(
        word,
        until,
        until + MAX_PAUSE,
        ((word >> _PAUSED_AT) & _MASK_40) + duration,
    )
    log OrdersPaused(guardian=msg.sender, until=until)


@external
def unpause():
    """
    @notice Takes new deals again; by the guardian or the owner.
    """
    assert msg.sender in [
        self.guardian, ownable.owner
    ], "guardian: caller is not the guardian"
    word: uint256 = self._word
    self._store_pause(
        word, 0, (word >> _NEXT_AT) & _MASK_40, self._paused_of(word)
    )
    log OrdersUnpaused(account=msg.sender)


# ----------------------------------------------------------------------- views


@external
@view
def paused_until() -> uint256:
    """
    @notice Returns the time (unix seconds) from which deals are made again.
    """
    return self._word & _MASK_40


@external
@view
def next_pause() -> uint256:
    """
    @notice Returns the earliest time (unix seconds) of another pause.
    """
    return (self._word >> _NEXT_AT) & _MASK_40


@external
@view
def paused_seconds() -> uint256:
    """
    @notice Returns for how many seconds deals were paused until now, in total.
    """
    return self._paused()


@external
@view
def fee_bps() -> uint256:
    """
    @notice Returns the fee of deals made now, in 1/10,000.
    """
    return (self._word >> _FEE_AT) & _MASK_16


@external
@view
def challenge_window() -> uint256:
    """
    @notice Returns the challenge window of deals made now, in seconds.
    """
    return (self._word >> _WINDOW_AT) & _MASK_32


# -------------------------------------------------------------------- internal


@internal
@view
def _for_new_deal() -> Parameters:
    """
    @dev Returns what a deal of this moment is made with; reverts in a pause.
    """
    word: uint256 = self._not_paused()
    return Parameters(
        fee_bps=(word >> _FEE_AT) & _MASK_16,
        challenge_window=(word >> _WINDOW_AT) & _MASK_32,
        paused=(word >> _PAUSED_AT) & _MASK_40,
    )


@internal
@view
def _check_not_paused() -> uint256:
    """
    @dev Reverts in a pause; returns the seconds paused in total.
    """
    return (self._not_paused() >> _PAUSED_AT) & _MASK_40


@internal
@view
def _paused() -> uint256:
    """
    @dev Returns the seconds paused until now in total; never above the seconds
         that have passed, and a second of a pause counts once it has passed.
    """
    return self._paused_of(self._word)


@internal
@view
def _not_paused() -> uint256:
    """
    @dev Returns the word; reverts in a pause.
    """
    word: uint256 = self._word
    assert block.timestamp >= word & _MASK_40, "guardian: orders are paused"
    return word


@internal
@view
def _paused_of(word: uint256) -> uint256:
    """
    @dev The total less what a running pause still has ahead.
    """
    ahead: uint256 = max(word & _MASK_40, block.timestamp) - block.timestamp
    return ((word >> _PAUSED_AT) & _MASK_40) - ahead


@internal
def _store_pause(
    word: uint256, until: uint256, next_time: uint256, paused: uint256
):
    """
    @dev Writes the pause's part of the word.
    """
    self._word = (
        (word & ~_PAUSE_MASK)
        | until
        | (next_time << _NEXT_AT)
        | (paused << _PAUSED_AT)
    )


@internal
def _set_fee(fee_bps: uint256):
    """
    @dev Writes the fee's part of the word.
    """
    assert fee_bps <= MAX_FEE_BPS, "config: fee out of bounds"
    self._word = (self._word & ~(_MASK_16 << _FEE_AT)) | (fee_bps << _FEE_AT)
    log FeeChanged(fee_bps=fee_bps)


@internal
def _set_challenge_window(seconds: uint256):
    """
    @dev Writes the window's part of the word.
    """
    assert (
        seconds >= MIN_CHALLENGE_WINDOW and seconds <= MAX_CHALLENGE_WINDOW
    ), "config: challenge window out of bounds"
    self._word = (self._word & ~(_MASK_32 << _WINDOW_AT)) | (
        seconds << _WINDOW_AT
    )
    log ChallengeWindowChanged(seconds=seconds)
