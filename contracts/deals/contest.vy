# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Contested results
@license AGPL-3.0-only
@notice Within the window the requester of a refusable order turns the result down, so that
        neither side gains; that of a judged order takes it to the court, with a bond of
        at least the price. The court draws jurors, who run the job again
        (see Disputes); whoever loses may appeal once, with a larger bond. What the court
        says at the end is paid here, by anyone's call. Two faults need no court: an
        operator that has signed two results of one job, or an attestation for another
        specification, is convicted by its own signatures, by anyone. All keys answer that
        could attest the job: those of the provider from the assignment to the attestation.

        I-1  price and bonds are held here until the end, and then paid out whole;
        I-2  a dispute always ends: the court's phases end by the clock;
        I-5  the price goes to the requester or to the provider, once.
@dev ATTESTED -> REFUSED; ATTESTED -> DISPUTED -> SETTLED or REFUNDED; ASSIGNED or ATTESTED -> REFUNDED.
     The word of a disputed job is that of the attested one but for its status; so is that
     of a disputed job whose operator was convicted, as its bonds are still with the court.
"""

from . import auction
from . import collateral
from . import eligibility
from . import escrow
from . import job_book
from . import job_terms
from . import quotes
from . import settlement
from ..interfaces import ICourt
from ..interfaces import IDisputes
from ..interfaces import IJobs

uses: collateral
uses: eligibility
uses: escrow
uses: job_book
uses: quotes
uses: settlement

# Zero: no order is judged.
COURT: public(immutable(ICourt))


@deploy
def __init__(court: ICourt):
    COURT = court


@external
def refuse(terms: IJobs.Terms, record: IJobs.Record):
    """
    @notice The requester of a REFUSABLE order turns the result down before the
            window ends: its escrow and the collateral are burned, both whole.
    @param terms The job.
    @param record The attested record.
    """
    assert msg.sender == terms.requester, "jobs: caller is not the requester"
    assert (
        terms.order.judged == job_terms.REFUSABLE
    ), "jobs: order without refusal"
    assert block.timestamp <= convert(record.attested_at, uint256) + convert(
        terms.challenge_window, uint256
    ), "jobs: challenge window is over"
    job: bytes32 = empty(bytes32)
    burned: uint256 = 0
    job, burned = job_book._recorded(terms, record, job_terms.ATTESTED)
    job_book._write(job, job_terms.REFUSED)
    escrow._burn(burned)
    seized: uint256 = collateral._burn(record.provider, job, terms.requester)
    log IJobs.Refused(
        job=job, provider=record.provider, burned=burned, seized=seized
    )


@external
def dispute(
    terms: IJobs.Terms,
    record: IJobs.Record,
    statement: IJobs.Statement,
    evidence: bytes32,
    from_credit: bool = False,
):
    """
    @notice The requester of a judged order disputes the result before the window ends,
            and puts up the bond.
    @param terms The job.
    @param record The attested record.
    @param statement What was attested.
    @param evidence sha256 of what the requester says about it; jurors get it off chain.
    @param from_credit Pay the bond from the caller's credit, not by transfer.
    """
    assert msg.sender == terms.requester, "jobs: caller is not the requester"
    assert job_terms._is_judged(terms.order.judged), "jobs: order is not judged"
    assert block.timestamp <= convert(record.attested_at, uint256) + convert(
        terms.challenge_window, uint256
    ), "jobs: challenge window is over"
    job: bytes32 = empty(bytes32)
    price: uint256 = 0
    job, price = job_book._recorded(terms, record, job_terms.ATTESTED)
    assert (
        job_terms._statement_hash(job, statement) == record.attestation
    ), "jobs: not what was attested"
    job_book._write(job, job_terms._record_word(record, job_terms.DISPUTED))
    bond: uint256 = extcall COURT.open(
        job,
        record.provider,
        msg.sender,
        convert(terms.order.judged, bytes32),
        statement.result,
        price,
        convert(terms.order.duration, uint256),
    )
    log IJobs.Disputed(
        job=job, provider=record.provider, evidence=evidence, bond=bond
    )
    escrow._take_in(bond, from_credit)


@external
def appeal(case: IDisputes.Case, from_credit: bool = False):
    """
    @notice The loser of a ruling appeals, and puts up the bond: the requester; or the
            provider's owner or operator.
    @param case The case, as the court has opened it.
    @param from_credit Pay the bond from the caller's credit, not by transfer.
    """
    bond: uint256 = extcall COURT.appeal(case, msg.sender)
    escrow._take_in(bond, from_credit)


@external
def conclude(terms: IJobs.Terms, record: IJobs.Record, case: IDisputes.Case):
    """
    @notice Carries out the court's final ruling. Anyone may call it, for nothing: of a
            seized collateral what the requester does not get is burned. What an appeal
            of the provider's side leaves of its bond goes to the payout address. Of a job
            that a conviction has ended meanwhile the bonds alone are paid out.
    @param terms The job.
    @param record The attested record.
    @param case The case, as the court has opened it.
    """
    # It reverts unless this case is disputed, and its ruling final.
    verdict: IDisputes.Verdict = extcall COURT.close(case)
    # DISPUTED, or REFUNDED by a conviction: no other job has a case.
    status: uint256 = job_terms._status(job_book._word(case.job))
    job: bytes32 = empty(bytes32)
    price: uint256 = 0
    job, price = job_book._recorded(terms, record, status)
    assert case.job == job, "jobs: case of another job"
    if status == job_terms.DISPUTED:
        if verdict.for_requester:
            # Nobody earns a bounty by a verdict, so no juror votes for one.
            settlement._refund(
                job, record.provider, terms.requester, price, record.provider
            )
        else:
            settlement._settle(job, record.provider, price, terms.fee_bps)
    for pay: IDisputes.Pay in verdict.pays:
        escrow._pay(pay.account, pay.amount)
        log IJobs.BondPaid(job=job, account=pay.account, amount=pay.amount)


@external
def convict(
    terms: IJobs.Terms,
    record: IJobs.Record,
    first: IJobs.Statement,
    first_signature: Bytes[65],
    second: IJobs.Statement,
    second_signature: Bytes[65],
):
    """
    @notice Ends a job by its operator's own word: an attestation of this job for another
            specification, or two with different results. The price goes back, the
            collateral is seized. Anyone may call it; a stranger earns the bounty, but for a
            job in dispute: a provider that is about to lose gains nothing by it. That
            dispute goes on, for its bonds alone.
    @param terms The job.
    @param record The attested record; anything while the job is assigned.
    @param first What an operator has signed.
    @param first_signature Its EIP-712 Attestation: of a key that was the provider's at any
           moment from the assignment to the attestation, or to now.
    @param second What else it has signed, or what is recorded, by whichever key; anything
           if the first is for another specification.
    @param second_signature The same for it; empty for what is recorded.
    """
    job: bytes32 = keccak256(abi_encode(terms))
    provider: address = record.provider
    price: uint256 = 0
    recorded: bytes32 = empty(bytes32)
    since: uint256 = convert(record.assigned_at, uint256)
    until: uint256 = convert(record.attested_at, uint256)
    word: uint256 = job_book._word(job)
    status: uint256 = job_terms._status(word)
    if status == job_terms.ASSIGNED:
        taken: job_terms.Assignment = job_terms._assignment(word)
        provider = taken.provider
        since = taken.assigned_at
        until = block.timestamp
        price = auction._price(
            terms.order.start_price,
            terms.order.max_price,
            convert(terms.order.auction, uint256),
            taken.assigned_at
            - convert(terms.posted_at, uint256)
            - taken.paused,
        )
        eligibility._free(provider, terms.order.min_score)
    else:
        if status != job_terms.DISPUTED:
            status = job_terms.ATTESTED
        job, price = job_book._recorded(terms, record, status)
        recorded = record.attestation
    operator: address = quotes._signer(
        job_terms._statement_hash(job, first), first_signature
    )
    assert collateral._spoke_for(
        operator, provider, since, until
    ), "jobs: not the operator's attestation"
    if first.spec == terms.order.spec:
        hashed: bytes32 = job_terms._statement_hash(job, second)
        assert (
            hashed == recorded
            or quotes._signer(hashed, second_signature) == operator
        ), "jobs: not the operator's attestation"
        assert first.result != second.result, "jobs: no fault"
    hunter: address = msg.sender
    if status == job_terms.DISPUTED:
        hunter = provider
    settlement._refund(job, provider, terms.requester, price, hunter)
    if status == job_terms.DISPUTED:
        job_book._write(job, job_terms._record_word(record, job_terms.REFUNDED))


@internal
@view
def _cover(order: IJobs.Order, operator: address) -> uint256:
    """
    @dev Seconds that a dispute over an order can take that is neither TRUSTED nor
         REFUSABLE; reverts if too few judge such orders besides the operator's own
         provider. A zero operator stands for anyone.
    """
    assert job_terms._is_judged(order.judged), "jobs: unknown way to judge"
    assert COURT.address != empty(address), "jobs: no court"
    return staticcall COURT.cover(
        convert(order.judged, bytes32),
        convert(order.duration, uint256),
        order.max_price,
        operator,
    )
