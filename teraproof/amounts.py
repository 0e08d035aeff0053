# SPDX-License-Identifier: Apache-2.0
"""Numbers as people write and read them: token amounts, durations, shares in basis points.

What the functions `show_...` write is read by their counterparts: people copy it.
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from decimal import Context, Decimal, localcontext

from teraproof.errors import WrongInput

TPF_DECIMALS = 18
ETHER_DECIMALS = 18

_SECONDS = {
    "second": 1,
    "minute": 60,
    "min": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
}
# A comma stands before three digits alone: "1,5" may be meant as one and a half.
_DECIMAL = r"([0-9]{1,3}(,[0-9]{3})+|[0-9][0-9_]*)(\.[0-9]+)?"
_NUMBER = re.compile(_DECIMAL)
_PREFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_TERA = 10**12
_RATE = re.compile(rf"(?P<number>{_DECIMAL}) ?(?P<prefix>[kmgtp]?)(op/s|ops)?", re.IGNORECASE)
_DIGITS = 4  # of a throughput, that people see
_PLACES = 6  # behind the point of an amount, that people see
_DURATION = re.compile(rf"(?P<number>{_DECIMAL}) ?(?P<unit>[a-z]+)")


def units(text: str, decimals: int, name: str = "amount", symbol: str = "") -> int:
    """A token amount such as "1_000.5" or "1,000 TPF" in the token's smallest unit.

    `symbol` may follow the number. CommandError names `name` when it is not a number or has more
    digits than the token.
    """
    number, _, word = text.strip().partition(" ")
    if not symbol or word.lower() != symbol.lower():
        number = text.strip()
    if _NUMBER.fullmatch(number) is None:
        raise WrongInput(f"{name}: {text!r} is not an amount; write 12.5 or 1_000")
    with _exactly():
        scaled = _decimal(number).scaleb(decimals)
        if scaled != scaled.to_integral_value():
            raise WrongInput(f"{name}: {text} has more than {decimals} decimals")
        return int(scaled)


def tpf(text: str, name: str = "amount") -> int:
    """An amount such as "1,000 TPF" or "1000" in wei. CommandError names `name`."""
    return units(text, TPF_DECIMALS, name, "TPF")


def seconds(text: str, name: str = "duration") -> int:
    """A duration such as "7 days", "90m", "1 d 12 h" or "3600" (seconds). CommandError names
    `name`.
    """
    stripped = text.strip().lower()
    if _NUMBER.fullmatch(stripped):
        stripped += "s"
    total, end = Decimal(0), 0
    while end < len(stripped):
        part = _DURATION.match(stripped, end)
        unit = part["unit"] if part else ""
        factor = _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s"))
        if part is None or factor is None:
            break
        with _exactly():
            total += _decimal(part["number"]) * factor
        end = part.end() + stripped[part.end() :].startswith(" ")
    if not stripped or end < len(stripped):
        raise WrongInput(f"{name}: {text!r} is not a duration; write 90 minutes, 12h or 7 days")
    if total != total.to_integral_value():
        raise WrongInput(f"{name}: {text} is not a whole number of seconds")
    return int(total)


def basis_points(text: str, name: str = "share") -> int:
    """A share such as "2.5 %" or "250" in 1/10,000. CommandError names `name`."""
    stripped = text.strip()
    percent = stripped.endswith("%")
    value = units(stripped.removesuffix("%"), 2 if percent else 0, name)
    if value > 10_000:
        raise WrongInput(f"{name}: {text} is above 100 %")
    return value


def rate(text: str, name: str = "score") -> int:
    """A throughput such as "500 TOPS", "500T" or "1.2P", in integer operations per second.

    CommandError names `name`.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise WrongInput(
            f"{name}: {text!r} is not a throughput; write 500 TOPS, 1.2T or a plain number"
        )
    factor = _PREFIXES.get(match["prefix"].lower(), 1)
    with _exactly():
        return int(_decimal(match["number"]) * factor)


def without_groups(text: str) -> str:
    """A number such as "1,000.5" or "1_000.5" without what holds its digits apart; any other text
    as it is.
    """
    if _NUMBER.fullmatch(text.strip()) is None:
        return text
    return text.strip().replace("_", "").replace(",", "")


def _decimal(number: str) -> Decimal:
    """A number as `_DECIMAL` has it."""
    return Decimal(without_groups(number))


def _exactly() -> AbstractContextManager[Context]:
    """In it no number of the contracts loses a digit."""
    return localcontext(prec=100)


def show_rate(speed: int) -> str:
    """Integer operations per second for people: INT8 TOPS, four digits of them."""
    if not speed:
        return "0 TOPS"
    with _exactly():
        tera = Decimal(speed) / _TERA
        last = min(tera.adjusted() - _DIGITS + 1, 0)
        return f"{_plain(tera.quantize(Decimal(1).scaleb(last)))} TOPS"


def show_units(amount: int, decimals: int, symbol: str = "") -> str:
    """An amount for people, rounded to a millionth of the token; less than that is "<0.000001"."""
    tail = f" {symbol}" if symbol else ""
    places = min(decimals, _PLACES)
    least = Decimal(1).scaleb(-places)
    with _exactly():
        exact = Decimal(amount).scaleb(-decimals)
        if amount and abs(exact) < least:
            return f"<{least:f}{tail}" if amount > 0 else f">-{least:f}{tail}"
        return f"{_plain(exact.quantize(least))}{tail}"


def _plain(number: Decimal) -> str:
    """A number with its thousands apart, and without zeros at its end."""
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show_tpf(amount: int) -> str:
    """TPF wei for people."""
    return show_units(amount, TPF_DECIMALS, "TPF")


def show_ether(wei: int, symbol: str = "ETH") -> str:
    """Wei of the chain's own coin for people."""
    return show_units(wei, ETHER_DECIMALS, symbol)


def show_seconds(duration: int) -> str:
    """A duration for people, its two largest parts."""
    parts = []
    rest = abs(duration)
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def show_date(moment: int) -> str:
    """A unix time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def show_time(moment: int, now: int) -> str:
    """A unix time for people, with how far away it is."""
    return f"{show_date(moment)} ({_away(moment, now)})"


def show_local(moment: int, now: int) -> str:
    """A unix time for people in the time zone of this machine, with how far away it is."""
    date = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))
    return f"{date} ({_away(moment, now)})"


def _away(moment: int, now: int) -> str:
    away = show_seconds(moment - now)
    return f"in {away}" if moment > now else f"{away} ago"
