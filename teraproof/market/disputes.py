# SPDX-License-Identifier: Apache-2.0
"""What a tenant, a provider or anybody does about a dispute on chain.

Every deadline counts by itself: nobody has to call anything in time but who wants something.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from teraproof.amounts import show_local, show_seconds, show_tpf
from teraproof.contracts.disputes import Costs, Drawn, Fined, Named
from teraproof.contracts.jobs import BondPaid
from teraproof.courts import docket
from teraproof.courts.docket import Dispute, Phase, Round, Stage
from teraproof.courts.votes import Ruling
from teraproof.errors import CommandError, counted
from teraproof.market import outcomes
from teraproof.market.funds import Funds, Payment, pay_in
from teraproof.market.jobs import Job, short, show_price
from teraproof.market.jury import court_of, read_jury
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.dispute import Case, Statement
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_WORD, Status
from teraproof.rpc.types import Receipt

BPS = 10_000
_SPAN = 20  # blocks whose spacing says how long the next ones take


class Step(Enum):
    """What anyone can do for a dispute when it is due."""

    DRAW = "draw the jury"
    REDRAW = "ask for a larger jury"
    CONCLUDE = "carry out the ruling"


@dataclass(frozen=True)
class Stakes:
    """What a dispute is about, payment token units and TPF wei."""

    price: int
    costs: Costs
    jury_fees: int
    """Of a first jury that has a quorum."""
    most_fees: int
    """Of all juries before an appeal."""
    compensation: int
    """TPF wei of the collateral that the tenant gets."""
    disputable_until: int
    ends_by: int
    """When the longest dispute that is opened now has ended."""


# ---------------------------------------------------------------------- reading


def case_of(market: Market, job: Job) -> Case:
    """The case of a job that is or was disputed. CommandError (NOT_DISPUTED) for any other."""
    court = court_of(market)
    case = docket.case_of(court, job.job, market.registry.start_block)
    if case is None:
        raise CommandError(f"job {short(job.job)} {_undisputed(market, job)}", Code.NOT_DISPUTED)
    return case


def _undisputed(market: Market, job: Job) -> str:
    """What there is to say of a job without a dispute."""
    if job.terms.order.capability is None:
        return "was not posted with --judged court: no jurors decide on it"
    status = job.status.name.lower()
    if job.status in (Status.OPEN, Status.ASSIGNED):
        return f"is {status}: nothing to dispute yet"
    if job.status is not Status.ATTESTED:
        return f"is {status}, and was never disputed"
    until, now = job.terms.finalizable_after(job.record().attested_at), market.now()
    if now > until:
        return "was never disputed, and its challenge window is over"
    return (
        f"was never disputed; its requester can do so until {show_local(until, now)}: dispute "
        f"open {short(job.job)}"
    )


def read(market: Market, job: Job) -> Dispute:
    """The open dispute over a job. CommandError (NOT_DISPUTED) when there is none any more."""
    case = case_of(market, job)
    found = docket.read(court_of(market), case, "latest")
    if found is None:
        raise CommandError(
            f"the dispute over {short(job.job)} is over: the job is {job.status.name.lower()}",
            Code.NOT_DISPUTED,
        )
    return found


def vacant(market: Market, jury: Round) -> int:
    """Votes of a drawn jury that nobody can cast: what they fell on had sat in an earlier one. A
    quorum counts them all the same.
    """
    if jury.stage in (Stage.NAMED, Stage.UNFILLED):
        return 0
    court = court_of(market)
    panels = (court.panel, court.redraw_panel, court.appeal_panel)
    return panels[jury.number]("latest") - sum(place.votes for place in jury.places)


def stakes(market: Market, job: Job) -> Stakes:
    """What a dispute over an attested job would be about."""
    court = court_of(market)
    record, order = job.record(), job.terms.order
    assert job.accepted is not None  # it has a record
    price = job.accepted.price
    costs = court.costs_of(price, order.duration, "latest")
    victim = market.jobs.victim_bps("latest")
    return Stakes(
        price=price,
        costs=costs,
        jury_fees=court.panel("latest") * costs.fee,
        most_fees=costs.dispute_bond - price,
        compensation=order.collateral * victim // BPS,
        disputable_until=job.terms.finalizable_after(record.attested_at),
        ends_by=market.now() + court.longest(order.duration, "latest"),
    )


# ---------------------------------------------------------------------- the parties


def check_disputable(market: Market, job: Job, account: str) -> None:
    """CommandError with its own code for every reason for which `account` cannot dispute a job."""
    name = short(job.job)
    if job.terms.order.capability is None:
        raise CommandError(
            f"job {name} was not posted with --judged court: no jurors decide on it",
            Code.NOT_JUDGED,
        )
    if job.status is Status.DISPUTED:
        raise CommandError(f"job {name} is disputed already; see dispute status", Code.NOT_OPEN)
    if job.status is not Status.ATTESTED:
        raise CommandError(
            f"job {name} is {job.status.name.lower()}; only an attested result can be disputed",
            Code.NOT_OPEN,
        )
    if job.terms.requester != account:
        raise CommandError(
            f"job {name} belongs to {job.terms.requester}, not to {account}", Code.NOT_REQUESTER
        )
    ends, now = job.terms.finalizable_after(job.record().attested_at), market.now()
    if now > ends:
        raise CommandError(
            f"the challenge window of {name} ended {show_local(ends, now)}; its result can no "
            "longer be disputed",
            Code.TIME_OVER,
        )


def open_dispute(
    market: Market,
    sender: Sender,
    ui: Ui,
    job: Job,
    evidence: bytes = ZERO_WORD,
    funds: Funds = Funds.AUTO,
) -> Receipt:
    """Take an attested result to the court, with the bond (requester). `evidence` is the sha256 of
    what the tenant says about it, zero for nothing.
    """
    check_disputable(market, job, sender.address)
    attested = job.attested
    assert attested is not None and job.provider is not None  # as was just checked
    about = stakes(market, job)
    order, now = job.terms.order, market.now()
    assert order.capability is not None  # as was just checked
    capability = order.capability.to_bytes(32, "big")
    jury = read_jury(market, capability)
    bond = about.costs.dispute_bond
    fees = market.show_price(about.jury_fees)
    ui.table(
        f"Dispute the result of {short(job.job)}",
        ("what", "value"),
        [
            ("provider", job.provider),
            ("result", "0x" + attested.result.hex()),
            ("price", market.show_price(about.price)),
            ("bond", market.show_price(bond)),
            ("each vote is paid", market.show_price(about.costs.fee)),
            ("jurors", jury.described(barred=(job.provider, sender.address))),
            (
                "if they find for you",
                f"the price and {show_tpf(about.compensation)} come to you; the bond comes back "
                f"but for the jurors' fees, {fees} for the first jury",
            ),
            (
                "if they find for the provider",
                f"it gets the price; the bond comes back but for the same fees, at most "
                f"{market.show_price(about.most_fees)}",
            ),
            ("can be opened until", show_local(about.disputable_until, now)),
            ("is over by", show_local(about.ends_by, now)),
            ("evidence", "none" if evidence == ZERO_WORD else "0x" + evidence.hex()),
        ],
    )
    if not jury.drawable(barred=(job.provider, sender.address)):
        ui.note("no juror can be drawn now: without a jury the provider is paid")
    statement = Statement(
        order.spec, attested.result, attested.receipt, attested.started, attested.finished
    )
    record = job.record()
    receipts = pay_in(
        market,
        sender,
        ui,
        Payment("dispute", "up as the bond of the dispute", bond),
        funds,
        lambda credit: market.jobs.dispute(job.terms, record, statement, evidence, credit),
    )
    ui.step(f"disputed: {draw_from(market, receipts[-1])}; see dispute status {short(job.job)}")
    return receipts[-1]


def appeal(market: Market, sender: Sender, ui: Ui, job: Job, funds: Funds = Funds.AUTO) -> Receipt:
    """Ask for the largest jury, with its bond (the loser of the ruling: the requester; or the
    provider's owner or operator).
    """
    dispute = read(market, job)
    now = market.now()
    if dispute.phase is not Phase.RULED:
        said = "was appealed already" if dispute.current.number == 2 else waits(dispute, now)
        raise CommandError(
            f"the dispute over {short(job.job)} cannot be appealed now: {said}", Code.TIME_OVER
        )
    if sender.address not in losers(market, dispute):
        raise CommandError(
            f"the ruling on {short(job.job)} is against {dispute.loser()}, not against "
            f"{sender.address}; the loser alone may appeal",
            Code.NOT_LOSER,
        )
    court, bond = court_of(market), dispute.costs.appeal_bond
    votes = court.appeal_panel("latest")
    case, jury = dispute.case, read_jury(market, dispute.case.capability)
    sat = {place.juror for one in dispute.rounds for place in one.places}
    barred = {case.provider, case.requester, *sat}
    won, lost = _appealed(market, job, dispute, votes)
    ui.table(
        f"Appeal the ruling on {short(job.job)}",
        ("what", "value"),
        [
            ("ruling", ruling_words(dispute.ruling)),
            ("bond", market.show_price(bond)),
            ("votes of the jury", str(votes)),
            ("jurors", jury.described(barred=barred)),
            ("if you win", won),
            ("if you lose", lost),
            ("can be appealed until", show_local(dispute.until, now)),
        ],
    )
    if not jury.drawable(barred=barred):
        ui.note("no juror can be drawn now: without a jury the ruling stays as it is")
    receipts = pay_in(
        market,
        sender,
        ui,
        Payment("appeal", "up as the bond of the appeal", bond),
        funds,
        lambda credit: market.jobs.appeal(dispute.case, credit),
    )
    ui.step(f"appealed: {draw_from(market, receipts[-1])}")
    return receipts[-1]


def _appealed(market: Market, job: Job, dispute: Dispute, votes: int) -> tuple[str, str]:
    """What the loser of a ruling gets and pays when it wins and when it loses its appeal. The jury
    has `votes`; the bonds of the final loser pay the jurors first, but each side pays half of an
    appeal that turns WITHHELD.
    """
    costs = dispute.costs
    cast = sum(place.votes for one in dispute.rounds for place in one.places)
    fees = (cast + votes) * costs.fee
    about = stakes(market, job)
    price, tpf = market.show_price(about.price), show_tpf(about.compensation)
    if dispute.ruling.is_for_requester:
        seized = show_tpf(job.terms.order.collateral)
        won, lost = f"you are paid {price}", f"{price} go back, {seized} of collateral are seized"
        mine, others = costs.appeal_bond, costs.dispute_bond
        if dispute.ruling is Ruling.WITHHELD:
            others = min(others, fees // 2)
    else:
        won, lost = f"{price} and {tpf} come to you", f"the provider is paid {price}"
        mine, others = costs.appeal_bond + costs.dispute_bond, 0
    pay = market.show_price(min(mine, max(0, fees - others)))
    whole = "your bonds come back whole"
    back = whole if fees <= others else f"your bonds come back but for at most {pay} of fees"
    most = market.show_price(min(mine, fees))
    return f"{won}; {back}", f"{lost}; of your bonds at most {most} pay jurors, the rest comes back"


def losers(market: Market, dispute: Dispute) -> tuple[str, ...]:
    """Who may appeal the present ruling."""
    loser = dispute.loser()
    if loser == dispute.case.requester:
        return (loser,)
    return (loser, market.staking.operator_of(loser, "latest"))


# ---------------------------------------------------------------------- anyone


def due(market: Market, dispute: Dispute, account: str | None = None) -> Step | None:
    """The step that can be taken now, by `account`, or by anybody where it is None."""
    head = market.chain.head()
    if dispute.phase is Phase.DRAWING:
        return Step.DRAW if head.number >= dispute.current.target else None
    if dispute.phase is Phase.FAILED:
        redraw_time = court_of(market).redraw_time("latest")
        who = account or ""
        return Step.REDRAW if dispute.can_redraw(who, head.timestamp, redraw_time) else None
    return Step.CONCLUDE if dispute.phase is Phase.FINAL else None


def advance(market: Market, sender: Sender, ui: Ui, job: Job) -> Step:
    """Take the step that is due, whoever's it is. CommandError (NOT_READY) when none is."""
    dispute = read(market, job)
    step = due(market, dispute, sender.address)
    if step is Step.DRAW:
        ui.ask(f"Draw the jury of {short(job.job)}? It is the same whoever draws it")
        header = market.chain.pool.header(dispute.current.target)
        data = court_of(market).draw(dispute.case, header.data)
        receipt = transact(sender, ui, "draw", court_of(market), data)
        ui.step(_drawn(market, receipt))
    elif step is Step.REDRAW:
        votes = court_of(market).redraw_panel("latest")
        ui.ask(f"Ask for a larger jury of {votes} votes on {short(job.job)}?")
        data = court_of(market).redraw(dispute.case)
        receipt = transact(sender, ui, "redraw", court_of(market), data)
        ui.step(draw_from(market, receipt))
    elif step is Step.CONCLUDE:
        conclude(market, sender, ui, job)
    else:
        now, again = market.now(), _again_at(market, dispute)
        raise CommandError(
            f"nothing is due in the dispute over {short(job.job)}: {waits(dispute, now)}; try "
            f"again after {show_local(again, now)}",
            Code.NOT_READY,
            retry_at=again,
        )
    return step


def _again_at(market: Market, dispute: Dispute) -> int:
    """When the next step of anybody's is due, unix seconds: at the latest, or about, where blocks
    decide.
    """
    if dispute.phase is Phase.DRAWING:
        head = market.chain.head()
        back = min(_SPAN, head.number)
        earlier = market.chain.pool.block(head.number - back).timestamp
        spacing = (head.timestamp - earlier) / back if back else 0
        return head.timestamp + int(max(1, (dispute.current.target - head.number) * spacing))
    if dispute.phase is Phase.FAILED:
        return dispute.until - court_of(market).redraw_time("latest") // 2
    return dispute.until


def conclude(market: Market, sender: Sender, ui: Ui, job: Job) -> Receipt:
    """Carry out a final ruling: price, bonds, fees and fines (anyone). CommandError (NOT_READY)
    before it is final.
    """
    dispute = read(market, job)
    if dispute.phase is not Phase.FINAL:
        raise CommandError(
            f"the dispute over {short(job.job)} is not final: {waits(dispute, market.now())}",
            Code.NOT_READY,
        )
    ui.ask(
        f"Conclude {short(job.job)}: {ruling_words(dispute.ruling)}, "
        f"{_consequence(market, job, dispute)}?"
    )
    data = market.jobs.conclude(job.terms, job.record(), dispute.case)
    receipt = transact(sender, ui, "conclude", market.jobs, data)
    for line in settled(market, receipt):
        ui.step(line)
    outcomes.tell(market, ui, job.terms, receipt, sender.address)
    return receipt


def settled(market: Market, receipt: Receipt) -> list[str]:
    """Who got what of the bonds, and who was fined, by the logs of `conclude`."""
    court = court_of(market)
    found = []
    for entry in receipt.logs:
        event = market.jobs.decode(entry) or court.decode(entry)
        if isinstance(event, BondPaid):
            found.append(f"{market.show_price(event.amount)} of the bonds to {event.account}")
        elif isinstance(event, Fined):
            found.append(f"juror {event.juror} is fined {show_tpf(event.amount)}, burned")
    return found


def draw_from(market: Market, receipt: Receipt) -> str:
    """The block that draws a jury that was asked for, by the logs of the request."""
    for entry in receipt.logs:
        event = court_of(market).decode(entry)
        if isinstance(event, Named):
            return f"its jury is drawn from block {event.target:,}"
    return "its jury is to be drawn"


def _drawn(market: Market, receipt: Receipt) -> str:
    for entry in receipt.logs:
        event = court_of(market).decode(entry)
        if isinstance(event, Drawn):
            count = len(event.places)
            return f"{counted(count, 'juror')} drawn" if count else "too few jurors could be drawn"
    return "drawn"


# ---------------------------------------------------------------------- words


_RULINGS = {
    Ruling.NONE: "no ruling",
    Ruling.RIGHT: "the result is right",
    Ruling.WRONG: "the result is wrong",
    Ruling.WITHHELD: "the result was withheld",
    Ruling.UNDECIDED: "undecided: jurors got different results",
}


def ruling_words(ruling: Ruling) -> str:
    """A ruling for people."""
    return _RULINGS[ruling]


def _consequence(market: Market, job: Job, dispute: Dispute) -> str:
    price = show_price(market, job)
    if job.status is Status.REFUNDED:
        return "which pays out the bonds; a conviction has given the price back already"
    if dispute.ruling.is_for_requester:
        return f"which gives {price} back to {dispute.case.requester} and seizes the collateral"
    return f"which pays {price} to {dispute.case.provider}"


def waits(dispute: Dispute, now: int) -> str:
    """What a dispute waits for, and until when, for people."""
    until = show_local(dispute.until, now)
    if dispute.phase is Phase.DRAWING:
        return f"its jury is drawn from block {dispute.current.target:,}, until {until}"
    if dispute.phase is Phase.COMMITTING:
        return f"jurors run the job and commit until {until}"
    if dispute.phase is Phase.REVEALING:
        return f"jurors reveal until {until}"
    if dispute.phase is Phase.FAILED:
        half = show_seconds(max(0, dispute.until - now))
        return f"without a ruling; the requester may ask for a larger jury now ({half} left)"
    if dispute.phase is Phase.RULED:
        return f"{ruling_words(dispute.ruling)}; {dispute.loser()} may appeal until {until}"
    return "final: anyone may conclude it"
