# SPDX-License-Identifier: Apache-2.0
"""Tables that stay readable at any width: a word is never cut where it would fit elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

Row = Sequence[str]
# Longer ones are ids, addresses and URLs: they go on in the next line of their column.
_WORD = 24
_FRAME = 3  # characters around a cell, and one more at the edge


def fitted(
    console: Console, title: str, columns: Row, rows: Sequence[Row], *, whole_ids: bool = False
) -> RenderableType:
    """A table, or the rows one below the other where the console is too narrow for its words.

    `whole_ids` keeps the first column in one line: people copy it.
    """
    least = [
        max(_longest(cell) for cell in (name, *(row[number] for row in rows)))
        for number, name in enumerate(columns)
    ]
    if whole_ids:
        least[0] = max((len(row[0]) for row in rows), default=0)
    if sum(least) + _FRAME * len(least) + 1 > console.width:
        return _below(title, columns, rows)
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        whole = whole_ids and number == 0
        table.add_column(name, overflow="fold", min_width=least[number], no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _longest(cell: str) -> int:
    return max((len(word) for word in cell.split() if len(word) <= _WORD), default=1)


def _below(title: str, columns: Row, rows: Sequence[Row]) -> RenderableType:
    lines: list[Text] = [Text(title, style="bold")]
    for row in rows:
        lines += [
            Text.assemble((f"{name}: " if name else "", "bold"), cell)
            for name, cell in zip(columns, row, strict=True)
            if cell
        ]
        lines.append(Text(""))
    return Group(*lines)
