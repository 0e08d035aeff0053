# SPDX-License-Identifier: Apache-2.0
"""Writes `teraproof/contracts/*.py` from what the compiler knows of the contracts.

Run from the repository root inside `.venv`:

    python -m tools.sdk          write the files
    python -m tools.sdk check    compare them with the contracts, for `make lint`

Each contract becomes a class: its views are methods that read at a block, its other functions
methods that return calldata, its events frozen dataclasses. Words come from NatSpec, and from the
comments above a variable or behind a field. The ABI names neither the values of a view that returns
several, nor the keys of a mapping: tools/sdk/names.py does. What several contracts take from the
same modules is written once, in a class that theirs inherit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vyper.cli.vyper_compile import get_search_paths
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.phases import CompilerData

from tools.sdk.types import SdkError, snake
from tools.sdk.writer import Base, Writer

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
FOLDER = ROOT / "teraproof" / "contracts"

SOURCES = {
    "Staking": "Staking.vy",
    "Jobs": "Jobs.vy",
    "Leases": "Leases.vy",
    "Disputes": "Disputes.vy",
    "Benchmark": "Benchmark.vy",
    "Emissions": "Emissions.vy",
    "Token": "Token.vy",
    "PaymentToken": "testnet/PaymentToken.vy",
    "Channels": "Channels.vy",
    "Timelock": "Timelock.vy",
}
# The class of what contracts have alike, and the contracts.
SHARED = {"Deals": ("Jobs", "Leases"), "Erc20": ("Token", "PaymentToken")}


def generate() -> dict[str, str]:
    """The text of every file, by its name. SdkError when a contract cannot be written."""
    bundle = FilesystemInputBundle(get_search_paths([str(ROOT), str(CONTRACTS)], True))
    compiled = {
        contract: CompilerData(bundle.load_file(CONTRACTS / source), bundle)
        for contract, source in SOURCES.items()
    }
    texts: dict[str, str] = {}
    bases: dict[str, Base] = {}
    for name, contracts in SHARED.items():
        if compiled.keys() >= set(contracts):
            base = Base.of(name, {contract: compiled[contract] for contract in contracts})
            bases |= dict.fromkeys(contracts, base)
            first = contracts[0]
            sources = ", ".join(SOURCES[contract] for contract in contracts)
            writer = Writer(first, sources, compiled[first], base, write_base=True)
            texts[f"{snake(name)}.py"] = writer.text()
    for contract, source in SOURCES.items():
        writer = Writer(contract, source, compiled[contract], bases.get(contract))
        texts[f"{snake(contract)}.py"] = writer.text()
    return texts


def main(arguments: list[str]) -> int:
    """Write or check; 0 when all is well."""
    if arguments not in ([], ["check"]):
        print("usage: sdk.py [check]", file=sys.stderr)
        return 2
    try:
        texts = generate()
    except SdkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = 0
    for name, text in texts.items():
        file = FOLDER / name
        if arguments:
            if not file.is_file() or file.read_text() != text:
                print(f"error: teraproof/contracts/{name} is stale; run make sdk", file=sys.stderr)
                stale = 1
        else:
            file.write_text(text)
            print(f"wrote teraproof/contracts/{name}")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
