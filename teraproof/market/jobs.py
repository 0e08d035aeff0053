# SPDX-License-Identifier: Apache-2.0
"""What a tenant does on chain. Prices are payment token units, collateral is TPF wei.

Nothing about a job is kept on this machine: terms and records come back from the events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_seconds, show_time, show_tpf
from teraproof.contracts.base import Event, event_of
from teraproof.contracts.jobs import (
    Accepted,
    Attested,
    Cancelled,
    Disputed,
    Expired,
    Posted,
    Refunded,
    Refused,
    Settled,
)
from teraproof.deals import JOB_EVENTS, JobEvent, origin_of, record_of
from teraproof.errors import CommandError, WrongInput
from teraproof.market import notebook, orders
from teraproof.market.conditions import conditions, judged, protection
from teraproof.market.funds import Funds, Payment, pay_in
from teraproof.market.jury import Jury, require_jury
from teraproof.market.market import Market
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.names import job_digits
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Quote
from teraproof.protocol.outcome import DELIVERED, by_status, of_result
from teraproof.protocol.terms import Judged, Order, Record, Status, Terms, status_of
from teraproof.rpc.types import Receipt

_LATER = tuple(kind for kind in JOB_EVENTS if kind is not Posted)
_ID_BATCH = 200  # job ids in one topic filter


@dataclass(frozen=True)
class Placed:
    """A job that is on the chain now."""

    job: bytes
    terms: Terms
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True)
class Job:
    """A job as the chain has it: its terms, where it stands, and what happened."""

    job: bytes
    terms: Terms
    status: Status
    posted: Posted
    accepted: Accepted | None = None
    attested: Attested | None = None
    settled: Settled | None = None
    expired: Expired | None = None
    refused: Refused | None = None
    cancelled: Cancelled | None = None
    disputed: Disputed | None = None
    refunded: Refunded | None = None

    @property
    def provider(self) -> str | None:
        """Who took it."""
        return None if self.accepted is None else self.accepted.provider

    @property
    def assigned_at(self) -> int | None:
        """Unix seconds; known for certain once the job is attested."""
        return None if self.attested is None else self.attested.assigned_at

    @property
    def outcome(self) -> str | None:
        """How it ended, for people; None while it goes on. The chain alone tells it."""
        ended = by_status(self.status)
        if ended is not None:
            return ended.value
        if self.attested is None:
            return None
        return str(of_result(self.attested.result, origin_of(self.attested)) or DELIVERED)

    def record(self) -> Record:
        """What the state word of the attested job is the digest of. CommandError before that."""
        if self.attested is None:
            raise CommandError(
                f"job {short(self.job)} is {self.status.name.lower()}: no result yet",
                Code.NOT_READY,
            )
        return record_of(self.terms, self.attested)


def short(job: bytes) -> str:
    """A job id for people; enough to name it again."""
    return "0x" + job.hex()[:16]


# ---------------------------------------------------------------------- placing


def check_order(market: Market, order: Order, provider: str | None = None) -> Jury | None:
    """What the contract would refuse anyway, told before any money moves. The jury of a judged
    order; None for another. `provider` is who takes it, if that is known: its own seats do not
    count.
    """
    jobs = market.jobs
    longest = market.staking.max_lock("latest")
    longest -= jobs.challenge_window("latest") + jobs.lock_margin("latest")
    if order.capability is not None and market.court is not None:
        longest -= market.court.longest(order.duration, "latest")
    if order.max_price == 0:
        raise WrongInput("the price is zero; offer something")
    if not 0 < order.duration <= longest:
        raise WrongInput(
            f"a duration of {show_seconds(order.duration)} is not possible here; "
            f"the longest is {show_seconds(max(longest, 0))}"
        )
    orders.check_auction(jobs, order.auction)
    orders.check_open(market, jobs, "orders")
    return require_jury(market, order, provider)


def post(market: Market, sender: Sender, ui: Ui, order: Order, funds: Funds = Funds.AUTO) -> Placed:
    """Open a job: the highest price goes into escrow, the price offered rises from the start."""
    jury = check_order(market, order)
    rows = [
        ("specification", "0x" + order.spec.hex()),
        ("price", _price_range(market, order)),
        ("time to deliver", show_seconds(order.duration)),
        *conditions(order),
        *_jury_rows(market, order, jury),
    ]
    ui.table(f"Post a job from {sender.address}", ("what", "value"), rows)
    ui.note(protection(order))
    _warn(ui, jury)
    return _place(
        market,
        sender,
        ui,
        "post",
        order.max_price,
        funds,
        lambda credit: market.jobs.post(order, credit),
    )


def hire(
    market: Market,
    sender: Sender,
    ui: Ui,
    quote: Quote,
    signature: bytes,
    funds: Funds = Funds.AUTO,
    *,
    agreed: Funds | None = None,
) -> Placed:
    """Accept a provider's quote: the job is open and assigned in one transaction. `agreed` is what
    pays for it where the tenant has agreed to its terms already.
    """
    owner = orders.check_quote(market, market.jobs, quote)
    jury = check_order(market, quote.order(), owner)
    ui.table(
        f"Hire {owner} for {sender.address}",
        ("what", "value"),
        [
            ("specification", "0x" + quote.spec.hex()),
            ("price", market.show_price(quote.price)),
            ("time to deliver", show_seconds(quote.duration)),
            ("collateral", show_tpf(quote.collateral)),
            ("operator", quote.operator),
            ("good until", show_time(quote.expires, market.now())),
            ("judged", judged(quote.order())),
            *_jury_rows(market, quote.order(), jury),
        ],
    )
    ui.note(protection(quote.order(), hired=True))
    _warn(ui, jury)
    return _place(
        market,
        sender,
        ui,
        "hire",
        quote.price,
        funds,
        lambda credit: market.jobs.hire(quote, signature, credit),
        agreed,
    )


def _warn(ui: Ui, jury: Jury | None) -> None:
    """What a tenant should know of the jurors."""
    warning = None if jury is None else jury.warning()
    if warning is not None:
        ui.note(warning)


def _jury_rows(market: Market, order: Order, jury: Jury | None) -> list[tuple[str, str]]:
    """Who would judge an order, and what it takes to ask them."""
    if jury is None or market.court is None:
        return []
    costs = market.court.costs_of(order.max_price, order.duration, "latest")
    bond, fee = market.show_price(costs.dispute_bond), market.show_price(costs.fee)
    return [
        ("jurors", jury.described()),
        ("a dispute takes", f"a bond of {bond}; {fee} for each vote"),
    ]


def _place(
    market: Market,
    sender: Sender,
    ui: Ui,
    label: str,
    price: int,
    funds: Funds,
    call: Callable[[bool | None], bytes],
    agreed: Funds | None = None,
) -> Placed:
    payment = Payment(label, "in escrow", price)
    receipts = pay_in(market, sender, ui, payment, funds, call, agreed=agreed)
    event = orders.placed_in(market.jobs, Posted, receipts, label, "job")
    ui.step(f"job 0x{event.job.hex()}")
    return Placed(event.job, event.terms, receipts)


# ---------------------------------------------------------------------- reading


def find_all(market: Market, requester: str | None = None) -> list[Job]:
    """The jobs of a requester, or all, the oldest first."""
    return _histories(market, _posted(market, requester=requester))


def find(market: Market, name: str) -> Job:
    """The job whose id begins with the hex digits `name`. CommandError unless it is one job."""
    digits = job_digits(name)
    if len(digits) == 64:
        known = _posted(market, job=bytes.fromhex(digits))
    else:
        known = [job for job in _posted(market) if job.job.hex().startswith(digits)]
        if len(known) > 1:
            raise WrongInput(f"{len(known)} jobs begin with 0x{digits}; give more digits")
    if not known:
        raise WrongInput(f"no job 0x{digits} on chain {market.chain.chain_id}; see job list")
    (found,) = _histories(market, known[:1])
    return found


def _posted(
    market: Market, *, requester: str | None = None, job: bytes | None = None
) -> list[Posted]:
    start = market.registry.start_block
    return market.jobs.find(Posted, start, requester=requester, job=job)


def _histories(market: Market, posted: Sequence[Posted]) -> list[Job]:
    if not posted:
        return []
    happened: dict[bytes, dict[type[Event], Event]] = {}
    # One block for all that is read: or a job had a provider by its state and none by its events.
    first, last = posted[0].at.block_number, market.chain.pool.head().number
    ids = [event.job for event in posted]
    for start in range(0, len(ids), _ID_BATCH):
        batch = ids[start : start + _ID_BATCH]
        for told in market.jobs.find_any(_LATER, first, last, job=batch):
            if isinstance(told, JobEvent):
                happened.setdefault(told.job, {})[type(told)] = told
    found = []
    for event in posted:
        later = happened.get(event.job, {})
        found.append(
            Job(
                job=event.job,
                terms=event.terms,
                status=status_of(market.jobs.state(event.job, last)),
                posted=event,
                accepted=event_of(later, Accepted),
                attested=event_of(later, Attested),
                settled=event_of(later, Settled),
                expired=event_of(later, Expired),
                refused=event_of(later, Refused),
                cancelled=event_of(later, Cancelled),
                disputed=event_of(later, Disputed),
                refunded=event_of(later, Refunded),
            )
        )
    return found


def deadline(market: Market, job: Job) -> int | None:
    """The last second in which the job can be attested, once somebody has taken it."""
    if job.accepted is None:
        return None
    assigned_at = job.assigned_at
    if assigned_at is None:
        assigned_at = market.chain.pool.block(job.accepted.at.block_number).timestamp
    return job.terms.deadline(assigned_at)


def open_until(market: Market, job: Job) -> int:
    """The last second in which somebody can take an open job."""
    paused = job.terms.paused_since(market.jobs.paused_seconds("latest"))
    return job.terms.open_until(market.jobs.open_margin("latest"), paused)


def next_step(market: Market, job: Job, now: int) -> str:
    """What the job waits for, and until when."""
    if job.status is Status.OPEN:
        paused = job.terms.paused_since(market.jobs.paused_seconds("latest"))
        until = open_until(market, job)
        at = max(now, job.terms.posted_at + paused)
        price = market.show_price(job.terms.price_at(at, paused))
        if now > until:
            return "nobody took it: anyone may cancel"
        return f"offers {price}, open until {show_time(until, now)}"
    if job.status is Status.ASSIGNED:
        ends = deadline(market, job) or 0
        if now > ends:
            return f"deadline missed at {show_time(ends, now)}: anyone may expire"
        return f"result due {show_time(ends, now)}"
    if job.status is Status.ATTESTED and job.attested is not None:
        ends = job.terms.finalizable_after(job.attested.attested_at)
        if now > ends:
            return "window over: anyone may finalize"
        return f"{_ways(job.terms.order)}, or the window ends {show_time(ends, now)}"
    if job.status is Status.DISPUTED:
        return f"disputed: dispute status {short(job.job)}"
    if job.settled is not None:
        return f"paid {market.show_price(job.settled.paid)}"
    if job.expired is not None:
        refund = market.show_price(job.expired.refund)
        return f"refunded {refund}, seized {show_tpf(job.expired.seized)}"
    if job.refused is not None:
        burned = market.show_price(job.refused.burned)
        return f"burned {burned} and {show_tpf(job.refused.seized)} of the provider's collateral"
    if job.refunded is not None:
        refund = market.show_price(job.refunded.refund)
        return f"refunded {refund}, seized {show_tpf(job.refunded.seized)}"
    if job.cancelled is not None:
        return f"refunded {market.show_price(job.cancelled.refund)}"
    return ""


def _ways(order: Order) -> str:
    if order.capability is not None:
        return "approve or dispute"
    return "approve or refuse" if order.judged == Judged.REFUSABLE else "approve"


def show_list(market: Market, listed: Sequence[Job], ui: Ui) -> None:
    """Jobs as a table."""
    now = market.now()
    rows = [
        (
            short(job.job),
            notebook.name_of(job.terms.order.spec),
            job.status.name.lower(),
            job.outcome or "",
            show_price(market, job),
            job.provider or "",
            next_step(market, job, now),
        )
        for job in listed
    ]
    ui.table("Jobs", ("job", "name", "status", "outcome", "price", "provider", "next"), rows)


def show(market: Market, job: Job, ui: Ui) -> None:
    """One job in full."""
    now = market.now()
    order = job.terms.order
    name = notebook.name_of(order.spec)
    rows = [
        *([("name", name)] if name else []),
        ("status", job.status.name.lower()),
        ("outcome", job.outcome or "none yet"),
        ("next", next_step(market, job, now)),
        ("requester", job.terms.requester),
        ("specification", "0x" + order.spec.hex()),
        ("price", show_price(market, job)),
        *conditions(order),
        ("posted", show_time(job.terms.posted_at, now)),
        ("time to deliver", show_seconds(order.duration)),
    ]
    ends = deadline(market, job)
    if job.accepted is not None and ends is not None:
        rows.append(("provider", job.accepted.provider))
        rows.append(("operator", job.accepted.operator))
        if job.status in (Status.ASSIGNED, Status.EXPIRED):
            rows.append(("deadline", show_time(ends, now)))
    if job.attested is not None:
        run = show_seconds(job.attested.finished - job.attested.started)
        rows.append(("attested", f"{show_time(job.attested.attested_at, now)}, ran {run}"))
        rows.append(("result", "0x" + job.attested.result.hex()))
        rows.append(("receipt", "0x" + job.attested.receipt.hex()))
    if job.settled is not None:
        fee = market.show_price(job.settled.fee)
        rows.append(("paid", f"{market.show_price(job.settled.paid)}, fee {fee}"))
    ui.table(f"Job 0x{job.job.hex()}", ("what", "value"), rows)


def show_price(market: Market, job: Job) -> str:
    """The price of a job for people: agreed, or still offered."""
    if job.accepted is not None:
        return market.show_price(job.accepted.price)
    return _price_range(market, job.terms.order)


def _price_range(market: Market, order: Order) -> str:
    if order.auction == 0 or order.start_price == order.max_price:
        return market.show_price(order.max_price)
    return (
        f"{market.show_price(order.start_price)}, rising to "
        f"{market.show_price(order.max_price)} within {show_seconds(order.auction)}"
    )


def to_json(market: Market, job: Job, now: int) -> dict[str, Any]:
    """A job for documents: prices in payment token units and collateral in TPF wei, as text; times
    unix seconds, None where there is none.
    """
    order = job.terms.order
    return {
        "job": "0x" + job.job.hex(),
        "name": notebook.name_of(order.spec) or None,
        "status": job.status.name.lower(),
        "outcome": job.outcome,
        "next": next_step(market, job, now),
        "requester": job.terms.requester,
        "provider": job.provider,
        "spec": "0x" + order.spec.hex(),
        "price": None if job.accepted is None else str(job.accepted.price),
        "start_price": str(order.start_price),
        "max_price": str(order.max_price),
        "collateral": str(order.collateral),
        "judged": judged(order),
        "capability": None if order.capability is None else f"0x{order.capability:064x}",
        "posted_at": job.terms.posted_at,
        "deadline": deadline(market, job),
        "result": None if job.attested is None else "0x" + job.attested.result.hex(),
        "receipt": None if job.attested is None else "0x" + job.attested.receipt.hex(),
        "paid": None if job.settled is None else str(job.settled.paid),
        "refunded": None if job.refunded is None else str(job.refunded.refund),
    }
