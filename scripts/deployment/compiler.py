# SPDX-License-Identifier: Apache-2.0
"""Compiles some of the contracts and prints what `artifacts` keeps of them, as JSON.

python -m scripts.deployment.compiler CONTRACTS NAME...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vyper import __long_version__

from scripts.deployment.artifacts import SOURCES
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
        "immutables": dict(_immutables(layout.get("code_layout") or {}, "")),
    }


def _immutables(layout: dict[str, Any], prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, entry in layout.items():
        if isinstance(entry.get("offset"), int):
            yield prefix + name, (entry["offset"], entry["length"])
        else:
            yield from _immutables(entry, f"{prefix}{name}.")


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
