# SPDX-License-Identifier: Apache-2.0
"""What a cheater of Proof-of-GPU can expect: formulas, and a search over its strategies.

Amounts are in units of w, what an honest provider gets for an epoch. A provider does a part d of
what it can do in the window and claims m times what it can do, so the part f = 1 - d/m of its
claim is false. The draw is nobody's choice unless an argument says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMPARED_BITS = 8
_DEPTH_OF_BLOCK = 480

_Floats = NDArray[np.float64]


def passes(false_part: float, samples: int) -> float:
    """The probability that no sample shows a false entry; a false one fits by chance at 2^-8."""
    return float((1 - false_part * (1 - 2**-COMPARED_BITS)) ** samples)


def change(
    work: float, claim: float, samples: int, cost: float, bond: float, bits: float = 0
) -> float:
    """What cheating adds to an honest epoch's expected profit, in units of w.

    Rewards are taken as proportional to the claim, which is the best case for a cheater.

    Args:
        work: d, the part of the window's work that is done, 0 to 1.
        claim: m, what is claimed, in multiples of an honest claim; at least `work`.
        samples: S.
        cost: c, energy of a full window, in units of w.
        bond: B in units of w.
        bits: g, by how many bits somebody can vary the draw, once the commitment stands.
    """
    passed = passes(1 - work / claim, samples)
    # Of 2^g draws it takes one that passes, if there is one.
    if bits > 0 and passed < 1:
        passed = -math.expm1(2**bits * math.log1p(-passed))
    cheating = passed * claim - work * cost - (1 - passed) * bond
    return cheating - (1 - cost)


def failures(claim: float, samples: int) -> float:
    """Expected failed proofs, a bond each, before a claim of m times the truth passes once."""
    return 1 / passes(1 - 1 / claim, samples) - 1


def worth_of_bits(bits: float, samples: int, bond: float) -> tuple[float, float]:
    """The best claim m where the draw can be varied by g bits, and what it adds, in units of w."""
    best = (1.0, 0.0)
    top = 2 ** (bits / samples) * 1.5
    steps = 4_000
    for step in range(1, steps + 1):
        claim = top ** (step / steps)
        gain = change(1, claim, samples, 0, bond, bits)
        if gain > best[1]:
            best = (claim, gain)
    return best


def guess_rate(depth: int) -> tuple[float, float]:
    """Who knows the sums of all rows and columns: how well can it guess 8 bits of an entry?

    Returns the standard deviation of what stays unknown of an entry, in multiples of 2^8, and the
    probability of the best guess in multiples of 2^-8 (the peak of a wrapped normal distribution).
    """
    variance = (128**2 - 1) / 12
    deviation = math.sqrt(depth) * variance / 2**COMPARED_BITS
    peak = 1 + 2 * sum(math.exp(-2 * (math.pi * k * deviation) ** 2) for k in range(1, 50))
    return deviation, peak


# ------------------------------------------------------------------------- all strategies


@dataclass(frozen=True)
class Field:
    """Where a cheater stands: its honest share of an epoch, and what its stake backs."""

    share: float | None
    """Part of the sum of scores that its full work is; None: all together are below the target."""
    backed: float
    """Effective score that its stake backs at most, in multiples of its full work."""

    def reward(self, effective: _Floats) -> _Floats:
        """Units of w, for all identities together. Stake is taken as where it is needed."""
        counted = np.minimum(effective, self.backed)
        if self.share is None:
            return counted
        others = 1 / self.share - 1
        return np.asarray(counted / (others + counted) / self.share)


# Work in quarters of a window, and claims in multiples of the work (of a window if none is done).
_QUARTERS = range(5)
_MULTIPLES = (1.0, 1.02, 1.1, 1.25, 1.5, 2.0, 4.0)
_OF_NOTHING = (0.0, 0.25, 1.0, 4.0)


def _choices() -> Iterator[tuple[float, float]]:
    """Work and claim of one identity."""
    for quarters in _QUARTERS:
        work = quarters / 4
        claims = [work * multiple for multiple in _MULTIPLES] if quarters else _OF_NOTHING
        for claim in claims:
            yield work, claim


def strategies(identities: int) -> tuple[_Floats, _Floats]:
    """Work and claim of every identity, a row a strategy; no more work than one window has."""
    rows = [
        row
        for row in itertools.combinations_with_replacement(list(_choices()), identities)
        if sum(work for work, _ in row) <= 1
    ]
    table = np.array(rows)
    return table[:, :, 0], table[:, :, 1]


def expected(
    work: _Floats, claim: _Floats, samples: int, field: Field
) -> tuple[_Floats, _Floats, _Floats]:
    """Exact expectations of each strategy: reward in w, failed proofs, work done.

    Sums over which identities pass; their samples are independent, each has its own challenge.
    """
    made = claim > 0
    false_part = np.where(made, 1 - work / np.where(made, claim, 1), 0)
    passed = (1 - false_part * (1 - 2**-COMPARED_BITS)) ** samples
    reward = np.zeros(len(work))
    for outcome in itertools.product((True, False), repeat=work.shape[1]):
        chosen = np.array(outcome)
        weight = np.where(chosen, passed, 1 - passed).prod(axis=1)
        reward += weight * field.reward(np.where(chosen, claim, 0).sum(axis=1))
    return reward, (made * (1 - passed)).sum(axis=1), work.sum(axis=1)


def best_gain(
    identities: int,
    samples: int,
    field: Field,
    costs: Sequence[float] = (0, 0.5, 1.5),
    bonds: Sequence[float] = (0.05, 1),
) -> float:
    """The best strategy with a false part against the best honest one, in units of w.

    The largest over energy costs of a full window and bonds, both in w. Honest is any part of the
    work, staying away included. Below zero: every false part loses. Without any bond a claim of
    nothing costs nothing, and passes with 2^-64: that is left out here.
    """
    work, claim = strategies(identities)
    reward, failed, done = expected(work, claim, samples, field)
    honest = (claim == work).all(axis=1)
    gains = []
    for cost, bond in itertools.product(costs, bonds):
        profit = reward - cost * done - bond * failed
        gains.append(profit[~honest].max() - profit[honest].max())
    return float(max(gains))


# -------------------------------------------------------------------------------- shapes

# An H100, calculated from the compiled kernels at N = 16,384 and K = 65,280 with leaves of 16 bits,
# milliseconds a round: 1.4e15 operations per second, and what hashing and generating add.
_OPERATIONS_A_MS = 1.4e12
_HASH_A_BYTE = 1.93 / (2 * 16_384**2)
_MAKE_AN_ENTRY = 1.11 / (16_384 * 65_280)
# Gas of an opening, as measured at K = 32,640 (docs/gas.md): 211.8 a pair of words of 30 entries.
_GAS_A_WORD = 211.8
_GAS_FIXED = 53_000
_GAS_A_NODE = 800


@dataclass(frozen=True)
class Costs:
    """What a shape costs a prover and the chain."""

    product: float
    hashing: float
    making: float
    gas: float
    memory: float
    """Bytes of A, the same of B, and a byte for each entry of the product."""

    @property
    def useful(self) -> float:
        """The product's part of a round when nothing overlaps."""
        return self.product / (self.product + self.hashing + self.making)


def shape_costs(n: int, depth: int, leaf_bytes: int) -> Costs:
    """Of a shape, with 1 or 2 bytes of an entry in the leaves (format v2 has 1)."""
    levels = math.log2(n * n / 512 * leaf_bytes)
    return Costs(
        product=2 * n * n * depth / _OPERATIONS_A_MS,
        hashing=_HASH_A_BYTE * leaf_bytes * n * n,
        making=_MAKE_AN_ENTRY * n * depth,
        gas=_GAS_FIXED + _GAS_A_WORD * depth / 30 + _GAS_A_NODE * levels,
        memory=2 * n * depth + leaf_bytes * n * n,
    )
