# SPDX-License-Identifier: Apache-2.0
"""`teraproof lease check`: what a file would rent and its price, or all its faults; no chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from teraproof.cli.main import main
from teraproof.protocol.errors import Code, Exit
from teraproof.sdl.leases import read
from teraproof.sdl.tree import MAX_BYTES
from tests.support.sdl import FILES, FULL, SMALL, changed


def check(file: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["lease", "check", str(file), *options])


def written(folder: Path, data: bytes) -> Path:
    file = folder / "deploy.yaml"
    file.write_bytes(data)
    return file


def document(result: Result, kind: Exit = Exit.OK) -> Any:
    """The document on stdout; a line on stderr may stand before it."""
    assert result.exit_code == kind, result.output
    return json.loads(result.output[result.output.index("{") :])


def test_valid__resources_and_one_total(tmp_path: Path) -> None:
    shown = check(FILES / "full.yaml")
    assert shown.exit_code == Exit.OK, shown.output
    text = " ".join(shown.output.split())
    for part in ("model", "2 x nvidia a100", "5.1", "at least 1 d", "$12.0003", "$8,640.216"):
        assert part in text, part
    assert "1 lease, at most $12.0003 an hour" in text and "everything included" in text
    assert "not-a-secret" not in shown.output


def test_json__what_a_program_needs_and_no_secret() -> None:
    shown = check(FILES / "full.yaml", "--json")
    found = document(shown)
    (lease,) = read(FULL.encode())
    assert found["leases"][0]["spec"] == "0x" + lease.spec.digest().hex()
    assert found["leases"][0]["specification"] == lease.spec.to_json()
    assert found["leases"][0]["needs"] == lease.spec.needs().to_json()
    assert found["leases"][0]["price"] == {
        "denom": "uact",
        "per_block": "20000.500000000000000000",
        "usd_per_hour": "12.000300",
        "usd_per_30_days": "8640.216000",
    }
    assert found["usd_per_hour"] == "12.000300" and found["faults"] == []
    assert found["group_specs"][0]["name"] == "west" and not found["akt_usd_assumed"]
    assert [notice["path"] for notice in found["notices"]] == [
        "profiles.compute.gpu.resources.storage[1]",
        "profiles.placement.west.signedBy",
    ]
    assert "not-a-secret" not in shown.output


def test_two_placements__two_leases_and_one_total(tmp_path: Path) -> None:
    more = "    other: {pricing: {page: {denom: uact, amount: 50}}}\n"
    text = changed(SMALL, "  placement:\n", "  placement:\n" + more).decode()
    text += "    other: {profile: page, count: 3}\n"
    found = document(check(written(tmp_path, text.encode()), "--json"))
    assert [lease["name"] for lease in found["leases"]] == ["anywhere", "other"]
    # 150 and three times 50 millionths of a dollar per block, and 600 blocks per hour.
    assert found["usd_per_hour"] == "0.180000" and found["usd_per_30_days"] == "129.600000"


def test_uakt__a_rate_is_assumed_aloud_or_given(tmp_path: Path) -> None:
    file = written(tmp_path, changed(SMALL, "uact", "uakt"))
    assumed = document(check(file, "--json"))
    assert assumed["akt_usd_assumed"] and assumed["usd_per_hour"] == "0.090000"
    assert any("--akt-usd" in note for note in assumed["notes"])
    given = document(check(file, "--akt-usd", "0.5", "--json"))
    assert not given["akt_usd_assumed"] and given["usd_per_hour"] == "0.045000"
    assert "notes" not in given


@pytest.mark.parametrize("rate", ["0", "-1", "x", "nan", "1e3", "0.0000001"])
def test_akt_usd__not_a_price__one_line(rate: str) -> None:
    shown = check(FILES / "full.yaml", f"--akt-usd={rate}")
    assert shown.exit_code == Exit.INPUT and "error: --akt-usd" in shown.output


def test_invalid__every_fault_with_its_line_and_the_exit_code_of_input(tmp_path: Path) -> None:
    text = SMALL.replace("port: 80", "port: 0").replace("count: 1", "count: 0")
    file = written(tmp_path, text.encode())
    shown = check(file)
    assert shown.exit_code == Exit.INPUT
    lines = text.splitlines()
    for mark in ("port: 0", "count: 0"):
        number = next(at for at, line in enumerate(lines, 1) if mark in line)
        assert f"line {number}, column" in shown.output
    assert shown.output.splitlines()[-1].startswith("error: ") and "2 faults" in shown.output
    error = document(check(file, "--json"), Exit.INPUT)["error"]
    assert error["code"] == Code.SDL_INVALID and len(error["details"]["faults"]) == 2
    assert "group_specs" not in error["details"]


def test_not_sold__named_and_still_read_as_akash_reads_it() -> None:
    file = FILES / "proxy-buffer-size.yaml"
    shown = check(file)
    assert shown.exit_code == Exit.INPUT and "proxy_buffer_size out" in " ".join(
        shown.output.split()
    )
    error = document(check(file, "--json"), Exit.INPUT)["error"]
    assert error["code"] == Code.SDL_UNSUPPORTED
    assert error["details"]["faults"][0]["code"] == Code.SDL_UNSUPPORTED
    assert error["details"]["group_specs"][0]["name"] == "anywhere"


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff\xfe", b"a: b\n", b"[" * 1_000, b"x" * (MAX_BYTES + 10)]
)
def test_no_sdl_at_all__one_line_and_no_traceback(tmp_path: Path, data: bytes) -> None:
    shown = check(written(tmp_path, data))
    assert shown.exit_code == Exit.INPUT and "Traceback" not in shown.output
    assert shown.output.splitlines()[-1].startswith("error: ")


def test_no_file__one_line(tmp_path: Path) -> None:
    for file in (tmp_path / "absent.yaml", tmp_path):
        shown = check(file)
        assert shown.exit_code == Exit.INPUT
        assert shown.output.startswith(f"error: cannot read {file}")
