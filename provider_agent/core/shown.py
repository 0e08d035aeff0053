# SPDX-License-Identifier: Apache-2.0
"""How `status` writes amounts and rates."""

from __future__ import annotations


def rate(number: int) -> str:
    """A number with a prefix: 1.5 tera."""
    for prefix, size in (("tera", 10**12), ("giga", 10**9), ("mega", 10**6)):
        if number >= size:
            return f"{number / size:.4g} {prefix}"
    return str(number)


def amount(units: int, decimals: int | None, symbol: str | None) -> str:
    """An amount in whole tokens; units where the agent has not noted yet what token it is."""
    if decimals is None:
        return str(units)
    whole, part = divmod(units, 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0") if part else ""
    number = f"{whole}.{digits}" if digits else str(whole)
    return f"{number} {symbol}" if symbol else number
