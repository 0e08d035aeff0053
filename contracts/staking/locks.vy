# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Locks: collateral from the owner's own stake
@license AGPL-3.0-only
@notice I-3: a lock never exceeds the owner's own unlocked assets nor the owner's
        limits, expires within MAX_LOCK, and cannot be seized after that; a seizure
        takes at most its lock, from the owner's shares alone. An expired lock is
        released by anyone.
        I-12: a bounty is for whoever proved a fault of another; nobody gets one for a
        fault of its own.
@dev Words packed by hand, low bits first:
     lock     amount 128 | expires at 64
"""

from . import managers
from . import pools
from . import registry
from . import vault
from ..interfaces import IStaking
from ..modules import ledger

uses: ledger
uses: managers
uses: pools
uses: registry
uses: vault

MAX_BPS: constant(uint256) = 10_000
MASK_128: constant(uint256) = 2**128 - 1

# digest of (manager, provider, id)
locks: HashMap[bytes32, uint256]


@deploy
def __init__():
    pass


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
    @notice Locks collateral of the operator's owner for one order (LOCK). Reentrant:
            managers call it while they settle, and it calls nobody.
    @param operator The key that took the order.
    @param id The order, unique to the calling manager and the provider.
    @param amount TPF wei; 0 locks nothing and only checks.
    @param expires_at Last second at which the lock can be seized.
    @param min_stake Active TPF wei that must be behind the provider.
    @return The provider's owner address, nonce of the key's consent in force.
    """
    managers._check(IStaking.Permission.LOCK)
    provider: address = empty(address)
    consent: uint256 = 0
    provider, consent = registry._provider_of(operator)
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = pools._assets(provider)
    assert active >= min_stake, "staking: stake too low"
    if amount == 0:
        return provider, consent

    self._check_not_over(expires_at << 128)
    assert (
        expires_at <= block.timestamp + managers.MAX_LOCK
    ), "staking: lock too long"
    per_order: uint256 = 0
    in_all: uint256 = 0
    per_order, in_all = registry._limits(provider)
    assert amount <= per_order, "staking: above the owner's limit per order"
    locked += amount
    assert locked <= in_all, "staking: above the owner's limit in all"
    assert (
        pools._assets_of(provider, provider) >= locked
    ), "staking: own stake too low"
    key: bytes32 = self._key(msg.sender, provider, id)
    assert self.locks[key] == 0, "staking: lock exists"
    # The limit has 128 bits, so the amount has.
    self.locks[key] = amount | (expires_at << 128)
    pools._set_locked(provider, locked)
    log IStaking.Locked(
        provider=provider,
        manager=msg.sender,
        id=id,
        amount=amount,
        expires_at=expires_at,
    )
    return provider, consent


@external
@reentrant
def unlock(provider: address, id: bytes32) -> address:
    """
    @notice Ends a lock of the caller; does nothing if there is none, so that a
            released lock never blocks a settlement. Reentrant: managers call it
            while they settle, and it calls nobody.
    @param provider The provider's owner address.
    @param id The order.
    @return Who receives the provider's payouts.
    """
    self._end(msg.sender, provider, id)
    return registry._payout_of(provider)


@external
def release(manager: address, provider: address, id: bytes32):
    """
    @notice Ends a lock that has expired. Anyone may call it.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    """
    word: uint256 = self.locks[self._key(manager, provider, id)]
    assert word != 0, "staking: no such lock"
    assert self._is_over(word), "staking: lock has not expired"
    self._end(manager, provider, id)


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
            first, a bounty of the rest to whoever proved the fault, the
            remainder is burned, and the bounty too if the provider itself would get it. The
            owner's total limit falls by what is taken. An expired or missing lock
            takes nothing.
    @param provider The provider's owner address.
    @param id The order.
    @param victim The harmed tenant.
    @param hunter Who proved the fault.
    @param victim_bps The victim's share in 1/10,000.
    @param bounty_bps The hunter's share of the rest in 1/10,000, at most half.
    @return TPF wei taken, at most the lock and the owner's own assets.
    """
    # Without reasons, which take room: managers fix both when they are deployed.
    assert victim_bps <= MAX_BPS
    assert bounty_bps <= MAX_BPS // 2
    word: uint256 = self._end(msg.sender, provider, id)
    if word == 0 or self._is_over(word):
        return 0
    taken: uint256 = self._take(provider, word & MASK_128)
    to_victim: uint256 = taken * victim_bps // MAX_BPS
    bounty: uint256 = 0
    if not registry._is_insider(provider, hunter):
        bounty = (taken - to_victim) * bounty_bps // MAX_BPS
    burned: uint256 = taken - to_victim - bounty
    ledger._credit(victim, to_victim)
    ledger._credit(hunter, bounty)
    vault._burn(burned)
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


@external
def fine(provider: address, id: bytes32, amount: uint256) -> uint256:
    """
    @notice Burns a part of a lock of the caller from the owner's shares; the rest stays
            locked. The owner's total limit falls by what is taken. An expired or
            missing lock loses nothing.
    @param provider The provider's owner address.
    @param id The order.
    @param amount TPF wei; of a lock that has no more, all of it.
    @return TPF wei that are still locked.
    """
    word: uint256 = self.locks[self._key(msg.sender, provider, id)]
    if self._is_over(word):
        return 0
    part: uint256 = min(amount, self._amount(word))
    self._lower(msg.sender, provider, id, part, word - part)
    vault._burn(self._take(provider, part))
    return self._amount(word) - part


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
    @return TPF wei, unix seconds.
    """
    word: uint256 = self.locks[self._key(manager, provider, id)]
    return word & MASK_128, word >> 128


@internal
def _end(manager: address, provider: address, id: bytes32) -> uint256:
    """
    @dev Ends a lock, if there is one.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    @return The lock's word; 0 if there was none.
    """
    word: uint256 = self.locks[self._key(manager, provider, id)]
    if word != 0:
        self._lower(manager, provider, id, self._amount(word), 0)
    return word


@internal
def _lower(
    manager: address,
    provider: address,
    id: bytes32,
    amount: uint256,
    word: uint256,
):
    """
    @dev Ends a lock or a part of it.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    @param amount TPF wei that are no longer locked.
    @param word The lock's word from now on.
    """
    self.locks[self._key(manager, provider, id)] = word
    pools._set_locked(provider, pools._assets(provider)[1] - amount)
    log IStaking.Unlocked(
        provider=provider, manager=manager, id=id, amount=amount
    )


@internal
def _take(provider: address, amount: uint256) -> uint256:
    """
    @dev Takes TPF out of the owner's shares, and lowers the owner's total limit: it is
         what the operator can lose until the owner renews it, not only what it can lose
         at once.
    @param provider The provider's owner address.
    @param amount TPF wei.
    @return TPF wei taken, at most what the owner has.
    """
    taken: uint256 = pools._seize(provider, amount)
    registry._lower_limit(provider, taken)
    return taken


@internal
@view
def _is_over(word: uint256) -> bool:
    """
    @dev Whether a lock has expired.
    @param word The lock.
    @return True after the last second of its life.
    """
    return block.timestamp > word >> 128


@internal
@view
def _check_not_over(word: uint256):
    """
    @dev Reverts for a lock that has expired.
    @param word The lock.
    """
    assert block.timestamp <= word >> 128, "staking: lock is over"


@internal
@pure
def _amount(word: uint256) -> uint256:
    """
    @dev How much a lock locks.
    @param word The lock.
    @return TPF wei.
    """
    return word & MASK_128


@internal
@pure
def _key(manager: address, provider: address, id: bytes32) -> bytes32:
    """
    @dev Where a lock is kept.
    @param manager Who locked.
    @param provider The provider's owner address.
    @param id The order.
    @return The digest of all three.
    """
    return keccak256(abi_encode(manager, provider, id))
