# SPDX-License-Identifier: Apache-2.0
"""Errors that a person is meant to read and a program can decide by.

The line says what is wrong and what to do about it. The code says which case it is: programs
decide by that, never by the words. A command line prints `error: <line>` and exits with the number
of the code's kind. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import Any, ClassVar

from teraproof.protocol.errors import Code


class TeraproofError(Exception):
    """One line for a person, a code for programs, and details as JSON values."""

    default: ClassVar[Code] = Code.FAILED
    """The code of an error that names none."""

    def __init__(self, line: str, code: Code | None = None, **details: Any) -> None:
        super().__init__(line)
        self.code = self.default if code is None else code
        self.details = details

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later without any change."""
        return self.code.retryable
