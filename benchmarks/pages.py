# SPDX-License-Identifier: Apache-2.0
"""Tables of a document that a program writes: between two marks, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

# A part of a page between two such lines is written by a program.
_TABLE = re.compile(r"(?<=<!-- table: )([a-z-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> str:
    """A table in Markdown; the first `left` columns are of words, the others of figures."""
    marks = "|" + "---|" * left + "---:|" * (len(head) - left)
    lines = ["| " + " | ".join(head) + " |", marks]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def filled(page: str, tables: Mapping[str, Callable[[], str]], name: str) -> str:
    """The page `name` with its tables computed again. ValueError names one that nobody computes."""

    def fill(match: re.Match[str]) -> str:
        wanted = match[1]
        if wanted not in tables:
            raise ValueError(f"{name} asks for a table {wanted!r}; there is none")
        return f"{wanted}{match[2]}\n{tables[wanted]()}\n"

    return _TABLE.sub(fill, page)
