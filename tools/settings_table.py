# SPDX-License-Identifier: Apache-2.0
"""The tables of settings in docs/settings.md, from the classes that check them.

python -m tools.settings_table            write them
python -m tools.settings_table check      fail when they are not what the classes say
"""

from __future__ import annotations

import sys
from pathlib import Path

from provider_agent.cli.reference import Section, Setting, sections
from tools.pages import PageError, keep, with_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def tables() -> str:
    """A heading and a table for each section."""
    return "\n".join(line for section in sections() for line in _table(section)).strip()


def _table(section: Section) -> list[str]:
    return [
        "",
        f"## [{section.name}]",
        "",
        section.meaning,
        "",
        "| Setting | Type | Default | Unit | Meaning |",
        "|---|---|---|---|---|",
        *(_row(setting) for setting in section.settings),
    ]


def _row(setting: Setting) -> str:
    if not setting.meaning:
        raise PageError(f"{setting.name} has no meaning: write a line of text below the field")
    default = f"`{setting.default}`" if setting.default not in ("none", "required") else None
    cells = (
        f"`{setting.name.rpartition('.')[2]}`",
        setting.type,
        default or setting.default,
        setting.unit,
        setting.meaning,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page_with_tables() -> str:
    """The page as it should be."""
    return with_table(PAGE.read_text(), "settings", tables())


if __name__ == "__main__":
    sys.exit(keep(PAGE, page_with_tables, "make settings-table", sys.argv[1:]))
