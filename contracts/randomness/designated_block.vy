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
        BLOCKHASH and block.number follow another chain. Who can bias each is told in
        docs/soundness.md.
@dev Tagged hashes of one value serve separate purposes: `_tagged`.
"""

from . import header_proof


interface ArbSys:
    def arbBlockNumber() -> uint256: view
    def arbBlockHash(number: uint256) -> bytes32: view


PREVRANDAO: constant(uint256) = 0
BLOCK_HASH: constant(uint256) = 1
ARBITRUM: constant(uint256) = 2
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
        return staticcall ArbSys(ARB_SYS).arbBlockNumber()
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
            return staticcall ArbSys(ARB_SYS).arbBlockHash(number)
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
def _value(number: uint256, header: Bytes[header_proof.MAX_HEADER]) -> bytes32:
    """
    @dev The value of a block that is there, never zero: a zero would read as none. The
         header may be empty where the value is the hash.
    """
    digest: bytes32 = self._hash_of(number)
    assert digest != empty(bytes32), "randomness: no hash of that block"
    if SOURCE != PREVRANDAO:
        return digest
    assert keccak256(header) == digest, "header: not of that block"
    found: uint256 = 0
    timestamp: uint256 = 0
    mix: bytes32 = empty(bytes32)
    found, timestamp, mix = header_proof._fields(header)
    assert found == number, "header: wrong number"
    assert mix != empty(bytes32), "randomness: none in that block"
    return mix


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
         `time` (unix seconds): its parent is. One block for a time, so one value.
    """
    digest: bytes32 = self._hash_of(number)
    assert digest != empty(bytes32), "randomness: no hash of that block"
    assert keccak256(header) == digest, "header: not of that block"
    assert keccak256(parent) == extract32(
        header, header_proof.PARENT
    ), "header: not of the parent"
    found: uint256 = 0
    timestamp: uint256 = 0
    value: bytes32 = empty(bytes32)
    found, timestamp, value = header_proof._fields(header)
    assert found == number, "header: wrong number"
    assert timestamp >= time, "randomness: block is too early"
    before: uint256 = 0
    ignored: bytes32 = empty(bytes32)
    found, before, ignored = header_proof._fields(parent)
    assert before < time, "randomness: not the first block"
    if SOURCE != PREVRANDAO:
        value = digest
    assert value != empty(bytes32), "randomness: none in that block"
    return timestamp, value


@internal
@pure
def _tagged(tag: String[16], word: bytes32) -> bytes32:
    """
    @dev A block's value for one purpose: another tag, another word.
    """
    return keccak256(concat(convert(tag, Bytes[16]), word))
