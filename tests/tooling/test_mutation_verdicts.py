# SPDX-License-Identifier: Apache-2.0
"""What `make mutate` need not try again, and what it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import verdicts
from tests.mutation.mutants import Mutant
from tests.mutation.verdicts import Verdicts

LASTING = ("killed", "invalid")
FILES = {"Jobs.vy": "x: uint256\n", "deals/escrow.vy": "y: uint256\n"}


@pytest.fixture
def contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "contracts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(verdicts, "CONTRACTS", tmp_path / "contracts")
    monkeypatch.setattr(verdicts, "of_everything", lambda: everything(tmp_path))
    return tmp_path / "contracts"


def everything(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.rglob("*.vy")))


def mutant(file: str, after: str = "pass") -> Mutant:
    return Mutant(file, "f", "dropped call", 0, 1, 1, "x", after, beside="x")


def again(contracts: Path) -> Verdicts:
    """As the next run reads them."""
    return Verdicts(LASTING, contracts.parent / "kept")


def tried(contracts: Path, verdict: str) -> None:
    again(contracts).put(mutant("Jobs.vy"), verdict)


@pytest.mark.parametrize("verdict", ["killed", "invalid", "survived", "timeout"])
def test_unchanged__nothing_is_tried_again(contracts: Path, verdict: str) -> None:
    tried(contracts, verdict)
    assert again(contracts).get(mutant("Jobs.vy")) == verdict
    assert again(contracts).missing([mutant("Jobs.vy"), mutant("Jobs.vy", "0")]) == [
        mutant("Jobs.vy", "0")
    ]


@pytest.mark.parametrize(
    ("verdict", "kept"), [("killed", True), ("invalid", True), ("survived", False)]
)
def test_another_file_changes__only_who_lived_is_tried_again(
    contracts: Path, verdict: str, kept: bool
) -> None:
    tried(contracts, verdict)
    (contracts / "deals" / "escrow.vy").write_text("z: uint256\n")
    assert (again(contracts).get(mutant("Jobs.vy")) == verdict) is kept


def test_its_own_file_changes__all_are_tried_again(contracts: Path) -> None:
    tried(contracts, "killed")
    (contracts / "Jobs.vy").write_text("x: uint128\n")
    assert again(contracts).get(mutant("Jobs.vy")) is None


def test_its_file_is_gone__no_verdict(contracts: Path) -> None:
    tried(contracts, "killed")
    (contracts / "Jobs.vy").unlink()
    assert again(contracts).get(mutant("Jobs.vy")) is None
