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
     manager  permissions 8 | active from 64 | removed at 64
     The permissions of a removed manager stay in its word: whoever had no SLASH
     before its removal has none after it.
"""

from snekmate.auth import ownable

from ..interfaces import IStaking

uses: ownable

MAX_TIME: constant(uint256) = 366 * 86_400
MANAGER_MARGIN: public(constant(uint256)) = 86_400
MASK_64: constant(uint256) = 2**64 - 1

UNBONDING: public(immutable(uint256))
MAX_LOCK: public(immutable(uint256))
MANAGER_DELAY: public(immutable(uint256))
DEPLOYER: public(immutable(address))

sealed: public(bool)
words: HashMap[address, uint256]


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
    self.words[manager] = word | (block.timestamp << 72)
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
    @return Permissions, nothing for who is no manager or was removed; the time from
            which it has or had them, unix seconds; the time of its removal or 0.
    """
    word: uint256 = self.words[manager]
    permissions: IStaking.Permission = empty(IStaking.Permission)
    if not self._is_removed(word):
        permissions = convert(word & 255, IStaking.Permission)
    return permissions, (word >> 8) & MASK_64, word >> 72


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
        word == 0 or block.timestamp >= (word >> 72) + UNBONDING
    ), "staking: removed too recently"
    self.words[manager] = convert(permissions, uint256) | (active_from << 8)
    log IStaking.ManagerAnnounced(
        manager=manager, permissions=permissions, active_from=active_from
    )


@internal
@pure
def _is_removed(word: uint256) -> bool:
    """
    @dev Whether a manager was removed.
    @param word Its word.
    @return False also for who never was one.
    """
    return word >> 72 != 0


@internal
@view
def _may(permission: IStaking.Permission) -> bool:
    """
    @dev Whether the caller is listed, active and has a permission.
    @param permission The permission.
    @return True if all three hold.
    """
    word: uint256 = self.words[msg.sender]
    # With the time of a removal above it, what is compared is no time that ever comes.
    return (
        word & convert(permission, uint256) != 0
        and block.timestamp >= word >> 8
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
    removed_at: uint256 = word >> 72
    return (
        word & convert(permission, uint256) != 0
        and removed_at >= (word >> 8) & MASK_64
        and block.timestamp < removed_at + UNBONDING
    )


@internal
@view
def _counts(manager: address, since: uint256) -> bool:
    """
    @dev Whether what a manager has begun still counts: while it is listed, or until
         UNBONDING after its removal. What it began before it was announced anew
         does not come back to life.
    @param manager The contract.
    @param since When it began, unix seconds.
    @return True if it counts.
    """
    word: uint256 = self.words[manager]
    removed_at: uint256 = word >> 72
    return since >= (word >> 8) & MASK_64 and (
        removed_at == 0 or block.timestamp < removed_at + UNBONDING
    )
