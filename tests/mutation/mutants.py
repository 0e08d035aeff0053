# SPDX-License-Identifier: Apache-2.0
"""Plants small bugs in Vyper sources: one mutant is one replacement of one span of one file.

Positions come from the compiler's own syntax tree, so comments, docstrings, logs and constructors
are left alone. External views move no money and are left alone too; what they share with money
is in internal functions, which are not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vyper.ast import nodes
from vyper.ast.parse import parse_to_ast

ROOT = Path(__file__).resolve().parent.parent.parent
CONTRACTS = ROOT / "contracts"

# The parts of the report, each of them run and dated by itself: a contract and its rooms.
PARTS = {
    "Staking": ("Staking.vy", "staking/", "modules/"),
    # Its own rooms; those that it shares with Jobs are there.
    "Leases": (
        "Leases.vy",
        "deals/lease_",
        "deals/liveness",
        "deals/shared_score",
        "deals/tenancy",
        "deals/tenure",
    ),
    "Jobs": ("Jobs.vy", "deals/"),
    "Benchmark": ("Benchmark.vy", "pog/", "randomness/"),
    "Emissions": ("Emissions.vy", "schedule/"),
    "Disputes": ("Disputes.vy", "courts/"),
    "Channels": ("Channels.vy", "channels/"),
}
IMPORT = re.compile(r"^from (\.+)([\w.]*) import (\w+)(?: as \w+)?$", re.M)


def part_of(file: str) -> str | None:
    """The part to which a source belongs, by its room; none moves no money."""
    for part, rooms in PARTS.items():
        if file.startswith(rooms):
            return part
    return None


def imported(contracts: Path, file: str) -> set[str]:
    """The sources of ours that end up in a contract, itself among them."""
    found, waiting = set(), [file]
    while waiting:
        source = waiting.pop()
        if source in found or not (contracts / source).is_file():
            continue
        found.add(source)
        for dots, module, name in IMPORT.findall((contracts / source).read_text()):
            folder = Path(source).parent if len(dots) == 1 else Path(source).parent.parent
            waiting.append((folder / module.replace(".", "/") / f"{name}.vy").as_posix())
    return found


def sources(contracts: Path) -> dict[str, tuple[str, ...]]:
    """Every source that moves money, and the contracts and mocks that it ends up in."""
    mocks = sorted(f"mocks/{path.stem}" for path in (contracts / "mocks").glob("*.vy"))
    reached = {name: imported(contracts, f"{name}.vy") for name in (*PARTS, *mocks)}
    files = sorted({file for name in PARTS for file in reached[name]}, key=place)
    return {
        file: tuple(name for name, found in reached.items() if file in found)
        for file in files
        if part_of(file)
    }


def place(file: str) -> tuple[int, str]:
    """A fixed order: the contracts as above, their rooms after them."""
    part = part_of(file)
    return list(PARTS).index(part) if part else len(PARTS), file


SOURCES = sources(CONTRACTS)

ARITHMETIC = {"+": "-", "-": "+", "*": "//", "//": "*"}
BITS = {"&": "|", "|": "&", "<<": ">>", ">>": "<<"}
COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "in": ("not in",),
}


@dataclass(frozen=True)
class Mutant:
    """A replacement, with what is needed to find it again when lines have moved."""

    file: str
    function: str
    operator: str
    start: int
    end: int
    line: int
    before: str
    after: str
    beside: str
    """The whole line that it starts in."""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return self.file, self.function, self.beside, squeeze(self.before), squeeze(self.after)

    def apply(self, source: str) -> str:
        return source[: self.start] + self.after + source[self.end :]


def squeeze(text: str) -> str:
    """One line, one space."""
    return " ".join(text.split())


class _Finder:
    """Walks one file."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self.function = ""
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: nodes.VyperNode) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: nodes.VyperNode) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def change(self, node: nodes.VyperNode, operator: str, after: str) -> Mutant:
        start, end = self.span(node)
        before = self.source[start:end]
        beside = self.source.splitlines()[node.lineno - 1].strip()
        line = node.lineno
        return Mutant(self.file, self.function, operator, start, end, line, before, after, beside)

    def between(self, left: nodes.VyperNode, right: nodes.VyperNode) -> tuple[int, str]:
        """Where the source between two operands starts, and what stands there."""
        start = self.span(left)[1]
        return start, self.source[start : self.span(right)[0]]

    def swap(
        self,
        node: nodes.VyperNode,
        left: nodes.VyperNode,
        right: nodes.VyperNode,
        old: str,
        new: str,
        operator: str,
    ) -> Iterator[Mutant]:
        """Another operator between two operands."""
        at, gap = self.between(left, right)
        if gap.count(old) != 1:
            return
        start, end = self.span(node)
        cut = at + gap.index(old)
        after = self.source[start:cut] + new + self.source[cut + len(old) : end]
        yield self.change(node, operator, after)

    def binary(self, node: nodes.BinOp) -> Iterator[Mutant]:
        _, gap = self.between(node.left, node.right)
        # The gap may hold closing and opening brackets of the operands too.
        found = re.search(r"//|<<|>>|[-+*&|]", gap)
        if found is None:
            return
        old = found.group()
        kind, table = ("arithmetic", ARITHMETIC) if old in ARITHMETIC else ("bits", BITS)
        if old in table:
            yield from self.swap(node, node.left, node.right, old, table[old], kind)
        if old == "//":
            left, right = self.text(node.left), self.text(node.right)
            yield self.change(node, "rounding", f"(({left}) + ({right}) - 1) // ({right})")

    def compare(self, node: nodes.Compare) -> Iterator[Mutant]:
        _, gap = self.between(node.left, node.right)
        old = gap.strip(" \n()")
        for new in COMPARISONS.get(old, ()):
            yield from self.swap(node, node.left, node.right, old, new, "comparison")

    def call(self, node: nodes.Call) -> Iterator[Mutant]:
        name = self.text(node.func)
        if name in ("min", "max"):
            other = "max" if name == "min" else "min"
            yield self.change(node, "min/max", other + self.text(node)[3:])
        if "." not in name or name.startswith("I"):
            return
        args = node.args
        for left, right in pairwise(args):
            first, second = self.text(left), self.text(right)
            if first != second:
                start, end = self.span(node)
                a, b = self.span(left), self.span(right)
                src = self.source
                after = src[start : a[0]] + second + src[a[1] : b[0]] + first + src[b[1] : end]
                yield self.change(node, "swapped arguments", after)

    def statement(self, node: nodes.VyperNode) -> Iterator[Mutant]:
        if isinstance(node, nodes.Assert):
            yield self.change(node, "dropped assert", "pass")
        elif isinstance(node, nodes.Assign | nodes.AugAssign):
            target = self.text(node.target)
            if target.startswith("self."):
                yield self.change(node, "dropped write", "pass")
            if isinstance(node, nodes.AugAssign):
                _, gap = self.between(node.target, node.value)
                old = gap.strip(" (")
                new = {"+=": "-=", "-=": "+=", "|=": "&="}.get(old)
                if new:
                    yield from self.swap(node, node.target, node.value, old, new, "arithmetic")
        elif isinstance(node, nodes.Expr):
            yield self.change(node, "dropped call", "pass")
        elif isinstance(node, nodes.If):
            yield self.change(node.test, "condition", f"not ({self.text(node.test)})")

    def walk(self, node: nodes.VyperNode) -> Iterator[Mutant]:
        if isinstance(node, nodes.Log) or _declares(node):
            return
        yield from self.statement(node)
        if isinstance(node, nodes.BinOp):
            yield from self.binary(node)
        elif isinstance(node, nodes.Compare):
            yield from self.compare(node)
        elif isinstance(node, nodes.Call):
            yield from self.call(node)
        elif isinstance(node, nodes.BoolOp):
            left, right = node.values[:2]
            for old, new in (("and", "or"), ("or", "and")):
                yield from self.swap(node, left, right, old, new, "and/or")
        elif isinstance(node, nodes.Int):
            yield self.change(node, "constant", str(node.value + 1))
        for child in node.get_children():
            yield from self.walk(child)


def _declares(node: nodes.VyperNode) -> bool:
    """`x: uint256 = 0` ahead of an unpacking: Vyper wants the value, nothing reads it."""
    return isinstance(node, nodes.AnnAssign) and getattr(node.value, "value", None) == 0


def _moves_money(function: nodes.FunctionDef) -> bool:
    marks = {getattr(mark, "id", "") for mark in function.decorator_list}
    if "deploy" in marks:
        return False
    return not ("external" in marks and marks & {"view", "pure"})


def _outside_strings(mutant: Mutant, source: str) -> bool:
    """Positions of the tree are those of the source, or the mutant is dropped."""
    return source[mutant.start : mutant.end] == mutant.before != mutant.after


def find_mutants(contracts: Path) -> list[Mutant]:
    """All mutants of SOURCES under `contracts`, in the order of the files and lines."""
    found: dict[tuple[str, int, int, str], Mutant] = {}
    for file in SOURCES:
        source = (contracts / file).read_text()
        tree = parse_to_ast(source)
        finder = _Finder(file, source)
        for node in tree.body:
            if isinstance(node, nodes.VariableDecl) and node.is_constant:
                if "MASK" in node.target.id or "TYPEHASH" in node.target.id:
                    continue
                finder.function = node.target.id
            elif isinstance(node, nodes.FunctionDef) and _moves_money(node):
                finder.function = node.name
            else:
                continue
            parts = node.body if isinstance(node, nodes.FunctionDef) else [node.value]
            for part in parts:
                for mutant in finder.walk(part):
                    if _outside_strings(mutant, source):
                        key = (mutant.file, mutant.start, mutant.end, mutant.after)
                        found.setdefault(key, mutant)
    return list(found.values())


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them in random order: any beginning of it is a sample too."""
    order = random.Random(seed)
    return order.sample(mutants, min(count, len(mutants)))
