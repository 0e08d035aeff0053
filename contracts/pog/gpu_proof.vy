# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Proof-of-GPU, format v2
@license AGPL-3.0-only
@notice What a proof of exact integer matrix products is made of, as fixed in
        docs/proof-format.md: challenge, seeds, samples, and the check of one
        entry of a product against the commitment of all of them.
@dev An opening is a row of 32-byte words, as many as the dimensions, the number of
     rounds and the sample say, so a path that is too long or too short has
     nowhere to go:
     root(t-2), root(t), the leaf (16 words), the path of the leaf, the path of
     root(t-2) up to where it meets that of root(t), the path of root(t).
     For t < 2 there is no earlier root: zero, and no path.
"""

# Two roots and a leaf.
FIXED_WORDS: constant(uint256) = 18
# N = 65,536 (23 levels) and 2**24 rounds.
MAX_OPENING: constant(uint256) = FIXED_WORDS + 23 + 2 * 24
MAX_LEVELS: constant(uint256) = 24
MAX_ROUNDS: constant(uint256) = 2**24
MAX_BLOCKS: constant(uint256) = 277
TAG: constant(bytes32) = keccak256("TERAPROOF-POG-2")
# 0x7f, ten times, 24 bits apart (a constant cannot be written in hexadecimal); the
# lanes of phases 1 and 2 lie 8 and 16 bits higher.
LANES_0: constant(
    uint256
) = 13374661839098730621088111620096103644740229823793973414624774586495
LANES_1: constant(uint256) = LANES_0 << 8
LANES_2: constant(uint256) = LANES_0 << 16
# The prime below 2**256 by which words are squared.
P: constant(uint256) = max_value(uint256) - 188


@internal
@pure
def _levels(count: uint256) -> uint256:
    """
    @dev The least d with 2**d >= count, for 1 <= count <= 2**24.
    """
    rest: uint256 = count - 1
    levels: uint256 = 0
    if rest >> 16 != 0:
        levels = 16
        rest >>= 16
    if rest >> 8 != 0:
        levels += 8
        rest >>= 8
    if rest >> 4 != 0:
        levels += 4
        rest >>= 4
    if rest >> 2 != 0:
        levels += 2
        rest >>= 2
    # What is left is 0 to 3, of 0, 1, 2 and 2 bits.
    return levels + rest - rest // 3


@internal
@pure
def _leaf_levels(n: uint256) -> uint256:
    """
    @dev Levels from a leaf (512 entries of a product of n rows and columns) to the
         root of its round.
    """
    return self._levels(n * n >> 9)


@internal
@view
def _challenge(
    epoch: uint256,
    beacon: bytes32,
    provider: address,
    n: uint256,
    blocks: uint256,
) -> bytes32:
    return keccak256(
        abi_encode(TAG, chain.id, self, epoch, beacon, provider, n, blocks)
    )


@internal
@pure
def _draw_seed(
    draw: bytes32, rounds: uint256, commitment: bytes32, challenge: bytes32
) -> bytes32:
    return keccak256(abi_encode(draw, rounds, commitment, challenge))


@internal
@pure
def _sample(
    seed: bytes32, number: uint256, rounds: uint256, n: uint256
) -> (uint256, uint256, uint256):
    """
    @dev Round, row and column of a sample.
    """
    x: uint256 = convert(keccak256(abi_encode(seed, number)), uint256)
    return x % rounds, (x >> 64) % n, (x >> 128) % n


@internal
@pure
def _score(
    n: uint256, blocks: uint256, rounds: uint256, window: uint256
) -> uint256:
    """
    @dev Integer operations per second, a product and a sum counted as two.
    """
    return 2 * n * n * 480 * blocks * rounds // window


@internal
@pure
def _check(
    opening: DynArray[bytes32, MAX_OPENING],
    challenge: bytes32,
    commitment: bytes32,
    t: uint256,
    i: uint256,
    j: uint256,
    n: uint256,
    blocks: uint256,
    leaf_levels: uint256,
    root_levels: uint256,
):
    """
    @dev Reverts unless the opening shows the right value of C_t[i][j]. The caller sees
         to it that i and j are below n and t below the rounds; `leaf_levels` is
         `_leaf_levels(n)`, `root_levels` the `_levels` of the rounds.
    """
    root_before: bytes32 = opening[0]
    # Levels from root(t) and root(t-2) to the node above both.
    joint: uint256 = 0
    if t < 2:
        assert root_before == empty(bytes32), "benchmark: wrong earlier root"
    else:
        joint = self._levels((t ^ (t - 2)) + 1)
    assert (
        len(opening) == FIXED_WORDS + leaf_levels + joint + root_levels
    ), "benchmark: wrong length"

    node: bytes32 = keccak256(
        abi_encode(
            opening[2],
            opening[3],
            opening[4],
            opening[5],
            opening[6],
            opening[7],
            opening[8],
            opening[9],
            opening[10],
            opening[11],
            opening[12],
            opening[13],
            opening[14],
            opening[15],
            opening[16],
            opening[17],
        )
    )
    # Nothing here can leave 256 bits, so nothing is checked twice.
    number: uint256 = unsafe_add(unsafe_mul(i, n), j)
    index: uint256 = number >> 9
    position: uint256 = FIXED_WORDS
    levels: uint256 = leaf_levels
    above_both: bytes32 = empty(bytes32)
    # From the leaf to root(t); from root(t-2) to the node above both; from root(t)
    # to that node; from there to the commitment.
    for part: uint256 in range(4):
        # Bit `at` of `turns` says whether the node is the right one where the
        # sibling is word `at` of the opening.
        turns: uint256 = index << position
        end: uint256 = unsafe_add(position, levels)
        for at: uint256 in range(position, end, bound=MAX_LEVELS):
            if (turns >> at) & 1 == 0:
                node = keccak256(abi_encode(node, opening[at]))
            else:
                node = keccak256(abi_encode(opening[at], node))
        position = end
        if part == 0:
            assert node == opening[1], "benchmark: wrong leaf path"
            node = root_before
            index = unsafe_sub(t, 2)
            levels = joint
        elif part == 1:
            above_both = node
            node = opening[1]
            index = t
        elif part == 2:
            assert (
                joint == 0 or node == above_both
            ), "benchmark: wrong earlier path"
            index >>= joint
            levels = unsafe_sub(root_levels, joint)
    assert node == commitment, "benchmark: wrong root path"

    # Thirty-two values of 8 bits to a word of the leaf, the first one on top.
    place: uint256 = number & 511
    shown: uint256 = convert(opening[unsafe_add(2, place >> 5)], uint256) >> (
        unsafe_sub(248, (place & 31) << 3)
    )
    computed: uint256 = self._entry(
        keccak256(concat(challenge, b"A")),
        keccak256(concat(challenge, b"B", convert(t, bytes32), root_before)),
        i,
        j,
        blocks,
    )
    assert computed == shown & 255, "benchmark: wrong value"


@internal
@pure
def _entry(
    seed_a: bytes32, seed_b: bytes32, i: uint256, j: uint256, blocks: uint256
) -> uint256:
    """
    @dev C[i][j] modulo 2**8: row i of A times column j of B. Lane k of a word of A
         meets lane 9 - k of a word of B, so one multiplication adds ten products in
         the tenth lane. The lanes of the three phases stay where they are in both
         words, so those lanes begin at bits 216, 232 and 248: the last one holds
         just the 8 bits that count, and nothing needs a shift before it is summed.
         What a lane grows by in sixteen words stays below 2**22, so the nine
         below it do not spill over.
    """
    row: uint256 = i << 128
    column: uint256 = j << 128
    total: uint256 = 0
    for n: uint256 in range(blocks, bound=MAX_BLOCKS):
        a0: uint256 = convert(keccak256(abi_encode(seed_a, row | n)), uint256)
        b0: uint256 = convert(
            keccak256(abi_encode(seed_b, column | n)), uint256
        )
        a1: uint256 = uint256_mulmod(a0, a0, P)
        a2: uint256 = uint256_mulmod(a1, a1, P)
        a3: uint256 = uint256_mulmod(a2, a2, P)
        a4: uint256 = uint256_mulmod(a3, a3, P)
        a5: uint256 = uint256_mulmod(a4, a4, P)
        a6: uint256 = uint256_mulmod(a5, a5, P)
        a7: uint256 = uint256_mulmod(a6, a6, P)
        a8: uint256 = uint256_mulmod(a7, a7, P)
        a9: uint256 = uint256_mulmod(a8, a8, P)
        a10: uint256 = uint256_mulmod(a9, a9, P)
        a11: uint256 = uint256_mulmod(a10, a10, P)
        a12: uint256 = uint256_mulmod(a11, a11, P)
        a13: uint256 = uint256_mulmod(a12, a12, P)
        a14: uint256 = uint256_mulmod(a13, a13, P)
        a15: uint256 = uint256_mulmod(a14, a14, P)
        b1: uint256 = uint256_mulmod(b0, b0, P)
        b2: uint256 = uint256_mulmod(b1, b1, P)
        b3: uint256 = uint256_mulmod(b2, b2, P)
        b4: uint256 = uint256_mulmod(b3, b3, P)
        b5: uint256 = uint256_mulmod(b4, b4, P)
        b6: uint256 = uint256_mulmod(b5, b5, P)
        b7: uint256 = uint256_mulmod(b6, b6, P)
        b8: uint256 = uint256_mulmod(b7, b7, P)
        b9: uint256 = uint256_mulmod(b8, b8, P)
        b10: uint256 = uint256_mulmod(b9, b9, P)
        b11: uint256 = uint256_mulmod(b10, b10, P)
        b12: uint256 = uint256_mulmod(b11, b11, P)
        b13: uint256 = uint256_mulmod(b12, b12, P)
        b14: uint256 = uint256_mulmod(b13, b13, P)
        b15: uint256 = uint256_mulmod(b14, b14, P)
        # Phase 0, 1 and 2; what lies above the 8 bits of each is dropped at the end.
        total = unsafe_add(
            unsafe_add(
                total,
                unsafe_add(
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a0 & LANES_0, b0 & LANES_0),
                                unsafe_mul(a1 & LANES_0, b1 & LANES_0),
                            ),
                            unsafe_add(
                                unsafe_mul(a2 & LANES_0, b2 & LANES_0),
                                unsafe_mul(a3 & LANES_0, b3 & LANES_0),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a4 & LANES_0, b4 & LANES_0),
                                unsafe_mul(a5 & LANES_0, b5 & LANES_0),
                            ),
                            unsafe_add(
                                unsafe_mul(a6 & LANES_0, b6 & LANES_0),
                                unsafe_mul(a7 & LANES_0, b7 & LANES_0),
                            ),
                        ),
                    ),
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a8 & LANES_0, b8 & LANES_0),
                                unsafe_mul(a9 & LANES_0, b9 & LANES_0),
                            ),
                            unsafe_add(
                                unsafe_mul(a10 & LANES_0, b10 & LANES_0),
                                unsafe_mul(a11 & LANES_0, b11 & LANES_0),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a12 & LANES_0, b12 & LANES_0),
                                unsafe_mul(a13 & LANES_0, b13 & LANES_0),
                            ),
                            unsafe_add(
                                unsafe_mul(a14 & LANES_0, b14 & LANES_0),
                                unsafe_mul(a15 & LANES_0, b15 & LANES_0),
                            ),
                        ),
                    ),
                )
                >> 216,
            ),
            unsafe_add(
                unsafe_add(
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a0 & LANES_1, b0 & LANES_1),
                                unsafe_mul(a1 & LANES_1, b1 & LANES_1),
                            ),
                            unsafe_add(
                                unsafe_mul(a2 & LANES_1, b2 & LANES_1),
                                unsafe_mul(a3 & LANES_1, b3 & LANES_1),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a4 & LANES_1, b4 & LANES_1),
                                unsafe_mul(a5 & LANES_1, b5 & LANES_1),
                            ),
                            unsafe_add(
                                unsafe_mul(a6 & LANES_1, b6 & LANES_1),
                                unsafe_mul(a7 & LANES_1, b7 & LANES_1),
                            ),
                        ),
                    ),
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a8 & LANES_1, b8 & LANES_1),
                                unsafe_mul(a9 & LANES_1, b9 & LANES_1),
                            ),
                            unsafe_add(
                                unsafe_mul(a10 & LANES_1, b10 & LANES_1),
                                unsafe_mul(a11 & LANES_1, b11 & LANES_1),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a12 & LANES_1, b12 & LANES_1),
                                unsafe_mul(a13 & LANES_1, b13 & LANES_1),
                            ),
                            unsafe_add(
                                unsafe_mul(a14 & LANES_1, b14 & LANES_1),
                                unsafe_mul(a15 & LANES_1, b15 & LANES_1),
                            ),
                        ),
                    ),
                )
                >> 232,
                unsafe_add(
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a0 & LANES_2, b0 & LANES_2),
                                unsafe_mul(a1 & LANES_2, b1 & LANES_2),
                            ),
                            unsafe_add(
                                unsafe_mul(a2 & LANES_2, b2 & LANES_2),
                                unsafe_mul(a3 & LANES_2, b3 & LANES_2),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a4 & LANES_2, b4 & LANES_2),
                                unsafe_mul(a5 & LANES_2, b5 & LANES_2),
                            ),
                            unsafe_add(
                                unsafe_mul(a6 & LANES_2, b6 & LANES_2),
                                unsafe_mul(a7 & LANES_2, b7 & LANES_2),
                            ),
                        ),
                    ),
                    unsafe_add(
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a8 & LANES_2, b8 & LANES_2),
                                unsafe_mul(a9 & LANES_2, b9 & LANES_2),
                            ),
                            unsafe_add(
                                unsafe_mul(a10 & LANES_2, b10 & LANES_2),
                                unsafe_mul(a11 & LANES_2, b11 & LANES_2),
                            ),
                        ),
                        unsafe_add(
                            unsafe_add(
                                unsafe_mul(a12 & LANES_2, b12 & LANES_2),
                                unsafe_mul(a13 & LANES_2, b13 & LANES_2),
                            ),
                            unsafe_add(
                                unsafe_mul(a14 & LANES_2, b14 & LANES_2),
                                unsafe_mul(a15 & LANES_2, b15 & LANES_2),
                            ),
                        ),
                    ),
                )
                >> 248,
            ),
        )
    return total & 255
