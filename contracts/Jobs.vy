# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Jobs: a result for a price
@license AGPL-3.0-only
@notice A tenant puts the price in escrow; a provider with collateral takes the
        job, attests a result and is paid after the challenge window; a job not
        attested in time is refunded and the collateral goes to the tenant.
        Trust model: nobody holds the money but this contract; the owner (a
        timelock) sets the fee and the window of future deals within fixed
        bounds; the guardian may stop new orders for a limited time.

        OPEN -> ASSIGNED -> ATTESTED -> SETTLED, with OPEN -> CANCELLED and
        ASSIGNED -> EXPIRED.

        Rules, numbered as in docs/specification.md:
        I-1  open escrows + credits + accrued fees = tokens received - sent;
        I-2  every state ends by a call that anyone can make: `cancel` after the
             open time, `expire` after the deadline, `finalize` after the window;
        I-5  a job ends once, and payout + refund + fee = escrow;
        I-10 only the edges above exist;
        I-11 fee and window are stored with the deal, later changes do not reach it.
@dev A job's id is the digest of its terms. The chain keeps one word a job:
     status in the low byte; while ASSIGNED also provider << 96 | assigned_at << 8;
     while ATTESTED the upper 31 bytes of the digest of its Record. Terms and
     records travel in events and calldata.
     Config, in the upper bits of the guard's word:
     fee 16 << 80 | window 32 << 96 | accrued fees 128 << 128.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator as eip712
from snekmate.utils import merkle_proof_verification as merkle

from .interfaces import IJobs
from .interfaces import IScores
from .interfaces import IStaking
from .modules import pause_guard
from .modules import ledger
from .modules import token_flow

initializes: ownable
initializes: eip712
initializes: ledger
initializes: pause_guard[ownable := ownable]

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: (
    ownable.owner,
    eip712.eip712Domain,
    ledger.credit_of,
    pause_guard.guardian,
    pause_guard.paused_until,
    pause_guard.next_pause,
    pause_guard.pause,
    pause_guard.unpause,
    pause_guard.set_guardian,
    pause_guard.MAX_PAUSE,
)

# ------------------------------------------------------------------ constants

# A word of 0 means that there is no such job.
OPEN: constant(uint256) = 1
ASSIGNED: constant(uint256) = 2
ATTESTED: constant(uint256) = 3
SETTLED: constant(uint256) = 4
CANCELLED: constant(uint256) = 5
EXPIRED: constant(uint256) = 6

MAX_BPS: constant(uint256) = 10_000
MAX_FEE_BPS: public(constant(uint256)) = 1_000
MIN_CHALLENGE_WINDOW: public(constant(uint256)) = 10
MAX_CHALLENGE_WINDOW: public(constant(uint256)) = 14 * 86_400
MAX_AUCTION: public(constant(uint256)) = 30 * 86_400
MAX_AMOUNT: constant(uint256) = 2**120 - 1

QUOTE_TYPEHASH: constant(bytes32) = keccak256(
    "Quote(address operator,address requester,bytes32 spec,uint256 price,uint256 collateral,uint64 duration,uint64 expires,uint256 nonce)"
)
ATTESTATION_TYPEHASH: constant(bytes32) = keccak256(
    "Attestation(bytes32 job,bytes32 spec,bytes32 result,bytes32 receipt,uint64 started,uint64 finished)"
)
STATUS_MASK: constant(uint256) = 255
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_128: constant(uint256) = 2**128 - 1
MASK_64: constant(uint256) = 2**64 - 1

# ----------------------------------------------------------------- immutables

PAYMENT_TOKEN: public(immutable(IERC20))
STAKING: public(immutable(IStaking))
# Zero: no proven scores exist, and no order may ask for one.
SCORES: public(immutable(IScores))
# Time after the auction in which a job can still be accepted.
OPEN_MARGIN: public(immutable(uint256))
# Time after the latest settlement in which a collateral can still be seized.
LOCK_MARGIN: public(immutable(uint256))
MAX_LOCK: immutable(uint256)
# Split of a seized collateral: the tenant's part, and the bounty's part of the rest.
VICTIM_BPS: public(immutable(uint256))
BOUNTY_BPS: public(immutable(uint256))

# -------------------------------------------------------------------- storage

state: public(HashMap[bytes32, uint256])
# operator -> nonce // 256 -> one bit a nonce
used_quotes: HashMap[address, HashMap[uint256, uint256]]
# Sum of the minimum scores of a provider's running jobs.
reserved_score: public(HashMap[address, uint256])
treasury: public(address)

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
    lock_margin: uint256,
    victim_bps: uint256,
    bounty_bps: uint256,
):
    """
    @notice Wires the contract.
    @param payment_token Plain ERC-20 in which jobs are paid.
    @param staking The provider registry; must list this contract as a manager.
    @param scores Source of proven scores, zero if there is none.
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
    assert payment_token.address != empty(address), "jobs: zero payment token"
    assert staking.address != empty(address), "jobs: zero staking"
    assert owner != empty(address), "jobs: zero owner"
    assert (
        open_margin > 0 and open_margin <= MAX_AUCTION
    ), "jobs: open margin out of bounds"
    assert victim_bps <= MAX_BPS, "jobs: victim share above 100 %"
    assert bounty_bps <= MAX_BPS // 2, "jobs: bounty above half"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    eip712.__init__("Teraproof", "1")
    ledger.__init__()
    pause_guard.__init__(initial_guardian)
    PAYMENT_TOKEN = payment_token
    STAKING = staking
    SCORES = scores
    OPEN_MARGIN = open_margin
    LOCK_MARGIN = lock_margin
    VICTIM_BPS = victim_bps
    BOUNTY_BPS = bounty_bps
    MAX_LOCK = staticcall staking.MAX_LOCK()
    assert lock_margin > 0, "jobs: zero lock margin"
    assert (
        MAX_CHALLENGE_WINDOW + lock_margin < MAX_LOCK
    ), "jobs: locks too short"
    self._set_treasury(treasury)
    self._set_fee(fee_bps)
    self._set_challenge_window(challenge_window)


# ------------------------------------------------------------ money in and out


@external
def deposit(amount: uint256):
    """
    @notice Adds to the caller's credit, from which orders can be paid.
    @param amount Payment token units, pulled from the caller.
    """
    self._deposit(amount)


@external
def deposit_with_permit(
    amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice `deposit` with an EIP-2612 permit in place of an allowance.
    @param amount Payment token units, pulled from the caller.
    @param deadline Last second at which the permit is accepted.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    token_flow._permit(PAYMENT_TOKEN, msg.sender, amount, deadline, v, r, s)
    self._deposit(amount)


@external
def withdraw(receiver: address = msg.sender) -> uint256:
    """
    @notice Pays out the caller's whole credit: payouts, refunds, deposits.
    @param receiver Receives the tokens.
    @return Payment token units.
    """
    amount: uint256 = ledger._take(msg.sender)
    log IJobs.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)
    token_flow._push(PAYMENT_TOKEN, receiver, amount)
    return amount


@external
def collect_fees() -> uint256:
    """
    @notice Sends the accrued fees to the treasury. Anyone may call it.
    @return Payment token units.
    """
    word: uint256 = pause_guard.word
    amount: uint256 = word >> 128
    assert amount > 0, "jobs: no fees"
    pause_guard.word = word & MASK_128
    log IJobs.FeesCollected(treasury=self.treasury, amount=amount)
    token_flow._push(PAYMENT_TOKEN, self.treasury, amount)
    return amount


# --------------------------------------------------------------------- orders


@external
def post(order: IJobs.Order, from_credit: bool = False) -> bytes32:
    """
    @notice Opens a job: escrows the maximum price and starts the auction.
    @param order What the tenant wants.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The job's id.
    """
    config: uint256 = pause_guard._check_not_paused()
    assert (
        order.start_price <= order.max_price
    ), "jobs: start price above maximum"
    assert (
        convert(order.auction, uint256) <= MAX_AUCTION
    ), "jobs: auction too long"
    assert order.min_score == 0 or SCORES.address != empty(
        address
    ), "jobs: no source of scores"
    job: bytes32 = self._open(order, config)
    self.state[job] = OPEN
    self._escrow(order.max_price, from_credit)
    return job


@external
def hire(
    quote: IJobs.Quote, signature: Bytes[65], from_credit: bool = False
) -> bytes32:
    """
    @notice Opens and assigns a job by an operator's signed quote.
    @param quote The offer; each nonce of an operator works once.
    @param signature The operator's EIP-712 signature of the quote.
    @param from_credit Pay from the caller's credit, not by transfer.
    @return The job's id.
    """
    config: uint256 = pause_guard._check_not_paused()
    assert block.timestamp <= convert(
        quote.expires, uint256
    ), "jobs: quote expired"
    assert quote.requester in [
        empty(address), msg.sender
    ], "jobs: quote is for another requester"
    struct_hash: bytes32 = keccak256(abi_encode(QUOTE_TYPEHASH, quote))
    assert (
        self._signer(struct_hash, signature) == quote.operator
    ), "jobs: not the operator's quote"
    self._use_quotes(quote.operator, quote.nonce >> 8, 1 << (quote.nonce & 255))

    order: IJobs.Order = IJobs.Order(
        spec=quote.spec,
        start_price=quote.price,
        max_price=quote.price,
        collateral=quote.collateral,
        duration=quote.duration,
        auction=0,
        min_stake=0,
        min_score=0,
        allow_root=empty(bytes32),
        nonce=convert(struct_hash, uint256),
    )
    job: bytes32 = self._open(order, config)
    provider: address = self._lock(
        quote.operator, job, order, self._challenge_window(config)
    )
    self.state[job] = self._assigned_word(provider)
    log IJobs.Accepted(
        job=job, provider=provider, operator=quote.operator, price=quote.price
    )
    self._escrow(quote.price, from_credit)
    return job


@external
def cancel_quotes(word: uint256, mask: uint256):
    """
    @notice Makes the caller's own quotes unusable.
    @param word Nonce divided by 256.
    @param mask One bit a nonce: bit n stands for word * 256 + n.
    """
    self.used_quotes[msg.sender][word] |= mask
    log IJobs.QuotesCancelled(operator=msg.sender, word=word, mask=mask)


@external
def accept(terms: IJobs.Terms, proof: DynArray[bytes32, 32] = []) -> uint256:
    """
    @notice Takes an open job at the price of this moment and locks collateral.
            The difference to the maximum is credited to the requester.
    @param terms The job.
    @param proof Merkle path to the provider's owner address, if the order has a list.
    @return The price in payment token units.
    """
    pause_guard._check_not_paused()
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == OPEN, "jobs: not open"
    assert block.timestamp <= self._open_until(terms), "jobs: no longer open"
    provider: address = self._lock(
        msg.sender, job, terms.order, convert(terms.challenge_window, uint256)
    )
    if terms.order.allow_root != empty(bytes32):
        # Walked here: `_verify` takes 255 nodes, and every call of `accept`
        # would pay for that much memory.
        node: bytes32 = keccak256(keccak256(abi_encode(provider)))
        for sibling: bytes32 in proof:
            node = merkle._hash_pair(node, sibling)
        assert node == terms.order.allow_root, "jobs: provider not allowed"
    if terms.order.min_score > 0:
        reserved: uint256 = (
            self.reserved_score[provider] + terms.order.min_score
        )
        assert (
            staticcall SCORES.score(provider) >= reserved
        ), "jobs: score too low"
        self.reserved_score[provider] = reserved
    price: uint256 = self._price_at(terms, block.timestamp)
    self.state[job] = self._assigned_word(provider)
    ledger._credit(terms.requester, terms.order.max_price - price)
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
    @notice Records a result. Anyone may relay the operator's signature; the
            operator itself needs none.
    @param terms The job.
    @param result sha256 of the result's manifest.
    @param receipt sha256 of the receipt.
    @param started Unix seconds at which the run started, as the operator says.
    @param finished Unix seconds at which the run ended, as the operator says.
    @param signature EIP-712 Attestation by the provider's present operator;
           empty if the operator is the caller.
    """
    job: bytes32 = self._job_id(terms)
    word: uint256 = self.state[job]
    assert word & STATUS_MASK == ASSIGNED, "jobs: not assigned"
    provider: address = convert(word >> 96, address)
    assigned_at: uint256 = (word >> 8) & MASK_64
    assert (
        block.timestamp <= assigned_at + convert(terms.order.duration, uint256)
    ), "jobs: deadline passed"
    attestation: bytes32 = keccak256(
        abi_encode(
            ATTESTATION_TYPEHASH,
            job,
            terms.order.spec,
            result,
            receipt,
            started,
            finished,
        )
    )
    operator: address = staticcall STAKING.operator_of(provider)
    # The operator's own transaction is its word; it may leave the signature out.
    if msg.sender != operator or len(signature) > 0:
        assert (
            self._signer(attestation, signature) == operator
        ), "jobs: not the operator's attestation"
    record: IJobs.Record = IJobs.Record(
        provider=provider,
        assigned_at=convert(assigned_at, uint64),
        attested_at=convert(block.timestamp, uint64),
        attestation=attestation,
    )
    self.state[job] = self._attested_word(record)
    log IJobs.Attested(
        job=job,
        provider=provider,
        result=result,
        receipt=receipt,
        started=started,
        finished=finished,
        assigned_at=record.assigned_at,
        attested_at=record.attested_at,
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
    self._settle(terms, record)


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
    self._settle(terms, record)


@external
def expire(terms: IJobs.Terms):
    """
    @notice Refunds a job that was not attested in time, and seizes the
            collateral. Anyone may call it and earns the bounty.
    @param terms The job.
    """
    job: bytes32 = self._job_id(terms)
    word: uint256 = self.state[job]
    assert word & STATUS_MASK == ASSIGNED, "jobs: not assigned"
    provider: address = convert(word >> 96, address)
    assigned_at: uint256 = (word >> 8) & MASK_64
    assert (
        block.timestamp > assigned_at + convert(terms.order.duration, uint256)
    ), "jobs: deadline not passed"
    self.state[job] = EXPIRED
    self._free_score(provider, terms)
    refund: uint256 = self._price_at(terms, assigned_at)
    ledger._credit(terms.requester, refund)
    seized: uint256 = extcall STAKING.seize(
        provider, job, terms.requester, msg.sender, VICTIM_BPS, BOUNTY_BPS
    )
    log IJobs.Expired(job=job, provider=provider, refund=refund, seized=seized)


@external
def cancel(terms: IJobs.Terms):
    """
    @notice Refunds an open job: the requester at any time, anyone once it can
            no longer be accepted.
    @param terms The job.
    """
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == OPEN, "jobs: not open"
    assert (
        msg.sender == terms.requester
        or block.timestamp > self._open_until(terms)
    ), "jobs: still open"
    self.state[job] = CANCELLED
    ledger._credit(terms.requester, terms.order.max_price)
    log IJobs.Cancelled(
        job=job, requester=terms.requester, refund=terms.order.max_price
    )


# ----------------------------------------------------------------- parameters


@external
def set_fee(fee_bps: uint256):
    """
    @notice Sets the fee of future deals (owner only).
    @param fee_bps Fee on payouts in 1/10,000, at most MAX_FEE_BPS.
    """
    ownable._check_owner()
    self._set_fee(fee_bps)


@external
def set_challenge_window(seconds: uint256):
    """
    @notice Sets the challenge window of future deals (owner only).
    @param seconds Between MIN_CHALLENGE_WINDOW and MAX_CHALLENGE_WINDOW.
    """
    ownable._check_owner()
    self._set_challenge_window(seconds)


@external
def set_treasury(treasury: address):
    """
    @notice Names who receives fees (owner only).
    @param treasury The receiver.
    """
    ownable._check_owner()
    self._set_treasury(treasury)


# ---------------------------------------------------------------------- views


@external
@view
def status(job: bytes32) -> uint256:
    """
    @notice Returns a job's status: 0 none, 1 open, 2 assigned, 3 attested,
            4 settled, 5 cancelled, 6 expired.
    @param job The job's id.
    """
    return self.state[job] & STATUS_MASK


@external
@view
def assignment(job: bytes32) -> (uint256, address, uint256):
    """
    @notice Returns a job's status and, while it is assigned, to whom and since when.
    @param job The job's id.
    @return Status, provider, unix seconds.
    """
    word: uint256 = self.state[job]
    if word & STATUS_MASK != ASSIGNED:
        return word & STATUS_MASK, empty(address), 0
    return ASSIGNED, convert(word >> 96, address), (word >> 8) & MASK_64


@external
@pure
def job_id(terms: IJobs.Terms) -> bytes32:
    """
    @notice Returns the id of a job.
    @param terms The job.
    """
    return self._job_id(terms)


@external
@pure
def attested_state(record: IJobs.Record) -> uint256:
    """
    @notice Returns the state word of a job attested with this record.
    @param record The attested record.
    """
    return self._attested_word(record)


@external
@pure
def price_at(terms: IJobs.Terms, time: uint256) -> uint256:
    """
    @notice Returns the price offered at a time.
    @param terms The job.
    @param time Unix seconds, not before the job was posted.
    """
    return self._price_at(terms, time)


@external
@view
def quote_used(operator: address, nonce: uint256) -> bool:
    """
    @notice Returns whether a quote's nonce was used or cancelled.
    @param operator Who signed.
    @param nonce The quote's nonce.
    """
    return self.used_quotes[operator][nonce >> 8] & (1 << (nonce & 255)) != 0


@external
@view
def fee_bps() -> uint256:
    """
    @notice Returns the fee of deals made now, in 1/10,000.
    """
    return (pause_guard.word >> 80) & MASK_16


@external
@view
def challenge_window() -> uint256:
    """
    @notice Returns the challenge window of deals made now, in seconds.
    """
    return self._challenge_window(pause_guard.word)


@external
@view
def accrued_fees() -> uint256:
    """
    @notice Returns fees not yet collected, in payment token units.
    """
    return pause_guard.word >> 128


# ------------------------------------------------------------------- internal


@internal
def _deposit(amount: uint256):
    assert amount > 0, "jobs: zero amount"
    ledger._credit(msg.sender, amount)
    log IJobs.Deposited(account=msg.sender, amount=amount)
    token_flow._pull(PAYMENT_TOKEN, msg.sender, amount)


@internal
def _open(order: IJobs.Order, config: uint256) -> bytes32:
    window: uint256 = self._challenge_window(config)
    assert (
        order.max_price > 0 and order.max_price <= MAX_AMOUNT
    ), "jobs: price out of bounds"
    assert order.collateral <= MAX_AMOUNT, "jobs: collateral out of bounds"
    assert order.duration > 0, "jobs: zero duration"
    # A job that no lock can cover could never be accepted.
    assert (
        convert(order.duration, uint256) + window + LOCK_MARGIN <= MAX_LOCK
    ), "jobs: duration too long"
    terms: IJobs.Terms = IJobs.Terms(
        requester=msg.sender,
        posted_at=convert(block.timestamp, uint64),
        challenge_window=convert(window, uint64),
        fee_bps=(config >> 80) & MASK_16,
        order=order,
    )
    job: bytes32 = self._job_id(terms)
    assert self.state[job] == 0, "jobs: exists"
    log IJobs.Posted(job=job, requester=msg.sender, terms=terms)
    return job


@internal
def _escrow(amount: uint256, from_credit: bool):
    # Last of all: the token is the only stranger that is called.
    if from_credit:
        ledger._debit(msg.sender, amount)
    else:
        token_flow._pull(PAYMENT_TOKEN, msg.sender, amount)


@internal
def _lock(
    operator: address, job: bytes32, order: IJobs.Order, window: uint256
) -> address:
    return extcall STAKING.lock(
        operator,
        job,
        order.collateral,
        block.timestamp
        + convert(order.duration, uint256)
        + window
        + LOCK_MARGIN,
        order.min_stake,
    )


@internal
def _settle(terms: IJobs.Terms, record: IJobs.Record):
    job: bytes32 = self._job_id(terms)
    word: uint256 = self.state[job]
    assert word & STATUS_MASK == ATTESTED, "jobs: not attested"
    assert word == self._attested_word(record), "jobs: not the attested record"
    self.state[job] = SETTLED
    self._free_score(record.provider, terms)
    price: uint256 = self._price_at(terms, convert(record.assigned_at, uint256))
    fee: uint256 = price * terms.fee_bps // MAX_BPS
    if fee > 0:
        # The sum of all fees is at most the token's supply; the topmost bits
        # hold it, so that even a larger one would revert and change nothing.
        pause_guard.word += fee << 128
    payout: address = extcall STAKING.unlock(record.provider, job)
    ledger._credit(payout, price - fee)
    log IJobs.Settled(
        job=job, provider=record.provider, paid=price - fee, fee=fee
    )


@internal
def _free_score(provider: address, terms: IJobs.Terms):
    if terms.order.min_score > 0:
        self.reserved_score[provider] -= terms.order.min_score


@internal
def _use_quotes(operator: address, word: uint256, mask: uint256):
    used: uint256 = self.used_quotes[operator][word]
    assert used & mask == 0, "jobs: quote is used"
    self.used_quotes[operator][word] = used | mask


@internal
@view
def _signer(struct_hash: bytes32, signature: Bytes[65]) -> address:
    # 65 bytes, or 64 in the compact form of EIP-2098; zero for any other length,
    # and no operator is zero.
    return ecdsa._recover_sig(
        eip712._hash_typed_data_v4(struct_hash), signature
    )


@internal
@pure
def _job_id(terms: IJobs.Terms) -> bytes32:
    return keccak256(abi_encode(terms))


@internal
@view
def _open_until(terms: IJobs.Terms) -> uint256:
    return (
        convert(terms.posted_at, uint256)
        + convert(terms.order.auction, uint256)
        + OPEN_MARGIN
    )


@internal
@pure
def _price_at(terms: IJobs.Terms, time: uint256) -> uint256:
    auction: uint256 = convert(terms.order.auction, uint256)
    elapsed: uint256 = time - convert(terms.posted_at, uint256)
    if elapsed >= auction:
        return terms.order.max_price
    return (
        terms.order.start_price
        + (terms.order.max_price - terms.order.start_price) * elapsed // auction
    )


@internal
@view
def _assigned_word(provider: address) -> uint256:
    return (
        (convert(provider, uint256) << 96) | (block.timestamp << 8) | ASSIGNED
    )


@internal
@pure
def _attested_word(record: IJobs.Record) -> uint256:
    return (
        convert(keccak256(abi_encode(record)), uint256) & ~STATUS_MASK
    ) | ATTESTED


@internal
@pure
def _challenge_window(config: uint256) -> uint256:
    return (config >> 96) & MASK_32


@internal
def _set_fee(fee_bps: uint256):
    assert fee_bps <= MAX_FEE_BPS, "jobs: fee out of bounds"
    pause_guard.word = (pause_guard.word & ~(MASK_16 << 80)) | (fee_bps << 80)
    log IJobs.FeeChanged(fee_bps=fee_bps)


@internal
def _set_challenge_window(seconds: uint256):
    assert (
        seconds >= MIN_CHALLENGE_WINDOW and seconds <= MAX_CHALLENGE_WINDOW
    ), "jobs: challenge window out of bounds"
    pause_guard.word = (pause_guard.word & ~(MASK_32 << 96)) | (seconds << 96)
    log IJobs.ChallengeWindowChanged(seconds=seconds)


@internal
def _set_treasury(treasury: address):
    assert treasury != empty(address), "jobs: zero treasury"
    self.treasury = treasury
    log IJobs.TreasuryChanged(treasury=treasury)
