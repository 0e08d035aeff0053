# SPDX-License-Identifier: Apache-2.0
"""Leases under random use by honest, hostile and dead people.

One test an example, so that a failure names its seed: run it again with TERAPROOF_SEED.
"""

from __future__ import annotations

import pytest

from teraproof.protocol.lease_terms import Ending
from tests.contracts.stateful.driver import Tally, run
from tests.contracts.stateful.profiles import chosen, first_seed
from tests.contracts.stateful.rentals import make

PROFILE = chosen()

pytestmark = pytest.mark.invariant("I-1", "I-2", "I-3", "I-6", "I-10", "I-11", "I-12", "I-15")


@pytest.mark.parametrize("seed", range(first_seed(), first_seed() + PROFILE.examples))
def test_rentals(seed: int, tally: Tally) -> None:
    run(make, seed, PROFILE.steps, tally, small=PROFILE.small)


def test_rentals__every_end_was_reached(tally: Tally) -> None:
    """Of the examples above: each way in which a lease can end."""
    if tally.notes["examples of leases"] < PROFILE.examples:
        pytest.skip("too few examples")
    ways = [f"ended: {ending.name.lower()}" for ending in Ending]
    assert [way for way in ways if not tally.notes[way]] == []
