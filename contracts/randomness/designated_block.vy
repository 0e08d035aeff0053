# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Randomness of a block that was named before
@license AGPL-3.0-only
@notice A value belongs to a block, and which block that is was fixed before the block
        existed: by a number that somebody has stored, or by a time. So it depends on
        no call, whoever makes it and whenever. One source for a deployment, since
        chains differ: prevrandao, which whoever proposes the block can only withhold;
        the block's hash, where prevrandao is constant; or the hash by ArbSys, where
        BLOCKHASH and block.number follow another chain. docs/soundness.md says who
        can bias each.
@dev For separate purposes take hashes of the value with separate tags.
"""

from . import header_proof


interface ArbSys:
    def arbBlockNumber() -> uint256: view
    def arbBlockHash(number: uint256) -> bytes32: view


PREVRANDAO: constant(uint256) = 0
BLOCK_HASH: constant(uint256) = 1
ARBITRUM: constant(uint256) = 2
# A precompile; one that is not there is seen by its answer, which would be empty.
ARB_SYS: constant(address) = 0x0000000000000000000000000000000000000064
# Hashes further back: EIP-2935, 8,191 blocks. Arbitrum has it at the same address, by
# its own numbers. The contract reverts for blocks that it does not know.
HISTORY: constant(address) = 0x0000F90827F1C53a10cb7A02335B175320002935
# Blocks that BLOCKHASH and ArbSys reach back.
NEAR: constant(uint256) = 256

# 0 prevrandao, 1 block hash, 2 block hash by ArbSys.
SOURCE: public(immutable(uint256))


@deploy
def __init__(source: uint256):
    assert source <= ARBITRUM, "randomness: unknown source"
    SOURCE = source


@internal
@view
def _number() -> uint256:
    """
    @dev The present block, in the chain's own numbers.
    """
    if SOURCE == ARBITRUM:
        return staticcall ArbSys(ARB_SYS).arbBlockNumber(
            skip_contract_check=True
        )
    return block.number


@internal
@view
def _hash_of(number: uint256) -> bytes32:
    """
    @dev Zero for a block that is not there yet, or further back than hashes are kept.
    """
    present: uint256 = self._number()
    if number >= present:
        return empty(bytes32)
    if present - number <= NEAR:
        # Both revert outside their reach.
        if SOURCE == ARBITRUM:
            return staticcall ArbSys(ARB_SYS).arbBlockHash(
                number, skip_contract_check=True
            )
        return blockhash(number)
    done: bool = False
    answer: Bytes[32] = b""
    done, answer = raw_call(
        HISTORY,
        abi_encode(number),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    # No code at that address answers with nothing.
    if not done or len(answer) != 32:
        return empty(bytes32)
    return convert(answer, bytes32)


@internal
@view
def _value(
    number: uint256, header: Bytes[header_proof.MAX_HEADER]
) -> (uint256, bytes32):
    """
    @dev Timestamp and value of a block that is there. The value is never zero: a zero
         would read as none. Where it is the hash the header may be empty, and then the
         timestamp is zero.
    """
    digest: bytes32 = self._hash_of(number)
    assert digest != empty(bytes32), "randomness: no hash of the block"
    if SOURCE != PREVRANDAO and len(header) == 0:
        return 0, digest
    assert keccak256(header) == digest, "header: not of that block"
    timestamp: uint256 = 0
    mix: bytes32 = empty(bytes32)
    timestamp, mix = header_proof._fields(header)
    if SOURCE != PREVRANDAO:
        return timestamp, digest
    assert mix != empty(bytes32), "randomness: none in the block"
    return timestamp, mix


@internal
@view
def _first_block(
    number: uint256,
    header: Bytes[header_proof.MAX_HEADER],
    parent: Bytes[header_proof.MAX_HEADER],
    time: uint256,
) -> (uint256, bytes32):
    """
    @dev Timestamp and value of block `number`, if it is the first one not before
         `time` (unix seconds, not 0): its parent is. One block for a time, so one value.
    """
    timestamp: uint256 = 0
    word: bytes32 = empty(bytes32)
    timestamp, word = self._value(number, header)
    # Also where the header is empty.
    assert timestamp >= time, "randomness: block is too early"
    assert keccak256(parent) == extract32(
        header, header_proof.PARENT
    ), "header: not of the parent"
    before: uint256 = 0
    ignored: bytes32 = empty(bytes32)
    before, ignored = header_proof._fields(parent)
    assert before < time, "randomness: not the first block"
    return timestamp, word
