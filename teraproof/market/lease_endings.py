# SPDX-License-Identifier: Apache-2.0
"""How a lease comes to its end, and what anyone may do on the way there.

Every state has an exit that does not depend on the others: `cancel` an open lease, `expire` one
that was not ready in time, `close` one that has ended or is used up, `accuse` a provider that is
silent. Refunds and rent become credit, which `withdraw` pulls.
"""

from __future__ import annotations

from collections.abc import Iterator

from teraproof.amounts import show_seconds, show_time, show_tpf
from teraproof.contracts.leases import Accused, Cancelled, Closed, Confirmed, Settled
from teraproof.contracts.staking import Seized
from teraproof.errors import CommandError
from teraproof.market import lease_notes, leases
from teraproof.market.credits import credits_of, show_credits
from teraproof.market.lease_orders import expect
from teraproof.market.lease_prices import show_amount, show_hour
from teraproof.market.leases import Lease, contract, short, unit_of
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.rpc.types import Receipt


def cancel(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """Take an open lease off the market (requester; anyone when its time is over)."""
    expect(lease, LeaseStatus.OPEN, "cancelled")
    chain, now = contract(market), market.now()
    until = leases.open_until(market, lease)
    if lease.terms.requester != sender.address and now <= until:
        raise _early(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}; others may cancel it "
            f"from {show_time(until, now)} on"
        )
    refund = show_amount(lease.terms.order.deposit, unit_of(market))
    ui.ask(f"Cancel {short(lease.lease)}, which gives {refund} back to {lease.terms.requester}?")
    return _send(market, sender, ui, lease, "cancel", chain.cancel(lease.terms))


def confirm(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """Take an active lease as it is (requester, within the grace): rent is due from `ready` on."""
    _check_grace(market, sender, lease, "confirmed")
    assert lease.rate is not None  # it is active
    price = show_hour(lease.rate, unit_of(market))
    ui.ask(f"Confirm {short(lease.lease)} at {price}? It can no longer be rejected then")
    return _send(market, sender, ui, lease, "confirm", contract(market).confirm(lease.terms))


def reject(market: Market, sender: Sender, ui: Ui, lease: Lease, why: str | None = None) -> Receipt:
    """Turn an active lease down (requester, within the grace): no rent, all of it comes back."""
    _check_grace(market, sender, lease, "rejected")
    if why:
        ui.note(f"why it is rejected: {why}")
    refund = show_amount(lease.state.deposited, unit_of(market))
    ui.ask(f"Reject {short(lease.lease)}, for no rent? All of {refund} comes back")
    return _send(market, sender, ui, lease, "reject", contract(market).reject(lease.terms))


def close(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """End an active lease: the requester at any time, anyone once it is over, dry or abandoned."""
    expect(lease, LeaseStatus.ACTIVE, "closed")
    found, now = leases.account_of(market, lease), market.now()
    assert found is not None and lease.rate is not None  # it is active
    unit = unit_of(market)
    if lease.terms.requester != sender.address:
        left_at = lease.marks.accused_at + contract(market).max_gap("latest")
        over = now > found.ends_at or found.seconds >= found.affordable
        if not over and not (lease.marks.accused_at and now > left_at):
            raise _early(
                f"lease {short(lease.lease)} is running, and belongs to {lease.terms.requester}; "
                f"others may close it when it is over ({show_time(found.ends_at, now)}), when its "
                "deposit is used up, or when its provider was accused and is not heard of"
            )
    elif lease.in_grace(now):
        ui.note(
            f"it can still be rejected, for nothing, until {show_time(lease.grace_until, now)}: "
            "lease reject"
        )
    rent = show_amount(found.seconds * lease.rate, unit)
    ui.ask(
        f"Close {short(lease.lease)}? Its rent is {rent} for {show_seconds(found.seconds)} until "
        "now, and the rest of the deposit comes back"
    )
    return _send(market, sender, ui, lease, "close", contract(market).close(lease.terms))


def expire(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """End a lease that was not ready in time (anyone): refund, and the collateral is seized."""
    expect(lease, LeaseStatus.ASSIGNED, "expired")
    now = market.now()
    if now <= lease.ready_until:
        raise _early(
            f"lease {short(lease.lease)} can still be ready until "
            f"{show_time(lease.ready_until, now)}; only after that can it be expired"
        )
    ui.ask(f"Expire {short(lease.lease)}: refund the tenant and seize the collateral?")
    return _send(market, sender, ui, lease, "expire", contract(market).expire(lease.terms))


def settle(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """Credit the provider with the rent up to now (anyone)."""
    expect(lease, LeaseStatus.ACTIVE, "settled")
    found = leases.account_of(market, lease)
    assert found is not None and lease.rate is not None  # it is active
    due = found.seconds - found.paid
    if due <= 0:
        raise _early(f"nothing is due for lease {short(lease.lease)} now")
    rent = show_amount(due * lease.rate, unit_of(market))
    ui.ask(f"Pay the rent of {short(lease.lease)} up to now: {rent} for {show_seconds(due)}?")
    return _send(market, sender, ui, lease, "settle", contract(market).settle(lease.terms))


def accuse(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """Accuse a provider that has been silent, or has suspended the lease, for too long (anyone)."""
    expect(lease, LeaseStatus.ACTIVE, "accused")
    assert lease.provider is not None  # it is active
    chain, now = contract(market), market.now()
    silent = chain.last_heartbeat(lease.provider, "latest") + chain.abandon("latest")
    idle = lease.marks.suspended_at and lease.marks.suspended_at + chain.max_suspension("latest")
    if now <= silent and not (idle and now > idle):
        when = min(silent, idle) if idle else silent
        raise _early(
            f"the provider of {short(lease.lease)} cannot be accused before "
            f"{show_time(when, now)}, and not at all if it is heard of until then"
        )
    gap = show_seconds(chain.max_gap("latest"))
    ui.note(f"if nothing is heard of it within {gap}, anyone may close the lease: lease close")
    ui.ask(f"Accuse {lease.provider} of having left {short(lease.lease)}?")
    return _send(market, sender, ui, lease, "accuse", chain.accuse(lease.terms))


def leave(market: Market, sender: Sender, ui: Ui, lease: Lease) -> Receipt:
    """The provider leaves at once (operator) and loses its collateral, unless it has ended."""
    expect(lease, LeaseStatus.ACTIVE, "left")
    assert lease.provider is not None  # it is active
    operator = market.staking.operator_of(lease.provider, "latest")
    if operator != sender.address:
        raise CommandError(
            f"only the operator {operator} of its provider can leave lease {short(lease.lease)}",
            Code.CONTRACT_REFUSED,
        )
    lost = show_tpf(lease.terms.order.collateral)
    ui.ask(f"Leave {short(lease.lease)} now, without the notice? That costs {lost}")
    return _send(market, sender, ui, lease, "leave", contract(market).leave(lease.terms))


# ---------------------------------------------------------------------- parts


def _send(market: Market, sender: Sender, ui: Ui, lease: Lease, label: str, data: bytes) -> Receipt:
    receipt = transact(sender, ui, label, contract(market), data)
    for line in lines(market, lease, receipt):
        ui.step(line)
    if label in ("cancel", "confirm", "reject", "close", "expire"):
        note = lease_notes.of_lease(leases.notes_of(market, lease.terms.requester), lease.lease)
        if note is not None:
            lease_notes.settle(note)
    held = credits_of(market, sender.address)
    if held.money or held.stake:
        shown = show_credits(market, held)
        ui.note(f"{shown} wait for {sender.address}; take them with: lease withdraw")
    return receipt


def lines(market: Market, lease: Lease, receipt: Receipt) -> Iterator[str]:
    """What a transaction about a lease did, in words."""
    unit, rate = unit_of(market), lease.rate or 0
    for entry in receipt.logs:
        event = contract(market).decode(entry) or market.staking.decode(entry)
        if isinstance(event, Cancelled):
            yield f"{show_amount(event.refund, unit)} back to {event.requester}"
        elif isinstance(event, Confirmed):
            yield "confirmed: it is yours, and rent is due from `ready` on"
        elif isinstance(event, Settled):
            yield f"{show_amount(event.paid, unit)} to the provider, after the fee"
        elif isinstance(event, Accused):
            yield f"accused; the lease goes on if {lease.provider} is heard of in time"
        elif isinstance(event, Closed):
            rent = show_amount(event.seconds * rate, unit)
            yield f"rent {rent} for {show_seconds(event.seconds)}"
            yield f"{show_amount(event.refund, unit)} back to {lease.terms.requester}"
        elif isinstance(event, Seized):
            yield (
                f"{show_tpf(event.to_victim + event.bounty + event.burned)} seized: "
                f"{show_tpf(event.to_victim)} to the tenant, {show_tpf(event.bounty)} bounty"
            )


def _check_grace(market: Market, sender: Sender, lease: Lease, done: str) -> None:
    expect(lease, LeaseStatus.ACTIVE, done)
    if lease.terms.requester != sender.address:
        raise CommandError(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}, not to "
            f"{sender.address}",
            Code.NOT_TENANT,
        )
    now = market.now()
    if lease.state.confirmed:
        raise CommandError(
            f"lease {short(lease.lease)} was confirmed already; lease close ends it",
            Code.TIME_OVER,
        )
    if not lease.in_grace(now):
        raise CommandError(
            f"the grace of {short(lease.lease)} ended {show_time(lease.grace_until, now)}; "
            "it is yours, and lease close ends it",
            Code.TIME_OVER,
        )


def _early(line: str) -> CommandError:
    return CommandError(line, Code.CONTRACT_REFUSED)
