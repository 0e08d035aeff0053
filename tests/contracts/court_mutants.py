# SPDX-License-Identifier: Apache-2.0
"""`make court-mutants`: rules of the court, each taken out: a named test dies of it.

Each compiles the court once more, so the suites do not collect this file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.deploy import CONTRACTS, ROOT

MUTANTS = {
    "the executor may sit": (
        "courts/jurors.vy",
        "        case.provider,\n",
        "",
        "test_juries.py::test_hundred_thousand_draws__no_party_ever__the_rest_by_its_seats",
    ),
    "a commitment without the seal": (
        "courts/votes.vy",
        "abi_encode(job, round, juror, kind, seal, salt)",
        "abi_encode(job, round, juror, kind, salt)",
        "test_disputes.py::test_vote__all_right__the_provider_wins_at_once",
    ),
    "a commitment without the juror": (
        "courts/votes.vy",
        "abi_encode(job, round, juror, kind, seal, salt)",
        "abi_encode(job, round, kind, seal, salt)",
        "test_disputes.py::test_vote__all_right__the_provider_wins_at_once",
    ),
    "a jury of the caller's own block": (
        "courts/docket.vy",
        "designated_block._number() + DRAW_DELAY",
        "designated_block._number()",
        "test_disputes.py::test_open__names_a_block_and_asks_for_the_bond",
    ),
}


@pytest.mark.skipif("TERAPROOF_CONTRACTS" in os.environ, reason="these are mutants already")
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant__dies_by_its_test(name: str, tmp_path: Path) -> None:
    source, before, after, test = MUTANTS[name]
    mutated = tmp_path / "contracts"
    shutil.copytree(CONTRACTS, mutated)
    text = (mutated / source).read_text()
    assert text.count(before) == 1, f"{source} has changed: name the rule anew"
    (mutated / source).write_text(text.replace(before, after))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:ape_test", "-p", "no:cacheprovider",
            f"tests/contracts/{test}",
        ],
        cwd=ROOT,
        env={**os.environ, "TERAPROOF_CONTRACTS": str(mutated), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout, done.stdout
