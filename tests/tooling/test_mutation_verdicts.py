# SPDX-License-Identifier: Apache-2.0
"""What `make mutate` need not try again, and what it must."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation import verdicts
from tests.mutation.mutants import CONTRACTS, Mutant, find_mutants, part_of
from tests.mutation.verdicts import Verdicts

LASTING = ("killed", "invalid")
CONTRACT = """# pragma version 0.4.3
FEE: constant(uint256) = 2


@external
def pay(amount: uint256):
    \"\"\"
    @notice Pays.
    \"\"\"
    # All of it.
    self.paid += amount


@external
def rest():
    assert self.paid == 0
"""
FILES = {"Jobs.vy": CONTRACT, "deals/escrow.vy": "y: uint256\n"}


@pytest.fixture
def contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "contracts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(verdicts, "ROOT", tmp_path)
    monkeypatch.setattr(verdicts, "CONTRACTS", tmp_path / "contracts")
    return tmp_path / "contracts"


def mutant(contracts: Path, before: str = "self.paid += amount", after: str = "pass") -> Mutant:
    """Wherever `before` stands today."""
    source = (contracts / "Jobs.vy").read_text()
    start = source.index(before)
    end = start + len(before)
    return Mutant("Jobs.vy", "f", "dropped call", start, end, 1, before, after, beside=before)


def again(contracts: Path, *tests: str) -> Verdicts:
    """As the next run reads them."""
    return Verdicts(LASTING, contracts.parent / "kept", tests)


def tried(contracts: Path, verdict: str) -> None:
    again(contracts).put(mutant(contracts), verdict)


def change(contracts: Path, before: str, after: str) -> None:
    path = contracts / "Jobs.vy"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.parametrize("verdict", ["killed", "invalid", "survived", "timeout"])
def test_unchanged__nothing_is_tried_again(contracts: Path, verdict: str) -> None:
    tried(contracts, verdict)
    known, other = mutant(contracts), mutant(contracts, after="self.paid -= amount")
    assert again(contracts).get(known) == verdict
    assert again(contracts).missing([known, other]) == [other]


@pytest.mark.parametrize("verdict", ["killed", "survived"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    # All of it.\n", ""),
        ("@notice Pays.", "@notice Pays\n    what is due."),
        ("@external\ndef pay", "# It pays.\n\n@external\ndef pay"),
        ("def pay(amount: uint256):", "def pay(\n    amount: uint256\n):"),
        ("= 2\n", "= 2  # in 1,000\n"),
    ],
)
def test_a_comment_or_the_layout_changes__nothing_is_tried_again(
    contracts: Path, before: str, after: str, verdict: str
) -> None:
    tried(contracts, verdict)
    change(contracts, before, after)
    assert again(contracts).get(mutant(contracts)) == verdict


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("deals/escrow.vy", "uint256", "uint128"),
        ("Jobs.vy", "assert self.paid == 0", "assert self.paid == 1"),
        ("Jobs.vy", "constant(uint256) = 2", "constant(uint256) = 3"),
        ("Jobs.vy", "version 0.4.3", "version 0.4.4"),
    ],
)
@pytest.mark.parametrize(
    ("verdict", "kept"), [("killed", True), ("invalid", True), ("survived", False)]
)
def test_something_else_changes__only_who_lived_is_tried_again(
    contracts: Path, file: str, before: str, after: str, verdict: str, kept: bool
) -> None:
    tried(contracts, verdict)
    path = contracts / file
    path.write_text(path.read_text().replace(before, after))
    assert (again(contracts).get(mutant(contracts)) == verdict) is kept


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    self.paid += amount", "    self.paid += amount\n    self.paid += 1"),
        ("pay(amount: uint256)", "pay(amount: uint128)"),
        ("@external\ndef pay", "@nonreentrant\n@external\ndef pay"),
    ],
)
def test_its_own_function_changes__all_are_tried_again(
    contracts: Path, before: str, after: str
) -> None:
    tried(contracts, "killed")
    change(contracts, before, after)
    assert again(contracts).get(mutant(contracts)) is None


def test_the_same_words_twice__are_two_mutants(contracts: Path) -> None:
    change(contracts, "    self.paid += amount", "    self.paid += amount\n    self.paid += amount")
    first = mutant(contracts)
    again(contracts).put(first, "killed")
    second = replace(first, start=first.end + 5, end=first.end + 5 + len(first.before))
    assert again(contracts).missing([first, second]) == [second]


def test_some_tests_alone__who_lives_is_tried_again_with_all(contracts: Path) -> None:
    known = mutant(contracts)
    again(contracts, "leases/").put(known, "survived")
    assert again(contracts, "leases/").get(known) == "survived"
    assert again(contracts).get(known) is None
    again(contracts, "leases/").put(known, "killed")
    assert again(contracts).get(known) == "killed"


def test_report__tries_nothing_and_says_how_much_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_nothing(_: object) -> dict[str, object]:
        raise AssertionError("a report compiles nothing")

    report = tmp_path / "mutation.md"
    monkeypatch.setattr(mutation, "REPORT", report)
    monkeypatch.setattr(mutation, "preload", compile_nothing)
    monkeypatch.setattr(mutation, "Verdicts", partial(Verdicts, folder=tmp_path))
    mutation.main(["--part", "Emissions", "--report"])
    found = find_mutants(CONTRACTS)
    mine = [each for each in found if part_of(each.file) == "Emissions"]
    explained = [each for each in mine if each.key in mutation.known_survivors(found)]
    assert f"**{len(explained)} of {len(mine)} mutants so far, file by file" in report.read_text()
