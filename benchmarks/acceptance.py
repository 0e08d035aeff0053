# SPDX-License-Identifier: Apache-2.0
"""Measures acceptance challenges on this machine's CPU: who passes, and what the tenant computes.

    .venv-agent/bin/python -m benchmarks.acceptance --challenges 100

Kept is a promise of a quarter of what the device shows in one challenge, so that other work on the
machine does not break it. Broken is one of four times the most that it has shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from provider_agent.prover.acceptance.memory import HostMemory
from provider_agent.prover.acceptance.respondent import Respondent
from provider_agent.prover.engine import Engine, make_engine
from teraproof.acceptance import checks
from teraproof.acceptance import format as fmt
from teraproof.acceptance.checks import Promise, Verdict
from teraproof.acceptance.examiner import Subject, examine
from teraproof.acceptance.format import BLOCK_BYTES, Lease, Work
from teraproof.acceptance.messages import Step
from teraproof.pog import format as pog
from teraproof.pog import opening
from teraproof.pog.format import Sample, Shape

_SHAPE, _MARKET = Shape(256, 4), Shape(32_768, 68)
_WORK = Work(_SHAPE, rounds=8, devices=1, blocks=60, sweeps=8, seconds=300)
_KEPT, _BROKEN = 4, 4
_MS = 1000


class _Kept:
    """An engine that goes on when a challenge is over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """It goes on."""


class _Provider:
    """Answers for one device in this process."""

    def __init__(self, engine: Any, lease: Lease) -> None:
        self._one = Respondent(lease, _WORK, 0, engine, HostMemory)

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """See `Examinee`."""
        if step is Step.FILL:
            return {"filled": [self._one.fill(nonce)]}
        if step is Step.WORK:
            return {"commitments": [self._one.work(nonce).hex()]}
        if step is Step.SWEEP:
            return {"sweeps": [[root.hex() for root in self._one.sweep(nonce)]]}
        return {"openings": [self._one.open(nonce).to_json()]}


def _challenge(engine: Any, number: int, promise: Promise) -> Verdict:
    lease = Lease(1, "0x" + "0a" * 20, "0x" + "0b" * 20, number.to_bytes(32, "big"))
    (verdict,) = examine([Subject(lease, _WORK, promise, _Provider(engine, lease))])
    return verdict


def _took(what: Callable[[], object], times: int = 5) -> float:
    """Median milliseconds of processor time: other work on the machine does not count."""
    found = []
    for _ in range(times):
        began = time.process_time()
        what()
        found.append(_MS * (time.process_time() - began))
    return statistics.median(found)


def _tenant() -> None:
    """What checking costs the tenant, for one device."""
    challenge = pog.keccak(b"measured")

    def entries() -> None:
        for number in range(fmt.ENTRIES):
            opening.entry(challenge, _MARKET, Sample(0, number, number), pog.ZERO)

    def digests() -> None:
        factors = fmt.coefficients(challenge)
        for number in range(fmt.ENTRIES):
            fmt.digest(fmt.block(challenge, number), factors)

    def paths() -> None:
        for _ in range(fmt.ENTRIES * (_MARKET.leaf_path + 2 * 8 + 15)):
            pog.keccak(bytes(64))

    print(f"64 entries at N = 32,768, K = 32,640   {_took(entries):.0f} ms")
    print(f"64 digests of blocks                   {_took(digests):.0f} ms")
    print(f"their paths                            {_took(paths):.0f} ms")


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(prog="benchmarks.acceptance", description=main.__doc__)
    parser.add_argument("--challenges", type=int, default=100)
    count = parser.parse_args().challenges
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    _tenant()
    engine: Any = _Kept(make_engine("cpu"))
    easy = Promise(score=1, memory=_WORK.blocks * BLOCK_BYTES, bandwidth=1)
    _challenge(engine, 0, easy)
    shown = _challenge(engine, 0, easy).score
    kept = replace(easy, score=shown // _KEPT, bandwidth=10**6)
    best = _challenges(engine, "kept", kept, count)
    _challenges(engine, "broken", replace(kept, score=max(shown, best) * _BROKEN), count)


def _challenges(engine: Any, name: str, promise: Promise, count: int) -> int:
    """Challenges of a promise, and what came of them; the best score that was shown."""
    found = [_challenge(engine, number, promise) for number in range(count)]
    passed = sum(one.passed for one in found)
    scores = sorted(one.score for one in found)
    print(
        f"promise {name}: {passed} of {count} passed; shown {scores[0] / 1e9:.2f} to "
        f"{scores[-1] / 1e9:.2f} Gop/s, promised {promise.score / 1e9:.2f}",
        flush=True,
    )
    reasons = {one.reason for one in found} - {checks.Reason.PASSED}
    for reason in sorted(reasons):
        print(f"    {reason}: {sum(one.reason is reason for one in found)}")
    return scores[-1]


if __name__ == "__main__":
    main()
