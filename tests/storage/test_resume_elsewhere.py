# SPDX-License-Identifier: Apache-2.0
"""A training that is killed half way ends elsewhere with the bits of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from teraproof.storage.layout import Destination
from teraproof.storage.objects import Store
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse
from tests.storage.s3 import KEY_ID, SECRET, Place

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "examples" / "train-with-checkpoints" / "train.py"
STEPS, EVERY = 1_000, 25


def start(*arguments: object, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(*arguments: object, **more: str) -> str:
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def train(state: Path, out: Path, pause: float = 0) -> tuple[object, ...]:
    return TRAIN, state, out, "--steps", STEPS, "--every", EVERY, "--pause", pause


@pytest.mark.parametrize(("kind", "seed"), [("file", 1), ("s3", 2)])
def test_killed_half_way__the_bits_of_an_undisturbed_run(
    kind: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    access: dict[str, str] = {}
    uri = f"file://{tmp_path}/store"
    store: Store = open_store(parse(uri), Reach.own())
    if kind == "s3":
        place: Place = request.getfixturevalue("s3")
        uri, store = f"{place.uri}/run", place.open("run")
        access = {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL_S3": place.client.meta.endpoint_url,
        }
    done(*train(tmp_path / "alone" / "state", tmp_path / "alone" / "out"))

    # One provider: the training, and what saves it. Both die.
    here = tmp_path / "here"
    training = start(*train(here / "state", here / "out", pause=5))
    while not (here / "state" / "training.npy").exists():
        time.sleep(0.05)
    save = ("-m", "teraproof", "checkpoint", "save", here / "state", uri, "--every", 0.3)
    saving = start(*save, "--state", here / "writer", **access)
    while len(Destination(store).listed()) < 2:
        time.sleep(0.1)
    time.sleep(random.Random(seed).random())
    training.kill()
    saving.kill()
    training.communicate()
    saving.communicate()
    assert not (here / "out").exists(), "it was not killed half way"

    # Another one, with nothing but the URI.
    there = tmp_path / "there"
    there.mkdir()
    done("-m", "teraproof", "checkpoint", "resume", uri, there / "state", **access)
    said = done(*train(there / "state", there / "out"))
    begun = int(said.splitlines()[0].removeprefix("begins at step "))
    assert 0 < begun < STEPS and begun % EVERY == 0
    for name in ("model.npy", "losses.json"):
        ours = (there / "out" / name).read_bytes()
        assert ours == (tmp_path / "alone" / "out" / name).read_bytes()
    losses = json.loads((there / "out" / "losses.json").read_text())
    assert len(losses) == STEPS and sum(losses[-100:]) < sum(losses[:100]) / 4, "it learns"
