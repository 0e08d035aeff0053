# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Managers: contracts that may lock, slash and reward
@license AGPL-3.0-only
@notice I-11: the deployer names the first managers and seals; from then on only
        the timelock names one, and it waits longer than anybody needs to leave. A
        removed manager makes no new locks and holds. For UNBONDING after its
        removal it can still end what it has begun, so that no pending failure is
        lost; and it may be announced again only after that.
@dev Words packed by hand, low bits first:
     manager  number 16 | permissions 8 | active from 64 | removed at 64
     The permissions of a removed manager stay in its word: whoever had no SLASH
     before its removal has none after it. One that is announced again has another
     number, so what it held before does not come back to life.
"""

from snekmate.auth import ownable

from ..interfaces import IStaking

uses: ownable

MAX_TIME: constant(uint256) = 366 * 86_400
MANAGER_MARGIN: public(constant(uint256)) = 86_400
MASK_16: constant(uint256) = 2**16 - 1
MASK_64: constant(uint256) = 2**64 - 1
PERMISSIONS_AT: constant(uint256) = 16
ACTIVE_AT: constant(uint256) = 24
REMOVED_AT: constant(uint256) = 88

UNBONDING: public(immutable(uint256))
MAX_LOCK: public(immutable(uint256))
MANAGER_DELAY: public(immutable(uint256))
DEPLOYER: public(immutable(address))

sealed: public(bool)
words: HashMap[address, uint256]
# From 1 on, in the order of their announcement.
numbered: HashMap[uint256, address]
count: uint256


@deploy
def __init__(unbonding: uint256, max_lock: uint256):
    """
    @notice Fixes the times that everybody has to leave.
    @param unbonding Seconds from `undelegate` to `withdraw_unbonded`.
    @param max_lock Longest life of a lock in seconds.
    """
    assert (
        unbonding > 0 and unbonding <= MAX_TIME
    ), "staking: unbonding out of bounds"
    assert (
        max_lock > 0 and max_lock <= MAX_TIME
    ), "staking: max lock out of bounds"
    UNBONDING = unbonding
    MAX_LOCK = max_lock
    # An owner's locks end first, and only then can its stake begin to unbond.
    MANAGER_DELAY = unbonding + max_lock + MANAGER_MARGIN
    DEPLOYER = msg.sender


@external
def setup_manager(manager: address, permissions: IStaking.Permission):
    """
    @notice Names a manager that is active at once (deployer, before `seal`).
    @param manager The contract.
    @param permissions What it may do.
    """
    self._check_setup()
    self._add(manager, permissions, block.timestamp)


@external
def seal():
    """
    @notice Ends the set-up; from now on the timelock alone names managers.
    """
    self._check_setup()
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
    self._add(manager, permissions, block.timestamp + MANAGER_DELAY)


@external
def remove_manager(manager: address):
    """
    @notice Takes all permissions from a manager (owner only). Locks that it made
            end by release, seizure or expiry; a fault that is pending can be
            slashed until UNBONDING after this.
    @param manager The contract.
    """
    ownable._check_owner()
    word: uint256 = self.words[manager]
    assert word != 0 and not self._is_removed(word), "staking: unknown manager"
    self.words[manager] = word | (block.timestamp << REMOVED_AT)
    log IStaking.ManagerRemoved(manager=manager)


@external
@view
@reentrant
def manager_of(
    manager: address,
) -> (IStaking.Permission, uint256, uint256):
    """
    @notice Returns what a manager may do and since when, or until when it could.
            Reentrant: Benchmark reads it while it is asked to settle.
    @param manager The contract.
    @return Permissions, nothing for what is not a manager or was removed; the time from
            which it has or had them, unix seconds; the time of its removal or 0.
    """
    word: uint256 = self.words[manager]
    permissions: IStaking.Permission = empty(IStaking.Permission)
    if not self._is_removed(word):
        permissions = convert(
            (word >> PERMISSIONS_AT) & 255, IStaking.Permission
        )
    return permissions, (word >> ACTIVE_AT) & MASK_64, word >> REMOVED_AT


@internal
@view
def _check_setup():
    """
    @dev Reverts unless the deployer calls, before the seal.
    """
    assert msg.sender == DEPLOYER and not self.sealed, "staking: not in set-up"


@internal
def _add(
    manager: address, permissions: IStaking.Permission, active_from: uint256
):
    """
    @dev Writes a new manager down.
    @param manager The contract.
    @param permissions What it may do.
    @param active_from Unix seconds.
    """
    assert manager != empty(address), "staking: zero manager"
    assert permissions != empty(IStaking.Permission), "staking: no permissions"
    word: uint256 = self.words[manager]
    assert word == 0 or self._is_removed(word), "staking: manager exists"
    assert (
        word == 0 or block.timestamp >= (word >> REMOVED_AT) + UNBONDING
    ), "staking: removed too recently"
    number: uint256 = self.count + 1
    # Without a reason, which takes room: nobody names 2**16.
    assert number <= MASK_16
    self.count = number
    self.numbered[number] = manager
    self.words[manager] = (
        number
        | (convert(permissions, uint256) << PERMISSIONS_AT)
        | (active_from << ACTIVE_AT)
    )
    log IStaking.ManagerAnnounced(
        manager=manager, permissions=permissions, active_from=active_from
    )


@internal
@pure
def _is_removed(word: uint256) -> bool:
    """
    @dev Whether a manager was removed.
    @param word Its word.
    @return False also for what never was one.
    """
    return word >> REMOVED_AT != 0


@internal
@view
def _may(permission: IStaking.Permission) -> bool:
    """
    @dev Whether the caller is listed, active and has a permission.
    @param permission The permission.
    @return True if all three hold.
    """
    word: uint256 = self.words[msg.sender]
    # With the time of a removal above it, what is compared never comes.
    return (
        word & (convert(permission, uint256) << PERMISSIONS_AT) != 0
        and block.timestamp >= word >> ACTIVE_AT
    )


@internal
@view
def _check(permission: IStaking.Permission):
    """
    @dev Reverts unless the caller is listed, active and has a permission.
    @param permission The permission.
    """
    assert self._may(permission), "staking: caller lacks the permission"


@internal
@view
def _was_removed_with(permission: IStaking.Permission) -> bool:
    """
    @dev Whether the caller was removed less than UNBONDING ago, and had a permission
         in force then.
    @param permission The permission.
    @return True if it may still end what it has begun.
    """
    word: uint256 = self.words[msg.sender]
    removed_at: uint256 = word >> REMOVED_AT
    return (
        word & (convert(permission, uint256) << PERMISSIONS_AT) != 0
        and removed_at >= (word >> ACTIVE_AT) & MASK_64
        and block.timestamp < removed_at + UNBONDING
    )


@internal
@view
def _number_of(manager: address) -> uint256:
    """
    @dev The number by which a hold names a manager.
    @param manager The contract.
    @return The number; 0 for what never was one.
    """
    return self.words[manager] & MASK_16


@internal
@view
def _address_of(number: uint256) -> address:
    """
    @dev The manager that was announced under a number.
    @param number The number.
    @return The contract; zero for 0.
    """
    return self.numbered[number]


@internal
@view
def _counts(number: uint256) -> bool:
    """
    @dev Whether what a manager has begun still counts: while it is listed, or until
         UNBONDING after its removal.
    @param number The number that it had when it began.
    @return True if it counts; false for 0.
    """
    if number == 0:
        return False
    word: uint256 = self.words[self.numbered[number]]
    removed_at: uint256 = word >> REMOVED_AT
    return word & MASK_16 == number and (
        removed_at == 0 or block.timestamp < removed_at + UNBONDING
    )
