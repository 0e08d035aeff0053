# SPDX-License-Identifier: Apache-2.0
"""Write the tables and figures of docs/courts-economics.md: `make courts`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import pages
from benchmarks.courts.figures import FIGURES
from benchmarks.courts.page import RUNS, SEED, TABLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "courts-economics.md"
PLACE = ROOT / "docs" / "figures"


def written(page: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """The page with its tables computed again; `tables` must have all that it asks for."""
    return pages.filled(page, tables, "docs/courts-economics.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables and figures of docs/courts-economics.md, or only compare them."""
    parser = argparse.ArgumentParser(prog="benchmarks.courts", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when they differ")
    check = parser.parse_args(arguments).check
    print(f"{RUNS:,} disputes a simulated row, seed {SEED}")
    wanted = {PAGE: written(PAGE.read_text())}
    wanted |= {PLACE / name: figure() for name, figure in FIGURES.items()}
    stale = [
        path for path, text in wanted.items() if not path.is_file() or path.read_text() != text
    ]
    if check:
        for path in stale:
            print(f"error: {path.relative_to(ROOT)} is out of date; run make courts")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
    print(f"wrote {len(TABLES)} tables and {len(FIGURES)} figures; {len(stale)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
