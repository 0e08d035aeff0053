# SPDX-License-Identifier: Apache-2.0
"""What a provider's agent says of a lease: its containers, and where its ports are reached."""

from __future__ import annotations

from teraproof.amounts import show_date
from teraproof.errors import LocalError
from teraproof.market import lease_agents
from teraproof.market.lease_tending import endpoint_for
from teraproof.market.leases import Lease
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.ui import Ui
from teraproof.market.watch import harmless
from teraproof.protocol.errors import one_line
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseReport

_WORD = 200
_GOING = (LeaseStatus.ASSIGNED, LeaseStatus.ACTIVE)


def ask(
    market: Market, signer: Signer, ui: Ui, lease: Lease, endpoint: str | None = None
) -> LeaseReport | None:
    """Show what the agent says of a lease of this account; None where there is nothing to ask, or
    it does not answer, which is said.
    """
    if lease.status not in _GOING:
        return None
    try:
        url = endpoint_for(market, lease, endpoint)
        with lease_agents.connect(market, signer, url) as client:
            report = client.report(lease.lease)
    except LocalError as error:
        ui.note(str(error))
        return None
    show(ui, report)
    return report


def show(ui: Ui, report: LeaseReport) -> None:
    """Containers and endpoints as tables. All words are a stranger's."""
    if report.note:
        ui.note(f"its agent says: {_harmless(report.note)}")
    if report.logins:
        names = ", ".join(_harmless(name) for name in report.logins)
        ui.note(f"its agent waits for the credentials of {names}: lease wait sends them")
    if report.unsaved:
        ui.note(f"its agent saves no checkpoint: {_harmless(report.unsaved)}")
    if report.checkpoint:
        at = show_date(report.saved_at) if report.saved_at else "before it began"
        ui.note(f"its newest checkpoint is {_harmless(report.checkpoint)}, saved {at}")
    if report.containers:
        rows = [
            (
                f"{_harmless(each.service)} {each.number}",
                each.status if each.exit_code is None else f"{each.status} ({each.exit_code})",
                str(each.deaths),
                _harmless(each.detail),
            )
            for each in report.containers
        ]
        ui.table("Containers", ("container", "status", "deaths", "detail"), rows)
    if report.endpoints:
        rows = [
            (
                _harmless(each.service),
                f"{each.port} as {each.outer}/{each.protocol}",
                "public" if each.public else "yours",
                _harmless(each.url) or "not reachable yet",
            )
            for each in report.endpoints
        ]
        ui.table("Endpoints", ("service", "port", "for", "where"), rows)


def _harmless(text: str) -> str:
    return one_line(harmless(text), _WORD)
