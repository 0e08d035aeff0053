# SPDX-License-Identifier: Apache-2.0
"""How a job comes to its end: paid, refused, refunded or taken off the market."""

from __future__ import annotations

from teraproof.amounts import show_time, show_tpf
from teraproof.errors import CommandError
from teraproof.market import outcomes
from teraproof.market.jobs import Job, deadline, open_until, short, show_price
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Judged, Status
from teraproof.rpc.types import Receipt


def approve(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Pay the provider before the window ends (requester)."""
    record = _expect(job, Status.ATTESTED, "approved").record()
    _expect_requester(job, sender)
    ui.ask(f"Accept the result of {short(job.job)} and pay {show_price(market, job)}?")
    return _end(market, sender, ui, job, "approve", market.jobs.approve(job.terms, record))


def refuse(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Burn price and collateral of a refusable job within the window (requester)."""
    record = _expect(job, Status.ATTESTED, "refused").record()
    _expect_requester(job, sender)
    if job.terms.order.judged != Judged.REFUSABLE:
        raise CommandError(
            f"job {short(job.job)} was not posted with --judged refusable; it cannot be refused"
        )
    ends, now = job.terms.finalizable_after(record.attested_at), market.now()
    if now > ends:
        raise CommandError(
            f"the challenge window of {short(job.job)} ended {show_time(ends, now)}; it can no "
            "longer be refused",
            Code.TIME_OVER,
        )
    ui.ask(
        f"Refuse {short(job.job)}? Its price of {show_price(market, job)} and the provider's "
        f"collateral of {show_tpf(job.terms.order.collateral)} are burned; nobody gets anything"
    )
    return _end(market, sender, ui, job, "refuse", market.jobs.refuse(job.terms, record))


def finalize(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Pay the provider after the window (anyone)."""
    record = _expect(job, Status.ATTESTED, "finalized").record()
    ends, now = job.terms.finalizable_after(record.attested_at), market.now()
    if now <= ends:
        raise CommandError(
            f"the challenge window of {short(job.job)} ends {show_time(ends, now)}; wait, or "
            "let the requester approve",
            Code.NOT_READY,
        )
    ui.ask(f"Finalize {short(job.job)}, which pays {show_price(market, job)} to the provider?")
    return _end(market, sender, ui, job, "finalize", market.jobs.finalize(job.terms, record))


def expire(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Refund a job whose deadline has passed, and seize the collateral (anyone)."""
    _expect(job, Status.ASSIGNED, "expired")
    ends, now = deadline(market, job) or 0, market.now()
    if now <= ends:
        raise CommandError(
            f"the deadline of {short(job.job)} is {show_time(ends, now)}; only after it can "
            "the job be expired",
            Code.NOT_READY,
        )
    ui.ask(f"Expire {short(job.job)}: refund the tenant and seize the collateral?")
    return _end(market, sender, ui, job, "expire", market.jobs.expire(job.terms))


def cancel(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Take an open job off the market (requester; anyone when its time is over)."""
    _expect(job, Status.OPEN, "cancelled")
    until, now = open_until(market, job), market.now()
    if job.terms.requester != sender.address and now <= until:
        raise CommandError(
            f"job {short(job.job)} belongs to {job.terms.requester}; others may cancel it from "
            f"{show_time(until, now)} on",
            Code.NOT_REQUESTER,
        )
    refund = market.show_price(job.terms.order.max_price)
    ui.ask(f"Cancel {short(job.job)}, which refunds {refund} to {job.terms.requester}?")
    return _end(market, sender, ui, job, "cancel", market.jobs.cancel(job.terms))


def _end(market: Market, sender: Sender, ui: Ui, job: Job, label: str, data: bytes) -> Receipt:
    receipt = transact(sender, ui, label, market.jobs, data)
    outcomes.tell(market, ui, job.terms, receipt, sender.address)
    return receipt


def _expect(job: Job, status: Status, done: str) -> Job:
    if job.status is not status:
        raise CommandError(
            f"job {short(job.job)} is {job.status.name.lower()}; only a job that is "
            f"{status.name.lower()} can be {done}",
            Code.NOT_OPEN,
        )
    return job


def _expect_requester(job: Job, sender: Sender) -> None:
    if job.terms.requester != sender.address:
        raise CommandError(
            f"job {short(job.job)} belongs to {job.terms.requester}, not to {sender.address}",
            Code.NOT_REQUESTER,
        )
