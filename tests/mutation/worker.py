# SPDX-License-Identifier: Apache-2.0
"""Runs the tests against one mutant, in a process forked from one that has everything loaded.

The mutated copy of the contracts lies in a temporary directory; contracts that the mutant does not
reach are taken from the parent, compiled once.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boa
from boa import interpret
from boa.contracts.vyper.vyper_contract import VyperDeployer
from vyper.exceptions import VyperException

from tests.contracts import deploy, revm
from tests.contracts.stateful import market, rentals, tills
from tests.contracts.stateful.driver import Tally, run
from tests.contracts.stateful.lease_world import lease_world
from tests.contracts.stateful.profiles import PROFILE, chosen, first_seed
from tests.contracts.stateful.world import world
from tests.mutation.mutants import CONTRACTS, PARTS, ROOT, SOURCES, Mutant

TESTS = ROOT / "tests" / "contracts"
# Tests that no mutant of SOURCES can reach, or that look at the sources themselves.
UNRELATED = {
    "test_token.py",
    "test_timelock.py",
    "test_payment_token.py",
    "test_revm.py",
    "test_two_machines.py",
    "test_attack_search.py",
    "test_attack_court.py",
    "test_attack_leases.py",
}


# Examples run before the first fork: their proofs are made once.
WARM = 4
# Examples of the machine that a mutant meets before any unit test.
FIRST = 16
RECORD = "reach.json"

KILLED, SURVIVED, TIMEOUT, INVALID, FAILED = "killed", "survived", "timeout", "invalid", "failed"
# Exit codes of a worker: pytest's 0 and 1, and one that pytest does not have.
# 2: a module of tests could not even be read.
CODES = {0: SURVIVED, 1: KILLED, 2: KILLED, 86: INVALID, -signal.SIGXCPU: TIMEOUT}


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


def test_files(names: Sequence[str] = ()) -> list[str]:
    """The files of tests that may meet a mutant; with names those whose path below TESTS begins so.

    Raises ValueError for a name that fits none.
    """
    files = [path for path in sorted(TESTS.rglob("test_*.py")) if path.name not in UNRELATED]
    paths = {path.relative_to(TESTS).as_posix(): str(path) for path in files}
    for name in names:
        if not any(path.startswith(name) for path in paths):
            raise ValueError(f"no file of tests begins with {name}")
    return [file for path, file in paths.items() if not names or path.startswith(tuple(names))]


def preload(changed: Collection[str]) -> dict[str, Any]:
    """Compile the unchanged contracts once, for mutants of `changed`; forked workers inherit it."""
    names = ["Token", "Timelock", *PARTS]
    for folder in ("testnet", "mocks"):
        names += [f"{folder}/{path.stem}" for path in (CONTRACTS / folder).glob("*.vy")]
    paths = [CONTRACTS / f"{name}.vy" for name in names if (CONTRACTS / f"{name}.vy").is_file()]
    found = {str(path.relative_to(CONTRACTS)): boa.load_partial(str(path)) for path in paths}
    for deployer in found.values():
        # Asked for here, it is not compiled again in every worker.
        _ = deployer.compiler_data.bytecode
    for make in _makers(changed):
        for seed in range(WARM):
            run(make, first_seed() + seed, chosen().steps, Tally())
    # A worker lives for seconds; nothing that it inherits is garbage.
    gc.collect()
    gc.freeze()
    return found


def start(
    mutant: Mutant | None,
    tests: Sequence[str],
    compiled: dict[str, Any],
    first: Sequence[str] = (),
    seconds: int = 0,
) -> Run:
    """Fork a worker that runs `tests` on a mutant; without one it records what they reach.

    `seconds` of CPU time are all that it gets; 0 means without limit.
    """
    directory = Path(tempfile.mkdtemp(prefix="teraproof-mutant-"))
    pid = os.fork()
    if pid:
        # In both processes, so that neither has to wait for the other.
        os.setpgid(pid, pid)
        return Run(mutant, pid, time.monotonic(), directory)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if seconds:
        # Not of the clock: what else runs on the machine must not decide a verdict.
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    code = 70
    try:
        code = _work(mutant, tests, compiled, directory, first)
    finally:
        os._exit(code)


def _work(
    mutant: Mutant | None,
    tests: Sequence[str],
    compiled: dict[str, Any],
    directory: Path,
    first: Sequence[str],
) -> int:
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
    os.environ[PROFILE] = "mutants"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(directory / "hypothesis")
    deploy.CONTRACTS = contracts
    deploy.compiled_by_boa.cache_clear()
    revm.compiled.cache_clear()
    world.cache_clear()
    lease_world.cache_clear()
    tills.tillworld.cache_clear()
    interpret.disable_cache()
    load = boa.load_partial
    done = {str(contracts / name): deployer for name, deployer in compiled.items()}
    boa.load_partial = lambda path, **options: done.get(str(path)) or load(path, **options)
    try:
        paths = [contracts / f"{name}.vy" for name in changed]
        half = {str(path): deploy.half_compiled(path) for path in paths}
    except VyperException:
        return 86
    done.update(half)
    if mutant is not None:
        if any(_machine_fails(make) for make in _makers(changed)):
            return 1
        if not tests:
            return 0
    for path, deployer in half.items():
        done[path] = VyperDeployer(deployer.compiler_data, filename=path)
    deploy.compiled_by_boa.cache_clear()

    import pytest  # its plugins start in the worker, not in the parent

    from tests.mutation.reach import Only, Recorder, make_source_maps

    make_source_maps()
    options = ["-q", "--no-header", "-p", "no:ape_test", "-p", "no:cacheprovider"]
    options += ["-o", "addopts=--import-mode=importlib", "-p", "no:randomly"]
    if mutant is not None:
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        return int(pytest.main(["-x", *options, *files], plugins=[Only(tests, first)]))
    recorder = Recorder(CONTRACTS, contracts)
    code = int(pytest.main([*options, *tests], plugins=[recorder]))
    recorder.reach.save(directory / RECORD)
    return code


def _makers(changed: Collection[str]) -> list[Callable[[], Any]]:
    """The machines that changed contracts are part of; leases and channels have their own."""
    own = {"Leases": rentals.make, "Channels": tills.make}
    found: list[Callable[[], Any]] = [own[name] for name in own if name in changed]
    return [*found, market.make] if set(changed) - set(own) else found


def _machine_fails(make: Callable[[], Any]) -> bool:
    """Whether the stateful machine notices; the quickest of all looks."""
    for seed in range(first_seed(), first_seed() + FIRST):
        try:
            run(make, seed, chosen().steps, Tally(), small=False)
        except Exception:
            traceback.print_exc()
            return True
    return False
