# SPDX-License-Identifier: Apache-2.0
"""The compiler of the tests is quicker than Vyper's, and writes the same code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vyper.cli.vyper_compile import get_search_paths
from vyper.codegen import jumptable_utils
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.phases import CompilerData
from vyper.compiler.settings import anchor_settings
from vyper.ir import optimizer

from tests.mutation.mutants import CONTRACTS, ROOT
from tests.support import budget
from tests.support.compiler import compile_quickly


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Vyper's own functions are back afterwards."""
    monkeypatch.setattr(optimizer, "_optimize", optimizer._optimize)
    name = "generate_dense_jumptable_info"
    monkeypatch.setattr(jumptable_utils, name, getattr(jumptable_utils, name))
    yield


def compiled(name: str) -> tuple[bytes, bytes]:
    bundle = FilesystemInputBundle(get_search_paths([str(ROOT), str(CONTRACTS)], True))
    data = CompilerData(bundle.load_file(CONTRACTS / f"{name}.vy"), bundle)
    with anchor_settings(data.settings):
        return data.bytecode, data.bytecode_runtime


@pytest.mark.parametrize("name", budget.every(2, ["Emissions", "Leases"]))
def test_the_code_is_the_same(plain: None, name: str) -> None:
    before, looked_at = compiled(name), optimizer._optimize
    compile_quickly()
    assert optimizer._optimize is not looked_at
    # Once more: with all that it remembers.
    assert compiled(name) == compiled(name) == before
