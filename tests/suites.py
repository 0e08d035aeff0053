# SPDX-License-Identifier: Apache-2.0
"""Runs the test suites, two at a time where they are light, and closes with one line for all.

Each suite is a pytest run of its own, because the plugins of Ape and titanoboa are kept apart and
the agent's unit tests run without the contract tooling. Names on the command line choose suites.
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
MAX_AGAIN = 3  # failures of an end-to-end suite that are tried once more
AT_ONCE = 3  # the tests wait as much as they work, and a machine has two cores at least


@dataclass(frozen=True)
class Suite:
    """A directory under tests/, the environment that runs it, and the plugins it does without."""

    name: str
    environment: str
    without: tuple[str, ...] = ()
    alone: bool = False
    """It keeps every core busy by itself."""
    again: bool = False
    """Real processes, clocks and chains: on a busy machine a wait can run out."""


SUITES = (
    # The longest first, so that the lanes end together.
    Suite("agent", ".venv-agent"),
    Suite("contracts", ".venv", ("ape_test",)),
    # Its chain waits for the agents, so it bears company.
    Suite("agent_proofs", ".venv", ("ape_test", "boa_test"), again=True),
    Suite("scripts", ".venv", ("boa_test",)),
    Suite("tooling", ".venv", ("ape_test", "boa_test")),
    Suite("agent_e2e", ".venv", ("ape_test", "boa_test"), alone=True, again=True),
)


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
    """The environment of a suite: Ape finds vyper and anvil on PATH, and no user's settings."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"APE_DATA_FOLDER": str(ROOT / ".build" / "ape")} | os.environ | {"PATH": path}


def execute(command: list[str]) -> subprocess.CompletedProcess[str]:
    """One pytest run; its output is kept, for another suite may be talking."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def run(suite: Suite, report: Path) -> Count:
    """Run one suite and count it; a run that ended badly without a failed test counts as one."""
    python = ROOT / suite.environment / "bin" / "python"
    options = [part for plugin in suite.without for part in ("-p", f"no:{plugin}")]
    command = [str(python), "-m", "pytest", f"tests/{suite.name}", *options]
    command += ["-q", "--durations=5", f"--junitxml={report}"]
    print(f"== {suite.name}: started", flush=True)
    started = time.monotonic()
    done = execute(command)
    code = done.returncode
    result = count(report) if report.is_file() else Count()
    if code not in (OK, NO_TESTS) and not result.failed:
        result.failed = 1
    if suite.again and 0 < result.failed <= MAX_AGAIN:
        # What fails twice has failed; what does not is named.
        print(f"{done.stdout}== {suite.name}: {result}; the failed ones once more", flush=True)
        done = execute([*command, "--last-failed"])
        again = count(report) if report.is_file() else Count()
        if done.returncode == OK and again.passed == result.failed:
            print(f"== {suite.name}: {again.passed} passed at the second try only", flush=True)
            result.passed, result.failed = result.passed + again.passed, 0
    taken = time.monotonic() - started
    print(f"{done.stdout}== {suite.name}: {result} in {taken:.0f} s", flush=True)
    return result


def main(names: list[str]) -> int:
    """Run the named suites, or all; 0 when tests ran and none failed."""
    unknown = set(names) - {suite.name for suite in SUITES}
    if unknown:
        print(f"error: no such suite: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    total = Count()
    with tempfile.TemporaryDirectory() as directory:
        wanted = [
            suite
            for suite in SUITES
            if (not names or suite.name in names) and any((TESTS / suite.name).rglob("test_*.py"))
        ]
        for alone in (False, True):
            suites = [suite for suite in wanted if suite.alone is alone]
            reports = [Path(directory) / f"{suite.name}.xml" for suite in suites]
            with ThreadPoolExecutor(1 if alone else AT_ONCE) as pool:
                for result in pool.map(run, suites, reports):
                    total.add(result)
    if not total.passed and not total.failed:
        print("error: no test ran", file=sys.stderr)
        total.failed = 1
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
