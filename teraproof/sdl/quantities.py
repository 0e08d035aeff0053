# SPDX-License-Identifier: Apache-2.0
"""Amounts as SDL writes them: cores, bytes, prices. Exact: nothing is rounded and nothing cut off.

Digits and a point alone: no sign, no exponent, no word for a number that is not one.
"""

from __future__ import annotations

import re
from fractions import Fraction

#: A price is kept in this part of its denomination.
ATTO = 10**18
_DIGITS = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,18}))?")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_PREFIXES = {name: power for power, name in enumerate("KMGTPE", 1)}
#: Suffixes of memory; disk has the decimal ones, too.
_BINARY = {f"{name}i": 1024**power for name, power in _PREFIXES.items()}
_DECIMAL = {name if name != "K" else "k": 1000**power for name, power in _PREFIXES.items()}


class Unfit(ValueError):
    """A text is not such an amount; the line says what to write."""


def cpu_millis(text: str) -> int:
    """Thousandths of a core in "100m", "0.5" or "2". Unfit otherwise."""
    if text.endswith("m"):
        if _WHOLE.fullmatch(text[:-1]) is None:
            raise Unfit('give cores such as "100m", 0.5 or 2')
        return int(text[:-1])
    exact = _number(text, 'give cores such as "100m", 0.5 or 2') * 1000
    if exact.denominator != 1:
        raise Unfit("finer than a thousandth of a core; give at most three decimals")
    return int(exact)


def memory_bytes(text: str) -> int:
    """Bytes in "512Mi", "1.5Gi" or "134217728". Unfit otherwise."""
    return _bytes(text, _BINARY, 'give a size such as "512Mi" or "2Gi"')


def disk_bytes(text: str) -> int:
    """Bytes in "512Mi", "10G" or "1073741824". Unfit otherwise."""
    return _bytes(text, _BINARY | _DECIMAL, 'give a size such as "512Mi" or "10Gi"')


def price_atto(text: str) -> int:
    """A price in 10^-18 of its denomination. Unfit otherwise."""
    exact = _number(text, "give a number such as 1000 or 0.5") * ATTO
    return int(exact)


def whole(text: str) -> int:
    """A number of things. Unfit otherwise."""
    if _WHOLE.fullmatch(text) is None:
        raise Unfit("give a whole number such as 1")
    return int(text)


def _number(text: str, instead: str) -> Fraction:
    found = _DIGITS.fullmatch(text)
    if found is None:
        raise Unfit(instead)
    decimals = found[2] or ""
    return Fraction(int(found[1] + decimals), 10 ** len(decimals))


def _bytes(text: str, suffixes: dict[str, int], instead: str) -> int:
    digits = text.rstrip("".join(_PREFIXES) + "ki")
    suffix = text[len(digits) :]
    if suffix and suffix not in suffixes:
        raise Unfit(instead)
    exact = _number(digits, instead) * suffixes.get(suffix, 1)
    if exact.denominator != 1:
        raise Unfit("not a whole number of bytes; give fewer decimals")
    return int(exact)
