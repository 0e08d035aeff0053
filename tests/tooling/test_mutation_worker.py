# SPDX-License-Identifier: Apache-2.0
"""What a worker of `make mutate` can do that the tests can: explain a call that reverts."""

from __future__ import annotations

import boa
import pytest
from boa import interpret

from tests.mutation.reach import make_source_maps
from tests.support.processes import forked

GATE = """
@external
def enter(key: uint256):
    assert key == 7, "gate: not the key"
"""


@pytest.mark.parametrize("cached", [True, False])
def test_contract_of_a_test__is_explained_whether_or_not_a_cache_has_seen_it(cached: bool) -> None:
    # In a process of its own, as a worker is one.
    def entered() -> str:
        if not cached:
            interpret.disable_cache()
        make_source_maps()
        gate = boa.loads(GATE)
        gate.enter(7)
        with boa.reverts("gate: not the key"):
            gate.enter(8)
        return "explained"

    assert forked(entered) == ("explained", 0)
