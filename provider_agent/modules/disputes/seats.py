# SPDX-License-Identifier: Apache-2.0
"""The seats that this provider holds as a juror: taken, renewed and given up as the settings say.

A term is renewed while it lasts. Who was away for too long has to be evicted and to wait before it
may come back: anyone may evict, so this does it, too.

Seats that the owner or the operator gave up by hand within their term stay given up: no seats are
taken until the setting has been 0 once. The word on chain says so, also after a lost database.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from eth_utils.crypto import keccak

from provider_agent.core.attempts import CAME_TO_NOTHING, Attempts
from provider_agent.core.standing import Provider
from provider_agent.store import Store
from teraproof.amounts import show_tpf
from teraproof.contracts.disputes import DisputesContract, Enlisted, Fined, Left, SeatsLost
from teraproof.contracts.staking import Lock, StakingContract
from teraproof.courts import docket
from teraproof.courts.docket import Member
from teraproof.errors import counted
from teraproof.protocol.capability import Capability
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

_LOOK_EVERY = 60  # seconds between two looks without news
_EVICTIONS, _PATIENCE = 4, 8  # in one look, and periods for which some wait for others
_WENT = 2  # periods after which who has lost all seats may come back
_HELD, _AWAY = "juror.held", "juror.away."  # in the store's meta


class Seats:
    """See the module. `wanted` is a number of seats by capability, as text."""

    def __init__(
        self,
        disputes: DisputesContract,
        staking: StakingContract,
        attempts: Attempts,
        store: Store,
        wanted: Mapping[str, int],
    ) -> None:
        self._disputes, self._staking, self._attempts = disputes, staking, attempts
        self._store = store
        self._wanted = {
            Capability.parse(text).number().to_bytes(32, "big"): (text, seats)
            for text, seats in wanted.items()
        }
        self._looked_at: int | None = None
        self._fixed: tuple[int, int, int, int] | None = None
        self._said: dict[bytes, str] = {}
        self._leaves: dict[bytes, int] = {}
        self._owner: str | None = None
        # Capability -> juror -> its last period, by the events since this agent was started.
        self._terms: dict[bytes, dict[str, int]] = {}
        self._fines: dict[str, int] = {}
        #: Seats by capability of the settings, as far as they are known.
        self.held: dict[bytes, int] = {}
        #: When those can be drawn no more, unix seconds, where there are some.
        self.ends: dict[bytes, int] = {}
        #: How often seats may have been taken where there were none.
        self.joined = 0
        #: TPF wei that fines of ours have burned since this agent was started.
        self.fined = 0

    def news(self, event: Enlisted | SeatsLost | Left | Fined) -> None:
        """Keep what an event says of seats, and look again in the next cycle."""
        self._looked_at = None
        ours = isinstance(event, Enlisted) and self._owner in (None, event.juror)
        if ours and not self._leaves.pop(event.capability, 0):
            self.joined += 1
        if isinstance(event, Fined):
            self._fines[event.juror] = self._fines.get(event.juror, 0) + event.amount
        if isinstance(event, Enlisted):
            self._terms.setdefault(event.capability, {})[event.juror] = event.last_period
        elif isinstance(event, Left) or (isinstance(event, SeatsLost) and not event.seats):
            self._terms.get(event.capability, {}).pop(event.juror, None)

    def leaf(self, capability: bytes, owner: str, block: BlockRef) -> int:
        """This provider's leaf in a capability, by which juries draw it; 0 for none. Read once,
        until it enlists there. Raises ChainError.
        """
        if owner != self._owner:
            self._owner = owner
            self._leaves.clear()
        if capability not in self._leaves:
            self._leaves[capability] = self._disputes.leaf_of(owner, capability, block)
        return self._leaves[capability]

    def known_leaf(self, capability: bytes) -> int | None:
        """The same, None where it has not been read."""
        return self._leaves.get(capability)

    def reconcile(self, block: BlockRef, provider: Provider) -> None:
        """Bring the seats in line with the settings. Raises ChainError."""
        now = block.timestamp
        self.fined = self._fines.get(provider.owner, 0)
        if self._looked_at is not None and now - self._looked_at < _LOOK_EVERY:
            return
        if not self._wanted:
            return
        if self._fixed is None:
            court = self._disputes
            longest = court.longest(court.max_duration(block), block)
            self._fixed = court.period(block), court.seat(block), court.term(block), longest
        self._evict(block, provider)
        for capability, (text, seats) in self._wanted.items():
            found = docket.member(self._disputes, provider.owner, capability, block)
            self.held[capability] = 0 if found is None else found.seats
            self.ends.pop(capability, None)
            if found is not None and found.seats:
                self.ends[capability] = (found.last_period + 1) * self._fixed[0]
            if seats:
                self._hold(capability, text, seats, found, block, provider)
            elif found is not None:
                self._give_up(capability, found, block, provider.owner)
        self._remember(_HELD, json.dumps(self._by_text()))
        self._looked_at = now

    def _by_text(self) -> dict[str, int]:
        return {text: self.held.get(key, 0) for key, (text, _) in self._wanted.items()}

    def _remember(self, key: str, value: str) -> None:
        if self._store.meta(key) != value:
            self._store.set_meta(key, value)

    def _evict(self, block: BlockRef, provider: Provider) -> None:
        """Take seats whose term is over from others: they count, and no jury can have them. A few
        at a time, each some periods after its end: whoever is a juror there does so.
        """
        assert self._fixed is not None  # read before
        present = block.timestamp // self._fixed[0]
        for capability, (_, seats) in self._wanted.items():
            over = [
                juror
                for juror, last in self._terms.get(capability, {}).items()
                if seats and juror != provider.owner and present > last + _turn(provider, juror)
            ]
            for juror in over[:_EVICTIONS]:
                found = docket.member(self._disputes, juror, capability, block)
                if found is None or not found.seats or not found.is_over(present):
                    self._terms[capability].pop(juror)
                    continue
                data = self._disputes.evict(juror, capability)
                self._attempts.begin(f"{capability.hex()}-{juror}", f"evict-{present}", data)

    def _hold(
        self,
        capability: bytes,
        text: str,
        seats: int,
        found: Member | None,
        block: BlockRef,
        provider: Provider,
    ) -> None:
        assert self._fixed is not None  # read before
        period, seat, term, longest = self._fixed
        present = block.timestamp // period
        if found is not None and found.seats and present > found.last_period:
            self._begin(
                capability, f"evict-{present}", self._disputes.evict(provider.owner, capability)
            )
            return
        lock = self._staking.lock_of(self._disputes.address, provider.owner, capability, block)
        if found is not None and not found.seats:
            if self._is_given_up(capability, found, lock.amount):
                self._say(
                    capability,
                    f"the seats for {text} were given up by hand, and are not taken again: to "
                    f"take some, run this agent with 0 for {text} in disputes.seats, then with "
                    f"{seats}",
                    logging.WARNING,
                )
                self._leave(capability, found, lock, block, provider.owner)
                return
            if present < found.went + _WENT:
                return
        left = 0 if found is None else found.last_period - present
        is_due = left <= max(1, (term - longest) // period // 4)
        if found is not None and found.seats >= seats and not is_due:
            return
        number = seats if found is None else max(seats, found.seats)
        locked = lock.amount if block.timestamp <= lock.expires_at else 0
        if number * seat - locked > provider.available or number * seat > provider.per_order:
            self._say(
                capability,
                f"{counted(number, 'seat')} for {text} need {show_tpf(number * seat)} of the "
                "owner's own stake within its limits for locks: stake more, or raise the limits",
                logging.WARNING,
            )
            return
        self._say(capability, f"taking or renewing {counted(number, 'seat')} for {text}")
        self._begin(capability, f"enlist-{present}", self._disputes.enlist(capability, number))

    def _is_given_up(self, capability: bytes, found: Member, locked: int) -> bool:
        """Whether all seats were given up by hand, and the setting was not 0 since. Eviction takes
        them after the term, and a fine leaves little of the lock.
        """
        assert self._fixed is not None  # read before
        key = _AWAY + capability.hex()
        kept = self._store.meta(key)
        if found.went > found.last_period or kept == _free(found):
            return False
        fined = 0 < locked < self._fixed[1] // 2
        if kept != _by_hand(found) and (fined or self._has_resigned(capability, found.went)):
            return False
        self._remember(key, _by_hand(found))
        return True

    def _has_resigned(self, capability: bytes, went: int) -> bool:
        """Whether this agent itself has sent the resignation, as its settings said then."""
        return any(
            intent.state not in CAME_TO_NOTHING
            for period in (went - 1, went)  # it is mined a little later than it is made
            for intent in self._attempts.made(capability.hex(), f"resign-{period}")
        )

    def _give_up(self, capability: bytes, found: Member, block: BlockRef, owner: str) -> None:
        assert self._fixed is not None  # read before
        present = block.timestamp // self._fixed[0]
        if found.seats:
            data = self._disputes.resign(owner, capability)
            self._begin(capability, f"resign-{present}", data)
            return
        self._remember(_AWAY + capability.hex(), _free(found))
        lock = self._staking.lock_of(self._disputes.address, owner, capability, block)
        self._leave(capability, found, lock, block, owner)

    def _leave(
        self, capability: bytes, found: Member, lock: Lock, block: BlockRef, owner: str
    ) -> None:
        """Set the stake behind seats that are gone free, once no jury can hold it."""
        assert self._fixed is not None  # read before
        period, _, _, longest = self._fixed
        if lock.amount and block.timestamp > (found.went + 1) * period + longest:
            data = self._disputes.leave(owner, capability)
            self._begin(capability, f"leave-{found.went}", data)

    def _begin(self, capability: bytes, action: str, data: bytes) -> None:
        self._attempts.begin(capability.hex(), action, data)

    def _say(self, capability: bytes, line: str, level: int = logging.INFO) -> None:
        if self._said.get(capability) != line:
            self._said[capability] = line
            log.log(level, "juror: %s", line)


def held(store: Store) -> dict[str, int]:
    """The seats by capability, as the agent saw them last; without capabilities that have none."""
    found: dict[str, int] = json.loads(store.meta(_HELD) or "{}")
    return {text: seats for text, seats in found.items() if seats}


def _by_hand(found: Member) -> str:
    return f"{found.went} by hand"


def _free(found: Member) -> str:
    return f"{found.went} free"


def _turn(provider: Provider, juror: str) -> int:
    """Periods that this provider leaves to others for an eviction."""
    return int.from_bytes(keccak(text=provider.owner + juror)[:4], "big") % _PATIENCE
