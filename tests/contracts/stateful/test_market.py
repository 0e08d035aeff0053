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
    "I-1", "I-2", "I-3", "I-4", "I-5", "I-7", "I-8", "I-10", "I-11", "I-12", "I-13"
)


@pytest.mark.parametrize("seed", range(first_seed(), first_seed() + PROFILE.examples))
def test_market(seed: int, tally: Tally) -> None:
    run(make, seed, PROFILE.steps, tally, small=PROFILE.small)
