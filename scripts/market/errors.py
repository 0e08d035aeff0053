# SPDX-License-Identifier: Apache-2.0
"""Errors of the scripts that a person is meant to read."""

from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code


class ScriptError(LocalError):
    """One line for a person: what is wrong, and what to do about it."""


class WrongInput(ScriptError):
    """An option, an account, a file or a plan is not what it must be."""

    default: ClassVar[Code] = Code.INPUT_INVALID


class Declined(ScriptError):
    """The person answered no; nothing was sent."""

    default: ClassVar[Code] = Code.DECLINED

    def __init__(self) -> None:
        super().__init__("declined; nothing was sent")
