# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Provider registry and stake pools
@license AGPL-3.0-only
@notice A provider is named by its owner address. Its pool holds active and
        unbonding TPF, each with its own shares. Trust model: managers listed
        here may lock an owner's own stake within the owner's limits, seize what
        they locked, slash pools and pay rewards; nobody else moves stake but
        who owns it. A new manager waits longer than anybody needs to leave.

        Rules, numbered as in docs/specification.md:
        I-1  the TPF held cover all active, unbonding and credited assets;
        I-2  stake leaves by `undelegate` and, UNBONDING later,
             `withdraw_unbonded`; expired locks are released by anyone;
        I-3  a lock never exceeds the owner's own unlocked assets, expires within
             MAX_LOCK, and cannot be seized after that; a seizure takes at most
             its lock, a slash at most the pool;
        I-4  a slash is pro rata over active and unbonding shares and is burned
             whole; a seizure touches the owner's shares alone;
        I-11 only the timelock names managers, after MANAGER_DELAY.
@dev Words packed by hand, low bits first:
     profile  operator 160 | active generation 32 | unbonding generation 32
     payout   payout 160 | commission 16 | previous commission 16 | since 48
     limits   most per order 128 | most in all 128
     assets   active 128 | locked 128
     shares   active 128 | owner's part of them 128
     unbond   unbonding assets 128 | unbonding shares 128
     account  active shares 128 | generation 32 | tickets 32
     ticket   unbonding shares 128 | generation 32 | ready at 64
     lock     amount 128 | expires at 64
     manager  permissions 8 | active from 64
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator as eip712

from .interfaces import IBurnable
from .interfaces import IMintable
from .interfaces import IStaking
from .modules import ledger
from .modules import shares
from .modules import token_flow

implements: IStaking

initializes: ownable
initializes: eip712
initializes: ledger

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: (
    ownable.owner,
    eip712.eip712Domain,
    ledger.credit_of,
)

# ------------------------------------------------------------------ constants

MAX_BPS: constant(uint256) = 10_000
MAX_TIME: constant(uint256) = 366 * 86_400
MANAGER_MARGIN: public(constant(uint256)) = 86_400
CONSENT_TYPEHASH: constant(bytes32) = keccak256(
    "OperatorConsent(address owner,address operator,uint64 expires)"
)
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_48: constant(uint256) = 2**48 - 1
MASK_64: constant(uint256) = 2**64 - 1
MASK_160: constant(uint256) = 2**160 - 1

# ----------------------------------------------------------------- immutables

TOKEN: public(immutable(IERC20))
UNBONDING: public(immutable(uint256))
MAX_LOCK: public(immutable(uint256))
COMMISSION_DELAY: public(immutable(uint256))
MANAGER_DELAY: public(immutable(uint256))
DEPLOYER: public(immutable(address))

# -------------------------------------------------------------------- storage

sealed: public(bool)
managers: HashMap[address, uint256]
# One provider a key: an operator signs for one owner only.
provider_of: public(HashMap[address, address])
profiles: HashMap[address, uint256]
payouts: HashMap[address, uint256]
limits: HashMap[address, uint256]
endpoint_digest: public(HashMap[address, bytes32])
pool_assets: HashMap[address, uint256]
pool_shares: HashMap[address, uint256]
pool_unbonding: HashMap[address, uint256]
# provider -> account
accounts: HashMap[address, HashMap[address, uint256]]
# provider -> account -> number
tickets: HashMap[address, HashMap[address, HashMap[uint256, uint256]]]
# digest of (manager, provider, id)
locks: HashMap[bytes32, uint256]
# TPF wei ever seized from a provider: stake that a seizure has moved is elsewhere.
seized: HashMap[address, uint256]

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    token: IERC20,
    owner: address,
    unbonding: uint256,
    max_lock: uint256,
    commission_delay: uint256,
):
    """
    @notice Wires the contract. The deployer names the first managers, then seals.
    @param token TPF.
    @param owner The timelock.
    @param unbonding Seconds from `undelegate` to `withdraw_unbonded`.
    @param max_lock Longest life of a lock in seconds.
    @param commission_delay Seconds until a raised commission is in force.
    """
    assert token.address != empty(address), "staking: zero token"
    assert owner != empty(address), "staking: zero owner"
    assert (
        unbonding > 0 and unbonding <= MAX_TIME
    ), "staking: unbonding out of bounds"
    assert (
        max_lock > 0 and max_lock <= MAX_TIME
    ), "staking: max lock out of bounds"
    assert (
        commission_delay > 0 and commission_delay <= MAX_TIME
    ), "staking: commission delay out of bounds"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    eip712.__init__("Teraproof", "1")
    ledger.__init__()
    TOKEN = token
    UNBONDING = unbonding
    MAX_LOCK = max_lock
    COMMISSION_DELAY = commission_delay
    # An owner's locks end first, and only then can its stake begin to unbond.
    MANAGER_DELAY = unbonding + max_lock + MANAGER_MARGIN
    DEPLOYER = msg.sender


# ------------------------------------------------------------------- managers


@external
def setup_manager(manager: address, permissions: IStaking.Permission):
    """
    @notice Names a manager that is active at once (deployer, before `seal`).
    @param manager The contract.
    @param permissions What it may do.
    """
    assert msg.sender == DEPLOYER and not self.sealed, "staking: not in set-up"
    self._add_manager(manager, permissions, block.timestamp)


@external
def seal():
    """
    @notice Ends the set-up; from now on the timelock alone names managers.
    """
    assert msg.sender == DEPLOYER and not self.sealed, "staking: not in set-up"
    self.sealed = True
    log IStaking.Sealed()


@external
def announce_manager(manager: address, permissions: IStaking.Permission):
    """
    @notice Names a manager that becomes active MANAGER_DELAY later (owner only),
            so that everybody who does not trust it can leave first.
    @param manager The contract.
    @param permissions What it may do.
    """
    ownable._check_owner()
    self._add_manager(manager, permissions, block.timestamp + MANAGER_DELAY)


@external
def remove_manager(manager: address):
    """
    @notice Takes all permissions from a manager (owner only). Locks that it made
            end by release, seizure or expiry.
    @param manager The contract.
    """
    ownable._check_owner()
    assert self.managers[manager] != 0, "staking: unknown manager"
    self.managers[manager] = 0
    log IStaking.ManagerRemoved(manager=manager)


@external
@view
def manager_of(manager: address) -> (IStaking.Permission, uint256):
    """
    @notice Returns a manager's permissions and the time from which it has them.
    @param manager The contract.
    @return Permissions, unix seconds; nothing and 0 for who is no manager.
    """
    word: uint256 = self.managers[manager]
    return convert(word & 255, IStaking.Permission), word >> 8


# ------------------------------------------------------------------- registry


@external
def register(
    operator: address,
    payout: address,
    commission_bps: uint256,
    max_lock_per_order: uint256,
    max_locked: uint256,
    endpoint: String[128],
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
    @param expires Last second at which the consent is accepted.
    @param consent The operator's EIP-712 OperatorConsent.
    """
    assert self.profiles[msg.sender] == 0, "staking: already registered"
    assert payout != empty(address), "staking: zero payout"
    assert commission_bps <= MAX_BPS, "staking: commission above 100 %"
    self._bind_operator(msg.sender, operator, expires, consent)
    self.profiles[msg.sender] = convert(operator, uint256)
    self.payouts[msg.sender] = (
        convert(payout, uint256)
        | (commission_bps << 160)
        | (commission_bps << 176)
    )
    self.limits[msg.sender] = shares._pack(max_lock_per_order, max_locked)
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
def set_operator(operator: address, expires: uint64, consent: Bytes[65]):
    """
    @notice Replaces the operator key. The old key signs nothing any more.
    @param operator The new key.
    @param expires Last second at which the consent is accepted.
    @param consent The new operator's EIP-712 OperatorConsent.
    """
    profile: uint256 = self._profile(msg.sender)
    self.provider_of[convert(profile & MASK_160, address)] = empty(address)
    self._bind_operator(msg.sender, operator, expires, consent)
    self.profiles[msg.sender] = (profile & ~MASK_160) | convert(
        operator, uint256
    )
    log IStaking.OperatorChanged(provider=msg.sender, operator=operator)


@external
def set_payout(payout: address):
    """
    @notice Changes who receives job payouts and commission from now on.
    @param payout The new receiver.
    """
    self._check_registered(msg.sender)
    assert payout != empty(address), "staking: zero payout"
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
    self._check_registered(msg.sender)
    self.endpoint_digest[msg.sender] = keccak256(endpoint)
    log IStaking.EndpointChanged(provider=msg.sender, endpoint=endpoint)


@external
def set_commission(commission_bps: uint256):
    """
    @notice Changes the commission: a lower one is in force at once, also for
            epochs not yet claimed; a higher one after COMMISSION_DELAY, and not
            again before it was in force for as long.
    @param commission_bps Share of rewards in 1/10,000.
    """
    self._check_registered(msg.sender)
    assert commission_bps <= MAX_BPS, "staking: commission above 100 %"
    word: uint256 = self.payouts[msg.sender]
    since: uint256 = word >> 192
    previous: uint256 = (word >> 176) & MASK_16
    in_force: uint256 = self._commission_at(msg.sender, block.timestamp)
    effective: uint256 = block.timestamp
    if commission_bps <= in_force:
        # `since` stays: no epoch of the past pays more than it did.
        previous = min(previous, commission_bps)
    else:
        if block.timestamp >= since:
            # Only one past change is kept. The next raise waits until the epochs
            # before the last one could all be claimed.
            assert (
                block.timestamp >= since + COMMISSION_DELAY
            ), "staking: commission was raised too recently"
            previous = in_force
        # Else a raise that still waits is replaced.
        since = block.timestamp + COMMISSION_DELAY
        effective = since
    self.payouts[msg.sender] = (
        (word & MASK_160)
        | (commission_bps << 160)
        | (previous << 176)
        | (since << 192)
    )
    log IStaking.CommissionChanged(
        provider=msg.sender, commission_bps=commission_bps, since=effective
    )


@external
def set_lock_limits(max_lock_per_order: uint256, max_locked: uint256):
    """
    @notice Sets how much of the owner's own stake the operator may put at risk.
            What is seized later lowers the limit in all by as much.
    @param max_lock_per_order Most TPF wei that one order may lock.
    @param max_locked Most TPF wei that all orders together may lock.
    """
    self._check_registered(msg.sender)
    self.limits[msg.sender] = shares._pack(max_lock_per_order, max_locked)
    log IStaking.LockLimitsChanged(
        provider=msg.sender,
        max_lock_per_order=max_lock_per_order,
        max_locked=max_locked,
    )


# ---------------------------------------------------------------------- stake


@external
def delegate(provider: address, amount: uint256) -> uint256:
    """
    @notice Adds stake behind a provider; an owner stakes by naming itself.
    @param provider The provider's owner address.
    @param amount TPF wei, pulled from the caller.
    @return Shares received.
    """
    return self._delegate(provider, amount)


@external
def delegate_with_permit(
    provider: address,
    amount: uint256,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> uint256:
    """
    @notice `delegate` with an EIP-2612 permit in place of an allowance.
    @param provider The provider's owner address.
    @param amount TPF wei, pulled from the caller.
    @param deadline Last second at which the permit is accepted.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    @return Shares received.
    """
    token_flow._permit(TOKEN, msg.sender, amount, deadline, v, r, s)
    return self._delegate(provider, amount)


@external
def undelegate(provider: address, amount: uint256) -> uint256:
    """
    @notice Moves stake from active to unbonding: it earns nothing any more, and
            can still be slashed until it is withdrawn.
    @param provider The provider's owner address.
    @param amount Active shares of the caller.
    @return Number of the ticket that `withdraw_unbonded` takes.
    """
    profile: uint256 = self._profile(provider)
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])

    account: uint256 = self.accounts[provider][msg.sender]
    held: uint256 = self._shares_of(provider, msg.sender, profile, owned)
    assert amount > 0 and amount <= held, "staking: not that many shares"
    assets: uint256 = shares._to_assets(amount, active, total)
    active -= assets
    total -= amount
    if msg.sender == provider:
        owned -= amount
        assert (
            shares._to_assets(owned, active, total) >= locked
        ), "staking: stake is locked"

    number: uint256 = (account >> 160) & MASK_32
    self.accounts[provider][msg.sender] = self._account(
        0 if msg.sender == provider else held - amount, profile, number + 1
    )
    self.pool_assets[provider] = shares._pack(active, locked)
    self.pool_shares[provider] = shares._pack(total, owned)

    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = shares._unpack(self.pool_unbonding[provider])
    received: uint256 = shares._to_shares(assets, leaving, leaving_shares)
    self.pool_unbonding[provider] = shares._pack(
        leaving + assets, leaving_shares + received
    )
    ready_at: uint256 = block.timestamp + UNBONDING
    self.tickets[provider][msg.sender][number] = (
        received | (((profile >> 192) & MASK_32) << 128) | (ready_at << 160)
    )
    log IStaking.Undelegated(
        provider=provider,
        account=msg.sender,
        ticket=number,
        assets=assets,
        shares=amount,
        ready_at=ready_at,
    )
    return number


@external
def withdraw_unbonded(
    provider: address, number: uint256, receiver: address = msg.sender
) -> uint256:
    """
    @notice Pays out a ticket, UNBONDING after `undelegate`.
    @param provider The provider's owner address.
    @param number The ticket.
    @param receiver Receives the TPF.
    @return TPF wei; 0 if all was slashed meanwhile.
    """
    word: uint256 = self.tickets[provider][msg.sender][number]
    assert word != 0, "staking: no such ticket"
    assert block.timestamp >= word >> 160, "staking: still unbonding"
    self.tickets[provider][msg.sender][number] = 0

    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = shares._unpack(self.pool_unbonding[provider])
    amount: uint256 = self._ticket_shares(provider, word)
    assets: uint256 = shares._to_assets(amount, leaving, leaving_shares)
    self.pool_unbonding[provider] = shares._pack(
        leaving - assets, leaving_shares - amount
    )
    log IStaking.Unbonded(
        provider=provider,
        account=msg.sender,
        receiver=receiver,
        ticket=number,
        assets=assets,
    )
    if assets > 0:
        token_flow._push(TOKEN, receiver, assets)
    return assets


@external
def withdraw(receiver: address = msg.sender) -> uint256:
    """
    @notice Pays out the caller's credit: seizures, bounties, commission.
    @param receiver Receives the TPF.
    @return TPF wei.
    """
    amount: uint256 = ledger._take(msg.sender)
    log IStaking.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)
    token_flow._push(TOKEN, receiver, amount)
    return amount


# ------------------------------------------------- called by managers: locks


@external
@reentrant
def lock(
    operator: address,
    id: bytes32,
    amount: uint256,
    expires_at: uint256,
    min_stake: uint256,
) -> (address, uint256):
    """
    @notice Locks collateral of the operator's owner for one order (LOCK).
    @param operator The key that took the order.
    @param id The order, unique to the calling manager and the provider.
    @param amount TPF wei; 0 locks nothing and only checks.
    @param expires_at Last second at which the lock can be seized.
    @param min_stake Active TPF wei that must be behind the provider.
    @return The provider's owner address, and the consent in force (0 until
            consents are numbered).
    """
    self._check_permission(IStaking.Permission.LOCK)
    provider: address = self.provider_of[operator]
    assert provider != empty(address), "staking: unknown operator"
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    assert active >= min_stake, "staking: stake too low"
    if amount == 0:
        return provider, 0

    assert expires_at >= block.timestamp, "staking: lock is over"
    assert expires_at <= block.timestamp + MAX_LOCK, "staking: lock too long"
    per_order: uint256 = 0
    in_all: uint256 = 0
    per_order, in_all = shares._unpack(self.limits[provider])
    assert amount <= per_order, "staking: above the owner's limit per order"
    locked += amount
    assert locked <= in_all, "staking: above the owner's limit in all"
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    assert (
        shares._to_assets(owned, active, total) >= locked
    ), "staking: own stake too low"
    key: bytes32 = self._lock_key(msg.sender, provider, id)
    assert self.locks[key] == 0, "staking: lock exists"
    self.locks[key] = amount | (expires_at << 128)
    # `locked` is within the limit in all, which has 128 bits.
    self.pool_assets[provider] = active | (locked << 128)
    log IStaking.Locked(
        provider=provider,
        manager=msg.sender,
        id=id,
        amount=amount,
        expires_at=expires_at,
    )
    return provider, 0


@external
@reentrant
def unlock(provider: address, id: bytes32) -> address:
    """
    @notice Ends a lock of the caller; does nothing if there is none, so that a
            released lock never blocks a settlement.
    @param provider The provider's owner address.
    @param id The order.
    @return Who receives the provider's payouts.
    """
    self._end_lock(msg.sender, provider, id)
    return self._payout_of(provider)


@external
def release(manager: address, provider: address, id: bytes32):
    """
    @notice Ends a lock that has expired. Anyone may call it.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    """
    word: uint256 = self.locks[self._lock_key(manager, provider, id)]
    assert word != 0, "staking: no such lock"
    assert block.timestamp > word >> 128, "staking: lock has not expired"
    self._end_lock(manager, provider, id)


@external
def seize(
    provider: address,
    id: bytes32,
    victim: address,
    hunter: address,
    victim_bps: uint256,
    bounty_bps: uint256,
) -> uint256:
    """
    @notice Takes a lock of the caller from the owner's shares: to the victim
            first, a bounty of the rest to who proved the fault, the remainder
            is burned. The owner's limit in all falls by what is taken. An
            expired or missing lock takes nothing.
    @param provider The provider's owner address.
    @param id The order.
    @param victim The harmed tenant.
    @param hunter Who proved the fault.
    @param victim_bps The victim's share in 1/10,000.
    @param bounty_bps The hunter's share of the rest in 1/10,000, at most half.
    @return TPF wei taken, at most the lock and the owner's own assets.
    """
    assert victim_bps <= MAX_BPS, "staking: victim share above 100 %"
    assert bounty_bps <= MAX_BPS // 2, "staking: bounty above half"
    word: uint256 = self._end_lock(msg.sender, provider, id)
    if word == 0 or block.timestamp > word >> 128:
        return 0
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    taken: uint256 = min(
        word & shares.MASK, shares._to_assets(owned, active, total)
    )
    gone: uint256 = shares._to_burn(taken, active, total)
    self.pool_assets[provider] = shares._pack(active - taken, locked)
    self.pool_shares[provider] = shares._pack(total - gone, owned - gone)
    # The limit in all is what the operator can lose until the owner renews it,
    # not only what it can lose at once.
    per_order: uint256 = 0
    in_all: uint256 = 0
    per_order, in_all = shares._unpack(self.limits[provider])
    self.limits[provider] = shares._pack(per_order, in_all - min(in_all, taken))
    self.seized[provider] += taken

    to_victim: uint256 = taken * victim_bps // MAX_BPS
    bounty: uint256 = (taken - to_victim) * bounty_bps // MAX_BPS
    burned: uint256 = taken - to_victim - bounty
    ledger._credit(victim, to_victim)
    ledger._credit(hunter, bounty)
    self._burn(burned)
    log IStaking.Seized(
        provider=provider,
        manager=msg.sender,
        id=id,
        victim=victim,
        to_victim=to_victim,
        hunter=hunter,
        bounty=bounty,
        burned=burned,
    )
    return taken


# ------------------------------------ called by managers: slashes and rewards


@external
def slash(provider: address, amount: uint256) -> uint256:
    """
    @notice Burns stake for a protocol fault (SLASH), pro rata from every active
            and unbonding share. Shares that have become too many for what is
            left are divided, in a new generation.
    @param provider The provider's owner address.
    @param amount TPF wei.
    @return TPF wei taken.
    """
    self._check_permission(IStaking.Permission.SLASH)
    profile: uint256 = self._profile(provider)
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = shares._unpack(self.pool_unbonding[provider])
    if active + leaving == 0:
        return 0
    taken: uint256 = min(amount, active + leaving)
    from_unbonding: uint256 = taken * leaving // (active + leaving)
    from_active: uint256 = taken - from_unbonding

    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    active -= from_active
    divisor: uint256 = 0
    older: uint256 = 0
    divisor, older = shares._rebase(active, total)
    if older > 0:
        self.pool_shares[provider] = shares._pack(
            total // divisor, owned // divisor
        )
        profile = self._age(profile, 160, older)
    self.pool_assets[provider] = shares._pack(active, locked)

    if from_unbonding > 0:
        leaving -= from_unbonding
        older_leaving: uint256 = 0
        divisor, older_leaving = shares._rebase(leaving, leaving_shares)
        self.pool_unbonding[provider] = shares._pack(
            leaving, leaving_shares // divisor
        )
        profile = self._age(profile, 192, older_leaving)
        older += older_leaving
    if older > 0:
        self.profiles[provider] = profile

    self._burn(taken)
    log IStaking.Slashed(
        provider=provider,
        manager=msg.sender,
        from_active=from_active,
        from_unbonding=from_unbonding,
    )
    return taken


@external
def reward(provider: address, amount: uint256, earned_at: uint256):
    """
    @notice Pays a reward into a pool (REWARD): the commission in force at
            `earned_at` is credited to the payout address, the rest raises the
            price of active shares. With next to no active shares all is credited:
            the virtual ones would keep too much of it.
    @param provider The provider's owner address.
    @param amount TPF wei, pulled from the manager.
    @param earned_at End of the epoch in which it was earned, unix seconds.
    """
    self._reward(provider, amount, earned_at)
    token_flow._pull(TOKEN, msg.sender, amount)


@external
def reward_minted(provider: address, amount: uint256, earned_at: uint256):
    """
    @notice `reward` with TPF that was minted into this contract in this very
            transaction, for less gas.
    @param provider The provider's owner address.
    @param amount TPF wei.
    @param earned_at End of the epoch in which it was earned, unix seconds.
    """
    self._reward(provider, amount, earned_at)
    extcall IMintable(TOKEN.address).take_minted(amount)


# ---------------------------------------------------------------------- views


@external
@view
@reentrant
def operator_of(provider: address) -> address:
    """
    @notice Returns the key that signs for a provider; zero if it is unknown.
    @param provider The provider's owner address.
    """
    return convert(self.profiles[provider] & MASK_160, address)


@external
@view
def stake_of(provider: address) -> (uint256, uint256):
    """
    @notice Returns the active TPF wei behind a provider, and how much was ever
            seized from it. A seizure, unlike all else, moves stake at once.
    @param provider The provider's owner address.
    """
    return self.pool_assets[provider] & shares.MASK, self.seized[provider]


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
def commission_at(provider: address, time: uint256) -> uint256:
    """
    @notice Returns the commission in 1/10,000 in force at a time.
    @param provider The provider's owner address.
    @param time Unix seconds; of past changes only the last one is kept.
    """
    return self._commission_at(provider, time)


@external
@view
def lock_limits(provider: address) -> (uint256, uint256):
    """
    @notice Returns how much the operator may lock, per order and in all.
    @param provider The provider's owner address.
    """
    return shares._unpack(self.limits[provider])


@external
@view
def pool(
    provider: address,
) -> (uint256, uint256, uint256, uint256, uint256, uint256):
    """
    @notice Returns a pool.
    @param provider The provider's owner address.
    @return Active, locked, active shares, owner's shares, unbonding, unbonding shares.
    """
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = shares._unpack(self.pool_unbonding[provider])
    return active, locked, total, owned, leaving, leaving_shares


@external
@view
def owner_assets(provider: address) -> uint256:
    """
    @notice Returns the owner's own active stake in TPF wei.
    @param provider The provider's owner address.
    """
    return self._assets_of(provider, provider)


@external
@view
def shares_of(provider: address, account: address) -> uint256:
    """
    @notice Returns the active shares of an account.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return self._shares_of(
        provider,
        account,
        self.profiles[provider],
        self.pool_shares[provider] >> 128,
    )


@external
@view
def assets_of(provider: address, account: address) -> uint256:
    """
    @notice Returns the active stake of an account in TPF wei.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return self._assets_of(provider, account)


@external
@view
def ticket_count(provider: address, account: address) -> uint256:
    """
    @notice Returns how many tickets an account ever had with a provider.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return (self.accounts[provider][account] >> 160) & MASK_32


@external
@view
def ticket(
    provider: address, account: address, number: uint256
) -> (uint256, uint256, uint256):
    """
    @notice Returns an unbonding ticket.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @param number 0 to `ticket_count` - 1.
    @return Unbonding shares, TPF wei they are worth now, time from which they pay.
    """
    word: uint256 = self.tickets[provider][account][number]
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = shares._unpack(self.pool_unbonding[provider])
    amount: uint256 = self._ticket_shares(provider, word)
    assets: uint256 = shares._to_assets(amount, leaving, leaving_shares)
    return amount, assets, word >> 160


@external
@view
def lock_of(
    manager: address, provider: address, id: bytes32
) -> (uint256, uint256):
    """
    @notice Returns a lock's amount in TPF wei and the last second of its life.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    """
    word: uint256 = self.locks[self._lock_key(manager, provider, id)]
    return word & shares.MASK, word >> 128


# ------------------------------------------------------------------- internal


@internal
def _add_manager(
    manager: address, permissions: IStaking.Permission, active_from: uint256
):
    assert manager != empty(address), "staking: zero manager"
    assert permissions != empty(IStaking.Permission), "staking: no permissions"
    assert self.managers[manager] == 0, "staking: manager exists"
    self.managers[manager] = convert(permissions, uint256) | (active_from << 8)
    log IStaking.ManagerAnnounced(
        manager=manager, permissions=permissions, active_from=active_from
    )


@internal
@view
def _check_permission(permission: IStaking.Permission):
    word: uint256 = self.managers[msg.sender]
    assert (
        word & convert(permission, uint256) != 0
        and block.timestamp >= word >> 8
    ), "staking: caller lacks the permission"


@internal
@view
def _profile(provider: address) -> uint256:
    profile: uint256 = self.profiles[provider]
    assert profile != 0, "staking: not registered"
    return profile


@internal
@view
def _check_registered(provider: address):
    assert self.profiles[provider] != 0, "staking: not registered"


@internal
def _bind_operator(
    owner: address, operator: address, expires: uint64, consent: Bytes[65]
):
    assert block.timestamp <= convert(
        expires, uint256
    ), "staking: consent expired"
    assert self.provider_of[operator] == empty(
        address
    ), "staking: operator is taken"
    digest: bytes32 = eip712._hash_typed_data_v4(
        keccak256(abi_encode(CONSENT_TYPEHASH, owner, operator, expires))
    )
    assert operator != empty(address), "staking: zero operator"
    assert (
        ecdsa._recover_sig(digest, consent) == operator
    ), "staking: not the operator's consent"
    self.provider_of[operator] = owner


@internal
@view
def _payout_of(provider: address) -> address:
    return convert(self.payouts[provider] & MASK_160, address)


@internal
@view
def _commission_at(provider: address, time: uint256) -> uint256:
    return self._commission_of(self.payouts[provider], time)


@internal
@pure
def _commission_of(word: uint256, time: uint256) -> uint256:
    if time < word >> 192:
        return (word >> 176) & MASK_16
    return (word >> 160) & MASK_16


@internal
def _delegate(provider: address, amount: uint256) -> uint256:
    assert self.sealed, "staking: not sealed"
    profile: uint256 = self._profile(provider)
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = shares._unpack(self.pool_assets[provider])
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    received: uint256 = shares._to_shares(amount, active, total)
    assert received > 0, "staking: amount too small"
    if msg.sender == provider:
        owned += received
    else:
        account: uint256 = self.accounts[provider][msg.sender]
        self.accounts[provider][msg.sender] = self._account(
            self._shares_of(provider, msg.sender, profile, owned) + received,
            profile,
            (account >> 160) & MASK_32,
        )
    self.pool_assets[provider] = shares._pack(active + amount, locked)
    self.pool_shares[provider] = shares._pack(total + received, owned)
    log IStaking.Delegated(
        provider=provider, account=msg.sender, assets=amount, shares=received
    )
    token_flow._pull(TOKEN, msg.sender, amount)
    return received


@internal
@view
def _shares_of(
    provider: address, account: address, profile: uint256, owned: uint256
) -> uint256:
    if account == provider:
        return owned
    word: uint256 = self.accounts[provider][account]
    # A first word has generation zero, and no shares either.
    return shares._carry(
        word & shares.MASK,
        ((profile >> 160) & MASK_32) - ((word >> 128) & MASK_32),
    )


@internal
@view
def _ticket_shares(provider: address, word: uint256) -> uint256:
    now: uint256 = (self.profiles[provider] >> 192) & MASK_32
    # A missing ticket has generation zero, and no shares either.
    return shares._carry(word & shares.MASK, now - ((word >> 128) & MASK_32))


@internal
@view
def _assets_of(provider: address, account: address) -> uint256:
    total: uint256 = 0
    owned: uint256 = 0
    total, owned = shares._unpack(self.pool_shares[provider])
    return shares._to_assets(
        self._shares_of(provider, account, self.profiles[provider], owned),
        self.pool_assets[provider] & shares.MASK,
        total,
    )


@internal
@pure
def _account(
    held: uint256, profile: uint256, ticket_number: uint256
) -> uint256:
    assert ticket_number <= MASK_32, "staking: too many tickets"
    return held | (((profile >> 160) & MASK_32) << 128) | (ticket_number << 160)


@internal
@pure
def _age(profile: uint256, position: uint256, generations: uint256) -> uint256:
    now: uint256 = ((profile >> position) & MASK_32) + generations
    assert now <= MASK_32, "staking: too many generations"
    return (profile & ~(MASK_32 << position)) | (now << position)


@internal
@pure
def _lock_key(manager: address, provider: address, id: bytes32) -> bytes32:
    return keccak256(abi_encode(manager, provider, id))


@internal
def _end_lock(manager: address, provider: address, id: bytes32) -> uint256:
    key: bytes32 = self._lock_key(manager, provider, id)
    word: uint256 = self.locks[key]
    if word == 0:
        return 0
    amount: uint256 = word & shares.MASK
    self.locks[key] = 0
    # The upper half of the word is what is locked: less than nothing reverts.
    self.pool_assets[provider] -= amount << 128
    log IStaking.Unlocked(
        provider=provider, manager=manager, id=id, amount=amount
    )
    return word


@internal
def _reward(provider: address, amount: uint256, earned_at: uint256):
    self._check_permission(IStaking.Permission.REWARD)
    # The payout address of a registered provider is not zero.
    word: uint256 = self.payouts[provider]
    assert word != 0, "staking: not registered"
    commission: uint256 = amount
    if self.pool_shares[provider] & shares.MASK >= shares.MIN_REWARDED:
        commission = (amount * self._commission_of(word, earned_at) // MAX_BPS)
        active: uint256 = 0
        locked: uint256 = 0
        active, locked = shares._unpack(self.pool_assets[provider])
        self.pool_assets[provider] = shares._pack(
            active + amount - commission, locked
        )
    ledger._credit(convert(word & MASK_160, address), commission)
    log IStaking.Rewarded(
        provider=provider,
        manager=msg.sender,
        to_pool=amount - commission,
        commission=commission,
    )


@internal
def _burn(amount: uint256):
    if amount > 0:
        extcall IBurnable(TOKEN.address).burn(amount)
