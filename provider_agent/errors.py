# SPDX-License-Identifier: Apache-2.0
"""The agent's own errors; those that tenants share are in `teraproof.errors`."""

from __future__ import annotations

from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError


class SettingsError(LocalError):
    """The settings file or an override is missing, malformed or contradicts itself."""

    default: ClassVar[Code] = Code.SETTINGS_INVALID


class KeyInUse(ChainError):
    """Somebody else sends transactions with the operator key."""

    default: ClassVar[Code] = Code.KEY_IN_USE


class RunnerError(LocalError):
    """A run cannot be started, stopped or collected."""

    default: ClassVar[Code] = Code.RUNNER_FAILED
