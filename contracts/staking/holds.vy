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
@dev Words packed by hand, low bits first:
     hold     manager 160 | commission 16 | since 64
     A hold that has ended names no manager. The rest of its word stays: the first commit
     of the next epoch then costs 17,100 gas less.
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
MASK_160: constant(uint256) = 2**160 - 1

holds: HashMap[address, uint256]


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
    word: uint256 = self.holds[provider]
    assert (
        self._holder(word) == msg.sender or not self._counts(word)
    ), "staking: held by another manager"
    commission: uint256 = registry._commission_of(provider)
    self.holds[provider] = (
        convert(msg.sender, uint256)
        | (commission << 160)
        | (block.timestamp << 176)
    )
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
    word: uint256 = self.holds[provider]
    assert self._holder(word) == msg.sender, "staking: not the holder"
    self.holds[provider] = word & ~MASK_160
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
    word: uint256 = self.holds[provider]
    if self._counts(word):
        asked: bool = raw_call(
            self._holder(word),
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
    return self._counts(self.holds[provider])


@internal
def _end(provider: address) -> uint256:
    """
    @dev Ends the hold on a provider, if there is one: its reward is being paid.
    @param provider The provider's owner address.
    @return The commission that applies, in 1/10,000: that of the hold, or the one in
            force now if no hold counts.
    """
    word: uint256 = self.holds[provider]
    if self._holder(word) == empty(address):
        return registry._commission_of(provider)
    self.holds[provider] = word & ~MASK_160
    if not self._counts(word):
        return registry._commission_of(provider)
    return (word >> 160) & MASK_16


@internal
def _end_own(provider: address):
    """
    @dev Ends the caller's hold on a provider, if it has one.
    @param provider The provider's owner address.
    """
    word: uint256 = self.holds[provider]
    if self._holder(word) == msg.sender:
        self.holds[provider] = word & ~MASK_160


@internal
@pure
def _holder(word: uint256) -> address:
    """
    @dev The manager in a hold.
    @param word The hold.
    @return The manager; zero if there is no hold, or it has ended.
    """
    return convert(word & MASK_160, address)


@internal
@view
def _counts(word: uint256) -> bool:
    """
    @dev Whether a hold counts: its manager is listed, or was removed less than
         UNBONDING ago.
    @param word The hold.
    @return False also if there is none.
    """
    holder: address = self._holder(word)
    return holder != empty(address) and managers._counts(holder, word >> 176)
