# SPDX-License-Identifier: Apache-2.0
"""Which tests reach which function of which source, and how long each test takes.

Recorded once on the unchanged contracts. A mutant then meets the tests that run the function it
is in, the cheapest file first, and no others: those cannot tell it from the original.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from boa.contracts.vyper.ast_utils import get_fn_ancestor_from_node
from boa.environment import Env
from vyper.compiler.phases import CompilerData
from vyper.compiler.settings import anchor_settings
from vyper.ir import compile_ir

from tests.contracts.revm import Revm
from tests.mutation.mutants import CONTRACTS, SOURCES, Mutant

DEFINITION = re.compile(r"^def (\w+)\(", re.M)


@dataclass
class Reach:
    """What each test ran: its seconds, functions as `file:name`, and contracts that it deployed."""

    seconds: dict[str, float] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)
    deployed: dict[str, list[str]] = field(default_factory=dict)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests for a mutant; in the files of the shortest work first."""
        wanted = set(users(mutant.file, mutant.function))
        tests = {test for test, ran in self.functions.items() if wanted.intersection(ran)}
        # Constructors leave no trace, and revm keeps none: who deploys may run all of it.
        names = set(SOURCES[mutant.file])
        tests |= {test for test, made in self.deployed.items() if names.intersection(made)}
        # A room that was deployed by itself is called past the contract's own code.
        alone = mutant.file.removesuffix(".vy")
        files = {test.split("::")[0] for test, made in self.deployed.items() if alone in made}
        tests |= {test for test in self.functions if test.split("::")[0] in files}
        cost: dict[str, float] = defaultdict(float)
        for test in tests:
            cost[test.split("::")[0]] += self.seconds[test]
        places = {file: place for place, file in enumerate(sorted(cost, key=cost.__getitem__))}
        return sorted(tests, key=lambda test: places[test.split("::")[0]])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self)))

    @classmethod
    def load(cls, path: Path) -> Reach:
        return cls(**json.loads(path.read_text()))


def users(file: str, name: str) -> Iterator[str]:
    """A function itself, or the functions that read a constant."""
    texts = {other: (CONTRACTS / other).read_text() for other in SOURCES}
    if name in DEFINITION.findall(texts[file]):
        yield f"{file}:{name}"
        return
    for other, text in texts.items():
        # Bodies alternate with names; what comes before the first name is not a function.
        _, *parts = DEFINITION.split(text)
        for function, body in zip(parts[::2], parts[1::2], strict=True):
            if re.search(rf"\b{name}\b", body):
                yield f"{other}:{function}"


class Recorder:
    """A pytest plugin that fills a Reach. `roots` are the contracts' folder and its copies."""

    def __init__(self, *roots: Path) -> None:
        self.reach = Reach()
        self._roots = roots
        self._pcs: dict[int, set[int]] = defaultdict(set)
        self._contracts: dict[int, Any] = {}
        self._made: set[str] = set()
        trace, deploy = self._trace, Revm.deploy

        def made(chain: Revm, name: str, *args: Any, **options: Any) -> Any:
            self._made.add(name)
            return deploy(chain, name, *args, **options)

        Env._coverage_enabled = True
        Env._trace_computation = lambda env, run, contract=None: trace(env, run, contract)
        Revm.deploy = made  # type: ignore[method-assign,assignment]  # the same call

    def _trace(self, env: Any, run: Any, contract: Any) -> None:
        if contract is None and run.msg.code_address:
            # Tests that send bytes of their own do not say whose code runs.
            contract = env._lookup_contract_fast(run.msg.code_address)
        data = getattr(contract, "compiler_data", None)
        if run.msg.is_create:
            if data is not None:
                self._made.add(self._source(Path(data.file_input.path)).removesuffix(".vy"))
        elif data is not None:
            # One source map a contract type, not one an instance.
            self._contracts[id(data)] = data
            self._pcs[id(data)].update(run.code._trace)
        for child in run.children:
            if child.msg.code_address:
                self._trace(env, child, env._lookup_contract_fast(child.msg.code_address))

    def _source(self, path: Path) -> str:
        """A source's name below the contracts; empty for any other."""
        for root in self._roots:
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return ""

    def _ran(self) -> set[str]:
        found = set()
        for key, pcs in self._pcs.items():
            nodes = self._contracts[key].source_map["pc_raw_ast_map"]
            for pc in pcs:
                if pc not in nodes:
                    continue
                function = get_fn_ancestor_from_node(nodes[pc])
                if function is not None:
                    source = self._source(Path(function.module_node.resolved_path))
                    if source:
                        found.add(f"{source}:{function.name}")
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.process_time()
        self._pcs.clear()
        self._made.clear()
        try:
            return (yield)
        finally:
            self.reach.seconds[item.nodeid] = time.process_time() - began
            self.reach.functions[item.nodeid] = sorted(self._ran())
            self.reach.deployed[item.nodeid] = sorted(self._made)


def make_source_maps() -> None:
    """Every contract has a source map from here on, made when it is asked for.

    Titanoboa makes one only for what its disk cache has seen, and fails on a call that reverts in
    any other contract: in one that a test has written itself, where the cache is off.
    """

    def of(data: CompilerData) -> Any:
        with anchor_settings(data.settings):
            return compile_ir.assembly_to_evm(data.assembly_runtime)[1]

    made = cached_property(of)
    made.__set_name__(CompilerData, "source_map")
    CompilerData.source_map = made


class Only:
    """A pytest plugin that keeps the tests named, those `first` in front, then by file."""

    def __init__(self, tests: Iterable[str], first: Sequence[str] = ()) -> None:
        self._place = {test: place for place, test in enumerate(tests)}
        self._first = {test: place - len(first) for place, test in enumerate(first)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self._place]
        places: dict[str, int] = {}
        for item in kept:
            file = item.nodeid.split("::")[0]
            places[file] = min(places.get(file, len(self._place)), self._place[item.nodeid])

        def place(item: pytest.Item) -> int:
            return self._first.get(item.nodeid, places[item.nodeid.split("::")[0]])

        items[:] = sorted(kept, key=place)


class Killers:
    """Which tests have failed of late: who found one bug in a function finds the next as well."""

    SHOWN = re.compile(r"^FAILED (\S+)", re.MULTILINE)
    MOST = 12

    def __init__(self) -> None:
        self._by: dict[str, list[str]] = defaultdict(list)

    def saw(self, mutant: Mutant, output: str) -> None:
        """Remember what the log of a killed mutant names."""
        for test in self.SHOWN.findall(output):
            for key in (mutant.file, f"{mutant.file}:{mutant.function}"):
                found = self._by[key]
                if test in found:
                    found.remove(test)
                found.insert(0, test)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests to run first: of the same function, then of the same file."""
        same = self._by[f"{mutant.file}:{mutant.function}"]
        return list(dict.fromkeys([*same, *self._by[mutant.file]]))[: self.MOST]
