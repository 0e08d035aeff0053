# SPDX-License-Identifier: Apache-2.0
"""What is shipped and what is locked: wheels, what they import, requirements, locks."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# Distribution -> where its project file is, its package, and what it locks.
PROJECTS = {
    "teraproof": (ROOT / "teraproof", "teraproof", "sdk"),
    "teraproof-agent": (ROOT, "provider_agent", "agent"),
}
# Modules whose distribution has another name, or that come along with one.
COMES_WITH = {
    "Crypto": "pycryptodome",
    "annotated_types": "pydantic",
    "botocore": "boto3",
    "cupy": "cupy-cuda12x",
    "cupy_backends": "cupy-cuda12x",
    "eth_keys": "eth-account",
    "eth_typing": "eth-utils",
    "h11": "uvicorn",
    "hexbytes": "eth-account",
    "pynvml": "nvidia-ml-py",
    "torch": "torch",
    "yaml": "pyyaml",
}
# Imported where a person has them: the agent says so when they are missing.
OPTIONAL = {"boto3", "cryptography", "cupy-cuda12x", "tokenizers", "torch"}


def requirement_lines(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r ")]


def project_of(name: str) -> dict[str, Any]:
    folder, _, _ = PROJECTS[name]
    return dict(tomllib.loads((folder / "pyproject.toml").read_text())["project"])


def own_requirements(name: str) -> list[str]:
    """Without our own distributions."""
    return [each for each in project_of(name)["dependencies"] if not each.startswith("teraproof")]


def shipped(package: str) -> list[Path]:
    return [
        path
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".json", ".sql", ".cu"} or path.name == "py.typed"
    ]


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports from elsewhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", PROJECTS)
def test_requirements__same_in_project_and_lock_source(name: str) -> None:
    lock = ROOT / "requirements" / f"{PROJECTS[name][2]}.in"
    assert sorted(own_requirements(name)) == sorted(requirement_lines(lock))


@pytest.mark.parametrize("name", PROJECTS)
def test_extra_s3__same_in_projects_and_lock_source_and_in_no_other_environment(name: str) -> None:
    wanted = project_of(name)["optional-dependencies"]["s3"]
    assert wanted == requirement_lines(ROOT / "requirements" / "s3.in")
    having = {lock.stem for lock in LOCKS if re.search(r"^boto3==1\.44\.", lock.read_text(), re.M)}
    assert having == {"s3", "agent-test"}


def test_extra_gateway__same_in_project_and_lock_source() -> None:
    wanted = project_of("teraproof")["optional-dependencies"]["gateway"]
    assert wanted == [
        line
        for line in requirement_lines(ROOT / "requirements" / "gateway.in")
        if not line.startswith("-c")
    ]


def test_extra_ray__in_its_own_environment_alone() -> None:
    wanted = project_of("teraproof-agent")["optional-dependencies"]["ray"]
    lines = requirement_lines(ROOT / "requirements" / "ray.in")
    assert set(wanted) <= set(lines)
    having = {lock.stem for lock in LOCKS if re.search(r"^ray==", lock.read_text(), re.M)}
    assert having == {"ray"}
    users = {
        path.relative_to(ROOT).as_posix()
        for path in shipped("provider_agent")
        if path.suffix == ".py" and "ray" in imports(path)
    }
    assert not users  # it is loaded by name, where an owner has chosen it


def test_agent__depends_on_the_sdk_of_this_checkout() -> None:
    version = project_of("teraproof")["version"]
    assert f"teraproof=={version}" in project_of("teraproof-agent")["dependencies"]
    assert "-r sdk.in" in (ROOT / "requirements" / "agent.in").read_text().splitlines()


@pytest.mark.parametrize("name", PROJECTS)
def test_imports__only_what_is_declared(name: str) -> None:
    _, package, _ = PROJECTS[name]
    project = project_of(name)
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    declared = {re.split(r"[><=\[]", each)[0] for each in wanted}
    needed = set().union(*(imports(path) for path in shipped(package) if path.suffix == ".py"))
    needed = {COMES_WITH.get(each, each.replace("_", "-")) for each in needed - {package}}
    assert needed - OPTIONAL <= declared


def test_sdk__light() -> None:
    names = {re.split(r"[><=\[]", each)[0] for each in project_of("teraproof")["dependencies"]}
    heavy = {
        "numpy",
        "eth-ape",
        "vyper",
        "titanoboa",
        "web3",
        "uvicorn",
        "starlette",
        "nvidia-ml-py",
    }
    assert not names & heavy


@pytest.mark.parametrize("name", PROJECTS)
def test_wheel__holds_its_package_alone_with_its_data(name: str) -> None:
    _, package, _ = PROJECTS[name]
    (wheel,) = (ROOT / ".build" / "wheel").glob(f"{name.replace('-', '_')}-0*.whl")
    names = set(ZipFile(wheel).namelist())
    tops = {each.split("/")[0] for each in names}
    assert all(top == package or top.endswith(".dist-info") for top in tops)
    sources = {path.relative_to(ROOT).as_posix() for path in shipped(package)}
    assert sources <= names
    assert any(each.endswith("licenses/LICENSE") for each in names)
    assert f"{package}/pyproject.toml" not in names


def test_scripts__one_for_people_and_one_for_machines() -> None:
    assert set(project_of("teraproof")["scripts"]) == {"teraproof"}
    assert set(project_of("teraproof-agent")["scripts"]) == {"provider-agent"}


def test_license__one_text() -> None:
    assert (ROOT / "teraproof" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock__every_package_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    # Addresses would bind the lock to one index or one machine.
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:", text)
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==\S+", package)
        assert "--hash=sha256:" in package


@pytest.mark.parametrize(
    ("folder", "name", "version"),
    [(".", "@foundry-rs/anvil", "1.7.1"), ("benchmarks/models", "node-llama-cpp", "3.22.1")],
)
def test_npm_lock__exact_version_with_integrity_and_no_address(
    folder: str, name: str, version: str
) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages[f"node_modules/{name}"]["version"] == version
    for entry in packages.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry
