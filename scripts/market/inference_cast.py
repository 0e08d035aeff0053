# SPDX-License-Identifier: Apache-2.0
"""Who plays in the demo of inference: three hosts of one model, and the servers behind them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from scripts.deployment.artifacts import ROOT
from scripts.market.agents import Agent
from scripts.market.ports import free_port
from teraproof.errors import CommandError

if TYPE_CHECKING:
    from scripts.market.accounts import ApeSigner

MODEL = "smollm2-135m-instruct"
PYTHON = ROOT / ".venv-models" / "bin" / "python"
HONEST, DEGRADED = "q4_1", "fewer"
"""Weights of a server: those that the model has, and those of a part of its layers."""
CONTEXT, COMPLETION = 1_024, 256  # tokens


@dataclass(frozen=True)
class Part:
    """What one host is in the play. `price` is dollars for a million tokens that it writes."""

    name: str
    price: str
    weights: str


PARTS = (
    Part("Bargain", "20", DEGRADED),
    Part("Steady", "30", HONEST),
    Part("Reserve", "40", HONEST),
)


@dataclass
class Host:
    """A provider, its agent, and where that one sells inference."""

    part: Part
    owner: ApeSigner
    agent: Agent

    @property
    def name(self) -> str:
        """How the play calls it."""
        return self.part.name

    @property
    def address(self) -> str:
        """The owner's."""
        return self.owner.address


@contextmanager
def servers(home: Path, parts: Sequence[Part]) -> Iterator[dict[str, str]]:
    """Model servers, one for each kind of weights: their base URLs. They end with the context."""
    if not PYTHON.exists():
        raise CommandError(f"{PYTHON} is missing; run make demo-inference, which sets it up")
    started: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
    try:
        for weights in sorted({part.weights for part in parts}):
            started[weights] = _serve(home, weights)
        yield {weights: url for weights, (url, _) in started.items()}
    finally:
        for _, process in started.values():
            process.terminate()
        for _, process in started.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _serve(home: Path, weights: str) -> tuple[str, subprocess.Popen[bytes]]:
    port = free_port()
    words = ["serve", "--port", str(port), "--weights", weights, "--context", str(CONTEXT)]
    with (home / f"model-{weights}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "benchmarks.models", *words, "--threads", "1"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return f"http://127.0.0.1:{port}/v1", process


def digest() -> str:
    """The sha256 of the weights that all hosts say they serve."""
    asked = (
        "import hashlib; from benchmarks.models.places import chat_weights; "
        "print(hashlib.sha256(chat_weights().read_bytes()).hexdigest())"
    )
    done = subprocess.run(
        [str(PYTHON), "-c", asked], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandError("the model's weights are missing; run make models again")
    return done.stdout.strip()


def is_up(url: str) -> bool:
    """Whether a model server answers."""
    try:
        answer = httpx.get(f"{url.removesuffix('/v1')}/health", trust_env=False, timeout=5)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def settings(part: Part, upstream: str, digest: str) -> dict[str, str]:
    """Of a host's agent. `digest` is what it says of its weights."""
    port = free_port()
    model = {
        "upstream": upstream,
        "prompt_price": "1",
        "completion_price": part.price,
        "context": CONTEXT,
        "max_completion": COMPLETION,
        "template": 64,
        "digest": digest,
        "quantization": HONEST,
    }
    return {
        "TERAPROOF_INFERENCE__MODELS": json.dumps({MODEL: model}),
        "TERAPROOF_INFERENCE__HOST": "127.0.0.1",
        "TERAPROOF_INFERENCE__PORT": str(port),
        "TERAPROOF_INFERENCE__PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TERAPROOF_INFERENCE__CLAIM_HOURS": "0.001",
        "TERAPROOF_CHAIN__COIN_PRICE": "1",  # gas of a local chain is bought with play money
        "TERAPROOF_BENCHMARK__ENABLED": "false",  # proofs are another demo's matter
    }
