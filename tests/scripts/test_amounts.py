# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from teraproof.amounts import rate, show_ether, show_rate, show_tpf, show_units
from teraproof.errors import CommandError


@pytest.mark.parametrize(
    ("wei", "shown"),
    [
        (0, "0 ETH"),
        (1, "<0.000001 ETH"),
        (-1, ">-0.000001 ETH"),
        (10**12, "0.000001 ETH"),
        (1_234_567_890_123_456_789, "1.234568 ETH"),
        (10**27, "1,000,000,000 ETH"),
    ],
)
def test_show_ether__rounded_but_never_nothing(wei: int, shown: str) -> None:
    assert show_ether(wei) == shown


@pytest.mark.parametrize("whole", [1, 100, 19_900, 10**9])
@pytest.mark.parametrize("rest", [-3, -1, 0, 1, 3])
def test_show_tpf__share_rounding__has_no_tail(whole: int, rest: int) -> None:
    assert show_tpf(whole * 10**18 + rest) == f"{whole:,} TPF"


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [(33_334, 6, "0.033334"), (7, 0, "7"), (10, 0, "10"), (1_980_000, 6, "1.98"), (5, 2, "0.05")],
)
def test_show_units__every_digit_of_a_payment_token(amount: int, decimals: int, shown: str) -> None:
    assert show_units(amount, decimals) == shown


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("0", 0, "0 TOPS"),
        ("999", 999, "0.000000000999 TOPS"),
        ("1.5k", 1_500, "0.0000000015 TOPS"),
        ("62.91 M", 62_910_000, "0.00006291 TOPS"),
        ("500Gop/s", 500 * 10**9, "0.5 TOPS"),
        ("1.2345 t", 1_234_500_000_000, "1.234 TOPS"),
        ("312.4 TOPS", 312_400_000_000_000, "312.4 TOPS"),
        ("500GOPS", 500 * 10**9, "0.5 TOPS"),
        ("12_000P", 12 * 10**18, "12,000,000 TOPS"),
    ],
)
def test_rate__with_a_prefix__operations_per_second(text: str, value: int, shown: str) -> None:
    assert rate(text) == value
    assert show_rate(value) == shown


def test_rate__no_speed__one_line() -> None:
    for text in ("fast", "-1", "1 X", ""):
        with pytest.raises(CommandError, match="is not a throughput; write 500 TOPS"):
            rate(text)
