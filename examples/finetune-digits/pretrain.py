# SPDX-License-Identifier: Apache-2.0
"""Makes base_model.npy: the network of finetune.py trained on the ordinary digits.

Deterministic like the job itself: it writes the same bytes wherever it runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from finetune import CLASSES, HELD_OUT, HIDDEN, INPUTS, Model, correct, mix, pictures, train

EPOCHS = 20


def fresh() -> Model:
    """Small random weights: uniform within 1/4 for the first layer, 1/2 for the second."""
    words = mix(np.arange(INPUTS * HIDDEN + HIDDEN * CLASSES), seed=3)
    signed = (words >> np.uint64(48)).astype(np.int64) - (1 << 15)  # Q16, within one half
    return Model(
        w1=signed[: INPUTS * HIDDEN].reshape(INPUTS, HIDDEN) >> 1,
        b1=np.zeros(HIDDEN, dtype=np.int64),
        w2=signed[INPUTS * HIDDEN :].reshape(HIDDEN, CLASSES),
        b2=np.zeros(CLASSES, dtype=np.int64),
    )


def main() -> None:
    """Trains the base model and writes it beside this file."""
    x, labels = pictures()
    model = fresh()

    def report(epoch: int) -> None:
        hits = correct(model, x[:HELD_OUT], labels[:HELD_OUT])
        print(f"epoch {epoch:2}  accuracy {hits}/{HELD_OUT}", flush=True)

    train(model, x[HELD_OUT:], labels[HELD_OUT:], EPOCHS, seed=10, report=report)
    np.save(Path(__file__).with_name("base_model.npy"), model.flat())


if __name__ == "__main__":
    main()
