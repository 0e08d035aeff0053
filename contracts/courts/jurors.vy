# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Jurors: providers that lock stake to judge what they can run
@license AGPL-3.0-only
@notice A juror is a provider; it enlists for a capability (kind of job, runtime and
        hardware, as one digest) with seats, each with SEAT TPF of the owner's own
        stake behind it, locked for TERM. A seat counts while half of that is behind it.

        I-2  a juror resigns at any time, and its lock ends once no jury that it can
             have been drawn into can still be at work; in any case by its expiry.
        I-14 who is drawn depends on nothing that happens once the jury was asked for:
             seats change from the next period on; the keys that bar a juror are those
             it enlisted with; a term is renewed while it lasts, and a juror without
             seats comes back only when no jury can find the old ones any more. So a
             juror is never skipped for being busy, fined or short of stake. A party's
             payout address bars nobody: it can be set to that of any juror.
@dev Words packed by hand, low bits first:
     member   owner 160 | seats 32 | last period 32 | period in which it went 32
     links    operator 128 | payout address 128, of both the low bits: to match them
              takes 2**128 keys
     The lock's id in Staking is the capability.
"""

from . import sum_tree
from ..interfaces import IDisputes
from ..interfaces import IStaking

uses: sum_tree

MASK_32: constant(uint256) = 2**32 - 1
MASK_128: constant(uint256) = 2**128 - 1
MASK_160: constant(uint256) = 2**160 - 1
SEATS_AT: constant(uint256) = 160
LAST_AT: constant(uint256) = 192
WENT_AT: constant(uint256) = 224
# A juror in a jury: leaf 27 | votes 5.
LEAF_MASK: constant(uint256) = 2**27 - 1
ONE_VOTE: constant(uint256) = 2**27
# Points a vote, and as many again, until a jury counts as not to be had.
TRIES: constant(uint256) = 8
MOST_TRIES: constant(uint256) = 256
# So that no capability ever has more seats than a tree can count: 167 million TPF.
LEAST_SEAT: constant(uint256) = 10**19

STAKING: public(immutable(IStaking))
# TPF wei behind a seat when it is taken.
SEAT: public(immutable(uint256))
# Seconds for which seats are locked.
TERM: public(immutable(uint256))
# Seconds for which a jury can be at work, with all that may follow.
_LONGEST: immutable(uint256)

# juror -> capability -> leaf, 0 for none
leaf_of: public(HashMap[address, HashMap[bytes32, uint256]])
# capability -> leaf -> word
members: HashMap[bytes32, HashMap[uint256, uint256]]
links: HashMap[bytes32, HashMap[uint256, uint256]]


@deploy
def __init__(
    staking: IStaking,
    seat: uint256,
    term: uint256,
    longest: uint256,
):
    """
    @notice Fixes what a seat costs.
    @param staking The provider registry; must list this contract as a manager.
    @param seat TPF wei behind a seat.
    @param term Seconds for which seats are locked.
    @param longest Seconds for which a jury can be at work, with all that may follow.
    """
    assert staking.address != empty(address), "jurors: zero staking"
    assert seat >= LEAST_SEAT and seat <= MASK_128, "jurors: seat out of bounds"
    assert term <= staticcall staking.MAX_LOCK(), "jurors: term above MAX_LOCK"
    # Who enlists can be drawn for two whole periods at least.
    assert term >= longest + 4 * sum_tree.PERIOD, "jurors: term too short"
    STAKING = staking
    SEAT = seat
    TERM = term
    _LONGEST = longest


# ------------------------------------------------------------------- seats


@external
def enlist(capability: bytes32, seats: uint256):
    """
    @notice The operator of a provider takes seats for a term, adds some, or renews the
            term of those that it has; never fewer than it has locked for. What fines
            have taken is filled up. The seats count from the next period on.
    @param capability The digest of what jurors must be able to run.
    @param seats How many it is to have, 1 or more.
    """
    juror: address = staticcall STAKING.provider_of(msg.sender)
    assert juror != empty(address), "jurors: unknown operator"
    assert seats > 0 and seats <= MASK_32, "jurors: seats out of bounds"
    present: uint256 = sum_tree._period()
    leaf: uint256 = self.leaf_of[juror][capability]
    before: uint256 = 0
    if leaf == 0:
        leaf = sum_tree._append(capability, seats)
        self.leaf_of[juror][capability] = leaf
        self._link(capability, leaf, juror)
    else:
        word: uint256 = self.members[capability][leaf]
        before = self._seats_of(word)
        if before == 0:
            # The last jury that can find the old seats was asked for in the period in
            # which it went, and is drawn before the next one ends.
            assert present >= (word >> WENT_AT) + 2, "jurors: went too recently"
            self._link(capability, leaf, juror)
        else:
            assert not self._is_over(word, present), "jurors: term is over"
        assert (
            seats >= before and seats * SEAT >= self._locked(juror, capability)
        ), "jurors: fewer seats than before"
        extcall STAKING.unlock(juror, capability)
        sum_tree._change(capability, leaf, before, seats)
    expires_at: uint256 = block.timestamp + TERM
    # A jury asked for in the last second of that period has ended by the expiry.
    last: uint256 = (expires_at - _LONGEST) // sum_tree.PERIOD - 1
    self.members[capability][leaf] = self._pack(juror, seats, last, 0)
    extcall STAKING.lock(msg.sender, capability, seats * SEAT, expires_at, 0)
    log IDisputes.Enlisted(
        juror=juror,
        capability=capability,
        leaf=leaf,
        seats=seats,
        expires_at=expires_at,
        last_period=last,
    )


@external
def resign(juror: address, capability: bytes32):
    """
    @notice Gives up all seats. Juries asked for before the period ends may still find
            them. The owner itself, or its operator.
    @param juror The provider's owner address.
    @param capability What it enlisted for.
    """
    assert (
        msg.sender == juror
        or msg.sender == staticcall STAKING.operator_of(juror)
    ), "jurors: caller is not the juror"
    leaf: uint256 = self.leaf_of[juror][capability]
    word: uint256 = self.members[capability][leaf]
    assert self._seats_of(word) > 0, "jurors: no seats"
    self._lower(capability, leaf, word, 0)


@external
def evict(juror: address, capability: bytes32):
    """
    @notice Takes the seats of a juror whose term is over, or that too little is locked
            behind. Anyone may call it.
    @param juror The provider's owner address.
    @param capability What it enlisted for.
    """
    leaf: uint256 = self.leaf_of[juror][capability]
    word: uint256 = self.members[capability][leaf]
    backed: uint256 = 0
    if not self._is_over(word, sum_tree._period()):
        backed = self._locked(juror, capability) // (SEAT // 2)
    assert backed < self._seats_of(word), "jurors: nothing to evict"
    self._lower(capability, leaf, word, backed)


@external
def leave(juror: address, capability: bytes32):
    """
    @notice Ends the lock of a juror without seats once no jury that can have drawn it
            is at work any more. Anyone may call it.
    @param juror The provider's owner address.
    @param capability What it enlisted for.
    """
    word: uint256 = self.members[capability][self.leaf_of[juror][capability]]
    assert (
        word != 0 and self._seats_of(word) == 0
    ), "jurors: not without seats"
    assert (
        block.timestamp > ((word >> WENT_AT) + 1) * sum_tree.PERIOD + _LONGEST
    ), "jurors: may still sit in a jury"
    extcall STAKING.unlock(juror, capability)
    log IDisputes.Left(juror=juror, capability=capability)


# ------------------------------------------------------------------- views


@external
@view
def seats(capability: bytes32) -> uint256:
    """
    @notice Returns all seats of a capability now.
    @param capability The digest of what jurors must be able to run.
    """
    return sum_tree._seats(capability)


@external
@view
def juror_of(capability: bytes32, leaf: uint256) -> uint256:
    """
    @notice Returns the word of a juror: owner 160 | seats 32 | the last period in which
            juries that it may sit in are asked for 32 | the period in which it lost all
            seats 32, low bits first; 0 for none.
    @param capability What it enlisted for.
    @param leaf The leaf's number.
    """
    return self.members[capability][leaf]


# ---------------------------------------------------------------- internal


@internal
@view
def _pick(
    case: IDisputes.Case,
    period: uint256,
    seed: bytes32,
    votes: uint256,
    sat: DynArray[uint256, 62],
) -> DynArray[uint256, 31]:
    """
    @dev Draws a jury by frozen seats, with replacement: who is drawn again has one more
         vote. Nothing but the seed, the case and what stood before the request counts.
         A point on who sat in an earlier jury is a vote that nobody casts: else a small
         part of the seats would decide an appeal from a jury that holds most of them.
    @param case The case.
    @param period The period of the request.
    @param seed What draws.
    @param votes How many votes the jury has.
    @param sat Leaves of the jurors that sat in an earlier jury.
    @return Each juror: leaf 27 | votes 5; none if there is nobody to vote, or if too many
            points fell on barred ones.
    """
    seats: uint256 = 0
    leaves: uint256 = 0
    seats, leaves = sum_tree._frozen(case.capability, period)
    jury: DynArray[uint256, 31] = []
    if seats == 0:
        return jury
    height: uint256 = sum_tree._height(leaves)
    missing: uint256 = votes
    for number: uint256 in range(TRIES * votes + TRIES, bound=MOST_TRIES):
        leaf: uint256 = sum_tree._find(
            case.capability,
            period,
            height,
            convert(keccak256(abi_encode(seed, number)), uint256) % seats,
        )
        place: uint256 = 0
        for juror: uint256 in jury:
            if juror & LEAF_MASK == leaf:
                break
            place += 1
        if place < len(jury):
            jury[place] += ONE_VOTE
        elif self._is_barred(case, leaf, period):
            continue
        elif leaf not in sat:
            jury.append(leaf | ONE_VOTE)
        missing -= 1
        if missing == 0:
            return jury
    return []


@internal
@view
def _is_barred(case: IDisputes.Case, leaf: uint256, period: uint256) -> bool:
    """
    @dev Whether a juror may not sit in a case: it is the provider or the requester, by
         any of its keys or theirs, or the one that the requester was the operator of; or
         its term was over when the jury was asked for.
    @param case The case.
    @param leaf The juror's leaf.
    @param period The period of the request.
    @return True if it may not.
    """
    word: uint256 = self.members[case.capability][leaf]
    if self._is_over(word, period):
        return True
    owner: uint256 = word & MASK_128
    keys: uint256 = self.links[case.capability][leaf]
    operator: uint256 = keys & MASK_128
    payout: uint256 = keys >> 128
    for party: address in [
        case.provider,
        case.requester,
        case.operator,
        case.principal,
    ]:
        key: uint256 = convert(party, uint256) & MASK_128
        if key == owner or key == operator or key == payout:
            return True
    return False


@internal
@view
def _seats_behind(operator: address, capability: bytes32) -> uint256:
    """
    @dev The seats of the provider that a key signs for.
    @param operator The key.
    @param capability What it enlisted for.
    @return Seats; 0 if it signs for none.
    """
    juror: address = staticcall STAKING.provider_of(operator)
    return self._seats_of(
        self.members[capability][self.leaf_of[juror][capability]]
    )


@internal
@view
def _owner(capability: bytes32, leaf: uint256) -> address:
    """
    @dev Who has a leaf.
    @param capability What it enlisted for.
    @param leaf The leaf's number.
    @return The provider's owner address.
    """
    return self._owner_of(self.members[capability][leaf])


@internal
def _fine(capability: bytes32, leaf: uint256, amount: uint256):
    """
    @dev Burns stake of a juror, and takes the seats that too little is left behind.
    @param capability What it enlisted for.
    @param leaf The juror's leaf.
    @param amount TPF wei.
    """
    word: uint256 = self.members[capability][leaf]
    juror: address = self._owner_of(word)
    left: uint256 = extcall STAKING.fine(juror, capability, amount)
    log IDisputes.Fined(
        juror=juror, capability=capability, amount=amount, left=left
    )
    backed: uint256 = left // (SEAT // 2)
    if backed < self._seats_of(word):
        self._lower(capability, leaf, word, backed)


@internal
def _lower(capability: bytes32, leaf: uint256, word: uint256, seats: uint256):
    """
    @dev Takes seats of a juror from the next period on.
    @param capability What it enlisted for.
    @param leaf The juror's leaf.
    @param word The juror's word.
    @param seats How many are left.
    """
    went: uint256 = 0
    if seats == 0:
        went = sum_tree._period()
    juror: address = self._owner_of(word)
    sum_tree._change(capability, leaf, self._seats_of(word), seats)
    self.members[capability][leaf] = self._pack(
        juror, seats, (word >> LAST_AT) & MASK_32, went
    )
    log IDisputes.SeatsLost(juror=juror, capability=capability, seats=seats)


@internal
def _link(capability: bytes32, leaf: uint256, juror: address):
    """
    @dev Writes down the keys that a juror enlists with.
    @param capability What it enlists for.
    @param leaf Its leaf.
    @param juror The provider's owner address.
    """
    payout: address = staticcall STAKING.payout_of(juror)
    self.links[capability][leaf] = (convert(msg.sender, uint256) & MASK_128) | (
        convert(payout, uint256) << 128
    )


@internal
@view
def _locked(juror: address, capability: bytes32) -> uint256:
    """
    @dev What is locked behind a juror's seats; nothing once the lock has expired.
    @param juror The provider's owner address.
    @param capability What it enlisted for.
    @return TPF wei.
    """
    amount: uint256 = 0
    expires_at: uint256 = 0
    amount, expires_at = staticcall STAKING.lock_of(self, juror, capability)
    return amount if block.timestamp <= expires_at else 0


@internal
@pure
def _is_over(word: uint256, period: uint256) -> bool:
    """
    @dev Whether a jury asked for in a period could outlast a juror's lock.
    @param word The juror's word.
    @param period The period.
    @return True if it could.
    """
    return period > (word >> LAST_AT) & MASK_32


@internal
@pure
def _owner_of(word: uint256) -> address:
    """
    @dev The owner in a juror's word.
    @param word The word.
    @return The provider's owner address.
    """
    return convert(word & MASK_160, address)


@internal
@pure
def _seats_of(word: uint256) -> uint256:
    """
    @dev The seats in a juror's word.
    @param word The word.
    @return Seats.
    """
    return (word >> SEATS_AT) & MASK_32


@internal
@pure
def _pack(
    owner: address, seats: uint256, last: uint256, went: uint256
) -> uint256:
    """
    @dev Packs a juror's word.
    @param owner The provider's owner address.
    @param seats Seats.
    @param last The last period in which juries that it may sit in are asked for.
    @param went The period in which it lost all seats, 0 if it has some.
    @return The word.
    """
    return (
        convert(owner, uint256)
        | (seats << SEATS_AT)
        | (last << LAST_AT)
        | (went << WENT_AT)
    )
