# SPDX-License-Identifier: Apache-2.0
"""The machine of the rewards: I-7 and I-8 over two halvings and more."""

from collections.abc import Iterator

import pytest

from tests.contracts.stateful.profiles import chosen
from tests.contracts.stateful.rewards_machine import RewardsMachine
from tests.contracts.stateful.rewards_market import build_rewards


@pytest.fixture(scope="module", autouse=True)
def rewards() -> Iterator[None]:
    """Deployed once; every example starts from here and leaves it as it was."""
    RewardsMachine.market, RewardsMachine.distributor = build_rewards()
    yield


TestRewards = RewardsMachine.TestCase
# An example goes through two halvings at least: three times as much as in the market.
TestRewards.settings = chosen(part=2)
