# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
# pragma optimize codesize
"""
@title Provider registry and stake pools
@license AGPL-3.0-only
@notice A provider is named by its owner address. Its pool holds active and
        unbonding TPF, each with its own shares; stake that comes while an epoch of
        the provider is not settled waits as an entry. Trust model: managers listed
        here may lock an owner's own stake within the owner's limits, seize what
        they locked, slash pools and pay rewards; nobody else moves stake but
        who owns it. A new manager waits longer than anybody needs to leave.

        This file wires the rooms under staking/, each of which writes its own
        storage alone, and has what concerns several of them: slashes and rewards.

        Rules, numbered as in docs/specification.md:
        I-1  the TPF held cover all active, unbonding, waiting and credited assets;
        I-2  stake leaves by `take_back`, or by `undelegate` and, UNBONDING later,
             `withdraw_unbonded`; expired locks are released by anyone;
        I-3  a lock never exceeds the owner's own unlocked assets, expires within
             MAX_LOCK, and cannot be seized after that; a seizure takes at most
             its lock, a slash at most the pool;
        I-4  a slash is pro rata over active and unbonding shares and is burned
             whole; a seizure touches the owner's shares alone;
        I-11 only the timelock names managers, after MANAGER_DELAY;
        I-12 nobody gets richer at another's cost: rounding is at most one share's
             price, and a share costs at most one wei;
        I-13 a reward reaches who was at stake at the last commit of its epoch.
@dev Optimised for code size: 731 bytes less for 90 to 135 gas a call. Without that it
     would not be below the limit of EIP-170.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.utils import eip712_domain_separator as eip712

from .interfaces import IStaking
from .modules import ledger
from .staking import holdings
from .staking import holds
from .staking import locks
from .staking import managers
from .staking import pools
from .staking import registry
from .staking import stakes
from .staking import vault

implements: IStaking

initializes: ownable
initializes: eip712
initializes: ledger
initializes: vault[ledger := ledger]
initializes: managers[ownable := ownable]
initializes: registry[eip712 := eip712]
initializes: pools
initializes: holdings[pools := pools]
initializes: holds[managers := managers, pools := pools, registry := registry]
# Longer than a line: mamushi cannot read what it makes of these.
# fmt: off
initializes: stakes[
    holds := holds,
    managers := managers,
    pools := pools,
    registry := registry,
    vault := vault
]
initializes: locks[
    ledger := ledger,
    managers := managers,
    pools := pools,
    registry := registry,
    vault := vault
]
# fmt: on

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: (
    ownable.owner,
    eip712.eip712Domain,
    ledger.credit_of,
    vault.TOKEN,
    vault.withdraw,
    managers.UNBONDING,
    managers.MAX_LOCK,
    managers.MANAGER_DELAY,
    managers.MANAGER_MARGIN,
    managers.DEPLOYER,
    managers.sealed,
    managers.setup_manager,
    managers.seal,
    managers.announce_manager,
    managers.remove_manager,
    managers.manager_of,
    registry.COMMISSION_DELAY,
    registry.endpoint_digest,
    registry.register,
    registry.set_operator,
    registry.set_payout,
    registry.set_endpoint,
    registry.set_commission,
    registry.set_lock_limits,
    registry.operator_of,
    registry.provider_of,
    registry.spoke_for,
    registry.consent_nonce,
    registry.payout_of,
    registry.commission_of,
    registry.pending_commission,
    registry.lock_limits,
    holdings.stake_of,
    holdings.pool,
    holdings.owner_assets,
    holdings.shares_of,
    holdings.assets_of,
    holdings.ticket_count,
    holdings.ticket,
    holds.hold,
    holds.free,
    holds.settle,
    holds.is_unsettled,
    stakes.delegate,
    stakes.delegate_with_permit,
    stakes.activate,
    stakes.take_back,
    stakes.undelegate,
    stakes.withdraw_unbonded,
    stakes.entry_of,
    locks.lock,
    locks.unlock,
    locks.release,
    locks.seize,
    locks.fine,
    locks.lock_of,
)

MAX_BPS: constant(uint256) = 10_000


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
    assert owner != empty(address), "staking: zero owner"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    eip712.__init__("Teraproof", "1")
    ledger.__init__()
    vault.__init__(token)
    managers.__init__(unbonding, max_lock)
    registry.__init__(commission_delay)
    pools.__init__()
    holdings.__init__()
    holds.__init__()
    stakes.__init__()
    locks.__init__()


@external
def slash(provider: address, id: bytes32, amount: uint256) -> uint256:
    """
    @notice Burns stake for a protocol fault (SLASH), pro rata from every active
            and unbonding share, and ends the caller's lock and hold. A manager that
            was removed less than UNBONDING ago takes at most a lock that it made
            before and that has not expired: it cannot invent a fault.
    @param provider The provider's owner address.
    @param id The caller's lock that the fault ends; there need not be one.
    @param amount TPF wei.
    @return TPF wei taken, at most the pool.
    """
    is_removed: bool = managers._was_removed_with(IStaking.Permission.SLASH)
    if not is_removed:
        managers._check(IStaking.Permission.SLASH)
    registry._check(provider)
    lock: uint256 = locks._end(msg.sender, provider, id)
    wanted: uint256 = amount
    if is_removed:
        assert lock != 0, "staking: no such lock"
        locks._check_not_over(lock)
        wanted = min(amount, locks._amount(lock))
    had_hold: bool = holds._end_own(provider)
    from_active: uint256 = 0
    from_unbonding: uint256 = 0
    from_active, from_unbonding = pools._slash(provider, wanted)
    vault._burn(from_active + from_unbonding)
    log IStaking.Slashed(
        provider=provider,
        manager=msg.sender,
        from_active=from_active,
        from_unbonding=from_unbonding,
    )
    return from_active + from_unbonding


@external
@reentrant
def reward(provider: address, amount: uint256):
    """
    @notice Pays the reward of an epoch (REWARD) and ends the hold: the commission
            kept by the hold goes to the payout address, the rest raises the price of
            active shares. Reentrant: it is called while a holder is asked to settle,
            and no state of this contract was read before.
    @param provider The provider's owner address.
    @param amount TPF wei minted to this contract in this transaction; 0 only
            settles.
    """
    payout: address = self._check_reward(provider)
    to_pool: uint256 = (amount - amount * holds._end(provider) // MAX_BPS)
    # What the virtual shares would take comes back.
    to_pool -= pools._reward(provider, to_pool)
    ledger._credit(payout, amount - to_pool)
    vault._take_minted(amount)
    log IStaking.Rewarded(
        provider=provider,
        manager=msg.sender,
        to_pool=to_pool,
        to_payout=amount - to_pool,
    )


@external
def credit(provider: address, amount: uint256):
    """
    @notice Pays TPF that no stake has earned (REWARD), whole, to the payout address.
    @param provider The provider's owner address.
    @param amount TPF wei minted to this contract in this transaction.
    """
    payout: address = self._check_reward(provider)
    ledger._credit(payout, amount)
    vault._take_minted(amount)
    log IStaking.Credited(
        provider=provider, manager=msg.sender, payout=payout, amount=amount
    )


@internal
@view
def _check_reward(provider: address) -> address:
    """
    @dev Reverts unless the caller may reward and the provider is registered.
    @param provider The provider's owner address.
    @return The provider's payout address.
    """
    managers._check(IStaking.Permission.REWARD)
    # That of a registered provider is not zero.
    payout: address = registry._payout_of(provider)
    assert payout != empty(address), "staking: not registered"
    return payout
