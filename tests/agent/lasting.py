# SPDX-License-Identifier: Apache-2.0
"""Engines that many proofs use one after the other: each tries its ways to multiply when it is
made, which takes longer than the small proofs of the tests.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from provider_agent.prover.engine import Engine, make_engine


class Lasting:
    """An engine that goes on when it is closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """It goes on."""


@cache
def lasting_engine(device: str = "cpu") -> Any:
    """The engine of a device for the whole run. EngineError as `make_engine`."""
    return Lasting(make_engine(device))
