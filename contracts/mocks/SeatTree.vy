# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title The trees of seats by themselves, for tests
@license AGPL-3.0-only
"""

from ..courts import sum_tree

initializes: sum_tree

exports: sum_tree.PERIOD


@deploy
def __init__(period: uint256):
    sum_tree.__init__(period)


@external
def append(tree: bytes32, seats: uint256) -> uint256:
    """
    @notice Adds a leaf; returns its number.
    @param tree The tree.
    @param seats Its seats.
    """
    return sum_tree._append(tree, seats)


@external
def change(tree: bytes32, leaf: uint256, before: uint256, seats: uint256):
    """
    @notice Changes the seats of a leaf.
    @param tree The tree.
    @param leaf The leaf.
    @param before The seats that it has.
    @param seats The seats that it is to have.
    """
    sum_tree._change(tree, leaf, before, seats)


@external
@view
def seats(tree: bytes32) -> uint256:
    """
    @notice Returns all seats of a tree now.
    @param tree The tree.
    """
    return sum_tree._seats(tree)


@external
@view
def frozen(tree: bytes32, period: uint256) -> (uint256, uint256):
    """
    @notice Returns seats and leaves that a request of a period is drawn from.
    @param tree The tree.
    @param period The period.
    """
    return sum_tree._frozen(tree, period)


@external
@view
def find(tree: bytes32, period: uint256, point: uint256) -> uint256:
    """
    @notice Returns the leaf into which a point falls.
    @param tree The tree.
    @param period The period of the request.
    @param point Below the frozen seats.
    """
    seats: uint256 = 0
    leaves: uint256 = 0
    seats, leaves = sum_tree._frozen(tree, period)
    return sum_tree._find(tree, period, sum_tree._height(leaves), point)


@external
@view
def find_all(
    tree: bytes32, period: uint256, points: DynArray[uint256, 1024]
) -> DynArray[uint256, 1024]:
    """
    @notice Returns the leaf of each point.
    @param tree The tree.
    @param period The period of the request.
    @param points Each below the frozen seats.
    """
    seats: uint256 = 0
    leaves: uint256 = 0
    seats, leaves = sum_tree._frozen(tree, period)
    found: DynArray[uint256, 1024] = []
    for point: uint256 in points:
        found.append(
            sum_tree._find(tree, period, sum_tree._height(leaves), point)
        )
    return found
