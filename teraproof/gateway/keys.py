# SPDX-License-Identifier: Apache-2.0
"""Keys of applications, and what each may still spend.

What a request can cost is reserved before it is paid for, and settled to what its receipt says. So
the sum of what is spent and reserved never passes the budget, however many requests run at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from teraproof.amounts import units
from teraproof.errors import Refused, WrongInput, of_file
from teraproof.gateway.settings import KeySettings, Period
from teraproof.protocol.errors import Code

_LEAST_CHARACTERS = 16
_MOST_BYTES = 4_096
_DAY = 86_400


def read_key(path: Path) -> str:
    """The key in a file that only its owner can read. WrongInput otherwise."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise of_file(error, path, "cannot read the key in") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise WrongInput(f"{path} can be read by others; run: chmod 600 {path}", path=str(path))
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if len(text) < _LEAST_CHARACTERS or not text.isprintable() or " " in text:
        raise WrongInput(
            f"{path} holds no key: at least {_LEAST_CHARACTERS} characters in one line",
            path=str(path),
        )
    return text


def make_key(path: Path) -> None:
    """A new key in a new file that only its owner can read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise WrongInput(f"{path} exists already; move it away", path=str(path)) from None
    except OSError as error:
        raise of_file(error, path, "cannot write") from None
    with os.fdopen(handle, "w") as out:
        out.write(f"sk-tp-{secrets.token_urlsafe(32)}\n")


def first_day(period: Period, now: float) -> int:
    """The day (since 1970, UTC) with which the present period of a budget began."""
    if period == "total":
        return 0
    today = int(now) // _DAY
    if period == "day":
        return today
    return today - (time.gmtime(now).tm_mday - 1)


@dataclass
class Key:
    """An application. Amounts are units of the token."""

    name: str
    digest: bytes
    budget: int
    period: Period
    models: tuple[str, ...]
    spent: dict[int, int]
    """Day -> what requests of that day have cost."""
    reserved: int = 0
    unclear: dict[bytes, int] = field(default_factory=dict)
    """Channel -> what a request without a receipt may have cost."""

    def spent_since(self, day: int) -> int:
        """What requests have cost since the beginning of a day."""
        return sum(cost for each, cost in self.spent.items() if each >= day)


class Keys:
    """All keys. For one thread."""

    def __init__(
        self,
        settings: Mapping[str, KeySettings],
        decimals: int,
        spent: Mapping[str, Mapping[int, int]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._keys: list[Key] = []
        for name, one in settings.items():
            digest = hashlib.sha256(read_key(one.file).encode()).digest()
            if any(hmac.compare_digest(digest, other.digest) for other in self._keys):
                raise WrongInput(f"keys.{name}: another application has the same key")
            budget = units(f"{one.budget:f}", decimals, f"keys.{name}.budget")
            self._keys.append(
                Key(name, digest, budget, one.period, one.models, dict(spent.get(name, {})))
            )

    def every(self) -> list[Key]:
        """In the order of the file."""
        return self._keys

    def of(self, authorization: str | None) -> Key:
        """The key of an `Authorization` header. Refused when nobody here has it."""
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        if scheme.lower() == "bearer":
            for key in self._keys:
                if hmac.compare_digest(digest, key.digest):
                    return key
        raise Refused(
            Code.SESSION_REQUIRED, "send a key of gateway.toml: Authorization: Bearer KEY"
        )

    def left(self, key: Key) -> int:
        """What the key may still reserve in the present period."""
        begun = first_day(key.period, self._clock())
        return key.budget - key.spent_since(begun) - key.reserved - sum(key.unclear.values())

    def unclear(self, name: str, channel: bytes, amount: int) -> None:
        """The last request of a channel may have cost this much more than its receipts show; of
        whichever key the request before it was, nothing is unclear any more.
        """
        for key in self._keys:
            before = key.unclear.pop(channel, 0)
            if key.name == name and amount:
                key.unclear[channel] = amount
            elif amount and before:
                key.unclear[channel] = min(before, amount)

    def charge_late(self, name: str, day: int, cost: int) -> None:
        """A later receipt shows what a request of this key has cost."""
        for key in self._keys:
            if key.name == name:
                key.spent[day] = key.spent.get(day, 0) + cost

    def reserve(self, key: Key, amount: int) -> Reservation:
        """Keep `amount` for a request. Refused (BUDGET_SPENT) when the budget has not that much."""
        if amount > self.left(key):
            raise Refused(
                Code.BUDGET_SPENT,
                f"the key {key.name} has {max(0, self.left(key))} units of its budget left for "
                f"this {_SPAN[key.period]}, and the request may cost {amount}; lower max_tokens, "
                f"or raise keys.{key.name}.budget",
                needed=str(amount),
                left=str(max(0, self.left(key))),
            )
        key.reserved += amount
        return Reservation(key, amount, self._clock)


_SPAN: Mapping[Period, str] = {"day": "day", "month": "month", "total": "gateway"}


@dataclass
class Reservation:
    """A part of a key's budget that one request may cost. It is settled once."""

    key: Key
    amount: int
    _clock: Callable[[], float]
    settled: bool = False

    @property
    def day(self) -> int:
        """The day of now, for what it costs."""
        return int(self._clock()) // _DAY

    def settle(self, cost: int) -> int:
        """The request has cost this much. The day on which it counts."""
        day = self.day
        if not self.settled:
            self.settled = True
            self.key.reserved -= self.amount
            self.key.spent[day] = self.key.spent.get(day, 0) + cost
        return day
