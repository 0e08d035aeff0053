# SPDX-License-Identifier: Apache-2.0
"""Leases as the chain has them: their terms, where they stand, what they cost, what comes next.

Nothing here depends on this machine but names. Rates are payment token units a second, amounts
payment token units, collateral TPF wei, times unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_seconds, show_time, show_tpf
from teraproof.contracts.base import Event, event_of
from teraproof.contracts.leases import (
    STATE,
    Accepted,
    Account,
    Cancelled,
    Closed,
    LeasesContract,
    NoticeGiven,
    Opened,
    Ready,
)
from teraproof.errors import CommandError
from teraproof.market import lease_notes
from teraproof.market.lease_prices import decimal, hour_of, show_amount, show_hour
from teraproof.market.market import Market
from teraproof.market.ui import Ui
from teraproof.names import lease_digits
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import (
    Ending,
    LeaseMarks,
    LeaseState,
    LeaseStatus,
    LeaseTerms,
    lease_marks_of,
    lease_state_of,
)
from teraproof.protocol.messages import Domain

_LATER = (Accepted, Ready, NoticeGiven, Closed, Cancelled)
_ID_BATCH = 200  # lease ids in one topic filter
_NO_MARKS = LeaseMarks(0, 0, 0)
_ENDED = {
    Ending.NOT_READY: "it was not ready in time",
    Ending.REJECTED: "its tenant rejected it",
    Ending.BY_TENANT: "its tenant closed it",
    Ending.BY_PROVIDER: "its provider left without the notice",
    Ending.ABANDONED: "its provider was silent or suspended it for too long",
    Ending.OVER: "its term, or its provider's notice, has ended",
    Ending.DRY: "its deposit was used up",
}


@dataclass(frozen=True)
class Lease:
    """A lease as the chain has it."""

    lease: bytes
    terms: LeaseTerms
    state: LeaseState
    """All zero once it has ended."""
    opened: Opened
    marks: LeaseMarks = _NO_MARKS
    accepted: Accepted | None = None
    ready: Ready | None = None
    noticed: NoticeGiven | None = None
    closed: Closed | None = None
    cancelled: Cancelled | None = None

    @property
    def status(self) -> LeaseStatus:
        """NONE once it has ended."""
        return self.state.status

    @property
    def word(self) -> str:
        """Its status for people and documents."""
        if self.cancelled is not None:
            return "cancelled"
        return "closed" if self.closed is not None else self.status.name.lower()

    @property
    def provider(self) -> str | None:
        """Who took it."""
        return None if self.accepted is None else self.accepted.provider

    @property
    def rate(self) -> int | None:
        """What it costs a second, once somebody has taken it."""
        return None if self.accepted is None else self.accepted.rate

    @property
    def ending(self) -> Ending | None:
        """Why it was closed; None for one that was not, or in a way that is not known here."""
        if self.closed is None or self.closed.reason not in list(Ending):
            return None
        return Ending(self.closed.reason)

    @property
    def died(self) -> bool:
        """Whether it ended by its provider's doing, before the tenant was done with it."""
        return self.ending in (Ending.NOT_READY, Ending.BY_PROVIDER, Ending.ABANDONED)

    @property
    def ready_until(self) -> int:
        """The last second in which an assigned one can become ready."""
        return self.state.since + self.terms.order.ready_within

    @property
    def grace_until(self) -> int:
        """The last second in which an active one can be rejected, unless it was confirmed."""
        return self.state.since + self.terms.grace

    def in_grace(self, now: int) -> bool:
        """Whether an active one can be confirmed or rejected."""
        return not self.state.confirmed and now <= self.grace_until


def contract(market: Market) -> LeasesContract:
    """The market's leases. CommandError when this deployment has none."""
    if market.leases is None:
        raise CommandError(
            f"the market on chain {market.chain.chain_id} was deployed before there were leases; "
            "choose another with --deployments",
            Code.INPUT_INVALID,
        )
    return market.leases


def domain(market: Market) -> Domain:
    """For lease quotes."""
    return Domain(market.chain.chain_id, contract(market).address)


def unit_of(market: Market) -> int:
    """Payment token units of one dollar."""
    return int(10**market.decimals)


def notes_of(market: Market, account: str) -> str:
    """Where this machine keeps its notes of an account's leases."""
    return lease_notes.place_of(
        market.chain.chain_id, market.registry.genesis, contract(market).address, account
    )


def short(lease: bytes) -> str:
    """A lease's id for people; enough to name it again."""
    return "0x" + lease.hex()[:16]


# ---------------------------------------------------------------------- reading


def find_all(market: Market, requester: str | None = None) -> list[Lease]:
    """The leases of a requester, or all, the oldest first."""
    return _histories(market, _opened(market, requester=requester))


def find(market: Market, name: str) -> Lease:
    """The lease whose id begins with the hex digits `name`. CommandError unless it is one."""
    digits = lease_digits(name)
    if len(digits) == 64:
        known = _opened(market, lease=bytes.fromhex(digits))
    else:
        known = [one for one in _opened(market) if one.lease.hex().startswith(digits)]
        if len(known) > 1:
            raise CommandError(
                f"{len(known)} leases begin with {name}; give more digits", Code.INPUT_INVALID
            )
    if not known:
        raise CommandError(
            f"no lease {name} on chain {market.chain.chain_id}; see lease list", Code.LEASE_UNKNOWN
        )
    (found,) = _histories(market, known[:1])
    return found


def ordered(market: Market, requester: str, nonce: int) -> Lease | None:
    """The lease that an order of a requester became; None when it is not on the chain."""
    known = [one for one in _opened(market, requester=requester) if one.terms.order.nonce == nonce]
    return _histories(market, known[:1])[0] if known else None


def current(market: Market, opened: Opened) -> Lease:
    """The lease that was opened like this, as the newest block has it."""
    return _histories(market, [opened])[0]


def left_early(market: Market, lease: Lease) -> bool:
    """Whether its provider's notice has ended it, before its term did."""
    if lease.ending is not Ending.OVER or lease.noticed is None or lease.ready is None:
        return False
    ready_at = market.chain.pool.block(lease.ready.at.block_number).timestamp
    return lease.noticed.leaves_at < ready_at + lease.terms.order.term


def account_of(market: Market, lease: Lease) -> Account | None:
    """What an active lease has cost so far; None for any other."""
    if lease.status is not LeaseStatus.ACTIVE:
        return None
    return contract(market).account(lease.terms, "latest")


def _opened(
    market: Market, *, requester: str | None = None, lease: bytes | None = None
) -> list[Opened]:
    start = market.registry.start_block
    return contract(market).find(Opened, start, requester=requester, lease=lease)


def _histories(market: Market, opened: Sequence[Opened]) -> list[Lease]:
    if not opened:
        return []
    leases, first = contract(market), opened[0].at.block_number
    # One block for all that is read: or a lease had a provider by its state and none by its events.
    last = market.chain.pool.head().number
    happened: dict[bytes, dict[type[Event], Event]] = {}
    ids = [event.lease for event in opened]
    for start in range(0, len(ids), _ID_BATCH):
        batch = ids[start : start + _ID_BATCH]
        for told in leases.find_any(_LATER, first, last, lease=batch):
            assert isinstance(told, _LATER)
            happened.setdefault(told.lease, {})[type(told)] = told
    words = leases.read_many(STATE, last, [(lease,) for lease in ids])
    found = []
    for event, value in zip(opened, words, strict=True):
        later, state = happened.get(event.lease, {}), lease_state_of(int(value))
        found.append(
            Lease(
                lease=event.lease,
                terms=event.terms,
                state=state,
                opened=event,
                marks=_marks(leases, event.lease, state, last),
                accepted=event_of(later, Accepted),
                ready=event_of(later, Ready),
                noticed=event_of(later, NoticeGiven),
                closed=event_of(later, Closed),
                cancelled=event_of(later, Cancelled),
            )
        )
    return found


def _marks(leases: LeasesContract, lease: bytes, state: LeaseState, block: int) -> LeaseMarks:
    return lease_marks_of(leases.marks(lease, block)) if state.marked else _NO_MARKS


# ---------------------------------------------------------------------- telling


def next_step(market: Market, lease: Lease, now: int) -> str:
    """What the lease waits for, and until when."""
    if lease.status is LeaseStatus.OPEN:
        return _offered(market, lease, now)
    if lease.status is LeaseStatus.ASSIGNED:
        if now > lease.ready_until:
            return "not ready in time: anyone may expire it"
        return f"ready until {show_time(lease.ready_until, now)}"
    if lease.status is LeaseStatus.ACTIVE:
        return _running(market, lease, now)
    unit = unit_of(market)
    if lease.closed is not None:
        why = "it has ended" if lease.ending is None else _ENDED[lease.ending]
        seized = lease.closed.seized
        tail = f", and {show_tpf(seized)} were seized" if seized else ""
        return f"{why}; {show_amount(lease.closed.refund, unit)} came back{tail}"
    if lease.cancelled is not None:
        return f"{show_amount(lease.cancelled.refund, unit)} came back"
    return ""


def open_until(market: Market, lease: Lease) -> int:
    """The last second in which an open lease can be taken, as far as is known now."""
    return lease.terms.open_until(contract(market).open_margin("latest"), _paused(market, lease))


def _paused(market: Market, lease: Lease) -> int:
    """Seconds since its opening in which new leases were paused."""
    return contract(market).paused_seconds("latest") - lease.terms.paused


def _offered(market: Market, lease: Lease, now: int) -> str:
    paused, until = _paused(market, lease), open_until(market, lease)
    if now > until:
        return "nobody took it: anyone may cancel it"
    rate = lease.terms.rate_after(max(0, now - lease.terms.posted_at - paused))
    return f"offers {show_hour(rate, unit_of(market))}, open until {show_time(until, now)}"


def _running(market: Market, lease: Lease, now: int) -> str:
    if lease.in_grace(now):
        return f"confirm or reject it until {show_time(lease.grace_until, now)}"
    found = account_of(market, lease)
    assert found is not None  # it is active
    if now > found.ends_at:
        return "its term has ended: anyone may close it"
    if found.seconds >= found.affordable:
        return "its deposit is used up: anyone may close it"
    if lease.marks.accused_at:
        return f"its provider was accused {show_time(lease.marks.accused_at, now)}"
    if lease.marks.suspended_at:
        return f"suspended, and not paid, since {show_time(lease.marks.suspended_at, now)}"
    if lease.marks.leaves_at:
        return f"its provider leaves {show_time(lease.marks.leaves_at, now)}"
    return f"ends {show_time(found.ends_at, now)}"


def show_list(market: Market, listed: Sequence[Lease], ui: Ui) -> None:
    """Leases as a table."""
    now = market.now()
    rows = [
        (
            short(lease.lease),
            lease_notes.name_of(lease.terms.order.spec),
            lease.word,
            show_price(market, lease),
            lease.provider or "",
            next_step(market, lease, now),
        )
        for lease in listed
    ]
    ui.table("Leases", ("lease", "name", "status", "price", "provider", "next"), rows)


def show(market: Market, lease: Lease, ui: Ui) -> None:
    """One lease in full."""
    now, unit, order = market.now(), unit_of(market), lease.terms.order
    name = lease_notes.name_of(order.spec)
    rows = [
        *([("name", name)] if name else []),
        ("status", lease.word),
        ("next", next_step(market, lease, now)),
        ("requester", lease.terms.requester),
        ("specification", "0x" + order.spec.hex()),
        ("price", show_price(market, lease)),
        ("term", show_seconds(order.term)),
        ("notice of the provider", show_seconds(order.notice)),
        ("collateral", show_tpf(order.collateral)),
        ("opened", show_time(lease.terms.posted_at, now)),
    ]
    if lease.accepted is not None:
        rows += [("provider", lease.accepted.provider), ("operator", lease.accepted.operator)]
    if lease.status in (LeaseStatus.ASSIGNED, LeaseStatus.ACTIVE):
        rows.append(("deposit", show_amount(lease.state.deposited, unit)))
    found = account_of(market, lease)
    if found is not None and lease.rate is not None:
        rent = show_amount(found.seconds * lease.rate, unit)
        rows += [
            ("ready", show_time(lease.state.since, now)),
            ("rent so far", f"{rent} for {show_seconds(found.seconds)}"),
            ("deposit pays for", show_seconds(found.affordable)),
        ]
    if lease.closed is not None and lease.rate is not None:
        rent = show_amount(lease.closed.seconds * lease.rate, unit)
        rows.append(("rent", f"{rent} for {show_seconds(lease.closed.seconds)}"))
    ui.table(f"Lease 0x{lease.lease.hex()}", ("what", "value"), rows)


def show_price(market: Market, lease: Lease) -> str:
    """The price of a lease for people: agreed, or still offered."""
    unit, order = unit_of(market), lease.terms.order
    if lease.rate is not None:
        return show_hour(lease.rate, unit)
    if not order.auction or order.start_rate == order.max_rate:
        return show_hour(order.max_rate, unit)
    return (
        f"{show_hour(order.start_rate, unit)}, rising to {show_hour(order.max_rate, unit)} "
        f"within {show_seconds(order.auction)}"
    )


def to_json(market: Market, lease: Lease, now: int) -> dict[str, Any]:
    """A lease for documents: rates and amounts in payment token units and collateral in TPF wei,
    as text; prices also in dollars an hour; times unix seconds. None is what there is not.
    """
    order, unit, found = lease.terms.order, unit_of(market), account_of(market, lease)
    paid = found.seconds if found is not None else None
    if lease.closed is not None:
        paid = lease.closed.seconds
    running = lease.status in (LeaseStatus.ASSIGNED, LeaseStatus.ACTIVE)
    active = lease.status is LeaseStatus.ACTIVE
    return {
        "lease": "0x" + lease.lease.hex(),
        "name": lease_notes.name_of(order.spec) or None,
        "status": lease.word,
        "next": next_step(market, lease, now),
        "requester": lease.terms.requester,
        "provider": lease.provider,
        "operator": None if lease.accepted is None else lease.accepted.operator,
        "spec": "0x" + order.spec.hex(),
        "rate": None if lease.rate is None else str(lease.rate),
        "usd_per_hour": None if lease.rate is None else decimal(hour_of(lease.rate, unit)),
        "max_rate": str(order.max_rate),
        "max_usd_per_hour": decimal(hour_of(order.max_rate, unit)),
        "deposit": str(lease.state.deposited if running else order.deposit),
        "collateral": str(order.collateral),
        "term": order.term,
        "notice": order.notice,
        "opened_at": lease.terms.posted_at,
        "ready_until": lease.ready_until if lease.status is LeaseStatus.ASSIGNED else None,
        "ready_at": lease.state.since if active else None,
        "grace_until": lease.grace_until if active and lease.in_grace(now) else None,
        "confirmed": lease.state.confirmed if active else None,
        "ends_at": None if found is None else found.ends_at,
        "suspended_at": lease.marks.suspended_at or None,
        "leaves_at": lease.marks.leaves_at or None,
        "accused_at": lease.marks.accused_at or None,
        "seconds": paid,
        "rent": None if paid is None or lease.rate is None else str(paid * lease.rate),
        "ending": None if lease.ending is None else lease.ending.name.lower(),
        "refund": _refund(lease),
    }


def _refund(lease: Lease) -> str | None:
    ended = lease.closed or lease.cancelled
    return None if ended is None else str(ended.refund)
