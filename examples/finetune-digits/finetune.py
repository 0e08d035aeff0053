# SPDX-License-Identifier: Apache-2.0
"""The job: fine-tunes a small digit classifier to pictures with inverted contrast and noise.

The arithmetic is integer fixed point from end to end (Q16 in int64), so that every processor and
every build of NumPy gives the same bits: anybody can re-run the job and compare the digest.

Reads base_model.npy, writes out/metrics.json, out/model.npy and out/report.svg. `pretrain.py` made
the base model with the functions below, on the ordinary digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Ints = NDArray[np.int64]

BITS = 16
ONE = 1 << BITS
INPUTS, HIDDEN, CLASSES = 64, 32, 10
BATCH = 32
HELD_OUT = 397  # of the 1,797 pictures; never trained on
EPOCHS = 24
RATE_SHIFT = 6  # learning rate 2^-6
MOMENTUM_SHIFT = 3  # velocity keeps 7/8 of itself at each step


@dataclass
class Model:
    """A 64-32-10 network with a ReLU; all numbers Q16."""

    w1: Ints  # (64, 32)
    b1: Ints  # (32,)
    w2: Ints  # (32, 10)
    b2: Ints  # (10,)

    def parameters(self) -> list[Ints]:
        """The arrays themselves, in a fixed order."""
        return [self.w1, self.b1, self.w2, self.b2]

    def flat(self) -> NDArray[np.int32]:
        """All parameters as one array of 2,410 numbers."""
        return np.concatenate([p.ravel() for p in self.parameters()]).astype("<i4")

    @classmethod
    def from_flat(cls, flat: NDArray[np.int32]) -> Model:
        """The inverse of `flat`."""
        shapes = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        parts = np.split(flat.astype(np.int64), ends)
        return cls(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def mix(index: Ints, seed: int) -> NDArray[np.uint64]:
    """Pseudo-random 64-bit words (splitmix64): NumPy's own streams may change with its version."""
    z = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed + 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def pictures() -> tuple[Ints, Ints]:
    """The digits as (1797, 64) numbers 0..16 and their (1797,) labels, in a fixed random order."""
    data = load_digits()
    order = np.argsort(mix(np.arange(len(data.target)), seed=1), kind="stable")
    return data.data.astype(np.int64)[order], data.target.astype(np.int64)[order]


def shifted(ordinary: Ints) -> Ints:
    """The new domain: dark on light instead of light on dark, with noise of up to 4 of 16."""
    noise = mix(np.arange(ordinary.size), seed=2).reshape(ordinary.shape) % np.uint64(5)
    return np.clip(16 - ordinary + noise.astype(np.int64) - 2, 0, 16)


def exponentials() -> Ints:
    """2^(-k/256) for k = 0..255 in Q30, from integer square roots alone."""
    step = 1 << 59  # one half in Q60
    for _ in range(8):
        step = math.isqrt(step << 60)
    value, table = 1 << 60, []
    for _ in range(256):
        table.append(value >> 30)
        value = value * step >> 60
    return np.array(table, dtype=np.int64)


_TABLE = exponentials()
_LOG2_E = 94548  # log2(e) in Q16


def softmax(logits: Ints) -> Ints:
    """Row by row, Q16 to Q16."""
    below = logits.max(axis=1, keepdims=True) - logits
    power = np.minimum((below * _LOG2_E) >> BITS, 30 * ONE)  # of one half
    raised = _TABLE[(power >> (BITS - 8)) & 255] >> (power >> BITS)
    return (raised << BITS) // raised.sum(axis=1, keepdims=True)


def forward(model: Model, x: Ints) -> tuple[Ints, Ints]:
    """The hidden layer and the logits for pictures of 0..16."""
    scaled = x << (BITS - 4)
    hidden = np.maximum(((scaled @ model.w1) >> BITS) + model.b1, 0)
    return hidden, ((hidden @ model.w2) >> BITS) + model.b2


def predict(model: Model, x: Ints) -> Ints:
    """The likeliest class of each picture."""
    return forward(model, x)[1].argmax(axis=1)


def correct(model: Model, x: Ints, labels: Ints) -> int:
    """How many pictures are classified correctly."""
    return int((predict(model, x) == labels).sum())


def gradients(model: Model, x: Ints, labels: Ints) -> list[Ints]:
    """Of the mean cross-entropy over a batch, in the order of `Model.parameters`."""
    count = len(labels)
    hidden, logits = forward(model, x)
    error = softmax(logits)
    error[np.arange(count), labels] -= ONE
    back = np.where(hidden > 0, (error @ model.w2.T) >> BITS, 0)
    scaled = x << (BITS - 4)
    return [
        ((scaled.T @ back) >> BITS) // count,
        back.sum(axis=0) // count,
        ((hidden.T @ error) >> BITS) // count,
        error.sum(axis=0) // count,
    ]


def train(
    model: Model, x: Ints, labels: Ints, epochs: int, seed: int, report: Callable[[int], None]
) -> None:
    """Stochastic gradient descent with momentum; changes `model`, calls `report` after epochs."""
    velocity = [np.zeros_like(p) for p in model.parameters()]
    for epoch in range(epochs):
        order = np.argsort(mix(np.arange(len(labels)), seed + epoch), kind="stable")
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            steps = gradients(model, x[batch], labels[batch])
            for parameter, speed, step in zip(model.parameters(), velocity, steps, strict=True):
                speed -= (speed >> MOMENTUM_SHIFT) + (step >> RATE_SHIFT)
                parameter += speed
        report(epoch + 1)


def drawing(curve: list[int], x: Ints, labels: Ints, before: Ints, after: Ints) -> str:
    """Accuracy by epoch, and pictures with what the model said before and after."""
    left, top, width, height = 50, 40, 420, 180
    points = " ".join(
        f"{left + width * epoch // (len(curve) - 1)},{top + height - height * hits // HELD_OUT}"
        for epoch, hits in enumerate(curve)
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="520" height="400" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="520" height="400" fill="white"/>',
        '<text x="50" y="24" font-size="15">Accuracy on held-out shifted digits</text>',
    ]
    for percent in (0, 25, 50, 75, 100):
        y = top + height - height * percent // 100
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{percent} %</text>')
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1667c1" stroke-width="2.5"/>')
    for epoch in range(0, len(curve), 4):
        place = left + width * epoch // (len(curve) - 1)
        parts.append(
            f'<text x="{place}" y="{top + height + 18}" text-anchor="middle">{epoch}</text>'
        )
    parts.append('<text x="260" y="256" text-anchor="middle">epoch</text>')
    for column in range(9):
        corner = 50 + column * 48
        for pixel, value in enumerate(x[column].tolist()):
            grey = value * 255 // 16
            px, py = corner + pixel % 8 * 5, 280 + pixel // 8 * 5
            parts.append(
                f'<rect x="{px}" y="{py}" width="5" height="5" fill="rgb({grey},{grey},{grey})"/>'
            )
        for row, said in enumerate((before, after)):
            colour = "#1a7f37" if said[column] == labels[column] else "#c1272d"
            parts.append(
                f'<text x="{corner + 20}" y="{342 + 20 * row}" text-anchor="middle" '
                f'font-size="14" fill="{colour}">{said[column]}</text>'
            )
    parts += ['<text x="8" y="342">before</text>', '<text x="8" y="362">after</text>', "</svg>\n"]
    return "\n".join(parts)


def main() -> None:
    """Fine-tunes and writes the results."""
    model = Model.from_flat(np.load("base_model.npy", allow_pickle=False))
    ordinary, labels = pictures()
    x = shifted(ordinary)
    held_x, held_labels = x[:HELD_OUT], labels[:HELD_OUT]
    before = predict(model, held_x)
    curve = [correct(model, held_x, held_labels)]
    print(f"epoch  0  accuracy {curve[0]}/{HELD_OUT}")

    def report(epoch: int) -> None:
        curve.append(correct(model, held_x, held_labels))
        print(f"epoch {epoch:2}  accuracy {curve[-1]}/{HELD_OUT}", flush=True)

    train(model, x[HELD_OUT:], labels[HELD_OUT:], EPOCHS, seed=100, report=report)

    out = Path("out")
    out.mkdir(exist_ok=True)
    # A bare .npy: an .npz is a zip file and holds the time of day.
    np.save(out / "model.npy", model.flat())
    metrics = {
        "metric": "accuracy on held-out digits, inverted and noisy",
        "accuracy_before": round(curve[0] / HELD_OUT, 4),
        "accuracy_after": round(curve[-1] / HELD_OUT, 4),
        "correct_by_epoch": curve,
        "held_out": HELD_OUT,
        "trained_on": len(labels) - HELD_OUT,
        "epochs": EPOCHS,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    after = predict(model, held_x)
    (out / "report.svg").write_text(drawing(curve, held_x, held_labels, before, after))


if __name__ == "__main__":
    main()
