# SPDX-License-Identifier: Apache-2.0
"""Which functions of contracts come to BLOCKHASH: for these, titanoboa's two machines differ."""

from __future__ import annotations

from functools import cache
from typing import Any

from vyper import ast as vy_ast


class HashReaders:
    """Functions that come to BLOCKHASH, in their own contract or in one that they call."""

    def __init__(self) -> None:
        # Name and number of arguments: who calls another contract names no more.
        self._names = {("blockhash", 1)}
        self._known: list[Any] = []

    def know(self, data: Any) -> None:
        """Contracts may call this one from now on; `data` is what the compiler made of it."""
        self._known.append(data)
        before = 0
        while before < len(self._names):
            before = len(self._names)
            for known in self._known:
                for function in known.global_ctx.exposed_functions:
                    if self._comes_to_one(function):
                        first = function.n_positional_args
                        counts = range(first, function.n_total_args + 1)
                        self._names |= {(function.name, count) for count in counts}
        self.selectors.cache_clear()

    @cache  # noqa: B019  # there is one
    def selectors(self, data: Any) -> frozenset[bytes]:
        """Those of a contract."""
        return frozenset(
            selector.to_bytes(4, "big")
            for function in data.global_ctx.exposed_functions
            if self._comes_to_one(function)
            for selector in function.method_ids.values()
        )

    def _comes_to_one(self, function: Any) -> bool:
        bodies = {function, *function.reachable_internal_functions}
        return any(
            (getattr(call.func, "attr", getattr(call.func, "id", "")), len(call.args))
            in self._names
            for body in bodies
            for call in body.ast_def.get_descendants(vy_ast.Call)
        )


hash_readers = HashReaders()
