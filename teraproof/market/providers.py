# SPDX-License-Identifier: Apache-2.0
"""What a provider's owner and its delegators do. Amounts are TPF wei unless they say otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from eth_utils.crypto import keccak

from teraproof import deals
from teraproof.amounts import TPF_DECIMALS, show_rate, show_seconds, show_time, show_tpf
from teraproof.contracts.staking import EndpointChanged, Registered
from teraproof.errors import CommandError, WrongInput
from teraproof.market import credits, entries, locks
from teraproof.market.consents import Consent
from teraproof.market.market import Market, check_tokens, sign_permit, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.names import http_url
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.types import Receipt

_ENDPOINT_BYTES = 128
_ALL = 2**256 - 1  # shares, as Staking takes it
_VIRTUAL_SHARES = 1_000  # Staking's


@dataclass(frozen=True)
class Ticket:
    """Stake on its way out."""

    number: int
    assets: int
    ready_at: int


@dataclass(frozen=True)
class Provider:
    """A provider as the chain has it. `own` is the owner's part of `active`."""

    owner: str
    operator: str
    payout: str
    endpoint: str | None
    commission_bps: int
    active: int
    own: int
    locked: int
    unbonding: int
    max_lock_per_order: int
    max_locked: int
    score: int
    """Proven throughput that stake backs, integer operations per second; 0: no valid score."""
    reserved_score: int
    """What its running jobs and leases ask for together."""

    @property
    def free_score(self) -> int:
        """The most throughput that one more job may ask for."""
        return deals.left_of(self.score, self.reserved_score)

    @property
    def lockable(self) -> int:
        """The most collateral that one more order could lock."""
        free = deals.lockable(self.own, self.max_locked, self.locked)
        return min(free, self.max_lock_per_order)


def check_endpoint(url: str) -> str:
    """An endpoint that fits the registry. CommandError otherwise."""
    http_url(url, "--endpoint")
    if len(url) > _ENDPOINT_BYTES:
        raise WrongInput(f"--endpoint: give a URL of at most {_ENDPOINT_BYTES} characters")
    return url.rstrip("/")


def register(
    market: Market,
    sender: Sender,
    ui: Ui,
    consent: Consent,
    *,
    endpoint: str | None = None,
    payout: str | None = None,
    commission_bps: int = 0,
    max_lock_per_order: int,
    max_locked: int,
) -> Receipt:
    """Make the account a provider. `endpoint` defaults to the consent's, `payout` to the owner."""
    chosen = check_endpoint(endpoint or consent.endpoint or "")
    payout = payout or sender.address
    if is_registered(market, sender.address):
        raise CommandError(f"{sender.address} is registered already; see provider status")
    if max_locked < max_lock_per_order:
        raise WrongInput("--max-locked must be at least --max-lock-per-order")
    ui.table(
        f"Register {sender.address} on chain {market.chain.chain_id}",
        ("what", "value"),
        [
            ("operator", consent.message.operator),
            ("payout", payout),
            ("endpoint", chosen),
            ("commission", f"{commission_bps / 100:g} %"),
            ("collateral per order", f"at most {show_tpf(max_lock_per_order)}"),
            ("collateral in total", f"at most {show_tpf(max_locked)}"),
        ],
    )
    _tell_bond(market, ui, max_lock_per_order)
    ui.ask("Register?")
    data = market.staking.register(
        consent.message.operator,
        payout,
        commission_bps,
        max_lock_per_order,
        max_locked,
        chosen,
        consent.message.nonce,
        consent.message.expires,
        consent.signature,
    )
    return transact(sender, ui, "register", market.staking, data)


def _tell_bond(market: Market, ui: Ui, max_lock_per_order: int) -> None:
    bond = market.benchmark.bond("latest")
    if max_lock_per_order < bond:
        ui.note(
            f"the limit per order is below the bond of {show_tpf(bond)}: "
            "no throughput can be proven"
        )


def set_limits(
    market: Market, sender: Sender, ui: Ui, max_lock_per_order: int, max_locked: int
) -> Receipt:
    """Change what the operator may put at risk."""
    require_registered(market, sender.address)
    if max_locked < max_lock_per_order:
        raise WrongInput("--max-locked must be at least --max-lock-per-order")
    shown = f"{show_tpf(max_lock_per_order)} per order, {show_tpf(max_locked)} in total"
    _tell_bond(market, ui, max_lock_per_order)
    ui.ask(f"Let the operator lock at most {shown}?")
    data = market.staking.set_lock_limits(max_lock_per_order, max_locked)
    return transact(sender, ui, "set limits", market.staking, data)


def set_endpoint(market: Market, sender: Sender, ui: Ui, endpoint: str) -> Receipt:
    """Announce where the agent is reached."""
    require_registered(market, sender.address)
    chosen = check_endpoint(endpoint)
    return transact(sender, ui, "set endpoint", market.staking, market.staking.set_endpoint(chosen))


def set_operator(market: Market, sender: Sender, ui: Ui, consent: Consent) -> Receipt:
    """Replace the operator key."""
    require_registered(market, sender.address)
    ui.ask(f"Let {consent.message.operator} work for {sender.address}, and nobody else?")
    data = market.staking.set_operator(
        consent.message.operator,
        consent.message.nonce,
        consent.message.expires,
        consent.signature,
    )
    return transact(sender, ui, "set operator", market.staking, data)


def delegate(market: Market, sender: Sender, ui: Ui, provider: str, amount: int) -> Receipt:
    """Stake behind a provider; an owner names itself. One transaction, by permit."""
    require_registered(market, provider)
    if amount == 0:
        raise WrongInput(f"AMOUNT: 0 TPF stake nothing; {_least(market, provider)} are the least")
    shown = show_tpf(amount)
    check_tokens(market, market.token, sender.address, amount, shown)
    whose = "its own pool" if provider == sender.address else f"the pool of {provider}"
    unbonding = show_seconds(market.staking.unbonding("latest"))
    ui.note(f"stake can be lost when the provider fails, and leaves {unbonding} after unstake")
    ui.ask(f"Stake {shown} of {sender.address} in {whose}?")
    permit = sign_permit(market, market.token, sender, market.staking.address, amount)
    if permit is None:
        raise CommandError("the stake token does not take permits; is it the right deployment?")
    data = market.staking.delegate_with_permit(provider, *permit.arguments())
    receipt = transact(sender, ui, f"stake {shown}", market.staking, data)
    entries.tell(market, ui, provider, sender.address)
    return receipt


def _least(market: Market, provider: str) -> str:
    """The least stake that a pool gives a share for, in TPF with all its digits."""
    pool = market.staking.pool(provider, "latest")
    wei = -(-(pool.active + 1) // (pool.active_shares + _VIRTUAL_SHARES))
    return f"{Decimal(wei).scaleb(-TPF_DECIMALS):f} TPF"


@dataclass(frozen=True)
class Unstaked:
    """Stake that has begun to leave."""

    ticket: Ticket
    receipt: Receipt


def unstake(
    market: Market, sender: Sender, ui: Ui, provider: str, amount: int | None = None
) -> Unstaked:
    """Begin to take out stake, all of it by default; it can be withdrawn after UNBONDING."""
    require_registered(market, provider)
    shares = market.staking.shares_of(provider, sender.address, "latest")
    assets = market.staking.assets_of(provider, sender.address, "latest")
    if shares == 0:
        raise CommandError(f"{sender.address} has no stake with {provider}")
    if amount == 0:
        raise WrongInput("AMOUNT: 0 TPF take nothing out; give more, or all")
    if amount is not None and show_tpf(amount) == show_tpf(assets):
        amount = None  # what people read has fewer digits than a share
    if amount is not None and amount > assets:
        raise WrongInput(f"{sender.address} has {show_tpf(assets)} with {provider}, not more")
    if provider == sender.address:
        _check_free(market, provider, assets if amount is None else amount)
    # The call pays a due reward first, which may change the number of shares: all is all.
    leaving = _ALL if amount is None or amount == assets else shares * amount // assets
    shown = show_tpf(assets if amount is None else amount)
    unbonding = market.staking.unbonding("latest")
    if market.staking.is_unsettled(provider, "latest"):
        ui.note(
            "an epoch of this provider is unsettled: "
            "stake that leaves before its end earns nothing of it"
        )
    ui.ask(f"Take {shown} out of the pool of {provider} (paid {show_seconds(unbonding)} later)?")
    data = market.staking.undelegate(provider, leaving)
    receipt = transact(sender, ui, f"unstake {shown}", market.staking, data)
    number = market.staking.ticket_count(provider, sender.address, "latest") - 1
    (ticket,) = [t for t in tickets(market, provider, sender.address) if t.number == number]
    ui.step(
        f"ticket {ticket.number}: {show_tpf(ticket.assets)}, ready at "
        f"{show_time(ticket.ready_at, market.now())}"
    )
    return Unstaked(ticket, receipt)


def _check_free(market: Market, provider: str, leaving: int) -> None:
    """CommandError when something locks a part of the own stake that is to leave."""
    own = market.staking.owner_assets(provider, "latest")
    locked = market.staking.pool(provider, "latest").locked
    free = max(0, own - locked)
    if leaving <= free or show_tpf(leaving) == show_tpf(free):
        return
    held = locks.of_provider(market, provider)
    raise CommandError(
        f"{show_tpf(free)} of {show_tpf(own)} can be unstaked now, {show_tpf(locked)} are locked"
        + "".join(f"; {line}" for line in locks.told(market, held)),
        Code.CONTRACT_REFUSED,
        free=str(free),
        locked=str(locked),
        locks=[lock.to_json() for lock in held],
        bond_until=market.benchmark.proof_of(provider, "latest").bond_until or None,
    )


@dataclass(frozen=True)
class Paid:
    """What `withdraw` paid out."""

    unbonded: int
    credits: credits.Credits
    receipts: tuple[Receipt, ...]


def withdraw(
    market: Market, sender: Sender, ui: Ui, provider: str, receiver: str | None = None
) -> Paid:
    """Pull everything that is ready: unbonded stake with `provider`, and all credits."""
    to = receiver or sender.address
    now = market.now()
    waiting = tickets(market, provider, sender.address)
    ready = [ticket for ticket in waiting if ticket.ready_at <= now]
    held = credits.credits_of(market, sender.address)
    if not ready and not held.money and not held.stake:
        later = min((ticket.ready_at for ticket in waiting), default=None)
        when = f"; a ticket is ready at {show_time(later, now)}" if later is not None else ""
        raise CommandError(f"{sender.address} has nothing to withdraw{when}")
    rows = [(f"ticket {t.number}", show_tpf(t.assets)) for t in ready]
    rows += [("payouts and refunds", market.show_price(held.money))] if held.money else []
    rows += [("TPF credit", show_tpf(held.stake))] if held.stake else []
    ui.table(f"Withdraw to {to}", ("what", "amount"), rows)
    ui.ask("Withdraw?")
    receipts = [
        transact(
            sender,
            ui,
            f"withdraw ticket {ticket.number}",
            market.staking,
            market.staking.withdraw_unbonded(provider, ticket.number, to),
        )
        for ticket in ready
    ]
    receipts += credits.pull(market, sender, ui, held, to)
    if held.stake:
        data = market.staking.withdraw(to)
        receipts.append(transact(sender, ui, "withdraw TPF", market.staking, data))
    return Paid(sum(ticket.assets for ticket in ready), held, tuple(receipts))


# ---------------------------------------------------------------------- reading


def is_registered(market: Market, owner: str) -> bool:
    """Whether an address is a provider."""
    return market.staking.operator_of(owner, "latest") != ZERO_ADDRESS


def require_registered(market: Market, owner: str) -> None:
    """CommandError when an address is not a provider."""
    if not is_registered(market, owner):
        raise WrongInput(
            f"{owner} is not a registered provider; pass the owner's address, or register it first"
        )


def tickets(market: Market, provider: str, account: str) -> list[Ticket]:
    """An account's tickets that were not withdrawn yet."""
    found = []
    for number in range(market.staking.ticket_count(provider, account, "latest")):
        ticket = market.staking.ticket(provider, account, number, "latest")
        if ticket.ready_at:
            found.append(Ticket(number, ticket.assets, ticket.ready_at))
    return found


def endpoint_of(market: Market, provider: str) -> str | None:
    """Where a provider's agent is reached, as it announced last, checked against its digest."""
    return endpoints(market, provider).get(provider)


def endpoints(market: Market, provider: str | None = None) -> dict[str, str]:
    """Owner -> endpoint of one provider or of all; providers without a checked one are left out."""
    events = market.staking.find_any(
        (Registered, EndpointChanged), market.registry.start_block, provider=provider
    )
    known: dict[str, str] = {}
    for event in events:
        if isinstance(event, Registered | EndpointChanged):
            known[event.provider] = event.endpoint
    return {
        owner: url
        for owner, url in known.items()
        if market.staking.endpoint_digest(owner, "latest") == keccak(text=url)
        and url.isascii()
        and url.isprintable()
    }


def read(market: Market, owner: str, endpoint: str | None = None) -> Provider:
    """A provider. CommandError when it is none."""
    require_registered(market, owner)
    reader = market.staking
    pool = reader.pool(owner, "latest")
    limits = reader.lock_limits(owner, "latest")
    return Provider(
        owner=owner,
        operator=reader.operator_of(owner, "latest"),
        payout=reader.payout_of(owner, "latest"),
        endpoint=endpoint or endpoint_of(market, owner),
        commission_bps=reader.commission_of(owner, "latest"),
        active=pool.active,
        own=reader.owner_assets(owner, "latest"),
        locked=pool.locked,
        unbonding=pool.unbonding,
        max_lock_per_order=limits.per_order,
        max_locked=limits.total,
        score=market.benchmark.score(owner, "latest"),
        reserved_score=market.jobs.reserved_score(owner, "latest")
        + (0 if market.leases is None else market.leases.reserved_score(owner, "latest")),
    )


def read_all(market: Market) -> list[Provider]:
    """All providers that can be reached, the largest own stake first."""
    found = [read(market, owner, url) for owner, url in endpoints(market).items()]
    return sorted(found, key=lambda provider: -provider.own)


def to_json(provider: Provider) -> dict[str, Any]:
    """A provider for documents: amounts in TPF wei and throughput in operations per second, as
    text.
    """
    return {
        "provider": provider.owner,
        "operator": provider.operator,
        "payout": provider.payout,
        "endpoint": provider.endpoint,
        "commission_bps": provider.commission_bps,
        "stake": str(provider.active),
        "own_stake": str(provider.own),
        "locked": str(provider.locked),
        "unbonding": str(provider.unbonding),
        "next_order": str(provider.lockable),
        "throughput": str(provider.score),
        "free_throughput": str(provider.free_score),
    }


def show(market: Market, provider: Provider, ui: Ui, account: str | None = None) -> None:
    """A provider as a table, with what `account` (by default the owner) has with it."""
    who = account or provider.owner
    now = market.now()
    held = credits.credits_of(market, who)
    payout = credits.credits_of(market, provider.payout)
    rows: list[Sequence[str]] = [
        ("operator", provider.operator),
        ("payout", provider.payout),
        ("endpoint", provider.endpoint or "not announced"),
        ("commission", f"{provider.commission_bps / 100:g} %"),
        ("active stake", f"{show_tpf(provider.active)}, of which own {show_tpf(provider.own)}"),
        (
            "locked by orders and bond",
            f"{show_tpf(provider.locked)} of at most {show_tpf(provider.max_locked)}",
        ),
        ("next order", f"can lock {show_tpf(provider.lockable)}"),
        ("unbonding", show_tpf(provider.unbonding)),
        (
            "proven throughput",
            f"{show_rate(provider.score)}, of which {show_rate(provider.free_score)} free for jobs"
            if provider.score
            else "none (no valid score)",
        ),
        ("payouts waiting", market.show_price(payout.money)),
    ]
    if who != provider.owner:
        assets = market.staking.assets_of(provider.owner, who, "latest")
        rows.append((f"stake of {who}", show_tpf(assets)))
    waiting = entries.of(market, provider.owner, who)
    if waiting:
        rows.append((f"entry of {who}", f"{show_tpf(waiting)}, not active yet"))
    rows += [
        (f"ticket {t.number}", f"{show_tpf(t.assets)}, ready at {show_time(t.ready_at, now)}")
        for t in tickets(market, provider.owner, who)
    ]
    if held.stake:
        rows.append((f"TPF credit of {who}", show_tpf(held.stake)))
    ui.table(f"Provider {provider.owner}", ("what", "value"), rows)
