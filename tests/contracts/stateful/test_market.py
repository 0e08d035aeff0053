# SPDX-License-Identifier: Apache-2.0
"""All contracts together, under random use by honest and hostile people.

One test an example, so that a failure names its seed: run it again with TERAPROOF_SEED.
"""

from __future__ import annotations

import pytest

from tests.contracts.stateful.driver import Tally, run
from tests.contracts.stateful.market import make
from tests.contracts.stateful.profiles import chosen, first_seed

PROFILE = chosen()

pytestmark = pytest.mark.invariant(
    "I-1", "I-2", "I-3", "I-4", "I-5", "I-7", "I-8", "I-10", "I-11", "I-12", "I-13", "I-14"
)


@pytest.mark.parametrize("seed", range(first_seed(), first_seed() + PROFILE.examples))
def test_market(seed: int, tally: Tally) -> None:
    run(make, seed, PROFILE.steps, tally, small=PROFILE.small)


def test_market__every_call_to_the_court_has_gone_through(tally: Tally) -> None:
    """Of the examples above: each of them succeeds, and honest majorities decide."""
    if tally.notes["examples"] < PROFILE.examples:
        pytest.skip("too few examples")
    calls = "enlist evict draw commit reveal resign"
    names = [f"disputes.{name}" for name in calls.split()]
    names += [f"jobs.{name}" for name in ("dispute", "appeal", "conclude", "convict")]
    assert [name for name in names if not tally.ok[name]] == []
    assert tally.notes["disputes: by an honest majority"] and tally.notes["fines"]
