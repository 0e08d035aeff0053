# SPDX-License-Identifier: Apache-2.0
"""Runs the tests against one mutant, in a process forked from one that has everything loaded.

The mutated copy of the contracts lies in a temporary directory; contracts that the mutant does not
reach are taken from the parent, compiled once.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boa
from boa import interpret
from vyper.exceptions import VyperException

from tests.contracts import deploy
from tests.mutation.mutants import SOURCES, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests" / "contracts"
CONTRACTS = ROOT / "contracts"
# Tests that no mutant of SOURCES can reach.
UNRELATED = {"test_token.py", "test_timelock.py"}
RELEVANT_FIRST = 4
# The only ones that a mutant of the rewards can reach.
ABOUT_REWARDS = ("test_benchmark", "test_emissions", "test_gpu_proof")
STATEFUL = {
    "market": TESTS / "stateful",
    "rewards": TESTS / "stateful" / "test_rewards_market.py",
}

KILLED, SURVIVED, TIMEOUT, INVALID, FAILED = "killed", "survived", "timeout", "invalid", "failed"
# Exit codes of a worker: pytest's 0 and 1, and one that pytest does not have.
CODES = {0: SURVIVED, 1: KILLED, 86: INVALID}


@dataclass
class Run:
    """A worker and what it works on; `mutant` None is the unchanged source."""

    mutant: Mutant | None
    pid: int
    started: float
    directory: Path

    def output(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def poll(self, timeout: float) -> str | None:
        """How it ended, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            return CODES.get(os.waitstatus_to_exitcode(status), FAILED)
        if time.monotonic() - self.started > timeout:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return TIMEOUT
        return None

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.close()

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def unit_tests(part: str) -> list[Path]:
    """All that a mutant of the part can reach: the market's contracts serve everybody."""
    files = sorted(p for p in TESTS.glob("test_*.py") if p.name not in UNRELATED)
    return [p for p in files if part == "market" or p.name.startswith(ABOUT_REWARDS)]


def callers(function: str, source: str) -> set[str]:
    """`function` and all functions of the source that reach it."""
    bodies = dict(re.findall(r"^def (\w+)\((.*?)(?=^@|\Z)", source, re.M | re.S))
    reached = {function}
    while True:
        more = {
            name
            for name, body in bodies.items()
            if any(re.search(rf"\b{called}\(", body) for called in reached)
        }
        if more <= reached:
            return reached
        reached |= more


def tests_for(mutant: Mutant | None, part: str) -> list[str]:
    """The unit tests nearest to the mutant, the stateful tests, then the other unit tests."""
    files = unit_tests(part)
    if mutant is not None:
        sources = [CONTRACTS / mutant.file]
        sources += [CONTRACTS / f"{name}.vy" for name in SOURCES[mutant.file]]
        names = {mutant.function}
        for source in sources:
            text = source.read_text()
            names |= {n for name in list(names) for n in callers(name, text)}
        called = re.compile(rf"\b({'|'.join(n.lstrip('_') for n in sorted(names))})\(")
        direct = re.compile(rf"\b{mutant.function.lstrip('_')}\(")
        texts = {path: path.read_text() for path in files}
        files.sort(
            key=lambda p: (
                -20 * (mutant.function.lstrip("_") in p.stem)
                - 3 * len(direct.findall(texts[p]))
                - len(called.findall(texts[p]))
            )
        )
    first, rest = files[:RELEVANT_FIRST], files[RELEVANT_FIRST:]
    return [str(path) for path in (*first, STATEFUL[part], *rest)]


def preload() -> dict[str, Any]:
    """Compile the unchanged contracts once; forked workers inherit them."""
    names = ["Token", "Timelock", "Staking", "Jobs", "Benchmark", "Emissions"]
    for folder in ("testnet", "mocks"):
        names += [f"{folder}/{path.stem}" for path in (CONTRACTS / folder).glob("*.vy")]
    paths = [CONTRACTS / f"{name}.vy" for name in names]
    return {str(path.relative_to(CONTRACTS)): boa.load_partial(str(path)) for path in paths}


def start(mutant: Mutant | None, part: str, compiled: dict[str, Any]) -> Run:
    """Fork a worker for a mutant of a part; without one, for the unchanged sources."""
    directory = Path(tempfile.mkdtemp(prefix="teraproof-mutant-"))
    pid = os.fork()
    if pid:
        # In both processes, so that neither has to wait for the other.
        os.setpgid(pid, pid)
        return Run(mutant, pid, time.monotonic(), directory)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 70
    try:
        code = _work(mutant, part, compiled, directory)
    finally:
        os._exit(code)


def _work(mutant: Mutant | None, part: str, compiled: dict[str, Any], directory: Path) -> int:
    log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    contracts = directory / "contracts"
    shutil.copytree(CONTRACTS, contracts)
    changed: tuple[str, ...] = ()
    if mutant is not None:
        source = (contracts / mutant.file).read_text()
        (contracts / mutant.file).write_text(mutant.apply(source))
        changed = SOURCES[mutant.file]
    # What the tests load from, here and in anything that they start.
    os.environ["TERAPROOF_CONTRACTS"] = str(contracts)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(directory / "hypothesis")
    deploy.CONTRACTS = contracts
    deploy.deployer_of.cache_clear()
    interpret.set_cache_dir(str(directory / "cache"))
    load = boa.load_partial
    done = {str(contracts / name): deployer for name, deployer in compiled.items()}
    try:
        for name in changed:
            path = str(contracts / f"{name}.vy")
            done[path] = load(path)
    except VyperException:
        return 86
    boa.load_partial = lambda path, **options: done.get(str(path)) or load(path, **options)

    import pytest  # its plugins start in the worker, not in the parent

    options = ["-x", "-q", "--no-header", "-p", "no:ape_test", "-p", "no:cacheprovider"]
    options += ["--hypothesis-profile=mutants", "-o", "addopts=--import-mode=importlib"]
    return int(pytest.main([*options, *tests_for(mutant, part)]))
