# SPDX-License-Identifier: Apache-2.0
"""Tables in the documentation that are made from the sources, between two marks of a page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path


class PageError(Exception):
    """One line for a person: what does not fit."""


def with_table(page: str, name: str, table: str) -> str:
    """The page with `table` between its marks `<!-- name:begin -->` and `<!-- name:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in page or end not in page:
        raise PageError(f"the page has no {begin} and {end}")
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


def keep(file: Path, made: Callable[[], str], command: str, argv: Sequence[str]) -> int:
    """Write the page, or with `check` compare it; 0 when it is right. `command` is what to run."""
    try:
        wanted = made()
    except PageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if list(argv) == ["check"]:
        if file.read_text() != wanted:
            print(f"error: a table in {file.name} is old; run {command}", file=sys.stderr)
            return 1
        return 0
    file.write_text(wanted)
    return 0
