# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title How a dispute stands: its phase, and what was ruled
@license AGPL-3.0-only
@notice I-10 follows from the words of its rounds and from the time, so that a deadline
        needs nobody to call anything:

          drawing -> commits -> reveals -> ruled -> final, or with an appeal once again
          any of them, without a quorum -> failed -> a larger jury, or final

        Whatever an appeal comes to is final; one that decides nothing leaves what was
        appealed: a ruling, or that two juries came to nothing, which is the requester's
        loss.
@dev Nothing is stored here.
"""

from . import docket
from . import votes
from ..interfaces import IDisputes

uses: docket
uses: votes

# What a dispute waits for.
DRAWING: constant(uint256) = 1
COMMITTING: constant(uint256) = 2
REVEALING: constant(uint256) = 3
FAILED: constant(
    uint256
) = 4  # without a ruling; anyone may ask for a larger jury
RULED: constant(uint256) = 5  # the loser may appeal
FINAL: constant(uint256) = 6


# How a dispute stands now.
struct Standing:
    round: uint256
    phase: uint256
    until: uint256  # last second of the phase; 0 if it is final
    ruling: votes.Ruling
    first: uint256  # the ruling that was appealed


@deploy
def __init__():
    pass


@external
@view
def standing_of(case: IDisputes.Case) -> (uint256, uint256, uint256, uint256):
    """
    @notice Returns how a dispute stands now.
    @param case The case.
    @return The round; the phase: 1 to be drawn, 2 commits, 3 reveals, 4 without a
            ruling, so that a larger jury can be asked for, 5 ruled, so that the loser can
            appeal, 6 final; the last second of the phase, 0 if it is final; the ruling: 0
            none yet or no quorum, 1 right, 2 wrong, 3 withheld, 4 undecided.
    """
    stand: Standing = self._standing(case)
    return stand.round, stand.phase, stand.until, stand.ruling.kind


@internal
@view
def _standing(case: IDisputes.Case) -> Standing:
    """
    @dev How a dispute stands now: follows from its words and the time.
    @param case The case.
    @return Its standing; with the ruling before an appeal, once there was one.
    """
    round: uint256 = docket._current(case)
    word: uint256 = docket._round(case.job, round)
    duration: uint256 = case.duration
    stand: Standing = empty(Standing)
    stand.round = round
    stand.until = docket._ends_at(word, duration)
    if round == 2:
        # Of the second jury, if one was asked for.
        last: uint256 = 0 if docket._round(case.job, 1) == 0 else 1
        stand.ruling = self._ruling(case.job, last)
        stand.first = stand.ruling.kind
    if block.timestamp <= stand.until:
        if docket._may_commit(word, duration):
            stand.phase = COMMITTING
            stand.until = docket._commit_end(word, duration)
        elif docket._stage(word) == docket.NAMED:
            stand.phase = DRAWING
        else:
            stand.phase = REVEALING
        return stand
    found: votes.Ruling = self._ruling(case.job, round)
    # An appeal must convince.
    if found.kind != votes.NO_RULING and not (
        round == 2 and found.kind == votes.UNDECIDED
    ):
        stand.ruling = found
    ended_at: uint256 = stand.until
    stand.phase = FINAL
    stand.until = 0
    if round == 0 and found.kind == votes.NO_RULING:
        if block.timestamp <= ended_at + docket.REDRAW_TIME:
            stand.phase = FAILED
            stand.until = ended_at + docket.REDRAW_TIME
    elif round < 2:
        if block.timestamp <= ended_at + docket.APPEAL_TIME:
            stand.phase = RULED
            stand.until = ended_at + docket.APPEAL_TIME
    return stand


@internal
@view
def _ruling(job: bytes32, round: uint256) -> votes.Ruling:
    """
    @dev What the jury of a round that is over has found.
    @param job The job.
    @param round The round.
    @return The ruling.
    """
    return votes._tally(
        job, round, docket._round(job, round), docket._votes_of(round)
    )
