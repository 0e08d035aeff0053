# SPDX-License-Identifier: Apache-2.0
"""Runs the test suites side by side, and closes with one line for all.

A suite runs in one pytest process or in several, its lanes: the plugins of Ape and titanoboa are
kept apart, and the agent's unit tests run without the contract tooling. Lanes that work are one
more at a time than there are cores; next to them run those that wait most of the time, for chains
and processes. Names on the command line choose suites.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
OK, NO_TESTS = 0, 5  # exit codes of pytest
WAITING_AT_ONCE = 4


@dataclass(frozen=True)
class Suite:
    """A directory under tests/, the environment that runs it, and the plugins it does without."""

    name: str
    environment: str
    without: tuple[str, ...] = ()
    apart: tuple[tuple[str, ...], ...] = ()
    """Test files, or directories of them, that are a lane of their own; the others are one."""
    waits: bool = False
    """It keeps no core busy."""
    optional: bool = False
    """Its environment cannot be had everywhere."""
    last: str = ""
    """A lane that begins after all others: by then another has compiled what it tests."""


SUITES = (
    # The longest first, so that all end together.
    Suite(
        "contracts",
        ".venv",
        ("ape_test",),
        (("stateful", "test_attack_search", "test_revm"),),
        last="contracts, stateful",
    ),
    Suite(
        "agent",
        ".venv-agent",
        (),
        (
            ("runners", "comparator"),
            ("docker",),
            ("benchmark",),
            ("tx", "rpc"),
            ("acceptance", "core", "dataplane", "disputes", "leases", "proofs"),
        ),
    ),
    Suite("scripts", ".venv", ("boa_test",)),
    Suite("sdk", ".venv", ("ape_test", "boa_test")),
    # In the environment that has boto3, and a server of S3.
    Suite("storage", ".venv-agent"),
    Suite(
        "agent_e2e",
        ".venv",
        ("ape_test", "boa_test"),
        (
            # Those that start Docker Engine.
            (
                "test_leases_docker",
                "test_leases_fleet",
                "test_leases_kill_docker",
                "test_leases_sdl",
                "test_leases_training",
            ),
            # Sweeps, each with eight agents at work.
            ("test_kill", "test_bad_rpc", "test_reorg"),
            ("test_disputes",),
            (
                "test_gateway",
                "test_inference_chain",
                "test_inference_checks",
                "test_inference_clients",
                "test_inference_docs",
                "test_inference_facilitator",
                "test_inference_gap",
                "test_inference_house",
                "test_inference_kill",
                "test_inference_refunds",
                "test_inference_vouchers",
            ),
        ),
        waits=True,
    ),
    Suite(
        "agent_proofs",
        ".venv",
        ("ape_test", "boa_test"),
        (("test_proof", "test_proof_draw"), ("test_proof_kill",)),
        waits=True,
    ),
    Suite("agent_ray", ".venv-ray", optional=True, last="agent_ray"),
    Suite("tooling", ".venv", ("ape_test", "boa_test")),
)


class LaneError(Exception):
    """One line for a person: what is named and not there."""


@dataclass(frozen=True)
class Lane:
    """Test files of a suite that one pytest process runs."""

    suite: Suite
    name: str
    files: tuple[Path, ...]


def lanes_of(suite: Suite) -> list[Lane]:
    """All test files of a suite, each in one lane. LaneError when there are none for a name."""
    place = TESTS / suite.name
    left = sorted(place.rglob("test_*.py"))
    apart = []
    for names in suite.apart:
        taken = []
        for name in names:
            found = [path for path in left if name in path.relative_to(place).with_suffix("").parts]
            if not found:
                raise LaneError(
                    f"tests/{suite.name} has no tests named {name}; see tests/suites.py"
                )
            taken += found
            left = [path for path in left if path not in found]
        apart.append(Lane(suite, f"{suite.name}, {names[0]}", tuple(taken)))
    return [Lane(suite, suite.name, tuple(left)), *apart] if left else apart


def is_here(suite: Suite) -> bool:
    """Whether a suite can run. One that may be missing says so; any other fails by itself."""
    if not suite.optional or (ROOT / suite.environment / "bin" / "python").exists():
        return True
    print(f"note: there is no {suite.environment}, so {suite.name} is skipped", flush=True)
    return False


@dataclass
class Count:
    """How many tests ended in which way."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        """Add another suite's numbers."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        """The closing line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def count(report: Path) -> Count:
    """Sum a JUnit report; a test that errs at set-up counts as failed."""
    result = Count()
    # The report was just written by our own pytest run.
    for suite in ElementTree.parse(report).iter("testsuite"):
        total, failures, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
        failed = min(failures + errors, total)
        result.add(Count(max(total - failed - skipped, 0), failed, skipped))
    return result


def surroundings() -> dict[str, str]:
    """The environment of a suite: Ape finds vyper and anvil on PATH, and no user's settings.

    Bytecode is kept: the tests start hundreds of programs, which else compile what they load.
    """
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    return {"APE_DATA_FOLDER": str(ROOT / ".build" / "ape")} | os.environ | ours


@dataclass(frozen=True)
class Run:
    """How one pytest run ended."""

    code: int
    said: str
    processor: float
    """Seconds of processor time, with those of the programs that it started and waited for."""


def execute(command: list[str]) -> Run:
    """One pytest run; its output is kept, for another suite may be talking."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # it is a pipe
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Run(process.returncode, said, usage.ru_utime + usage.ru_stime)


def run(lane: Lane, report: Path) -> Count:
    """Run one lane and count it; a run that ended badly without a failed test counts as one."""
    suite = lane.suite
    python = ROOT / suite.environment / "bin" / "python"
    files = [str(path.relative_to(ROOT)) for path in lane.files]
    options = [part for plugin in suite.without for part in ("-p", f"no:{plugin}")]
    # Lanes do not write into each other's notes of what has failed.
    options += ["-o", f"cache_dir=.build/pytest/{report.stem}", f"--junitxml={report}"]
    print(f"== {lane.name}: started", flush=True)
    started = time.monotonic()
    done = execute([str(python), "-m", "pytest", *files, *options, "-q", "--durations=5"])
    result = count(report) if report.is_file() else Count()
    if done.code not in (OK, NO_TESTS) and not result.failed:
        result.failed = 1
    taken = f"{time.monotonic() - started:.0f} s, {done.processor:.0f} s of processor time"
    print(f"{done.said}== {lane.name}: {result} in {taken}", flush=True)
    return result


def run_all(lanes: list[Lane]) -> Count:
    """Run lanes side by side, in their order."""
    total = Count()
    with (
        tempfile.TemporaryDirectory() as reports,
        ThreadPoolExecutor((os.cpu_count() or 1) + 1) as working,
        ThreadPoolExecutor(WAITING_AT_ONCE) as waiting,
    ):
        running = [
            (waiting if lane.suite.waits else working).submit(
                run, lane, Path(reports) / f"{lane.name.replace(', ', '-')}.xml"
            )
            for lane in lanes
        ]
        for future in running:
            total.add(future.result())
    return total


def main(names: list[str]) -> int:
    """Run the named suites, or all; 0 when tests ran and none failed."""
    unknown = set(names) - {suite.name for suite in SUITES}
    if unknown:
        print(f"error: no such suite: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    try:
        chosen = [suite for suite in SUITES if not names or suite.name in names]
        lanes = [lane for suite in chosen if is_here(suite) for lane in lanes_of(suite)]
        total = run_all(sorted(lanes, key=lambda lane: lane.name == lane.suite.last))
    except LaneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not total.passed and not total.failed:
        print("error: no test ran", file=sys.stderr)
        total.failed = 1
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
