# SPDX-License-Identifier: Apache-2.0
"""A prover for the tests, honest or not, and what the actors do with Benchmark.

It is built on the agent's own format, trees and openings. Unlike the agent's engines it keeps every
product, so an opening costs nothing, and `forge` can falsify a product before it is committed to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import boa
import numpy as np
import numpy.typing as npt
from eth_abi.abi import decode

from provider_agent.prover.keccak import BatchKeccak
from provider_agent.prover.words import Side, matrix
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.format import LEAF_BYTES, Sample, Shape
from teraproof.pog.opening import Opening
from tests.contracts import actions, headers
from tests.contracts.actions import Provider, go_to, now
from tests.contracts.deploy import TPF, Suite

Product = npt.NDArray[np.int64]
# What a cheat makes of the product of round t.
Forge = Callable[[int, Product], Product]

# Where the beacons and draws of these tests come from: a block's prevrandao.
_words: dict[bytes, bytes] = {}


def _tagged(tag: bytes, word: bytes) -> bytes:
    value = pog.keccak(tag + word)
    _words[value] = word
    return value


def beacon_of(word: bytes) -> bytes:
    """The beacon of an epoch whose boundary's block has this prevrandao."""
    return _tagged(b"beacon", word)


def draw_of(word: bytes) -> bytes:
    """The draw of an epoch whose named block has this prevrandao."""
    return _tagged(b"draw", word)


def word_of(value: bytes) -> bytes:
    """The prevrandao that gives a beacon or draw."""
    return _words[value]


BEACON = beacon_of(pog.keccak(b"a beacon"))
DRAW = draw_of(pog.keccak(b"a draw"))


# ---------------------------------------------------------------------- prover


@cache
def product(seed_a: bytes, seed_b: bytes, shape: Shape) -> Product:
    """A times B, shape (n, n)."""
    hasher = BatchKeccak()
    a = matrix(seed_a, shape, Side.A, hasher).astype(np.float64)
    b = matrix(seed_b, shape, Side.B, hasher).astype(np.float64)
    # Sums stay below 2**31, so float64 is exact.
    return (a @ b.T).astype(np.int64)


@dataclass
class Work:
    """Rounds of one challenge, and all that can be opened of them."""

    challenge: bytes
    shape: Shape
    roots: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    trees: list[merkle.Levels] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return len(self.roots)

    @property
    def commitment(self) -> bytes:
        return merkle.RoundTree(self.roots).commitment()

    def samples(self, draw: bytes, count: int) -> list[Sample]:
        return pog.samples(draw, self.rounds, self.commitment, self.challenge, self.shape, count)

    def opening(self, sample: Sample) -> Opening:
        t, index = sample.t, self.shape.leaf_index(sample.i, sample.j)
        upper = merkle.RoundTree(self.roots)
        return Opening(
            root_before=pog.two_before(self.roots, t),
            root=self.roots[t],
            leaf=self.leaves[t][LEAF_BYTES * index : LEAF_BYTES * (index + 1)],
            leaf_path=tuple(merkle.path(self.trees[t], index)),
            root_path=tuple(upper.path(t)),
            path_before=tuple(upper.path(t - 2)) if t >= 2 else (),
        )

    def openings(self, draw: bytes, count: int) -> list[list[bytes]]:
        """What the contract takes for every sample of a draw, in order."""
        return [self.opening(sample).words() for sample in self.samples(draw, count)]

    def first(self, rounds: int) -> Work:
        """The same, stopped after fewer rounds."""
        return Work(
            self.challenge,
            self.shape,
            self.roots[:rounds],
            self.leaves[:rounds],
            self.trees[:rounds],
        )


def work(challenge: bytes, shape: Shape, rounds: int, forge: Forge | None = None) -> Work:
    """Do the rounds of a challenge; a forger commits to something else than the products."""
    done = Work(challenge, shape)
    for t in range(rounds):
        seed_b = pog.seed_b(challenge, t, pog.two_before(done.roots, t))
        values = product(pog.seed_a(challenge), seed_b, shape)
        if forge:
            values = forge(t, values)
        data = (values & 0xFF).astype(np.uint8).tobytes()
        tree = merkle.levels(
            [pog.keccak(data[at : at + LEAF_BYTES]) for at in range(0, len(data), LEAF_BYTES)]
        )
        done.leaves.append(data)
        done.trees.append(tree)
        done.roots.append(tree[-1][0])
    return done


def draw_where(done: Work, count: int, wanted: Callable[[list[Sample]], bool]) -> bytes:
    """The first of a row of draws whose samples are as wanted."""
    for number in range(10_000):
        draw = draw_of(pog.word(number + 1))
        if wanted(done.samples(draw, count)):
            return draw
    raise AssertionError("no such draw")


# ---------------------------------------------------------------------- actors


def shape_of(suite: Suite) -> Shape:
    return Shape(suite.parameters.n, suite.parameters.blocks)


def prover(suite: Suite, role: str = "provider", **options: int) -> Provider:
    """A provider with stake and limits for its bond."""
    bond = suite.parameters.bond
    usual = {"stake": 5_000 * TPF, "per_order": bond, "in_all": bond}
    return actions.register(suite, role, **{**usual, **options})


def next_boundary(suite: Suite) -> int:
    """The first boundary, now or later, that may open a window."""
    p, genesis = suite.parameters, int(suite.benchmark.GENESIS())
    earliest = max(now(), int(suite.benchmark.next_window_from()))
    return genesis + -((genesis - earliest) // p.slot) * p.slot


def next_epoch(suite: Suite) -> int:
    """Go to where the next window may open, and return the number of its epoch."""
    go_to(next_boundary(suite))
    return int(suite.benchmark.current_epoch()) + 1


def present(suite: Suite, block: headers.Block) -> None:
    """Show the boundary's block."""
    suite.benchmark.open(block.number, block.header, block.parent)


def open_epoch(suite: Suite, beacon: bytes = BEACON) -> int:
    """Go to the next boundary, open its window and return the number of the epoch."""
    epoch = next_epoch(suite)
    present(suite, headers.mine(word_of(beacon)))
    return epoch


def challenge_of(suite: Suite, provider: Provider) -> bytes:
    """A provider's challenge in the current epoch, which is open."""
    return bytes(suite.benchmark.challenge(provider.owner, suite.benchmark.current_epoch()))


def prove(suite: Suite, provider: Provider, rounds: int = 3, forge: Forge | None = None) -> Work:
    """Do rounds for the current epoch, which is open."""
    return work(challenge_of(suite, provider), shape_of(suite), rounds, forge)


def commit(suite: Suite, provider: Provider, rounds: int, commitment: bytes) -> None:
    """Commit in the current epoch, as the operator."""
    epoch = suite.benchmark.current_epoch()
    suite.benchmark.commit(epoch, rounds, commitment, sender=provider.operator.address)


def commit_work(suite: Suite, provider: Provider, done: Work) -> Work:
    """Commit to rounds in the current epoch, as the operator."""
    commit(suite, provider, done.rounds, done.commitment)
    return done


def committed(
    suite: Suite, provider: Provider, rounds: int = 3, forge: Forge | None = None
) -> Work:
    """Do rounds and commit to them."""
    return commit_work(suite, provider, prove(suite, provider, rounds, forge))


def window_end(suite: Suite, epoch: int) -> int:
    """The first second in which no commit counts, and the epoch can be closed."""
    return int(suite.benchmark.epoch_of(epoch).opened_at) + suite.parameters.window


def close_epoch(suite: Suite) -> int:
    """Close the current epoch, as soon as that can be; the number of the block that draws."""
    epoch = int(suite.benchmark.current_epoch())
    go_to(max(now(), window_end(suite, epoch)))
    suite.benchmark.close(epoch)
    return int(suite.benchmark.epoch_of(epoch).target)


def make_target(suite: Suite, draw: bytes = DRAW) -> headers.Block:
    """Go on to the block that draws, give it what this draw comes from, and go to the next."""
    target = int(suite.benchmark.epoch_of(suite.benchmark.current_epoch()).target)
    headers.go_to_block(target)
    return headers.mine(word_of(draw))


def draw_epoch(suite: Suite, draw: bytes = DRAW) -> None:
    """Close the current epoch and draw it, as soon as that can be."""
    close_epoch(suite)
    block = make_target(suite, draw)
    suite.benchmark.draw(suite.benchmark.current_epoch(), block.header)


def end_of(suite: Suite, epoch: int | None = None) -> int:
    """The first second after an epoch, which is the current one unless told."""
    number = suite.benchmark.current_epoch() if epoch is None else epoch
    return int(suite.benchmark.epoch_of(number).ends_at)


def show(suite: Suite, provider: Provider, done: Work) -> int:
    """Open every sample of a drawn proof in one transaction."""
    openings = done.openings(DRAW, suite.parameters.samples)
    return int(suite.benchmark.open_samples(provider.owner, openings))


def refusal(suite: Suite, provider: Provider, opening: list[bytes]) -> str:
    """Why `open_sample` refuses; faster than `boa.reverts`, which looks for the line of source.

    Empty when it refuses without a reason; fails when it does not refuse.
    """
    benchmark = suite.benchmark
    done = boa.env.execute_code(
        to_address=benchmark.address,
        sender=suite.owner,
        data=benchmark.open_sample.prepare_calldata(provider.owner, opening),
    )
    assert done.is_error, "the opening was accepted"
    if not done.output:
        return ""
    (reason,) = decode(["string"], done.output[4:])
    return str(reason)


def scored(suite: Suite, provider: Provider, rounds: int = 3) -> Work:
    """A whole proof in the next epoch."""
    open_epoch(suite)
    done = committed(suite, provider, rounds)
    draw_epoch(suite)
    show(suite, provider, done)
    return done
