# SPDX-License-Identifier: Apache-2.0
"""What a provider asks for a job, by its settings: the agent and its tenants reckon alike.

`unit` is payment token units per whole token. Rates are in whole tokens.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

_TPF = 10**18


def least_price(per_hour: Decimal, least: Decimal, seconds: int, unit: int) -> int:
    """Payment token units for a job that may take `seconds`: by the hour, at least `least`."""
    exact = max(per_hour * seconds / 3600, least) * unit
    return max(1, int(exact.to_integral_value(ROUND_CEILING)))


def most_collateral(per_token: Decimal, most: Decimal, price: int, unit: int) -> int:
    """TPF wei that a job of this price may lock: `per_token` TPF per token, at most `most` TPF.

    It is tied to the price, or a hiccup of a cheap job would be worth more than the job.
    """
    return min(int(per_token * price * _TPF / unit), int(most * _TPF))


def least_for_collateral(
    per_token: Decimal, most: Decimal, collateral: int, unit: int
) -> int | None:
    """Payment token units from which a job may lock `collateral` TPF wei, the inverse of
    `most_collateral`; None where it may not at any price.
    """
    if collateral == 0:
        return 0
    if per_token == 0 or collateral > int(most * _TPF):
        return None
    exact = Fraction(collateral * unit, _TPF) / Fraction(per_token)
    return math.ceil(exact)
