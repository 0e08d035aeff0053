# SPDX-License-Identifier: Apache-2.0
"""What is shipped and what is locked: the wheel's contents, the requirements, the locks."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def requirement_lines(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def test_agent_requirements__same_in_project_and_lock_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(project["dependencies"]) == sorted(
        requirement_lines(ROOT / "requirements" / "agent.in")
    )


def test_wheel__holds_the_agent_and_the_sdk_alone_with_their_data() -> None:
    (wheel,) = (ROOT / ".build" / "wheel").glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    packages = ("provider_agent", "teraproof")
    assert all(top in packages or top.endswith(".dist-info") for top in tops)
    sources = [
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".json", ".sql"} or path.name == "py.typed"
    ]
    assert set(sources) <= names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock__every_package_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    # Addresses would bind the lock to one index or one machine.
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:", text)
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", package)
        assert "--hash=sha256:" in package


def test_npm_lock__exact_version_with_integrity_and_no_address() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/@foundry-rs/anvil"]["version"] == "1.7.1"
    for entry in packages.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry
