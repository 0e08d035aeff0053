# SPDX-License-Identifier: Apache-2.0
"""Errors that a person is meant to read.

Each carries one line that says what is wrong and what to do about it. The command line prints
`error: <line>` and exits with 1; anything else that escapes is a bug and keeps its traceback.
"""

from teraproof.errors import TeraproofError
from teraproof.rpc.errors import ChainError


class AgentError(TeraproofError):
    """The agent's own: one line for a person, what is wrong and what to do about it."""


class Refused(AgentError):
    """This provider's policy turns something down; the line is for the tenant."""


class SettingsError(AgentError):
    """The settings file or an override is missing, malformed or contradicts itself."""


class KeyInUse(ChainError):
    """Somebody else sends transactions with the operator key."""


class SpecError(AgentError):
    """A job specification is not valid."""


class RunnerError(AgentError):
    """A run cannot be started, stopped or collected."""


class AuthError(AgentError):
    """A signature, session or nonce is not valid."""


def counted(number: int, noun: str) -> str:
    """A number and its noun for such a line: `1 input`, `2 inputs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
