# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Providers: keys, payout address, commission, limits
@license AGPL-3.0-only
@notice A provider is named by its owner address. Its operator key is bound by the
        key's own signature, each consent once: the nonce of a key's consent rises
        with every binding, so a key that was let go cannot be bound again by an
        old signature, and what it signed under an earlier consent is dead.
@dev Words packed by hand, low bits first:
     binding  provider 160 | nonce of the key's next consent 96
     payout   payout 160 | commission 16 | commission from then on 16 | then 64
     limits   most per order 128 | most in total 128
     operator key 160 | since when it speaks for the provider 96
     span     of a key that was let go: since when it spoke 128 | until when 128
"""

from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator as eip712

from ..interfaces import IStaking

uses: eip712

MAX_BPS: constant(uint256) = 10_000
MAX_TIME: constant(uint256) = 366 * 86_400
CONSENT_TYPEHASH: constant(bytes32) = keccak256(
    "OperatorConsent(address owner,address operator,uint256 nonce,uint64 expires)"
)
MASK_16: constant(uint256) = 2**16 - 1
MASK_128: constant(uint256) = 2**128 - 1
MASK_160: constant(uint256) = 2**160 - 1

COMMISSION_DELAY: public(immutable(uint256))

# One provider a key: an operator signs for one owner only.
bindings: HashMap[address, uint256]
operators: HashMap[address, uint256]
# provider -> key -> word. Of a key that came back the time between counts as well.
spans: HashMap[address, HashMap[address, uint256]]
payouts: HashMap[address, uint256]
limits: HashMap[address, uint256]
endpoint_digest: public(HashMap[address, bytes32])


@deploy
def __init__(commission_delay: uint256):
    """
    @notice Fixes how long a raised commission waits.
    @param commission_delay Seconds until it is in force.
    """
    assert (
        commission_delay > 0 and commission_delay <= MAX_TIME
    ), "staking: commission delay out of bounds"
    COMMISSION_DELAY = commission_delay


# ---------------------------------------------------------------- called by owners


@external
def register(
    operator: address,
    payout: address,
    commission_bps: uint256,
    max_lock_per_order: uint256,
    max_locked: uint256,
    endpoint: String[128],
    nonce: uint256,
    expires: uint64,
    consent: Bytes[65],
):
    """
    @notice Makes the caller a provider.
    @param operator Hot key of the agent, bound by its own signature.
    @param payout Receives job payouts and commission.
    @param commission_bps Share of rewards kept before delegators, in 1/10,000.
    @param max_lock_per_order Most TPF wei that one order may lock.
    @param max_locked Most TPF wei that all orders together may lock.
    @param endpoint Address of the agent's API; the chain keeps its digest.
    @param nonce Nonce of the consent: `consent_nonce` of the operator.
    @param expires Last second at which the consent is accepted.
    @param consent The operator's EIP-712 OperatorConsent.
    """
    assert self.operators[msg.sender] == 0, "staking: already registered"
    self._check_payout(payout)
    self._bind(operator, nonce, expires, consent)
    self.payouts[msg.sender] = self._pack_payout(
        payout, commission_bps, commission_bps, 0
    )
    self.limits[msg.sender] = self._pack_limits(max_lock_per_order, max_locked)
    self.endpoint_digest[msg.sender] = keccak256(endpoint)
    log IStaking.Registered(
        provider=msg.sender,
        operator=operator,
        payout=payout,
        commission_bps=commission_bps,
        max_lock_per_order=max_lock_per_order,
        max_locked=max_locked,
        endpoint=endpoint,
    )


@external
def set_operator(
    operator: address, nonce: uint256, expires: uint64, consent: Bytes[65]
):
    """
    @notice Replaces the operator key. The old key signs nothing any more, but what it
            has signed of work that was taken before still speaks against the provider.
    @param operator The new key; the old one may be bound again.
    @param nonce Nonce of the consent: `consent_nonce` of the new operator.
    @param expires Last second at which the consent is accepted.
    @param consent The new operator's EIP-712 OperatorConsent.
    """
    self._check(msg.sender)
    word: uint256 = self.operators[msg.sender]
    before: address = self._account(word)
    self.bindings[before] = self.bindings[before] & ~MASK_160
    since: uint256 = self.spans[msg.sender][before] & MASK_128
    if since == 0:
        since = word >> 160
    self.spans[msg.sender][before] = since | (block.timestamp << 128)
    self._bind(operator, nonce, expires, consent)
    log IStaking.OperatorChanged(provider=msg.sender, operator=operator)


@external
def set_payout(payout: address):
    """
    @notice Changes who receives job payouts and commission from now on.
    @param payout The new receiver.
    """
    self._check(msg.sender)
    self._check_payout(payout)
    self.payouts[msg.sender] = (self.payouts[msg.sender] & ~MASK_160) | convert(
        payout, uint256
    )
    log IStaking.PayoutChanged(provider=msg.sender, payout=payout)


@external
def set_endpoint(endpoint: String[128]):
    """
    @notice Announces another address of the agent's API.
    @param endpoint URL; the chain keeps its digest, the event carries it.
    """
    self._check(msg.sender)
    self.endpoint_digest[msg.sender] = keccak256(endpoint)
    log IStaking.EndpointChanged(provider=msg.sender, endpoint=endpoint)


@external
def set_commission(commission_bps: uint256):
    """
    @notice Changes the commission: a lower one is in force at once, a higher one
            after COMMISSION_DELAY. A raise that waits is dropped either way. An
            epoch's reward pays what was in force at the provider's last commit.
    @param commission_bps Share of rewards in 1/10,000.
    """
    self._check(msg.sender)
    word: uint256 = self.payouts[msg.sender]
    in_force: uint256 = self._commission_in(word)
    since: uint256 = block.timestamp
    if commission_bps <= in_force:
        in_force = commission_bps
    else:
        since += COMMISSION_DELAY
    self.payouts[msg.sender] = self._pack_payout(
        self._account(word), in_force, commission_bps, since
    )
    log IStaking.CommissionChanged(
        provider=msg.sender, commission_bps=commission_bps, since=since
    )


@external
def set_lock_limits(max_lock_per_order: uint256, max_locked: uint256):
    """
    @notice Sets how much of the owner's own stake the operator may put at risk.
            What is seized later lowers the total limit by as much.
    @param max_lock_per_order Most TPF wei that one order may lock.
    @param max_locked Most TPF wei that all orders together may lock.
    """
    self._check(msg.sender)
    self.limits[msg.sender] = self._pack_limits(max_lock_per_order, max_locked)
    log IStaking.LockLimitsChanged(
        provider=msg.sender,
        max_lock_per_order=max_lock_per_order,
        max_locked=max_locked,
    )


# --------------------------------------------------------------------------- views


@external
@view
@reentrant
def operator_of(provider: address) -> address:
    """
    @notice Returns the key that signs for a provider; zero if it is unknown.
    @param provider The provider's owner address.
    """
    return convert(self.operators[provider] & MASK_160, address)


@external
@view
@reentrant
def provider_of(operator: address) -> address:
    """
    @notice Returns the owner that a key signs for; zero if it signs for none.
    @param operator The key.
    """
    return self._account(self.bindings[operator])


@external
@view
def spoke_for(
    key: address, provider: address, since: uint256, until: uint256
) -> bool:
    """
    @notice Returns whether a key was the operator of a provider at any moment of a time.
    @param key The key, not zero.
    @param provider The provider's owner address.
    @param since First second, not 0.
    @param until Last second.
    """
    word: uint256 = self.operators[provider]
    span: uint256 = self.spans[provider][key]
    return (self._account(word) == key and word >> 160 <= until) or (
        span & MASK_128 <= until and span >> 128 >= since
    )


@external
@view
def consent_nonce(operator: address) -> uint256:
    """
    @notice Returns the nonce that the key's next consent must carry. The consent in
            force, if there is one, carried that less one.
    @param operator The key.
    """
    return self.bindings[operator] >> 160


@external
@view
def payout_of(provider: address) -> address:
    """
    @notice Returns who receives a provider's payouts.
    @param provider The provider's owner address.
    """
    return self._payout_of(provider)


@external
@view
def commission_of(provider: address) -> uint256:
    """
    @notice Returns the commission in force now, in 1/10,000.
    @param provider The provider's owner address.
    """
    return self._commission_of(provider)


@external
@view
def pending_commission(provider: address) -> (uint256, uint256):
    """
    @notice Returns the raised commission that waits.
    @param provider The provider's owner address.
    @return Commission in 1/10,000, unix seconds from which it is in force; 0 and 0
            if none waits.
    """
    word: uint256 = self.payouts[provider]
    if block.timestamp >= word >> 192:
        return 0, 0
    return (word >> 176) & MASK_16, word >> 192


@external
@view
def lock_limits(provider: address) -> (uint256, uint256):
    """
    @notice Returns how much the operator may lock, per order and in total.
    @param provider The provider's owner address.
    """
    return self._limits(provider)


# ------------------------------------------------------- internal: for other modules


@internal
@view
def _check(provider: address):
    """
    @dev Reverts unless a provider is registered.
    @param provider The provider's owner address.
    """
    assert self.operators[provider] != 0, "staking: not registered"


@internal
@view
def _provider_of(operator: address) -> (address, uint256):
    """
    @dev Who a key signs for; reverts if it is nobody.
    @param operator The key.
    @return The provider's owner address, nonce of the consent in force.
    """
    word: uint256 = self.bindings[operator]
    provider: address = self._account(word)
    assert provider != empty(address), "staking: unknown operator"
    # Binding has raised it by one.
    return provider, (word >> 160) - 1


@internal
@view
def _payout_of(provider: address) -> address:
    """
    @dev Who receives a provider's payouts.
    @param provider The provider's owner address.
    @return The payout address; zero if the provider is unknown.
    """
    return self._account(self.payouts[provider])


@internal
@view
def _commission_of(provider: address) -> uint256:
    """
    @dev The commission in force now.
    @param provider The provider's owner address.
    @return Commission in 1/10,000.
    """
    return self._commission_in(self.payouts[provider])


@internal
@view
def _is_insider(provider: address, account: address) -> bool:
    """
    @dev Whether an account is the provider itself: its owner, its operator or its
         payout address.
    @param provider The provider's owner address.
    @param account The account.
    @return True if it is one of them.
    """
    return (
        account == provider
        or account == self._account(self.operators[provider])
        or account == self._payout_of(provider)
    )


@internal
@view
def _limits(provider: address) -> (uint256, uint256):
    """
    @dev How much the operator may lock.
    @param provider The provider's owner address.
    @return TPF wei per order, and in total.
    """
    word: uint256 = self.limits[provider]
    return word & MASK_128, word >> 128


@internal
def _lower_limit(provider: address, amount: uint256):
    """
    @dev Lowers the total limit, down to zero at most.
    @param provider The provider's owner address.
    @param amount TPF wei.
    """
    per_order: uint256 = 0
    in_all: uint256 = 0
    per_order, in_all = self._limits(provider)
    self.limits[provider] = self._pack_limits(
        per_order, in_all - min(in_all, amount)
    )


# ------------------------------------------------------------------ internal: own use


@internal
def _bind(
    operator: address, nonce: uint256, expires: uint64, consent: Bytes[65]
):
    """
    @dev Binds a key to the caller, if the key has signed for that and is free.
    @param operator The key.
    @param nonce Nonce of the consent.
    @param expires Last second at which the consent is accepted.
    @param consent The key's EIP-712 OperatorConsent.
    """
    assert block.timestamp <= convert(
        expires, uint256
    ), "staking: consent expired"
    word: uint256 = self.bindings[operator]
    assert self._account(word) == empty(address), "staking: operator is taken"
    assert nonce == word >> 160, "staking: wrong consent nonce"
    digest: bytes32 = eip712._hash_typed_data_v4(
        keccak256(
            abi_encode(CONSENT_TYPEHASH, msg.sender, operator, nonce, expires)
        )
    )
    assert operator != empty(address), "staking: zero operator"
    assert (
        ecdsa._recover_sig(digest, consent) == operator
    ), "staking: not the operator's consent"
    self.bindings[operator] = convert(msg.sender, uint256) | (
        (nonce + 1) << 160
    )
    self.operators[msg.sender] = convert(operator, uint256) | (
        block.timestamp << 160
    )


@internal
@pure
def _check_payout(payout: address):
    """
    @dev Reverts for no receiver.
    @param payout The receiver.
    """
    assert payout != empty(address), "staking: zero payout"


@internal
@pure
def _account(word: uint256) -> address:
    """
    @dev The account in the low bits of a binding or a payout word.
    @param word The word.
    @return The account.
    """
    return convert(word & MASK_160, address)


@internal
@view
def _commission_in(word: uint256) -> uint256:
    """
    @dev The commission in force now.
    @param word The payout word.
    @return Commission in 1/10,000.
    """
    if block.timestamp < word >> 192:
        return (word >> 160) & MASK_16
    return (word >> 176) & MASK_16


@internal
@pure
def _pack_payout(
    payout: address, commission_bps: uint256, later_bps: uint256, since: uint256
) -> uint256:
    """
    @dev Packs a payout word.
    @param payout The payout address.
    @param commission_bps Commission before `since`, in 1/10,000.
    @param later_bps Commission from `since` on, in 1/10,000.
    @param since Unix seconds.
    @return The word.
    """
    assert later_bps <= MAX_BPS, "staking: commission above 100 %"
    return (
        convert(payout, uint256)
        | (commission_bps << 160)
        | (later_bps << 176)
        | (since << 192)
    )


@internal
@pure
def _pack_limits(per_order: uint256, in_all: uint256) -> uint256:
    """
    @dev Packs the lock limits.
    @param per_order TPF wei that one order may lock.
    @param in_all TPF wei that all orders together may lock.
    @return The word.
    """
    assert (
        per_order <= MASK_128 and in_all <= MASK_128
    ), "staking: limit above 128 bits"
    return per_order | (in_all << 128)
