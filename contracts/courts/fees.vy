# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What a dispute costs, and what a vote is paid
@license AGPL-3.0-only
@notice A vote with the final ruling is paid a fee, a part of the price, and not less than
        what the time that the job may run is worth. The bond of a dispute is the price
        and all the fees that can fall due before an appeal; that of an appeal all the
        fees of its jury, which is more. The loser's bonds pay first; but of an appeal that
        turns WITHHELD each side pays half, or it would cost nothing to serve late. What is
        not paid to jurors goes back. Fines are multiples of the fee, in stake.
        I-12 a juror is paid for its own vote alone; a fine is paid to nobody.
"""

from . import docket
from . import votes

uses: docket

MAX_BPS: constant(uint256) = 10_000

# What a vote is paid: a part of the price in 1/10,000, and at least these payment token units.
FEE_BPS: public(immutable(uint256))
MIN_FEE: public(immutable(uint256))
# Payment token units for each hour that the job may run: a vote, at least.
HOURLY_FEE: public(immutable(uint256))
# Payment token units a vote where there is no ruling on the result.
ATTENDANCE: public(immutable(uint256))
# TPF wei for each unit of the fee, a vote: against the ruling, and missing.
SMALL_FINE: public(immutable(uint256))
BIG_FINE: public(immutable(uint256))


@deploy
def __init__(
    juror_fee_bps: uint256,
    min_fee: uint256,
    hourly_fee: uint256,
    attendance: uint256,
    small_fine: uint256,
    big_fine: uint256,
):
    """
    @notice Fixes what votes are paid.
    @param juror_fee_bps Of the price, in 1/10,000, for a vote.
    @param min_fee Payment token units for a vote at least.
    @param hourly_fee Payment token units for each hour that the job may run, at least.
    @param attendance Payment token units for a vote where there is no ruling on the result.
    @param small_fine TPF wei for each unit of the fee, for a vote against the ruling.
    @param big_fine TPF wei for each unit of the fee, for a vote that is missing.
    """
    assert (
        small_fine > 0 and small_fine <= big_fine
    ), "court: fines out of bounds"
    assert juror_fee_bps <= MAX_BPS, "court: fee above the price"
    assert attendance <= min_fee, "court: attendance above the fee"
    # An appeal costs more than the dispute did, whatever the price.
    covered: uint256 = docket.REDRAW_PANEL + docket.PANEL // 2
    assert (
        docket.APPEAL_PANEL > covered
        and (docket.APPEAL_PANEL - covered) * juror_fee_bps >= MAX_BPS
    ), "court: appeal too cheap"
    FEE_BPS = juror_fee_bps
    MIN_FEE = min_fee
    HOURLY_FEE = hourly_fee
    ATTENDANCE = attendance
    SMALL_FINE = small_fine
    BIG_FINE = big_fine


@external
@view
def costs_of(price: uint256, duration: uint256) -> (uint256, uint256, uint256):
    """
    @notice Returns what a vote is paid, and the bonds of a dispute and of an appeal.
    @param price Of the job, payment token units.
    @param duration Seconds that the job may run.
    @return Payment token units each.
    """
    fee: uint256 = self._fee(price, duration)
    return fee, self._bond(price, fee), docket.APPEAL_PANEL * fee


@internal
@view
def _pay(
    kind: uint256, vote: uint256, ruling: votes.Ruling, fee: uint256
) -> uint256:
    """
    @dev What a juror is paid: for a vote with a ruling on the result the fee. Where jurors
         that ran the job disagree, half of it: no more, or two votes of nothing could
         earn two fees. Where there is no ruling on the result, the attendance.
    @param kind The kind of its vote, 0 if it is silent.
    @param vote The word of its place.
    @param ruling The final one.
    @param fee Payment token units a vote.
    @return Payment token units.
    """
    if kind == votes.SILENT:
        return 0
    share: uint256 = 0
    if ruling.kind == votes.UNDECIDED:
        if kind != votes.WITHHELD:
            share = fee // 2
    elif not votes._is_on_result(ruling):
        share = ATTENDANCE
    elif votes._is_with(kind, vote, ruling):
        share = fee
    return share * votes._votes(vote)


@internal
@view
def _fee(price: uint256, duration: uint256) -> uint256:
    """
    @dev What a vote with the final ruling is paid.
    @param price Of the job, payment token units.
    @param duration Seconds that the job may run.
    @return Payment token units.
    """
    return max(
        max(MIN_FEE, price * FEE_BPS // MAX_BPS), HOURLY_FEE * duration // 3_600
    )


@internal
@view
def _bond(price: uint256, fee: uint256) -> uint256:
    """
    @dev The bond of a dispute: the price, and a fee for each vote that can come to be
         paid before an appeal: a second jury's, and those of a first one that had no
         quorum, which are less than half of it.
    @param price Of the job, payment token units.
    @param fee Of a vote.
    @return Payment token units.
    """
    return price + (docket.REDRAW_PANEL + docket.PANEL // 2) * fee
