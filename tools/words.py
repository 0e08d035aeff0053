# SPDX-License-Identifier: Apache-2.0
"""Refuses decisions by the words of a message, for `make lint`.

    python tools/words.py            every source but the tests
    python tools/words.py FILE...    these

Words are for people and get better; a program decides by a type or by a code. What counts as words:
`str(error)` of an exception, and whatever is called after one (`note`, `message`, `detail`, ...).
What counts as a decision: comparing them with text, looking for text in them, matching a pattern
on them. Nodes have no codes that all agree on, so `teraproof/rpc` alone reads their words.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("teraproof", "provider_agent", "scripts", "tools", "benchmarks")
EXEMPT = ("teraproof/rpc/",)

#: Names of variables and attributes that hold a line for people.
_LINES = frozenset(("detail", "message", "msg", "note", "stderr", "trouble"))
#: Names that hold an exception, besides those that an `except` binds.
_ERRORS = frozenset(("err", "error", "exc", "exception", "failure", "refusal"))
_METHODS = frozenset(("count", "endswith", "find", "index", "startswith"))
_SAME_TEXT = frozenset(("casefold", "lower", "strip", "upper"))
_PATTERNS = frozenset(("findall", "fullmatch", "match", "search"))


class Finder(ast.NodeVisitor):
    """Collects the lines that decide by words."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []
        self._caught: list[str] = []

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """The name is an exception inside."""
        self._caught.append(node.name or "")
        self.generic_visit(node)
        self._caught.pop()

    def visit_Compare(self, node: ast.Compare) -> None:
        """`"text" in words`, `words == "text"`, `words in ("a", "b")`."""
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            if isinstance(operator, ast.In | ast.NotIn):
                # `x in lines` asks a collection; text in words, and words among texts, decide.
                decides = (self._words(right) and _text(left)) or (
                    self._words(left) and _text(right)
                )
            elif isinstance(operator, ast.Eq | ast.NotEq):
                decides = (self._words(left) and _text(right, empty=False)) or (
                    self._words(right) and _text(left, empty=False)
                )
            else:
                decides = False
            if decides:
                self._add(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """`words.startswith("text")`, `re.search(pattern, words)`."""
        if isinstance(node.func, ast.Attribute):
            on, name = node.func.value, node.func.attr
            if (name in _METHODS and self._words(on) and any(_text(arg) for arg in node.args)) or (
                name in _PATTERNS and any(self._words(arg) for arg in node.args)
            ):
                self._add(node)
        self.generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        """`match words: case "text": ...`."""
        if self._words(node.subject):
            self._add(node)
        self.generic_visit(node)

    def _add(self, node: ast.expr | ast.stmt) -> None:
        self.found.append((node.lineno, ast.unparse(node).splitlines()[0]))

    def _words(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in _LINES
        if isinstance(node, ast.Attribute):
            return node.attr in _LINES or (node.attr == "args" and self._error(node.value))
        if isinstance(node, ast.Subscript):
            key = _text_of(node.slice)
            return self._words(node.value) if key is None else key in _LINES
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Name):
            if node.func.id in ("ascii", "repr", "str") and node.args:
                return self._error(node.args[0]) or self._words(node.args[0])
            return False
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "get" and node.args:
                return _text_of(node.args[0]) in _LINES
            return node.func.attr in _SAME_TEXT and self._words(node.func.value)
        return False

    def _error(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and (node.id in _ERRORS or node.id in self._caught)


def _text(node: ast.expr, empty: bool = True) -> bool:
    """Whether an expression is text in the source, or a collection of such."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) and all(_text(part) for part in node.elts)
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return empty or len(node.value) > 0
    # A constant of the module: THE_WORDS.
    return isinstance(node, ast.Name) and node.id.isupper()


def _text_of(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def decisions(source: str) -> list[tuple[int, str]]:
    """The lines of a module that decide by words, each with its code."""
    finder = Finder()
    finder.visit(ast.parse(source))
    return sorted(set(finder.found))


def sources() -> Iterator[Path]:
    """What is looked at when no file is named."""
    for place in SOURCES:
        for path in sorted((ROOT / place).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(EXEMPT):
                yield path


def main(argv: Sequence[str]) -> int:
    """0 when nothing decides by words."""
    status = 0
    for path in map(Path, argv) if argv else sources():
        for number, code in decisions(path.read_text()):
            print(f"{path}:{number}: decides by words, use a code: {code}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
