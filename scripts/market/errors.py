# SPDX-License-Identifier: Apache-2.0
"""Errors of the scripts that a person is meant to read: those of the commands."""

from teraproof.errors import CommandError as ScriptError
from teraproof.errors import Declined, WrongInput

__all__ = ["Declined", "ScriptError", "WrongInput"]
