# SPDX-License-Identifier: Apache-2.0
"""Which machine an example of `make fuzz` runs: it follows from its seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contracts.stateful import market, rentals
from tests.contracts.stateful.lease_world import lease_world
from tests.contracts.stateful.world import world

# Every fourth example is one of leases.
TURN = 4


def deploy_all() -> None:
    """The suites that examples start from: once, before workers are forked."""
    world()
    lease_world()


def maker_of(seed: int) -> Callable[[], Any]:
    """What makes the machine of an example."""
    return rentals.make if seed % TURN == 0 else market.make
