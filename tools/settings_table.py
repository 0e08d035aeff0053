# SPDX-License-Identifier: Apache-2.0
"""Tables of settings in docs/settings.md and docs/inference.md, from the classes that check them.

python -m tools.settings_table            write them
python -m tools.settings_table check      fail when they are not what the classes say
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel

from provider_agent.cli.reference import Section, Setting, sections
from teraproof.gateway.settings import KeySettings, ListenSettings, PaySettings, RouteSettings
from tools.pages import PageError, keep, with_table

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "settings.md"
GATEWAY_PAGE = DOCS / "inference.md"


class GatewayTables(BaseModel):
    """The tables of gateway.toml; those of keys have names of their own."""

    listen: ListenSettings
    pay: PaySettings
    route: RouteSettings
    keys: KeySettings


def tables() -> str:
    """A heading and a table for each section of the agent's settings."""
    return "\n".join(line for section in sections() for line in _table(section)).strip()


def gateway_tables() -> str:
    """The same for the gateway's, one level deeper."""
    found = sections(GatewayTables)
    return "\n".join(line for section in found for line in _table(section, "####")).strip()


def _table(section: Section, level: str = "##") -> list[str]:
    return [
        "",
        f"{level} [{section.name}]",
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
    """The page of the agent's settings as it should be."""
    return with_table(PAGE.read_text(), "settings", tables())


def gateway_page() -> str:
    """The page with the gateway's settings as it should be."""
    return with_table(GATEWAY_PAGE.read_text(), "gateway-settings", gateway_tables())


if __name__ == "__main__":
    COMMAND = "make settings-table"
    sys.exit(
        keep(PAGE, page_with_tables, COMMAND, sys.argv[1:])
        or keep(GATEWAY_PAGE, gateway_page, COMMAND, sys.argv[1:])
    )
