# SPDX-License-Identifier: Apache-2.0
"""What every attempt at a host works with."""

from __future__ import annotations

from dataclasses import dataclass

from teraproof.gateway.keys import Keys
from teraproof.gateway.lines import Lines
from teraproof.gateway.purse import Purse
from teraproof.gateway.room import Room
from teraproof.gateway.settings import RouteSettings


@dataclass(frozen=True)
class Means:
    """See the module."""

    lines: Lines
    purse: Purse
    keys: Keys
    limits: RouteSettings
    step_tokens: int
    decimals: int
    room: Room
