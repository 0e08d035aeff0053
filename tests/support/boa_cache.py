# SPDX-License-Identifier: Apache-2.0
"""titanoboa's cache of compiled contracts, made to notice every change.

titanoboa 0.2.8 looks at a contract and what it imports itself. A change in a module further down
would be tested with the contract as it was before.
"""

from __future__ import annotations

import hashlib
from typing import Any

from boa import interpret


def fingerprint(module: Any, seen: Any = None) -> str:
    """A digest that changes with the source of a module or of anything below it."""
    digests: dict[str, str] = {}
    _collect(module, digests)
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _collect(module: Any, digests: dict[str, str]) -> None:
    source = module._module
    if source.path in digests:
        return
    digests[source.path] = source.source_sha256sum
    for statement in module.import_stmts:
        found = statement._metadata["import_info"]
        if hasattr(found.typ, "module_t"):
            _collect(found.typ.module_t, digests)
        else:
            digests[str(found.compiler_input.path)] = found.compiler_input.sha256sum


def notice_every_change() -> None:
    """Use `fingerprint` from here on."""
    interpret.get_module_fingerprint = fingerprint
