# SPDX-License-Identifier: Apache-2.0
"""A training that can be killed: it goes on from its last saved state, to the same bits.

    python train.py STATE OUT --steps 2000

STATE/training.npy is all that a later run needs: the step, the losses so far, the parameters and
the velocity. It is written under another name and renamed, so a copy of STATE is always whole.
OUT gets model.npy and losses.json at the end.

The model, 16-32-4 with a ReLU, learns what a fixed random one computes. The arithmetic is integer
fixed point (Q16 in int64), so that every processor and every build of NumPy gives the same bits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

BITS = 16
ONE = 1 << BITS
SHAPES = ((16, 32), (32, 4))
BATCH = 32
RATE_SHIFT = 5  # learning rate 2^-5
MOMENTUM_SHIFT = 3  # velocity keeps 7/8 of itself at each step
SIZE = sum(math.prod(shape) for shape in SHAPES)


def mix(first: int, count: int, seed: int) -> Ints:
    """Pseudo-random numbers in (-1, 1) as Q16 (splitmix64)."""
    index = np.arange(first, first + count, dtype=np.uint64)
    z = index * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed + 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(47)).astype(np.int64) - ONE


def weights(flat: Ints) -> tuple[Ints, Ints]:
    """Both matrices, as views."""
    cut = math.prod(SHAPES[0])
    return flat[:cut].reshape(SHAPES[0]), flat[cut:].reshape(SHAPES[1])


def forward(flat: Ints, x: Ints) -> tuple[Ints, Ints]:
    """The hidden layer and the outputs, Q16."""
    first, second = weights(flat)
    hidden = np.maximum((x @ first) >> BITS, 0)
    return hidden, (hidden @ second) >> BITS


def step(flat: Ints, velocity: Ints, teacher: Ints, number: int) -> int:
    """One batch; changes parameters and velocity. Returns the mean squared error, Q16."""
    x = mix(number * BATCH * 16, BATCH * 16, seed=3).reshape(BATCH, 16)
    hidden, out = forward(flat, x)
    error = out - forward(teacher, x)[1]
    back = np.where(hidden > 0, (error @ weights(flat)[1].T) >> BITS, 0)
    slopes = ((x.T @ back) >> BITS) // BATCH, ((hidden.T @ error) >> BITS) // BATCH
    slope = np.concatenate([each.ravel() for each in slopes])
    velocity -= (velocity >> MOMENTUM_SHIFT) + (slope >> RATE_SHIFT)
    flat += velocity
    return int(((error * error) >> BITS).mean().astype(np.int64))


def save(place: Path, losses: list[int], flat: Ints, velocity: Ints) -> None:
    """Write the state. The step is the number of losses."""
    whole = np.concatenate([np.array(losses, dtype=np.int64), flat, velocity])
    new = place.parent.with_name(place.parent.name + ".new")
    with new.open("wb") as file:
        np.save(file, whole)
        file.flush()
        os.fsync(file.fileno())
    new.replace(place)


def load(place: Path) -> tuple[list[int], Ints, Ints]:
    """The state, or that of a new training."""
    if not place.exists():
        return [], mix(0, SIZE, seed=1) >> 2, np.zeros(SIZE, dtype=np.int64)
    whole = np.load(place, allow_pickle=False)
    losses = [int(loss) for loss in whole[: -2 * SIZE]]
    return losses, whole[-2 * SIZE : -SIZE].copy(), whole[-SIZE:].copy()


def main() -> None:
    """Trains, from where an earlier run was."""
    options = argparse.ArgumentParser()
    options.add_argument("state", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--steps", type=int, default=2_000)
    options.add_argument("--every", type=int, default=50, help="steps between two saved states")
    options.add_argument("--pause", type=float, default=0.0, help="seconds after a saved state")
    given = options.parse_args()
    given.state.mkdir(parents=True, exist_ok=True)
    place = given.state / "training.npy"
    losses, flat, velocity = load(place)
    teacher = mix(0, SIZE, seed=2) >> 1
    print(f"begins at step {len(losses)}", flush=True)
    while len(losses) < given.steps:
        losses.append(step(flat, velocity, teacher, len(losses)))
        if len(losses) % given.every == 0:
            save(place, losses, flat, velocity)
            print(f"step {len(losses)}  loss {losses[-1] / ONE:.4f}", flush=True)
            time.sleep(given.pause)
    given.out.mkdir(parents=True, exist_ok=True)
    np.save(given.out / "model.npy", flat)
    (given.out / "losses.json").write_text(json.dumps(losses) + "\n")


if __name__ == "__main__":
    main()
