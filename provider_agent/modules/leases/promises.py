# SPDX-License-Identifier: Apache-2.0
"""What this provider has promised of leases, told to the ledger, and which GPUs that takes.

A promise is a lease of ours, an acceptance on its way, or a quote that can still be used. Whoever
makes one holds `lock` from the look to the deed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from provider_agent.core.attempts import UNDECIDED
from provider_agent.core.capacity import Amounts, Capacity, Fit, Hold, Key, Kind, Resource
from provider_agent.modules.leases.images import fetch_name
from provider_agent.modules.leases.repository import LeaseRow, LeasesRepository, QuoteRow
from provider_agent.modules.leases.stock import MODULE, Promised, Stock
from provider_agent.runners.lease import ImageRoom
from teraproof.contracts.leases import LeasesContract
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.rpc.types import BlockRef

ACCEPT = "accept"
_UNKNOWN = Amounts(gas=1)  # of a lease whose specification is not here
_ASK_EVERY = 10  # seconds between two looks at a quote without news
_OTHERS = 8  # quotes without news that one update asks of
_RECKONED = 512  # specifications
_LATE = 3_600  # seconds after its end in which a quote that was used is still found

Devices = Mapping[str, Iterable[str]]
LIVE, USED, OVER = "live", "used", "over"
KNOWN = "known"  # used, and nobody looks for its lease any more: no cycle reads it again


class Promises:
    """See the module. `update` is for the loop's thread, the rest for any, under `lock`.

    `spec_of` gives a specification that is here, `has` says whether the runner has made a lease,
    `room` what images take of the disk, `fetching` what the ledger has for those on their way
    already, `held` which GPUs something there was made with.
    """

    def __init__(
        self,
        store: LeasesRepository,
        capacity: Capacity,
        stock: Stock,
        leases: LeasesContract,
        operator: str,
        spec_of: Callable[[bytes], LeaseSpec | None],
        has: Callable[[str], bool],
        room: Callable[[], ImageRoom] = ImageRoom,
        fetching: Callable[[], int] = int,
        held: Callable[[], set[str]] = set,
    ) -> None:
        self.lock = threading.RLock()
        self.capacity = capacity
        self._store, self._stock, self._leases = store, stock, leases
        self._operator, self._spec_of, self._has = operator, spec_of, has
        self._room, self._fetching = room, fetching
        self._reckoned: dict[int, tuple[LeaseSpec, Amounts]] = {}  # by identity
        self._asked: dict[bytes, int] = {}  # time of the block
        self._news: set[str] = set()
        self._held: frozenset[str] = frozenset()
        self._count = self._ports = 0
        #: The quotes that were used for leases whose events have not been seen.
        self.unseen: list[QuoteRow] = []
        #: The runner's names of fetches for what is promised and does not run yet: no disk that
        #: fills up takes these images away.
        self.fetched: frozenset[str] = frozenset()
        #: The block of the last update; None before it.
        self.block: BlockRef | None = None
        stock.know_held(lambda: self._held | held(), lambda: self._ports)

    @property
    def count(self) -> int:
        """How many leases are promised."""
        return self._count

    def news_of(self, requester: str) -> None:
        """A lease of this account has become ours: it may have used a quote."""
        self._news.add(requester)

    def update(self, block: BlockRef) -> None:
        """Say what is promised at this block. Raises ChainError."""
        with self.lock:
            self._look_at_quotes(block)
            self.block = block
            holds: dict[Key, Hold] = {}
            held: set[str] = set()
            ports = 0
            fetched: set[bytes] = set()
            promised: dict[Key, Promised] = {}

            def note(key: Key, spec: LeaseSpec | None, devices: Devices, name: str = "") -> None:
                if spec is not None:
                    promised[key] = Promised(spec, devices, name)

            for row in self._rows():
                note(_key(row), self._spec_of(row.spec), row.devices, row.name)
                if row.status is not LeaseStatus.ACTIVE:
                    fetched.add(row.spec)
                holds[_key(row)] = self._owed(row)
                held |= _uuids(row.devices)
                ports += _ports(self._spec_of(row.spec))
            for quote in self.unseen:
                fetched.add(quote.quote.spec)
                spec = self._spec_of(quote.quote.spec)
                note(quote.digest, spec, quote.devices)
                holds[quote.digest] = self._hold(Kind.OWED, spec, 0)
                held |= _uuids(quote.devices)
                ports += _ports(spec)
            for quote in self.quotes():
                fetched.add(quote.quote.spec)
                spec = self._spec_of(quote.quote.spec)
                note(quote.digest, spec, quote.devices)
                holds[quote.digest] = self._hold(Kind.OFFERED, spec, quote.quote.collateral)
                held |= _uuids(quote.devices)
                ports += _ports(spec)
            self._held, self._count = frozenset(held), len(holds)
            self._ports = ports
            self.fetched = frozenset(map(fetch_name, fetched))
            room, fetching = self._room(), self._fetching()
            # What is fetched for leases to come is held for them, and not once more here.
            images = Amounts(disk=room.held + max(0, room.expected - fetching))
            holds[(MODULE, "images")] = Hold(
                Kind.OWED, images, stored=Amounts(disk=room.held), by=MODULE
            )
            self.capacity.restate(MODULE, holds)
            self._stock.restate(promised)

    def offer(self, row: QuoteRow, spec: LeaseSpec) -> Fit:
        """Reserve what a quote needs, and keep it; whether that was possible."""
        hold = self._hold(Kind.OFFERED, spec, row.quote.collateral)
        found = self._reserve(row.digest, hold, Promised(spec, row.devices))
        if found:
            self._store.put_quote(row)
            self._count += 1
            self._held |= _uuids(row.devices)
            self._ports += _ports(spec)
        return found

    def promise(self, row: LeaseRow, spec: LeaseSpec, devices: Devices) -> Fit:
        """Reserve what an open order needs, before it is accepted; whether that was possible."""
        hold = self._hold(Kind.OWED, spec, row.terms.order.collateral)
        found = self._reserve(_key(row), hold, Promised(spec, devices, row.name))
        if found:
            self._count += 1
            self._held |= _uuids(devices)
            self._ports += _ports(spec)
        return found

    def quotes(self) -> list[QuoteRow]:
        """The quotes that can still be used."""
        return self._store.quotes(self._operator, LIVE)

    # ------------------------------------------------------------------ rules

    def _reserve(self, key: Key, hold: Hold, promised: Promised) -> Fit:
        """Reserve it with the ledger, and with the stock."""
        if not self._stock.take(key, promised):
            return Fit((Resource.SLOTS,))
        found = self.capacity.reserve(key, hold)
        if not found:
            self._stock.release(key)
        return found

    def _rows(self) -> list[LeaseRow]:
        found = {row.lease_id: row for row in self._store.ours()}
        for lease in self.accepting():
            row = self._store.lease(lease)
            if row is not None and row.ended_at is None:
                found[lease] = row
        return list(found.values())

    def accepting(self) -> set[bytes]:
        """Leases whose acceptances are on their way."""
        return {
            bytes.fromhex(intent.key.object_id)
            for intent in self._store.core.intents_in(*UNDECIDED)
            if intent.key.contract == MODULE and intent.key.action.partition("#")[0] == ACCEPT
        }

    def _owed(self, row: LeaseRow) -> Hold:
        # The chain shows the collateral of a lease once it is assigned.
        collateral = 0 if row.is_ours else row.terms.order.collateral
        hold = self._hold(Kind.OWED, self._spec_of(row.spec), collateral)
        if not self._has(row.name):
            return hold
        stored = Amounts(disk=hold.amounts.disk, inodes=hold.amounts.inodes)
        return Hold(Kind.OWED, hold.amounts, stored=stored, by=MODULE)

    def _hold(self, kind: Kind, spec: LeaseSpec | None, collateral: int) -> Hold:
        if spec is None:
            return Hold(kind, _UNKNOWN + Amounts(collateral=collateral), by=MODULE)
        amounts = self._amounts(spec) + Amounts(collateral=collateral)
        return Hold(kind, amounts, by=MODULE)

    def _amounts(self, spec: LeaseSpec) -> Amounts:
        """What a specification takes; reckoned once, for a cycle asks of every lease."""
        known = self._reckoned.get(id(spec))
        if known is None or known[0] is not spec:
            if len(self._reckoned) >= _RECKONED:
                self._reckoned.clear()
            known = self._reckoned[id(spec)] = (spec, self._stock.amounts(spec))
        return known[1]

    def _look_at_quotes(self, block: BlockRef) -> None:
        """Ask the chain which quotes were used: anybody can open a lease that looks like it."""
        live, used, now = self.quotes(), list[bytes](), block.timestamp
        over: list[bytes] = []
        others = _OTHERS
        for quote in live:
            asked = self._asked.get(quote.digest, quote.created_at)
            ended = quote.quote.expires < now
            if quote.quote.requester not in self._news and not ended:
                if asked > now - _ASK_EVERY or others == 0:
                    continue
                others -= 1
            self._asked[quote.digest] = now
            if self._leases.quote_used(self._operator, quote.quote.nonce, block):
                used.append(quote.digest)
            elif ended:
                over.append(quote.digest)
        self._news.clear()
        self._store.set_quotes(used, USED)
        self._store.set_quotes(over, OVER)
        self._asked = {one.digest: self._asked.get(one.digest, now) for one in live}
        self.unseen, known = [], list[bytes]()
        for quote in self._store.quotes(self._operator, USED):
            late = quote.quote.expires < now - _LATE - quote.quote.ready_within
            if late or self._is_seen(quote):
                known.append(quote.digest)
            else:
                self.unseen.append(quote)
        self._store.set_quotes(known, KNOWN)

    def _is_seen(self, quote: QuoteRow) -> bool:
        nonce = int.from_bytes(quote.digest, "big")
        found = self._store.names_spec(quote.quote.spec, quote.quote.requester)
        return any(row.terms.order.nonce == nonce for row in found)


def _key(row: LeaseRow) -> Key:
    return (MODULE, row.lease_id)


def _ports(spec: LeaseSpec | None) -> int:
    """How many public ports a lease has."""
    return 0 if spec is None else len(spec.public)


def _uuids(devices: Devices) -> set[str]:
    return {uuid for each in devices.values() for uuid in each}
