# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
# pragma optimize codesize
"""
@title Leases: capacity by the second
@license AGPL-3.0-only
@notice A tenant puts a deposit in escrow; a provider with collateral takes the lease,
        says when it is ready, and from then on is paid by the second for the time in
        which it is alive (deals/liveness, deals/tenancy). The tenant closes at any
        time; the provider gives the notice that it promised or loses its collateral.
        Trust model: nobody holds the money but this contract; the owner (a timelock)
        sets the fee and the grace (the challenge window) of future leases within
        fixed bounds; the guardian may stop new leases for a limited time, in which
        the rate of an open one does not rise and its time does not run.

        OPEN -> ASSIGNED -> ACTIVE -> CLOSED, with OPEN -> CANCELLED and ASSIGNED ->
        CLOSED (not ready in time).

        Rules, numbered as in docs/specification.md:
        I-1  deposits held + credits + accrued fees = tokens received - sent;
        I-2  every state ends by a call that anyone can make: `cancel` after the open
             time, `expire` after `ready_within`, `close` after the end of the term or
             of a notice, once the deposit is used up, or after an accusation;
        I-6  rent paid <= rate * live seconds, and <= deposit;
        I-10 a lease moves along these edges only, and ends once;
        I-11 fee and grace are stored with the deal, later changes do not reach it;
        I-12 nobody gets richer at another's cost: rent, refund and fee are the whole
             deposit, and only who left without notice loses collateral;
        I-15 a deadline decides for whoever did its duty, whatever the others do.
@dev A lease's id is the digest of its terms, hashed in place: an internal function
     would copy them once more. What the chain keeps is in deals/lease_book; terms
     travel in events and calldata.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.utils import eip712_domain_separator as eip712

from .deals import collateral
from .deals import config
from .deals import eligibility
from .deals import escrow
from .deals import lease_book
from .deals import lease_terms
from .deals import liveness
from .deals import quotes
from .deals import shared_score
from .deals import tenancy
from .deals import tenure
from .interfaces import ILeases
from .interfaces import IReserves
from .interfaces import IScores
from .interfaces import IStaking
from .modules import ledger

implements: IScores
implements: IReserves

initializes: ownable
initializes: eip712
initializes: ledger
initializes: collateral
initializes: config[ownable := ownable]
initializes: eligibility
initializes: escrow[ownable := ownable, ledger := ledger]
initializes: lease_book
initializes: liveness[collateral := collateral]
initializes: quotes[eip712 := eip712]
initializes: shared_score[eligibility := eligibility]
# Longer than a line: mamushi cannot read what it makes of these.
# fmt: off
initializes: tenancy[
    collateral := collateral,
    eligibility := eligibility,
    escrow := escrow,
    lease_book := lease_book,
    liveness := liveness
]
initializes: tenure[
    escrow := escrow,
    lease_book := lease_book,
    liveness := liveness,
    tenancy := tenancy
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
    quotes.cancel_quotes,
    quotes.quote_used,
    collateral.STAKING,
    collateral.LOCK_MARGIN,
    collateral.VICTIM_BPS,
    collateral.BOUNTY_BPS,
    eligibility.SCORES,
    eligibility.reserved_score,
    shared_score.jobs,
    shared_score.setup_jobs,
    shared_score.score,
    lease_book.state,
    lease_book.states,
    lease_book.marks,
    lease_book.status,
    lease_terms.lease_id,
    liveness.MAX_GAP,
    liveness.number_of,
    liveness.heartbeat,
    liveness.live_seconds,
    liveness.last_heartbeat,
    tenancy.ABANDON,
    tenancy.MAX_SUSPENSION,
    tenancy.account,
    tenure.ready,
    tenure.suspend,
    tenure.resume,
    tenure.give_notice,
    tenure.leave,
    tenure.confirm,
    tenure.reject,
    tenure.top_up,
    tenure.settle,
    tenure.accuse,
    tenure.close,
    tenure.expire,
)

# ------------------------------------------------------------------ constants

MAX_AUCTION: public(constant(uint256)) = 30 * 86_400

# Time after the auction in which a lease can still be accepted.
OPEN_MARGIN: public(immutable(uint256))

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    payment_token: IERC20,
    staking: IStaking,
    scores: IScores,
    owner: address,
    initial_guardian: address,
    treasury: address,
    fee_bps: uint256,
    challenge_window: uint256,
    open_margin: uint256,
    max_gap: uint256,
    abandon: uint256,
    max_suspension: uint256,
    lock_margin: uint256,
    victim_bps: uint256,
    bounty_bps: uint256,
):
    """
    @notice Wires the contract.
    @param payment_token Plain ERC-20 in which leases are paid.
    @param staking The provider registry; must list this contract as a manager.
    @param scores Source of proven scores, zero if there is none.
    @param owner The timelock.
    @param initial_guardian May pause new leases.
    @param treasury Receives fees.
    @param fee_bps Fee on rent in 1/10,000.
    @param challenge_window Seconds of grace: from `ready` until a lease can no longer
           be rejected.
    @param open_margin Seconds after the auction in which a lease stays open.
    @param max_gap Seconds after a heartbeat that are paid without another one.
    @param abandon Seconds of silence after which a provider can be accused.
    @param max_suspension Seconds of suspension after which it can be.
    @param lock_margin Seconds after the latest end in which a collateral stays locked.
    @param victim_bps The tenant's part of a seized collateral in 1/10,000.
    @param bounty_bps The caller's part of the rest in 1/10,000, at most half.
    """
    assert owner != empty(address), "leases: zero owner"
    assert (
        open_margin > 0 and open_margin <= MAX_AUCTION
    ), "leases: open margin out of bounds"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    eip712.__init__("Teraproof", "1")
    ledger.__init__()
    config.__init__(initial_guardian, fee_bps, challenge_window)
    escrow.__init__(payment_token, treasury)
    lease_book.__init__()
    quotes.__init__()
    eligibility.__init__(scores)
    shared_score.__init__()
    collateral.__init__(
        staking,
        lock_margin,
        victim_bps,
        bounty_bps,
        config.MAX_CHALLENGE_WINDOW,
    )
    liveness.__init__(max_gap)
    tenancy.__init__(abandon, max_suspension)
    tenure.__init__()
    OPEN_MARGIN = open_margin


# --------------------------------------------------------------------- orders


@external
def open(order: ILeases.LeaseOrder, from_credit: bool = False) -> bytes32:
    """
    @notice Opens a lease: escrows the deposit and starts the auction.
    @param order What the tenant wants.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The lease's id.
    """
    made: config.Parameters = config._for_new_deal()
    assert (
        lease_terms._auction(order.times) <= MAX_AUCTION
    ), "leases: auction too long"
    shared_score._check_can_ask(lease_terms._min_score(order.backing))
    lease: bytes32 = self._open(order, made)
    lease_book._open(lease)
    escrow._take_in(lease_terms._deposit(order.money), from_credit)
    return lease


@external
def hire(
    quote: ILeases.LeaseQuote,
    signature: Bytes[65],
    deposit: uint256,
    from_credit: bool = False,
) -> bytes32:
    """
    @notice Opens and assigns a lease by an operator's signed quote.
    @param quote The offer; each nonce of an operator works once, and only under the
           consent that its upper 128 bits name.
    @param signature The operator's EIP-712 signature of the quote.
    @param deposit Payment token units to escrow.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The lease's id.
    """
    made: config.Parameters = config._for_new_deal()
    struct_hash: bytes32 = lease_terms._quote_hash(quote)
    quotes._use(
        struct_hash,
        signature,
        quote.operator,
        quote.requester,
        quote.expires,
        quote.nonce,
    )
    order: ILeases.LeaseOrder = lease_terms._order_of(
        quote, struct_hash, deposit
    )
    lease: bytes32 = self._open(order, made)
    provider: address = empty(address)
    consent: uint256 = 0
    provider, consent = collateral._lock(
        quote.operator,
        lease,
        quote.collateral,
        lease_terms._longest(order.times),
        0,
    )
    assert (
        quotes._consent_of(quote.nonce) == consent
    ), "leases: quote of an earlier consent"
    self._assign(lease, order, provider, 0)
    log ILeases.Accepted(
        lease=lease,
        provider=provider,
        operator=quote.operator,
        rate=quote.rate,
    )
    escrow._take_in(deposit, from_credit)
    return lease


# Calls Staking alone, which calls nobody (the reads of scores are static).
@reentrant
@external
def accept(
    terms: ILeases.LeaseTerms, proof: DynArray[bytes32, 32] = []
) -> uint256:
    """
    @notice Takes an open lease at the rate of this moment and locks collateral.
    @param terms The lease.
    @param proof Merkle path to the provider's owner address, if the order has a list.
    @return The rate in payment token units per second.
    """
    paused: uint256 = config._check_not_paused()
    lease: bytes32 = keccak256(abi_encode(terms))
    assert lease_book._status(lease) == lease_book.OPEN, "leases: not open"
    elapsed: uint256 = lease_terms._elapsed(terms.made, block.timestamp, paused)
    assert elapsed <= (
        lease_terms._auction(terms.order.times) + OPEN_MARGIN
    ), "leases: no longer open"
    provider: address = collateral._lock(
        msg.sender,
        lease,
        lease_terms._collateral(terms.order.backing),
        lease_terms._longest(terms.order.times),
        lease_terms._min_stake(terms.order.backing),
    )[0]
    if terms.order.allow_root != empty(bytes32):
        eligibility._check_listed(provider, terms.order.allow_root, proof)
    shared_score._reserve(provider, lease_terms._min_score(terms.order.backing))
    self._assign(lease, terms.order, provider, elapsed)
    rate: uint256 = lease_terms._rate(
        terms.order.money, terms.order.times, elapsed
    )
    log ILeases.Accepted(
        lease=lease, provider=provider, operator=msg.sender, rate=rate
    )
    return rate


@external
def cancel(terms: ILeases.LeaseTerms):
    """
    @notice Refunds an open lease: the requester at any time, anyone once it can no
            longer be accepted.
    @param terms The lease.
    """
    lease: bytes32 = keccak256(abi_encode(terms))
    assert lease_book._status(lease) == lease_book.OPEN, "leases: not open"
    # The pause is read for strangers only: the requester need not wait.
    assert (
        msg.sender == terms.requester
        or lease_terms._elapsed(terms.made, block.timestamp, config._paused())
        > lease_terms._auction(terms.order.times) + OPEN_MARGIN
    ), "leases: still open"
    deposit: uint256 = lease_terms._deposit(terms.order.money)
    lease_book._forget(lease)
    escrow._pay(terms.requester, deposit)
    log ILeases.Cancelled(
        lease=lease, requester=terms.requester, refund=deposit
    )


# ------------------------------------------------------------------- internal


@internal
def _open(order: ILeases.LeaseOrder, made: config.Parameters) -> bytes32:
    """
    @dev Checks what opened and hired leases have in common; returns the new id.
    """
    least: uint256 = lease_terms._start_rate(order.money)
    highest: uint256 = lease_terms._max_rate(order.money)
    deposit: uint256 = lease_terms._deposit(order.money)
    term: uint256 = lease_terms._term(order.times)
    assert least > 0 and least <= highest, "leases: rate out of bounds"
    assert (
        lease_terms._ready_within(order.times) > 0
    ), "leases: no time to be ready"
    assert term > made.challenge_window, "leases: term within the grace"
    assert (
        lease_terms._notice(order.times) <= term
    ), "leases: notice above the term"
    assert collateral._fits(
        lease_terms._longest(order.times)
    ), "leases: term too long"
    # So no lease is dry before its grace is over.
    assert deposit >= highest * (
        made.challenge_window + 1
    ), "leases: deposit too low"
    assert deposit <= highest * term, "leases: more than the term costs"
    terms: ILeases.LeaseTerms = ILeases.LeaseTerms(
        requester=msg.sender,
        made=lease_terms._made(
            block.timestamp,
            made.paused,
            made.challenge_window,
            made.fee_bps,
        ),
        order=order,
    )
    lease: bytes32 = keccak256(abi_encode(terms))
    assert lease_book._status(lease) == 0, "leases: exists"
    log ILeases.Opened(lease=lease, requester=msg.sender, terms=terms)
    return lease


@internal
def _assign(
    lease: bytes32,
    order: ILeases.LeaseOrder,
    provider: address,
    elapsed: uint256,
):
    """
    @dev Writes down who has taken a lease, and when.
    """
    lease_book._write(
        lease,
        lease_book.Lease(
            status=lease_book.ASSIGNED,
            confirmed=False,
            marked=False,
            number=liveness._number(provider),
            elapsed=elapsed,
            since=block.timestamp,
            deposited=lease_terms._deposit(order.money),
            base=0,
            paid=0,
        ),
    )
