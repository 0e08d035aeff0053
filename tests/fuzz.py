# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: the stateful machines, deep, side by side; fails below 100,000 transactions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.contracts.stateful.profiles import COUNTS, DEEP_TRANSACTIONS

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("TestMarket or TestExitRush", "TestSlashing or TestSmallJobs", "TestRewards")


def start(machines: str, counts: Path) -> subprocess.Popen[bytes]:
    """One pytest run of some machines."""
    command = [sys.executable, "-m", "pytest", "tests/contracts/stateful", "-p", "no:ape_test"]
    command += ["-q", "--hypothesis-profile=deep", "-k", machines]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {COUNTS: str(counts)})


def main() -> int:
    """Run all parts and add up; 0 when nothing failed and enough was done."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / f"{n}.json" for n in range(len(PARTS))]
        runs = [start(machines, file) for machines, file in zip(PARTS, files, strict=True)]
        codes = [run.wait() for run in runs]
        found = [json.loads(file.read_text()) for file in files if file.is_file()]
    sent = sum(counts["transactions"] for counts in found)
    refused = sum(counts["reverted"] for counts in found)
    taken = time.monotonic() - began
    print(
        f"{sent:,} transactions ({refused:,} refused, as the model said) in {taken:.0f} s, "
        f"{sent / taken:.0f} a second"
    )
    if sent < DEEP_TRANSACTIONS:
        print(f"error: a deep run takes {DEEP_TRANSACTIONS:,} transactions")
        return 1
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
