# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Jobs: a result for a price
@license AGPL-3.0-only
@notice A tenant puts the price in escrow. A provider with collateral takes the job,
        attests a result, and is paid after the challenge window. A job that is not
        attested in time is refunded, and the collateral goes to the tenant.
        How a result is judged is chosen with the order: TRUSTED, by nobody;
        REFUSABLE, the tenant may burn price and collateral; else by the jurors of a
        capability (deals/contest).
        Nobody holds the money but this contract. The owner (a timelock) sets fee and
        window of future deals, within bounds. The guardian may stop new orders for a
        limited time, in which no price rises and no order's time runs.

        OPEN -> ASSIGNED -> ATTESTED -> SETTLED, with OPEN -> CANCELLED, ASSIGNED ->
        EXPIRED, ATTESTED -> REFUSED, and ATTESTED -> DISPUTED -> SETTLED or REFUNDED.

        Rules, numbered as in docs/specification.md:
        I-1  open escrows + credits + accrued fees = tokens received - sent;
        I-2  every state ends by a call that anyone can make: `cancel` after the open
             time, `expire`, `finalize`, and `conclude` after the ruling;
        I-5  a job ends once, and payout + refund + fee + burned = escrow;
        I-11 fee and window are stored with the deal, later changes do not reach it;
        I-12 nobody is paid by a refusal: both parts of it are burned.
@dev A job's id is the digest of its terms, hashed in place: an internal function
     would copy them once more. The chain keeps one word a job, in deals/job_book;
     terms and records travel in events and calldata.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.utils import eip712_domain_separator as eip712

from .deals import auction
from .deals import collateral
from .deals import config
from .deals import contest
from .deals import eligibility
from .deals import escrow
from .deals import job_book
from .deals import job_terms
from .deals import quotes
from .deals import settlement
from .interfaces import ICourt
from .interfaces import IJobs
from .interfaces import IScores
from .interfaces import IStaking
from .modules import ledger

initializes: ownable
initializes: eip712
initializes: ledger
initializes: collateral
initializes: config[ownable := ownable]
initializes: eligibility
initializes: escrow[ownable := ownable, ledger := ledger]
initializes: job_book
initializes: quotes[eip712 := eip712]
# mamushi cannot read what it makes of these.
# fmt: off
initializes: settlement[
    collateral := collateral, escrow := escrow, job_book := job_book
]
initializes: contest[
    collateral := collateral, eligibility := eligibility, escrow := escrow,
    job_book := job_book, quotes := quotes, settlement := settlement
]
# fmt: on

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: (
    ownable.owner,
    eip712.eip712Domain,
    ledger.credit_of,
    config.set_fee,
    config.set_challenge_window,
    config.set_guardian,
    config.pause,
    config.unpause,
    config.guardian,
    config.paused_until,
    config.next_pause,
    config.paused_seconds,
    config.fee_bps,
    config.challenge_window,
    config.MAX_PAUSE,
    config.MAX_FEE_BPS,
    config.MIN_CHALLENGE_WINDOW,
    config.MAX_CHALLENGE_WINDOW,
    escrow.deposit,
    escrow.deposit_with_permit,
    escrow.withdraw,
    escrow.collect_fees,
    escrow.set_treasury,
    escrow.treasury,
    escrow.accrued_fees,
    escrow.PAYMENT_TOKEN,
    escrow.BURNED,
    quotes.cancel_quotes,
    quotes.quote_used,
    collateral.STAKING,
    collateral.LOCK_MARGIN,
    collateral.VICTIM_BPS,
    collateral.BOUNTY_BPS,
    eligibility.SCORES,
    eligibility.reserved_score,
    job_book.state,
    job_book.states,
    job_book.status,
    job_terms.job_id,
    contest.COURT,
    contest.refuse,
    contest.dispute,
    contest.appeal,
    contest.conclude,
    contest.convict,
)

# ------------------------------------------------------------------ constants

MAX_AUCTION: public(constant(uint256)) = 30 * 86_400
MAX_AMOUNT: constant(uint256) = 2**120 - 1

# Time after the auction in which a job can still be accepted.
OPEN_MARGIN: public(immutable(uint256))

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    payment_token: IERC20,
    staking: IStaking,
    scores: IScores,
    court: ICourt,
    owner: address,
    initial_guardian: address,
    treasury: address,
    fee_bps: uint256,
    challenge_window: uint256,
    open_margin: uint256,
    lock_margin: uint256,
    victim_bps: uint256,
    bounty_bps: uint256,
):
    """
    @notice Wires the contract.
    @param payment_token Plain ERC-20 in which jobs are paid.
    @param staking The provider registry; must list this contract as a manager.
    @param scores Source of proven scores, zero if there is none.
    @param court Judges results, zero if there is none; its client is this contract.
    @param owner The timelock.
    @param initial_guardian May pause new orders.
    @param treasury Receives fees.
    @param fee_bps Fee on payouts in 1/10,000.
    @param challenge_window Seconds from attestation to settlement.
    @param open_margin Seconds after the auction in which a job stays open.
    @param lock_margin Seconds after the window in which a collateral stays locked.
    @param victim_bps The tenant's part of a seized collateral in 1/10,000.
    @param bounty_bps The caller's part of the rest in 1/10,000, at most half.
    """
    assert owner != empty(address), "jobs: zero owner"
    assert (
        open_margin > 0 and open_margin <= MAX_AUCTION
    ), "jobs: open margin out of bounds"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    eip712.__init__("Teraproof", "1")
    ledger.__init__()
    config.__init__(initial_guardian, fee_bps, challenge_window)
    escrow.__init__(payment_token, treasury)
    job_book.__init__()
    quotes.__init__()
    settlement.__init__()
    contest.__init__(court)
    eligibility.__init__(scores)
    collateral.__init__(
        staking,
        lock_margin,
        victim_bps,
        bounty_bps,
        config.MAX_CHALLENGE_WINDOW,
    )
    OPEN_MARGIN = open_margin


# --------------------------------------------------------------------- orders


@external
def post(order: IJobs.Order, from_credit: bool = False) -> bytes32:
    """
    @notice Opens a job: escrows the maximum price and starts the auction.
    @param order What the tenant wants.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The job's id.
    """
    made: config.Parameters = config._for_new_deal()
    assert (
        order.start_price <= order.max_price
    ), "jobs: start price above maximum"
    assert (
        convert(order.auction, uint256) <= MAX_AUCTION
    ), "jobs: auction too long"
    eligibility._check_can_ask(order.min_score)
    job: bytes32 = empty(bytes32)
    seconds: uint256 = 0
    job, seconds = self._open(order, made, empty(address))
    job_book._write(job, job_terms.OPEN)
    escrow._take_in(order.max_price, from_credit)
    return job


@external
def hire(
    quote: IJobs.Quote, signature: Bytes[65], from_credit: bool = False
) -> bytes32:
    """
    @notice Opens and assigns a job by an operator's signed quote.
    @param quote The offer; each nonce of an operator works once, and only under
           the consent that its upper 128 bits name.
    @param signature The operator's EIP-712 signature of the quote.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The job's id.
    """
    made: config.Parameters = config._for_new_deal()
    struct_hash: bytes32 = job_terms._quote_hash(quote)
    quotes._use(
        struct_hash,
        signature,
        quote.operator,
        quote.requester,
        quote.expires,
        quote.nonce,
    )

    order: IJobs.Order = job_terms._order_of(quote, struct_hash)
    job: bytes32 = empty(bytes32)
    seconds: uint256 = 0
    job, seconds = self._open(order, made, quote.operator)
    provider: address = empty(address)
    consent: uint256 = 0
    provider, consent = collateral._lock(
        quote.operator, job, quote.collateral, seconds, 0
    )
    assert (
        quotes._consent_of(quote.nonce) == consent
    ), "jobs: quote of an earlier consent"
    job_book._write(job, job_terms._assigned_word(provider, 0))
    log IJobs.Accepted(
        job=job, provider=provider, operator=quote.operator, price=quote.price
    )
    escrow._take_in(quote.price, from_credit)
    return job


# Calls Staking alone, which calls nobody (the read of a score is static).
@reentrant
@external
def accept(terms: IJobs.Terms, proof: DynArray[bytes32, 32] = []) -> uint256:
    """
    @notice Takes an open job at the price of this moment and locks collateral.
            The difference to the maximum is credited to the requester.
    @param terms The job.
    @param proof Merkle path to the provider's owner address, if the order has a list.
    @return The price in payment token units.
    """
    paused: uint256 = config._check_not_paused()
    job: bytes32 = keccak256(abi_encode(terms))
    assert job_book.state[job] == job_terms.OPEN, "jobs: not open"
    paused -= convert(terms.paused, uint256)
    elapsed: uint256 = (
        block.timestamp - convert(terms.posted_at, uint256) - paused
    )
    assert elapsed <= (
        convert(terms.order.auction, uint256) + OPEN_MARGIN
    ), "jobs: no longer open"
    seconds: uint256 = convert(terms.order.duration, uint256) + convert(
        terms.challenge_window, uint256
    )
    if terms.order.judged > job_terms.REFUSABLE:
        # Counted again, without the provider's own seats: nobody judges itself.
        seconds += contest._cover(terms.order, msg.sender)
    provider: address = empty(address)
    consent: uint256 = 0
    provider, consent = collateral._lock(
        msg.sender,
        job,
        terms.order.collateral,
        seconds,
        terms.order.min_stake,
    )
    if terms.order.allow_root != empty(bytes32):
        eligibility._check_listed(provider, terms.order.allow_root, proof)
    eligibility._reserve(provider, terms.order.min_score)
    price: uint256 = auction._price(
        terms.order.start_price,
        terms.order.max_price,
        convert(terms.order.auction, uint256),
        elapsed,
    )
    job_book._write(job, job_terms._assigned_word(provider, paused))
    escrow._pay(terms.requester, terms.order.max_price - price)
    log IJobs.Accepted(
        job=job, provider=provider, operator=msg.sender, price=price
    )
    return price


# Calls nobody that could call back (the read of Staking is static).
@reentrant
@external
def attest(
    terms: IJobs.Terms,
    result: bytes32,
    receipt: bytes32,
    started: uint64,
    finished: uint64,
    signature: Bytes[65],
):
    """
    @notice Records a result and frees the score that the job has reserved. Anyone
            may relay the operator's signature; the operator itself needs none.
    @param terms The job.
    @param result sha256 of the result's manifest.
    @param receipt sha256 of the receipt.
    @param started Unix seconds at which the run started, as the operator says.
    @param finished Unix seconds at which the run ended, as the operator says.
    @param signature EIP-712 Attestation by the provider's present operator;
           empty if the operator is the caller.
    """
    job: bytes32 = keccak256(abi_encode(terms))
    taken: job_terms.Assignment = job_terms._assignment(job_book.state[job])
    assert block.timestamp <= taken.assigned_at + convert(
        terms.order.duration, uint256
    ), "jobs: deadline passed"
    attestation: bytes32 = keccak256(
        abi_encode(
            job_terms.ATTESTATION_TYPEHASH,
            job,
            terms.order.spec,
            result,
            receipt,
            started,
            finished,
        )
    )
    operator: address = collateral._operator_of(taken.provider)
    # The operator's own transaction is its word; it may leave the signature out.
    if msg.sender != operator or len(signature) > 0:
        assert (
            quotes._signer(attestation, signature) == operator
        ), "jobs: not the operator's attestation"
    record: IJobs.Record = IJobs.Record(
        provider=taken.provider,
        assigned_at=convert(taken.assigned_at, uint64),
        attested_at=convert(block.timestamp, uint64),
        paused=convert(taken.paused, uint64),
        attestation=attestation,
    )
    job_book._write(job, job_terms._attested_word(record))
    eligibility._free(taken.provider, terms.order.min_score)
    log IJobs.Attested(
        job=job,
        provider=taken.provider,
        result=result,
        receipt=receipt,
        started=started,
        finished=finished,
        assigned_at=record.assigned_at,
        attested_at=record.attested_at,
        paused=record.paused,
    )


# ---------------------------------------------------------------------- exits


@external
def approve(terms: IJobs.Terms, record: IJobs.Record):
    """
    @notice The requester accepts the result before the window ends.
    @param terms The job.
    @param record The attested record.
    """
    assert msg.sender == terms.requester, "jobs: caller is not the requester"
    job: bytes32 = empty(bytes32)
    price: uint256 = 0
    job, price = job_book._recorded(terms, record, job_terms.ATTESTED)
    settlement._settle(job, record.provider, price, terms.fee_bps)


# Calls Staking alone, which calls nobody.
@reentrant
@external
def finalize(terms: IJobs.Terms, record: IJobs.Record):
    """
    @notice Pays the provider after the challenge window. Anyone may call it.
    @param terms The job.
    @param record The attested record.
    """
    assert block.timestamp > convert(record.attested_at, uint256) + convert(
        terms.challenge_window, uint256
    ), "jobs: challenge window is open"
    job: bytes32 = empty(bytes32)
    price: uint256 = 0
    job, price = job_book._recorded(terms, record, job_terms.ATTESTED)
    settlement._settle(job, record.provider, price, terms.fee_bps)


@external
def expire(terms: IJobs.Terms):
    """
    @notice Refunds a job that was not attested in time, and seizes the
            collateral. Anyone may call it; a stranger earns the bounty.
    @param terms The job.
    """
    job: bytes32 = keccak256(abi_encode(terms))
    taken: job_terms.Assignment = job_terms._assignment(job_book.state[job])
    assert block.timestamp > taken.assigned_at + convert(
        terms.order.duration, uint256
    ), "jobs: deadline not passed"
    job_book._write(job, job_terms.EXPIRED)
    eligibility._free(taken.provider, terms.order.min_score)
    refund: uint256 = auction._price(
        terms.order.start_price,
        terms.order.max_price,
        convert(terms.order.auction, uint256),
        taken.assigned_at - convert(terms.posted_at, uint256) - taken.paused,
    )
    escrow._pay(terms.requester, refund)
    seized: uint256 = collateral._seize(
        taken.provider, job, terms.requester, msg.sender
    )
    log IJobs.Expired(
        job=job, provider=taken.provider, refund=refund, seized=seized
    )


@external
def cancel(terms: IJobs.Terms):
    """
    @notice Refunds an open job: the requester at any time, anyone once it can
            no longer be accepted.
    @param terms The job.
    """
    job: bytes32 = keccak256(abi_encode(terms))
    assert job_book.state[job] == job_terms.OPEN, "jobs: not open"
    # The pause is read for strangers only: the requester need not wait.
    assert (
        msg.sender == terms.requester
        or block.timestamp
        - convert(terms.posted_at, uint256)
        - (config._paused() - convert(terms.paused, uint256))
        > convert(terms.order.auction, uint256) + OPEN_MARGIN
    ), "jobs: still open"
    job_book._write(job, job_terms.CANCELLED)
    escrow._pay(terms.requester, terms.order.max_price)
    log IJobs.Cancelled(
        job=job, requester=terms.requester, refund=terms.order.max_price
    )


# ------------------------------------------------------------------- internal


@internal
def _open(
    order: IJobs.Order, made: config.Parameters, operator: address
) -> (bytes32, uint256):
    """
    @dev Checks what posted and hired jobs have in common; returns the new id, and the
         seconds that the job may last once it is assigned. The operator is who takes it,
         zero if that is not known yet.
    """
    assert (
        order.max_price > 0 and order.max_price <= MAX_AMOUNT
    ), "jobs: price out of bounds"
    assert order.collateral <= MAX_AMOUNT, "jobs: collateral out of bounds"
    assert order.duration > 0, "jobs: zero duration"
    seconds: uint256 = (
        convert(order.duration, uint256) + made.challenge_window
    )
    if order.judged > job_terms.REFUSABLE:
        seconds += contest._cover(order, operator)
    assert collateral._fits(seconds), "jobs: duration too long"
    terms: IJobs.Terms = IJobs.Terms(
        requester=msg.sender,
        posted_at=convert(block.timestamp, uint64),
        challenge_window=convert(made.challenge_window, uint64),
        fee_bps=made.fee_bps,
        paused=convert(made.paused, uint64),
        order=order,
    )
    job: bytes32 = keccak256(abi_encode(terms))
    assert job_book.state[job] == 0, "jobs: exists"
    log IJobs.Posted(job=job, requester=msg.sender, terms=terms)
    return job, seconds
