# SPDX-License-Identifier: Apache-2.0
"""Prices of leases: dollars an hour for people, payment token units a second for the contract.

The payment token counts as the dollar. What is paid is never more than what was shown: a price of
the tenant's becomes a rate that is rounded down, and a rate or an amount is shown rounded up.
"""

from __future__ import annotations

import math
from fractions import Fraction

from teraproof.amounts import units
from teraproof.errors import WrongInput

HOUR = 3_600
_PLACES = 6  # behind the point, of what people see
_FEWEST = 2


def hourly(text: str, name: str) -> Fraction:
    """Dollars an hour as people write them, such as "1.25". WrongInput names `name`."""
    return Fraction(units(text.strip().removeprefix("$"), 18, name), 10**18)


def rate_within(dollars: Fraction, unit: int) -> int:
    """The highest rate that costs no more than a price in dollars an hour. `unit`: payment token
    units of a dollar.

    WrongInput for a price that pays less than one unit a second.
    """
    rate = math.floor(dollars * unit / HOUR)
    if rate <= 0:
        least = Fraction(HOUR, unit)
        raise WrongInput(
            f"a price of {show_dollars(dollars)} an hour pays for nothing; give at least "
            f"{show_dollars(least)}"
        )
    return rate


def dollars_of(amount: int, unit: int) -> Fraction:
    """Payment token units in dollars."""
    return Fraction(amount, unit)


def hour_of(rate: int, unit: int) -> Fraction:
    """A rate in dollars an hour."""
    return Fraction(rate * HOUR, unit)


def show_dollars(dollars: Fraction) -> str:
    """Dollars with cents, and with smaller parts where there are any: "$1,200.50". Rounded up."""
    whole, _, rest = decimal(dollars).partition(".")
    return f"${int(whole):,}.{rest.rstrip('0'):0<{_FEWEST}}"


def show_amount(amount: int, unit: int) -> str:
    """Payment token units for people, in dollars."""
    return show_dollars(dollars_of(amount, unit))


def show_hour(rate: int, unit: int) -> str:
    """A rate for people."""
    return f"{show_dollars(hour_of(rate, unit))} an hour"


def decimal(dollars: Fraction, places: int = _PLACES) -> str:
    """Dollars for documents, as text with this number of places. Rounded up."""
    whole, rest = divmod(math.ceil(dollars * 10**places), 10**places)
    return f"{whole}.{rest:0{places}d}"
