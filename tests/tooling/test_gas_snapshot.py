# SPDX-License-Identifier: Apache-2.0
"""`make gas` sees every change, and reads only what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import snapshot
from benchmarks.chain import BenchmarkError


def test_write__sorted_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    figures = snapshot.flatten({"b": [3, 2, 1], "a": [9, 8, 7]})
    snapshot.write(figures, path)
    assert path.read_text() == "a: 7\na_first: 9\nb: 1\nb_first: 3\n"
    assert snapshot.read(path) == figures


def test_flatten__measured_once__has_no_first_use() -> None:
    assert snapshot.flatten({"a": [5], "b": [3, 2]}) == {"a": 5, "b": 2, "b_first": 3}


def test_differences__changed_new_and_gone() -> None:
    committed = {"same": 1, "changed": 2, "gone": 3}
    measured = {"same": 1, "changed": 1, "new": 4}
    assert snapshot.differences(committed, measured) == [
        ("changed", 2, 1),
        ("gone", 3, None),
        ("new", None, 4),
    ]


@pytest.mark.parametrize(
    ("now", "differs"), [(800, False), (1_200, False), (799, True), (1_201, True)]
)
def test_differences__a_header_in_the_calldata__may_differ_a_little(
    now: int, differs: bool
) -> None:
    name = "benchmark_open_epoch"
    assert bool(snapshot.differences({name: 1_000}, {name: now})) is differs
    assert snapshot.differences({name: 1_000}, {}) == [(name, 1_000, None)]


@pytest.mark.parametrize("text", ["a 1\n", "a: x\n", "a: -1\n", ": 1\n", "a: 1\na: 1\n", "\n"])
def test_read__malformed__says_which_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "snapshot"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match="run make gas-update"):
        snapshot.read(path)


def test_read__missing__says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="make gas-update"):
        snapshot.read(tmp_path / "snapshot")
