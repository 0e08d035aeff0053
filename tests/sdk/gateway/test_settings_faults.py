# SPDX-License-Identifier: Apache-2.0
"""What is wrong in gateway.toml is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from teraproof.errors import WrongInput
from teraproof.gateway.settings import load, write_template

LINE = "[listen]\n"


def written(folder: Path, old: str, new: str) -> Path:
    """The file that `gateway init` writes, with a mistake in it."""
    file = folder / "gateway.toml"
    write_template(file, "default.key")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("per_provider", "per_provder", "pay.per_provder: unknown setting; remove it"),
        ("[route]", "[routes]", "routes: unknown setting; remove it"),
        ('budget = "5"', "", "keys.default.budget: is missing; add it"),
        ('total = "20"', 'total = "lots"', "pay.total: "),
        ('total = "20"', 'total = "1"', "pay.per_provider is above pay.total"),
        ('total = "20"', 'total = "20', "not valid TOML"),
    ],
)
def test_mistake__is_named(tmp_path: Path, old: str, new: str, line: str) -> None:
    file = written(tmp_path, old, new)
    with pytest.raises(WrongInput) as raised:
        load(file)
    said = str(raised.value)
    assert said.startswith(f"{file}: ") and line in said and "\n" not in said


def test_several_mistakes__are_named_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "[listen]", "[listen]\nhots = 1\npotr = 2")
    with pytest.raises(WrongInput, match=r"listen\.hots: unknown .*; listen\.potr: unknown"):
        load(file)


def test_no_file__says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"gateway\.toml is not there; make one with: teraproof"):
        load(tmp_path / "gateway.toml")


def test_template__is_good(tmp_path: Path) -> None:
    assert load(written(tmp_path, LINE, LINE)).keys["default"].file == tmp_path / "default.key"
