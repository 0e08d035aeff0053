# SPDX-License-Identifier: Apache-2.0
"""Files that are written in unusual but valid ways, and what one wrong place does to each of them.

`tests/agent_e2e/test_leases_sdl.py` runs the same files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from teraproof.sdl.leases import examine
from tests.support.anvil import ROOT
from tests.support.sdl import changed, line_of

FILES = ROOT / "tests" / "agent_e2e" / "sdl_files"
IMAGE = "registry.example.com/shell:1"


def text_of(name: str) -> str:
    return (FILES / f"{name}.yaml").read_text().replace("IMAGE", IMAGE)


@pytest.mark.parametrize("name", ["shop", "cells", "press"])
def test_file__valid_in_every_layout(name: str) -> None:
    text = text_of(name)
    (lease,) = examine(text.encode()).leases
    document = yaml.safe_load(text)
    for again in (
        json.dumps(document),
        json.dumps(document, indent=3, ensure_ascii=False),
        "# A comment\n" + text + "\n...\n",
    ):
        found = examine(again.encode())
        assert [one.spec.digest() for one in found.leases] == [lease.spec.digest()], found.faults


@pytest.mark.parametrize(
    ("name", "old", "new", "part", "reason"),
    [
        ("shop", 'cpu: {units: "0.25"}', "cpu: {units: .25}", ".25}", "cores"),
        ("shop", "cpu: {units: 150m}", "cpu: {units: 150 m}", "150 m", "cores"),
        ("shop", "cpu: {units: 150m}", "cpu: {units: 0.1505}", "0.1505", "thousandth"),
        ("shop", "size: 48Mi}", "size: 48MB}", "48MB", "size"),
        ("shop", "size: 48Mi}", "size: 48M}", "48M}", "size"),
        ("shop", "size: 0.0078125Gi", "size: 1e7", "1e7", "size"),
        ("shop", "- EQUATION=a=b=c", "- EQUATION", "- EQUATION", "NAME=value"),
        ("shop", "- EMPTY=", "- TITLE=twice", "TITLE=twice", "twice"),
        ("shop", '["/bin/sh"]', "/bin/sh", "command: /bin/sh", "list"),
        ("shop", '      - "8080"', "      - 8080", "- 8080", "in quotes"),
        (
            "shop",
            "dependencies: [{service: store}]",
            "dependencies: [{service: shop}]",
            "shop}",
            "",
        ),
        ("shop", "to: [{service: web}]", "to: [{service: wep}]", "wep", ""),
        ("shop", "mount: /dev/shm", "mount: dev/shm", "dev/shm", "path"),
        ("shop", "mount: /var/lib/ledger,", "mount: /proc/ledger,", "/proc/ledger", ""),
        ("shop", "class: ram", "class: rom", "class: rom", ""),
        ("shop", "amount: 750}", "amount: -750}", "-750", ""),
        ("shop", "    here: {profile: back,", "    there: {profile: back,", "there:", ""),
        ("cells", "count: 2,", "count: 0,", "count: 0", "1 to 50"),
        ("cells", "count: 2,", "count: two,", "count: two", ""),
        ("cells", "proto: UDP", "proto: sctp", "sctp", "tcp"),
        ("cells", '"cells.example.org"', '"cells.example.com"', "accept:", ""),
        ("cells", "arch: amd64", "arch: x86", "x86", "amd64"),
        ("cells", "gpu: {units: 0}", "gpu: {units: 1}", "gpu: {units: 1}", ""),
        ("cells", "readOnly: true", "readOnly: yes", "readOnly: yes", "true or false"),
        ("cells", "deep: {mount: /fixed/deep}", "deep: {mount: /fixed}", "", ""),
        ("cells", "deep: {mount: /fixed/deep}", "deep: {mount: /fixed/../deep}", "..", ""),
        ("cells", 'version: "2.1"', 'version: "2.2"', "2.2", "2.0"),
        ("cells", "denom: uakt", "denom: akt", "denom: akt", "uakt"),
        ("cells", "env: []", "env: &none []", "&none", "anchor"),
        ("cells", "env: []", "env: !!seq []", "!!seq", "tag"),
        ("cells", "persistent: true, class: beta2", "persistent: true, class: beta9", "beta9", ""),
        ("press", '"as": 8443', '"as": 65536', "65536", "65535"),
        ("press", '"as": 8443', '"as": 8443.5', "8443.5", ""),
        ("press", '"reclamation"', '"reclaim"', '"reclaim"', "unknown field"),
        ("press", '"30s"', '"1h30s"', "1h30s", ""),
        ("press", '"units": 1}', '"units": 1, "units": 2}', '"units": 2', "twice"),
        ("press", '"global": true', '"global": "true"', '"global": "true"', "true or false"),
        ("press", '"count": 1', '"count": 1,,', "", ""),
    ],
)
def test_one_wrong_place__refused_with_its_line_and_a_reason(
    name: str, old: str, new: str, part: str, reason: str
) -> None:
    data = changed(text_of(name), old, new)
    found = examine(data)
    assert found.faults and not found.leases
    first = found.faults[0]
    assert first.place.line > 0 and str(first).startswith(f"line {first.place.line}, column ")
    assert reason in " ".join(fault.reason for fault in found.faults), found.faults
    if part:
        assert line_of(data, part) in {fault.place.line for fault in found.faults}, found.faults


def test_examples__valid_and_without_a_notice() -> None:
    found = sorted((ROOT / "examples").glob("*/*.yaml"))
    assert found
    for path in found:
        examined = examine(path.read_bytes())
        assert examined.leases and not examined.faults and not examined.notices, path


def test_files__are_those_that_are_run() -> None:
    assert sorted(path.name for path in Path(FILES).iterdir()) == [
        "cells.yaml",
        "press.yaml",
        "shop.yaml",
    ]


def test_examples__are_valid() -> None:
    files = sorted((ROOT / "examples").glob("*/deploy.yaml"))
    assert files
    for file in files:
        assert not examine(file.read_bytes()).faults, file
