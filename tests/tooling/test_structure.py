# SPDX-License-Identifier: Apache-2.0
"""The house: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("teraproof", "provider_agent", "scripts")

# Storeys of the house, the lowest first. What stands on one may use what stands below it.
STOREYS = (("teraproof",), ("provider_agent", "scripts"))
# Rooms of the agent, the lowest first: a room uses those before it.
ROOMS = (
    ("errors",),
    ("devices", "durable"),
    ("store", "runners"),
    ("prover", "comparator"),
    ("tx",),
    ("core",),
    ("http",),
    ("dataplane",),
    ("modules",),
    ("settings",),
    ("app",),
    ("checks",),
    ("cli",),
    ("__main__",),
)
MODULES = ("disputes", "inference", "jobs", "leases", "proofs", "rewards")
LONGEST = 500  # lines of a source file


def files(*packages: str) -> list[Path]:
    """The Python files that git has, and those that it would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def name_of(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def graph() -> dict[str, frozenset[str]]:
    """What each module of the packages imports of them, wherever in the file it does so."""
    paths = {name_of(path): path for path in files(*PACKAGES) if path.suffix == ".py"}
    return {name: frozenset(_imports(paths[name], paths)) for name in paths}


def _imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in known else node.module
                if found in known:
                    yield found


def arrows() -> Iterator[tuple[str, str]]:
    """Every import, as (who, whom)."""
    for name, imported in graph().items():
        for other in imported:
            yield name, other


def rank(places: tuple[tuple[str, ...], ...], name: str) -> int:
    """How high a place stands."""
    return next(number for number, names in enumerate(places) if name in names)


def test_storeys__nothing_imports_upwards_or_its_neighbour() -> None:
    wrong = []
    for name, other in arrows():
        here, there = name.split(".")[0], other.split(".")[0]
        if here != there and rank(STOREYS, there) >= rank(STOREYS, here):
            wrong.append(f"{name} -> {other}")
    assert wrong == []


def test_rooms_of_the_agent__nothing_imports_upwards_or_its_neighbour() -> None:
    wrong = []
    for name, other in arrows():
        if not name.startswith("provider_agent.") or not other.startswith("provider_agent."):
            continue
        here, there = name.split(".")[1], other.split(".")[1]
        if here != there and rank(ROOMS, there) >= rank(ROOMS, here):
            wrong.append(f"{name} -> {other}")
    assert wrong == []


def test_modules__none_knows_the_inside_of_another() -> None:
    wrong = []
    for name, other in arrows():
        if name == "provider_agent.modules.all":
            continue
        here, there = name.split("."), other.split(".")
        inside = here[:2] == there[:2] == ["provider_agent", "modules"]
        if inside and here[2] != there[2]:
            wrong.append(f"{name} -> {other}")
    assert wrong == []
    known = {name.split(".")[2] for name in graph() if name.startswith("provider_agent.modules.")}
    assert known == {*MODULES, "all"}


_TABLE = re.compile(r"CREATE TABLE (?:new_)?(\w+)")
_SQL = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+(\w+)")


def test_store__knows_no_table_of_a_module() -> None:
    """Its queries are about its own: each module hands over what it has, also what has ended."""
    agent = ROOT / "provider_agent"
    theirs = {
        name
        for path in agent.glob("modules/*/migrations/*.sql")
        for name in _TABLE.findall(path.read_text("utf-8"))
    }
    assert {"jobs", "runs", "quotes"} <= theirs, "the search finds tables"
    named = {
        f"{path.name}: {name}"
        for path in agent.glob("store/*.py")
        for name in _SQL.findall(path.read_text("utf-8"))
        if name in theirs
    }
    assert named == set()


def test_imports__no_circle() -> None:
    """Tarjan's strongly connected components: none has two members."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph()[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                circles.append(sorted(circle))

    for name in graph():
        if name not in index:
            visit(name)
    assert circles == []


# ------------------------------------------------------------------ length

SOURCES = ("teraproof", "provider_agent", "scripts", "tools", "benchmarks", "contracts", "tests")
# Too long today, and being cut.
OFFENDERS: set[str] = set()


def is_generated(path: Path) -> bool:
    """Whether a program wrote the file, as its first lines say."""
    return "Generated by `" in path.read_text("utf-8")[:400]


def test_files__none_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files(*SOURCES)
        if path.suffix in (".py", ".vy", ".vyi", ".cu", ".sql")
        and (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
        and not is_generated(path)
    }
    assert {name: lines for name, lines in long.items() if name not in OFFENDERS} == {}
    assert set(long) >= OFFENDERS, "take it off the list"


@pytest.mark.parametrize("package", PACKAGES)
def test_graph__sees_imports(package: str) -> None:
    """The checks above would pass on an empty graph."""
    assert sum(name.startswith(package) and bool(to) for name, to in graph().items()) > 10
