# SPDX-License-Identifier: Apache-2.0
"""The parts of docs/attacks.md that `make attack` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "attacks.md"


def with_part(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with other lines between two markers."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{PAGE.name} has no {begin} and {end}")
    return "\n".join([head + begin, *lines, end + tail])


def write(parts: dict[str, Sequence[str]]) -> None:
    page = PAGE.read_text()
    for name, lines in parts.items():
        page = with_part(page, name, lines)
    PAGE.write_text(page)
