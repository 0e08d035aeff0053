# SPDX-License-Identifier: Apache-2.0
"""Makes the proofs whose openings `make gas` sends: slow, to be run once a format.

    python -m benchmarks.openings

Two proofs a shape, at N = 16,384:

- One round that is really done: 9 tera-operations and a tree over a million leaves, minutes on a
  CPU, and 3 GiB of memory.
- 65,536 rounds, which would take a CPU months. All of them are one invented leaf, over and over:
  the work of a cheat that did nothing at all. Such a proof shows the right 16 bits at a sample once
  in 65,536 times, so draws are tried until that happens for its first sample. The opening is valid
  and as long as an honest one; with the second sample, as ever, the cheat would be caught. That is
  what the other samples are for.
"""

from __future__ import annotations

import argparse
import sys
from itertools import count
from time import perf_counter

import numpy as np
from eth_utils.crypto import keccak

from benchmarks import openings
from benchmarks.openings import MANY_ROUNDS, SAMPLES, SHAPES, Proof
from provider_agent.benchmark import format as pog
from provider_agent.benchmark import merkle
from provider_agent.benchmark.cpu import CpuEngine
from provider_agent.benchmark.format import LEAF_BYTES, ZERO, Sample, Shape
from provider_agent.benchmark.keccak import Bytes
from provider_agent.benchmark.opening import Opening, verify
from provider_agent.benchmark.words import Side, entries

# Levels from root(t) and root(t-2) to the node above both: the mean over all t.
JOINT = 3


def done(name: str, epoch: int) -> Proof:
    """A proof of one round, and the openings of all its samples."""
    shape = SHAPES[name]
    beacon, draw = _random(name, epoch, "beacon"), _random(name, epoch, "draw")
    challenge = openings.challenge_of(name, epoch, beacon)
    engine = CpuEngine()
    try:
        engine.prepare(challenge, shape)
        leaf, path = engine.open(0, ZERO, 0, 0)
        root = merkle.climb(pog.keccak(leaf), 0, path)
        rows = []
        for sample in pog.samples(draw, 1, root, challenge, shape, SAMPLES):
            leaf, path = engine.open(0, ZERO, sample.i, sample.j)
            opening = Opening(ZERO, root, leaf, tuple(path), (), ())
            verify(opening, sample, challenge, shape, 1, root)
            rows.append(opening.words())
    finally:
        engine.close()
    return Proof(epoch, beacon, 1, root, draw, rows)


def claimed(name: str, epoch: int) -> Proof:
    """A proof of many rounds that were not done, and a draw whose first sample it passes."""
    shape = SHAPES[name]
    beacon = _random(name, epoch, "beacon")
    challenge = openings.challenge_of(name, epoch, beacon)
    leaf = b"".join(_random(name, epoch, f"leaf {k}") for k in range(LEAF_BYTES // 32))
    path = _doubled(pog.keccak(leaf), shape.leaf_path)
    root = path.pop()
    root_path = _doubled(root, pog.round_path(MANY_ROUNDS))
    commitment = root_path.pop()
    rows = _Rows(challenge, shape)
    for trial in count():
        draw = _random(name, epoch, f"draw {trial}")
        (sample,) = pog.samples(draw, MANY_ROUNDS, commitment, challenge, shape, 1)
        if sample.t < 2 or (sample.t ^ (sample.t - 2)).bit_length() != JOINT:
            continue
        if rows.entry(sample, root) == _shown(leaf, sample):
            break
    opening = Opening(root, root, leaf, tuple(path), tuple(root_path), tuple(root_path))
    verify(opening, sample, challenge, shape, MANY_ROUNDS, commitment)
    # `Opening.words` ends the earlier path where the two become equal, and these are equal from
    # the start. The contract wants as much of it as the number of the round says.
    words = opening.words()
    before = len(words) - len(root_path)
    words[before:before] = root_path[:JOINT]
    return Proof(epoch, beacon, MANY_ROUNDS, commitment, draw, [words])


def _random(name: str, epoch: int, what: str) -> bytes:
    return keccak(text=f"teraproof openings {name} {epoch} {what}")


def _doubled(node: bytes, height: int) -> list[bytes]:
    """The path of every leaf of a tree of equal leaves, its root behind it."""
    result = [node]
    for _ in range(height):
        result.append(merkle.node(result[-1], result[-1]))
    return result


def _shown(leaf: bytes, sample: Sample) -> int:
    at = 2 * (sample.j % pog.COLUMNS_PER_LEAF)
    return int.from_bytes(leaf[at : at + 2], "big")


class _Rows:
    """Entries of many products with one A, whose rows are kept."""

    def __init__(self, challenge: bytes, shape: Shape) -> None:
        self._challenge, self._shape = challenge, shape
        self._seed_a = pog.seed_a(challenge)
        self._kept: dict[int, Bytes] = {}

    def entry(self, sample: Sample, root_two_before: bytes) -> int:
        """The low 16 bits of an entry, as `opening.entry` has them, in a third of the time."""
        if sample.i not in self._kept:
            self._kept[sample.i] = self._line(self._seed_a, sample.i, Side.A)
        seed_b = pog.seed_b(self._challenge, sample.t, root_two_before)
        column = self._line(seed_b, sample.j, Side.B).astype(np.int32)
        return int(column @ self._kept[sample.i]) & 0xFFFF

    def _line(self, seed: bytes, index: int, side: Side) -> Bytes:
        words = pog.words(seed, index, self._shape.blocks)
        joined = b"".join(word.to_bytes(32, "little") for word in words)
        return entries(np.frombuffer(joined, np.uint8).reshape(-1, 32), side).ravel()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openings", description=__doc__)
    parser.add_argument("shape", nargs="*", choices=[[], *SHAPES], help="all by default")
    for name in parser.parse_args().shape or SHAPES:
        proofs = []
        for epoch, make in enumerate((done, claimed)):
            start = perf_counter()
            proofs.append(make(name, epoch))
            print(f"{name}: {make.__name__}, {perf_counter() - start:.0f} s", flush=True)
        print(f"wrote {openings.write(name, proofs).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
