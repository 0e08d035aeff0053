# SPDX-License-Identifier: Apache-2.0
"""Bodies of answers: what is content, what is an error, where the cost goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from teraproof import nesting
from teraproof.gateway.identity.answers import has_content
from teraproof.protocol.errors import WireError, one_line

NO_REASON = "no reason is given"
# Events of `/v1/responses` that carry something that the model has written.
_WRITTEN = (
    "response.output_text.delta",
    "response.refusal.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.delta",
    "response.function_call_arguments.delta",
)


def document(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        found = nesting.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def dump(found: Mapping[str, Any]) -> bytes:
    """JSON as it travels."""
    try:
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a pair, which no encoding has: escaped, as it came
        return json.dumps(found, separators=(",", ":")).encode()


def may_have_usage(data: bytes) -> bool:
    """Whether an event may say how many tokens there were; cheap, and sometimes wrong."""
    return b'"usage"' in data and b'"usage":null' not in data and b'"usage": null' not in data


def usage_of(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object that says how many tokens there were."""
    inner = found.get("response")
    usage = (inner if isinstance(inner, dict) else found).get("usage")
    return usage if isinstance(usage, dict) else None


def with_cost(found: dict[str, Any], cost: float, provider: str) -> dict[str, Any]:
    """The document with its cost in whole tokens, and the provider's address, as OpenRouter says
    them.
    """
    usage = usage_of(found)
    if usage is not None:
        usage["cost"] = cost
        found["provider"] = provider
    return found


def costed(raw: bytes, data: bytes, cost: float, provider: str) -> bytes:
    """An event with its cost, or as it is where it does not name its tokens."""
    found = document(data) if may_have_usage(data) else None
    if found is None or usage_of(found) is None:
        return raw
    head = b"".join(
        line + b"\n" for line in raw.split(b"\n") if line.strip() and not line.startswith(b"data:")
    )
    return head + b"data: " + dump(with_cost(found, cost, provider)) + b"\n\n"


def is_content(found: Mapping[str, Any] | None) -> bool:
    """Whether an event carries something that the model has written."""
    if found is None:
        return False
    kind = found.get("type")
    if isinstance(kind, str) and kind.startswith("response."):
        return kind in _WRITTEN and bool(found.get("delta"))
    return has_content(found)


def error_in(data: bytes) -> str | None:
    """What an event says that has gone wrong; None for any other event."""
    if b'"error"' not in data and b"response.failed" not in data:
        return None
    found = document(data)
    if found is None or "choices" in found:
        return None
    inner = found.get("response")
    error = found.get("error") or (inner.get("error") if isinstance(inner, dict) else None)
    if not error and found.get("type") not in ("error", "response.failed"):
        return None
    return _line(error if error else found)


def refusal(body: bytes) -> str:
    """The line of a host's answer that is an error."""
    wire = WireError.parse(body)
    if wire is not None:
        return wire.message
    found = document(body)
    return NO_REASON if found is None else _line(found.get("error", found))


def _line(error: object) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return one_line(said, 200) if isinstance(said, str) and said else NO_REASON
