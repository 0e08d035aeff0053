# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from scripts.market.errors import ScriptError
from teraproof.amounts import rate, show_ether, show_rate


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


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("0", 0, "0 op/s"),
        ("999", 999, "999 op/s"),
        ("1.5k", 1_500, "1.5 kop/s"),
        ("62.91 M", 62_910_000, "62.91 Mop/s"),
        ("500Gop/s", 500 * 10**9, "500 Gop/s"),
        ("1.2345 t", 1_234_500_000_000, "1.234 Top/s"),
        ("12_000P", 12 * 10**18, "12,000 Pop/s"),
    ],
)
def test_rate__with_a_prefix__operations_a_second(text: str, value: int, shown: str) -> None:
    assert rate(text) == value
    assert show_rate(value) == shown


def test_rate__no_speed__one_line() -> None:
    for text in ("fast", "-1", "1 X", ""):
        with pytest.raises(ScriptError, match="is not a throughput; write 500 G"):
            rate(text)
