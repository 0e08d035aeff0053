# SPDX-License-Identifier: Apache-2.0
"""A dispute for people and for documents: where it stands, who sits, what was voted, what comes
next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_local
from teraproof.contracts.disputes import Appealed, Closed, Opened, Revealed
from teraproof.contracts.jobs import BondPaid
from teraproof.courts import docket
from teraproof.courts.docket import Dispute, Phase, Place, Round, Stage
from teraproof.courts.votes import Ruling, Vote
from teraproof.market import disputes
from teraproof.market.disputes import Step, ruling_words
from teraproof.market.jobs import Job, show_price
from teraproof.market.jury import court_of
from teraproof.market.market import Market
from teraproof.market.ui import Ui
from teraproof.protocol.dispute import Case

_ROUNDS = ("first jury", "second jury", "jury of the appeal")
_STAGES = {
    Stage.NAMED: "to be drawn",
    Stage.DRAWN: "runs the job",
    Stage.SEALED: "all have committed",
    Stage.REVEALED: "has spoken",
    Stage.UNFILLED: "too few could be drawn",
}
_PHASES = {
    Phase.DRAWING: "the jury is being drawn",
    Phase.COMMITTING: "jurors run the job and commit",
    Phase.REVEALING: "jurors reveal their votes",
    Phase.FAILED: "no ruling: a larger jury can be asked for",
    Phase.RULED: "ruled: the loser can appeal",
    Phase.FINAL: "final: it can be concluded",
}


@dataclass(frozen=True)
class Ended:
    """A dispute that was concluded, by its events."""

    case: Case
    ruling: Ruling
    for_requester: bool
    votes: tuple[Revealed, ...]
    paid: tuple[BondPaid, ...]


def show(market: Market, ui: Ui, job: Job) -> dict[str, Any]:
    """Show the dispute over a job, open or over; the same for a document. Times are unix seconds,
    amounts payment token units as text. CommandError (NOT_DISPUTED) where there was none.
    """
    case = disputes.case_of(market, job)
    dispute = docket.read(court_of(market), case, "latest")
    if dispute is None:
        return _show_ended(market, ui, job, _ended(market, case))
    now = market.now()
    bonds = _bonds(market, case)
    rows = [
        ("phase", _PHASES[dispute.phase]),
        ("round", _round_words(dispute.current)),
        ("ruling", _ruling_row(dispute)),
        ("price", show_price(market, job)),
        ("requester", f"{case.requester}, bonds {market.show_price(bonds[case.requester])}"),
        ("provider", f"{case.provider}, bonds {market.show_price(bonds[case.provider])}"),
        ("each vote is paid", market.show_price(dispute.costs.fee)),
    ]
    if dispute.until:
        rows.insert(1, ("until", show_local(dispute.until, now)))
    rows += [("next", line) for line in next_steps(market, dispute, now)]
    ui.table(f"Dispute over 0x{job.job.hex()}", ("what", "value"), rows)
    _show_votes(market, ui, dispute)
    step = disputes.due(market, dispute, case.requester)
    return {
        "job": "0x" + job.job.hex(),
        "open": True,
        "phase": dispute.phase.name.lower(),
        "until": dispute.until or None,
        "round": dispute.current.number,
        "ruling": dispute.ruling.name.lower(),
        "due": None if step is None else step.name.lower(),
        "requester": case.requester,
        "provider": case.provider,
        "capability": "0x" + case.capability.hex(),
        "price": str(case.price),
        "fee": str(dispute.costs.fee),
        "bonds": {account: str(amount) for account, amount in bonds.items()},
        "votes": [_vote_json(one, place) for one in dispute.rounds for place in one.places],
        "vacant": {str(one.number): disputes.vacant(market, one) for one in dispute.rounds},
    }


def next_steps(market: Market, dispute: Dispute, now: int) -> list[str]:
    """What can be done next, and by whom, a line a matter."""
    until, phase = show_local(dispute.until, now), dispute.phase
    if phase is Phase.DRAWING:
        due = disputes.due(market, dispute) is Step.DRAW
        if due:
            return [f"anyone: dispute next draws the jury, until {until}"]
        return [f"block {dispute.current.target:,} draws the jury; then anyone: dispute next"]
    if phase is Phase.COMMITTING:
        return ["jurors: their agents commit; it goes on at once when all have"]
    if phase is Phase.REVEALING:
        return ["jurors: their agents reveal; it goes on at once when all have"]
    if phase is Phase.FAILED:
        half = court_of(market).redraw_time("latest") // 2
        rest = dispute.until - half
        return [
            "the requester: dispute next asks for a larger jury",
            f"anyone, from {show_local(rest + 1, now)}: the same",
            f"otherwise the provider is paid after {until}",
        ]
    if phase is Phase.RULED:
        bond = market.show_price(dispute.costs.appeal_bond)
        who = " or ".join(disputes.losers(market, dispute))
        return [
            f"{who}: dispute appeal, with a bond of {bond}, until {until}",
            "anyone, after that: dispute claim",
        ]
    return ["anyone: dispute claim carries out the ruling"]


# ---------------------------------------------------------------------- parts


def _show_votes(market: Market, ui: Ui, dispute: Dispute) -> None:
    rows = []
    for one in dispute.rounds:
        rows += [
            (_ROUNDS[one.number], place.juror, str(place.votes), _says(one, place, dispute))
            for place in one.places
        ]
        if none := disputes.vacant(market, one):
            fell = "vacant: they fell on jurors of an earlier jury"
            rows.append((_ROUNDS[one.number], "", str(none), fell))
    if rows:
        ui.table("Jurors", ("jury", "juror", "votes", "says"), rows)


def _says(jury: Round, place: Place, dispute: Dispute) -> str:
    if place.vote is not None:
        return vote_words(place.vote)
    if jury is not dispute.current or dispute.phase in (Phase.FAILED, Phase.RULED, Phase.FINAL):
        return "nothing: it is fined"
    return "has committed" if place.has_committed else "nothing yet"


def vote_words(vote: Vote) -> str:
    """A vote for people."""
    return vote.name.lower()


def _round_words(jury: Round) -> str:
    count = sum(place.votes for place in jury.places)
    cast = sum(place.votes for place in jury.places if place.vote is not None)
    shown = f", {cast} of {count} votes are revealed" if jury.places else ""
    return f"{_ROUNDS[jury.number]}, {_STAGES[jury.stage]}{shown}"


def _ruling_row(dispute: Dispute) -> str:
    if dispute.current.number == 2 and dispute.phase is not Phase.FINAL:
        return f"{ruling_words(dispute.ruling)}, which is appealed"
    if dispute.phase in (Phase.RULED, Phase.FINAL):
        return ruling_words(dispute.ruling)
    return "none yet"


def _bonds(market: Market, case: Case) -> dict[str, int]:
    """What each party has put up, by the events."""
    court, first = court_of(market), market.registry.start_block
    found = {case.requester: 0, case.provider: 0}
    for opened in court.find(Opened, first, job=case.job):
        found[case.requester] += opened.bond
    for appealed in court.find(Appealed, first, job=case.job):
        # The operator appeals for its provider.
        side = case.requester if appealed.account == case.requester else case.provider
        found[side] += appealed.bond
    return found


def _ended(market: Market, case: Case) -> Ended:
    court, first = court_of(market), market.registry.start_block
    closed = court.find(Closed, first, job=case.job)[-1]
    return Ended(
        case,
        Ruling(closed.ruling),
        closed.for_requester,
        tuple(court.find(Revealed, first, job=case.job)),
        tuple(market.jobs.find(BondPaid, first, job=case.job)),
    )


def _show_ended(market: Market, ui: Ui, job: Job, ended: Ended) -> dict[str, Any]:
    case = ended.case
    winner = "the requester" if ended.for_requester else "the provider"
    rows = [
        ("phase", "over"),
        ("ruling", f"{ruling_words(ended.ruling)}, for {winner}"),
        ("job", job.status.name.lower()),
        ("price", show_price(market, job)),
        ("requester", case.requester),
        ("provider", case.provider),
        *(("of the bonds", f"{market.show_price(p.amount)} to {p.account}") for p in ended.paid),
        ("next", "whoever was paid takes it: job withdraw, or provider withdraw"),
    ]
    ui.table(f"Dispute over 0x{job.job.hex()}", ("what", "value"), rows)
    ui.table(
        "Votes",
        ("jury", "juror", "says"),
        [(_ROUNDS[v.round], v.juror, vote_words(Vote(v.kind))) for v in ended.votes],
    )
    return {
        "job": "0x" + job.job.hex(),
        "open": False,
        "phase": "over",
        "ruling": ended.ruling.name.lower(),
        "for_requester": ended.for_requester,
        "requester": case.requester,
        "provider": case.provider,
        "capability": "0x" + case.capability.hex(),
        "price": str(case.price),
        "paid": [{"account": p.account, "amount": str(p.amount)} for p in ended.paid],
        "votes": [
            {"round": v.round, "juror": v.juror, "vote": vote_words(Vote(v.kind))}
            for v in ended.votes
        ],
    }


def _vote_json(jury: Round, place: Place) -> dict[str, Any]:
    return {
        "round": jury.number,
        "juror": place.juror,
        "votes": place.votes,
        "committed": place.has_committed,
        "vote": None if place.vote is None else vote_words(place.vote),
    }
