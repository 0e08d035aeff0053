# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Votes: sealed, revealed, counted
@license AGPL-3.0-only
@notice A juror runs the job again and votes by what came out of it:

          RIGHT      the result is as attested
          WRONG      it is another one
          WITHHELD   inputs or attested bytes were not served

        and shows a *seal* with it, so that nobody votes for what it does not have. A
        result is attested as the sha256 of its first seal; each seal is the sha256 of
        the next one, and the last one that of the manifest. A vote RIGHT of round n
        shows seal n + 1: what earlier rounds have made public is not enough. A vote
        WRONG shows the seal of what came out instead (where results are compared with
        a tolerance, of what was attested), and counts with those of the same seal.

        A vote is committed as a digest with dispute, round and juror in it, so that a
        copy of another's opens to nothing.
@dev Word of a place, low bits first: leaf 27 | votes 5 | digest 224: the upper bits of
     the commitment, then those of what the seal claims to be attested.
"""

from . import docket

# Kinds of votes, and rulings.
SILENT: constant(uint256) = 0  # not revealed
NO_RULING: constant(uint256) = 0  # no quorum
RIGHT: constant(uint256) = 1
WRONG: constant(uint256) = 2
WITHHELD: constant(uint256) = 3
UNDECIDED: constant(uint256) = 4  # a ruling only

LEAF_MASK: constant(uint256) = 2**27 - 1
VOTES_AT: constant(uint256) = 27
VOTES_MASK: constant(uint256) = 31
# What the draw writes; above it is the digest.
SEAT_MASK: constant(uint256) = 2**32 - 1


# What a jury has found.
struct Ruling:
    kind: uint256
    claim: uint256  # of WRONG: the digest that the seals of the majority claim


# job -> round 8 | place 8 -> word
places: HashMap[bytes32, HashMap[uint256, uint256]]


@deploy
def __init__():
    pass


@external
@view
def place_of(job: bytes32, round: uint256, place: uint256) -> uint256:
    """
    @notice Returns the word of a place of a jury: leaf 27 | votes 5 | digest 224, low bits
            first; 0 for none.
    @param job The job.
    @param round 0, 1 or 2.
    @param place The place.
    """
    return self._word(job, round, place)


@internal
@pure
def _digest(
    job: bytes32,
    round: uint256,
    juror: address,
    kind: uint256,
    seal: bytes32,
    salt: bytes32,
) -> bytes32:
    """
    @dev What a juror commits to.
    @param job The dispute.
    @param round The round.
    @param juror The provider's owner address.
    @param kind The kind of the vote.
    @param seal What it shows.
    @param salt Known to the juror alone until it reveals.
    @return The commitment.
    """
    return keccak256(abi_encode(job, round, juror, kind, seal, salt))


@internal
@pure
def _attested(seal: bytes32, round: uint256) -> bytes32:
    """
    @dev What a result is attested as whose seal for a round this is.
    @param seal The seal.
    @param round The round.
    @return The digest.
    """
    digest: bytes32 = sha256(seal)
    for number: uint256 in range(docket.ROUNDS):
        if number == round:
            break
        digest = sha256(digest)
    return digest


@internal
def _sit(job: bytes32, round: uint256, jury: DynArray[uint256, 31]):
    """
    @dev Gives a jury its places.
    @param job The dispute.
    @param round The round.
    @param jury Each juror: leaf 27 | votes 5.
    """
    place: uint256 = 0
    for juror: uint256 in jury:
        self.places[job][self._key(round, place)] = juror
        place += 1


@internal
def _write(
    job: bytes32, round: uint256, place: uint256, word: uint256, digest: bytes32
):
    """
    @dev Keeps a commitment or a claim.
    @param job The dispute.
    @param round The round.
    @param place The juror's place.
    @param word The place's word.
    @param digest What to keep.
    """
    self.places[job][self._key(round, place)] = (word & SEAT_MASK) | (
        convert(digest, uint256) & ~SEAT_MASK
    )


@internal
@view
def _tally(
    job: bytes32, round: uint256, word: uint256, votes: uint256
) -> Ruling:
    """
    @dev What the jury of a round that is over has found. More than half of the votes
         must be revealed. Two thirds of those decide for WITHHELD, more than half for
         RIGHT, more than half of those that are not WITHHELD for WRONG with one seal.
         Who serves the bytes to its friends alone is not RIGHT by their votes: WITHHELD
         and the most WRONG votes with one seal together decide by half as well.
    @param job The dispute.
    @param round The round.
    @param word The round's word.
    @param votes Votes of the jury.
    @return The ruling.
    """
    revealed: uint256 = 0
    withheld: uint256 = 0
    right: uint256 = 0
    wrong: DynArray[uint256, 31] = []
    for place: uint256 in range(docket._places(word), bound=31):
        kind: uint256 = docket._kind(word, place)
        if kind == SILENT:
            continue
        vote: uint256 = self._word(job, round, place)
        count: uint256 = self._votes(vote)
        revealed += count
        if kind == RIGHT:
            right += count
        elif kind == WITHHELD:
            withheld += count
        else:
            wrong.append(vote)
    if 2 * revealed <= votes:
        return Ruling(kind=NO_RULING, claim=0)
    if 3 * withheld >= 2 * revealed:
        return Ruling(kind=WITHHELD, claim=0)
    if 2 * right > revealed:
        return Ruling(kind=RIGHT, claim=0)
    most: uint256 = 0
    for first: uint256 in wrong:
        same: uint256 = 0
        for vote: uint256 in wrong:
            if self._claim(vote) == self._claim(first):
                same += self._votes(vote)
        if 2 * same > revealed - withheld:
            return Ruling(kind=WRONG, claim=self._claim(first))
        most = max(most, same)
    if 2 * (withheld + most) > revealed:
        return Ruling(kind=WITHHELD, claim=0)
    return Ruling(kind=UNDECIDED, claim=0)


@internal
@pure
def _is_on_result(ruling: Ruling) -> bool:
    """
    @dev Whether a ruling says what the result is.
    @param ruling The ruling.
    @return True if it does.
    """
    return ruling.kind == RIGHT or ruling.kind == WRONG


@internal
@pure
def _is_with(kind: uint256, vote: uint256, ruling: Ruling) -> bool:
    """
    @dev Whether a vote says what a ruling on the result says.
    @param kind The kind of the vote.
    @param vote The word of its place.
    @param ruling The ruling.
    @return True if it does.
    """
    return kind == ruling.kind and (
        kind == RIGHT or self._claim(vote) == ruling.claim
    )


@internal
@pure
def _is_against(kind: uint256, vote: uint256, ruling: Ruling) -> bool:
    """
    @dev Whether a vote on the result says another thing than a ruling on it.
    @param kind The kind of the vote.
    @param vote The word of its place.
    @param ruling The ruling.
    @return True if it does; false for WITHHELD, and where the ruling is not on the result.
    """
    return (
        self._is_on_result(ruling)
        and (kind == RIGHT or kind == WRONG)
        and not self._is_with(kind, vote, ruling)
    )


@internal
@pure
def _is_for_requester(kind: uint256) -> bool:
    """
    @dev Whether a ruling is against the provider. Without one, or with one that the
         result is not the same twice, the provider has done what can be shown.
    @param kind The ruling.
    @return True if it is.
    """
    return kind == WRONG or kind == WITHHELD


@internal
@view
def _word(job: bytes32, round: uint256, place: uint256) -> uint256:
    """
    @dev The word of a place.
    @param job The dispute.
    @param round The round.
    @param place The place.
    @return The word, 0 if there is no such place.
    """
    return self.places[job][self._key(round, place)]


@internal
@pure
def _leaf(word: uint256) -> uint256:
    """
    @dev The juror's leaf.
    @param word The place's word.
    @return The leaf's number.
    """
    return word & LEAF_MASK


@internal
@pure
def _votes(word: uint256) -> uint256:
    """
    @dev How many votes a juror has.
    @param word The place's word.
    @return Votes.
    """
    return (word >> VOTES_AT) & VOTES_MASK


@internal
@pure
def _claim(word: uint256) -> uint256:
    """
    @dev The upper bits of what was kept.
    @param word The place's word.
    @return 224 bits, above 32 that are 0.
    """
    return word & ~SEAT_MASK


@internal
@pure
def _upper(digest: bytes32) -> uint256:
    """
    @dev What is kept of a digest.
    @param digest The digest.
    @return 224 bits, above 32 that are 0.
    """
    return convert(digest, uint256) & ~SEAT_MASK


@internal
@pure
def _key(round: uint256, place: uint256) -> uint256:
    """
    @dev Where a place is kept.
    @param round The round.
    @param place The place.
    @return The key.
    """
    return (round << 8) | place
