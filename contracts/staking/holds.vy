# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Holds: providers whose epoch is not settled yet
@license AGPL-3.0-only
@notice I-13: from a provider's first commit in an epoch until the epoch is settled
        for it, a manager holds it, and stake that comes in waits as an entry. So
        what earns and answers for an epoch is what was active at the last commit.
        The hold also keeps the commission of that moment.
        I-2: an exit asks the holder to settle first, and goes on whatever the
        holder does. A hold ends with its manager, UNBONDING after its removal.
@dev Packed by hand into the word of the pool's assets, low bits first:
     hold     number of the manager 16 | commission 16
"""

from . import managers
from . import pools
from . import registry
from ..interfaces import IStaking

uses: managers
uses: pools
uses: registry

# Gas that a holder gets to settle; more than a claim with all its calls costs.
SETTLE_GAS: constant(uint256) = 500_000
MASK_16: constant(uint256) = 2**16 - 1
COMMISSION_AT: constant(uint256) = 16


@deploy
def __init__():
    pass


@external
def hold(operator: address) -> (address, uint256, uint256):
    """
    @notice Marks a provider as unsettled (SLASH) until its reward is paid, its fault
            is slashed, or it is freed; each call keeps the commission in force now.
    @param operator The provider's operator key.
    @return The provider's owner address, its active TPF wei, and how many were ever
            seized from it.
    """
    managers._check(IStaking.Permission.SLASH)
    provider: address = registry._provider_of(operator)[0]
    number: uint256 = managers._number_of(msg.sender)
    holder: uint256 = self._holder(provider)
    assert (
        holder == number or not managers._counts(holder)
    ), "staking: held by another manager"
    commission: uint256 = registry._commission_of(provider)
    pools._set_hold(provider, number | (commission << COMMISSION_AT))
    log IStaking.Held(
        provider=provider, manager=msg.sender, commission_bps=commission
    )
    stake: uint256 = 0
    seized: uint256 = 0
    stake, seized = pools._stake_of(provider)
    return provider, stake, seized


@external
@reentrant
def free(provider: address):
    """
    @notice Ends the caller's hold without a reward, also after the caller's removal.
            Reentrant: a holder calls it while it is asked to settle, and no state of
            this contract was read before.
    @param provider The provider's owner address.
    """
    assert self._end_own(provider), "staking: not the holder"
    log IStaking.Freed(provider=provider, manager=msg.sender)


@external
def settle(provider: address):
    """
    @notice Asks the manager that holds a provider to settle it. Anyone may call it;
            a manager that cannot or will not changes nothing.
    @param provider The provider's owner address.
    """
    self._settle(provider)


@external
@view
def is_unsettled(provider: address) -> bool:
    """
    @notice Returns whether stake that comes in now would wait as an entry.
    @param provider The provider's owner address.
    """
    return self._is_unsettled(provider)


@internal
def _settle(provider: address):
    """
    @dev Asks the holder to settle. It comes before any state is read: the holder may
         call back into `reward`, `free`, `lock`, `unlock` and some views, which are
         reentrant for that reason; all else is locked. Its failure is ignored, it
         gets SETTLE_GAS at most, and nothing that it returns is copied. Nobody makes it
         fail by too little gas: what is left then, some 64th parts, is less than what
         the caller's own writes cost.
    @param provider The provider's owner address.
    """
    holder: uint256 = self._holder(provider)
    if managers._counts(holder):
        asked: bool = raw_call(
            managers._address_of(holder),
            abi_encode(provider, method_id=method_id("settle(address)")),
            gas=SETTLE_GAS,
            revert_on_failure=False,
        )


@internal
@view
def _is_unsettled(provider: address) -> bool:
    """
    @dev Whether a hold on a provider counts.
    @param provider The provider's owner address.
    @return True if one does.
    """
    return managers._counts(self._holder(provider))


@internal
def _end(provider: address) -> uint256:
    """
    @dev Ends the hold on a provider, if there is one: its reward is being paid.
    @param provider The provider's owner address.
    @return The commission that applies, in 1/10,000: what the hold has kept, which is
            that of the last commit, however late the reward comes; or the one in force
            now if there is no hold.
    """
    hold: uint256 = pools._hold_of(provider)
    if hold == 0:
        return registry._commission_of(provider)
    pools._set_hold(provider, 0)
    return hold >> COMMISSION_AT


@internal
def _end_own(provider: address) -> bool:
    """
    @dev Ends the caller's hold on a provider, if it has one.
    @param provider The provider's owner address.
    @return Whether it had one.
    """
    if managers._address_of(self._holder(provider)) != msg.sender:
        return False
    pools._set_hold(provider, 0)
    return True


@internal
@view
def _holder(provider: address) -> uint256:
    """
    @dev The manager that holds a provider, whether that still counts or not.
    @param provider The provider's owner address.
    @return Its number; 0 if there is no hold.
    """
    return pools._hold_of(provider) & MASK_16
