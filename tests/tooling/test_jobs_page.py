# SPDX-License-Identifier: Apache-2.0
"""docs/jobs.md says of every field, variable and limit of a job what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from provider_agent.core.settings import RunnerSettings
from provider_agent.runners import outputs
from provider_agent.runners.base import Limits, RunRequest
from provider_agent.runners.live import OVERRUN
from provider_agent.runners.sandbox import environment
from teraproof.protocol import jobspec, paths
from teraproof.protocol.jobspec import parse

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "jobs.md").read_text()
SCHEMA = json.loads((ROOT / "teraproof/protocol/job_spec.schema.json").read_text())


def cell(name: str) -> str:
    """What the table says of a field."""
    found = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|$", PAGE, re.M)
    assert found, f"docs/jobs.md has no row for {name}"
    return found.group(1)


def test_every_field_has_a_row_and_every_row_is_a_field() -> None:
    wanted = set(SCHEMA["properties"]) - {"resources"}
    wanted |= {f"resources.{name}" for name in SCHEMA["properties"]["resources"]["properties"]}
    fields = PAGE.split("## Fields")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", fields, re.M)) == wanted


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("inputs", SCHEMA["properties"]["inputs"]["maxItems"]),
        ("outputs", SCHEMA["properties"]["outputs"]["maxItems"]),
        ("command", SCHEMA["properties"]["command"]["maxItems"]),
        ("env", SCHEMA["properties"]["env"]["maxProperties"]),
        ("name", SCHEMA["properties"]["name"]["maxLength"]),
        ("timeout_seconds", SCHEMA["properties"]["timeout_seconds"]["maximum"]),
        ("resources.cpus", SCHEMA["properties"]["resources"]["properties"]["cpus"]["maximum"]),
    ],
)
def test_limits_of_the_schema__are_those_of_the_page(field: str, number: int) -> None:
    assert f"{number:,}" in cell(field)


def test_the_example_of_the_page__is_a_job() -> None:
    document = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.S).group(1))  # type: ignore[union-attr]  # it is there
    for entry in document["inputs"]:
        entry |= {"sha256": "0" * 64, "size": 1}
    assert parse(json.dumps(document).encode()).name == "finetune-digits"
    example = json.loads((ROOT / "examples/finetune-digits/job.json").read_text())
    assert example == json.loads(re.search(r"```json\n(.*?)```", PAGE, re.S).group(1))  # type: ignore[union-attr]  # it is there


def test_variables_that_a_job_finds__are_those_of_the_page() -> None:
    limits = Limits(1.0, 3, 1 << 20, 1 << 20, 1 << 20, 8)
    made = environment(RunRequest("a-1-0", ("true",), limits), "/tmp")
    for name, value in made.items():
        if value == "3":
            continue  # threads: "OMP_NUM_THREADS and its like"
        row = next(
            line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line
        )
        assert not value or name == "PATH" or f"`{value}`" in row
    assert "`OMP_NUM_THREADS` and its like" in PAGE


def test_limits_of_outputs__are_those_of_the_page() -> None:
    page = " ".join(PAGE.split())
    assert f"At most {outputs.MAX_FILES:,} files and directories are kept" in page
    assert f"at most {paths.MAX_PATH_BYTES:,} bytes and {paths.MAX_DEPTH} parts" in page
    assert f"`output_mb`, {RunnerSettings().output_mb} MiB by default" in page


def test_limits_of_deterministic_jobs__are_those_of_the_page() -> None:
    page = " ".join(PAGE.split())
    assert f"{jobspec.PROCESSES} processes and threads. {jobspec.PRINTED_MB} MiB" in page
    assert f"and {OVERRUN * jobspec.PRINTED_MB} MiB end it" in page
