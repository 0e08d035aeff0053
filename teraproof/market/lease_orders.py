# SPDX-License-Identifier: Apache-2.0
"""How a lease comes to the chain: an auction, or a provider's quote; and what is added later.

Rates are payment token units a second. What is shown before anything is signed is the deposit, and
no more than the deposit can ever be charged: rent and fee come out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from teraproof.amounts import show_rate, show_seconds, show_time, show_tpf
from teraproof.contracts.leases import Opened
from teraproof.errors import CommandError, WrongInput
from teraproof.market import lease_notes, lease_stores, leases, orders
from teraproof.market.funds import Funds, Payment, pay_in
from teraproof.market.lease_notes import Note
from teraproof.market.lease_prices import show_amount, show_hour
from teraproof.market.leases import Lease, contract, short, unit_of
from teraproof.market.market import Market, fresh_nonce
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_match import LeaseRequest
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus
from teraproof.protocol.lease_wire import SignedLeaseQuote
from teraproof.protocol.messages import LeaseQuote
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.types import Receipt

_WORD_BITS = 96
_INSTEAD = {
    LeaseStatus.OPEN: "; to take it back: lease cancel",
    LeaseStatus.ASSIGNED: "; if it is not ready in time: lease expire",
    LeaseStatus.ACTIVE: "; to end it: lease close",
}


@dataclass(frozen=True)
class Origin:
    """Where an order comes from, for the notes of this machine."""

    file: str = ""
    akt_usd: str = ""
    watched: str = ""
    """The lease whose work it goes on with; hex digits."""
    access: str = ""
    """The file that opens the store of its checkpoints."""


@dataclass(frozen=True)
class Placed:
    """A lease that is on the chain now, and the note of it."""

    lease: Lease
    note: Note
    found: bool = False
    """Whether an earlier command had sent it."""


def order_of(
    request: LeaseRequest, *, start_rate: int, auction: int, paid_for: int | None = None
) -> LeaseOrder:
    """The order of an auction. `paid_for`: the seconds that the deposit pays for at the highest
    rate; None: the whole term.
    """
    seconds = request.term if paid_for is None else paid_for
    return LeaseOrder(
        spec=request.spec.digest(),
        start_rate=start_rate,
        max_rate=request.max_rate,
        deposit=request.max_rate * seconds,
        collateral=request.collateral,
        ready_within=request.ready_within,
        term=request.term,
        notice=max(request.notice, request.spec.notice_seconds),
        auction=auction,
        min_stake=request.min_stake,
        min_score=request.min_score,
        allow_root=allow_list.root(request.allow),
        nonce=fresh_nonce(),
    )


def check_order(market: Market, order: LeaseOrder) -> None:
    """CommandError for what the contract would refuse anyway, before any money moves."""
    chain = contract(market)
    unit, grace = unit_of(market), chain.challenge_window("latest")
    longest = market.staking.max_lock("latest") - chain.lock_margin("latest")
    longest -= order.ready_within
    if not order.ready_within:
        raise WrongInput("give the provider some time to be ready")
    if order.term > longest:
        raise WrongInput(
            f"a term of {show_seconds(order.term)} is not possible here; the longest is "
            f"{show_seconds(max(0, longest))}"
        )
    if order.term <= grace:
        raise WrongInput(
            f"a term of {show_seconds(order.term)} is not possible here; give more than the "
            f"{show_seconds(grace)} in which a lease can be rejected"
        )
    if order.notice > order.term:
        raise WrongInput("the notice is longer than the term; lower it, or give a longer term")
    orders.check_auction(chain, order.auction)
    least = order.max_rate * (grace + 1)
    if order.deposit < least:
        raise WrongInput(
            f"a deposit of {show_amount(order.deposit, unit)} is too low; at this price the least "
            f"is {show_amount(least, unit)}"
        )
    if order.deposit > order.max_rate * order.term or order.deposit >> _WORD_BITS:
        raise WrongInput("the deposit is more than the whole term costs; lower it")
    if order.min_score and chain.jobs("latest") == ZERO_ADDRESS:
        raise WrongInput("nobody proves throughput in this market; leave --min-score out")
    orders.check_open(market, chain, "leases")


# ---------------------------------------------------------------------- found again


def find_again(market: Market, ui: Ui, requester: str, spec: bytes) -> Placed | None:
    """A lease of this specification that a command before had ordered, and did not bring to its
    end. Notes of what never came to the chain are dropped.

    CommandError while a transaction of the account still waits: it may be that order.
    """
    where = leases.notes_of(market, requester)
    for note in lease_notes.unsettled(where, spec):
        lease = leases.ordered(market, requester, int(note.nonce))
        if lease is None:
            _check_nothing_waits(market, requester)
            lease_notes.drop(note)
            continue
        note = _noted(note, lease)
        if lease.closed is not None or lease.cancelled is not None:
            lease_notes.settle(note)
            continue
        ui.note(f"lease {short(lease.lease)} was ordered by an earlier command; going on with it")
        return Placed(lease, note, found=True)
    return None


def _check_nothing_waits(market: Market, account: str) -> None:
    pool = market.chain.pool
    if pool.nonce(account, "pending") > pool.nonce(account, "latest"):
        raise CommandError(
            f"a transaction of {account} is not mined yet, and it may be an order of this file; "
            "run the same command again when it is",
            Code.COMMAND_RUNNING,
        )


def _noted(note: Note, lease: Lease) -> Note:
    if note.lease != lease.lease.hex():
        note = replace(note, lease=lease.lease.hex())
        lease_notes.write(note)
    return note


# ---------------------------------------------------------------------- placing


def open_lease(
    market: Market,
    sender: Sender,
    ui: Ui,
    request: LeaseRequest,
    order: LeaseOrder,
    origin: Origin,
    funds: Funds = Funds.AUTO,
) -> Placed:
    """Open an auction: the deposit goes into escrow, the rate offered rises from the start."""
    check_order(market, order)
    show_order(market, ui, f"Open a lease from {sender.address}", request, order)
    return _place(
        market,
        sender,
        ui,
        Payment("open the lease", "in escrow", order.deposit),
        funds,
        lambda credit: contract(market).open(order, credit),
        request,
        order,
        origin,
    )


def hire(
    market: Market,
    sender: Sender,
    ui: Ui,
    request: LeaseRequest,
    signed: SignedLeaseQuote,
    origin: Origin,
    funds: Funds = Funds.AUTO,
    paid_for: int | None = None,
    *,
    agreed: Funds | None = None,
) -> Placed:
    """Take a provider's quote: the lease is open and assigned in one transaction. `agreed` is what
    pays for it where the tenant has agreed to its terms already.
    """
    quote = signed.quote
    owner = check_quote(market, quote, request)
    order = quote.order(quote.rate * (quote.term if paid_for is None else paid_for))
    check_order(market, order)
    if agreed is None:
        title = f"Hire {owner} for {sender.address}"
        show_order(market, ui, title, request, order, expires=quote.expires)
    for service, image in signed.images.items():
        ui.note(f"{service} runs {image}")
    return _place(
        market,
        sender,
        ui,
        Payment("hire", "in escrow", order.deposit),
        funds,
        lambda credit: contract(market).hire(quote, signed.signature, order.deposit, credit),
        request,
        order,
        origin,
        owner,
        agreed,
    )


def check_quote(market: Market, quote: LeaseQuote, request: LeaseRequest) -> str:
    """The provider (its owner) that a quote binds. CommandError when the quote cannot be used, or
    costs more than the request pays.
    """
    owner = orders.check_quote(market, contract(market), quote)
    if request.allow and owner not in request.allow:
        raise CommandError(
            f"the quote is of {owner}, who was not asked; nothing was sent", Code.QUOTE_INVALID
        )
    if quote.rate > request.max_rate:
        unit = unit_of(market)
        raise CommandError(
            f"the provider asks {show_hour(quote.rate, unit)}, and the file pays "
            f"{show_hour(request.max_rate, unit)} at most; nothing was sent",
            Code.PRICE_TOO_LOW,
            least=str(quote.rate),
        )
    return owner


def show_order(
    market: Market,
    ui: Ui,
    title: str,
    request: LeaseRequest,
    order: LeaseOrder,
    *,
    expires: int | None = None,
    is_quoted: bool = True,
) -> None:
    """Everything that a tenant agrees to, and the one total of it. Before a provider has quoted,
    the collateral is the least that its quote may put up.
    """
    unit, grace = unit_of(market), contract(market).challenge_window("latest")
    price = show_hour(order.max_rate, unit)
    if order.auction and order.start_rate < order.max_rate:
        rise = show_seconds(order.auction)
        price = f"{show_hour(order.start_rate, unit)}, rising to {price} within {rise}"
    paid = order.deposit // order.max_rate
    saved = request.spec.checkpoints
    rows = [
        ("lease", request.spec.name),
        ("specification", "0x" + order.spec.hex()),
        ("price", price),
        ("term", show_seconds(order.term)),
        ("time to be ready", show_seconds(order.ready_within)),
        ("notice of the provider", show_seconds(order.notice) if order.notice else "none"),
        ("collateral", f"{'' if is_quoted else 'at least '}{show_tpf(order.collateral)}"),
        *([("stake needed", show_tpf(order.min_stake))] if order.min_stake else []),
        *([("proven throughput", show_rate(order.min_score))] if order.min_score else []),
        *([("for", "the providers named")] if request.allow else []),
        *([("good until", show_time(expires, market.now()))] if expires is not None else []),
        *([("checkpoints", lease_stores.show(saved))] if saved is not None else []),
        ("deposit pays for", show_seconds(paid)),
        ("total, everything included", show_amount(order.deposit, unit)),
    ]
    ui.table(title, ("what", "value"), rows)
    ui.note(
        "only seconds in which the provider is alive are paid, from `ready` on; the rest of the "
        f"deposit comes back. Within {show_seconds(grace)} after `ready` it can be rejected for "
        "nothing"
    )


def _place(
    market: Market,
    sender: Sender,
    ui: Ui,
    payment: Payment,
    funds: Funds,
    call: Callable[[bool | None], bytes],
    request: LeaseRequest,
    order: LeaseOrder,
    origin: Origin,
    provider: str = "",
    agreed: Funds | None = None,
) -> Placed:
    note = Note(
        chain=leases.notes_of(market, sender.address),
        spec=order.spec.hex(),
        nonce=str(order.nonce),
        file=origin.file,
        akt_usd=origin.akt_usd,
        provider=provider,
        max_rate=str(request.max_rate),
        watched=origin.watched,
        access=origin.access,
    )
    lease_notes.keep_spec(request.spec)
    lease_notes.write(note)  # before anything is sent
    try:
        receipts = pay_in(market, sender, ui, payment, funds, call, contract(market), agreed=agreed)
    except CommandError as error:
        if error.code in (Code.DECLINED, Code.CONTRACT_REFUSED, Code.GAS_MISSING):
            lease_notes.drop(note)
        raise
    event = orders.placed_in(contract(market), Opened, receipts, payment.label, "lease")
    ui.step(f"lease 0x{event.lease.hex()}")
    lease = leases.current(market, event)
    return Placed(lease, _noted(note, lease))


# ---------------------------------------------------------------------- later


def top_up(
    market: Market,
    sender: Sender,
    ui: Ui,
    lease: Lease,
    *,
    seconds: int | None = None,
    amount: int | None = None,
    funds: Funds = Funds.AUTO,
) -> Receipt:
    """Add to the deposit of a lease that runs: `amount` payment token units, or what `seconds` more
    cost; with neither, the rest of the term. Its end stays where it is.
    """
    found = leases.account_of(market, lease)
    if found is None or lease.rate is None:
        raise CommandError(
            f"lease {short(lease.lease)} is {lease.word}; only an active one can be topped up",
            Code.CONTRACT_REFUSED,
        )
    unit, now = unit_of(market), market.now()
    room = lease.rate * lease.terms.order.term - lease.state.deposited
    if room <= 0:
        raise CommandError(
            f"the deposit of {short(lease.lease)} pays for its whole term already",
            Code.CONTRACT_REFUSED,
        )
    if amount is None:
        amount = room if seconds is None else lease.rate * seconds
    if not 0 < amount <= room:
        raise WrongInput(
            f"{show_amount(amount, unit)} is not possible; the rest of the term costs "
            f"{show_amount(room, unit)}"
        )
    after = (lease.state.deposited + amount) // lease.rate
    ui.table(
        f"Top up lease {short(lease.lease)}",
        ("what", "value"),
        [
            ("price", show_hour(lease.rate, unit)),
            ("added", show_amount(amount, unit)),
            ("deposit then", show_amount(lease.state.deposited + amount, unit)),
            ("pays for", f"{show_seconds(after)}, of which {show_seconds(found.seconds)} are due"),
            ("ends all the same", show_time(found.ends_at, now)),
        ],
    )
    return pay_in(
        market,
        sender,
        ui,
        Payment("top up", f"into the deposit of {short(lease.lease)}", amount),
        funds,
        lambda credit: contract(market).top_up(lease.terms, amount, credit),
        contract(market),
    )[-1]


def expect(lease: Lease, status: LeaseStatus, done: str) -> None:
    """CommandError unless the lease is where something can be done with it."""
    if lease.status is not status:
        instead = _INSTEAD.get(lease.status, "")
        raise CommandError(
            f"lease {short(lease.lease)} is {lease.word}; only one that is "
            f"{status.name.lower()} can be {done}{instead}",
            Code.CONTRACT_REFUSED,
        )
