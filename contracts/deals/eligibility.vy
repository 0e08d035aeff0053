# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Who may take a deal
@license AGPL-3.0-only
@notice An order may name its providers by a Merkle root of their owner addresses,
        and may ask for a proven score. Open work reserves score: the sum of the
        minimum scores of a provider's running deals never exceeds what it has
        proven and still backs, at the moment in which one is added.
@dev Leaf of a list: keccak256(keccak256(owner address as a word)); a node hashes
     its children in sorted order.
"""

from snekmate.utils import merkle_proof_verification as merkle

from ..interfaces import IScores

# Zero: no proven scores exist, and no order may ask for one.
SCORES: public(immutable(IScores))

# Sum of the minimum scores of a provider's running deals.
reserved_score: public(HashMap[address, uint256])


@deploy
def __init__(scores: IScores):
    SCORES = scores


@internal
@view
def _check_can_ask(min_score: uint256):
    """
    @dev Reverts for a minimum score that nobody could ever show.
    """
    assert min_score == 0 or SCORES.address != empty(
        address
    ), "eligibility: no source of scores"


@internal
@pure
def _check_listed(
    provider: address, root: bytes32, proof: DynArray[bytes32, 32]
):
    """
    @dev Reverts unless the path leads from the provider to the root.
    """
    # Walked here: `_verify` takes 255 nodes, and every call would pay for that
    # much memory.
    node: bytes32 = keccak256(keccak256(abi_encode(provider)))
    for sibling: bytes32 in proof:
        node = merkle._hash_pair(node, sibling)
    assert node == root, "eligibility: provider not allowed"


@internal
def _reserve(provider: address, min_score: uint256):
    """
    @dev Sets aside a part of a provider's score; reverts if it has no more.
    """
    if min_score > 0:
        reserved: uint256 = self.reserved_score[provider] + min_score
        assert (
            staticcall SCORES.score(provider) >= reserved
        ), "eligibility: score too low"
        self.reserved_score[provider] = reserved


@internal
def _free(provider: address, min_score: uint256):
    """
    @dev Gives back what a deal has set aside.
    """
    if min_score > 0:
        self.reserved_score[provider] -= min_score
