# SPDX-License-Identifier: Apache-2.0
"""Errors of the scripts that a person is meant to read."""

from provider_agent.errors import AgentError


class ScriptError(AgentError):
    """One line for a person: what is wrong, and what to do about it."""


class Declined(ScriptError):
    """The person answered no; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("declined; nothing was sent")
