# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title What a claim of capacity needs to know, in one word
@license AGPL-3.0-only
@notice How much score a TPF backs, from which sum of scores on the whole part is minted,
        and how large that part is.
@dev Low bits first:
     scale    ops_per_tpf 64 | target 80 | the capacity's weight 16
"""

# TPF wei of one TPF.
UNIT: constant(uint256) = 10**18
# Bounds that no owner can leave, in integer operations per second: with less behind a
# TPF no stake would back a GPU; a target of millions of GPUs would end all rewards.
MIN_OPS_PER_TPF: constant(uint256) = 10**3
MAX_OPS_PER_TPF: constant(uint256) = 10**18
MAX_TARGET: constant(uint256) = 10**22
MASK_64: constant(uint256) = 2**64 - 1
MASK_80: constant(uint256) = 2**80 - 1
MASK_144: constant(uint256) = 2**144 - 1
TARGET_AT: constant(uint256) = 64
WEIGHT_AT: constant(uint256) = 144


@internal
@pure
def _pack(ops_per_tpf: uint256, target: uint256, weight: uint256) -> uint256:
    """
    @dev A scale within its hard bounds; the weight is at most 10,000.
    """
    assert (
        ops_per_tpf >= MIN_OPS_PER_TPF and ops_per_tpf <= MAX_OPS_PER_TPF
    ), "emissions: ops_per_tpf out of bounds"
    assert (
        target > 0 and target <= MAX_TARGET
    ), "emissions: target out of bounds"
    return ops_per_tpf | (target << TARGET_AT) | (weight << WEIGHT_AT)


@internal
@pure
def _with_weight(scale: uint256, weight: uint256) -> uint256:
    """
    @dev The same with another weight.
    """
    return (scale & MASK_144) | (weight << WEIGHT_AT)


@internal
@pure
def _ops_per_tpf(scale: uint256) -> uint256:
    return scale & MASK_64


@internal
@pure
def _target(scale: uint256) -> uint256:
    """
    @dev Integer operations per second; never zero.
    """
    return (scale >> TARGET_AT) & MASK_80


@internal
@pure
def _weight(scale: uint256) -> uint256:
    """
    @dev In 1/10,000.
    """
    return scale >> WEIGHT_AT


@internal
@pure
def _backed(stake: uint256, scale: uint256) -> uint256:
    """
    @dev Integer operations per second that a stake (TPF wei) backs.
    """
    return stake * (scale & MASK_64) // UNIT


@internal
@pure
def _is_near(new: uint256, before: uint256) -> bool:
    """
    @dev Neither more than twice nor less than half of what it was.
    """
    return new <= 2 * before and 2 * new >= before
