# SPDX-License-Identifier: Apache-2.0
"""Every registered code is documented, as the registry says."""

from __future__ import annotations

from pathlib import Path

import pytest

from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.outcome import Outcome
from tools import error_table
from tools.pages import PageError, keep, with_table


def test_page__is_fresh_and_names_every_code_exit_and_outcome() -> None:
    page = error_table.PAGE.read_text()
    assert page == error_table.page_with_tables()
    for code in Code:
        assert f"| `{code}` |" in page
    for kind in Exit:
        assert f"| {int(kind)} | {kind.meaning} |" in page
    for outcome in Outcome:
        assert f"| `{outcome}` |" in page


def test_keep__old_page__refused_then_written(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("a <!-- t:begin -->old<!-- t:end --> b")

    def made() -> str:
        return with_table(file.read_text(), "t", "new")

    assert keep(file, made, "make t", ["check"]) == 1
    assert keep(file, made, "make t", []) == 0
    assert keep(file, made, "make t", ["check"]) == 0
    assert file.read_text() == "a <!-- t:begin -->\nnew\n<!-- t:end --> b"


def test_with_table__no_marks__refused() -> None:
    with pytest.raises(PageError):
        with_table("nothing", "t", "new")
