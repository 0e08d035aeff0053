# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document of the agent's API, made from its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from provider_agent.core.operation import Operation
from teraproof.protocol.errors import CODE_HEADER, Code, WireError

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_QUERY = {"type": "integer", "minimum": 0}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Teraproof provider agent", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {"Error": WireError.schema()},
            "responses": {"Error": _error()},
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    handler = operation.handler
    found: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": (handler.__doc__ or "").strip().partition("\n")[0],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(operation.path)
        ]
        + [{"name": name, "in": "query", "schema": _QUERY} for name in operation.query],
        "responses": {
            "200": _answer(operation),
            **({"201": _answer(operation)} if operation.method == "PUT" else {}),
            "4XX": {"$ref": "#/components/responses/Error"},
            "5XX": {"$ref": "#/components/responses/Error"},
        },
        "security": [] if operation.public else [{"session": []}],
    }
    if operation.fields:
        found["requestBody"] = _body(
            "application/json",
            {
                "type": "object",
                "required": list(operation.fields),
                "additionalProperties": False,
                "properties": {name: {"type": "string"} for name in operation.fields},
            },
        )
    elif operation.method == "PUT":
        found["requestBody"] = _body("application/octet-stream", {})
    return found


def _body(media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema}}}


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.method == "HEAD":
        return {"description": "It is there."}
    schema = {"type": "object"} if operation.answer == "application/json" else {}
    return {"description": "Done.", "content": {operation.answer: {"schema": schema}}}


def _error() -> dict[str, Any]:
    """One answer for all: the code says which case it is, the registry with which status."""
    listed = ", ".join(f"`{code}` {code.status}" for code in Code if code.status)
    return {
        "description": f"An error; codes with their statuses: {listed}.",
        "headers": {
            CODE_HEADER: {"schema": {"type": "string"}, "description": "The code again."},
            "retry-after": {"schema": {"type": "integer"}, "description": "With 429 and 503."},
        },
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
