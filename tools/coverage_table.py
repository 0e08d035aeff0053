# SPDX-License-Identifier: Apache-2.0
"""Which tests hold which invariant, from their markers, for docs/specification.md.

    python -m tools.coverage_table            write the table
    python -m tools.coverage_table check      fail when it is not what the markers say

A test says `@pytest.mark.invariant("I-5")`; a file says it once, in its `pytestmark`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.pages import PageError, keep, with_table

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "specification.md"
DEFINED = re.compile(r"^- \*\*(I-\d+)\b", re.M)


def named(node: ast.expr) -> set[str]:
    """The invariants in a marker, in a list of markers, or none."""
    if isinstance(node, ast.List | ast.Tuple):
        return {name for part in node.elts for name in named(part)}
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.invariant")):
        return set()
    return {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}


def tests_of(node: ast.Module | ast.ClassDef, outer: set[str]) -> Iterator[set[str]]:
    """The invariants of each test under a module or a class."""
    for part in node.body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "pytestmark":
            outer = outer | named(part.value)
    for part in node.body:
        if isinstance(part, ast.ClassDef):
            marks = {name for mark in part.decorator_list for name in named(mark)}
            yield from tests_of(part, outer | marks)
        elif isinstance(part, ast.FunctionDef) and part.name.startswith("test_"):
            yield outer | {name for mark in part.decorator_list for name in named(mark)}


def found() -> dict[str, Counter[str]]:
    """Invariant -> test file -> number of tests."""
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(TESTS.rglob("test_*.py")):
        for names in tests_of(ast.parse(path.read_text()), set()):
            for name in names:
                held[name][path.relative_to(TESTS).as_posix()] += 1
    return held


def table(page: str) -> str:
    """The table; every invariant of the page has a line, and a marker names one of them."""
    held, defined = found(), DEFINED.findall(page)
    if unknown := sorted(set(held) - set(defined)):
        raise PageError(f"{unknown[0]}: a marker names it, the specification does not")
    if bare := [name for name in defined if name not in held]:
        raise PageError(f"{bare[0]}: no test is marked with it")
    lines = ["| Invariant | Tests | Where (`tests/`) |", "|---|--:|---|"]
    for name in defined:
        where = ", ".join(f"`{file}` {count}" for file, count in sorted(held[name].items()))
        lines.append(f"| {name} | {sum(held[name].values())} | {where} |")
    return "\n".join(lines)


def page_with_table() -> str:
    """The page as it should be."""
    page = PAGE.read_text()
    return with_table(page, "coverage", table(page))


def main(argv: list[str]) -> int:
    """0 when the table is right, or was written."""
    return keep(PAGE, page_with_table, "make coverage-table", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
