# SPDX-License-Identifier: Apache-2.0
"""JSON schemas of what goes in and out, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider_agent.core.operation import Schema
from teraproof.protocol import jobspec
from teraproof.protocol.siwe import MAX_MESSAGE_BYTES, MAX_SIGNATURE_BYTES

DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
HEX: Schema = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
ADDRESS: Schema = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
#: Amounts and the like may have 256 bits, more than a JSON number carries.
DECIMAL: Schema = {"type": "string", "pattern": "^[0-9]{1,78}$"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
#: As many digits as a number in a query may have.
BYTES: Schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}

MESSAGE: Schema = {
    "type": "string",
    "pattern": "^[\\n -~]*$",
    "maxLength": MAX_MESSAGE_BYTES,
    "description": "An EIP-4361 message.",
}
SIGNATURE: Schema = {
    "type": "string",
    "pattern": "^(0[xX])?([0-9a-fA-F]{2})*$",
    "maxLength": 2 + 2 * MAX_SIGNATURE_BYTES,
    "description": "In any form that docs/api.md lists.",
}

#: Of the parameters in paths, by their names.
PARAMETERS: Mapping[str, Schema] = {
    "sha256": DIGEST,
    "job_id": {"type": "string", "pattern": "^(0x)?[0-9a-f]{64}$"},
    "lease_id": {"type": "string", "pattern": "^(0x)?[0-9a-f]{64}$"},
    "path": jobspec.PATH_SCHEMA,
}


def object_of(**properties: Schema) -> Schema:
    """A JSON object that has all of these, and perhaps more in a later version."""
    return {"type": "object", "required": list(properties), "properties": properties}


def list_of(items: Schema) -> dict[str, Any]:
    """A JSON array."""
    return {"type": "array", "items": items}
