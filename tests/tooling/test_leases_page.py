# SPDX-License-Identifier: Apache-2.0
"""docs/leases.md says of SDL and of lease specifications what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code
from teraproof.sdl import tree
from teraproof.sdl.leases import BLOCK_SECONDS, MONTH, examine
from tests.support.sdl import FULL, changed

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "leases.md").read_text()
TEXT = " ".join(PAGE.split())
TABLE = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE, re.M)

# For each row that refuses: the file with that field in it.
REFUSED = {
    "include": ("services:\n", "include: [a]\nservices:\n"),
    "services.*.expose.to.ip": (
        "- global: true\n          - serv",
        "- {global: true, ip: a}\n          - serv",
    ),
    "services.*.expose.http_options.proxy_buffer_size": ("send_timeout: 0", "proxy_buffer_size: 1"),
    "services.*.params.storage.*.keyRef": (
        "mount: /weights",
        "mount: /weights\n          keyRef: a",
    ),
    "services.*.params.tee": ("    params:\n", "    params:\n      tee: cpu-gpu\n"),
    "services.*.params.permissions": (
        "    params:\n",
        "    params:\n      permissions: {read: [events]}\n",
    ),
    "profiles.compute.*.resources.gpu.attributes.interconnect": (
        "            vendor:",
        "            interconnect: []\n            vendor:",
    ),
    "profiles.placement.*.verification": (
        "      pricing:",
        "      verification: {}\n      pricing:",
    ),
}


def refused_rows() -> list[str]:
    return [re.findall(r"`([^`]+)`", field)[0] for field, said in TABLE if said[:7] == "Refused"]


def test_rows__each_that_refuses_has_its_file() -> None:
    assert set(refused_rows()) == set(REFUSED)
    assert len({field for field, _ in TABLE}) == len(TABLE) > 25


@pytest.mark.parametrize("field", REFUSED)
def test_rows__what_they_refuse_is_refused(field: str) -> None:
    examined = examine(changed(FULL, *REFUSED[field]))
    last = field.rpartition(".")[2]
    found = [fault for fault in examined.faults if fault.code is Code.SDL_UNSUPPORTED]
    assert any(last in fault.place.path for fault in found), examined.faults
    assert not examined.leases


def test_rows__what_they_honour_stands_in_the_full_file() -> None:
    examined = examine(FULL.encode())
    assert examined.leases and not examined.faults
    for field, said in TABLE:
        if not said.startswith("Honoured"):
            continue
        for path in re.findall(r"`([^`]+)`", field):
            assert re.search(rf"\b{path.rpartition('.')[2]}:", FULL), path


def test_figures__are_those_of_the_code() -> None:
    assert f"a block is {BLOCK_SECONDS} seconds, and a month is {MONTH // 86_400} days" in TEXT
    assert f"At most {tree.MAX_BYTES:,} bytes, {tree.MAX_NODES:,} values" in TEXT
    assert f"{tree.MAX_DEPTH} levels, and {tree.MAX_TEXT:,} characters" in TEXT
    assert f"that is {leasespec.ROOT_BYTES >> 20} MiB" in TEXT
    assert f"It has at most {leasespec.MAX_BYTES:,} bytes" in TEXT
