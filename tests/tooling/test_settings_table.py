# SPDX-License-Identifier: Apache-2.0
"""Every setting of the agent is documented, as the classes that check it say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from provider_agent.cli.reference import sections
from provider_agent.core.settings import Unit
from provider_agent.settings import EVERYTHING
from tools import settings_table
from tools.pages import PageError

# Numbers that name something and measure nothing.
NAMES = {
    "chain.chain_id",
    "chain.start_block",
    "api.port",
    "api.status_port",
    "inference.port",
    "leases.data_port",
    "leases.names_port",
    "leases.ray_port",
}


def test_page__is_fresh_and_has_a_row_for_every_field() -> None:
    page = settings_table.PAGE.read_text()
    assert page == settings_table.page_with_tables()
    for name, info in EVERYTHING.model_fields.items():
        fields: type[BaseModel] = info.annotation  # type: ignore[assignment]  # sections are models
        assert f"\n## [{name}]\n" in page
        for field in fields.model_fields:
            assert f"\n| `{field}` |" in page, f"{name}.{field}"


def test_every_setting__says_what_it_means_and_what_its_number_counts() -> None:
    known = [setting for section in sections() for setting in section.settings]
    assert len(known) > 40
    for setting in known:
        assert setting.meaning.endswith("."), setting.name
        kind = setting.type.split(",")[0].removeprefix("table of: text = ")
        number = kind in ("integer", "number", "amount")
        assert bool(setting.unit) == (number and setting.name not in NAMES), setting.name


class Part(BaseModel):
    """A part."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    wait_seconds: float = Field(default=1.5, gt=0, lt=9)
    """How long."""
    pies: Annotated[int, Unit("pies")] = Field(ge=3)
    """How many."""
    kind: Literal["a", "b"] | None = None
    """Which."""
    files: tuple[Path, ...] = (Path("x"), Path("y"))
    """What."""


class Whole(BaseModel):
    part: Part


def test_reference__reads_type_bounds_default_and_unit_off_a_class() -> None:
    (section,) = sections(Whole)
    assert (section.name, section.meaning) == ("part", "A part.")
    wait, pies, kind, files = section.settings
    assert (wait.name, wait.unit, wait.default) == ("part.wait_seconds", "seconds", "1.5")
    assert wait.type == "number, above 0, below 9"
    assert wait.variable == "TERAPROOF_PART__WAIT_SECONDS"
    assert (pies.type, pies.unit, pies.default) == ("integer, 3 or more", "pies", "required")
    assert (kind.type, kind.default) == ("`a` or `b`", "none")
    assert (files.type, files.default, files.meaning) == ("list of: path", '["x", "y"]', "What.")


def test_field_without_words__refused_by_the_lint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(BaseModel):
        port: int = 1

    class Root(BaseModel):
        api: Silent

    monkeypatch.setattr(settings_table, "sections", lambda: sections(Root))
    with pytest.raises(PageError, match=r"api\.port has no meaning"):
        settings_table.page_with_tables()
