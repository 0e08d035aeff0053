# SPDX-License-Identifier: Apache-2.0
"""The tables of error codes and exit codes in docs/errors.md, from the registry.

python -m tools.error_table            write them
python -m tools.error_table check      fail when they are not what the registry says
"""

from __future__ import annotations

import sys
from pathlib import Path

from teraproof.protocol.errors import Code, Exit
from tools.pages import keep, with_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"


def codes() -> str:
    """One line a code."""
    lines = ["| Code | HTTP | Retry | Exit | Meaning |", "|---|--:|---|--:|---|"]
    for code in Code:
        status = code.status or ""
        retry = "yes" if code.retryable else ""
        lines.append(f"| `{code}` | {status} | {retry} | {int(code.exit)} | {code.meaning} |")
    return "\n".join(lines)


def exits() -> str:
    """One line an exit code."""
    lines = ["| Exit code | Meaning |", "|--:|---|"]
    return "\n".join([*lines, *(f"| {int(kind)} | {kind.meaning} |" for kind in Exit)])


def page_with_tables() -> str:
    """The page as it should be."""
    return with_table(with_table(PAGE.read_text(), "codes", codes()), "exits", exits())


if __name__ == "__main__":
    sys.exit(keep(PAGE, page_with_tables, "make error-table", sys.argv[1:]))
