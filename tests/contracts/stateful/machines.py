# SPDX-License-Identifier: Apache-2.0
"""Which machine an example of `make fuzz` runs: it follows from its seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contracts.stateful import market, rentals, tills
from tests.contracts.stateful.lease_world import lease_world
from tests.contracts.stateful.world import world

# Every fourth example is one of leases, and every eighth one of payment channels.
TURN, OTHER_TURN = 4, 8


def deploy_all() -> None:
    """The suites that examples start from: once, before workers are forked."""
    world()
    lease_world()
    tills.tillworld()


def maker_of(seed: int) -> Callable[[], Any]:
    """What makes the machine of an example."""
    if seed % TURN == 0:
        return rentals.make
    return tills.make if seed % OTHER_TURN == 1 else market.make
