# SPDX-License-Identifier: Apache-2.0
"""Makes the proofs whose openings `make gas` sends: slow, to be run once a format.

    python -m benchmarks.openings

Two proofs a shape, **both of them false, with draws that were searched for**. On chain nobody can
search: there is one draw for all, of a block that was named before it existed.

- One round of which the first quarter of the rows was done: 2.2 and 4.4 tera-operations, minutes on
  a CPU. All samples of a draw fall into those rows once in 4^8 = 65,536 draws; whoever does a
  quarter of the work passes as often.
- 65,536 rounds, which would take a CPU months. All of them are one invented leaf, over and over.
  Such a proof shows the right 8 bits at a sample once in 256 times, so draws are tried until that
  happens for its first sample.

The openings are as valid and as long as honest ones.
"""

from __future__ import annotations

import argparse
import sys
from itertools import count
from time import perf_counter

import numpy as np

from benchmarks import openings
from benchmarks.openings import FIRST_EPOCH, MANY_ROUNDS, SAMPLES, SHAPES, Proof
from provider_agent.prover.keccak import BatchKeccak, Bytes
from provider_agent.prover.products.blas import Float32Blas
from provider_agent.prover.words import Side, entries, matrix
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.format import LEAF_BYTES, ZERO, Sample, Shape, keccak
from teraproof.pog.opening import Opening, verify

# Levels from root(t) and root(t-2) to the node above both: the mean over all t.
JOINT = 3
# One row in PART is done, and PANEL rows are multiplied at once.
PART, PANEL = 4, 512
# Draws that are tried at once.
DRAWS = 1 << 16


def partly(name: str, epoch: int) -> Proof:
    """A proof of one round of which the first rows are right, and the openings of all samples."""
    shape = SHAPES[name]
    opened_by = _random(name, epoch, "opening block")
    challenge = openings.challenge_of(name, epoch, openings.beacon_of(opened_by))
    rows = _rows(challenge, shape)
    tree = _tree(rows)
    # In place of what was not done are leaves of zeros.
    missing = _doubled(keccak(bytes(LEAF_BYTES)), shape.leaf_path)[len(tree) - 1 : -1]
    root = merkle.climb(tree[-1].tobytes(), 0, missing)
    drawn_by = _search(challenge, shape, root, _random(name, epoch, "drawing block"))
    shown = []
    for sample in pog.samples(openings.draw_of(drawn_by), 1, root, challenge, shape, SAMPLES):
        index = shape.leaf_index(sample.i, sample.j)
        lower = [level[index >> height ^ 1].tobytes() for height, level in enumerate(tree[:-1])]
        opening = Opening(ZERO, root, rows[index].tobytes(), (*lower, *missing), (), ())
        verify(opening, sample, challenge, shape, 1, root)
        shown.append(opening.words())
    return Proof(epoch, opened_by, 1, root, drawn_by, shown)


def claimed(name: str, epoch: int) -> Proof:
    """A proof of many rounds that were not done, and a draw whose first sample it passes."""
    shape = SHAPES[name]
    opened_by = _random(name, epoch, "opening block")
    challenge = openings.challenge_of(name, epoch, openings.beacon_of(opened_by))
    leaf = b"".join(_random(name, epoch, f"leaf {k}") for k in range(LEAF_BYTES // 32))
    path = _doubled(keccak(leaf), shape.leaf_path)
    root = path.pop()
    root_path = _doubled(root, pog.round_path(MANY_ROUNDS))
    commitment = root_path.pop()
    for trial in count():
        drawn_by = _random(name, epoch, f"drawing block {trial}")
        draw = openings.draw_of(drawn_by)
        (sample,) = pog.samples(draw, MANY_ROUNDS, commitment, challenge, shape, 1)
        if sample.t < 2 or (sample.t ^ (sample.t - 2)).bit_length() != JOINT:
            continue
        if _entry(challenge, shape, sample, root) == leaf[shape.leaf_place(sample.i, sample.j)]:
            break
    opening = Opening(root, root, leaf, tuple(path), tuple(root_path), tuple(root_path))
    verify(opening, sample, challenge, shape, MANY_ROUNDS, commitment)
    # `Opening.words` ends the earlier path where the two become equal, and these are equal from
    # the start. The contract wants as much of it as the number of the round says.
    words = opening.words()
    before = len(words) - len(root_path)
    words[before:before] = root_path[:JOINT]
    return Proof(epoch, opened_by, MANY_ROUNDS, commitment, drawn_by, [words])


def _random(name: str, epoch: int, what: str) -> bytes:
    return keccak(f"teraproof openings {name} {epoch} {what}".encode())


def _rows(challenge: bytes, shape: Shape) -> Bytes:
    """The leaves of the first rows of round 0, shape (leaves, 512)."""
    hasher, way = BatchKeccak(), Float32Blas()
    done = shape.n // PART
    # The rows of A do not depend on how many there are.
    part = Shape(done, shape.blocks)
    a = way.operand(matrix(pog.seed_a(challenge), part, Side.A, hasher))
    b = way.operand(matrix(pog.seed_b(challenge, 0, ZERO), shape, Side.B, hasher))
    result = np.empty((done, shape.n), np.uint8)
    for first in range(0, done, PANEL):
        result[first : first + PANEL] = way.product(a, b, first, PANEL) & 0xFF
    return result.reshape(-1, LEAF_BYTES)


def _tree(leaves: Bytes) -> list[Bytes]:
    """The levels over the leaves, their hashes first, each of shape (nodes, 32)."""
    hasher = BatchKeccak()
    levels = [hasher.digests(leaves)]
    while len(levels[-1]) > 1:
        levels.append(hasher.digests(levels[-1].reshape(-1, 64)))
    return levels


def _search(challenge: bytes, shape: Shape, root: bytes, start: bytes) -> bytes:
    """A block's value whose draw asks for nothing but the first rows.

    Tried are the integers from `start` on.
    """
    hasher = BatchKeccak()
    fixed = np.frombuffer(pog.word(1) + root + challenge, np.uint8)
    for trial in count(int.from_bytes(start, "big") >> 64 << 64, DRAWS):
        words = np.zeros((DRAWS, 4), ">u8")
        words[:] = np.frombuffer(pog.word(trial), ">u8")
        words[:, 3] += np.arange(DRAWS, dtype=np.uint64)
        values = words.view(np.uint8)
        draws = hasher.digests(_joined(np.frombuffer(b"draw", np.uint8), values))
        seeds = hasher.digests(_joined(draws, fixed))
        for number in range(SAMPLES):
            x = hasher.digests(_joined(seeds, np.frombuffer(pog.word(number), np.uint8)))
            # (x >> 64) mod N is in bytes 16 to 23, the last one lowest.
            rows = np.ascontiguousarray(x[:, 16:24]).view(">u8")[:, 0] % np.uint64(shape.n)
            kept = rows < shape.n // PART
            values, seeds = values[kept], seeds[kept]
        if len(values):
            return bytes(values[0])
    raise AssertionError("there is always another draw")


def _joined(left: Bytes, right: Bytes) -> Bytes:
    """Messages of two parts; a part without a first dimension is the same for all messages."""
    width = max(len(part) for part in (left, right) if part.ndim == 2)
    parts = [np.broadcast_to(part, (width, part.shape[-1])) for part in (left, right)]
    return np.concatenate(parts, axis=1)


def _doubled(node: bytes, height: int) -> list[bytes]:
    """The path of every leaf of a tree of equal leaves, its root behind it."""
    result = [node]
    for _ in range(height):
        result.append(merkle.node(result[-1], result[-1]))
    return result


def _entry(challenge: bytes, shape: Shape, sample: Sample, root_two_before: bytes) -> int:
    """The low 8 bits of an entry, as `opening.entry` has them, in a part of the time."""
    row = _line(pog.seed_a(challenge), sample.i, Side.A, shape)
    seed_b = pog.seed_b(challenge, sample.t, root_two_before)
    return int(_line(seed_b, sample.j, Side.B, shape) @ row) & 0xFF


def _line(
    seed: bytes, index: int, side: Side, shape: Shape
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    words = pog.words(seed, index, shape.blocks)
    joined = b"".join(word.to_bytes(32, "little") for word in words)
    line = entries(np.frombuffer(joined, np.uint8).reshape(-1, 32), side)
    return line.ravel().astype(np.int32)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openings", description=__doc__)
    parser.add_argument("shape", nargs="*", choices=[[], *SHAPES], help="all by default")
    for name in parser.parse_args().shape or SHAPES:
        proofs = []
        for epoch, make in enumerate((partly, claimed), FIRST_EPOCH):
            start = perf_counter()
            proofs.append(make(name, epoch))
            print(f"{name}: {make.__name__}, {perf_counter() - start:.0f} s", flush=True)
        print(f"wrote {openings.write(name, proofs).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
