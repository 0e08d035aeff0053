# SPDX-License-Identifier: Apache-2.0
"""The lint of docs/style.md: patterns that puzzle a reader, and sentences that are too long.

It looks at documents, at the docstrings, comments and texts of Python sources, and at the comments
and docstrings of contracts.

python -m tools.style [FILE ...]      name every fault, of these files or of all
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "examples/**/*.md", "operations/**/*.md")
SOURCES = ("teraproof", "provider_agent", "scripts", "tools", "benchmarks", "tests")
# The rule's own pages name what they forbid.
EXEMPT = (
    "docs/style.md",
    "tools/style.py",
    "tests/tooling/test_style.py",
    "teraproof/contracts/",  # made from the contracts
)
# Their texts are those of contracts, which are part of the code on a chain; so only comments and
# docstrings count.
QUOTING = ("tests/contracts/",)
LONGEST = 25  # words of a sentence in a document

_RATED = (
    r"\d|once|twice|one|two|operations|requests|times|bytes|blocks|jobs|transactions|commits"
    r"|intents|tokens|TPF|gas|MiB|gwei|lines|calls|rounds|reads|permutations|openings|writes"
)
_PER = "second|minute|hour|day|week|month|year|job|provider|cycle|slot|block|window|run|epoch|round"
PATTERNS = {
    "for who: name the account, or write whoever": r"\b(for|by|to|from|of|with)\s+who\b",
    "is no X: write is not a X": (
        r"(?<!there )\b(is|are|was|were|be) no\b"
        r"(?! (longer|more|one|less|later|larger|better|bigger|smaller|earlier))"
    ),
    "none of: write no X, or not any of": r"\bnone of\b",
    "in all: write in total, or together": r"\bin all(?=[.,;:)]|\s*$)",
    "so many: name the number": r"\bso many\b",
    "anew: write again": r"\banew\b",
    "told: write reported, or shown": (
        r"\b(is|are|was|were|be|been|being|and|or|not|it|one) told\b(?! (to|apart))"
    ),
    "just now: write now": r"\bjust now\b",
    "for ever: write permanently, or without end": r"\bfor ever\b",
    "a job for a rate: write per job": (
        rf"\b({_RATED}) an? ({_PER})\b(?!'| (looks|reads|takes|has|is|was|may|can|needs)\b)"
    ),
    "beside: write next to, besides, or in addition to": r"\bbeside\b",
}
_PATTERNS = {name: re.compile(text, re.IGNORECASE | re.M) for name, text in PATTERNS.items()}
LONG = f"more than {LONGEST} words in a sentence: split it"

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
_MADE = re.compile(r"<!-- (\w+):begin -->.*?<!-- \1:end -->|<!-- table:.*?<!-- end -->", re.S)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?:;])[\"')*]*\s+(?=[\"'(*`]*[A-Z0-9`])|(?<=[.!?])[*]*$")


class Place(NamedTuple):
    """One fault: a file below the root, a line, what is wrong, and the words."""

    file: str
    line: int
    fault: str
    words: str


def faults_in_text(file: str, text: str, first: int = 1) -> Iterator[Place]:
    """The patterns in a piece of prose; `first` is its first line."""
    for fault, pattern in _PATTERNS.items():
        for found in pattern.finditer(text):
            line = first + text.count("\n", 0, found.start())
            yield Place(file, line, fault, found.group())


def faults_in_document(file: str, text: str) -> Iterator[Place]:
    """The patterns in a Markdown document, and its sentences that are too long.

    Code, and tables that are made from the sources, are not prose.
    """
    prose = _blank(_FENCE, _blank(_MADE, text))
    yield from faults_in_text(file, _CODE.sub(lambda code: "x" * len(code.group()), prose))
    for line, sentence in sentences(prose):
        count = len(sentence.split())
        if count > LONGEST:
            yield Place(file, line, LONG, f"{count} words: {' '.join(sentence.split()[:8])} ...")


def sentences(prose: str) -> Iterator[tuple[int, str]]:
    """(line, sentence) of Markdown: of paragraphs, of items in lists, of cells in tables."""
    for line, block in _blocks(prose):
        plain = _CODE.sub("Code", _LINK.sub(r"\1", block))
        at = line
        for part in _END.split(plain):
            if part and part.strip():
                yield at, part.strip()
            at += part.count("\n") if part else 0


def _blocks(prose: str) -> Iterator[tuple[int, str]]:
    block: list[str] = []
    begun = 1
    for number, line in enumerate([*prose.splitlines(), ""], 1):
        table = line.lstrip().startswith("|")
        if not line.strip() or table or line.startswith("#") or _ITEM.match(line):
            if block:
                yield begun, "\n".join(block)
            block, begun = [], number
        if table:
            for cell in line.strip().strip("|").split("|"):
                yield number, cell
        elif line.strip() and not line.startswith("#"):
            if not block:
                begun = number
            block.append(_ITEM.sub("", line))


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """The text without what the pattern finds, its lines kept."""
    return pattern.sub(lambda found: "\n" * found.group().count("\n"), text)


def faults_in_source(file: str, text: str) -> Iterator[Place]:
    """The patterns in the docstrings, texts and comments of a Python module."""
    for node in ast.walk(ast.parse(text)):
        said: ast.AST | None = node
        if file.startswith(QUOTING):
            # A text that stands alone is a docstring, of a field too.
            said = node.value if isinstance(node, ast.Expr) else None
        if isinstance(said, ast.Constant) and isinstance(said.value, str) and " " in said.value:
            yield from faults_in_text(file, said.value, said.lineno)
    yield from _faults_in_comments(file, text)


def faults_in_contract(file: str, text: str) -> Iterator[Place]:
    """The patterns in the docstrings and comments of a Vyper source, whose tokens are Python's."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and token.string.startswith('"""'):
            yield from faults_in_text(file, token.string.strip('"'), token.start[0])
    yield from _faults_in_comments(file, text)


def _faults_in_comments(file: str, text: str) -> Iterator[Place]:
    block: list[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield from faults_in_text(file, "\n".join(block), begun)
            block = []
        if not block:
            begun = token.start[0]
        block.append(token.string.lstrip("# "))
        last = token.start[0]
    if block:
        yield from faults_in_text(file, "\n".join(block), begun)


def all_faults(files: Iterable[str] = ()) -> list[Place]:
    """Every fault of the repository, or of these files alone."""
    wanted = set(files)
    found: list[Place] = []
    for path in _files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(EXEMPT) or (wanted and name not in wanted):
            continue
        look = _LOOKS[path.suffix]
        found += sorted(set(look(name, path.read_text())))
    return found


_LOOKS: dict[str, Callable[[str, str], Iterator[Place]]] = {
    ".md": faults_in_document,
    ".py": faults_in_source,
    ".vy": faults_in_contract,
    ".vyi": faults_in_contract,
}


def _files() -> Iterator[Path]:
    for glob in DOCUMENTS:
        yield from sorted(ROOT.glob(glob))
    for place in SOURCES:
        yield from sorted((ROOT / place).rglob("*.py"))
    yield from sorted((ROOT / "contracts").rglob("*.vy*"))


def main(argv: Sequence[str]) -> int:
    """0 when nothing is to mend."""
    places = all_faults(argv)
    for place in places:
        shown = f"{place.file}:{place.line}: {place.fault} ({place.words})"
        print(shown, file=sys.stderr)
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
