# SPDX-License-Identifier: Apache-2.0
"""What a source says to its compiler: the tokens, without comments, docstrings and layout.

Python's tokenizer reads Vyper's sources too; Vyper's own compiler begins with it.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from tokenize import (
    COMMENT,
    DEDENT,
    ENDMARKER,
    INDENT,
    NEWLINE,
    NL,
    STRING,
    TokenInfo,
    generate_tokens,
)

# Tokens whose text is layout, and what stands for them.
MARKS = {NEWLINE: "\n", INDENT: "\t", DEDENT: "\b"}


@dataclass(frozen=True)
class Words:
    """The tokens of a source, where each of them begins in it, and which of them begin an item.

    An item is what stands at the left edge: a function with its decorators, a constant.
    """

    texts: tuple[str, ...]
    starts: tuple[int, ...]
    items: tuple[int, ...]

    def digest(self) -> str:
        """Another one as soon as the source says something else; 16 hexadecimal digits."""
        return _digest(self.texts)

    def digest_with(self, start: int, end: int, after: str) -> str:
        """The digest of one item, with `after` in the place of source[start:end] in it."""
        first, last = bisect_left(self.starts, start), bisect_left(self.starts, end)
        item = bisect_right(self.items, first) - 1
        begin, stop = (*self.items, len(self.texts))[item : item + 2]
        # In brackets, as there its lines may break anywhere.
        new = words_of(f"({after})").texts[1:-2]
        return _digest((*self.texts[begin:first], *new, *self.texts[last:stop]))


def words_of(source: str) -> Words:
    """Read a Python or Vyper source. Its pragmas are words: the compiler obeys them."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    texts, starts = [], []
    for token in _said(generate_tokens(io.StringIO(source).readline)):
        row, column = token.start
        texts.append(MARKS.get(token.type, token.string))
        # The end of a block stands ahead of the line that follows it, not in it.
        starts.append(lines[row - 1] - 1 if token.type == DEDENT else lines[row - 1] + column)
    return Words(tuple(texts), tuple(starts), tuple(_items(texts)))


def _items(texts: list[str]) -> Iterator[int]:
    """Where they begin: at the first word of a line without indentation, or its decorators."""
    depth, edge, decorated = 0, True, False
    for place, text in enumerate(texts):
        if edge and depth == 0 and text not in MARKS.values():
            if not decorated:
                yield place
            decorated = text == "@"
        depth += {MARKS[INDENT]: 1, MARKS[DEDENT]: -1}.get(text, 0)
        edge = text in MARKS.values() or text.startswith("#")


def _said(tokens: Iterator[TokenInfo]) -> Iterator[TokenInfo]:
    """Those that are neither comment nor docstring nor an empty line."""
    before, held = NEWLINE, None
    for token in tokens:
        if token.type == COMMENT and token.string.lstrip("# ").startswith("pragma "):
            yield token
        if token.type in (COMMENT, NL, ENDMARKER):
            continue
        if held:
            # A string that is a whole line is a docstring.
            if token.type != NEWLINE:
                yield from (held, token)
            held = None
        elif token.type == STRING and before in MARKS:
            held = token
        else:
            yield token
        before = token.type


def _digest(texts: tuple[str, ...]) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()[:16]
