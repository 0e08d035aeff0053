# SPDX-License-Identifier: Apache-2.0
"""For tenants: leases that are on the chain: look, go on with one, challenge, watch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.lease_check import credentials_of
from teraproof.cli.lease_group import (
    bandwidth_option,
    by_hand_option,
    cli,
    endpoint_option,
    file_option,
    find,
    funds_option,
    lease_argument,
    score_option,
    timeout_option,
)
from teraproof.cli.lease_saving import noted
from teraproof.cli.places import access_option
from teraproof.cli.values import HOURLY, SECONDS, URI
from teraproof.errors import WrongInput
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from teraproof.market.lease_challenges import Asked
    from teraproof.market.lease_watch import Watcher
    from teraproof.market.leases import Lease

_max_price = click.option(
    "--max-price",
    type=HOURLY,
    metavar="DOLLARS",
    help="An hour, for a new lease; default: as this one.",
)


@command(cli, Needs.EITHER, "list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
def list_leases(session: Session, everything: bool) -> Result:
    """Show the account's leases that go on; without an account, everybody's."""
    from teraproof.market import leases
    from teraproof.protocol.lease_terms import LeaseStatus

    market, account = session.market, session.account
    session.ui.doing("reading the leases")
    found = leases.find_all(market, account)
    if not everything:
        found = [one for one in found if one.status is not LeaseStatus.NONE]
    leases.show_list(market, found, session.ui)
    now = market.now()
    return {"leases": [leases.to_json(market, lease, now) for lease in found]}


@command(cli, Needs.EITHER)
@lease_argument
@endpoint_option
def status(session: Session, lease_id: str, endpoint: str | None) -> Result:
    """Show one lease in full; LEASE is its id or the first digits of it.

    With the account that rents it, its provider's agent is asked for containers and endpoints.
    """
    from teraproof.market import lease_reports, leases

    market = session.market
    lease = find(session, lease_id)
    leases.show(market, lease, session.ui)
    shown = leases.to_json(market, lease, market.now())
    if session.account != lease.terms.requester:
        return shown
    report = lease_reports.ask(market, session.signer, session.ui, lease, endpoint)
    return {**shown, "agent": None if report is None else report.to_json()}


@command(cli, Needs.ACCOUNT)
@lease_argument
@file_option
@click.option("--group", metavar="PLACEMENT", help="Which lease of a file with several.")
@score_option
@bandwidth_option
@by_hand_option
@timeout_option
@access_option
@endpoint_option
def wait(session: Session, lease_id: str, file: Path | None, **given: Any) -> Result:
    """Go on with a lease: wait for a provider, send credentials, challenge it, and confirm it.

    Exits with 5 when it was not ready in time, or did not show what was promised.
    """
    from teraproof.market import lease_specs, lease_stores, lease_tending, leases

    market, sender = session.market, session.lasting_sender
    lease = find(session, lease_id)
    lease_stores.remember(leases.notes_of(market, sender.address), lease.lease, given["access"])
    manner = lease_tending.Manner(
        _asked(given),
        given["by_hand"],
        given["timeout"],
        given["endpoint"],
    )
    credentials = credentials_of(session, lease, file, given["group"])
    lease_specs.spread(market, sender, session.ui, lease)
    done = lease_tending.attend(market, sender, session.ui, lease, credentials, manner)
    shown = leases.to_json(market, done.lease, market.now())
    return {**shown, "endpoint": done.endpoint}


@command(cli, Needs.ACCOUNT)
@lease_argument
@score_option
@bandwidth_option
@click.option("--act", is_flag=True, help="Reject or close a lease that fails.")
@endpoint_option
def challenge(session: Session, lease_id: str, act: bool, **given: Any) -> Result:
    """Challenge the devices of a lease, with all that you have of its provider at one time.

    Exits with 5 when LEASE fails. What this shows, and what not: docs/soundness.md.
    """
    from teraproof.acceptance.policy import Decision
    from teraproof.errors import CommandError
    from teraproof.market import lease_challenges, lease_endings, lease_tending, leases

    market, ui = session.market, session.ui
    lease = find(session, lease_id)
    url = lease_tending.endpoint_for(market, lease, given["endpoint"])
    signer = session.signer
    wanted = lease_challenges.together_with(market, lease, signer.address)
    found = lease_challenges.challenge(market, signer, ui, wanted, url, _asked(given))
    first = found[0]
    failed = [one for one in found if not one.verdict.passed]
    for one in failed if act else ():
        if one.decision is Decision.REJECT:
            lease_endings.reject(market, session.sender, ui, one.lease, why=one.verdict.line)
        elif one.decision is Decision.CLOSE:
            lease_endings.close(market, session.sender, ui, one.lease)
    shown = [
        {
            "lease": "0x" + one.lease.lease.hex(),
            "passed": one.verdict.passed,
            "reason": one.verdict.reason.value,
            "line": one.verdict.line,
            "score": str(one.verdict.score),
            "decision": one.decision.value,
        }
        for one in found
    ]
    if not first.verdict.passed:
        raise CommandError(
            f"lease {leases.short(lease.lease)} failed: {first.verdict.line}",
            Code.LEASE_FAILED,
            challenges=shown,
        )
    return {"challenges": shown}


def _asked(given: dict[str, Any]) -> Asked:
    from teraproof.market.lease_challenges import Asked

    return Asked(
        score=given["min_score"],
        bandwidth=given["memory_bandwidth"],
    )


@command(cli, Needs.ACCOUNT)
@lease_argument
@file_option
@score_option
@bandwidth_option
@_max_price
@click.option(
    "--challenge-every",
    type=SECONDS,
    metavar="TIME",
    help='Time from one challenge to the next, on average, such as "6 hours". Default: none.',
)
@click.option(
    "--orders",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="New leases that it makes at most.",
)
@click.option(
    "--checkpoints",
    type=URI,
    metavar="URI",
    help="Where the containers save by themselves; the newest one is shown before a new order. "
    "Not needed for a lease that names its checkpoints.",
)
@access_option
@endpoint_option
@funds_option
def watch(session: Session, lease_id: str, file: Path | None, **given: Any) -> Result:
    """Stand by a lease until it ends; when it dies, hire the cheapest other provider and go on.

    Accuses a silent provider, closes what it has left, and challenges. Give --yes: each new lease
    costs no more than the rest of the term at the highest price. It goes on with the newest
    checkpoint: docs/leases.md. Run again after a break, it finds the lease that followed.
    """
    from teraproof.market import lease_notes, lease_stores, leases

    if (given["checkpoints"] or "").startswith("s3:"):
        lease_stores.require_keys(noted(given["access"]))
    market, sender = session.market, session.lasting_sender
    lease = find(session, lease_id)
    watcher = _watcher(session, lease, file, given)
    where = leases.notes_of(market, sender.address)
    with lease_notes.alone(where, "watch", lease.lease):
        done = watcher.run(lease)
    shown = leases.to_json(market, done, market.now())
    return {**shown, "orders": watcher.orders}


@command(cli, Needs.ACCOUNT)
@lease_argument
@file_option
@score_option
@bandwidth_option
@_max_price
@access_option
@endpoint_option
@funds_option
def resume(session: Session, lease_id: str, file: Path | None, **given: Any) -> Result:
    """Order a lease that has ended again: the rest of its term, with the cheapest provider.

    A provider that has let it die is passed over. It begins with the newest checkpoint that is
    whole, if the lease named any. Waits until it is ready, challenges it, and confirms it. `lease
    watch` does this by itself.
    """
    from teraproof.market import lease_notes, leases

    market, sender = session.market, session.lasting_sender
    lease = find(session, lease_id)
    watcher = _watcher(session, lease, file, {**given, "challenge_every": None, "orders": 3})
    where = leases.notes_of(market, sender.address)
    with lease_notes.alone(where, "watch", lease.lease):
        done = watcher.resume(lease)
    shown = leases.to_json(market, done, market.now())
    return {**shown, "orders": watcher.orders}


def _watcher(session: Session, lease: Lease, file: Path | None, given: dict[str, Any]) -> Watcher:
    from teraproof.market import lease_notes, lease_stores, lease_watch, leases
    from teraproof.market.funds import Funds
    from teraproof.market.lease_prices import rate_within
    from teraproof.market.lease_tending import Manner

    market, sender = session.market, session.lasting_sender
    highest = given["max_price"]
    how = lease_watch.Watch(
        manner=Manner(_asked(given), endpoint=given["endpoint"]),
        every=given["challenge_every"] or 0,
        max_rate=None if highest is None else rate_within(highest, leases.unit_of(market)),
        funds=Funds(given["funds"]),
        orders=given["orders"],
    )
    where = leases.notes_of(market, sender.address)
    spec = lease_notes.spec_of(lease.terms.order.spec)
    saved = None if spec is None else spec.checkpoints
    uri, access = given.get("checkpoints"), given["access"]
    newest: Callable[[], str | None] | None = None
    if saved is not None and uri is not None:
        raise WrongInput("--checkpoints: this lease names its own; leave it out")
    if saved is None and uri is None and access is not None:
        raise WrongInput("--access opens the store of --checkpoints; give both")
    if saved is not None:
        lease_stores.remember(where, lease.lease, access)
        note = lease_notes.of_lease(where, lease.lease)
        lease_stores.require_keys("" if note is None else note.access)
        newest = partial(lease_stores.newest, saved, lease_notes.of_lease(where, lease.lease))
    elif uri is not None:
        newest = partial(_newest, uri, access)
    logins = credentials_of(session, lease, file, None)
    return lease_watch.Watcher(market, sender, session.ui, how, logins, newest)


def _newest(uri: str, access: Path | None) -> str | None:
    """The newest complete checkpoint at a URI; None where there is none."""
    from teraproof.cli.places import limits_of, opened
    from teraproof.storage.layout import Destination

    limits = limits_of(None, 1 << 20)
    with opened(uri, access, limits) as store:
        found = Destination(store, limits).listed()
    return str(found[-1]) if found else None
