# SPDX-License-Identifier: Apache-2.0
"""Compiles some of the contracts and prints what `artifacts` keeps of them, as JSON.

python -m scripts.market.compiler CONTRACTS NAME...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vyper import __long_version__

from scripts.market.artifacts import SOURCES
from tools.contracts import ContractError, compile_contract

_OUTPUTS = ("abi", "bytecode", "bytecode_runtime", "layout")


def compile_source(path: Path) -> dict[str, Any]:
    """One contract. ContractError when it does not compile."""
    outputs = compile_contract(path, *_OUTPUTS)
    layout = outputs["layout"] or {}
    return {
        "compiler": f"vyper {__long_version__}",
        "abi": outputs["abi"],
        "bytecode": outputs["bytecode"],
        "runtime": outputs["bytecode_runtime"],
        "immutables": {
            path: (entry["offset"], entry["length"])
            for path, entry in _leaves(layout.get("code_layout") or {}, "offset")
        },
        "storage": {
            path: entry["slot"]
            for path, entry in _leaves(layout.get("storage_layout") or {}, "slot")
        },
    }


def _leaves(layout: dict[str, Any], key: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The variables of a layout, those of modules by a path."""
    for name, entry in layout.items():
        if isinstance(entry.get(key), int):
            yield prefix + name, entry
        else:
            yield from _leaves(entry, key, f"{prefix}{name}.")


def main() -> None:
    """See the module."""
    contracts, names = Path(sys.argv[1]), sys.argv[2:]
    try:
        found = {name: compile_source(contracts / SOURCES[name]) for name in names}
    except ContractError as error:
        sys.exit("error: " + " ".join(str(error).split()))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
