# SPDX-License-Identifier: Apache-2.0
"""The example job gives the same bytes everywhere, in the sandbox too."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.runners.base import MIB, RunRequest
from tests.support import runs

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "finetune-digits"
RUNTIME = ROOT / ".venv-runtime"

# Taken once; another machine, processor or NumPy must agree.
MODEL = "6af43553bc9ab4b9f3a437d0d67cd74aaa321a516ba5d9c081953b96d8282627"
METRICS = "08c1f464a6e4621f8a52a47528b0ca6a83408c188cf5d7611134bdd3cef28edb"

pytestmark = pytest.mark.skipif(not RUNTIME.is_dir(), reason="make setup makes .venv-runtime")


@pytest.mark.sandbox
def test_finetune__in_the_sandbox__learns_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    runs.need_bubblewrap()
    specification = json.loads((EXAMPLE / "job.json").read_text())
    runner = runs.make_runner(tmp_path / "data")
    run = RunRequest(
        run_id="example",
        command=tuple(specification["command"]),
        limits=replace(runs.LIMITS, timeout_seconds=60, memory_bytes=1024 * MIB, pids=64),
        runtime=RUNTIME,
        inputs={entry["path"]: EXAMPLE / entry["path"] for entry in specification["inputs"]},
        outputs=tuple(specification["outputs"]),
    )
    runner.start(run)
    state = runs.wait(runner, "example", seconds=70)
    assert state.succeeded, runner.log("example").read_text()
    out = runner.outputs("example") / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "metrics.json",
        "model.npy",
        "report.svg",
    ]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["accuracy_before"] < 0.2 < 0.9 < metrics["accuracy_after"]
    assert hashlib.sha256((out / "model.npy").read_bytes()).hexdigest() == MODEL
    assert hashlib.sha256((out / "metrics.json").read_bytes()).hexdigest() == METRICS
    runner.remove("example")


def test_pretrain__makes_the_committed_base_model(tmp_path: Path) -> None:
    for name in ("finetune.py", "pretrain.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    subprocess.run([RUNTIME / "bin" / "python", "pretrain.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "base_model.npy").read_bytes() == (EXAMPLE / "base_model.npy").read_bytes()
