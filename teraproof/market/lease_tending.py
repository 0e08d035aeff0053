# SPDX-License-Identifier: Apache-2.0
"""From an order on the chain to a lease that the tenant works in, or to its money back.

Each step follows from what the chain says, so whoever runs it again goes on where it stopped:
somebody takes the lease, gets the credentials, makes it ready, is challenged; then the tenant
confirms it, or rejects it with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from teraproof.acceptance.checks import Reason, Verdict
from teraproof.acceptance.policy import Decision
from teraproof.amounts import show_time
from teraproof.errors import CommandError, LocalError
from teraproof.market import (
    lease_agents,
    lease_challenges,
    lease_endings,
    lease_notes,
    lease_stores,
    leases,
    tenant,
)
from teraproof.market.lease_challenges import Asked, Challenged
from teraproof.market.lease_prices import show_hour
from teraproof.market.leases import Lease, short, unit_of
from teraproof.market.market import Market
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.market.watch import harmless
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseReport, RegistryLogin, RegistryLogins
from teraproof.sdl.stack import Credentials

_LOOK_SECONDS = 1.0
_WORD = 120


@dataclass(frozen=True)
class Manner:
    """How a tenant attends to a lease. `patience`: seconds after which it gives the terminal back;
    None: never.
    """

    asked: Asked = field(default_factory=Asked)
    by_hand: bool = False
    """Whether the tenant challenges, confirms or rejects by itself."""
    patience: float | None = None
    endpoint: str | None = None
    """Where the provider's agent is reached; None: as announced."""


@dataclass(frozen=True)
class Attended:
    """A lease, and where its provider's agent is reached."""

    lease: Lease
    endpoint: str | None = None
    report: LeaseReport | None = None
    """What the agent said last."""


def endpoint_for(market: Market, lease: Lease, given: str | None = None) -> str:
    """Where the provider of a lease is reached. CommandError when it is not known."""
    if given is not None:
        return given
    if lease.provider is None:
        raise CommandError(f"lease {short(lease.lease)} has no provider yet", Code.NOT_READY)
    return tenant.announced(market, lease.provider)[1]


def attend(
    market: Market,
    sender: Sender,
    ui: Ui,
    lease: Lease,
    credentials: Mapping[str, Credentials],
    manner: Manner | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Attended:
    """Bring a lease of this account to where the tenant works in it, and confirm it.

    CommandError: LEASE_FAILED when nobody took it, or it was not ready in time, was rejected, or
    has ended; NOT_READY when `patience` is over; NOT_TENANT for another account's.
    """
    how = manner or Manner()
    if lease.terms.requester != sender.address:
        raise CommandError(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}, not to "
            f"{sender.address}",
            Code.NOT_TENANT,
        )
    end = None if how.patience is None else clock() + how.patience
    pace = max(_LOOK_SECONDS, market.chain.poll_seconds)
    told, sent, said = "", False, ""
    attended = Attended(lease)
    while True:
        lease = leases.current(market, lease.opened)
        if lease.word != told:
            told = lease.word
            _tell(market, ui, lease)
        if lease.status is LeaseStatus.NONE:
            raise failure(market, lease)
        if lease.status is LeaseStatus.ACTIVE:
            attended = Attended(lease, _reached(market, lease, how), attended.report)
            return _accept(market, sender, ui, attended, how, sleep)
        if lease.status is LeaseStatus.ASSIGNED:
            if market.now() > lease.ready_until:
                lease_endings.expire(market, sender, ui, lease)
                raise failure(market, leases.current(market, lease.opened))
            url = endpoint_for(market, lease, how.endpoint)
            if not sent:
                sent = _send_logins(market, sender, ui, lease, url, credentials)
            report = _report(market, sender, lease, url)
            attended = Attended(lease, url, report or attended.report)
            line = "" if report is None else _progress(report)
            if line and line != said:
                said = line
                ui.step(line)
            ui.doing("waiting until it is ready")
        elif market.now() > leases.open_until(market, lease):
            lease_endings.cancel(market, sender, ui, lease)
            raise failure(market, leases.current(market, lease.opened))
        else:
            ui.doing("waiting for a provider")
        if end is not None and clock() > end:
            raise CommandError(
                f"lease {short(lease.lease)} is still {lease.word}; lease wait goes on with it",
                Code.NOT_READY,
                lease="0x" + lease.lease.hex(),
                status=lease.word,
            )
        sleep(pace)


def failure(market: Market, lease: Lease) -> CommandError:
    """A lease that has ended without the tenant working in it."""
    return CommandError(
        f"lease {short(lease.lease)} has ended: {leases.next_step(market, lease, market.now())}",
        Code.LEASE_FAILED,
        lease="0x" + lease.lease.hex(),
        ending=None if lease.ending is None else lease.ending.name.lower(),
    )


# ---------------------------------------------------------------------- parts


def _tell(market: Market, ui: Ui, lease: Lease) -> None:
    line = f"lease {short(lease.lease)} is {lease.word}"
    if lease.status is LeaseStatus.ASSIGNED and lease.rate is not None:
        line += f": {lease.provider} has it, at {show_hour(lease.rate, unit_of(market))}"
        line += f"; ready until {show_time(lease.ready_until, market.now())}"
    ui.step(line)


def _reached(market: Market, lease: Lease, how: Manner) -> str | None:
    try:
        return endpoint_for(market, lease, how.endpoint)
    except CommandError:
        return None


def _send_logins(
    market: Market,
    sender: Sender,
    ui: Ui,
    lease: Lease,
    url: str,
    credentials: Mapping[str, Credentials],
) -> bool:
    """Give the hired provider, and nobody else, what its registries ask for, and what opens the
    store of its checkpoints. Whether it is done: an agent takes them once it has seen the lease
    some blocks deep.
    """
    spec = lease_notes.spec_of(lease.terms.order.spec)
    wanted = [] if spec is None else [one.name for one in spec.services if one.registry]
    store = None
    if spec is not None and spec.checkpoints is not None:
        note = lease_notes.of_lease(leases.notes_of(market, sender.address), lease.lease)
        store = lease_stores.access_of("" if note is None else note.access).values()
    if not wanted and store is None:
        return True
    missing = [name for name in wanted if name not in credentials]
    if missing:
        ui.note(
            f"{', '.join(missing)} cannot be fetched without the credentials in your file; name it "
            "with lease wait --file"
        )
        wanted = [name for name in wanted if name in credentials]
        if not wanted and store is None:
            return True
    logins = RegistryLogins(
        {
            name: RegistryLogin(
                credentials[name].username, credentials[name].password, credentials[name].host
            )
            for name in wanted
        },
        store,
    )
    try:
        with lease_agents.connect(market, sender.signer, url) as client:
            client.send_logins(lease.lease, logins)
    except LocalError as error:
        if error.retryable:
            return False
        raise
    known = [*wanted, *(["the store of checkpoints"] if store is not None else [])]
    ui.step(f"{url} has the credentials of {', '.join(known)}")
    return True


def _report(market: Market, sender: Sender, lease: Lease, url: str) -> LeaseReport | None:
    """How the lease stands with its agent; None while it does not say."""
    try:
        with lease_agents.connect(market, sender.signer, url) as client:
            return client.report(lease.lease)
    except LocalError:
        return None  # the chain decides; nothing depends on it


def _progress(report: LeaseReport) -> str:
    """What an agent says of a lease that is not ready yet, in one line."""
    if report.note:
        return one_line(harmless(report.note), _WORD)
    if not report.containers:
        return ""
    up = sum(1 for each in report.containers if each.status == "running")
    return f"{up} of {len(report.containers)} containers run"


def _accept(
    market: Market,
    sender: Sender,
    ui: Ui,
    attended: Attended,
    how: Manner,
    sleep: Callable[[float], None],
) -> Attended:
    """Challenge an active lease in its grace, then confirm or reject it."""
    lease = attended.lease
    if how.by_hand or lease.state.confirmed:
        return attended
    if not lease.in_grace(market.now()):
        ui.note("its grace is over without a challenge: it is yours as it is; see lease challenge")
        return attended
    if attended.endpoint is None:
        verdict = Verdict(Reason.NO_ANSWER, "its provider announces no endpoint")
        found = Challenged(lease, verdict, Decision.REJECT)
    else:
        found = lease_challenges.settled(
            market, sender.signer, ui, lease, attended.endpoint, how.asked, sleep
        )
    lease = leases.current(market, lease.opened)
    if found.decision is Decision.KEEP:
        if not lease.in_grace(market.now()):
            ui.note("the grace ended meanwhile: it is yours")
            return Attended(lease, attended.endpoint, attended.report)
        lease_endings.confirm(market, sender, ui, lease)
        now = leases.current(market, lease.opened)
        return Attended(now, attended.endpoint, attended.report)
    if lease.in_grace(market.now()):
        lease_endings.reject(market, sender, ui, lease, why=found.verdict.line)
    else:
        lease_endings.close(market, sender, ui, lease)
    raise CommandError(
        f"lease {short(lease.lease)} did not show what was promised: {found.verdict.line}",
        Code.LEASE_FAILED,
        lease="0x" + lease.lease.hex(),
        reason=found.verdict.reason.value,
    )
