# SPDX-License-Identifier: Apache-2.0
"""Errors as they travel. `codes` has what they can be: on the wire, in a job's `blocked_by`, and as
exit codes of commands. An HTTP error of an agent is

    {"error": {"code": "inputs_missing", "message": "...", "retryable": true, "details": {...}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teraproof import nesting
from teraproof.protocol.codes import Code as Code
from teraproof.protocol.codes import known as known
from teraproof.protocol.exits import Exit as Exit

MAX_LINE = 300
#: The header that repeats the code: an answer to HEAD has no body.
CODE_HEADER = "teraproof-error"


@dataclass(frozen=True)
class WireError:
    """An error as it travels. `code` is CODE_UNKNOWN for one of a newer agent."""

    code: Code
    message: str
    retryable: bool
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        said = {"code": self.code.value, "message": self.message, "retryable": self.retryable}
        return {"error": {**said, "details": dict(self.details)}}

    @classmethod
    def parse(cls, data: bytes) -> WireError | None:
        """The error in an answer's body; None when it has none in this form.

        The message is a stranger's: one line, and nothing that a terminal would obey.
        """
        try:
            error = nesting.loads(data)["error"]
            name, message, retryable = error["code"], error["message"], error["retryable"]
            details = error["details"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not (isinstance(name, str) and isinstance(retryable, bool)):
            return None
        if not (isinstance(message, str) and isinstance(details, dict)):
            return None
        return cls(known(name), one_line(message), retryable, details)

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema of the body, for the OpenAPI document."""
        return {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "message", "retryable", "details"],
                    "additionalProperties": False,
                    "properties": {
                        "code": {"enum": [code.value for code in Code if code.status]},
                        "message": {"type": "string", "minLength": 1},
                        "retryable": {"type": "boolean"},
                        "details": {"type": "object"},
                    },
                }
            },
        }


def one_line(text: object, limit: int = MAX_LINE) -> str:
    """A stranger's text as one line of plain ASCII."""
    line = str(text)[:limit]
    return "".join(letter if " " <= letter <= "~" else "?" for letter in line)
