# SPDX-License-Identifier: Apache-2.0
"""`provider-agent prove`: a proof without a chain, as JSON, so that anyone can compare provers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from time import perf_counter

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from provider_agent.prover.bench.options import options
from provider_agent.prover.engine import DEVICES, Engine, make_engine
from provider_agent.prover.proof import Proof
from teraproof.errors import CommandError, WrongInput
from teraproof.pog import format as pog
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Sample, Shape
from teraproof.pog.opening import Opening, entry

_DEFAULT_SAMPLES = 8

# \b keeps click from filling the lines that follow.
_HELP = """\
Make a Proof-of-GPU (format v2) for a challenge, without a chain.

Prints one JSON object. Hashes, seeds and nodes are hex with 0x; paths go from the bottom up.

\b
format        TERAPROOF-POG-2
challenge, size, blocks, depth, rounds
seed_A        seed of the rows of A
seeds_B       seed of the columns of B, one per round
roots         Merkle root of the product, one per round
commitment    Merkle root over the roots
device, seconds, operations, operations_per_second
              what computed the rounds, by which product, and how fast;
              a multiplication and an addition count as two operations

With --open also:

\b
sample_seed   r, as given
openings      one a sample, in order:
  sample, t, i, j        number; round, row and column that it asks for
  value                  the whole entry; the leaf holds it modulo 2^8
  leaf, leaf_index       512 bytes, and its number in the round's tree
  path                   from the leaf to root
  root, root_path        of round t, and from there to the commitment
  root_two_before, root_two_before_path
                         the same of round t - 2; zero and empty for t < 2
  encoded                the flat bytes that the contract takes
"""


@click.command(help=_HELP)
@click.option("--challenge", required=True, metavar="HEX", help="32 bytes as hex digits.")
@click.option("--size", type=int, required=True, metavar="N", help="A power of two, 256 to 65536.")
@click.option("--blocks", type=int, required=True, help="1 to 277; the depth is 480 * BLOCKS.")
@click.option("--rounds", type=int, required=True, help="Products to do, 1 to 2^24.")
@click.option("--device", default="cpu", show_default=True, help=f"{DEVICES}.")
@click.option(
    "--open",
    "sample_seed",
    metavar="R_HEX",
    help="Open samples of r = H(draw | rounds | commitment | challenge), 32 bytes as hex digits.",
)
@click.option(
    "--samples",
    type=int,
    help=f"Samples to open, 1 to {pog.MAX_SAMPLES}, {_DEFAULT_SAMPLES} unless told.",
)
def prove(
    challenge: str,
    size: int,
    blocks: int,
    rounds: int,
    device: str,
    sample_seed: str | None,
    samples: int | None,
) -> None:
    """Make a proof and print it; see `_HELP`."""
    seed, wanted = b"", list[Sample]()
    with options():
        shape = Shape(size, blocks)
        challenge_bytes = _bytes32("--challenge", challenge)
        pog.check_rounds(rounds)
        if sample_seed is None and samples is not None:
            raise WrongInput("--samples says how many to open; give --open R_HEX too")
        if sample_seed is not None:
            seed = _bytes32("--open", sample_seed)
            count = _DEFAULT_SAMPLES if samples is None else samples
            wanted = pog.samples_of(seed, rounds, shape, count)

    try:
        with closing(make_engine(device)) as engine:
            start = perf_counter()
            proof = _proof(engine, challenge_bytes, shape, rounds)
            seconds = perf_counter() - start
            result = _describe(proof, engine.device, seconds)
            if wanted:
                openings = proof.open(engine, wanted)
                result["sample_seed"] = _hex(seed)
                result["openings"] = [
                    _opening(proof, number, sample, opening)
                    for number, (sample, opening) in enumerate(zip(wanted, openings, strict=True))
                ]
    except MemoryError:
        raise EngineError("not enough memory; choose a smaller --size or --blocks") from None
    try:
        click.echo(json.dumps(result, indent=1))
    except BrokenPipeError:
        raise  # The reader has enough; click ends quietly.
    except OSError as error:
        # What is left in the buffer would be tried again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError(f"the proof cannot be written: {error.strerror}") from None


def _bytes32(name: str, text: str) -> bytes:
    digits = text.removeprefix("0x")
    # bytes.fromhex would skip blanks.
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise WrongInput(f"{name} must be 32 bytes: 64 hex digits, with or without 0x")
    return bytes.fromhex(digits)


def _proof(engine: Engine, challenge: bytes, shape: Shape, rounds: int) -> Proof:
    """Do the rounds, with a bar on standard error where a person watches."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rounds"),
        TimeRemainingColumn(),
    )
    engine.prepare(challenge, shape)
    roots: list[bytes] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(engine.device, total=rounds)
        # A first round can take minutes, and the bar only moves after it.
        progress.refresh()
        for root in engine.roots(roots):
            roots.append(root)
            progress.advance(task)
            if len(roots) == rounds:
                break
    return Proof(challenge, shape, tuple(roots))


def _describe(proof: Proof, device: str, seconds: float) -> dict[str, object]:
    operations = proof.shape.operations * proof.rounds
    return {
        "format": pog.NAME.decode(),
        "challenge": _hex(proof.challenge),
        "size": proof.shape.n,
        "blocks": proof.shape.blocks,
        "depth": proof.shape.depth,
        "rounds": proof.rounds,
        "seed_A": _hex(pog.seed_a(proof.challenge)),
        "seeds_B": _hexes(proof.seeds_b()),
        "roots": _hexes(proof.roots),
        "commitment": _hex(proof.commitment),
        "device": device,
        "seconds": round(seconds, 6),
        "operations": operations,
        "operations_per_second": int(operations / seconds),
    }


def _opening(proof: Proof, number: int, sample: Sample, opening: Opening) -> dict[str, object]:
    return {
        "sample": number,
        "t": sample.t,
        "i": sample.i,
        "j": sample.j,
        "value": entry(proof.challenge, proof.shape, sample, opening.root_before),
        "leaf": _hex(opening.leaf),
        "leaf_index": proof.shape.leaf_index(sample.i, sample.j),
        "path": _hexes(opening.leaf_path),
        "root": _hex(opening.root),
        "root_path": _hexes(opening.root_path),
        "root_two_before": _hex(opening.root_before),
        "root_two_before_path": _hexes(opening.path_before),
        "encoded": _hex(opening.encode()),
    }


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _hexes(values: Sequence[bytes]) -> list[str]:
    return [_hex(value) for value in values]
