# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a file of settings, in words for its author."""

from __future__ import annotations

from pydantic import ValidationError

_SHOWN = 5
# Pydantic's words for these are about its own things.
_REASONS = {
    "extra_forbidden": "unknown setting; remove it",
    "missing": "is missing; add it",
}


def in_one_line(error: ValidationError) -> str:
    """The first few fields with what is wrong, and how many more there are."""
    said = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"]) or "settings"
        reason = _REASONS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        said.append(" ".join(f"{field}: {reason}".split()))
    more = len(said) - _SHOWN
    return "; ".join(said[:_SHOWN] + ([f"and {more} more"] if more > 0 else []))
