# SPDX-License-Identifier: Apache-2.0
"""The committed figures: one line an operation, `name: gas`, sorted."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chain import BenchmarkError

# A block's header, or a proof made from its beacon, stands in the calldata of these. Its bytes
# follow from all that was deployed before: a changed comment moves them by some tens of gas.
HEADERS = ("benchmark_draw", "benchmark_open_")
HEADERS_MAY_DIFFER = 200

SNAPSHOT = Path(__file__).resolve().parent.parent / ".gas-snapshot"


def flatten(figures: dict[str, list[int]]) -> dict[str, int]:
    """The steady state (last cycle) by name, and `<name>_first` for the first of several."""
    flat = {}
    for name, cycles in figures.items():
        flat[name] = cycles[-1]
        if len(cycles) > 1:
            flat[f"{name}_first"] = cycles[0]
    return dict(sorted(flat.items()))


def write(figures: dict[str, int], path: Path = SNAPSHOT) -> None:
    """Replace the committed figures."""
    path.write_text("".join(f"{name}: {gas}\n" for name, gas in sorted(figures.items())))


def read(path: Path = SNAPSHOT) -> dict[str, int]:
    """Read the committed figures; BenchmarkError when the file is missing or malformed."""
    if not path.is_file():
        raise BenchmarkError(f"{path.name} is missing; write it with make gas-update")
    figures = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name, separator, gas = line.partition(": ")
        if not name or not separator or not gas.isdecimal() or name in figures:
            raise BenchmarkError(
                f"{path.name}:{number}: expected `name: gas`, each name once; run make gas-update"
            )
        figures[name] = int(gas)
    return figures


def differences(
    committed: dict[str, int], measured: dict[str, int]
) -> list[tuple[str, int | None, int | None]]:
    """Every operation whose figure changed, appeared (None before) or went (None now)."""
    names = sorted(committed.keys() | measured.keys())
    rows = [(name, committed.get(name), measured.get(name)) for name in names]
    return [row for row in rows if _differs(*row)]


def _differs(name: str, before: int | None, now: int | None) -> bool:
    if before is None or now is None or not name.startswith(HEADERS):
        return before != now
    return abs(before - now) > HEADERS_MAY_DIFFER
