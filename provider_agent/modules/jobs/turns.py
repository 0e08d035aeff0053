# SPDX-License-Identifier: Apache-2.0
"""Who is next, where more accounts ask for something free than there is room for.

Quotes and places to upload for one cost nothing, accounts cost nothing, and a balance can move
between accounts. So who has had its turn and made nothing of it stands behind who has not. Whoever
was refused keeps a place in the line for a while, as long as its money is there: one balance holds
one place.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

HasMoney = Callable[[str, int], bool]
"""Whether an account (still) has a number of payment token units."""

_IN_LINE = 64  # accounts
_REMEMBERED = 4_096  # accounts with turns of which they made nothing
_FORGOTTEN = 900.0  # seconds until such a turn is forgotten
_LOOKS = 8  # accounts in the line whose money is looked at for one that asks


@dataclass
class _Waiting:
    since: float
    asked: float
    price: int


class Turns:
    """See the module. Called from any thread. `patience` is for how many seconds a place in the
    line is kept for an account that does not ask again.
    """

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        self._patience, self._clock = patience, clock
        self._line: dict[str, _Waiting] = {}
        self._wasted: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wasted(self, account: str) -> None:
        """An account has had a turn and made nothing of it."""
        with self._lock:
            self._wasted.setdefault(account, []).append(self._clock())
            self._wasted.move_to_end(account)
            while len(self._wasted) > _REMEMBERED:
                self._wasted.popitem(last=False)

    def paid(self, account: str) -> None:
        """An account has paid: what it did not use before is forgiven."""
        with self._lock:
            self._wasted.pop(account, None)
            self._line.pop(account, None)

    def served(self, account: str) -> None:
        """An account has got what it asked for."""
        with self._lock:
            self._line.pop(account, None)

    def refused(self, account: str, price: int) -> None:
        """There was no room for an account: it waits in the line."""
        with self._lock:
            now = self._clock()
            self._tidy(now)
            known = self._line.get(account)
            if known is not None:
                known.asked, known.price = now, price
                return
            if len(self._line) >= _IN_LINE:
                last = max(
                    self._line, key=lambda one: (self._used_up(one, now), self._line[one].since)
                )
                if self._used_up(last, now) <= self._used_up(account, now):
                    return
                del self._line[last]
            self._line[account] = _Waiting(now, now, price)

    def ahead_of(self, account: str, has_money: HasMoney) -> int:
        """How many accounts have their turn before this one."""
        with self._lock:
            now = self._clock()
            self._tidy(now)
            mine = self._line.get(account)
            place = (self._used_up(account, now), now if mine is None else mine.since)
            before = [
                (other, waiting.price)
                for other, waiting in self._line.items()
                if other != account and (self._used_up(other, now), waiting.since) < place
            ]
        # Not under the lock: a node may be asked.
        gone = {other for other, price in before[:_LOOKS] if not has_money(other, price)}
        with self._lock:
            for other in gone:
                self._line.pop(other, None)
        return len(before) - len(gone)

    def _used_up(self, account: str, now: float) -> int:
        return sum(at > now - _FORGOTTEN for at in self._wasted.get(account, ())[-_LOOKS:])

    def _tidy(self, now: float) -> None:
        late = [one for one, it in self._line.items() if now - it.asked > self._patience]
        for account in late:
            del self._line[account]


@dataclass
class _Place:
    spec: bytes
    price: int
    since: float
    until: float
    seen: float


class Places:
    """A number of places that accounts may hold for a while, one each. When all are taken, one
    gives way: first one without money, then, of those that have been here for `firm` seconds, the
    one that was heard of least lately.
    """

    def __init__(self, most: int, firm: float, seconds: float, clock: Callable[[], float]) -> None:
        self._most, self._firm, self._seconds, self._clock = most, firm, seconds, clock
        self._held: dict[str, _Place] = {}
        self._lock = threading.Lock()

    def of(self, account: str) -> bytes | None:
        """The specification for which an account holds a place; this hears of it."""
        with self._lock:
            found, now = self._held.get(account), self._clock()
            if found is None or found.until <= now:
                return None
            found.seen = now
            return found.spec

    def take(self, account: str, spec: bytes, price: int, has_money: HasMoney) -> bool:
        """Hold a place for an account, in that of another if need be; whether that was possible."""
        with self._lock:
            now = self._clock()
            self._held = {name: one for name, one in self._held.items() if one.until > now}
            full = account not in self._held and len(self._held) >= self._most
            looked_at = sorted(self._held.items(), key=lambda item: item[1].seen)[:_LOOKS]
        gone = [name for name, one in looked_at if full and not has_money(name, one.price)]
        with self._lock:
            for name in gone:
                self._held.pop(name, None)
            if account not in self._held and len(self._held) >= self._most:
                yielding = [
                    (one.seen, name)
                    for name, one in self._held.items()
                    if one.since + self._firm < now
                ]
                if not yielding:
                    return False
                del self._held[min(yielding)[1]]
            since = self._held[account].since if account in self._held else now
            self._held[account] = _Place(spec, price, since, now + self._seconds, now)
            return True
