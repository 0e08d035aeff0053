# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
# pragma optimize codesize
"""
@title Disputes: jurors run a job again and vote on its result
@license AGPL-3.0-only
@notice A tenant that disputes a result puts up a bond; jurors who have locked stake for
        what the job needs are drawn by it, run the job, commit and reveal; the loser
        may appeal once, to a larger jury. Whoever votes with the final ruling is paid from
        the bonds, who votes against it loses a little stake, who is silent more, and
        all that is burned: nobody earns by what another does not do.
        Trust model: nobody has a key to this contract. It holds no token: its client
        (Jobs) holds price and bonds and pays what `close` says; stake is locked in
        Staking. All sizes are fixed at deployment.

        Rules, numbered as in docs/specification.md:
        I-2  each round ends by the clock, and `close` is anyone's by its client;
        I-10 rounds only go on as courts/docket and courts/standing say;
        I-12 a juror is paid for its own vote alone, fines are burned whole;
        I-14 a jury depends on its named block and on what stood before the request;
        I-15 with everybody else dead, each deadline ends for whoever did its part.
@dev Rooms under courts/: sum_tree counts seats, jurors has who sits, docket the rounds
     and their times, votes what was voted; each writes its own storage alone. juries
     has what is drawn and voted, standing and fees what follows.
"""

from .courts import docket
from .courts import fees
from .courts import juries
from .courts import jurors
from .courts import standing
from .courts import sum_tree
from .courts import votes
from .interfaces import ICourt
from .interfaces import IDisputes
from .interfaces import IStaking
from .randomness import designated_block

implements: ICourt

initializes: designated_block
initializes: sum_tree
initializes: jurors[sum_tree := sum_tree]
initializes: docket[designated_block := designated_block]
initializes: votes
initializes: fees[docket := docket]
initializes: standing[docket := docket, votes := votes]
# Longer than a line: mamushi cannot read what it makes of it.
# fmt: off
initializes: juries[
    designated_block := designated_block,
    docket := docket,
    jurors := jurors,
    sum_tree := sum_tree,
    votes := votes
]
# fmt: on
exports: (
    designated_block.SOURCE,
    sum_tree.PERIOD,
    jurors.STAKING,
    jurors.SEAT,
    jurors.TERM,
    jurors.enlist,
    jurors.resign,
    jurors.evict,
    jurors.leave,
    jurors.seats,
    jurors.leaf_of,
    jurors.juror_of,
    docket.PANEL,
    docket.REDRAW_PANEL,
    docket.APPEAL_PANEL,
    docket.DRAW_DELAY,
    docket.DRAW_TIME,
    docket.COMMIT_TIME,
    docket.REVEAL_TIME,
    docket.REDRAW_TIME,
    docket.APPEAL_TIME,
    docket.CLOSE_TIME,
    docket.MAX_DURATION,
    docket.longest,
    docket.round_of,
    fees.FEE_BPS,
    fees.MIN_FEE,
    fees.HOURLY_FEE,
    fees.ATTENDANCE,
    fees.SMALL_FINE,
    fees.BIG_FINE,
    fees.costs_of,
    votes.place_of,
    standing.standing_of,
    juries.draw,
    juries.commit,
    juries.reveal,
)

# Least seats of a capability for which orders are judged.
PANEL_MIN: public(immutable(uint256))
# Payment token units of a price for which one seat more is asked: it is not worth while to
# keep all seats busy for a lie.
PRICE_PER_SEAT: public(immutable(uint256))
DEPLOYER: public(immutable(address))

# Whose deals are judged here; named once.
client: public(address)


@deploy
def __init__(
    staking: IStaking,
    randomness_source: uint256,
    period: uint256,
    seat: uint256,
    small_fine: uint256,
    big_fine: uint256,
    term: uint256,
    panel: uint256,
    redraw_panel: uint256,
    appeal_panel: uint256,
    panel_min: uint256,
    price_per_seat: uint256,
    juror_fee_bps: uint256,
    min_fee: uint256,
    hourly_fee: uint256,
    attendance: uint256,
    draw_delay: uint256,
    draw_time: uint256,
    commit_time: uint256,
    reveal_time: uint256,
    redraw_time: uint256,
    appeal_time: uint256,
    close_time: uint256,
    max_duration: uint256,
):
    """
    @notice Wires the contract; the deployer names its client once.
    @param staking The provider registry; must list this contract as a manager.
    @param randomness_source Where juries come from: see designated_block.
    @param period Seconds for which the seats that juries are drawn from stand still.
    @param seat TPF wei behind a seat.
    @param small_fine TPF wei for each unit of the fee, for a vote against the ruling.
    @param big_fine TPF wei for each unit of the fee, for a vote that is missing.
    @param term Seconds for which seats are locked.
    @param panel Votes of the first jury.
    @param redraw_panel Votes of the second, if the first came to nothing.
    @param appeal_panel Votes of the jury of an appeal.
    @param panel_min Least seats of a capability for which orders are judged.
    @param price_per_seat Payment token units of a price for which one more is asked.
    @param juror_fee_bps Of the price, in 1/10,000, for a vote.
    @param min_fee Payment token units for a vote at least.
    @param hourly_fee Payment token units for each hour that the job may run, at least.
    @param attendance Payment token units for a vote where there is no ruling on the result.
    @param draw_delay Blocks from the request for a jury to the block that draws it.
    @param draw_time Seconds in which it is to be drawn.
    @param commit_time Seconds to commit, besides those that the job may run.
    @param reveal_time Seconds to reveal.
    @param redraw_time Seconds in which a larger jury can be asked for.
    @param appeal_time Seconds in which the loser can appeal.
    @param close_time Seconds in which a dispute that has ended is to be concluded.
    @param max_duration Seconds that a job which is judged here may run at most.
    """
    assert price_per_seat > 0, "court: zero price per seat"
    # The seats that a jury is drawn from are kept until the next period ends.
    assert draw_time <= period, "court: draw time above the period"
    assert panel_min >= appeal_panel, "court: too few seats for an appeal"
    designated_block.__init__(randomness_source)
    sum_tree.__init__(period)
    docket.__init__(
        panel,
        redraw_panel,
        appeal_panel,
        draw_delay,
        draw_time,
        commit_time,
        reveal_time,
        redraw_time,
        appeal_time,
        close_time,
        max_duration,
    )
    jurors.__init__(
        staking,
        seat,
        term,
        docket._longest(max_duration),
    )
    votes.__init__()
    fees.__init__(
        juror_fee_bps, min_fee, hourly_fee, attendance, small_fine, big_fine
    )
    standing.__init__()
    juries.__init__()
    PANEL_MIN = panel_min
    PRICE_PER_SEAT = price_per_seat
    DEPLOYER = msg.sender


@external
def set_client(client: address):
    """
    @notice Names the contract whose deals are judged here (deployer, once).
    @param client Jobs.
    """
    assert msg.sender == DEPLOYER, "court: not the deployer"
    assert self.client == empty(address), "court: client is named"
    assert client != empty(address), "court: zero client"
    self.client = client
    log IDisputes.ClientNamed(client=client)


# ------------------------------------------------------- called by the client


@external
def open(
    job: bytes32,
    provider: address,
    requester: address,
    capability: bytes32,
    result: bytes32,
    price: uint256,
    duration: uint256,
) -> uint256:
    """
    @notice Opens a dispute and asks for its first jury (client only).
    @param job The job.
    @param provider Who attested the result: its owner address.
    @param requester Who disputes it.
    @param capability Whose jurors decide.
    @param result What was attested.
    @param price Payment token units.
    @param duration Seconds that the job may run.
    @return The bond in payment token units: the price, and a fee for each vote that can
            come to be paid before an appeal.
    """
    self._check_client()
    case: IDisputes.Case = IDisputes.Case(
        job=job,
        provider=provider,
        requester=requester,
        operator=staticcall jurors.STAKING.operator_of(provider),
        principal=staticcall jurors.STAKING.provider_of(requester),
        capability=capability,
        result=result,
        price=price,
        duration=duration,
    )
    docket._file(case)
    bond: uint256 = fees._bond(price, self._fee_of(case))
    log IDisputes.Opened(
        job=job,
        provider=provider,
        requester=requester,
        case=case,
        bond=bond,
    )
    return bond


@external
def appeal(case: IDisputes.Case, account: address) -> uint256:
    """
    @notice The loser of a ruling asks for a larger jury, once (client only).
    @param case The case.
    @param account The requester; or the provider's owner or operator.
    @return The bond in payment token units: a fee for each vote.
    """
    self._check_client()
    stand: standing.Standing = standing._standing(case)
    docket._check_time(stand.phase == standing.RULED)
    loser: address = case.requester
    if votes._is_for_requester(stand.ruling.kind):
        loser = case.provider
        if account != loser:
            loser = staticcall jurors.STAKING.operator_of(loser)
    assert account == loser, "court: caller is not the loser"
    docket._name(case, 2)
    bond: uint256 = docket.APPEAL_PANEL * self._fee_of(case)
    log IDisputes.Appealed(job=case.job, account=account, bond=bond)
    return bond


@external
def close(case: IDisputes.Case) -> IDisputes.Verdict:
    """
    @notice Ends a dispute whose ruling is final: fines jurors, and says who gets what
            of the bonds (client only, which lets anyone call it).
    @param case The case.
    @return For whom it was decided, and all of the bonds.
    """
    self._check_client()
    stand: standing.Standing = standing._standing(case)
    assert stand.phase == standing.FINAL, "court: not final"
    ruling: votes.Ruling = stand.ruling
    fee: uint256 = self._fee_of(case)
    verdict: IDisputes.Verdict = empty(IDisputes.Verdict)
    verdict.for_requester = votes._is_for_requester(ruling.kind)
    paid: uint256 = 0
    for round: uint256 in range(stand.round + 1, bound=3):
        word: uint256 = docket._round(case.job, round)
        # A vote of a jury that came to nothing is not fined.
        counts: bool = (
            standing._ruling(case.job, round).kind != votes.NO_RULING
        )
        for place: uint256 in range(docket._places(word), bound=31):
            vote: uint256 = votes._word(case.job, round, place)
            kind: uint256 = docket._kind(word, place)
            pay: uint256 = fees._pay(kind, vote, ruling, fee)
            rate: uint256 = 0
            if kind == votes.SILENT:
                rate = fees.BIG_FINE
            elif counts and votes._is_against(kind, vote, ruling):
                rate = fees.SMALL_FINE
            if pay > 0:
                paid += pay
                juror: address = jurors._owner(
                    case.capability, votes._leaf(vote)
                )
                verdict.pays.append(self._pay_to(juror, pay))
            if rate > 0:
                jurors._fine(
                    case.capability,
                    votes._leaf(vote),
                    rate * fee * votes._votes(vote),
                )
    of_requester: uint256 = fees._bond(case.price, fee)
    of_provider: uint256 = 0
    if stand.round == 2:
        if votes._is_for_requester(stand.first):
            of_provider = docket.APPEAL_PANEL * fee
        else:
            of_requester += docket.APPEAL_PANEL * fee
    by_requester: uint256 = paid
    # The loser's bonds pay first. Where one jury was not served and the next one was,
    # nobody knows by whose doing: each side pays half.
    if verdict.for_requester:
        by_requester -= min(paid, of_provider)
    else:
        if stand.first == votes.WITHHELD:
            by_requester = paid // 2
        by_requester = min(by_requester, of_requester)
    of_requester -= by_requester
    of_provider -= paid - by_requester
    verdict.pays.append(
        IDisputes.Pay(account=case.requester, amount=of_requester)
    )
    if of_provider > 0:
        verdict.pays.append(self._pay_to(case.provider, of_provider))
    docket._strike(case.job)
    log IDisputes.Closed(
        job=case.job, ruling=ruling.kind, for_requester=verdict.for_requester
    )
    return verdict


# ------------------------------------------------------------------ juries


@external
def redraw(case: IDisputes.Case):
    """
    @notice Asks for a larger jury, after the first came to nothing. In the first half of
            the time the requester alone, then anyone: whoever keeps jurors busy so that
            they cannot answer must do so for as long.
    @param case The case.
    """
    stand: standing.Standing = standing._standing(case)
    docket._check_time(stand.phase == standing.FAILED)
    assert (
        msg.sender == case.requester
        or 2 * (stand.until - block.timestamp) < docket.REDRAW_TIME
    ), "court: the requester's turn"
    docket._name(case, 1)


# ------------------------------------------------------------------- views


@external
@view
def cover(
    capability: bytes32, duration: uint256, price: uint256, operator: address
) -> uint256:
    """
    @notice Returns how long a dispute over a job can take; reverts if such a job is not
            judged here. A provider's own seats do not count for its jobs.
    @param capability Whose jurors would decide.
    @param duration Seconds that the job may run.
    @param price Payment token units, at most.
    @param operator Of the provider that takes the job; zero if it is not known yet.
    @return Seconds.
    """
    assert (
        sum_tree._seats(capability) - jurors._seats_behind(operator, capability)
        >= PANEL_MIN + price // PRICE_PER_SEAT
    ), "court: too few jurors"
    assert duration <= docket.MAX_DURATION, "court: job too long"
    # Two whole fines for silence are behind a seat.
    assert (
        2 * fees.BIG_FINE * fees._fee(price, duration) <= jurors.SEAT
    ), "court: job too dear"
    return docket._longest(duration)


# ---------------------------------------------------------------- internal


@internal
@view
def _check_client():
    """
    @dev Reverts unless the client calls.
    """
    assert msg.sender == self.client, "court: caller is not the client"


@internal
@view
def _fee_of(case: IDisputes.Case) -> uint256:
    """
    @dev What a vote with the final ruling is paid.
    @param case The case.
    @return Payment token units.
    """
    return fees._fee(case.price, case.duration)


@internal
@view
def _pay_to(provider: address, amount: uint256) -> IDisputes.Pay:
    """
    @dev A part of the bonds for a provider, at its payout address.
    @param provider Its owner address.
    @param amount Payment token units.
    @return The part.
    """
    return IDisputes.Pay(
        account=staticcall jurors.STAKING.payout_of(provider), amount=amount
    )
