# SPDX-License-Identifier: Apache-2.0
"""The published schema of lease specifications, as ajv reads it for editors and web pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings

from teraproof.errors import SpecError
from teraproof.protocol import leasespec
from tests.sdk.lease_documents import VALID, beyond_a_schema, documents
from tests.tooling.test_job_schema import by_ajv

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "teraproof/protocol/lease_spec.schema.json"


def by_code(document: Any) -> bool:
    """Whether the code takes the document."""
    try:
        leasespec.parse(json.dumps(document).encode())
    except SpecError:
        return False
    return True


def test_ajv_and_the_code__agree_but_for_what_no_schema_can_say() -> None:
    found: list[Any] = [VALID]

    @settings(max_examples=800, derandomize=True, database=None, phases=[Phase.generate])
    @given(documents())
    def collect(document: Any) -> None:
        found.append(document)

    collect()
    verdicts = by_ajv(found, SCHEMA)
    assert len(verdicts) == len(found)
    assert verdicts[0] and 30 < sum(verdicts) < len(found) - 30
    for document, accepted in zip(found, verdicts, strict=True):
        taken = by_code(document)
        if accepted:
            assert taken is not any(beyond_a_schema(document)), document
        else:
            assert not taken, document
