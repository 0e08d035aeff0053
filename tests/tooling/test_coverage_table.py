# SPDX-License-Identifier: Apache-2.0
"""The table of invariants in the specification is what the tests' markers say."""

from __future__ import annotations

import ast

import pytest

from tools import coverage_table
from tools.pages import PageError


def test_table__is_fresh() -> None:
    assert coverage_table.PAGE.read_text() == coverage_table.page_with_table()


def test_markers__of_a_file_a_class_and_a_test_add_up() -> None:
    tree = ast.parse(
        "pytestmark = [pytest.mark.slow, pytest.mark.invariant('I-1')]\n"
        "@pytest.mark.invariant('I-2', 'I-3')\n"
        "class TestIt:\n"
        "    @pytest.mark.invariant('I-4')\n"
        "    def test_a(self): ...\n"
        "def test_b(): ...\n"
    )
    seen = sorted(map(sorted, coverage_table.tests_of(tree, set())))
    assert seen == [["I-1"], ["I-1", "I-2", "I-3", "I-4"]]


def test_table__names_a_marker_that_the_specification_does_not_know() -> None:
    with pytest.raises(PageError, match="the specification does not"):
        coverage_table.table("- **I-1 Conservation.**")
