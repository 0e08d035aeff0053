# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title The docket: rounds of a dispute and when each of them ends
@license AGPL-3.0-only
@notice A dispute has a first jury (round 0), a larger one if that came to nothing
        (round 1), and a still larger one if the loser appeals (round 2). A round:

          named      whoever asks for a jury names its block, DRAW_DELAY ahead
          + DRAW_TIME           the last second for `draw`, by anyone
          drawn
          + COMMIT_TIME and the time that the job may run    jurors run it, and commit
          + REVEAL_TIME         jurors reveal

        Who has not done its part by then is silent. A round goes on at once when all
        have committed, and ends at once when all who committed have revealed.
        I-10 every state has an end that follows from its word and the time alone.
@dev Words packed by hand, low bits first:
     docket   round 8 | upper bits of the case's digest 248
     round    since 40 | target 48 | stage 8 | places 8 | committed 32 | revealed 32 |
              kinds 64 (two bits a place)
     One bit a place; a juror with several votes has one place.
"""

from ..interfaces import IDisputes
from ..randomness import designated_block

uses: designated_block

# Stages of a round.
NAMED: constant(uint256) = 1
DRAWN: constant(uint256) = 2
SEALED: constant(uint256) = 3  # all have committed
REVEALED: constant(uint256) = 4  # all who committed have revealed
UNFILLED: constant(uint256) = 5  # too few could be drawn

ROUNDS: constant(uint256) = 3
MOST_VOTES: constant(uint256) = 31  # two bits a place in 64 bits
MAX_TIME: constant(uint256) = 366 * 86_400
MAX_DELAY: constant(uint256) = 2**32
MASK_8: constant(uint256) = 2**8 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_48: constant(uint256) = 2**48 - 1
TARGET_AT: constant(uint256) = 40
STAGE_AT: constant(uint256) = 88
PLACES_AT: constant(uint256) = 96
COMMITTED_AT: constant(uint256) = 104
REVEALED_AT: constant(uint256) = 136
KINDS_AT: constant(uint256) = 168

# Votes of each round's jury, all odd.
PANEL: public(immutable(uint256))
REDRAW_PANEL: public(immutable(uint256))
APPEAL_PANEL: public(immutable(uint256))
DRAW_DELAY: public(immutable(uint256))  # blocks until the one that draws
# Seconds.
DRAW_TIME: public(immutable(uint256))
COMMIT_TIME: public(immutable(uint256))
REVEAL_TIME: public(immutable(uint256))
REDRAW_TIME: public(immutable(uint256))
APPEAL_TIME: public(immutable(uint256))
CLOSE_TIME: public(immutable(uint256))  # to conclude an ended dispute
MAX_DURATION: public(immutable(uint256))  # that a judged job may run

# job -> word, 0 for none
dockets: HashMap[bytes32, uint256]
# job -> round -> word
rounds: HashMap[bytes32, HashMap[uint256, uint256]]


@deploy
def __init__(
    panel: uint256,
    redraw_panel: uint256,
    appeal_panel: uint256,
    draw_delay: uint256,
    draw_time: uint256,
    commit_time: uint256,
    reveal_time: uint256,
    redraw_time: uint256,
    appeal_time: uint256,
    close_time: uint256,
    max_duration: uint256,
):
    """
    @notice Fixes sizes and times.
    """
    assert panel & redraw_panel & appeal_panel & 1 == 1, "court: even panel"
    assert (
        panel >= 3
        and redraw_panel > panel
        and appeal_panel > redraw_panel
        and appeal_panel <= MOST_VOTES
    ), "court: panel out of bounds"
    # The next block is being built while the request is on its way.
    assert (
        draw_delay >= 2 and draw_delay <= MAX_DELAY
    ), "court: draw delay out of bounds"
    for time: uint256 in [
        draw_time,
        commit_time,
        reveal_time,
        redraw_time,
        appeal_time,
        close_time,
        max_duration,
    ]:
        assert time > 0 and time <= MAX_TIME, "court: time out of bounds"
    PANEL = panel
    REDRAW_PANEL = redraw_panel
    APPEAL_PANEL = appeal_panel
    DRAW_DELAY = draw_delay
    DRAW_TIME = draw_time
    COMMIT_TIME = commit_time
    REVEAL_TIME = reveal_time
    REDRAW_TIME = redraw_time
    APPEAL_TIME = appeal_time
    CLOSE_TIME = close_time
    MAX_DURATION = max_duration


# ------------------------------------------------------------------- views


@external
@view
def longest(duration: uint256) -> uint256:
    """
    @notice Returns how long a dispute can take, with a redraw, an appeal and the time
            to conclude it.
    @param duration Seconds that the job may run.
    @return Seconds.
    """
    return self._longest(duration)


@external
@view
def round_of(job: bytes32, round: uint256) -> uint256:
    """
    @notice Returns the word of a round: since 40 | target 48 | stage 8 | places 8 |
            committed 32 | revealed 32 | kinds 64, low bits first. Stages: 1 named,
            2 drawn, 3 all have committed, 4 all who committed have revealed,
            5 unfilled.
    @param job The job.
    @param round 0, 1 or 2.
    """
    return self.rounds[job][round]


# ------------------------------------------------------------- transitions


@internal
def _file(case: IDisputes.Case):
    """
    @dev Puts a new dispute on the docket and asks for its first jury.
    @param case The case.
    """
    assert self.dockets[case.job] == 0, "court: dispute exists"
    self._name(case, 0)


@internal
def _name(case: IDisputes.Case, round: uint256):
    """
    @dev Asks for the jury of a round: names the block that draws it.
    @param case The case.
    @param round The round.
    """
    target: uint256 = designated_block._number() + DRAW_DELAY
    self.dockets[case.job] = self._docket(case) | round
    self.rounds[case.job][round] = (
        block.timestamp | (target << TARGET_AT) | (NAMED << STAGE_AT)
    )
    log IDisputes.Named(job=case.job, round=round, target=target)


@internal
def _seat(job: bytes32, round: uint256, word: uint256, places: uint256):
    """
    @dev Notes that a jury was drawn.
    @param job The job.
    @param round The round.
    @param word The round's word.
    @param places How many jurors, 0 if too few could be had.
    """
    stage: uint256 = DRAWN if places > 0 else UNFILLED
    self.rounds[job][round] = self._staged(word, stage) | (places << PLACES_AT)


@internal
def _note_commit(job: bytes32, round: uint256, word: uint256, place: uint256):
    """
    @dev Notes that a juror has committed.
    @param job The job.
    @param round The round.
    @param word The round's word.
    @param place The juror's place.
    """
    after: uint256 = word | (1 << (COMMITTED_AT + place))
    if self._committed(after) == (1 << self._places(word)) - 1:
        after = self._staged(after, SEALED)
    self.rounds[job][round] = after


@internal
def _note_reveal(
    job: bytes32, round: uint256, word: uint256, place: uint256, kind: uint256
):
    """
    @dev Notes that a juror has revealed.
    @param job The job.
    @param round The round.
    @param word The round's word.
    @param place The juror's place.
    @param kind The kind of its vote.
    """
    after: uint256 = (
        word | (1 << (REVEALED_AT + place)) | (kind << (KINDS_AT + 2 * place))
    )
    if self._revealed(after) == self._committed(after):
        after = self._staged(after, REVEALED)
    self.rounds[job][round] = after


@internal
def _strike(job: bytes32):
    """
    @dev Takes a dispute off the docket.
    @param job The job.
    """
    self.dockets[job] = 0


# --------------------------------------------------------- what words mean


@internal
@view
def _round(job: bytes32, round: uint256) -> uint256:
    """
    @dev The word of a round.
    @param job The job.
    @param round The round.
    @return The word, 0 if that jury was never asked for.
    """
    return self.rounds[job][round]


@internal
@view
def _current(case: IDisputes.Case) -> uint256:
    """
    @dev The round that a dispute is in; reverts unless this is its case.
    @param case The case.
    @return The round.
    """
    word: uint256 = self.dockets[case.job]
    assert word != 0, "court: no such dispute"
    assert word & ~MASK_8 == self._docket(case), "court: not the case"
    return word & MASK_8


@internal
@view
def _may_commit(word: uint256, duration: uint256) -> bool:
    """
    @dev Whether jurors of a round can commit now.
    @param word The round's word.
    @param duration Seconds that the job may run.
    @return True if they can.
    """
    return self._stage(word) == DRAWN and block.timestamp <= self._commit_end(
        word, duration
    )


@internal
@view
def _may_reveal(word: uint256, duration: uint256) -> bool:
    """
    @dev Whether jurors of a round can reveal now.
    @param word The round's word.
    @param duration Seconds that the job may run.
    @return True if they can.
    """
    stage: uint256 = self._stage(word)
    if stage == DRAWN:
        commit_end: uint256 = self._commit_end(word, duration)
        return (
            block.timestamp > commit_end
            and block.timestamp <= commit_end + REVEAL_TIME
        )
    return stage == SEALED and (
        block.timestamp <= self._since(word) + REVEAL_TIME
    )


@internal
@pure
def _check_time(is_time: bool):
    """
    @dev Reverts out of time: one reason for all calls, since reasons take room.
    """
    assert is_time, "court: not the time"


@internal
@view
def _ends_at(word: uint256, duration: uint256) -> uint256:
    """
    @dev The last second of a round as its word stands; of one that has ended by what
         was done, the second before that.
    @param word The round's word.
    @param duration Seconds that the job may run.
    @return Unix seconds.
    """
    stage: uint256 = self._stage(word)
    since: uint256 = self._since(word)
    if stage == NAMED:
        return since + DRAW_TIME
    if stage == DRAWN:
        # With nobody to reveal, the round is over when commits are.
        end: uint256 = self._commit_end(word, duration)
        if self._committed(word) != 0:
            end += REVEAL_TIME
        return end
    if stage == SEALED:
        return since + REVEAL_TIME
    return since - 1


@internal
@view
def _commit_end(word: uint256, duration: uint256) -> uint256:
    """
    @dev The last second in which jurors of a drawn round can commit.
    """
    return self._since(word) + COMMIT_TIME + duration


@internal
@view
def _longest(duration: uint256) -> uint256:
    """
    @dev How long a dispute can take.
    @param duration Seconds that the job may run.
    @return Seconds.
    """
    return (
        ROUNDS * (DRAW_TIME + COMMIT_TIME + duration + REVEAL_TIME)
        + REDRAW_TIME
        + APPEAL_TIME
        + CLOSE_TIME
    )


@internal
@view
def _votes_of(round: uint256) -> uint256:
    """
    @dev How many votes the jury of a round has.
    @param round The round.
    @return Votes.
    """
    if round == 0:
        return PANEL
    return REDRAW_PANEL if round == 1 else APPEAL_PANEL


@internal
@pure
def _docket(case: IDisputes.Case) -> uint256:
    """
    @dev The upper bits of a docket's word.
    @param case The case.
    @return The word in round 0.
    """
    return convert(keccak256(abi_encode(case)), uint256) & ~MASK_8


@internal
@view
def _staged(word: uint256, stage: uint256) -> uint256:
    """
    @dev A round's word that reaches a stage now.
    @param word The word.
    @param stage The stage.
    @return The word.
    """
    return (
        (word & ~(MASK_40 | (MASK_8 << STAGE_AT)))
        | block.timestamp
        | (stage << STAGE_AT)
    )


@internal
@pure
def _since(word: uint256) -> uint256:
    """
    @dev When a round reached its stage, unix seconds.
    """
    return word & MASK_40


@internal
@pure
def _target(word: uint256) -> uint256:
    """
    @dev The number of the block that draws a round's jury.
    """
    return (word >> TARGET_AT) & MASK_48


@internal
@pure
def _stage(word: uint256) -> uint256:
    """
    @dev The stage of a round.
    @param word The round's word.
    @return The stage, 0 of a round that was never asked for.
    """
    return (word >> STAGE_AT) & MASK_8


@internal
@pure
def _places(word: uint256) -> uint256:
    """
    @dev How many jurors a round has.
    @param word The round's word.
    @return Places.
    """
    return (word >> PLACES_AT) & MASK_8


@internal
@pure
def _committed(word: uint256) -> uint256:
    """
    @dev Who has committed.
    @param word The round's word.
    @return A bit a place.
    """
    return (word >> COMMITTED_AT) & MASK_32


@internal
@pure
def _has_committed(word: uint256, place: uint256) -> bool:
    """
    @dev Whether a juror has committed.
    @param word The round's word.
    @param place The juror's place.
    @return True if it has.
    """
    return self._committed(word) & (1 << place) != 0


@internal
@pure
def _waits_for(word: uint256, place: uint256) -> bool:
    """
    @dev Whether a juror has committed and not revealed.
    @param word The round's word.
    @param place The juror's place.
    @return True if it is so; false for what is not a place.
    """
    return (
        place < self._places(word)
        and self._has_committed(word, place)
        and self._revealed(word) & (1 << place) == 0
    )


@internal
@pure
def _revealed(word: uint256) -> uint256:
    """
    @dev Who has revealed.
    @param word The round's word.
    @return A bit a place.
    """
    return (word >> REVEALED_AT) & MASK_32


@internal
@pure
def _kind(word: uint256, place: uint256) -> uint256:
    """
    @dev The kind of a juror's vote.
    @param word The round's word.
    @param place The juror's place.
    @return The kind, 0 if it has not revealed.
    """
    return (word >> (KINDS_AT + 2 * place)) & 3
