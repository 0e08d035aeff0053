# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document of the agent's API, made from its routes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from provider_agent.core.operation import Operation
from provider_agent.http.schemas import PARAMETERS
from teraproof.protocol.errors import CODE_HEADER, Code, WireError

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_ERRORS = ("4XX", "5XX")
_CODES = [code.value for code in Code if code.status]


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Teraproof provider agent",
            "version": "1",
            "description": "How to sign in, and which signatures are taken: docs/api.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": WireError.schema()},
            "responses": {"Error": _error(), "BareError": _bare_error()},
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    handler = operation.handler
    # An answer to HEAD has no body.
    error = "BareError" if operation.method == "HEAD" else "Error"
    found: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": (handler.__doc__ or "").strip().partition("\n")[0],
        "parameters": _parameters(operation),
        "responses": {
            **{str(status): _success(operation) for status in operation.statuses},
            **{family: {"$ref": f"#/components/responses/{error}"} for family in _ERRORS},
        },
        "security": [] if operation.public else [{"session": []}],
    }
    if operation.fields:
        schema = {
            "type": "object",
            "required": list(operation.fields),
            "additionalProperties": False,
            "properties": _plain(operation.fields),
        }
        found["requestBody"] = _body("application/json", schema)
    elif operation.body is not None:
        found["requestBody"] = _body("application/json", _plain(operation.body))
    elif operation.method == "PUT":
        found["requestBody"] = _body("application/octet-stream", {})
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    places = {
        "path": {name: PARAMETERS[name] for name in _PARAMETER.findall(operation.path)},
        "query": operation.query,
        "header": operation.headers,
    }
    return [
        {"name": name, "in": place, "required": place == "path", "schema": _plain(schema)}
        for place, found in places.items()
        for name, schema in found.items()
    ]


def _body(media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema}}}


def _success(operation: Operation) -> dict[str, Any]:
    if operation.method == "HEAD":
        return {"description": "It is there."}
    schema = _plain(operation.result) if operation.answer == "application/json" else {}
    return {"description": "Done.", "content": {operation.answer: {"schema": schema}}}


def _error() -> dict[str, Any]:
    """One answer for all: the code says which case it is, the registry with which status."""
    listed = ", ".join(f"`{code}` {code.status}" for code in Code if code.status)
    return {
        "description": f"An error; codes with their statuses: {listed}.",
        "headers": _error_headers(),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _bare_error() -> dict[str, Any]:
    return {"description": "An error; the header has its code.", "headers": _error_headers()}


def _error_headers() -> dict[str, Any]:
    return {
        CODE_HEADER: {
            "schema": {"enum": _CODES},
            "required": True,
            "description": "The code again.",
        },
        "retry-after": {"schema": {"type": "integer"}, "description": "With 429 and 503."},
    }


def _plain(value: Any) -> Any:
    """Read-only mappings as JSON values."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
