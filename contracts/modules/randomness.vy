# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Randomness of the current block
@license AGPL-3.0-only
@notice One source for a deployment, since chains differ: prevrandao; the hash of
        the previous block, where prevrandao is constant; or that of the previous
        block as ArbSys names it, where BLOCKHASH follows another chain's numbers.
        Who can bias each is told in docs/soundness.md.
"""


interface ArbSys:
    def arbBlockNumber() -> uint256: view
    def arbBlockHash(number: uint256) -> bytes32: view


PREVRANDAO: constant(uint256) = 0
PREVIOUS_HASH: constant(uint256) = 1
ARBITRUM: constant(uint256) = 2
ARB_SYS: constant(address) = 0x0000000000000000000000000000000000000064

RANDOMNESS: public(immutable(uint256))


@deploy
def __init__(source: uint256):
    assert source <= ARBITRUM, "randomness: unknown source"
    RANDOMNESS = source


@internal
@view
def _now() -> bytes32:
    """
    @dev Never zero: a zero would read as nothing drawn.
    """
    word: bytes32 = empty(bytes32)
    if RANDOMNESS == PREVRANDAO:
        word = block.prevrandao
    elif RANDOMNESS == PREVIOUS_HASH:
        word = blockhash(block.number - 1)
    else:
        sys: ArbSys = ArbSys(ARB_SYS)
        word = staticcall sys.arbBlockHash(staticcall sys.arbBlockNumber() - 1)
    assert word != empty(bytes32), "randomness: none in this block"
    return word
