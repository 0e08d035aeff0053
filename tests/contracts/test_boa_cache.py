# SPDX-License-Identifier: Apache-2.0
"""A contract is compiled again when anything that it is made of has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boa
import pytest
from boa import interpret

# Who imports whom, three deep; an interface at the end.
SOURCES = {
    "Top": "from . import middle\n@external\n"
    "def answer() -> uint256:\n    return middle._answer()\n",
    "middle": "from . import low\n@internal\ndef _answer() -> uint256:\n    return low._answer()\n",
    "low": "@internal\ndef _answer() -> uint256:\n    return 1\n",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    before = interpret._disk_cache
    interpret.set_cache_dir(tmp_path / "cache")
    yield
    interpret._disk_cache = before


def answer(directory: Path) -> int:
    return int(boa.load_partial(str(directory / "Top.vy")).deploy().answer())


def test_change_far_below__is_compiled_in(tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.vy").write_text(source)
    assert answer(tmp_path) == 1
    assert len(list((tmp_path / "cache").rglob("*.pickle"))) == 1
    assert answer(tmp_path) == 1
    assert len(list((tmp_path / "cache").rglob("*.pickle"))) == 1  # it is a cache
    (tmp_path / "low.vy").write_text(SOURCES["low"].replace("1", "2"))
    assert answer(tmp_path) == 2
