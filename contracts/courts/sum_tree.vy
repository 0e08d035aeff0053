# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Trees of seats that remember how they stood
@license AGPL-3.0-only
@notice One tree a capability, with a leaf for each juror that ever enlisted in it. A
        leaf holds the juror's seats; a point among all seats finds the leaf that it
        falls into, so a juror is drawn in proportion to its seats.

        I-14 time is cut into periods. Who asks for a jury in a period gets the tree as
        it stood when the period before ended, and can read that until the next period
        ends. So nobody changes a tree after having seen what it decides, and no call
        changes what a point finds.
@dev Four children per node, which is one word: the seats below its first three children;
     what a point leaves of them is below the fourth. One read per level. A leaf keeps its
     number without end, and its digits to the base of four are the way down to it. A tree
     has as many levels as the largest number has digits, in each period its own.

     Key of a node: level 1 (above the leaves) and up << 32 | the digits above it; 0 has
     the sums of the whole tree. Word of a node, low bits first:
     now 72 | before the period of the last change 72 | a period earlier 72 |
     period of the last change 40

     Value: three times seats 24; of key 0 seats 40 | leaves 32.
"""

MAX_PERIOD: constant(uint256) = 30 * 86_400
# The seats of a tree.
SEATS_BITS: constant(uint256) = 24
MAX_SEATS: constant(uint256) = 2**24 - 1
# A place of a jury has 27 bits for a leaf (see docket).
MAX_LEAVES: constant(uint256) = 2**27 - 1
# One more than the digits of a leaf to the base of four.
LEVELS: constant(uint256) = 15
LEVEL_AT: constant(uint256) = 32
LEAVES_AT: constant(uint256) = 40
BEFORE_AT: constant(uint256) = 72
EARLIER_AT: constant(uint256) = 144
CHANGED_AT: constant(uint256) = 216
MASK_72: constant(uint256) = 2**72 - 1

# Seconds for which a tree stands still for those who ask.
PERIOD: public(immutable(uint256))

# tree -> node -> word
nodes: HashMap[bytes32, HashMap[uint256, uint256]]


@deploy
def __init__(period: uint256):
    """
    @notice Fixes the length of a period.
    @param period Seconds.
    """
    assert period > 0 and period <= MAX_PERIOD, "tree: period out of bounds"
    PERIOD = period


@internal
def _append(tree: bytes32, seats: uint256) -> uint256:
    """
    @dev Adds a leaf.
    @param tree The tree.
    @param seats The leaf's seats.
    @return The leaf's number, from 1 on.
    """
    leaf: uint256 = ((self.nodes[tree][0] & MASK_72) >> LEAVES_AT) + 1
    assert leaf <= MAX_LEAVES, "tree: too many leaves"
    self._write(tree, leaf, 0, seats, 1)
    return leaf


@internal
def _change(tree: bytes32, leaf: uint256, before: uint256, seats: uint256):
    """
    @dev Changes the seats of a leaf.
    @param tree The tree.
    @param leaf The leaf's number.
    @param before The seats that it has.
    @param seats The seats that it is to have.
    """
    self._write(tree, leaf, before, seats, 0)


@internal
@view
def _seats(tree: bytes32) -> uint256:
    """
    @dev All seats of a tree now.
    @param tree The tree.
    @return Seats.
    """
    return self.nodes[tree][0] & MAX_SEATS


@internal
@view
def _frozen(tree: bytes32, period: uint256) -> (uint256, uint256):
    """
    @dev What a jury asked for in a period is drawn from; reverts once that is lost.
    @param tree The tree.
    @param period The period of the request.
    @return Seats and leaves at the end of the period before.
    """
    present: uint256 = self._period()
    assert (
        present >= period and present - period <= 1
    ), "tree: period is not kept"
    sums: uint256 = self._at(self.nodes[tree][0], period)
    return sums & MAX_SEATS, sums >> LEAVES_AT


@internal
@pure
def _height(leaves: uint256) -> uint256:
    """
    @dev How many levels of nodes are above the leaves.
    @param leaves What `_frozen` says.
    @return Levels.
    """
    level: uint256 = 0
    for _: uint256 in range(LEVELS):
        if leaves >> (2 * level) == 0:
            break
        level += 1
    return level


@internal
@view
def _find(
    tree: bytes32, period: uint256, height: uint256, point: uint256
) -> uint256:
    """
    @dev The leaf into which a point among the frozen seats falls.
    @param tree The tree.
    @param period The period of the request, kept still.
    @param height What `_height` says of the frozen leaves.
    @param point Below the seats that `_frozen` says.
    @return The leaf's number.
    """
    level: uint256 = height
    found: uint256 = 0
    rest: uint256 = point
    for _: uint256 in range(LEVELS):
        if level == 0:
            break
        below: uint256 = self._at(
            self.nodes[tree][(level << LEVEL_AT) | found], period
        )
        found <<= 2
        for child: uint256 in range(3):
            seats: uint256 = below & MAX_SEATS
            if rest < seats:
                break
            rest -= seats
            below >>= SEATS_BITS
            found += 1
        level -= 1
    return found


@internal
@view
def _period() -> uint256:
    """
    @dev The present period.
    @return Its number.
    """
    return block.timestamp // PERIOD


@internal
def _write(
    tree: bytes32, leaf: uint256, before: uint256, seats: uint256, more: uint256
):
    """
    @dev Writes the seats of a leaf, from the sums of the tree down to its own node.
    @param tree The tree.
    @param leaf The leaf's number.
    @param before Seats that go.
    @param seats Seats that come.
    @param more Leaves that come, 0 or 1.
    """
    period: uint256 = self._period()
    root: uint256 = self.nodes[tree][0]
    sums: uint256 = root & MASK_72
    total: uint256 = sums & MAX_SEATS
    assert total - before + seats <= MAX_SEATS, "tree: too many seats"
    sums = sums - before + seats + (more << LEAVES_AT)
    self.nodes[tree][0] = self._changed(root, period, sums)
    for level: uint256 in range(1, LEVELS):
        node: uint256 = (level << LEVEL_AT) | (leaf >> (2 * level))
        word: uint256 = self.nodes[tree][node]
        is_top: bool = (sums >> LEAVES_AT) >> (2 * level) == 0
        below: uint256 = word & MASK_72
        # A level that is new has the old tree below its first child.
        if word == 0 and is_top:
            below = total
        child: uint256 = (leaf >> (2 * level - 2)) & 3
        if child < 3:
            below = (
                below
                - (before << (SEATS_BITS * child))
                + (seats << (SEATS_BITS * child))
            )
            self.nodes[tree][node] = self._changed(word, period, below)
        if is_top:
            break


@internal
@pure
def _changed(word: uint256, period: uint256, now: uint256) -> uint256:
    """
    @dev A node's word after a change.
    @param word The word before it.
    @param period The period of the change.
    @param now The new value.
    @return The word.
    """
    last: uint256 = word >> CHANGED_AT
    if last == period:
        return (word & ~MASK_72) | now
    before: uint256 = word & MASK_72
    # A period earlier it was the same, unless the last change fell into the period
    # between.
    earlier: uint256 = before
    if last + 1 == period:
        earlier = (word >> BEFORE_AT) & MASK_72
    return (
        now
        | (before << BEFORE_AT)
        | (earlier << EARLIER_AT)
        | (period << CHANGED_AT)
    )


@internal
@pure
def _at(word: uint256, period: uint256) -> uint256:
    """
    @dev A node's value when the period before `period` ended; `period` is the present
         one or the one before it.
    @param word The node's word.
    @param period The period.
    @return The value.
    """
    last: uint256 = word >> CHANGED_AT
    if last < period:
        return word & MASK_72
    if last == period:
        return (word >> BEFORE_AT) & MASK_72
    return (word >> EARLIER_AT) & MASK_72
