# SPDX-License-Identifier: Apache-2.0
"""Vyper's compiler, quicker: tests compile many contracts, and contracts with planted faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from vyper.codegen import jumptable_utils
from vyper.codegen.ir_node import IRnode
from vyper.ir import optimizer

_NOTHING = object()
Optimize = Callable[[IRnode, IRnode | None], tuple[bool, IRnode]]


def compile_quickly() -> None:
    """Spare the compiler a third of its work; it writes the same code."""
    # The same answer for the same signatures.
    plain = jumptable_utils.generate_dense_jumptable_info
    jumptable_utils.generate_dense_jumptable_info = _remembered(plain)
    # After each change it looks at all below again.
    optimizer._optimize = _once(optimizer._optimize)


def _once(optimize: Optimize) -> Optimize:
    """Leaves alone what came out of it before: the rules look at no more than a parent's name."""

    def look(node: IRnode, parent: IRnode | None) -> tuple[bool, IRnode]:
        under = None if parent is None else parent.value
        if getattr(node, "settled_under", _NOTHING) == under:
            return False, node
        changed, found = optimize(node, parent)
        found.settled_under = under
        return changed, found

    return look


def _remembered(function: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str]], Any]:
    found = cache(function)
    return lambda signatures: found(tuple(signatures))
