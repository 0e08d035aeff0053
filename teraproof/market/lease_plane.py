# SPDX-License-Identifier: Apache-2.0
"""The way into a lease's containers: where its data plane is, and who opens streams there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from teraproof.client import dataplane
from teraproof.client.dataplane import Place, SessionKey
from teraproof.client.sessions import KeptSession
from teraproof.errors import CommandError, WrongInput
from teraproof.market import lease_agents, lease_notes, leases
from teraproof.market.lease_tending import endpoint_for
from teraproof.market.leases import Lease, short
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.watch import harmless
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseReport

#: How an agent writes where a port that is not public is reached: at its data plane.
SCHEME = "teraproof://"
_SEEN_WITHIN = 180.0  # seconds in which an agent has seen a confirmation that the chain has


@dataclass(frozen=True)
class Way:
    """A lease's data plane, and the key that opens streams there for the tenant."""

    place: Place
    key: SessionKey


def way_to(
    market: Market,
    signer: Signer,
    lease: Lease,
    *,
    plane: str | None = None,
    endpoint: str | None = None,
) -> Way:
    """The way into an active lease of this account. `plane` is host:port; None: as its agent says.

    CommandError for another account's lease, or one that is not active.
    """
    place, kept = _place(market, signer, lease, plane, endpoint)
    return Way(place, dataplane.session_key(place, signer, kept))


def revoke(
    market: Market,
    signer: Signer,
    lease: Lease,
    *,
    plane: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Take back all session keys of an active lease of this account that were signed until now,
    with the account's own signature. The rest is as for `way_to`.
    """
    place, kept = _place(market, signer, lease, plane, endpoint)
    dataplane.asked(place, dataplane.Signed(signer), Request(lease.lease, What.REVOKE))
    if kept is not None:
        kept.forget()


def _place(
    market: Market, signer: Signer, lease: Lease, plane: str | None, endpoint: str | None
) -> tuple[Place, KeptSession | None]:
    if lease.terms.requester != signer.address:
        raise CommandError(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}, not to "
            f"{signer.address}",
            Code.NOT_TENANT,
        )
    if lease.status is not LeaseStatus.ACTIVE or lease.accepted is None:
        raise CommandError(
            f"lease {short(lease.lease)} is {lease.word}; only an active one can be entered",
            Code.NOT_READY,
        )
    if lease.in_grace(market.now()):
        raise CommandError(
            f"lease {short(lease.lease)} is not confirmed yet; lease wait challenges and confirms "
            "it",
            Code.LEASE_UNCONFIRMED,
        )
    is_said = plane is None
    if plane is None:
        url = endpoint_for(market, lease, endpoint)
        with lease_agents.connect(market, signer, url) as client:
            plane = said(client.report(lease.lease))
    place = Place.at(plane, lease.lease, lease.accepted.operator, leases.domain(market))
    reach = market.reach if is_said else market.reach.naming([(place.host, place.port)])
    place = replace(place, patience=_SEEN_WITHIN, reach=reach)
    kept = None
    if market.sessions is not None:
        kept = market.sessions.of(dataplane.lease_url(place), signer.address)
    return place, kept


def said(report: LeaseReport) -> str:
    """Where the data plane is, by an agent's report. CommandError when it does not say."""
    for each in report.endpoints:
        if each.url.startswith(SCHEME):
            return each.url.removeprefix(SCHEME).partition("/")[0]
    raise CommandError(
        "its agent does not say where its data plane is; pass --plane HOST:PORT",
        Code.ANSWER_INVALID,
    )


def service_of(lease: Lease, service: str | None) -> str:
    """The service that is meant: the one that was named, or the only one."""
    spec = lease_notes.spec_of(lease.terms.order.spec)
    if service is not None:
        return service
    if spec is not None and len(spec.services) == 1:
        return spec.services[0].name
    known = "" if spec is None else f" ({', '.join(one.name for one in spec.services)})"
    raise WrongInput(f"name the service{known}")


class Lines:
    """A stranger's bytes as lines that no terminal obeys. For `dataplane.logs`."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._rest = show, b""

    def write(self, data: bytes) -> int:
        """Show the lines that are whole."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._show(harmless(line.decode("utf-8", "replace").rstrip("\r")))
        return len(data)

    def flush(self) -> None:
        """Nothing: a line is shown when it is whole."""

    def end(self) -> None:
        """Show what came after the last whole line."""
        if self._rest:
            self.write(b"\n")


def ports(way: Way, lease: Lease) -> list[dict[str, Any]]:
    """The public ports of a lease, as its agent serves them: what the agent says of each, with
    `host` and `url` where the public reaches it now. CommandError for any other answer.
    """
    found = dataplane.asked(way.place, way.key, Request(lease.lease, What.PORTS))
    listed = found.get("ports")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise CommandError("the agent sent no list of ports", Code.ANSWER_INVALID)
    shown = []
    for one in listed:
        outer, plain = one.get("outer"), one.get("mode") == "plain"
        reached = isinstance(outer, int) and not isinstance(outer, bool) and 0 < outer < 1 << 16
        place = way.place if not reached else replace(way.place, port=outer)
        url = f"{'tcp' if plain else 'tls'}://{place.endpoint}" if reached else ""
        shown.append({**one, "host": place.host if reached else "", "url": url})
    return shown
