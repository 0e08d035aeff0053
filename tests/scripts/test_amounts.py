# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them, and as they write them: what is shown can be typed in."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.modules.jobs.settings import JobsSettings
from teraproof.amounts import (
    basis_points,
    rate,
    seconds,
    show_ether,
    show_rate,
    show_seconds,
    show_tpf,
    show_units,
    tpf,
    units,
)
from teraproof.errors import CommandError

WORDS = st.integers(0, 2**256 - 1)


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


# ------------------------------------------------------------------------ typed in as it is shown


@given(WORDS)
@example(1_300 * 10**12)
def test_rate__as_shown__read_to_its_last_digit_shown(speed: int) -> None:
    again = rate(show_rate(speed), "--min-score")
    assert show_rate(again) == show_rate(speed)
    assert abs(again - speed) * 2_000 <= max(speed, 2_000)


@given(WORDS, st.integers(0, 18), st.sampled_from(["", "TPF", "USDC", "test dollar", "5"]))
@example(1_300 * 10**6, 6, "USDC")
def test_units__as_shown__read_to_the_millionth(amount: int, decimals: int, symbol: str) -> None:
    shown = show_units(amount, decimals, symbol)
    if shown.startswith("<"):
        with pytest.raises(CommandError, match="is not an amount"):
            units(shown, decimals, symbol=symbol)
        return
    again = units(shown, decimals, symbol=symbol)
    assert abs(again - amount) * 2 <= 10 ** max(decimals - 6, 0)


@given(WORDS)
def test_tpf__as_shown__read(wei: int) -> None:
    shown = show_tpf(wei)
    assert shown.startswith("<") or show_tpf(tpf(shown)) == shown


@given(st.integers(0, 10**12))
@example(90_061)
@example(3_700)
def test_seconds__as_shown__read_in_the_two_parts_shown(duration: int) -> None:
    again = seconds(show_seconds(duration))
    assert show_seconds(again) == show_seconds(duration)
    assert 0 <= duration - again < max(duration / 24, 1)


@given(st.integers(0, 10_000))
def test_basis_points__as_shown__read(share: int) -> None:
    assert basis_points(f"{share / 100:g} %") == share


@given(st.integers(0, 10**9), st.integers(0, 99))
def test_settings__amount_as_shown__read(whole: int, cents: int) -> None:
    shown = f"{whole:,}.{cents:02}"
    assert JobsSettings.model_validate({"price_per_hour": shown}).price_per_hour == Decimal(
        f"{whole}.{cents:02}"
    )


@pytest.mark.parametrize("read", [tpf, rate, seconds, basis_points])
@pytest.mark.parametrize("text", ["1,5", "1,00", "10,0000", ",100", "1,000,00", "1_000,000", "1,"])
def test_comma_that_is_no_thousand__refused(read: Callable[[str], int], text: str) -> None:
    """One and a half for some, fifteen for others."""
    with pytest.raises(CommandError, match="is not a"):
        read(text)


@pytest.mark.parametrize("text", ["1 d 5", "d", "1 d, 2 h", "1  d  2 h", "2 h -1 min", "1 d 2 x"])
def test_seconds__parts_that_are_none__refused(text: str) -> None:
    with pytest.raises(CommandError, match="is not a duration"):
        seconds(text)


def test_units__symbol_of_another_token__refused() -> None:
    with pytest.raises(CommandError, match="is not an amount"):
        units("5 USDC", 18, symbol="TPF")
