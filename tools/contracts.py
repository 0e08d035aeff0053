# SPDX-License-Identifier: Apache-2.0
"""Compiles the contracts for `make size` and `make lint`.

Run from the repository root inside `.venv`:

    python tools/contracts.py check    every contract without a warning, guarded against
                                       re-entrance
    python tools/contracts.py size     code sizes against the limits of the chain
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from vyper.cli.vyper_compile import compile_files
from vyper.exceptions import VyperException
from vyper.warnings import VyperWarning

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"

RUNTIME_LIMIT = 24_576  # bytes, EIP-170: not below it means not deployable
INIT_LIMIT = 49_152  # bytes, EIP-3860

GUARD = re.compile(r"^# pragma nonreentrancy on$", re.MULTILINE)
EXTERNAL = re.compile(r"^@external$", re.MULTILINE)


class ContractError(Exception):
    """One line for a person: which contract, and what is wrong."""


def deployables() -> list[Path]:
    """What can be deployed, mocks included: file names are CamelCase, those of modules are not."""
    found = [
        path for folder in (".", "testnet", "mocks") for path in (CONTRACTS / folder).glob("*.vy")
    ]
    return sorted(path for path in found if path.name[0].isupper())


def compile_contract(path: Path, *formats: str) -> dict[str, Any]:
    """Compile one contract with warnings as errors.

    Returns:
        The outputs by the name of their format, as the compiler gives them.

    Raises:
        ContractError: The compiler refused the contract or warned about it.
    """
    try:
        # The search paths are Vyper's own: the working directory and the installed packages.
        outputs = compile_files(
            [str(path)],
            formats,
            paths=[str(ROOT), str(CONTRACTS)],
            warnings_control="error",
        )
    except (VyperException, VyperWarning) as error:
        raise ContractError(f"{path.relative_to(ROOT)}: {error}") from error
    (compiled,) = (value for key, value in outputs.items() if key != "version")
    return dict(compiled)


def unguarded(root: Path) -> list[str]:
    """Sources with external functions and no `# pragma nonreentrancy on`, as problems.

    The pragma counts for its own file alone: a contract that exports the functions of a module
    does not guard them. Mocks are left out: some must be open to re-entrance.
    """
    sources = {path: path.read_text() for path in sorted(root.rglob("*.vy"))}
    return [
        f"{path.relative_to(root.parent)}: external functions without `# pragma nonreentrancy on`"
        for path, text in sources.items()
        if path.relative_to(root).parts[0] != "mocks"
        and EXTERNAL.search(text)
        and not GUARD.search(text)
    ]


def immutable_bytes(layout: Any) -> int:
    """How many bytes the immutables of a contract take, its modules' included.

    The constructor puts them behind the code that the compiler shows: they count for EIP-170.
    """
    if not isinstance(layout, dict):
        return 0
    if isinstance(layout.get("length"), int):
        return int(layout["length"])
    return sum(immutable_bytes(part) for part in layout.values())


def check() -> None:
    """Compile everything that can be deployed.

    Raises:
        ContractError: Something does not compile cleanly, or a source is open to re-entrance.
    """
    problems = unguarded(CONTRACTS)
    for path in deployables():
        try:
            compile_contract(path, "bytecode")
        except ContractError as error:
            problems.append(str(error))
    if problems:
        raise ContractError("\n".join(problems))


def print_sizes() -> None:
    """Print the size of every contract as it lies on the chain, immutables included.

    Raises:
        ContractError: A contract is too large to be deployed.
    """
    too_large = []
    print(f"{'contract':<28}{'runtime':>9}{'left':>9}{'init':>9}  (bytes)")
    for path in deployables():
        compiled = compile_contract(path, "bytecode", "bytecode_runtime", "layout")
        init, runtime = ((len(compiled[key]) - 2) // 2 for key in ("bytecode", "bytecode_runtime"))
        runtime += immutable_bytes(compiled["layout"].get("code_layout"))
        name = path.relative_to(CONTRACTS).with_suffix("")
        print(f"{name!s:<28}{runtime:>9,}{RUNTIME_LIMIT - runtime:>9,}{init:>9,}")
        if runtime >= RUNTIME_LIMIT or init > INIT_LIMIT:
            too_large.append(str(name))
    if too_large:
        raise ContractError(f"too large to deploy: {', '.join(too_large)}")


def main(arguments: list[str]) -> int:
    """Run the command that is named; 0 when all is well."""
    commands = {"check": check, "size": print_sizes}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: contracts.py {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        commands[arguments[0]]()
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
