# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from scripts.market.amounts import show_ether


@pytest.mark.parametrize(
    ("wei", "shown"),
    [
        (0, "0 ETH"),
        (1, "0.000000000000000001 ETH"),
        (123_456_789, "0.00000000012 ETH"),
        (10**12, "0.000001 ETH"),
        (1_234_567_890_123_456_789, "1.234567 ETH"),
    ],
)
def test_show_ether__small_or_large__never_nothing(wei: int, shown: str) -> None:
    assert show_ether(wei) == shown
