# SPDX-License-Identifier: Apache-2.0
"""The agent's errors; see `teraproof.errors`."""

from __future__ import annotations

from typing import Any, ClassVar

from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code, WireError
from teraproof.rpc.errors import ChainError


class AgentError(TeraproofError):
    """The agent's own: one line for a person, a code for programs."""


class Refused(AgentError):
    """Something that a tenant asks for is turned down: code, line and details are for the tenant.

    What decides returns it; who answers raises it.
    """

    def __init__(self, code: Code, line: str, **details: Any) -> None:
        super().__init__(line, code, **details)

    def __reduce__(self) -> tuple[Any, ...]:
        return _refused, (self.code, str(self), self.details)


def _refused(code: Code, line: str, details: dict[str, Any]) -> Refused:
    return Refused(code, line, **details)


class RemoteError(AgentError):
    """What another agent answered. Its word on `retryable` counts, for codes of later versions."""

    def __init__(self, where: str, error: WireError) -> None:
        super().__init__(f"{where}: {error.message}", error.code)
        self.details = dict(error.details)  # a stranger's names
        self._retryable = error.retryable

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later without any change."""
        return self._retryable


class SettingsError(AgentError):
    """The settings file or an override is missing, malformed or contradicts itself."""

    default: ClassVar[Code] = Code.SETTINGS_INVALID


class KeyInUse(ChainError):
    """Somebody else sends transactions with the operator key."""

    default: ClassVar[Code] = Code.KEY_IN_USE


class SpecError(AgentError):
    """A job specification is not valid."""

    default: ClassVar[Code] = Code.SPEC_INVALID


class RunnerError(AgentError):
    """A run cannot be started, stopped or collected."""

    default: ClassVar[Code] = Code.RUNNER_FAILED


class AuthError(AgentError):
    """A signature, session or nonce is not valid."""

    default: ClassVar[Code] = Code.SIGN_IN_INVALID


def counted(number: int, noun: str) -> str:
    """A number and its noun for such a line: `1 input`, `2 inputs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
