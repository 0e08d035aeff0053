# SPDX-License-Identifier: Apache-2.0
"""Errors that a person is meant to read and a program can decide by.

The line says what is wrong and what to do about it. The code says which case it is: programs
decide by that, never by the words. A command line prints `error: <line>` and exits with the number
of the code's kind. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from typing import Any, ClassVar

from teraproof.protocol.errors import Code, WireError


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


class LocalError(TeraproofError):
    """An error that no node caused: a document, a signature, a file, another party's answer."""


class Refused(LocalError):
    """Something that a tenant asks for is turned down: code, line and details are for the tenant.

    What decides returns it; who answers raises it.
    """

    def __init__(self, code: Code, line: str, **details: Any) -> None:
        super().__init__(line, code, **details)

    def __reduce__(self) -> tuple[Any, ...]:
        return _refused, (self.code, str(self), self.details)


def _refused(code: Code, line: str, details: dict[str, Any]) -> Refused:
    return Refused(code, line, **details)


class RemoteError(LocalError):
    """What an agent answered. Its word on `retryable` counts, for codes of later versions."""

    def __init__(self, where: str, error: WireError) -> None:
        super().__init__(f"{where}: {error.message}", error.code)
        self.details = dict(error.details)  # a stranger's names
        self._retryable = error.retryable

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later without any change."""
        return self._retryable


class SpecError(LocalError):
    """A job specification is not valid."""

    default: ClassVar[Code] = Code.SPEC_INVALID


class AuthError(LocalError):
    """A signature, session or nonce is not valid."""

    default: ClassVar[Code] = Code.SIGN_IN_INVALID


class CommandError(LocalError):
    """One line for a person: what is wrong, and what to do about it."""


class WrongInput(CommandError):
    """An option, an account, a file or a plan is not what it must be."""

    default: ClassVar[Code] = Code.INPUT_INVALID


_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_of_file(error: OSError) -> bool:
    """Whether a file or a disk is at fault, and not a connection or a process."""
    return isinstance(error.filename, str | bytes) or error.errno in _FULL


def of_file(error: OSError, path: object = None, doing: str = "") -> CommandError:
    """What a person reads when `doing` something with a file fails ("cannot write"). The file is
    `path`, by default the one that the error names.

    INPUT_INVALID, or DISK_FULL; `details.path` is the file.
    """
    name = error.filename if path is None else path
    named = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    full = error.errno in _FULL
    reason = "the disk is full" if full else error.strerror or type(error).__name__
    line = ": ".join(part for part in (f"{doing} {named}".strip(), reason) if part)
    details = {"path": named} if named else {}
    return CommandError(line, Code.DISK_FULL if full else Code.INPUT_INVALID, **details)


class Declined(CommandError):
    """The person answered no; nothing was sent."""

    default: ClassVar[Code] = Code.DECLINED

    def __init__(self) -> None:
        super().__init__("declined; nothing was sent")


def counted(number: int, noun: str) -> str:
    """A number and its noun for a line to a person: `1 input`, `2 inputs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
