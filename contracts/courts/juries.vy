# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What juries do: they are drawn, commit and reveal
@license AGPL-3.0-only
@notice I-14 a jury depends on its named block and on what stood before the request; who
        calls `draw`, and when, changes nothing.
@dev Nothing is stored here: docket, votes and jurors keep what is.
"""

from . import docket
from . import jurors
from . import sum_tree
from . import votes
from ..interfaces import IDisputes
from ..randomness import designated_block
from ..randomness import header_proof

uses: designated_block
uses: docket
uses: jurors
uses: sum_tree
uses: votes


@deploy
def __init__():
    pass


@external
def draw(case: IDisputes.Case, header: Bytes[header_proof.MAX_HEADER]):
    """
    @notice Reads the named block and draws the jury with it. Anyone may call it; the
            jury is the same whoever calls, and whenever.
    @param case The case.
    @param header RLP header of the named block; may be empty where the value is its
           hash.
    """
    round: uint256 = docket._current(case)
    word: uint256 = docket._round(case.job, round)
    assert docket._stage(word) == docket.NAMED, "court: already drawn"
    docket._check_time(block.timestamp <= docket._ends_at(word, 0))
    timestamp: uint256 = 0
    value: bytes32 = empty(bytes32)
    timestamp, value = designated_block._value(docket._target(word), header)
    sat: DynArray[uint256, 62] = []
    for earlier: uint256 in range(round, bound=2):
        places: uint256 = docket._places(docket._round(case.job, earlier))
        for place: uint256 in range(places, bound=31):
            sat.append(votes._leaf(votes._word(case.job, earlier, place)))
    jury: DynArray[uint256, 31] = jurors._pick(
        case,
        docket._since(word) // sum_tree.PERIOD,
        keccak256(abi_encode(b"jury", value, case.job, round)),
        docket._votes_of(round),
        sat,
    )
    docket._seat(case.job, round, word, len(jury))
    votes._sit(case.job, round, jury)
    log IDisputes.Drawn(job=case.job, round=round, places=jury)


@external
def commit(case: IDisputes.Case, place: uint256, digest: bytes32):
    """
    @notice A juror commits to its vote, once, with all votes that it has (its operator).
    @param case The case.
    @param place The juror's place in the jury.
    @param digest keccak256 of the ABI encoding of job, round, juror, kind, seal and salt.
    """
    round: uint256 = docket._current(case)
    word: uint256 = docket._round(case.job, round)
    docket._check_time(docket._may_commit(word, case.duration))
    assert place < docket._places(word), "court: no such place"
    assert not docket._has_committed(word, place), "court: has committed"
    vote: uint256 = votes._word(case.job, round, place)
    juror: address = jurors._owner(case.capability, votes._leaf(vote))
    assert (
        msg.sender == staticcall jurors.STAKING.operator_of(juror)
    ), "court: not the juror's operator"
    votes._write(case.job, round, place, vote, digest)
    docket._note_commit(case.job, round, word, place)
    log IDisputes.Committed(job=case.job, juror=juror, round=round)


@external
def reveal(
    case: IDisputes.Case,
    place: uint256,
    kind: uint256,
    seal: bytes32,
    salt: bytes32,
):
    """
    @notice Opens a juror's commitment. Anyone who knows it may call it.
    @param case The case.
    @param place The juror's place in the jury.
    @param kind 1 right, 2 wrong, 3 withheld.
    @param seal What the vote shows: see courts/votes; zero if it is withheld.
    @param salt The juror's secret.
    """
    round: uint256 = docket._current(case)
    word: uint256 = docket._round(case.job, round)
    docket._check_time(docket._may_reveal(word, case.duration))
    assert docket._waits_for(word, place), "court: nothing to reveal"
    vote: uint256 = votes._word(case.job, round, place)
    juror: address = jurors._owner(case.capability, votes._leaf(vote))
    assert votes._claim(vote) == votes._upper(
        votes._digest(case.job, round, juror, kind, seal, salt)
    ), "court: not what was committed"
    claim: bytes32 = empty(bytes32)
    if kind == votes.WITHHELD:
        assert seal == empty(bytes32), "court: seal of nothing"
    else:
        assert (
            kind == votes.RIGHT or kind == votes.WRONG
        ), "court: unknown vote"
        claim = votes._attested(seal, round)
        assert (
            kind == votes.WRONG or claim == case.result
        ), "court: not the result's seal"
    votes._write(case.job, round, place, vote, claim)
    docket._note_reveal(case.job, round, word, place, kind)
    log IDisputes.Revealed(
        job=case.job, juror=juror, round=round, kind=kind, seal=seal
    )
