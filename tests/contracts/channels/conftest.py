# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the channels: the ground, and a channel with a deposit."""

from __future__ import annotations

import pytest

from teraproof.protocol.channels import ChannelConfig, VoucherClaim
from tests.contracts.channels.ground import Claim, Ground, lay


@pytest.fixture(scope="session")
def laid() -> Ground:
    return lay()


@pytest.fixture
def ground(laid: Ground) -> Ground:
    return laid


@pytest.fixture
def channel(ground: Ground) -> ChannelConfig:
    """Ten dollars, nothing claimed."""
    return ground.opened()


@pytest.fixture(params=["claim", "claimWithSignature"])
def claim(request: pytest.FixtureRequest, ground: Ground) -> Claim:
    """Both ways to claim: sent by the operator, and by its signature."""

    def by_signature(*rows: VoucherClaim) -> None:
        ground.channels.claimWithSignature(
            [row.abi_tuple() for row in rows],
            ground.word_over(rows),
            sender=ground.stranger.address,
        )

    return ground.claim if request.param == "claim" else by_signature
