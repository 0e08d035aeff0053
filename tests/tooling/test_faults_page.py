# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md names tests that are there."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"
_FILE = re.compile(r"([a-z_0-9/]+\.py)(?:::(\S+))?")
_TEST = re.compile(r"(?:test_|Test)[A-Za-z0-9_*]*")


def names_in(file: Path) -> set[str]:
    """What a file of tests defines: its functions and classes, and classes that others made."""
    text = file.read_text()
    return {
        *re.findall(r"^ *(?:def|class) (\w+)", text, re.M),
        *re.findall(r"^(\w+) = ", text, re.M),
    }


def missing(page: str, tests: Path) -> list[str]:
    """The files and tests that a page names and nobody wrote. A `*` stands for any characters."""
    found = []
    for row in re.findall(r"^\|.*\|$", page, re.M):
        file: Path | None = None
        for word in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1]):
            named = _FILE.fullmatch(word)
            if named:
                file = tests / named[1]
                if not file.is_file():
                    file = tests.parent / named[1]
                if not file.is_file():
                    found.append(word)
                    file = None
            wanted = named[2] if named else word if _TEST.fullmatch(word) else None
            if wanted is None or (named and file is None):
                continue
            if file is None or not any(fnmatchcase(name, wanted) for name in names_in(file)):
                found.append(word)
    return found


def test_faults__every_file_and_test_that_is_named__exists() -> None:
    assert missing(PAGE.read_text(), TESTS) == []


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("`agent/test_a.py`: `test_one__works`, `test_two__*`", []),
        ("`agent/test_a.py::test_one__*`", []),
        ("`agent/test_a.py`: `test_one`", ["test_one"]),
        ("`agent/test_a.py`: `test_three__*`", ["test_three__*"]),
        ("`agent/test_a.py::test_three`", ["agent/test_a.py::test_three"]),
        ("`agent/test_b.py`", ["agent/test_b.py"]),
    ],
)
def test_missing__names_and_patterns(tmp_path: Path, cell: str, wrong: list[str]) -> None:
    folder = tmp_path / "tests"
    (folder / "agent").mkdir(parents=True)
    (folder / "agent" / "test_a.py").write_text(
        "def test_one__works() -> None: ...\ndef test_two__works() -> None: ...\n"
    )
    assert missing(f"| a fault | its kind | {cell} |\n", folder) == wrong
